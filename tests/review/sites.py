"""A small review database, its server as a process, and a browser's requests.

python -m tests.review.sites FILE.db writes the database; then
imgbench review serve --db=FILE.db; users are ann, ben (reviewers), pat (panel),
vic (viewer), lea (labeler), root (admin), all with PASSWORD.
"""

import contextlib
import functools
import http.cookiejar
import json
import pathlib
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid

import itsdangerous
import numpy as np
from PIL import Image

from imgbench.review import campaigns
from imgbench.review import labeling
from imgbench.review import store
from imgbench.review.server import auth

PASSWORD = "a long password"
USERS = {
  "ann": "reviewer", "ben": "reviewer", "pat": "panel", "vic": "viewer",
  "lea": "labeler", "root": "admin",
}  # fmt: skip
CLASSES = ("tench, Tinca", "goldfish", "shark", "hen", "ostrich", "finch")
SECRET = "5ec12e7"


@functools.cache
def _password() -> str:
  return auth.hash_password(PASSWORD)


def write_images(folder: pathlib.Path, number: int) -> None:
  """Writes pictures 000.jpg to N - 1, with metadata."""
  folder.mkdir(parents=True, exist_ok=True)
  if folder.joinpath(f"{number - 1:03}.jpg").exists():
    return
  noise = np.random.default_rng(0).integers(0, 256, (number, 8, 9, 3), np.uint8)
  for index, small in enumerate(noise):
    picture = Image.fromarray(small).resize((96, 80), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x010E] = f"name {index}"
    picture.save(folder / f"{index:03}.jpg", exif=exif)


def add_users(connection) -> None:
  """Adds USERS, and the secret that `Browser` knows; within a transaction."""
  store.write_setting(connection, "secret", SECRET)
  for user, role in USERS.items():
    query = "INSERT INTO user (name, role, password, created) VALUES (?,?,?,0)"
    connection.execute(query, (user, role, _password()))


def create(path, number: int = 8, models: int = 1, name: str = "net"):
  """Returns a database: image i has label i % 3 and predictions 3, 4.

  The last two images were annotated before: all their classes are decided.

  Args:
    path: of the new file; images are written beside it.
    number: of images.
    models: number and names of models are all that they change.
    name: of the models.
  """
  folder = pathlib.Path(path).parent / "images"
  write_images(folder, number)
  connection = store.create(path)
  run = connection.execute
  with store.transaction(connection):
    add_users(connection)
    for index, text in enumerate(CLASSES):
      wnid = f"n{index:08}"
      run(
        "INSERT INTO class (id, wnid, name, gloss) VALUES (?, ?, ?, ?)",
        (index, wnid, text, f"an animal, number {index}"),
      )
    place = json.dumps({"folder": str(folder)})
    run("INSERT INTO dataset (name, images) VALUES ('tiny', ?)", (place,))
    for index in range(models):
      query = (
        "INSERT INTO model (name, source, sha256, created) VALUES (?,'','',0)"
      )
      run(query, (f"{name} {index}",))
    for index in range(number):
      public = store.hide_name(SECRET, "tiny", f"{index:03}")
      known = index >= number - 2
      run(
        "INSERT INTO image (id, public_id, dataset, name, label, entry)"
        " VALUES (?, ?, 1, ?, ?, ?)",
        (index + 1, public, f"{index:03}", index % 3, "{}" if known else None),
      )
      for target in (index % 3, 3, 4):
        state = (3 if target < 3 else 1) if known else 0
        run(
          "INSERT INTO prediction VALUES (?, ?, ?, ?, ?, 0)",
          (index + 1, target, models * (target > 2), state, state),
        )
      for model in range(models):
        row = (model + 1, index + 1, 3 + model % 2)
        run("INSERT INTO model_prediction VALUES (?, ?, ?)", row)
  return connection


def add_campaign(connection, name="first", policy="single", votes=1, **options):
  """Returns the id of a campaign of all open images."""
  with store.transaction(connection):
    return campaigns.create(connection, name, policy, votes, **options)


def add_task(
  connection, name, mode="training", images=range(1, 14), users=("lea",), **more
):
  """Returns the id of a labeling task; the classes get a hierarchy."""
  groups = [("n1", "", "animal"), ("n2", "n1", "fish"), ("n3", "n1", "bird")]
  groups += [(f"n{x:08}", "n2" if x < 3 else "n3", "") for x in range(6)]
  with store.transaction(connection):
    query = "INSERT OR IGNORE INTO hierarchy VALUES (?, ?, ?, '')"
    connection.executemany(query, groups)
    return labeling.create_task(
      connection, name, mode, list(images), users, **more
    )


