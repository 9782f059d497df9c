"""Tests of labeling tasks: parts, access, answers, feedback, queueing."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from imgbench import errors
from imgbench.labels import annotations
from imgbench.labels import review_database
from imgbench.review import decide
from imgbench.review import hierarchy
from imgbench.review import labeling
from imgbench.review import status
from imgbench.review import store
from tests.review import sites

CORRECT, WRONG = annotations.CORRECT, annotations.WRONG
NUMBER = 23


@pytest.fixture
def site(tmp_path):
  with contextlib.closing(
    sites.create(tmp_path / "a.db", NUMBER)
  ) as connection:
    yield Site(connection)


class Site:
  """A database with users by name, and what a labeler does."""

  def __init__(self, connection):
    self.connection = connection
    rows = connection.execute("SELECT name, id FROM user")
    self.users = dict(map(tuple, rows))
    self.clients = 0

  def add(self, name="task", mode="evaluation", users=("lea",), **options):
    """Returns the id of a task of all images, or of those named."""
    names = options.pop("names", ())
    with store.transaction(self.connection):
      images = labeling.choose_images(self.connection, "tiny", names=names)
      return labeling.create_task(
        self.connection, name, mode, images, users, **options
      )

  def next(self, task, user="lea", now=1.0):
    with store.transaction(self.connection):
      return labeling.find_next(self.connection, task, self.users[user], now)

  def confirm(self, task, image, chosen=5, user="lea", **given):
    self.clients += 1
    row = {"client": f"c{self.clients}", "ms": 7, "external": False, "now": 2.0}
    with store.transaction(self.connection):
      return labeling.confirm(
        *(self.connection, self.users[user], task, image, chosen), **row | given
      )

  def label(self, task, user="lea", chosen=5):
    """Returns the image that was labeled, and what confirm returned."""
    image = self.next(task, user)
    return image and (image, self.confirm(task, image, chosen, user))

  def describe(self, task, image, user="lea"):
    found = labeling.describe_image
    return found(self.connection, task, self.users[user], image)

  def list(self, user="lea"):
    return labeling.list_tasks(self.connection, self.users[user])

  def fetch(self, query, *values):
    return [tuple(row) for row in self.connection.execute(query, values)]

  def dump(self):
    return [*self.connection.iterdump()]


def vote(site, image, user, state=WRONG, target=3):
  """Reviews an image in a campaign of all."""
  if not site.fetch("SELECT 1 FROM campaign"):
    sites.add_campaign(site.connection)
  event = decide.Event(f"v{image}{user}", "vote", target, state)
  with store.transaction(site.connection):
    decide.apply(site.connection, site.users[user], image, [event], 1)


def test_parts_of_23_images_by_hand(site):
  task = site.add()
  seen, closed = [], []
  for place in range(NUMBER):
    image = site.next(task)
    found = site.describe(task, image)
    part, number = divmod(place, 10)
    assert (found["part"], found["number"]) == (part + 1, number + 1)
    assert (found["parts"], found["size"]) == (3, (10, 10, 3)[part])
    assert (found["previous"] is None) == (number == 0)
    assert found["next"] is None and not found["answered"]
    (row,) = site.list()
    assert (row["images"], row["done"], row["parts"]) == (NUMBER, place, 3)
    assert row["parts_done"] == part
    closed.append(site.confirm(task, image)["closed"])
    seen.append(image)
  assert [i for i, end in enumerate(closed) if end] == [9, 19, 22]
  assert site.next(task) is None
  (row,) = site.list()
  assert (row["done"], row["parts_done"]) == (NUMBER, 3)
  query = "SELECT image FROM task_image ORDER BY position"
  assert seen == [image for (image,) in site.fetch(query)] != sorted(seen)


def test_orders_and_samples_follow_the_seed(site):
  choose = lambda **given: labeling.choose_images(
    site.connection, "tiny", **given
  )
  assert choose() == choose() != choose(seed=1)
  assert sorted(choose()) == sorted(choose(seed=1)) == [*range(1, NUMBER + 1)]
  assert choose(sample=5) == choose()[:5]
  chosen = choose(classes=["n00000001"])
  assert chosen and all((image - 1) % 3 == 1 for image in chosen)
  site.connection.execute("UPDATE class SET subsets = 'dog,x' WHERE id = 2")
  assert all((image - 1) % 3 == 2 for image in choose(subset="dog"))
  site.connection.execute("UPDATE image SET problematic = 'other' WHERE id = 1")
  assert 1 not in choose() and choose(names=["000"]) == [1]
  site.add(names=["001"])
  assert {1, 2}.isdisjoint(choose())
  for bad in (
    *({"sample": 22}, {"sample": -1}, {"names": ["no"]}, {"subset": "do"}),
    *({"classes": ["n9"]}, {"classes": ["n00000003"]}),
  ):
    with pytest.raises(errors.InputError):
      choose(**bad)


@pytest.mark.parametrize(
  "bad",
  [
    {"name": ""},
    {"name": " "},
    {"name": "x" * 65},
    {"name": "known"},
    {"mode": "test"},
    {"part": 0},
    {"users": ["vic"]},
    {"users": ["lea", "nobody"]},
  ],
)
def test_refused_tasks_add_nothing(site, bad):
  site.add("known")
  before = site.dump()
  with pytest.raises(errors.InputError):
    site.add(**({"names": ["001"]} | bad))
  assert site.dump() == before


def test_access(site):
  task = site.add(users=["lea", "ann"])
  image = site.next(task)
  site.confirm(task, image)
  with store.transaction(site.connection):
    labeling.set_popup(site.connection, site.users["ann"], task, "error")
    labeling.set_access(site.connection, task, ["ann", "ben"])
  assert [row["popup"] for row in site.list("ann")] == ["error"]
  assert site.list() == [] and site.describe(task, image) is None
  for user in ("lea", "root"):
    with pytest.raises(errors.InputError):
      site.next(task, user)
    with pytest.raises(errors.InputError):
      site.confirm(task, image, user=user)
  with store.transaction(site.connection):
    labeling.set_access(site.connection, task, ["lea"])
  assert site.list()[0]["done"] == 1
  site.connection.execute("UPDATE task SET active = 0")
  assert site.list() == [] and site.describe(task, image) is None
  with pytest.raises(errors.InputError):
    site.next(task)


def test_nobody_gets_an_image_that_they_reviewed(site):
  vote(site, 4, "ann")
  vote(site, 5, "ben")
  with store.transaction(site.connection):
    decide.undo(site.connection, site.users["ben"], "u", 1)
  task = site.add(users=["ann", "ben"])
  for user, count in (("ann", NUMBER - 1), ("ben", NUMBER)):
    (row,) = site.list(user)
    assert (row["images"], row["parts"]) == (count, 3)
  images = []
  while found := site.label(task, "ann"):
    images.append(found[0])
  assert sorted(images) == [i for i in range(1, NUMBER + 1) if i != 4]
  assert site.list("ann")[0]["parts_done"] == 3
  other = site.add("other", users=["ann", "lea"], names=["003", "004"])
  assert site.next(other, "ann") is None
  assert site.list("ann")[1]["images"] == 0
  assert site.next(other, "lea") in (4, 5)


def test_a_part_ends_when_what_is_left_was_reviewed(site):
  task = site.add(users=["ann"], names=["000", "001", "002"])
  first, _ = site.label(task, "ann")
  for image in {1, 2, 3} - {first}:
    vote(site, image, "ann")
  assert site.describe(task, first, "ann")
  # The page that ends the part has to be offered.
  (row,) = site.list("ann")
  assert (row["done"], row["images"], row["parts_done"]) == (1, 1, 0)
  assert site.next(task, "ann") is None
  assert site.describe(task, first, "ann") is None
  assert site.list("ann")[0]["parts_done"] == 1
  # An undo makes an image eligible again, but opens nothing.
  with store.transaction(site.connection):
    decide.undo(site.connection, site.users["ann"], "u", 1)
  later = site.next(task, "ann")
  assert later != first
  found = site.describe(task, later, "ann")
  assert (found["number"], found["previous"]) == (2, None)
  assert site.confirm(task, later, user="ann")["closed"]


def test_a_reviewer_learns_nothing_of_an_image_of_an_open_part(site):
  task, user = site.add(users=["pat"], part=2), site.users["pat"]
  campaign = sites.add_campaign(site.connection)
  image = site.next(task, "pat")
  first = "UPDATE item SET position = -1 WHERE image = ?"
  site.connection.execute(first, (image,))
  ((public,),) = site.fetch("SELECT public_id FROM image WHERE id = ?", image)
  key = (site.connection, campaign, 3, user, 1.0)
  listed = lambda: public in [row["image"] for row in decide.list_grid(*key)]

  assert decide.describe_item(site.connection, campaign, image, 1)
  for _ in range(2):
    with pytest.raises(decide.LeaseError):
      decide.describe_item(site.connection, campaign, image, user)
    with pytest.raises(decide.LeaseError):
      decide.describe_case(site.connection, image, user)
    assert not listed()
    assert decide.lease_next(site.connection, campaign, user, 1.0) != image
    # Until its part is closed.
    site.confirm(task, image, user="pat")
  site.label(task, "pat")
  assert decide.describe_item(site.connection, campaign, image, user)
  assert decide.describe_case(site.connection, image, user) and listed()
  assert decide.lease_next(site.connection, campaign, user, 1.0) == image


def test_evaluation_allows_the_way_back_within_a_part_only(site):
  task = site.add(part=3)
  first, second = site.next(task), None
  site.confirm(task, first, 5)
  second = site.next(task)
  back = site.describe(task, first)
  assert (back["selected"], back["selected_name"]) == (5, sites.CLASSES[5])
  assert back["next"] == site.describe(task, second)["image"]
  assert site.next(task) == second
  answer = site.confirm(task, first, 4, ms=10, now=9.0)
  assert answer == {"feedback": False, "closed": False, "next": back["next"]}
  query = "SELECT class, ms, confirmed, final FROM answer WHERE image = ?"
  assert site.fetch(query, first) == [(4, 17, 9.0, 0)]
  site.confirm(task, second)
  assert site.label(task)[1]["closed"]
  fourth = site.next(task)
  before = site.dump()
  for image in (first, second):
    assert site.describe(task, image) is None
    with pytest.raises(decide.LeaseError):
      site.confirm(task, image, 3)
  assert site.describe(task, fourth)["previous"] is None
  with pytest.raises(errors.InputError):
    site.confirm(task, ({*range(1, NUMBER)} - set(site_images(site))).pop())
  assert site.dump() == before
  user = site.users["lea"]
  give = labeling.give_feedback
  assert give(site.connection, task, user, first) is None
  with pytest.raises(errors.InputError):
    suggest(site, task, first)
  # Undo is for reviews; it takes back no answer.
  with store.transaction(site.connection):
    assert decide.undo(site.connection, user, "undo", None) is None
  assert site.dump() == before


def site_images(site):
  return [image for (image,) in site.fetch("SELECT image FROM answer")]


def suggest(site, task, image, user="lea", **given):
  row = {"state": None, "problematic": "", "note": ""} | given
  with store.transaction(site.connection):
    labeling.suggest(site.connection, site.users[user], task, image, **row)


@pytest.mark.parametrize("mode", labeling.MODES)
def test_a_confirmation_counts_once(site, mode):
  task = site.add(mode=mode)
  image = site.next(task)
  answer = site.confirm(task, image, 4, client="same")
  before = site.dump()
  assert site.confirm(task, image, 4, client="same", now=8.0) == answer
  assert site.confirm(task, image, 3, client="same") == answer
  assert site.dump() == before
  second = site.next(task)
  for bad in (
    *({"client": "same"}, {"client": ""}, {"client": "x" * 65}, {"ms": -1}),
    *({"ms": 1 << 40}, {"chosen": 99}, {"external": True}),
  ):
    with pytest.raises(errors.InputError):
      site.confirm(task, second, **bad)
  assert site.describe(task, second)["selected"] is None
  if mode == "training":
    with pytest.raises(decide.LeaseError):
      site.confirm(task, image, 3)


def test_times_and_other_sources(site):
  task = site.add(external=True)
  image = site.next(task, now=100.0)
  assert site.next(task, now=105.0) == image
  site.confirm(task, image, ms=3, external=True, now=110.0)
  site.confirm(task, image, ms=4, now=120.0)
  query = "SELECT shown, confirmed, ms, external FROM answer"
  assert site.fetch(query) == [(100.0, 120.0, 7, 1)]
  assert site.fetch("SELECT ms, time FROM confirmation ORDER BY time") == [
    *((3, 110.0), (4, 120.0))
  ]


@pytest.mark.parametrize("popup", labeling.POPUPS)
def test_popup_rules(site, popup):
  # Image 22 was reviewed: its label 0 is correct, 3 and 4 are wrong.
  task = site.add(mode="training", names=["000", "001", "021"])
  with store.transaction(site.connection):
    labeling.set_popup(site.connection, site.users["lea"], task, popup)
  cases = {1: (0, True), 2: (2, False), 22: (0, True)}
  for _ in cases:
    image = site.next(task)
    chosen, right = cases[image]
    shown = site.confirm(task, image, chosen)["feedback"]
    assert shown == {"always": True, "error": not right, "never": False}[popup]
    found = labeling.give_feedback(site.connection, task, 3, image)
    assert found is None  # of another user
    found = labeling.give_feedback(
      site.connection, task, site.users["lea"], image
    )
    assert found["right"] == right and found["own"]["class"] == chosen
    assert site.describe(task, image)["answered"]
  with pytest.raises(errors.InputError), store.transaction(site.connection):
    labeling.set_popup(site.connection, site.users["lea"], task, "often")


@pytest.mark.parametrize(
  ("label", "other", "right"),
  [(0, 0, False), (3, 0, False), (1, 3, True), (1, 2, True), (1, 1, False)],
)
def test_feedback_says_what_reviewers_decided(site, label, other, right):
  task = site.add(mode="training", names=["000"])
  query = "UPDATE prediction SET state = ? WHERE image = 1 AND class = ?"
  for state, target in ((label, 0), (other, 3), (WRONG, 4)):
    site.connection.execute(query, (state, target))
  site.connection.execute("UPDATE image SET problematic = 'edited'")
  site.label(task, chosen=3)
  found = labeling.give_feedback(site.connection, task, site.users["lea"], 1)
  assert found["right"] == right and found["problem"] == "edited"
  assert (found["own"]["class"], found["own"]["state"]) == (3, other)
  assert (found["label"]["class"], found["label"]["state"]) == (0, label)
  assert [(x["class"], x["state"]) for x in found["others"]] == [(4, WRONG)]


def test_suggestions_are_no_votes(site):
  names = ["000"]
  task = site.add(mode="training", names=names, users=["lea", "pat"])
  with pytest.raises(errors.InputError):
    suggest(site, task, 1)
  for user in ("lea", "pat"):
    site.label(task, user)
  votes = site.fetch("SELECT * FROM vote")
  for user in ("lea", "pat"):
    given = {"state": CORRECT, "problematic": "edited", "note": "a note"}
    suggest(site, task, 1, user, **given)
    found = labeling.give_feedback(site.connection, task, site.users[user], 1)
    assert (found["suggestion"], found["note"]) == (CORRECT, "a note")
  query = "SELECT image, category FROM category"
  assert site.fetch(query) == [(1, labeling.SUGGESTED)]
  with store.transaction(site.connection):
    assert decide.undo(site.connection, site.users["pat"], "u", None) is None
  suggest(site, task, 1, "pat")
  assert site.fetch(query) == [(1, labeling.SUGGESTED)]
  suggest(site, task, 1)
  assert site.fetch(query) == [] and site.fetch("SELECT * FROM vote") == votes
  for bad in ({"state": 5}, {"problematic": "no"}, {"note": "x" * 2_001}):
    with pytest.raises(errors.InputError):
      suggest(site, task, 1, **bad)


def test_classes_are_queued_for_review_when_answers_are_final(site):
  sites.add_campaign(site.connection)
  rows = lambda: site.fetch(
    "SELECT image, models, state FROM prediction WHERE class = 5"
  )
  task = site.add(part=2, names=["000", "001", "021"], users=["lea", "ann"])
  first, _ = site.label(task)
  assert rows() == []
  second, _ = site.label(task)
  assert rows() == [(image, 0, 0) for image in sorted((first, second))]
  found = decide.describe_item(site.connection, 1, 1, site.users["ann"])
  queued = 5 in [row["class"] for row in found["rows"]]
  assert queued == (1 in (first, second))
  site.label(task)
  is_open = site.fetch("SELECT image FROM item WHERE open")
  assert {image for image, *_ in rows()} == {1, 2, 22}
  assert {(1,), (2,)} <= set(is_open)


def test_progress_reads_no_list_of_all_events_of_a_user(site):
  query = "EXPLAIN QUERY PLAN SELECT count(*) FROM eligible WHERE user = 1"
  plan = " ".join(row[3] for row in site.fetch(query))
  assert "event_image" in plan and "event_user" not in plan


def test_two_labelers_are_independent(site):
  task = site.add(users=["lea", "ann"], part=2)
  orders = {"lea": [], "ann": []}
  for step in range(NUMBER):
    for user, chosen in (("lea", 3), ("ann", 4)):
      image, answer = site.label(task, user, chosen)
      orders[user].append(image)
      assert answer["closed"] == (step % 2 == 1 or step == NUMBER - 1)
  assert orders["lea"] == orders["ann"]
  query = "SELECT DISTINCT class FROM answer WHERE user = ?"
  for user, chosen in (("lea", 3), ("ann", 4)):
    assert site.fetch(query, site.users[user]) == [(chosen,)]


def test_a_killed_process_leaves_all_of_an_answer_or_nothing(site, tmp_path):
  task = site.add(part=1, names=["000", "001"])
  image = site.next(task)
  code = f"""
