"""A server process on a database, and its answers over HTTP."""

import concurrent.futures
import contextlib
import http.client
import io
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import uuid

from PIL import Image
import pytest

from imgbench.review import decide
from imgbench.review import store
from imgbench.review.server import app
from imgbench.review.server import auth
from tests.review import sites

WRONG, CORRECT = 1, 3


@pytest.fixture(name="path")
def fixture_path(tmp_path):
  path = tmp_path / "a.db"
  with contextlib.closing(sites.create(path)) as connection:
    sites.add_campaign(connection)
  return path


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory):
  """A server that tests share; they review different images."""
  path = tmp_path_factory.mktemp("server") / "a.db"
  with contextlib.closing(sites.create(path, 20)) as connection:
    sites.add_campaign(connection)
  with sites.Server(path) as server:
    yield server


def read(path, query, *values):
  """Returns the rows of a query, read by another process's connection."""
  with contextlib.closing(store.open_database(path)) as connection:
    return [tuple(row) for row in connection.execute(query, values)]


def list_routes():
  """Returns (method, path with values) of all routes."""
  image = store.hide_name(sites.SECRET, "tiny", "000")
  values = {"campaign": "1", "task": "1", "image": image}
  values |= {"class": "3", "token": "none"}
  found = []
  for route in app.create_app(None).routes:
    fill = lambda match: values.get(match[1], "none")
    path = re.sub(r"\{(\w+)(:\w+)?\}", fill, route.path)
    methods = getattr(route, "methods", None) or {"GET"}
    found += [(m, path) for m in sorted(methods & {"GET", "POST"})]
  return found


# Written by hand, not derived from auth.ACCESS: who may open what.
MAY = {
  "login invitation static": "*",
  "": "viewer labeler reviewer panel admin",
  "logout help": "viewer labeler reviewer panel admin",
  "review events undo grid history": "reviewer panel admin",
  "guide class search images": "viewer labeler reviewer panel admin",
  "label classes": "labeler reviewer panel admin",
  "panel": "panel admin",
  "metrics problematic categories releases study": "viewer admin",
  "admin": "admin",
}


def test_roles_of_all_routes(server):
  browsers = {
    role: sites.Browser(server.address, user)
    for user, role in sites.USERS.items()
    if user != "ben"
  }
  allowed = {p: roles for key, roles in MAY.items() for p in key.split(" ")}
  assert allowed.keys() == {n for n in auth.ACCESS if " " not in n}
  for method, path in list_routes():
    part = path.removeprefix("/api").split("/")[1]
    if part == "logout":
      continue
    owned = method + part in ("POSTreleases", "POSTstudy")
    roles = "admin" if owned else allowed[part]
    for role, browser in [
      *browsers.items(),
      ("", sites.Browser(server.address)),
    ]:
      if method == "GET":
        status, headers, _ = browser.get(path)
      else:
        status, headers, _ = browser.post(path, {})
      login = status == 401 or headers["location"] == "/login"
      refused = login if not role else status == 403
      if roles == "*":
        assert not login and status in (200, 307, 403, 404), (path, role)
      else:
        assert refused == (role not in roles.split()), (path, role, status)
      assert status < 500, (path, role)
      assert "default-src 'none'" in headers["content-security-policy"]
      assert headers["x-content-type-options"] == "nosniff"


def test_unknown_paths_are_not_found(server):
  browser = sites.Browser(server.address, "root")
  for path in (
    *("/nothing", "/api", "/api/nothing", "/images/../a.db", "/images/%2e%2e"),
    *("/images/..%2f..%2fa.db", "/images//etc/passwd", "/images/000.jpg"),
    *("/static/../app.py", "/static/..%2fapp.py", "/review/x"),
    *("/api/review/1/none", "/api/review/99/none", "/api/panel/none"),
  ):
    assert browser.get(path)[0] == 404, path


