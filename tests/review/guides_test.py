"""Tests of importing labeling guides, and of their pages."""

import contextlib
import json
import pathlib
import re

import pytest

from imgbench import errors
from imgbench.review import decide
from imgbench.review import guides
from imgbench.review import labeling
from imgbench.review import store
from imgbench.scenes import classes as scenes
from tests.review import sites

HEAD = "# Two fish\n\nClasses: n00000000, n00000001\n"
SHIPPED = pathlib.Path(guides.__file__).parents[1] / "scenes/guide"


@pytest.fixture
def database(tmp_path):
  with contextlib.closing(sites.create(tmp_path / "a.db")) as connection:
    yield connection


@pytest.fixture
def folder(tmp_path):
  """A guide with a picture that has metadata."""
  folder = tmp_path / "guide"
  sites.write_images(folder / "pictures", 1)
  text = "![one](pictures/000.jpg)\n![two](image:tiny/007)\n## Sources\n"
  folder.joinpath("fish.md").write_text(HEAD + text)
  return folder


def count(connection):
  query = (
    "SELECT (SELECT count(*) FROM guide), (SELECT count(*) FROM guide_image)"
  )
  return tuple(connection.execute(query).fetchone())


def test_revisions(database, folder):
  assert guides.import_guides(database, folder) == ["fish"]
  assert guides.import_guides(database, folder) == []
  assert count(database) == (1, 1)
  (row,) = database.execute("SELECT * FROM guide")
  assert (row["title"], row["revision"]) == ("Two fish", 1)
  assert json.loads(row["classes"]) == ["n00000000", "n00000001"]
  file = folder / "fish.md"
  file.write_text(file.read_text() + "Another line.\n")
  assert guides.import_guides(database, folder) == ["fish"]
  assert count(database) == (2, 1)
  assert decide.find_guides(database)["n00000001"] == "fish"


def test_a_class_that_a_guide_drops_has_no_guide(database, folder, tmp_path):
  guides.import_guides(database, folder)
  (folder / "fish.md").write_text(HEAD.partition(", ")[0] + "\n")
  guides.import_guides(database, folder)
  assert decide.find_guides(database) == {"n00000000": "fish"}
  with database, sites.Server(tmp_path / "a.db") as server:
    browser = sites.Browser(server.address, "ann")
    linked = [b"/guide/" in browser.get(f"/class/n0000000{x}")[2] for x in "01"]
    assert linked == [True, False]


def test_pages(database, folder, tmp_path):
  guides.import_guides(database, folder)
  with database, sites.Server(tmp_path / "a.db") as server:
    browser = sites.Browser(server.address, "ann")
    status, _, page = browser.get("/guide/fish")
    assert status == 200 and b"Two fish" in page
    places = re.findall(r'<img src="([^"]*)"', page.decode())
    assert [x.rpartition("/")[0] for x in places] == [
      "/guide/images",
      "/images",
    ]
    for place in places:
      status, headers, content = browser.get(place)
      assert status == 200 and headers["content-type"] == "image/jpeg"
      assert b"Exif" not in content and b"name 0" not in content
      assert headers["x-content-type-options"] == "nosniff"
    assert browser.get("/guide/images/0")[0] == 404
    assert browser.get("/class/n00000001")[2].count(b'"/guide/fish"') == 1
    outside = sites.Browser(server.address)
    assert outside.get(places[0])[0] == 303


@pytest.mark.parametrize(
  "text",
  [
    "![a](missing.jpg)",
    "![a](pictures)",
    "![a](../images/000.jpg)",
    "![a](link/000.jpg)",
    "![a](linked.jpg)",
    "![a](loop.jpg)",
    "![a](a\0.jpg)",
    "![a](drawing.svg)",
    "![a](drawing.jpg)",
    "![a](cut.jpg)",
    "![a](large.png)",
    "![a](https://example.org/a.jpg)",
    "![a](/images/000.jpg)",
    "![a](image:tiny/900)",
    "![a](image:other/000)",
    "![a](image:tiny)",
    "\nClasses: n00000000, n99999999",
    "\nClasses:",
    b"\xff",
  ],
)
def test_refused_guides_import_nothing(database, folder, tmp_path, text):
  picture = folder / "pictures/000.jpg"
  (folder / "link").symlink_to(tmp_path / "images")
  (folder / "linked.jpg").symlink_to(tmp_path / "images/000.jpg")
  (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
  for name in ("drawing.svg", "drawing.jpg"):
    folder.joinpath(name).write_text(
      "<svg xmlns='http://www.w3.org/2000/svg'/>"
    )
  (folder / "cut.jpg").write_bytes(picture.read_bytes()[:600])
  (folder / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5 << 20))
  bad = folder / "z.md"
  if isinstance(text, bytes):
    bad.write_bytes(HEAD.encode() + text)
  elif text.startswith("\n"):
    bad.write_text("# Title" + text + "\n")
  else:
    bad.write_text(HEAD + text)
  with pytest.raises(errors.InputError) as caught:
    guides.import_guides(database, folder)
  assert "\n" not in str(caught.value)
  assert count(database) == (0, 0)


def test_guides_and_tasks_share_no_image(database, folder):
  guides.import_guides(database, folder)
  chosen = labeling.choose_images(database, "tiny")
  assert sorted(chosen) == [1, 2, 3, 4, 5, 6, 7]
  with store.transaction(database):
    named = labeling.choose_images(database, "tiny", names=["006"])
    labeling.create_task(database, "all", "training", named)
  (folder / "fish.md").write_text(HEAD + "![two](image:tiny/006)\nNew.\n")
  with pytest.raises(errors.InputError, match="image:tiny/006"):
    guides.import_guides(database, folder)
  # The guide would tell its label.
  with pytest.raises(errors.InputError, match="007"):
    labeling.choose_images(database, "tiny", names=["005", "007"])


def test_no_folder(database, tmp_path):
  for place in (tmp_path / "none", tmp_path / "images", tmp_path / "a.db"):
    with pytest.raises(errors.InputError):
      guides.import_guides(database, place)
  tmp_path.joinpath("A b.md").write_text(HEAD)
  with pytest.raises(errors.InputError, match="A b"):
    guides.import_guides(database, tmp_path)


def test_the_guide_of_scenes(tmp_path):
  rows = [(i, name, name, "", "") for i, name in enumerate(scenes.CLASS_NAMES)]
  text = SHIPPED.joinpath("dogs.md").read_text()
  names = re.findall(r"image:scenes:validation/([^)]*)", text)
  assert len(names) == scenes.NUM_DOGS
  with contextlib.closing(store.create(tmp_path / "a.db", rows)) as database:
    run = database.execute
    run("INSERT INTO dataset (name) VALUES ('scenes:validation')")
    for index, name in enumerate(names):
      query = "INSERT INTO image (public_id, dataset, name, label)"
      run(f"{query} VALUES (?, 1, ?, 0)", (f"{index}", name))
    assert guides.import_guides(database, SHIPPED) == ["dogs"]
    assert decide.find_guides(database) == dict.fromkeys(scenes.DOGS, "dogs")
