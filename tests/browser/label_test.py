"""The labeling application in a browser, with a real server process."""

import contextlib
import re

import pytest

from imgbench.review import store
from tests.browser import review_test
from tests.review import sites

pytestmark = pytest.mark.browser
TRAINING, EVALUATION = 1, 2
ANSWERS = "SELECT place, class FROM answer WHERE task = ? ORDER BY user, place"
press, wait_failed = review_test.press, review_test.wait_failed


@pytest.fixture(name="site")
def start_site(browser, tmp_path):
  """A site with tasks of 13 images for lea and ann."""
  path, users = tmp_path / "a.db", ("lea", "ann")
  with contextlib.closing(sites.create(path, 28)) as connection:
    sites.add_task(connection, "train", users=users, external=True)
    sites.add_task(connection, "test", "evaluation", range(14, 27), users)
    with store.transaction(connection):
      query = "INSERT INTO guide VALUES ('birds', 1, 'Birds', ?, ?, 0)"
      connection.execute(query, (review_test.GUIDE, '["n00000003"]'))
  found = review_test.Site(path, browser)
  yield found
  found.server.stop()


def start(page, task, image=""):
  """Opens an image, or the next one; returns its public id."""
  page.goto(f"/label/{task}/{image}".rstrip("/"))
  return wait_ready(page)


def wait_ready(page):
  page.locator("#tree > li").first.wait_for()
  return page.url.rpartition("/")[2]


def wait_next(page, image):
  """Waits for the page of another image; returns its public id."""
  page.wait_for_url(lambda url: image not in url)
  return wait_ready(page)


def choose(page, number):
  """Selects a class by its WordNet id."""
  page.fill("#find", f"n{number:08}")
  page.locator(f"#found button[data-class='{number}']:only-child").click()


def confirm(page):
  """Presses Enter; returns the address of the page that follows."""
  before = page.url
  with page.expect_navigation(url=lambda url: url != before):
    press(page, "Enter")
  page.wait_for_url(re.compile(r"/label/\d+/."))
  return page.url


def read_chosen(page):
  return page.locator("#chosen strong").inner_text()


def test_a_class_by_mouse(site):
  page = site.open("lea")
  start(page, TRAINING)
  marked = page.locator("#tree [aria-selected=true]")
  button = lambda name: page.get_by_role("button", name=name)
  assert button("Confirm").is_disabled()
  page.get_by_text("bird", exact=True).click()
  page.get_by_text("hen", exact=True).click()
  assert read_chosen(page) == marked.inner_text() == "hen"
  guide = page.locator("#chosen .guide")
  assert guide.get_attribute("href") == "/guide/birds"
  button("Undo").click()
  assert guide.is_hidden() and marked.count() == 0
  page.fill("#find", "tinca")
  page.locator("#found button").click()
  assert read_chosen(page) == marked.inner_text() == "tench, Tinca"
  page.get_by_label("I looked something up").check()
  page.locator(".viewer .frame").click()
  page.get_by_label("Close").click()
  button("Confirm").click()
  button("Continue").click()
  page.wait_for_url(re.compile(r"/label/1/\w+$"))
  query = "SELECT class, external, ms, 1000 * (confirmed - shown) FROM answer"
  *answer, ms, most = site.query(f"{query} WHERE place = 0")[0]
  assert answer == [0, 1] and 0 < ms <= most
  assert site.faults == []


def test_a_class_by_keys_only(site):
  page = site.open("lea")
  start(page, TRAINING)
  page.locator("#tree [tabindex='0']:focus").wait_for()
  walk = []
  for key in (
    *("ArrowRight", "ArrowRight", "End", "Home", "ArrowDown", "ArrowRight"),
    *("End", "ArrowUp", "ArrowLeft", "ArrowLeft", "Enter", "ArrowDown"),
  ):
    press(page, key)
    walk.append(page.evaluate("document.activeElement.ariaLabel"))
  bird, fish = "bird, 3 classes", "fish, 3 classes"
  assert walk[:6] == [bird, "finch", fish, bird, "finch", "finch"]
  assert walk[6:] == [fish, "ostrich", bird, bird, bird, "finch"]
  press(page, "Enter")
  assert read_chosen(page) == "finch"
  press(page, "u", "/")
  assert page.locator("#tree [aria-selected=true]").count() == 0
  page.keyboard.type("ug+ostr")  # keys are off
  page.locator("#found", has_text="No class").wait_for()
  page.locator("#find").fill("ostr")
  page.locator("#found button:only-child").wait_for()
  press(page, "ArrowDown", "Enter")
  assert read_chosen(page) == "ostrich"
  press(page, "Escape", "Enter", "+")
  assert page.locator("#large").is_visible()
  press(page, "Escape")
  page.locator("#found button:focus").wait_for()
  confirm(page)
  assert site.query(ANSWERS, TRAINING) == [(0, 4)]
  assert site.faults == []


