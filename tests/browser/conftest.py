"""The browser of these tests: the system's Chromium; nothing is downloaded."""

import importlib.util
import os
import shutil

import pytest

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="session")
def browser():
  missing = [] if CHROMIUM else ["chromium (apt-get install chromium)"]
  if not importlib.util.find_spec("playwright"):
    missing.append("playwright (make test-browser)")
  if missing and os.environ.get("CI"):
    pytest.fail(f"not installed: {', '.join(missing)}")
  if missing:
    pytest.skip(f"not installed: {', '.join(missing)}")
  from playwright import sync_api

  with sync_api.sync_playwright() as playwright:
    launched = playwright.chromium.launch(
      executable_path=CHROMIUM, args=["--no-sandbox"]
    )
    yield launched
    launched.close()
