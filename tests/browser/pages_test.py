"""Pages in a browser: no wider than a phone, whole words, nothing loaded."""

import importlib.util
import os
import pathlib
import shutil

import pytest

from imgbench import report
from imgbench.bench.pages import html_report
from imgbench.configs import tiny
from imgbench.train import loop
from tests.report import imagenet_samples
from tests.report import samples

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium")
ROOT = pathlib.Path(__file__).parents[2]
BENCHMARKS = ROOT / "experiments" / "results" / "cpu_2_cores"
PAGES = ("tiny", "scenes", "imagenet", "bench_quick", "bench_224")
WIDE = 1280
NARROW = 390
# Returns what is wrong with the page, all details unfolded.
FIND_FAULTS = r"""
async () => {
  for (const folded of document.querySelectorAll("details"))
    folded.open = true;
  const style = element => getComputedStyle(element);
  const scrolls = element =>
    element !== null &&
    (/auto|scroll/.test(style(element).overflowX) ||
      scrolls(element.parentElement));
  const name = element =>
    `${element.tagName} ${element.className} ` +
    element.textContent.trim().slice(0, 60);
  const root = document.scrollingElement;
  const found = {
    width: root.scrollWidth, wide: [], unmarked: [], broken: [], images: [],
    scrolling: 0, background: style(document.body).backgroundColor,
  };
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    const outside = box.left < -0.5 || box.right > root.clientWidth + 0.5;
    if (box.width && outside && !scrolls(element.parentElement))
      found.wide.push(name(element));
    if (element.scrollWidth > element.clientWidth && scrolls(element)) {
      const table = element.querySelector(":scope > table");
      found.scrolling += table !== null;
      if (table && style(element).backgroundImage === "none")
        found.unmarked.push(name(element));
    }
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  const top = (node, place) => {
    range.setStart(node, place);
    range.setEnd(node, place + 1);
    return range.getBoundingClientRect().top;
  };
  while (texts.nextNode()) {
    const node = texts.currentNode;
    for (const word of node.data.matchAll(/[\p{L}\p{N}]+/gu)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (range.getClientRects().length < 2) continue;
      const last = word.index + word[0].length - 1;
      if (top(node, word.index) !== top(node, last)) found.broken.push(word[0]);
    }
  }
  for (const image of document.images) {
    await image.decode().catch(() => found.images.push(image.alt));
    if (!image.naturalWidth) found.images.push(image.alt);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
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
  found = page.evaluate(FIND_FAULTS)
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
