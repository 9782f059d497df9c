"""Links, fences and the citation of README.md, docs/ and their neighbors."""

import pathlib
import re

import pytest

import imgbench
from imgbench import models
from imgbench.parallel import members

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(
  page
  for pattern in ("*.md", "docs/*.md", "experiments/*.md")
  for page in ROOT.glob(pattern)
)
FENCES = {"bash", "bibtex", "python", "text", "yaml"}


def names(paths) -> list[str]:
  return [str(path.relative_to(ROOT)) for path in paths]


def anchors(path: pathlib.Path) -> set[str]:
  """Returns the anchors that GitHub gives to the headings of a page."""
  text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
  headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
  return {
    re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    for heading in headings
  }


@pytest.mark.smoke
@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_to_files_and_headings(page):
  for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
    if link.startswith(("https://", "http://")):
      continue
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    assert target.exists(), link
    assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_fence_has_a_language(page):
  fences = re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)
  assert len(fences) % 2 == 0
  assert set(fences[::2]) <= FENCES
  assert set(fences[1::2]) <= {""}


# The changelog names modules by their former names.
@pytest.mark.parametrize(
  "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=str
)
def test_files_and_modules_exist(page):
  text = page.read_text()
  folders = "imgbench|configs|tests|experiments|requirements"
  for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", text):
    assert ROOT.joinpath(path).exists(), path
  for name in re.findall(
    r"(?<![\w/])((?:imgbench|experiments)\.[a-z_0-9.]+)", text
  ):
    if name.removeprefix("imgbench.") in imgbench.__all__:
      continue
    path = ROOT.joinpath(*name.rstrip(".").split("."))
    assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_the_line_of_a_lost_process_is_the_printed_one():
  text = ROOT.joinpath("docs/multihost.md").read_text()
  assert f"{members.GONE}; {members.RERUN}\n" in text


def test_every_page_of_docs_is_linked():
  text = "".join(page.read_text() for page in PAGES)
  for page in ROOT.glob("docs/*.md"):
    assert re.search(rf"\]\((docs/)?{page.name}[)#]", text), page.name


def test_every_model_and_config_is_listed():
  text = ROOT.joinpath("README.md").read_text()
  for name in models.BUILDERS:
    assert f"`{name}`" in text, name
  files = {path.name for path in ROOT.glob("configs/*.py")}
  for name in files - {"__init__.py", "common.py"}:
    assert f"(configs/{name})" in text, name


def test_the_citation_is_that_of_the_file():
  text = ROOT.joinpath("CITATION.cff").read_text()
  cited = ROOT.joinpath("README.md").read_text()
  fields = dict(re.findall(r"^(title|version|license): (.*)$", text, re.M))
  assert fields["version"] == imgbench.__version__
  for key, value in fields.items():
    assert f"{key} = {{{value}}}" in cited
