"""Tests of the pages of viewers, with a server process."""

import contextlib

import pytest

from imgbench.labels import review_database
from imgbench.review import live
from imgbench.review import store
from tests.review import sites

PAGES = (
  *("/metrics", "/metrics?subset=all&dataset=1", "/api/metrics", "/metrics/1"),
  *("/metrics/compare?a=1&b=2&definition=icml2020", "/problematic"),
  *("/api/metrics/compare?a=1&b=2&definition=icml2020", "/categories"),
  *("/problematic?reason=edited", "/categories?category=crowded", "/releases"),
  "/releases/diff?a=0&b=99",
)
ICML = "multilabel_accuracy.icml2020"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(name="site", scope="module")
def serve(tmp_path_factory):
  """A server on 12 images with three models, and its database."""
  path = tmp_path_factory.mktemp("results") / "a.db"
  with contextlib.closing(sites.create(path, 12, 3, HOSTILE)) as connection:
    sites.add_campaign(connection)
    with sites.Server(path) as server:
      yield server, path, connection


@pytest.fixture(name="vic", scope="module")
def open_browser(site):
  return sites.Browser(site[0].address, "vic")


def test_viewers_and_admins_see_pages_that_reviewers_do_not(site):
  for user, status in {"vic": 200, "root": 200, "ann": 403, "pat": 403}.items():
    browser = sites.Browser(site[0].address, user)
    for path in PAGES:
      found, _, body = browser.get(path)
      assert found == status, path
      assert path.startswith("/api/") or HOSTILE.encode() not in body


@pytest.mark.parametrize(
  "path",
  [
    *("/metrics?subset=cats", "/metrics?dataset=7", "/metrics/9"),
    *("/metrics?dataset=%C2%B2", "/metrics/compare?a=1"),
    *("/metrics/compare?a=1&b=2&definition=top1", "/releases/diff?a=-1&b=2"),
    "/metrics/compare?a=1&b=2&definition=tfds",  # a class has no images
  ],
)
def test_wrong_addresses_are_one_line(vic, path):
  assert vic.get(path)[0] == 422


def read_accuracy(browser, model=0):
  return browser.json("/api/metrics")[1]["models"][model]["metrics"][ICML]


def test_a_review_moves_the_number_and_a_release_keeps_the_labels(site, vic):
  server, path, connection = site
  admin = sites.Browser(server.address, "root")
  ann = sites.Browser(server.address, "ann")
  assert vic.post("/releases", {"name": "no"})[0] == 403
  assert admin.post("/releases", {"name": "first"})[0] == 303
  assert admin.post("/releases", {"name": "first"})[0] == 422
  assert admin.post("/releases", {"name": "12"})[0] == 422
  (first,) = connection.execute("SELECT max(id) FROM event").fetchone()
  before, version = read_accuracy(vic), vic.json("/api/metrics")[1]["version"]
  assert (before["n"], before["correct"]) == (2, 0)
  assert vic.json(f"/api/metrics?known={version}")[1].keys() == {
    "version",
    "dataset",
  }
  image = ann.next()
  assert ann.vote(image, {3: 3}, save=True)[0] == 200
  after = read_accuracy(vic)
  assert (after["n"], after["correct"]) == (3, 1)
  fresh = live.Accuracies(path, 1).measure(1).rows["all"][ICML]
  assert after["value"] == fresh.value
  second = ann.next()
  assert ann.vote(second, {-1: (3, "edited")}, save=True)[0] == 200
  assert admin.post("/releases", {"name": "second"})[0] == 303
  (last,) = connection.execute("SELECT max(id) FROM event").fetchone()
  changes = store.fetch(connection, "changes", a=first, b=last)
  assert {(r["public_id"], r["class"], *r[3:]) for r in changes} == {
    (image, sites.CLASSES[3], "unreviewed", "correct"),
    (second, "", "counts", "edited"),
  }
  body = vic.get(f"/releases/diff?a={first}&b={last}")[2].decode()
  assert image in body and "edited" in body
  # They are the differences of what --at exports.
  old, new = (review_database.read(path, at=n) for n in ("first", "second"))
  names = {row[1]: row[0] for row in changes}
  added = dict(new["initial_annots"])
  for name in old["initial_annots"]:
    assert added.pop(name) == old["initial_annots"][name]
  assert list(added) == [names[image]]
  assert new["problematic_images"].keys() == {names[second]}
