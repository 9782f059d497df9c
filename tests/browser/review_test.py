"""The review application in a browser, with a real server process."""

import contextlib
import json
import re
import sqlite3

import pytest

from imgbench.review import exports
from imgbench.review import store
from tests.browser import layout
from tests.review import sites

pytestmark = pytest.mark.browser
SAVED = "All changes are saved"
TABLES = {
  "vote": "image, target, user, panel, state, reason, note, campaign, control",
  "category": "*",
  "saved": "campaign, user, image",
  "prediction": "*",
  "image": "id, problematic, panel",
  "item": "campaign, position, image, control, open",
}
EVIL = "<script>attack()</script><img src=x onerror=attack()>\"'</script>"
GUIDE = """# Points <img src=x onerror=attack()>

<script>attack()</script> [link](javascript:attack()) ![](http://a.test/x.png)

| a | b |
| - | - |
| **bold** | <svg onload=attack()> |
"""
# Counts what the policy of a page refuses.
WATCH = """
window.faults = [];
window.attack = () => window.faults.push("attack");
addEventListener("securitypolicyviolation",
  event => window.faults.push(event.violatedDirective));
"""


class Site:
  """A database with a server, and logged in pages that note faults."""

  def __init__(self, path, browser):
    self.path, self.browser, self.faults = path, browser, []
    self.server = sites.Server(path).start()
    self.address = self.server.address

  def restart(self):
    port = int(self.address.rpartition(":")[2])
    self.server = sites.Server(self.path, port).start()

  def open(self, user, **options):
    """Returns a page of a new session of a user."""
    context = self.browser.new_context(base_url=self.address, **options)
    context.add_init_script(WATCH)
    page = context.new_page()
    page.on("pageerror", lambda error: self.faults.append(str(error)))
    page.on("console", lambda message: self.faults.append(message.text))
    context.set_default_timeout(60_000)  # of a busy machine
    page.goto("/login")
    page.locator("[name=name]:focus").wait_for()
    page.keyboard.type(user)
    page.keyboard.press("Tab")
    page.keyboard.type(sites.PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")
    return page

  def query(self, text, *values):
    with contextlib.closing(sqlite3.connect(self.path)) as connection:
      return connection.execute(text, values).fetchall()

  def tables(self):
    return {
      name: sorted(self.query(f"SELECT {columns} FROM {name}"), key=repr)
      for name, columns in TABLES.items()
    }


@pytest.fixture(name="site")
def start_site(browser, tmp_path):
  """A site with the open campaigns 1 to 3."""
  path = tmp_path / "a.db"
  with contextlib.closing(sites.create(path)) as connection:
    sites.add_campaign(connection, "single", show_names=True)
    sites.add_campaign(connection, "two", "majority", 2)
    sites.add_campaign(connection, "else the panel", "unanimous", 2)
    with store.transaction(connection):
      connection.execute(
        "INSERT INTO guide VALUES ('birds', 1, 'Birds', ?, ?, 0)",
        (GUIDE, '["n00000003", "n00000000"]'),
      )
  found = Site(path, browser)
  yield found
  found.server.stop()


def press(page, *keys):
  for key in keys:
    page.keyboard.press(key)


def wait_saved(page):
  page.locator("#saving", has_text=SAVED).wait_for()


def wait_failed(page):
  page.locator("#saving.bad").wait_for()


def save(page, image):
  """Presses Enter; waits for the page of the next image."""
  press(page, "Enter")
  page.wait_for_url(lambda url: image not in url)
  wait_saved(page)


def start(page, campaign=1):
  """Opens the next image; returns its public id."""
  page.goto(f"/review/{campaign}")
  wait_saved(page)
  return page.url.rpartition("/")[2]


def read_states(page):
  """Returns class -> state that a page shows."""
  return page.evaluate(
    "Object.fromEntries([...document.querySelectorAll('.rating')].map("
    "row => [row.dataset.class, row.querySelector(':checked').value]))"
  )


def assigned(page):
  row = page.locator(".row.assigned .rating")
  return int(row.get_attribute("data-class"))


def test_an_image_by_keyboard_only(site):
  page = site.open("ann")
  link = "document.activeElement.getAttribute('href') === '/review/1'"
  while not page.evaluate(link):
    press(page, "Tab")
  press(page, "Enter")
  page.wait_for_url("**/review/1/*")
  image, label = page.url.rpartition("/")[2], assigned(page)
  rows = list(map(int, page.locator(".rating").evaluate_all(
    "rows => rows.map(row => row.dataset.class)")))  # fmt: skip
  press(page, "l", "a")
  assert read_states(page) == {str(c): "3" if c == label else "1" for c in rows}
  press(page, "k", "k", "4", "j", "3", "ArrowDown", "1", "ArrowUp", "ArrowDown")
  press(page, "0", "2", "z", "z")
  wait_saved(page)
  assert page.locator(".rating :checked:focus").count() == 1
  states = {rows[0]: 4, rows[1]: 2, rows[2]: 3}
  assert read_states(page) == {str(c): str(s) for c, s in states.items()}
  assert page.locator("#proposal").is_hidden() or states[label] == 2
  press(page, *"kkk", *("j" * rows.index(label)), "2")
  assert page.locator("#proposal").is_visible()
  press(page, "p")  # it proposes a reason
  assert page.locator("#problem :checked").get_attribute("value") == (
    "label wrong or unclear"
  )
  press(page, "2", "Tab")
  page.keyboard.type("a z drawing")  # keys are off
  press(page, "Enter")
  press(page, "n")
  assert re.fullmatch(r"\d{3}", page.locator("#name").inner_text())
  press(page, "/")
  page.keyboard.type("ostr")
  page.locator("#search a").wait_for()
  press(page, "Escape", "?")
  assert page.locator("#keys").is_visible()
  press(page, "Escape")
  assert page.locator(".row:focus-within").count() == 1
  width = page.locator("#picture").bounding_box()["width"]
  press(page, "+")
  assert page.locator("#picture").bounding_box()["width"] > 1.4 * width
  press(page, "f")
  assert page.locator("#picture").bounding_box()["width"] == width
  save(page, image)
  votes = site.query(
    "SELECT target, state, v.reason, v.note FROM vote v JOIN image i"
    " ON i.id = v.image WHERE public_id = ?", image)  # fmt: skip
  assert {v[0]: v[1] for v in votes} == states | {label: 1, -1: 3}
  assert (-1, 3, "drawing or rendering", "a z drawing") in votes
  press(page, "ArrowLeft")
  page.wait_for_url(f"**/{image}")
  assert "a z drawing" in page.locator("#problem-shown").inner_text()
  (ms,) = site.query("SELECT max(ms) FROM event WHERE kind = 'save'")[0]
  assert 0 < ms < 60_000
  assert site.faults == []


def test_undo_restores_the_exact_state(site):
  page = site.open("ann")
  first = start(page)
  press(page, "j", "3")
  wait_saved(page)
  page.get_by_text("Categories of the image").click()
  steps = (
    ["a"], ["l"], ["4"], ["p", "5", "Enter"], ["p", "0", "Enter"],
    ["category"], ["Enter"],
  )  # fmt: skip
  kept = []
  for keys in steps:
    kept.append((site.tables(), read_states(page)))
    if keys == ["category"]:
      page.get_by_label("crowded").check()
      page.locator(".rating :checked").first.focus()
    else:
      press(page, *keys)
    if keys == ["Enter"]:
      page.wait_for_url(lambda url: "/review/1/" in url and first not in url)
    wait_saved(page)
    assert site.tables() != kept[-1][0], keys
  for tables, states in reversed(kept):
    undone = "SELECT count(*) FROM event WHERE kind = 'undo'"
    before = site.query(undone)
    press(page, "z")
    page.wait_for_url(f"**/{first}")
    wait_saved(page)
    assert site.query(undone) > before
    assert site.tables() == tables
    assert read_states(page) == states
  # The images of a class, in one action, and the history.
  page.goto("/grid/1/3")
  before = site.tables()
  press(page, "ArrowRight", "1", "a")
  wait_saved(page)
  votes = site.query("SELECT state FROM vote WHERE target = 3 AND campaign = 1")
  assert sorted(votes) == [(1,)] * 5 + [(3,)]
  with page.expect_navigation():
    press(page, "z")
  page.goto("/history")
  with page.expect_navigation():
    page.get_by_role("button", name="Undo").click()
  assert site.tables() == before
  assert site.faults == []


def test_a_reload_and_an_absent_server_lose_nothing(site):
  page = site.open("ann")
  questions = []
  page.on(
    "dialog", lambda dialog: (questions.append(dialog.type), dialog.accept())
  )
  image = start(page)
  page.route("**/api/events", lambda route: route.abort())
  press(page, "1", "j", "2")
  wait_failed(page)
  shown = read_states(page)
  assert sorted(shown.values()) == ["0", "1", "3"]
  press(page, "p", "6", "Tab")
  page.keyboard.type("half a no")
  page.reload()
  assert questions == ["beforeunload"]
  assert read_states(page) == shown
  assert page.locator("[name=note]").input_value() == "half a no"
  assert site.query("SELECT count(*) FROM vote") == [(0,)]
  press(page, "Enter")
  page.unroute("**/api/events")
  page.reload()
  wait_saved(page)
  found = dict(site.query("SELECT target, state FROM vote"))
  assert found == {int(c): int(s) for c, s in shown.items() if s != "0"} | {
    -1: 3
  }
  assert site.query("SELECT note FROM vote WHERE target = -1") == [
    ("half a no",)
  ]
  # The server goes and comes back after five seconds.
  assert site.server.stop() == 0
  press(page, "k", "k", "3", "a", "Enter")
  wait_failed(page)
  page.wait_for_timeout(5000)
  assert read_states(page) != shown
  site.restart()
  page.wait_for_url(lambda url: "/review/1/" in url and image not in url)
  votes = dict(site.query("SELECT target, state FROM vote"))
  assert sorted(votes.values()) == [1, 1, 2, 3] and len(votes) == 4
  doubled = "SELECT count(*) - count(DISTINCT client) FROM event"
  assert site.query(f"{doubled} WHERE kind IN ('vote', 'save')") == [(0,)]
  assert page.evaluate("Object.keys(localStorage).length") == 0


def test_lost_leases_and_sessions_are_told_in_a_line(site):
  ann, ben = site.open("ann"), site.open("ben")
  image = start(ann)
  ben.goto(f"/review/1/{image}")
  press(ben, "1")
  wait_failed(ben)
  assert "Another reviewer" in ben.locator("#saving").inner_text()
  assert ben.locator(".rating[inert]").count() == 3
  press(ben, "Enter")
  ben.wait_for_url(lambda url: image not in url)
  assert start(ben) != image
  # A page of an older session keeps what it could not send.
  ben.evaluate("document.body.dataset.csrf = 'old'")
  ben.context.clear_cookies()
  press(ben, "1")
  wait_failed(ben)
  assert "logged out" in ben.locator("#saving").inner_text()
  assert site.query("SELECT count(*) FROM vote") == [(0,)]
  ben.goto("/login")
  ben.fill("[name=name]", "ben")
  ben.fill("[name=password]", sites.PASSWORD)
  press(ben, "Enter")
  ben.wait_for_url("**/")
  wait_saved(ben)
  assert site.query("SELECT state FROM vote") == [(3,)]


def test_two_reviewers_a_conflict_and_the_panel(site):
  ann, ben, pat = (site.open(name) for name in ("ann", "ben", "pat"))
  image = start(ann, 3)
  press(ann, "l", "a")
  save(ann, image)
  ben.goto(f"/review/3/{image}")
  assert set(read_states(ben).values()) == {"0"}
  assert not re.search(r"\bann\b|\bnet 0|models", ben.content())
  label = assigned(ben)
  press(ben, "a")
  save(ben, image)
  states = dict(site.query(
    "SELECT class, state FROM prediction p JOIN image i ON i.id = p.image"
    " WHERE public_id = ? AND p.panel = 0", image))  # fmt: skip
  assert states == {3: 1, 4: 1}
  pat.goto("/panel")
  pat.locator(".lines a").click()
  pat.wait_for_url(f"**/panel/{image}")
  assert read_states(pat) == {str(label): "0"}
  assert not pat.locator(".votes").inner_text()
  press(pat, "3")
  wait_saved(pat)
  assert pat.locator(".votes").inner_text() == "Votes: wrong, correct"
  assert not re.search(r"\bann\b", pat.content())
  read = "SELECT state, p.panel FROM prediction p JOIN image i ON i.id = image"
  read += " WHERE class = label AND public_id = ?"
  assert site.query(read, image) == [(2, 0)]
  press(pat, "z")
  wait_saved(pat)
  assert site.query(read, image) == [(0, 1)]
  press(pat, "1", "Enter")
  pat.wait_for_url("**/panel")
  assert site.query(read, image) == [(3, 0)]
  assert pat.locator(".lines a").count() == 0
  # No majority of two is unclear.
  other = start(ann, 2)
  press(ann, "l")
  save(ann, other)
  ben.goto(f"/review/2/{other}")
  press(ben, "a")
  save(ben, other)
  assert site.query(read, other) == [(2, 0)]
  entries = json.loads(exports.export(str(site.path)))["initial_annots"]
  query = "SELECT name FROM image WHERE public_id = ?"
  names = [site.query(query, found)[0][0] for found in (image, other)]
  assert entries[names[0]]["correct"] == [f"n{label:08}"]
  assert len(entries[names[1]]["unclear"]) == 1
  assert site.faults == []


def test_hostile_text_runs_no_script(site):
  with contextlib.closing(store.open_database(site.path)) as connection:
    run = connection.execute
    run("UPDATE class SET name = ?, gloss = ?", (EVIL, EVIL))
    run("UPDATE image SET name = name || ?", (EVIL,))
    run("UPDATE user SET name = ? WHERE id = 1", (EVIL,))
    run("UPDATE campaign SET name = name || ?", (EVIL,))
  page = site.open(EVIL)
  start(page)
  press(page, "n", "1", "p", "1", "Tab")
  page.keyboard.type(EVIL)
  press(page, "Enter")
  wait_saved(page)
  assert EVIL in page.locator("#problem-shown").inner_text()
  press(page, "/")
  page.keyboard.type("script")
  page.locator("#search a").first.wait_for()
  paths = ("/", page.url, "/grid/1", "/grid/1/3", "/class/n00000003")
  for path in (*paths, "/guide/birds", "/history"):
    page.goto(path)
    assert page.evaluate("window.faults") == [], path
    if path == "/guide/birds":
      assert page.locator(".text strong").inner_text() == "bold"
      links = page.locator("#content :is([href], [src])")
      assert links.count() == 0
  # What the server refuses to show is no fault of the page.
  missing = [text for text in site.faults if "404" not in text]
  assert missing == []


def check_layout(page, name):
  """Checks that a page fits its width and is legible."""
  found, width = page.evaluate(layout.FIND_FAULTS), name[1]
  assert found["width"] <= width and found["wide"] == [], name
  assert found["broken"] == found["unmarked"] == [], name
  assert found["images"] == [], name
  assert page.evaluate(layout.FIND_FAINT) == [], name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_and_are_legible(site, scheme):
  page = site.open("root", color_scheme=scheme)
  image = start(page)
  press(page, "a", "p", "2", "Enter")
  wait_saved(page)
  image = start(page, 3)
  press(page, "l")
  save(page, image)
  image = start(page, 3)
  paths = (
    *("/", f"/review/3/{image}", "/grid/1", "/grid/1/3", "/class/n00000003"),
    *("/guide/birds", "/history", "/panel", "/help", "/nothing", "/admin"),
    *("/metrics", "/problematic", "/categories", "/releases"),
  )
  visitor = page.context.browser.new_context(
    base_url=site.address, color_scheme=scheme
  ).new_page()
  for width in (1280, 640, 390):  # 640 is 1280 at 200%
    size = {"width": width, "height": 800}
    for path in (*paths, "/login"):
      view = visitor if path == "/login" else page
      view.set_viewport_size(size)
      view.goto(path)
      check_layout(view, (path, width))


def check_focus(page, least):
  """Presses Tab through a page: outlines, and the order of the text."""
  page.locator(".skip").focus()
  page.evaluate("window.order = [document.activeElement]; 1")
  for _ in range(60):
    press(page, "Tab")
    inside, outline = page.evaluate(
      "(() => { const e = document.activeElement; order.push(e); return ["
      "e !== document.body && e !== order[0],"
      "getComputedStyle(e.matches('.rating input') ? e.nextElementSibling"
      " : e.matches('#tree li') ? e.firstElementChild : e).outlineWidth]; })()"
    )
    if not inside:
      break
    assert outline == "3px"
  assert page.evaluate("order.length") > least
  assert page.evaluate(
    "order.slice(1, -1).every((e, i) => order[i].compareDocumentPosition(e)"
    " & Node.DOCUMENT_POSITION_FOLLOWING)"
  )


def test_focus_is_visible_and_in_reading_order(site):
  page = site.open("ann")
  start(page)
  check_focus(page, 20)
  groups = page.locator("[role=radiogroup]")
  for index in range(groups.count()):
    assert groups.nth(index).get_attribute("aria-label")
    assert groups.nth(index).get_by_role("radio").count() == 5