def test_a_write_needs_the_token_of_its_session(server):
  ann, ben = (sites.Browser(server.address, user) for user in ("ann", "ben"))
  image, token = ann.next(), ann.csrf
  for csrf in ("", "x", ben.csrf):
    ann.csrf = csrf
    assert ann.vote(image, {3: WRONG})[0] == 403
    assert ann.post("/logout", {})[0] == 403
  ann.csrf = token
  assert ann.vote(image, {3: WRONG})[0] == 200
  (cookie,) = ann.cookies
  assert cookie.has_nonstandard_attr("HttpOnly")
  assert cookie.get_nonstandard_attr("SameSite").lower() == "strict"
  status, headers, _ = ann.post("/logout", {})
  assert (status, headers["location"]) == (303, "/login")
  assert ann.get("/history")[0] == 303


def test_only_its_own_host_names(server):
  browser = sites.Browser(server.address)
  for host in ("localhost", "127.0.0.1:1", "[::1]", "LOCALHOST:80"):
    assert browser.get("/login", Host=host)[0] == 200
  for host in ("example.org", "127.0.0.1.example.org:80", "", "a:b", "[x]"):
    assert browser.get("/login", Host=host)[0] == 400


def test_wrong_passwords_are_limited(server):
  browser = sites.Browser(server.address)
  browser.get("/login")
  log_in = lambda password: browser.post(
    "/login", {"name": "Lea", "password": password}
  )
  tries = [log_in("wrong")[0] for _ in range(6)]
  assert tries == [403] * 5 + [429]
  assert log_in(sites.PASSWORD)[0] == 429
  assert sites.Browser(server.address, "vic").get("/search")[0] == 200


def test_tries_of_many_addresses_or_at_once_are_limited(path):
  with sites.Server(path) as server:
    browser = sites.Browser(server.address)
    browser.get("/login")

    def log_in(number, name="ben", **headers):
      form = {"name": name, "password": "wrong", "csrf": browser.csrf}
      body = urllib.parse.urlencode(form).encode()
      return browser.send("/login", body, **headers)[0]

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
      found = list(pool.map(lambda n: log_in(n, "ann"), range(12)))
    assert sorted(found) == [403] * 5 + [429] * 7
    claimed = [log_in(n, X_Forwarded_For=f"10.0.0.{n}") for n in range(22)]
    assert claimed == [403] * 20 + [429] * 2
    # Those that succeed do not count.
    for _ in range(6):
      sites.Browser(server.address, "vic")


def test_a_new_role_password_or_deactivation_holds_at_once(server):
  root, zoe, old = sites.Browser(server.address, "root"), None, None
  for role, password in (("panel", "one password"), ("viewer", "another one")):
    form = {"action": "invite", "name": "zoe", "role": role}
    page = root.post("/admin/users", form)[2]
    link = re.search(rb"/invitation/[\w-]+", page).group().decode()
    zoe, old = sites.Browser(server.address), zoe
    assert zoe.get(link)[0] == 200
    assert zoe.post(link, {"password": "short"})[0] == 422
    if old:  # The role changes at once, the session ends with the password.
      assert old.get("/panel/none")[0] == 403
      assert old.get("/search")[0] == 200
    assert zoe.post(link, {"password": password})[0] == 303
    zoe.csrf = zoe.read_csrf()
    assert zoe.get(link)[0] == zoe.post(link, {"password": password})[0] == 404
    if old:
      assert old.get("/search")[0] == 401
  form = {"action": "role", "name": "zoe", "role": "reviewer"}
  assert root.post("/admin/users", form)[0] == 303
  assert zoe.get("/review/1")[0] == 303
  form = {"action": "deactivate", "name": "zoe"}
  assert root.post("/admin/users", form)[0] == 303
  assert zoe.get("/search")[0] == 401
  # Invited again, but without a password yet.
  assert (
    root.post("/admin/users", {**form, "action": "invite", "role": "panel"})[0]
    == 200
  )
  assert zoe.get("/search")[0] == 401
  for form in (
    {"action": "deactivate", "name": "root"},
    {"action": "role", "name": "nobody", "role": "viewer"},
    {"action": "role", "name": "zoe"},
    {"action": "invite", "name": "new", "role": "king"},
  ):
    assert root.post("/admin/users", form)[0] == 422


