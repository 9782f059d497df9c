"""Tests of the study's pages, and of a study in two browsers."""

import contextlib
import json
import shutil
import urllib.parse

import pytest

from imgbench.papers.readers import datasets
from imgbench.review import store
from imgbench.review import study
from tests.browser import review_test
from tests.papers import human_files
from tests.review import labels_test
from tests.review import sites

IMAGES, LABELS = labels_test.IMAGES, labels_test.LABELS
answers = labels_test.answer
VALIDATION = "imagenet2012:validation"


@pytest.fixture(name="site", scope="module")
def serve(tmp_path_factory):
  """A server on a training and an evaluation task, and its database."""
  path = tmp_path_factory.mktemp("study") / "a.db"
  with contextlib.closing(labels_test.create(path)) as connection:
    with store.transaction(connection):
      sites.add_users(connection)
    labels_test.add_task(connection, "training", {"ben": answers("human_a")})
    given = {"lea": answers("human_a"), "ann": answers("human_b")}
    given["pat"] = {0: LABELS[0], 1: None}
    labels_test.add_task(connection, "evaluation", given)
    labels_test.add_task(connection, "training", {}, [0], "empty")
    with sites.Server(path) as server:
      yield server, connection


def test_only_owners_see_the_study(site):
  paths = ("/study", "/study/1", "/study/2", "/study/3", "/study/evaluation")
  for user, status in {"vic": 200, "root": 200, "lea": 403, "ann": 403}.items():
    browser = sites.Browser(site[0].address, user)
    for path in (*paths, "/api/study/2", "/study/2?subset=dog"):
      assert browser.get(path)[0] == status, (user, path)
    body = browser.get("/study")[2]
    assert (b'action="/study/tasks"' in body) == (user == "root")
  vic = sites.Browser(site[0].address, "vic")
  assert vic.get("/study/9")[0] == vic.get("/study/training")[0] == 404
  assert vic.get("/study/2?subset=cats")[0] == 422
  assert vic.post("/study/tasks", {"id": "1", "action": "close"})[0] == 403


def test_numbers(site):
  vic = sites.Browser(site[0].address, "vic")
  found = vic.json("/api/study/2")[1]
  assert found == vic.json("/api/study/evaluation")[1]
  assert found["datasets"] == {VALIDATION: 7, "v2": 7}
  names = ["human_ann", "human_lea", "human_pat", "alexnet", "resnet50"]
  accuracies = {
    group: {
      r["name"]: [r["rows"]["all"][study.METRIC][k] for k in ("correct", "n")]
      for r in results
    }
    for group, results in found["results"].items()
  }
  assert list(accuracies["all"]) == [*names, "vgg16"]
  # Of 14 images one is problematic, and one has no reviewed label.
  assert accuracies["all"]["human_lea"] == [11, 12]
  assert accuracies["all"]["human_ann"] == [10, 12]
  assert accuracies["all"]["human_pat"] == [1, 1]
  assert accuracies[VALIDATION]["resnet50"] == [4, 6]
  assert accuracies["v2"]["resnet50"] == [3, 6]
  select = lambda key, **values: [
    row for row in found[key] if values.items() <= row.items()
  ]
  key = {"model": "human_lea", "subset": "all", "metric": study.METRIC}
  (drop,) = select("drops", **key)
  assert drop["drop"] == pytest.approx(5 / 6 - 1)
  key = {"model_a": "human_lea", "model_b": "resnet50", "dataset": VALIDATION}
  (pair,) = select("paired", **key)
  assert (pair["n"], pair["only_a"], pair["only_b"]) == (6, 1, 0)
  (lea,) = select("labelers", name="human_lea")
  assert (lea["answers"], lea["seconds"], lea["active_seconds"]) == (14, 55, 5)
  assert lea["external"] == pytest.approx(1 / 14)
  (ben,) = vic.json("/api/study/1")[1]["labelers"]
  # Place 0 is wrong; the last image's label has no review: it is right.
  assert ben["parts"] == [[2, 3], [3, 3], [3, 3], [3, 3], [2, 2]]


