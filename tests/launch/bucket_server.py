"""A server of buckets on this machine: python -m tests.launch.bucket_server.

It speaks the JSON protocol of Google Cloud Storage and keeps all in memory.
The package gcp-storage-emulator does the most of it; what it lacks and the
clients (gcsfs, TensorStore) rely upon is added here: preconditions
(`ifGenerationMatch`), the header that tells which generation was read, listings
between two names, and empty objects.

The name of its bucket is the argument. It prints its address when it listens,
and ends with its standard input, so that it never outlives who started it.
"""

from http import HTTPStatus
import sys

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


def _generation(storage, bucket: str, name: str) -> str:
  """Of an object; "0" if there is none."""
  try:
    return storage.get_file_obj(bucket, name)["generation"]
  except NotFound:
    return "0"


def _object_name(request) -> str:
  if "object_id" in request.params:
    return request.params["object_id"]
  if "name" in request.query:
    return request.query["name"][0]
  data = request.data or {}
  return data.get("meta", data).get("name")


def _conditional(handler):
  """Answers 412 where the object is not of the generation asked for."""

  def handle(request, response, storage):
    wanted = request.query.get("ifGenerationMatch")
    if wanted is not None:
      name = _object_name(request)
      found = _generation(storage, request.params["bucket_name"], name)
      if found != wanted[0]:
        response.status = HTTPStatus.PRECONDITION_FAILED
        text = f"{name} is of generation {found}, not {wanted[0]}"
        response.json({"error": {"code": 412, "message": text}})
        return
    handler(request, response, storage)

  return handle


def _with_generation(handler):
  def handle(request, response, storage):
    handler(request, response, storage)
    bucket, name = (request.params[k] for k in ("bucket_name", "object_id"))
    if response.status < HTTPStatus.BAD_REQUEST:
      response["x-goog-generation"] = _generation(storage, bucket, name)

  return handle


def _between(handler):
  """Leaves out of a listing what is outside of startOffset and endOffset."""

  def handle(request, response, storage):
    json, ends = response.json, ("startOffset", "endOffset")
    start, end = (request.query.get(name, [""])[0] for name in ends)
    inside = lambda name: name >= start and (not end or name < end)

    def write(listing):
      listing["items"] = [o for o in listing["items"] if inside(o["name"])]
      json(listing)

    response.json = write
    handler(request, response, storage)

  return handle


class _Request(server.Request):
  """Sees an object without content as one that is empty."""

  @property
  def data(self):
    found = super().data
    media = self.query.get("uploadType") == ["media"]
    return b"" if found is None and media else found


def mend() -> None:
  """Adds to the package what the module says."""
  server.Request = _Request
  objects.download = _with_generation(objects.download)
  added = {
    "insert": _conditional(objects.insert),
    "delete": _conditional(objects.delete),
    "ls": _between(objects.ls),
    "download": objects.download,
  }
  for _, handlers in server.HANDLERS:
    for method, handler in handlers.items():
      handlers[method] = added.get(handler.__name__, handler)


def main() -> None:
  mend()
  instance = server.create_server("127.0.0.1", 0, True, sys.argv[1])
  instance.start()
  port = instance._api._httpd.server_address[1]
  print(f"http://127.0.0.1:{port}", flush=True)
  sys.stdin.read()
  instance.stop()


if __name__ == "__main__":
  main()
