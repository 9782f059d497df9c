"""Pages of reviewers, over HTTP and without a browser."""

import contextlib
import json
import re
import urllib.parse

import pytest

from imgbench.review import store
from imgbench.review.server import review_pages
from tests.review import sites


@pytest.fixture(name="path", scope="module")
def fixture_path(tmp_path_factory):
  """Images 7 and 8 of 8 were annotated before; campaign 1 has no controls."""
  path = tmp_path_factory.mktemp("pages") / "a.db"
  with contextlib.closing(sites.create(path)) as connection:
    sites.add_campaign(connection)
    with store.transaction(connection):
      for revision, title in enumerate(("Old", "New"), 1):
        connection.execute(
          "INSERT INTO guide VALUES ('fish', ?, ?, '*a*', ?, 0)",
          (revision, title, '["n00000000", "n00000003"]'),
        )
  return path


@pytest.fixture(name="browser", scope="module")
def fixture_browser(path):
  with sites.Server(path) as server:
    yield sites.Browser(server.address, "ann")


def read_state(browser, path):
  """Returns what the scripts of a page read."""
  status, _, body = browser.get(path)
  assert status == 200
  return json.loads(re.search(r'id="state">(.*?)</script>', body.decode())[1])


def test_the_page_of_an_image_has_the_state_of_the_api(browser):
  image = browser.next()
  content = read_state(browser, f"/review/1/{image}")
  assert content["images_shown"] == [browser.json(f"/api/review/1/{image}")[1]]
  assert content["campaign"] == 1 and content["kind"] == "vote"


def test_the_images_of_a_class(browser):
  images = read_state(browser, "/grid/1/3")["images_shown"]
  assert len(images) == 6  # those whose predictions are open
  assert {row["class"] for i in images for row in i["rows"]} == {3}
  assert browser.get("/grid/1/3")[2].count(b'role="radiogroup"') == 6
  assert b"/grid/1/3" in browser.get("/grid/1")[2]
  assert b"/grid/1/5" not in browser.get("/grid/1")[2]


def test_classes_of_any_name_have_a_page(browser, path):
  name = "bus/tram? #1 100%"  # A database of a run has names as ids.
  rename = "UPDATE class SET wnid = ? WHERE id = 3"
  with contextlib.closing(store.open_database(path)) as connection:
    connection.execute(rename, (name,))
    for page in ("/grid/1/3", f"/review/1/{browser.next()}"):
      body = browser.get(page)[2].decode()
      links = re.findall(r'href="(/class/[^"]*)"', body)
      pages = [browser.get(link) for link in links]
      assert {status for status, _, _ in pages} == {200}
      assert name in "".join(text.decode() for _, _, text in pages)
    assert browser.get(f"/class/{urllib.parse.quote(name, '')}")[0] == 200
    connection.execute(rename, ("n00000003",))


def test_samples_of_a_class_are_closed_images_of_earlier_reviews(browser, path):
  find = lambda n: store.hide_name(sites.SECRET, "tiny", f"{n:03}")
  samples = lambda: re.findall(
    rb"/images/(\w+)", browser.get("/class/n00000000")[2]
  )
  assert samples() == [find(6).encode()]  # 0 and 3 are open
  with contextlib.closing(store.open_database(path)) as connection:
    sites.add_campaign(connection, "controls", control=0.5)
    assert samples() == []
    connection.execute("UPDATE campaign SET active = 0 WHERE name = 'controls'")
  assert len(samples()) == 1


def test_guides_show_their_newest_revision(browser):
  page = browser.get("/guide/fish")[2]
  assert b"<h1>New</h1>" in page and b"<p><em>a</em></p>" in page
  assert browser.get("/guide/none")[0] == 404
  link = b'<a href="/guide/fish">New</a>'
  assert link in browser.get("/class/n00000003")[2]


def test_history_lists_what_a_user_did(browser):
  image = browser.next()
  browser.vote(image, {3: 1, -1: (3, "edited")}, action="a", save=True)
  page = browser.get("/history")[2].decode()
  found = re.findall("<div>(.*?) <", page)
  assert found == ["Saved", "Problematic: edited", "hen: Wrong"]
  assert read_state(browser, "/history")["campaign"] == 1


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("a <b>b</b>", "<p>a &lt;b&gt;b&lt;/b&gt;</p>"),
    ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
    ("![a](https://a.test/b.png)", "<p></p>"),
    ("![a](/images/0f)", '<p><img src="/images/0f" alt="a"></p>'),
    (
      "[a](https://a.test)",
      '<p><a href="https://a.test" rel="noopener noreferrer">a</a></p>',
    ),
  ],
)
def test_markdown_is_clean(text, expected):
  assert review_pages.render_markdown(text).strip() == expected
