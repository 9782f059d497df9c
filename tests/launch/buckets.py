"""A bucket on a local server, and access to its objects for tests."""

from collections.abc import Iterator
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

from tests.train import processes

NAME = "imgbench-test"
# The address of a running server, e.g. Google's storage-testbench.
SERVER = "IMGBENCH_GCS_SERVER"


def lacking() -> str:
  """Returns why there can be no bucket here; "" if there can."""
  emulator = [] if SERVER in os.environ else ["gcp_storage_emulator"]
  packages = ["gcsfs", *emulator]
  gone = [name for name in packages if importlib.util.find_spec(name) is None]
  return f"pip install '.[test]': no {' and no '.join(gone)}" if gone else ""


class Bucket:
  """Objects on a server, accessed without any tested code.

  Args:
    address: of the server.
  """

  def __init__(self, address: str):
    self.address = address
    self._objects = f"/storage/v1/b/{NAME}/o"

  def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(self.address + path, body, method=method)
    if body is not None:
      request.add_header("Content-Type", "application/octet-stream")
    with urllib.request.urlopen(request) as answer:
      return answer.read()

  def make(self) -> None:
    """Creates the bucket if it does not exist."""
    request = urllib.request.Request(
      f"{self.address}/storage/v1/b?project={NAME}",
      json.dumps({"name": NAME}).encode(),
      {"Content-Type": "application/json"},
    )
    with contextlib.suppress(urllib.error.HTTPError):  # It exists.
      urllib.request.urlopen(request).close()

  def names(self, folder: str) -> list[str]:
    """Returns the sorted objects below a folder, without its name."""
    prefix = f"{folder}/"
    query = urllib.parse.urlencode({"prefix": prefix, "maxResults": 1000})
    found = json.loads(self._ask("GET", f"{self._objects}?{query}"))
    items = found.get("items", [])
    return sorted(item["name"].removeprefix(prefix) for item in items)

  def read(self, name: str) -> bytes:
    """Returns the content of an object; empty if there is none."""
    quoted = urllib.parse.quote(name, safe="")
    try:
      return self._ask("GET", f"{self._objects}/{quoted}?alt=media")
    except urllib.error.HTTPError:
      return b""

  def write(self, name: str, data: bytes) -> None:
    query = urllib.parse.urlencode({"uploadType": "media", "name": name})
    self._ask("POST", f"/upload{self._objects}?{query}", data)

  def read_json(self, name: str):
    return json.loads(self.read(name))

  def steps(self, folder: str, finished: bool = True) -> list[int]:
    """Returns the steps of finished, or of unfinished, checkpoints of a run."""
    found: dict[int, bool] = {}
    for name in self.names(f"{folder}/checkpoints"):
      step, _, rest = name.partition("/")
      whole = rest == "commit_success.txt"
      found[int(step)] = whole or found.get(int(step), False)
    return sorted(step for step, whole in found.items() if whole == finished)


def variables(address: str) -> dict[str, str]:
  """Returns variables that send all Cloud Storage clients to a server.

  Args:
    address: e.g. "http://127.0.0.1:9023".
  """
  return {
    # gcsfs, and Google's package, which Orbax uses.
    "STORAGE_EMULATOR_HOST": address,
    "GOOGLE_CLOUD_PROJECT": NAME,
    # There is no control API for the kind of the bucket.
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    # TensorStore, which reads and writes the arrays.
    "TENSORSTORE_GCS_HTTP_URL": address,
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
  }


@contextlib.contextmanager
def served() -> Iterator[Bucket]:
  """Serves a bucket while the block runs."""
  if SERVER in os.environ:
    bucket = Bucket(os.environ[SERVER])
    bucket.make()
    yield bucket
    return
  server = subprocess.Popen(
    [sys.executable, "-m", "tests.launch.bucket_server", NAME],
    env=processes.environment(),
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )
  try:
    yield Bucket(server.stdout.readline().strip())
  finally:
    server.stdin.close()
    server.wait(timeout=30)
    server.stdout.close()
