"""Pages in a browser: no wider than a phone, whole words, nothing loaded."""

import pathlib
import shutil

import pytest

from imgbench import report
from imgbench.bench.pages import html_report
from imgbench.configs import tiny
from imgbench.train import loop
from tests.browser import layout
from tests.report import imagenet_samples
from tests.report import samples

pytestmark = pytest.mark.browser
ROOT = pathlib.Path(__file__).parents[2]
BENCHMARKS = ROOT / "experiments" / "results" / "cpu_2_cores"
PAGES = ("tiny", "scenes", "imagenet", "bench_quick", "bench_224")
WIDE = 1280
NARROW = 390


@pytest.fixture(scope="module", params=PAGES)
def path(request, browser, tmp_path_factory):
  """The file of a page as a program writes it."""
  folder = tmp_path_factory.mktemp("pages") / request.param
  if request.param == "tiny":
    loop.train_and_evaluate(tiny.get_config(), str(folder))
    return folder / "report.html"
  if request.param == "scenes":
    workdir, drawn = samples.scenes(folder)
    return report.write_report(workdir, samples.lookup(drawn))
  if request.param == "imagenet":
    workdir, drawn = imagenet_samples.family(folder)
    return report.write_report(workdir, samples.lookup(drawn))
  shutil.copytree(BENCHMARKS / request.param, folder)
  return html_report.write(folder)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_page(browser, path, width, scheme):
  context = browser.new_context(
    viewport={"width": width, "height": 900}, color_scheme=scheme
  )
  page, messages, requests = context.new_page(), [], []
  page.on("console", lambda message: messages.append(message.text))
  page.on("pageerror", lambda error: messages.append(str(error)))
  page.on("request", lambda request: requests.append(request.url))
  page.goto(path.as_uri())
  found = page.evaluate(layout.FIND_FAULTS)
  context.close()
  assert found["width"] <= width and found["wide"] == []
  assert found["broken"] == []
  assert found["unmarked"] == []
  assert found["images"] == []
  # The widest tables do not fit a phone.
  assert found["scrolling"] > 0 or width == WIDE
  dark = sum(map(int, found["background"].strip("rgb()").split(","))) < 200
  assert dark == (scheme == "dark")
  assert messages == []
  assert [url for url in requests if not url.startswith("data:")] == [
    path.as_uri()
  ]