def test_bodies_are_limited(server):
  browser = sites.Browser(server.address, "ann")
  image = browser.next()
  content = {"campaign": 1, "image": image, "events": [], "x": "x" * (1 << 20)}
  assert browser.json("/api/events", content)[0] == 413
  for bad in (
    [1],
    {"image": image},
    {"campaign": "1", "image": image, "events": []},
    {"campaign": 1, "image": image, "events": [{}]},
    {"campaign": 1, "image": image, "events": [{"client": "a", "kind": 1}]},
    {"campaign": 1, "image": image, "events": [{"x": 1}]},
  ):
    status, answer = browser.json("/api/events", bad)
    assert (status, list(answer)) == (422, ["error"])
  status, answer = browser.vote(image, {5: WRONG})
  assert status == 422 and "target" in answer["error"]
  # What no JSON decoder or SQLite takes.
  vote = {"client": "a", "kind": "vote", "target": 3, "state": 1}
  huge, half = 10**30, "\ud800"
  for bad in (
    *({"target": huge}, {"note": half}, {"client": half}, {"client": "a" * 65}),
  ):
    content = {"campaign": 1, "image": image, "events": [{**vote, **bad}]}
    assert browser.json("/api/events", content)[0] == 422, bad
  for bad in (
    *({"campaign": huge}, {"client": half}, {"client": ""}),
    {"client": "a" * 65},
  ):
    assert browser.json("/api/undo", {"client": "a", **bad})[0] == 422, bad
  headers = {"X_CSRF_Token": browser.csrf}
  assert browser.send("/api/events", b"[" * 100_000, **headers)[0] == 422
  for place in (f"/review/{huge}", f"/grid/{huge}", f"/grid/1/{huge}"):
    assert browser.get(place)[0] == 422


def test_two_reviewers_and_the_panel(path):
  with contextlib.closing(store.open_database(path)) as connection:
    sites.add_campaign(connection, "all agree", "unanimous", 2)
  with sites.Server(path) as server:
    ann, ben, pat = (
      sites.Browser(server.address, user) for user in ("ann", "ben", "pat")
    )
    image, other = ann.next(2), ben.next(2)
    assert image != other
    status, answer = ben.vote(image, {3: WRONG}, 2)
    assert (status, list(answer)) == (409, ["error"])
    before = ben.json(f"/api/review/2/{image}")
    flag = (3, "edited")
    status, answer = ann.vote(image, {3: WRONG, 4: 4, -1: flag}, 2, save=True)
    assert status == 200 and answer["applied"] == 4
    assert answer["state"]["problem"] == {"reason": "edited", "note": ""}
    assert ann.next(2) not in (image, other)
    after = ben.json(f"/api/review/2/{image}")
    assert before == after
    assert ben.vote(image, {3: CORRECT, 4: WRONG}, 2, save=True)[0] == 200
    assert ann.json(f"/api/panel/{image}")[0] == 403
    assert ann.vote(image, {3: WRONG}, kind="panel")[0] == 403
    status, case = pat.json(f"/api/panel/{image}")
    assert [row["class"] for row in case["rows"]] == [3]
    assert case["rows"][0]["votes"] is None is case["problem"]["votes"]
    states = {3: CORRECT, -1: WRONG}
    status, answer = pat.vote(image, states, None, kind="panel")
    (row,) = answer["state"]["rows"]
    assert row["votes"] == [[WRONG, ""], [CORRECT, ""]]
    assert answer["state"]["problem"]["votes"] == [[3, "edited"]]
    assert pat.vote(image, {4: WRONG}, None, kind="panel")[0] == 422
    query = (
      "SELECT class, state, p.panel, problematic FROM prediction p"
      " JOIN image i ON i.id = p.image WHERE public_id = ? AND class > 2"
    )
    assert read(path, query, image) == [(3, 3, 0, None), (4, 0, 0, None)]
    content = {"client": "undo 1", "campaign": None}
    for _ in range(2):  # The second one came again.
      assert pat.json("/api/undo", content)[1]["image"] == image
    assert read(path, query, image)[0] == (3, 3, 0, None)
    assert read(path, "SELECT panel FROM image WHERE public_id = ?", image) == [
      (1,)
    ]