class Server:
  """A server process on a database, as a context.

  Attributes:
    address: such as http://127.0.0.1:40000.
    lines: that it printed at the start.
  """

  def __init__(self, path, port=0):
    self._path, self._port = path, port

  def start(self):
    """Starts the process, without JAX, and waits for its address."""
    code = (
      "import sys; from absl import flags; from imgbench.review import serve;"
      "serve.define_flags(flags.FLAGS); sys.exit(serve.main(flags.FLAGS("
      f"['serve', '--db={self._path}', '--port={self._port}'])))"
    )
    self.process = subprocess.Popen(
      [sys.executable, "-c", code],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    first = self.process.stdout.readline()
    assert first, self.process.stderr.read()
    self.address = re.search(r"http://\S+", first).group()
    return self

  def stop(self) -> int:
    """Ends the process with SIGTERM; returns its exit code."""
    self.process.terminate()
    code = self.process.wait(30)
    self.process.stdout.close()
    self.process.stderr.close()
    return code

  __enter__ = start

  def __exit__(self, *unused):
    self.stop()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
  def redirect_request(self, *unused):
    return None


class Browser:
  """A session: keeps cookies and the CSRF token, follows no redirect."""

  def __init__(self, address: str, user: str | None = None):
    self.address, self.user, self.csrf = address, user, ""
    self.cookies = http.cookiejar.CookieJar()
    self._opener = urllib.request.build_opener(
      urllib.request.HTTPCookieProcessor(self.cookies), _NoRedirect()
    )
    if user:
      self.get("/login")
      form = {"name": user, "password": PASSWORD}
      assert self.post("/login", form)[0] == 303
      self.csrf = self.read_csrf()

  def read_csrf(self) -> str:
    """Returns the token that pages of the session have."""
    (cookie,) = [c.value for c in self.cookies]
    signer = itsdangerous.URLSafeTimedSerializer(SECRET, salt="session")
    return signer.loads(cookie)["csrf"]

  def send(self, path, data=None, **headers):
    """Returns status, headers and body."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(self.address + path, data, names)
    try:
      with self._opener.open(request, timeout=30) as answer:
        result = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
      with error:
        result = error.code, error.headers, error.read()
    token = re.search(
      rb'name="csrf"[^>]*(?:value|content)="([^"]*)"', result[2]
    )
    if token:
      self.csrf = token.group(1).decode()
    return result

  def get(self, path, **headers):
    """Returns status, headers and body."""
    return self.send(path, **headers)

  def post(self, path, form):
    """Returns status, headers and body of a form's request."""
    form = {"csrf": self.csrf, **form}
    return self.send(path, urllib.parse.urlencode(form).encode())

  def upload(self, path, name, text):
    """Returns status, headers and body of a form with a file."""
    lines = (
      "--edge", 'Content-Disposition: form-data; name="csrf"', "", self.csrf,
      "--edge", "Content-Disposition: form-data; name=\"annotations\";"
      f' filename="{name}"', "", text, "--edge--", "",
    )  # fmt: skip
    kind = {"Content_Type": "multipart/form-data; boundary=edge"}
    return self.send(path, "\r\n".join(lines).encode(), **kind)

  def json(self, path, content=None):
    """Returns status and JSON of a script's request."""
    if content is None:
      status, _, body = self.get(path)
    else:
      body = json.dumps(content).encode()
      headers = {"X_CSRF_Token": self.csrf, "Content_Type": "application/json"}
      status, _, body = self.send(path, body, **headers)
    return status, json.loads(body)

  def next(self, campaign=1) -> str | None:
    """Returns the id of the next image; None: nothing left."""
    status, headers, _ = self.get(f"/review/{campaign}")
    return headers["location"].rpartition("/")[2] if status == 303 else None

  def vote(
    self, image, states, campaign=1, action=None, kind="vote", save=False
  ):
    """Returns status and JSON of votes, target -> state or (state, reason)."""
    events = []
    for target, state in states.items():
      state, reason = state if isinstance(state, tuple) else (state, "")
      event = {"client": str(uuid.uuid4()), "kind": kind, "target": target}
      events.append({**event, "state": state, "reason": reason})
    if save:
      events.append({"client": str(uuid.uuid4()), "kind": "save"})
    content = {"campaign": campaign, "image": image, "action": action}
    return self.json("/api/events", {**content, "events": events})


if __name__ == "__main__":
  with contextlib.closing(create(sys.argv[1], 60, 3)) as database:
    add_campaign(database, "single")
    add_campaign(database, "majority of 2", "majority", 2, control=0.1)
    add_campaign(database, "two, else the panel", "unanimous", 2)