import os, signal
from imgbench.review import labeling, store
connection = store.open_database({str(tmp_path / "a.db")!r})
with store.transaction(connection):
  labeling.confirm(connection, {site.users["lea"]}, {task}, {image}, 5,
                   client="a", ms=1, external=False, now=2.0)
  os.kill(os.getpid(), signal.SIGKILL)
"""
  before = site.dump()
  run = subprocess.run(
    [sys.executable, "-c", code], cwd=os.getcwd(), check=False
  )
  assert run.returncode == -signal.SIGKILL
  assert site.dump() == before
  assert site.next(task) == image
  assert site.confirm(task, image, client="a")["closed"]


def test_class_pages_show_the_hierarchy_and_no_image_of_a_task(site, tmp_path):
  rows = [(f"n{i:08}", "fish", "", "") for i in range(3)]
  with store.transaction(site.connection):
    hierarchy.write(site.connection, [*rows, ("fish", "", "fishes", "")])
  (shown,) = site.fetch("SELECT public_id FROM image WHERE id = 22")[0]
  with sites.Server(tmp_path / "a.db") as server:
    browser = sites.Browser(server.address, "ann")
    read = lambda: browser.get("/class/n00000000")[2].decode()
    assert f"/images/{shown}" in read() and "/class/n00000002" not in read()
    with store.transaction(site.connection):
      more = [(f"n{i:08}", "", "", "") for i in range(3, 6)]
      hierarchy.write(
        site.connection, [*rows, *more, ("fish", "", "fishes", "")]
      )
    assert "fishes" in read() and "/class/n00000002" in read()
    assert "/class/n00000003" not in read()
    site.add(names=["021"])
    assert shown not in read()


def test_two_processes_may_migrate_at_once(tmp_path, monkeypatch):
  first = store.list_migrations()[:1]
  path = tmp_path / "a.db"
  with monkeypatch.context() as patch:
    patch.setattr(store, "list_migrations", lambda: first)
    sites.create(path).close()
  check = review_database.check

  def be_slower(*given):
    version = check(*given)
    monkeypatch.setattr(review_database, "check", check)
    store.open_database(path).close()
    return version

  monkeypatch.setattr(review_database, "check", be_slower)
  store.open_database(path).close()
  assert check(path, "--db", 2) == 2


def test_an_older_database_is_read_and_migrated(tmp_path, monkeypatch):
  first = store.list_migrations()[:1]
  with monkeypatch.context() as patch:
    patch.setattr(store, "list_migrations", lambda: first)
    sites.create(tmp_path / "a.db").close()
  shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
  path = tmp_path / "a.db"
  newest = review_database.NEWEST
  assert review_database.check(path, "--db", newest) == 1
  old = review_database.read(path)
  with review_database.open_read_only(path) as connection:
    assert status.count(connection)["images"] == 8
    with pytest.raises(sqlite3.OperationalError):
      connection.execute("SELECT * FROM task")
  with contextlib.closing(store.open_database(path)) as connection:
    site = Site(connection)
    assert site.label(site.add())[1]["closed"] is False
  assert review_database.check(path, "--db", newest) == newest == 2
  new = review_database.read(path)
  assert len(new.pop(review_database.LABELS)) == 2 and new == old
