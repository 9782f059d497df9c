"""The `bash` blocks of README.md and docs/ run, in order, and end with code 0.

They are commands for a CPU without network, cluster or data sets. What needs
one of these, or hours, is in `text` blocks.
"""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import pytest

from tests.train import processes

PORT = "localhost:9876"  # of docs/multihost.md, replaced by a free one
ROOT = pathlib.Path(__file__).parents[2]
COPIED = ("configs", "docs", "experiments")
# Pages whose commands take at most 20 s together on 2 cores.
FAST = ("bench.md", "imagenet.md", "performance.md")
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])


def blocks(page: pathlib.Path) -> list[str]:
  """Returns the code of a page's `bash` blocks, without their indentation."""
  found = re.findall(
    r"^( *)```bash\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE
  )
  return [re.sub(f"^{indent}", "", code, flags=re.M) for indent, code in found]


def make_clone(folder: pathlib.Path) -> None:
  """Fills a folder with what a clone holds, and with `python`, `imgbench`."""
  for name in COPIED:
    shutil.copytree(
      ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
    )
  folder.joinpath("imgbench").symlink_to(ROOT / "imgbench")
  bin_folder = folder / "bin"
  bin_folder.mkdir()
  for name, start in (("python", ""), ("imgbench", "-m imgbench ")):
    program = bin_folder / name
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {start}"$@"\n')
    program.chmod(0o755)


def free_address() -> str:
  with socket.create_server(("localhost", 0)) as server:
    return f"localhost:{server.getsockname()[1]}"


@pytest.mark.parametrize(
  "page",
  [
    pytest.param(
      page, id=page.name, marks=[] if page.name in FAST else [pytest.mark.slow]
    )
    for page in PAGES
    if blocks(page)
  ],
)
def test_commands_run(page, tmp_path):
  make_clone(tmp_path)
  environment = processes.environment()
  if page.name != "README.md":
    # Most commands train a network of their own for seconds.
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
  environment["PYTHONPATH"] = os.pathsep.join(
    [str(tmp_path), environment["PYTHONPATH"]]
  )
  environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}"
  for code in blocks(page):
    done = subprocess.run(
      ["bash", "-euo", "pipefail", "-c", code.replace(PORT, free_address())],
      cwd=tmp_path,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      timeout=900,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}"


def test_pages_with_commands_are_known():
  """A fast page keeps a fast test of this; the others are slow."""
  with_commands = {page.name for page in PAGES if blocks(page)}
  assert with_commands > set(FAST)
  assert "README.md" in with_commands
