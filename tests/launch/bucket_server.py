"""A local server of buckets: python -m tests.launch.bucket_server BUCKET.

It speaks the JSON protocol of Google Cloud Storage and keeps objects in memory.
This module adds to the package gcp-storage-emulator what its clients (gcsfs,
TensorStore) need: preconditions (`ifGenerationMatch`), the header with the
generation that was read, listings between two names, and empty objects.

It prints its address once it listens, and ends with its standard input, so that
it never outlives the process that started it.
"""

from http import HTTPStatus
import sys

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


def _generation(storage, bucket: str, name: str) -> str:
  """Returns the generation of an object; "0" if there is none."""
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
  """Answers 412 if the object has another generation than requested."""

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
  """Limits a listing to names in [startOffset, endOffset)."""

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
  """Treats an object without content as empty."""

  @property
  def data(self):
    found = super().data
    media = self.query.get("uploadType") == ["media"]
    return b"" if found is None and media else found


def patch() -> None:
  """Adds the missing features to the package."""
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
  patch()
  instance = server.create_server("127.0.0.1", 0, True, sys.argv[1])
  instance.start()
  port = instance._api._httpd.server_address[1]
  print(f"http://127.0.0.1:{port}", flush=True)
  sys.stdin.read()
  instance.stop()


if __name__ == "__main__":
  main()