def test_a_write_that_is_sent_again_counts_once(server):
  ann = sites.Browser(server.address, "ann")
  image = ann.next()
  event = {"client": str(uuid.uuid4()), "kind": "vote", "target": 3, "state": 1}
  content = {"campaign": 1, "image": image, "events": [event]}
  answers = [ann.json("/api/events", content)[1] for _ in range(3)]
  assert [answer["applied"] for answer in answers] == [1, 0, 0]
  assert answers[0]["state"] == answers[1]["state"]


def test_own_categories_are_there_after_a_reload(path):
  with sites.Server(path) as server:
    ann, ben = (sites.Browser(server.address, name) for name in ("ann", "ben"))
    image = ann.next()
    for category, state, expected in (
      ("crowded", CORRECT, ["crowded"]),
      ("drawing", CORRECT, ["crowded", "drawing"]),
      ("crowded", 0, ["drawing"]),
    ):
      status, _ = ann.vote(image, {-1: (state, category)}, kind="category")
      assert status == 200
      found = ann.json(f"/api/review/1/{image}")[1]
      assert found["categories"] == expected
    assert ben.json(f"/api/review/1/{image}")[1]["categories"] == []


def test_pages_are_read_while_somebody_writes(path):
  with sites.Server(path) as server:
    ann = sites.Browser(server.address, "ann")
    image = ann.next()
    opened = contextlib.closing(store.open_database(path))
    with opened as other, store.transaction(other):
      other.execute("UPDATE user SET role = 'viewer' WHERE name = 'ben'")
      assert ann.json(f"/api/review/1/{image}")[0] == 200
      assert ann.get(f"/review/1/{image}")[0] == 200
    assert ann.vote(image, {3: WRONG})[0] == 200


def test_previous_and_next_follow_what_the_user_saved(server):
  ann = sites.Browser(server.address, "pat")
  seen = []
  for _ in range(3):
    seen.append(ann.next())
    ann.vote(seen[-1], {3: WRONG}, save=True)
  states = [ann.json(f"/api/review/1/{image}")[1] for image in seen]
  walk = [(state["previous"], state["next"]) for state in states]
  assert walk == [(None, seen[1]), (seen[0], seen[2]), (seen[1], None)]
  assert ann.json(f"/api/review/1/{ann.next()}")[1]["previous"] == seen[2]
  assert states[0]["images"] == {"saved": 3, "open": 15}


def test_images_have_no_metadata_and_faults_are_404(path):
  folder = path.parent / "images"
  names = [store.hide_name(sites.SECRET, "tiny", f"{i:03}") for i in range(5)]
  original = folder.joinpath("000.jpg").read_bytes()
  folder.joinpath("001.jpg").unlink()
  folder.joinpath("002.jpg").write_bytes(original[:300])
  folder.joinpath("003.jpg").unlink()
  folder.joinpath("003.jpg").symlink_to(path)
  Image.new("RGB", (32, 90), "red").save(folder / "004.jpg")
  with sites.Server(path) as server:
    ann = sites.Browser(server.address, "ann")
    status, headers, body = ann.get(f"/images/{names[0]}")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert headers["cache-control"].startswith("private")
    image = Image.open(io.BytesIO(body))
    assert b"name 0" in original and b"name 0" not in body
    assert image.size == (96, 80) and not image.getexif()
    for name in names[1:4]:
      status, _, body = ann.get(f"/images/{name}")
      assert status == 404 and list(json.loads(body)) == ["error"]
    assert ann.get(f"/images/{names[4]}")[1]["content-type"] == "image/png"


def test_search_ranks_exact_prefix_word_and_gloss(server):
  ann = sites.Browser(server.address, "ann")
  find = lambda text: [
    row["class"] for row in ann.json(f"/search?q={text}")[1]["classes"]
  ]
  assert find("tinca") == find("Tench") == find("n00000000") == [0]
  assert find("fin") == [5]
  assert find("number") == [0, 1, 2, 3, 4, 5]
  assert find("") == find("%25") == []