def test_parts_and_pop_up_rules(site):
  page, images = site.open("lea"), []
  rules = ["always"] * 3 + ["error"] * 6 + ["never"] * 4
  for number, rule in enumerate(rules):
    if rule != rules[number - 1]:
      page.goto("/")
      page.locator("[name=popup]").select_option(rule)
      with page.expect_navigation():
        page.get_by_role("button", name="Set").click()
    images.append(start(page, TRAINING))
    heading = f"Image {number % 10 + 1} of {10 if number < 10 else 3}"
    assert page.locator("h1").inner_text() == heading
    query = "SELECT label FROM image WHERE public_id = ?"
    ((label,),) = site.query(query, images[-1])
    choose(page, label if number % 2 else 5 - label)
    url = confirm(page)
    shown = rule == "always" or (rule == "error" and not number % 2)
    assert url.endswith(f"/{images[-1]}/feedback") == shown
    done = number in (9, 12) and not shown
    assert url.endswith(f"/label/{TRAINING}/done") == done
    if number == 2:
      press(page, "1")
      page.locator("[name=problematic]").select_option("edited")
      page.fill("[name=note]", "a 0 note")
      assert "/feedback" not in confirm(page)
  page.locator("#content", has_text="13 of 13 images (2 of 2 parts)").wait_for()
  query = "SELECT place, suggestion, problematic, note FROM answer"
  suggested = site.query(f"{query} WHERE suggestion OR note != ''")
  assert suggested == [(2, 3, "edited", "a 0 note")]
  # An answer of training is final; its feedback opens again.
  start(page, TRAINING, images[2])
  assert page.get_by_role("button", name="Confirm").count() == 0
  page.get_by_role("link", name="Feedback").click()
  page.locator("[name=note][value='a 0 note']").wait_for()
  assert site.faults == []


def test_an_evaluation_refuses_the_way_back(site):
  page, images = site.open("lea"), []
  tab = page.context.new_page()
  for number in range(10):
    images.append(start(page, EVALUATION))
    if number == 4:  # Back within the part, by links and the browser.
      page.get_by_role("link", name="Previous image").click()
      page.wait_for_url(f"**/{images[3]}")
      wait_ready(page)
      choose(page, 5)
      assert confirm(page).endswith(images[4])
      page.go_back()
      page.wait_for_url(f"**/{images[3]}")
      start(page, EVALUATION)
    if number == 9:
      start(tab, EVALUATION, images[0])
    choose(page, number % 3)
    url = confirm(page)
  assert url.endswith(f"/label/{EVALUATION}/done")
  page.go_back()
  page.get_by_text("this image is not open").wait_for()
  page.goto(f"/label/{EVALUATION}/{images[0]}")
  assert page.get_by_text("this image is not open").count() == 1
  # A page of the part in another tab is too late.
  choose(tab, 4)
  press(tab, "Enter")
  wait_failed(tab)
  tab.get_by_role("link", name="Continue labeling").click()
  tab.get_by_text("Image 1 of 3").wait_for()
  assert tab.get_by_role("link", name="Previous image").count() == 0
  classes = [0, 1, 2, 5, 1, 2, 0, 1, 2, 0, None]
  assert site.query(ANSWERS, EVALUATION) == list(enumerate(classes))


def test_nothing_is_lost_or_doubled(site):
  """Killed browsers, and a server that is away for some seconds."""
  page = site.open("lea")
  image = start(page, EVALUATION)
  page.route("**/api/label", lambda route: route.abort())
  choose(page, 4)
  press(page, "Enter")
  wait_failed(page)
  profile = page.context.storage_state()
  page.context.close()
  # Killed with the write on its way: without its profile, then with it.
  page = site.open("lea")
  assert start(page, EVALUATION) == image
  assert site.query(ANSWERS, EVALUATION) == [(0, None)]
  page.context.close()
  options = {"base_url": site.address, "storage_state": profile}
  page = site.browser.new_context(**options).new_page()
  page.goto(f"/label/{EVALUATION}/{image}")
  image = wait_next(page, image)
  assert site.query(ANSWERS, EVALUATION) == [(0, 4), (1, None)]
  choose(page, 5)
  assert site.server.stop() == 0
  press(page, "Enter")
  wait_failed(page)
  press(page, "u", "Enter")
  page.locator("#tree li li").nth(1).click()
  page.wait_for_timeout(3000)
  assert read_chosen(page) == "finch"
  site.restart()
  wait_next(page, image)
  assert site.query(ANSWERS, EVALUATION) == [(0, 4), (1, 5), (2, None)]
  sent = "SELECT count(*), count(DISTINCT image) FROM confirmation"
  assert site.query(sent) == [(2, 2)]
  assert page.evaluate("Object.keys(localStorage).length") == 0