def test_admins_create_and_change_tasks(site):
  server, connection = site
  admin = sites.Browser(server.address, "root")
  form = {"name": "new", "mode": "evaluation", "datasets": "v2", "part": "2"}
  form |= {"users": "lea", "images": f"{IMAGES[8]}\n{IMAGES[9]}", "seed": "1"}
  for wrong in ({"mode": "x"}, {"part": "0"}, {"images": "x"}, {"seed": "-"}):
    assert admin.post("/study/tasks", form | wrong)[0] == 422
  wrong = form | {"images": f"{IMAGES[8]}\n{IMAGES[0]}"}  # of another set
  assert admin.post("/study/tasks", wrong)[0] == 422
  assert admin.post("/study/tasks", form)[0] == 303
  assert admin.post("/study/tasks", form)[0] == 422  # the name is taken
  query = "SELECT max(id), part, active FROM task"
  assert tuple(connection.execute(query).fetchone()) == (4, 2, 1)
  query = "SELECT name FROM user JOIN task_user ON user = id WHERE task = 4"
  assert [row[0] for row in connection.execute(query)] == ["lea"]
  assert admin.post("/study/tasks", {"id": "4", "users": "pat"})[0] == 303
  assert [row[0] for row in connection.execute(query)] == ["pat"]
  assert admin.post("/study/tasks", {"id": "4", "action": "close"})[0] == 303
  assert admin.post("/study/tasks", {"id": "9", "action": "close"})[0] == 422
  assert admin.post("/study/tasks", {"id": "4", "action": "x"})[0] == 422
  assert [row[0] for row in connection.execute(query)] == ["pat"]
  query = "SELECT active FROM task WHERE id = 4"
  assert connection.execute(query).fetchone()[0] == 0


def test_images_of_two_data_sets_by_name(site):
  server, connection = site
  admin = sites.Browser(server.address, "root")
  with store.transaction(connection):
    query = "UPDATE image SET name = 'a fish.jpeg' WHERE id = 9"
    connection.execute(query)
  names = f"{IMAGES[0]}\n a fish.jpeg\n{IMAGES[1]}"
  sets = (VALIDATION, "v2", "v2")
  form = {"csrf": admin.csrf, "name": "two", "mode": "training", "part": "2"}
  fields = [*form.items(), ("images", names), *(("datasets", x) for x in sets)]
  text = urllib.parse.urlencode(fields).encode()
  assert admin.send("/study/tasks", text)[0] == 303
  query = "SELECT image FROM task_image WHERE task = (SELECT max(id) FROM task)"
  assert {row[0] for row in connection.execute(query)} == {1, 2, 9}


def test_a_model_called_like_a_labeler(tmp_path):
  with contextlib.closing(labels_test.create(tmp_path / "a.db")) as connection:
    labels_test.add_task(connection, "training", {"a": {0: LABELS[0]}})
    before = study.measure(connection, [1])
    with store.transaction(connection):
      query = "UPDATE model SET name = 'human_a' WHERE name = 'alexnet'"
      connection.execute(query)
    found = study.measure(connection, [1])
  assert found.labelers == before.labelers
  rows = {r.name: repr(r.rows) for r in before.results["all"]}
  after = {r.name: repr(r.rows) for r in found.results["all"]}
  assert len(after) == len(rows) == len(found.results["all"])
  assert after["human_a"] == rows["human_a"]


def label_one(page, task, answers):
  """Labels the next image; returns whether there was one."""
  page.goto(f"/label/{task}")
  if not page.locator("#find").count():
    return False
  before = page.url
  index = answers[before.rpartition("/")[2]]
  page.locator("#tree > li").first.wait_for()
  page.fill("#find", human_files.wnid(index))
  page.locator(f"#found button[data-class='{index}']:only-child").click()
  with page.expect_navigation(url=lambda url: url != before):
    page.keyboard.press("Enter")
  return True