def crawl(path):
  """Returns the answers that a reviewer gets, without dates."""
  answers = []
  with sites.Server(path) as server:
    ann = sites.Browser(server.address, "ann")
    image = ann.next()
    paths = [path for method, path in list_routes() if method == "GET"]
    paths += [f"/api/review/1/{image}", f"/review/1/{image}"]
    paths += [f"/images/{image}", "/search?q=a"]
    for one in paths * 2:
      status, headers, body = ann.get(one)
      body = body.replace(ann.csrf.encode(), b"")
      body = re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC", b"", body)
      kept = {
        name: value.replace(server.address, "")
        for name, value in headers.items()
        if name not in ("date", "set-cookie")
      }
      answers.append((one, status, kept, body))
      if len(answers) == len(paths):
        answers.append(ann.vote(image, {3: WRONG, 4: CORRECT}, save=True))
  return answers


def test_reviewers_see_nothing_of_models(tmp_path):
  """Two databases that differ in names and number of models only."""
  found = []
  for folder, models, name in (("a", 1, "net"), ("b", 7, "secret")):
    path = tmp_path / folder / "a.db"
    with contextlib.closing(sites.create(path, 8, models, name)) as connection:
      sites.add_campaign(connection, control=1 / 6)
    found.append(crawl(path))
  assert len(found[0]) > 20
  assert [a[0] for a, b in zip(*found, strict=True) if a != b] == []


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path):
  path, acknowledged = tmp_path / "a.db", []
  with contextlib.closing(sites.create(path, 200)) as connection:
    sites.add_campaign(connection, policy="majority", votes=2)

  def review(browser):
    with contextlib.suppress(OSError, http.client.HTTPException):
      while image := browser.next():
        votes = {3: WRONG, 4: CORRECT}
        if browser.vote(image, votes, save=True)[0] == 200:
          acknowledged.append((browser.user, image))

  for number in range(10):
    server = sites.Server(path).start()
    users = [sites.Browser(server.address, user) for user in ("ann", "ben")]
    enough = len(acknowledged) + 5 + number
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      running = [pool.submit(review, browser) for browser in users]
      while len(acknowledged) < enough:
        assert not all(future.done() for future in running)
      server.process.send_signal(signal.SIGKILL)
    server.process.communicate()
    query = (
      "SELECT u.name, public_id FROM saved s JOIN image i ON i.id = s.image"
      " JOIN user u ON u.id = s.user WHERE (SELECT count(*) FROM vote v"
      " WHERE v.image = s.image AND v.user = s.user) = 2"
    )
    assert set(acknowledged) <= set(read(path, query))
  with contextlib.closing(store.open_database(path)) as connection:
    for (image, target), (state, _) in decide.replay(connection).items():
      query = "SELECT state FROM prediction WHERE image = ? AND class = ?"
      assert read(path, query, image, target) == [(state,)]


def test_other_programs_do_not_end_the_log_of_a_server(path):
  """SQLite's locks go if a process closes the file itself: none does."""
  server = sites.Server(path).start()
  root, ann = (sites.Browser(server.address, user) for user in ("root", "ann"))
  assert root.post("/admin/import", {})[0] == 200
  assert root.get("/admin/export")[0] == 200
  assert read(path, "SELECT count(*) FROM vote") == [(0,)]  # opens and closes
  assert ann.vote(ann.next(), {3: WRONG})[0] == 200
  server.process.send_signal(signal.SIGKILL)
  server.process.communicate()
  assert read(path, "SELECT count(*) FROM vote") == [(1,)]


