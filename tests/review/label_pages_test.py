"""Pages of labelers over HTTP: access, closed parts, and what they tell."""

import contextlib
import shutil
import uuid

import pytest

from imgbench.review import store
from tests.review import server_test
from tests.review import sites

TRAINING, EVALUATION = 1, 2
ANSWERS = "SELECT place, class, ms FROM answer ORDER BY task, place"


@pytest.fixture(name="path")
def fixture_path(tmp_path):
  """A database with a training and an evaluation task of the same images."""
  with contextlib.closing(sites.create(tmp_path / "a.db", 16)) as connection:
    sites.add_task(connection, "train", users=("lea", "ann"), external=True)
    sites.add_task(connection, "test", "evaluation", users=("lea", "ben"))
  return tmp_path / "a.db"


@pytest.fixture(name="server")
def fixture_server(path):
  with sites.Server(path) as server:
    yield server


def give(browser, task):
  """Returns the id of the image that comes next; None: all are done."""
  status, headers, _ = browser.get(f"/label/{task}")
  return headers["location"].rpartition("/")[2] if status == 303 else None


def post(browser, task, image, number, **more):
  content = {"client": str(uuid.uuid4()), "task": task, "image": image}
  content |= {"class": number, "ms": 1200, "external": False, **more}
  return browser.json("/api/label", content)


def test_only_users_with_access_label(server, path):
  lea, ann, ben = (
    sites.Browser(server.address, name) for name in ("lea", "ann", "ben")
  )
  image = give(lea, EVALUATION)
  place, popup = f"/label/{EVALUATION}/{image}", f"/label/{TRAINING}/popup"
  assert lea.get(place)[0] == 200
  # Not given, no access, another task, no such task.
  assert ben.get(place)[0] == ann.get(place)[0] == 404
  assert ann.get(f"/label/{EVALUATION}")[0] == 404
  assert lea.get(f"/label/{TRAINING}/{image}")[0] == 404
  tasks = (EVALUATION, 3, 10**30)
  assert [post(ann, task, image, 3)[0] for task in tasks] == [422] * 3
  codes = [ann.post(popup, {"popup": x})[0] for x in ("never", "x")]
  assert codes == [303, 422] == [303, ben.post(popup, {"popup": "never"})[0]]
  query = "SELECT user, task FROM task_user WHERE popup = 'never'"
  assert server_test.read(path, query) == [(1, TRAINING)]
  homes = [browser.get("/")[2] for browser in (ann, lea)]
  assert [b"/label/2" in home for home in homes] == [False, True]
  lea.csrf = "x"
  assert post(lea, EVALUATION, image, 3)[0] == 403
  assert server_test.read(path, ANSWERS) == [(0, None, 0)]


def test_wrong_and_repeated_requests_change_nothing(server, path):
  lea = sites.Browser(server.address, "lea")
  image, huge, half = give(lea, TRAINING), 10**30, "\ud800"
  other = {"image": store.hide_name(sites.SECRET, "tiny", "015")}
  for more in (
    {"number": 6}, {"number": huge}, {"number": "3"}, {"number": None},
    {"ms": -1}, {"ms": 1.5}, {"ms": huge}, {"client": ""},
    {"client": "a" * 65}, {"client": half}, {"external": 1}, other,
  ):  # fmt: skip
    given = {"image": image, "number": 3, **more}
    assert post(lea, TRAINING, **given)[0] == 422, more
  assert post(lea, TRAINING, "none", 3)[0] == 404
  assert lea.json("/api/label", {"client": "a"})[0] == 422
  content = {"task": TRAINING, "image": image, "state": 3, "note": "a note"}
  content["problematic"] = "edited"
  suggest = lambda **more: lea.json(
    "/api/label/suggestion", {**content, **more}
  )
  feedback = f"/label/{TRAINING}/{image}/feedback"
  # Before the answer.
  assert suggest()[0] == 422 and lea.get(feedback)[0] == 404
  assert server_test.read(path, ANSWERS) == [(0, None, 0)]
  given = {"external": True, "client": "a"}
  answers = [post(lea, TRAINING, image, 3, **given) for _ in range(3)]
  assert answers == [(200, {"next": feedback})] * 3
  assert post(lea, TRAINING, image, 4)[0] == 409
  assert server_test.read(path, ANSWERS) == [(0, 3, 1200)]
  for more in (
    {"state": 5}, {"state": "3"}, {"problematic": "x"}, {"note": half},
    {"note": "a" * 2001}, {"task": EVALUATION}, other,
  ):  # fmt: skip
    assert suggest(**more)[0] == 422, more
  assert suggest() == (200, {})
  query = "SELECT suggestion, problematic, note FROM answer"
  assert server_test.read(path, query) == [(3, "edited", "a note")]


def test_a_part_can_be_ended_when_what_is_left_was_reviewed(server, path):
  ben = sites.Browser(server.address, "ben")
  post(ben, EVALUATION, give(ben, EVALUATION), 3)
  with contextlib.closing(store.open_database(path)) as connection:
    campaign = sites.add_campaign(connection)
    query = "SELECT public_id FROM eligible JOIN image ON image.id = image"
    left = connection.execute(f"{query} WHERE task = 2 AND user = 2").fetchall()
  assert len(left) == 12
  for (image,) in left:
    assert ben.vote(image, {3: 1}, campaign)[0] == 200
  link = f'href="/label/{EVALUATION}"'.encode()
  places = ("/", f"/label/{EVALUATION}/done")
  assert [link in ben.get(place)[2] for place in places] == [True, True]
  assert give(ben, EVALUATION) is None
  assert [link in ben.get(place)[2] for place in places] == [False, False]
  assert server_test.read(path, "SELECT final FROM answer") == [(1,)]


def test_an_evaluation_tells_nothing_of_labels(path, tmp_path):
  """Databases that differ in labels and reviews; closed parts stay shut."""
  other, found = tmp_path / "b.db", []
  shutil.copy(path, other)
  with contextlib.closing(store.open_database(other)) as connection:
    run = connection.execute
    run("UPDATE image SET label = 5 - label WHERE id < 14")
    run("UPDATE prediction SET state = 3, imported = 3 WHERE image < 14")
    run("UPDATE image SET problematic = 'edited' WHERE id = 2")
  for database in (path, other):
    answers, images = [], []
    with sites.Server(database) as server:
      lea = sites.Browser(server.address, "lea")
      for number in range(13):
        images.append(give(lea, EVALUATION))
        answers += [
          post(lea, EVALUATION, images[-1], x) for x in (number % 3, 4)
        ]
        closed = number in (9, 12)
        opened = [] if closed else images[number // 10 * 10 :]
        assert answers[-1][0] == (409 if closed else 200)
        paths = [f"/label/{EVALUATION}{x}" for x in ("", "/done")]
        paths += [f"/label/{EVALUATION}/{x}/feedback" for x in images]
        paths += ["/", "/class/n00000000", "/search?q=a", "/api/classes"]
        for place in [*paths, *(f"/label/{EVALUATION}/{x}" for x in images)]:
          status, headers, body = lea.get(place)
          shut = place.endswith("feedback") or place[-20:] in images
          assert status != 200 or not shut or place[-20:] in opened
          body = body.replace(lea.csrf.encode(), b"")
          kept = [item for item in headers.items() if item[0] != "date"]
          answers.append((place, status, kept, body))
      assert {post(lea, EVALUATION, image, 5)[0] for image in images} == {409}
    found.append(answers)
  assert len(found[0]) > 250 and len(set(images)) == 13
  assert [a for a, b in zip(*found, strict=True) if a != b] == []