def create_task(page, name, mode, sets, sample, images=""):
  page.goto("/study")
  page.get_by_label("Name", exact=True).fill(name)
  page.get_by_label("Mode").select_option(mode)
  for name in (*sets, "lea", "ann"):
    page.get_by_label(name, exact=True).check()
  page.get_by_label("Images drawn").fill(f"{sample}")
  page.get_by_label("Names of images").fill(images)
  page.get_by_role("button", name="Create").click()
  page.get_by_role("link", name="Study").wait_for()


def read_table(page, title):
  """Returns the cells of the table of a section, by row."""
  heading = page.get_by_role("heading", name=title, exact=True)
  rows = page.locator("section", has=heading).locator("tbody tr").all()
  return [row.locator("th, td").all_inner_texts() for row in rows]


def test_a_study_from_its_tasks_to_the_paper(browser, tmp_path):
  path, folder = tmp_path / "a.db", tmp_path / "images"
  sites.write_images(folder, len(IMAGES))
  for i, name in enumerate(IMAGES):
    shutil.copy(folder / f"{i:03}.jpg", folder / f"{name.split('.')[0]}.jpeg")
  with contextlib.closing(labels_test.create(path)) as connection:
    with store.transaction(connection):
      sites.add_users(connection)
      place = json.dumps({"folder": str(folder)})
      connection.execute("UPDATE dataset SET images = ?", (place,))
    rows = connection.execute("SELECT public_id FROM image ORDER BY id")
    public = [row[0] for row in rows]
  site = review_test.Site(path, browser)
  admin, lea, ann = map(site.open, ("root", "lea", "ann"))
  names = "\n".join(IMAGES[:2])
  create_task(admin, "learn", "training", [VALIDATION], 0, names)
  create_task(admin, "test", "evaluation", [VALIDATION, "v2"], 0)
  given = {
    page: dict(zip(public, answers(name).values(), strict=True))
    for page, name in ((lea, "resnet50"), (ann, "vgg16"))
  }
  for task, number in ((1, 2), (2, 11)):
    done = 0
    while all([label_one(page, task, x) for page, x in given.items()]):
      done += 1
      assert all((task == 1) == ("feedback" in page.url) for page in given)
    assert done == number
  admin.goto("/study/2")
  progress = read_table(admin, "Progress")
  assert [row[3:] for row in progress if row[3] != "nobody"] == [
    [name, "11 of 11", "2 of 2"] for name in ("ann", "lea")
  ]
  # Wrong in the order of images: lea 8, 9, 10; ann 2, 8, 9, 12.
  right = {"human_lea": (4, 3), "human_ann": (3, 3), "alexnet": (2, 1)}
  shown = {
    title: {row[0]: row[1:] for row in read_table(admin, title)}
    for title in (VALIDATION, "v2")
  }
  for name, hits in right.items():
    for dataset, hit, n in zip(shown, hits, (4, 6), strict=True):
      row = shown[dataset][name]
      assert (row[0], row[4].split()[0]) == (f"{n}", f"{100 * hit / n:.2f}")
  admin.goto("/study/1")
  curve = dict(read_table(admin, "Learning curve"))  # of one part
  assert curve["human_ann"].split() == ["50%", "1", "of", "2"]
  export = tmp_path / "export.json"
  with admin.expect_download() as download:
    admin.goto("/admin")
    admin.get_by_role("link", name="JSON", exact=True).click()
  download.value.save_as(export)
  site.server.stop()
  tables = [
    labels_test.measure_paper(tmp_path / f"of-{source.name}", source)
    for source in (path, export)
  ]
  assert tables[0] == tables[1]
  both = (datasets.VALIDATION, datasets.MATCHED_FREQUENCY)
  for name in ("human_lea", "human_ann"):
    for dataset, hit, n in zip(both, right[name], (4, 6), strict=True):
      assert tables[0][name, dataset, "all", study.METRIC] == (f"{hit}", f"{n}")