def run_serve(*arguments):
  """Returns the exit code and the error of a server that cannot start."""
  done = subprocess.run(
    [sys.executable, "-m", "imgbench", "review", "serve", *arguments],
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.stderr.count("\n") == 1
  return done.returncode, done.stderr


def test_databases_that_cannot_be_served(path, tmp_path):
  with sites.Server(path) as server:
    code, error = run_serve(f"--db={path}", "--port=0")
    assert code == 2 and "--db" in error and "other server" in error
    port = server.address.rpartition(":")[2]
    copy = shutil.copy(path, tmp_path / "b.db")
    code, error = run_serve(f"--db={copy}", f"--port={port}")
    assert code == 2 and "--port" in error
    assert server.stop() == 0
  with contextlib.closing(store.open_database(path)) as connection:
    connection.execute("PRAGMA user_version = 99")
  text = tmp_path / "text.db"
  text.write_text("no database")
  for wrong in (path, text, tmp_path / "missing.db"):
    code, error = run_serve(f"--db={wrong}", "--port=0")
    assert code == 2 and "--db" in error


def test_a_first_admin_gets_a_link_and_makes_a_campaign(path):
  with contextlib.closing(store.open_database(path)) as connection:
    connection.execute("DELETE FROM user WHERE role = 'admin'")
  server = sites.Server(path).start()
  link = server.process.stdout.readline().split()[-1]
  root = sites.Browser(server.address)
  place = link.removeprefix(server.address)
  assert root.get(place)[0] == 200
  assert root.post(place, {"password": sites.PASSWORD})[0] == 303
  root.csrf = root.read_csrf()
  form = {"name": "c", "policy": "majority", "votes": "2", "control": "0.4"}
  assert root.post("/admin/campaigns", form)[0] == 303
  assert root.post("/admin/campaigns", form)[0] == 422
  assert root.post("/admin/campaigns", {**form, "votes": "x"})[0] == 422
  image = root.next(1)
  assert root.vote(image, {3: WRONG})[0] == 200
  assert root.post("/admin/campaigns", {"id": "1"})[0] == 303
  content = {"client": "undo 1", "campaign": 1}
  assert root.vote(image, {4: WRONG})[0] == 422
  assert root.json("/api/undo", content)[0] == 422
  assert read(path, "SELECT target, state FROM vote") == [(3, WRONG)]
  assert root.next(2) and root.next(1) is None
  query = "SELECT name, policy, votes, active FROM campaign ORDER BY id"
  rows = [("first", "single", 1, 0), ("c", "majority", 2, 1)]
  assert read(path, query) == rows
  server.process.send_signal(signal.SIGINT)
  assert server.process.wait(30) == 0
  assert server.process.stdout.readline() == ""


def test_an_admin_imports_labels_and_exports_them(path):
  label = {"correct": ["n00000003"], "wrong": [], "unclear": []}
  labels = {"initial_annots": {"000": label}, "problematic_images": {}}
  labels["imagenet_m"] = []
  with sites.Server(path) as server:
    root = sites.Browser(server.address, "root")
    upload = lambda text: root.upload("/admin/import", "a.json", text)
    for told in (b"+1 annotated", b"nothing new"):
      status, _, page = upload(json.dumps(labels))
      assert status == 200 and told in page
    assert upload(json.dumps(labels)[:-9])[0] == 422
    for name in ("a", "a.db", "a.j\0n"):
      assert root.upload("/admin/import", name, "{}")[0] == 422
    status, headers, body = root.get("/admin/export")
    assert status == 200 and "attachment" in headers["content-disposition"]
    assert json.loads(body)["initial_annots"]["000"] == label
    lines = root.get("/admin/export?form=jsonl")[2].splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["import"]
    assert root.get("/admin/export?form=x%0d%0a")[0] == 422
    assert root.get("/admin/agreement")[0] == 200
  query = "SELECT state FROM prediction WHERE image = 1 AND class = 3"
  assert read(path, query) == [(CORRECT,)]


def test_without_the_extra_one_line_says_what_to_install(path, tmp_path):
  tmp_path.joinpath("starlette.py").write_text(
    "raise ModuleNotFoundError('no starlette')"
  )
  code = (
    f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
    f"sys.argv = ['imgbench', 'review', 'serve', '--db={path}', '--port=0'];"
    "from imgbench import commands; commands.main()"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    timeout=60,
    cwd=pathlib.Path(__file__).parents[2],
  )
  assert done.returncode == 2
  assert "imgbench[review]" in done.stderr and done.stderr.count("\n") == 1
