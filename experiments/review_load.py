"""Load of the review server: import, pages and writes with several users.

imgbench review load --users=4 \\
    --out=experiments/results/cpu_2_cores/review_load.json

Imports synthetic labels of 40,683 images and predictions of 64 models, 165,000
pairs of image and class, and starts imgbench review serve on 127.0.0.1. Users
review, undo, and open every page in turn, with a pause after each request. The
last line says whether the server's numbers are those of a full recompute. Exit
code 3: they are not, the import takes 60 s, or the 95th percentile of a page or
write is 100 ms or more.
"""

from concurrent import futures
import contextlib
import functools
import http.client
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid

from absl import flags
import numpy as np
from PIL import Image

from imgbench import commands
from imgbench import environment
from imgbench import errors
from imgbench import timing
from imgbench import writers
from imgbench.labels import classes
from imgbench.review import campaigns
from imgbench.review import importer
from imgbench.review import init
from imgbench.review import live
from imgbench.review import store
from imgbench.review.server import auth
from imgbench.tables import formats
from imgbench.tables import table

REQUIRED = ()
IMPORT_S, REQUEST_MS = 60, 100  # limits; of requests the p95
_SIZES = {"users": 4, "images": 40_683, "pairs": 165_000, "models": 64}
_SIZES |= {"requests": 4_000, "seconds": 90, "pause_ms": 100}
_PASSWORD = "only for this load"
_PAGES = (
  *("/", "/metrics", "/metrics?subset=dog", "/api/metrics", "/metrics/1"),
  *("/metrics/compare?a=1&b=2", "/problematic", "/categories", "/releases"),
  *("/releases/diff?a=0&b=999999", "/history", "/grid/1", "/grid/1/7"),
  *("/class/n01440764", "/search?q=shark", "/panel", "/admin", "/help"),
)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the sizes and --out."""
  integer = functools.partial(flags.DEFINE_integer, lower_bound=1)
  for name, size in _SIZES.items():
    most = " at most" if name in ("requests", "seconds") else ""
    integer(name, size, f"Number{most}.", flag_values=flag_values)
  flags.DEFINE_string("out", None, "JSON file.", flag_values=flag_values)


def make_content(folder: pathlib.Path, values):
  """Returns images with predictions, and annotations; writes the images.

  Models predict the label in three of four cases, and each other class of an
  image once or more. 97 in 100 predictions are reviewed.
  """
  rng, images = np.random.default_rng(0), values.images
  shares = rng.dirichlet(np.full(images, 0.6))
  more = rng.multinomial(values.pairs - images, shares)
  more = np.minimum(more, values.models - 1)
  labels, strides = np.arange(images) % 1000, rng.choice([1, 3, 7, 9], images)
  chosen = rng.integers(0, more + 1, (values.models, images))
  chosen[rng.random(chosen.shape) < 0.75] = 0
  for rank in range(1, more.max() + 1):
    (rows,) = np.nonzero(more >= rank)
    chosen[(rows + rank) % values.models, rows] = rank
  names = [f"ILSVRC2012_val_{i:08}.JPEG" for i in range(1, images + 1)]
  wnids, entries = classes.imagenet_classes().wnids, {}
  states = ("wrong", "wrong", "wrong", "unclear", "correct")
  for i, name in enumerate(names):
    entries[name] = {}
    for rank in np.flatnonzero(rng.random(more[i] + 1) < 0.97).tolist():
      state = states[(i + rank) % 5] if rank else "correct"
      wnid = wnids[(labels[i] + rank * strides[i]) % 1000]
      entries[name].setdefault(state, []).append(wnid)
  problems = dict.fromkeys(names[::15], "drawing or rendering")
  content = {"initial_annots": entries, "problematic_images": problems}
  content["imagenet_m"] = names[1::600]
  first = folder / names[0]
  small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
  small.resize((500, 375)).save(first, "JPEG")
  for name in names[1:]:
    os.link(first, folder / name)
  top1 = (labels + chosen * strides) % 1000
  models = {f"model {i}": ("synthetic", x) for i, x in enumerate(top1)}
  spec = {"folder": str(folder)}
  found = importer.Images("synthetic", names, labels, models, spec, True)
  return found, content


def create(path: str, values, found, content) -> float:
  """Makes the database; returns the seconds of the import."""
  store.create(path, init.list_imagenet(None)).close()
  hashed = auth.hash_password(_PASSWORD)
  query = "INSERT INTO user (name, role, password, created) VALUES (?, ?, ?, 0)"
  users = [(f"user{i}", "admin", hashed) for i in range(values.users)]
  with contextlib.closing(store.open_database(path)) as connection:
    with timing.timed() as timed, store.transaction(connection):
      writer = importer.Importer(connection, "synthetic")
      writer.add(found)
      writer.add_annotations("synthetic", content)
      writer.finish()
    with store.transaction(connection):
      connection.executemany(query, users)
      campaigns.create(connection, "load", "single", priority="effect")
      store.add_event(connection, "release", note="start")
  return timed.seconds


class User:
  """A session; `times` are (request, seconds)."""

  def __init__(self, port: int, name: str, pause_s: float = 0.0):
    self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    self._headers: dict[str, str] = {}
    self._pause_s = pause_s
    self.times: list[tuple[str, float]] = []
    form = {"name": name, "password": _PASSWORD}
    self._headers["x-csrf-token"] = self._read_token("/login")
    kind = {"content-type": "application/x-www-form-urlencoded"}
    self.send("POST", "/login", urllib.parse.urlencode(form), **kind)
    self._headers["x-csrf-token"] = self._read_token("/")
    self.times.clear()
    self._connection.close()  # the server closes idle ones; it opens again

  def _read_token(self, path: str) -> str:
    text = self.send("GET", path).decode()
    return re.search('name="csrf" value="([^"]+)"', text)[1]

  def send(self, method: str, path: str, body=None, name="", **headers):
    """Returns the body of an answer, or the address that it leads to."""
    start = timing.clock()
    headers |= self._headers
    self._connection.request(method, path, body, headers)
    answer = self._connection.getresponse()
    content = answer.read()
    self.times.append((f"{method} {name or path}", timing.clock() - start))
    if cookie := answer.headers["set-cookie"]:
      self._headers["cookie"] = cookie.partition(";")[0]
    status = f"{answer.status} {content[:200]!r}"
    errors.check(answer.status < 400, path, "an answer", status)
    time.sleep(self._pause_s)
    return answer.headers["location"] or content

  def review(self, page: str) -> None:
    """Reviews the next image, takes it back, reviews again, opens a page."""
    place = self.send("GET", "/review/1")
    errors.check(isinstance(place, str), "--images", "more of them", "too few")
    image = place.rpartition("/")[2]
    self.send("GET", place, name="/review/1/IMAGE")
    self.send("GET", f"/images/{image}", name="/images/IMAGE")
    text = self.send("GET", f"/api{place}", name="/api/review/1/IMAGE")
    votes = [
      {"kind": "vote", "target": row["class"], "state": 1 + 2 * row["assigned"]}
      for row in json.loads(text)["rows"]
    ]
    self.post("votes", image, votes)
    client = {"client": str(uuid.uuid4()), "campaign": 1}
    self.send("POST", "/api/undo", json.dumps(client))
    self.post("votes", image, votes)
    crowded = {"kind": "category", "reason": "crowded", "state": 3}
    self.post("category", image, [crowded])
    self.post("save", image, [{"kind": "save"}])
    self.send("GET", page)

  def post(self, kind: str, image: str, events: list[dict]) -> None:
    """Sends events of one action."""
    events = [{"client": str(uuid.uuid4()), **event} for event in events]
    content = {"campaign": 1, "image": image, "action": str(uuid.uuid4())}
    text = json.dumps({**content, "events": events})
    self.send("POST", "/api/events", text, f"/api/events ({kind})")


def run_users(port: int, values) -> dict[str, list[float]]:
  """Returns the seconds of all requests by name."""
  first = User(port, "user0")
  for page in _PAGES:  # the first view reads the database
    first.send("GET", page)
  pause_s = values.pause_ms / 1e3
  users = [User(port, f"user{i}", pause_s) for i in range(values.users)]
  end = timing.clock() + values.seconds

  def work(i: int) -> None:
    for page in itertools.islice(itertools.cycle(_PAGES), 5 * i, None):
      done = sum(len(user.times) for user in users)
      if timing.clock() > end or done >= values.requests:
        return
      users[i].review(page)

  with futures.ThreadPoolExecutor(len(users)) as pool:
    list(pool.map(work, range(len(users))))
  found: dict[str, list[float]] = {}
  for name, seconds in sorted(x for user in users for x in user.times):
    found.setdefault(name, []).append(seconds)
  return found


def is_equal(path: str, port: int) -> bool:
  """Returns whether the server's numbers are those of a full recompute."""
  user, models = User(port, "user0"), [{"current": False}]
  while not all(model["current"] for model in models):
    models = json.loads(user.send("GET", "/api/metrics"))["models"]
  fresh = live.Accuracies(path, 1)
  for model in models:
    rows = fresh.measure(model["id"]).rows["all"]
    if model["metrics"] != {n: m.as_json() for n, m in rows.items()}:
      return False
  return True


