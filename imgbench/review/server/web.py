"""Shared by the pages of the review server: database, rendering, errors."""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import queue
import sqlite3
import threading
from typing import Any

from starlette import exceptions
from starlette import requests
from starlette import responses

from imgbench import errors
from imgbench.review import decide
from imgbench.review import store
from imgbench.tables import page

HEADERS = {
  # Pages have no inline script; nothing comes from elsewhere.
  "content-security-policy": "default-src 'none'; script-src 'self'; style-src"
  " 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self';"
  " base-uri 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-store",
}
_STATUS: dict[type, int] = {errors.InputError: 422, decide.LeaseError: 409}
_STATUS[store.WriteError] = 503
# A number or text that SQLite cannot take; a script would send it for ever.
_STATUS |= dict.fromkeys((OverflowError, UnicodeEncodeError), 422)
SCRIPTS = ("/api/", "/search", "/images/")  # answered with JSON
EXPECTED = (exceptions.HTTPException, *_STATUS)  # errors with a text for users


@dataclasses.dataclass(frozen=True)
class Site:
  """A server's database: a connection that writes, and some that read.

  Threads take turns to write, and wait for nobody to read.
  """

  connection: sqlite3.Connection
  path: str
  hosts: tuple[str, ...] = ()
  lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
  readers: queue.LifoQueue = dataclasses.field(default_factory=queue.LifoQueue)

  @contextlib.contextmanager
  def reading(self) -> Iterator[sqlite3.Connection]:
    """Yields a connection that sees one state of the database."""
    try:
      connection = self.readers.get_nowait()
    except queue.Empty:
      connection = store.connect(self.path)
    connection.execute("BEGIN")
    try:
      yield connection
    finally:
      connection.execute("ROLLBACK")
      self.readers.put(connection)

  @contextlib.contextmanager
  def writing(self) -> Iterator[sqlite3.Connection]:
    """Yields the connection; what the block writes is on disk after it."""
    with self.lock, store.transaction(self.connection):
      yield self.connection

  def close(self) -> None:
    """Closes the connections that read."""
    while not self.readers.empty():
      self.readers.get().close()


def get_site(request: requests.Request) -> Site:
  """Returns the site of a request."""
  return request.app.state.site


def render(
  request: requests.Request, template: str, status: int = 200, **context: Any
) -> responses.Response:
  """Returns a page of a template in server/templates.

  Templates also get `user` (a row, or None), `csrf` (for forms and scripts),
  `path`, and `links` to the pages that the user may open.
  """
  name, state = f"review/server/templates/{template}", request.state
  own = {"user": state.user, "csrf": state.csrf, "path": request.url.path}
  own["links"] = state.links
  return responses.HTMLResponse(page.render(name, **own, **context), status)


def read_json(request: requests.Request) -> dict[str, Any]:
  """Returns the object that a script sent, or raises 422."""
  try:
    return dict(json.loads(request.state.body))
  except (ValueError, TypeError, RecursionError) as error:
    raise fail(422, "expected a JSON object") from error


def fail(status: int, text: str) -> exceptions.HTTPException:
  """Returns an error to raise; its text is one line for users."""
  return exceptions.HTTPException(status, text)


def show_error(
  request: requests.Request, error: Exception
) -> responses.Response:
  """Returns an error as JSON to a script, else as a page."""
  status, text = _STATUS.get(type(error), 500), str(error)
  if isinstance(error, exceptions.HTTPException):
    status, text = error.status_code, error.detail
  elif status == 500:
    text = "an error of the server, which its log shows"
  if request.url.path.startswith(SCRIPTS):
    return responses.JSONResponse({"error": text}, status)
  return render(request, "error.html.j2", status, code=status, text=text)