def test_a_tab_goes_on_if_another_one_sends_its_answer(site):
  page = site.open("lea")
  tab, tasks = page.context.new_page(), (TRAINING, EVALUATION)
  images = [start(*pair) for pair in zip((page, tab), tasks, strict=True)]
  tries = []
  page.context.route("**/api/label", lambda r: (tries.append(r), r.abort()))
  for one in (page, tab):
    choose(one, 4)
    press(one, "Enter")
    wait_failed(one)
    while len(tries) < 3:  # It waits longer each time.
      page.wait_for_timeout(50)
  page.context.unroute("**/api/label")
  page.wait_for_url(f"**/{images[0]}/feedback")
  wait_next(tab, images[1])
  query = "SELECT task, count(*) FROM confirmation GROUP BY task"
  assert site.query(query) == [(TRAINING, 1), (EVALUATION, 1)]
  assert page.evaluate("Object.keys(localStorage).length") == 0


def test_every_page_tells_of_a_lost_answer(site):
  page = site.open("lea")
  start(page, EVALUATION)
  home = page.context.new_page()
  page.context.route("**/api/label", lambda route: route.abort())
  choose(page, 4)
  press(page, "Enter")
  wait_failed(page)
  page.close()
  with contextlib.closing(store.open_database(site.path)) as connection:
    connection.execute("UPDATE task SET active = 0")
  home.context.unroute("**/api/label")
  home.goto("/")
  wait_failed(home)
  assert home.evaluate("Object.keys(localStorage).length") == 0
  assert site.query("SELECT count(*) FROM confirmation") == [(0,)]


def test_two_labelers_at_once(site):
  pages = [site.open(name) for name in ("ann", "lea")]
  order = []
  for number in range(4):
    order.append([start(page, EVALUATION) for page in pages])
    for shift, page in enumerate(pages):
      choose(page, number % 3 + shift)
    for page in pages:  # Both are on their way.
      press(page, "Enter")
    for page, image in zip(pages, order[-1], strict=True):
      wait_next(page, image)
  assert all(a == b for a, b in order) and len({a for a, _ in order}) == 4
  given = [*enumerate([0, 1, 2, 0, None]), *enumerate([1, 2, 3, 1, None])]
  assert site.query(ANSWERS, EVALUATION) == given
  assert site.faults == []


def test_hostile_text_runs_no_script(site):
  evil = review_test.EVIL
  with contextlib.closing(store.open_database(site.path)) as connection:
    for table, column in (
      ("class", "name"), ("class", "gloss"), ("hierarchy", "name"),
      ("hierarchy", "gloss"), ("image", "problematic"), ("task", "name"),
    ):  # fmt: skip
      more = "|| id" if table == "task" else ""
      query = f"UPDATE {table} SET {column} = ? {more}"
      connection.execute(query, (evil,))
  page = site.open("lea")
  image = start(page, TRAINING)
  press(page, "ArrowRight", "ArrowDown", "Enter", "u")
  choose(page, 3)
  assert read_chosen(page) == evil
  assert page.evaluate("window.faults") == []
  confirm(page)
  page.fill("[name=note]", evil)
  confirm(page)
  assert site.query("SELECT note FROM answer WHERE note != ''") == [(evil,)]
  for path in ("", f"/{image}", f"/{image}/feedback", "/done"):
    page.goto(f"/label/{TRAINING}{path}")
    assert page.evaluate("window.faults") == [], path
  assert site.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_and_are_legible(site, scheme):
  with contextlib.closing(store.open_database(site.path)) as connection:
    name = "great white shark, white shark, man-eater, man-eating shark"
    query = "UPDATE class SET name = ?1 || id, gloss = ?1 WHERE id > 3"
    connection.execute(query, (name,))
  page = site.open("lea", color_scheme=scheme)
  image = start(page, TRAINING)
  choose(page, 4)
  confirm(page)
  paths = [f"/label/{TRAINING}{x}" for x in ("", "/done", f"/{image}")]
  for width in (1280, 640, 390):
    page.set_viewport_size({"width": width, "height": 800})
    for path in ("/", "/help", *paths, f"{paths[-1]}/feedback"):
      page.goto(path)
      if path == paths[0]:
        wait_ready(page)
        choose(page, 5)
        confirm_button = page.locator(".choice button").first.bounding_box()
        assert confirm_button["y"] + confirm_button["height"] <= 800
      review_test.check_layout(page, (path, width))


def test_focus_is_visible_and_in_reading_order(site):
  page = site.open("lea")
  start(page, TRAINING)
  choose(page, 3)
  review_test.check_focus(page, 11)