def main(argv: list[str]) -> int:
  """Prints the times, and writes them."""
  del argv
  values = flags.FLAGS
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    path = f"{folder}/load.db"
    import_s = create(path, values, *make_content(pathlib.Path(folder), values))
    command = ["-m", "imgbench", "review", "serve", "--port=0", f"--db={path}"]
    server = subprocess.Popen(
      [sys.executable, *command], stdout=subprocess.PIPE, encoding="utf-8"
    )
    stack.enter_context(server)
    stack.callback(server.terminate)
    port = int(server.stdout.readline().rpartition(":")[2])
    times = run_users(port, values)
    equal = is_equal(path, port)
  rows = [
    {"request": name, "n": len(found)}
    | {f"p{p}_ms": 1e3 * float(np.percentile(found, p)) for p in (50, 95, 100)}
    for name, found in times.items()
  ]
  columns = [table.Column("request"), table.number("n")]
  for p, title in ((50, "median, ms"), (95, "p95, ms"), (100, "longest, ms")):
    columns.append(table.number(f"p{p}_ms", title, formats.rounded))
  caption = f"{values.users} users, {sum(map(len, times.values())):,} requests"
  print(table.Table(caption, columns, rows).text())
  slow = [row["request"] for row in rows if row["p95_ms"] >= REQUEST_MS]
  print(f"import: {formats.seconds(import_s)}")
  print(f"p95 of {REQUEST_MS} ms or more: {', '.join(slow) or 'none'}")
  sizes = {name: values[name].value for name in _SIZES}
  content = {**sizes, "import_s": import_s, "counters_equal": equal}
  content |= {"rows": rows, "environment": environment.collect()}
  if values.out:
    writers.write_output("--out", values.out, writers.format_json(content))
  verb = "equal" if equal else "differ from"
  print(f"counters of {values.models} models {verb} a full recompute")
  good = equal and import_s < IMPORT_S and not slow
  return errors.EXIT_DONE if good else errors.EXIT_CHECK


if __name__ == "__main__":
  commands.start("review load")
