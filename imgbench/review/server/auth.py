"""Who may do what: roles, sessions, CSRF tokens, passwords, invitations."""

from collections.abc import Mapping
import functools
import hashlib
import hmac
import secrets
import sqlite3
import time
from typing import Any

import argon2
import itsdangerous
from starlette import requests
from starlette import responses
from starlette import routing

from imgbench import errors
from imgbench.review import store
from imgbench.review.server import web

COOKIE = "imgbench_review"
_SESSION_S = 7 * 86_400
# Wrong passwords: of a name at an address, at an address, of a name. A client
# on this machine can claim any address, as proxies do.
_TRIES, _WINDOW_S = (5, 20, 20), 300.0
_LETTERS = range(10, 1_000)  # of a password
ANYONE, SIGNED_IN = ("",), store.ROLES
_REVIEW = ("reviewer", "panel", "admin")
_METRICS = ("viewer", "admin")
# First part of the path, after "api" -> roles that may open it. An entry with
# a method goes first. Nobody finds a path that is not here.
ACCESS: Mapping[str, tuple[str, ...]] = {
  **dict.fromkeys(("login", "invitation", "static"), ANYONE),
  **dict.fromkeys(("", "logout", "help"), SIGNED_IN),
  **dict.fromkeys(("guide", "class", "search", "images"), SIGNED_IN),
  **dict.fromkeys(("label", "classes"), ("labeler", *_REVIEW)),
  **dict.fromkeys(("review", "events", "undo", "grid", "history"), _REVIEW),
  "panel": ("panel", "admin"),
  **dict.fromkeys(("metrics", "problematic", "categories"), _METRICS),
  **dict.fromkeys(("releases", "study"), _METRICS),
  **dict.fromkeys(("POST releases", "POST study"), ("admin",)),
  "admin": ("admin",),
}

LINKS = {
  "/": "Home",
  "/history": "History",
  "/panel": "Panel",
  "/metrics": "Metrics",
  "/problematic": "Problematic",
  "/categories": "Categories",
  "/releases": "Releases",
  "/study": "Study",
  "/admin": "Admin",
  "/help": "Help",
}


def find_access(method: str, path: str) -> tuple[str, ...]:
  """Returns the roles that may open a path."""
  part = path.removeprefix("/api").split("/")[1:][:1] or [""]
  return ACCESS.get(f"{method} {part[0]}", ACCESS.get(part[0], ()))


def list_links(user: sqlite3.Row | None) -> dict[str, str]:
  """Returns the pages that a user may open, for the bar of each page."""
  may_open = lambda path: user and user["role"] in find_access("GET", path)
  return {path: text for path, text in LINKS.items() if may_open(path)}


@functools.cache
def _hasher() -> argon2.PasswordHasher:
  return argon2.PasswordHasher()


def hash_password(password: str) -> str:
  """Returns what the database keeps of a password."""
  return _hasher().hash(password)


@functools.cache
def _nobody() -> str:
  return hash_password(secrets.token_hex())


def check_password(user: sqlite3.Row | None, password: str) -> bool:
  """Returns whether a password is a user's; None takes as long."""
  try:
    known = user is not None and user["password"]
    return _hasher().verify(known or _nobody(), password)
  except argon2.exceptions.VerificationError:
    return False


def _serializer(connection: sqlite3.Connection):
  secret = store.read_setting(connection, "secret")
  return itsdangerous.URLSafeTimedSerializer(secret, salt="session")


def _fingerprint(user: sqlite3.Row | None) -> str:
  """Returns what changes with the password, which ends other sessions."""
  text = user and user["password"] or ""
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _start_session(
  request: requests.Request,
  response: responses.Response,
  user: sqlite3.Row | None = None,
) -> responses.Response:
  """Returns a response with the cookie of a new session."""
  csrf = request.state.csrf if user is None else secrets.token_urlsafe(16)
  number = None if user is None else user["id"]
  session = {"user": number, "csrf": csrf, "key": _fingerprint(user)}
  with web.get_site(request).reading() as connection:
    value = _serializer(connection).dumps(session)
  flags: Any = {"httponly": True, "samesite": "strict"}
  secure = request.url.scheme == "https"
  response.set_cookie(COOKIE, value, _SESSION_S, secure=secure, **flags)
  return response


def read_session(
  connection: sqlite3.Connection, cookie: str
) -> tuple[sqlite3.Row | None, str]:
  """Returns the active user and the CSRF token of a cookie, "" if it is bad."""
  try:
    session = _serializer(connection).loads(cookie, max_age=_SESSION_S)
  except itsdangerous.BadData:
    return None, ""
  query = "SELECT * FROM user WHERE id = ? AND active"
  user = connection.execute(query, (session["user"],)).fetchone()
  same = user is not None and _fingerprint(user) == session["key"]
  return user if same else None, session["csrf"]


def check_csrf(request: requests.Request) -> None:
  """Raises 403 unless a write comes from a page of the session."""
  given = request.headers.get("x-csrf-token")
  given = str(given or request.state.form.get("csrf", "")).encode()
  expected = request.state.csrf.encode()
  if not expected or not hmac.compare_digest(given, expected):
    raise web.fail(403, "this page is too old; load it again")


def invite(connection: sqlite3.Connection, name: str, role: str) -> str:
  """Returns the path of a one-time link that sets the password of a user.

  The user is created, or gets the role; an old password works until then.

  Raises:
    InputError: a name or role that does not fit.
  """
  errors.check(0 < len(name.strip()) <= 64, "name", "1 to 64 letters", name)
  errors.check(role in store.ROLES, "role", " or ".join(store.ROLES), role)
  token = secrets.token_urlsafe(24)
  connection.execute(
    "INSERT INTO user (name, role, invitation, created) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (name) DO UPDATE SET role = excluded.role,"
    " invitation = excluded.invitation, active = 1",
    (name.strip(), role, _hash_token(token), time.time()),
  )
  return f"/invitation/{token}"


def _hash_token(token: str) -> str:
  return hashlib.sha256(token.encode()).hexdigest()


def count_admins(connection: sqlite3.Connection) -> int:
  """Returns how many admins can log in."""
  query = "SELECT count(password) FROM user WHERE role = 'admin' AND active"
  return connection.execute(query).fetchone()[0]


def _show_form(
  request: requests.Request, template: str, status: int = 200, **context: str
) -> responses.Response:
  """Returns a form; a visitor without a session gets one for its token."""
  known = request.state.csrf
  request.state.csrf = known or secrets.token_urlsafe(16)
  response = web.render(request, template, status, **context)
  return response if known else _start_session(request, response)


def _add_try(tries: list[tuple[float, str, str]], name: str, address: str):
  """Adds a try unless there were too many; returns seconds until the next."""
  now = time.monotonic()
  tries[:] = [old for old in tries if old[0] > now - _WINDOW_S]
  same = [[t for t, n, a in tries if (n, a) == (name, address)]]
  same += [[t for t, _, a in tries if a == address]]
  same += [[t for t, n, _ in tries if n == name]]
  for times, limit in zip(same, _TRIES, strict=True):
    if len(times) >= limit:
      return times[-limit] + _WINDOW_S - now
  tries.append((now, name, address))
  return 0.0


def log_in(request: requests.Request) -> responses.Response:
  """Shows the form of a login, or starts a session."""
  show = functools.partial(_show_form, request, "login.html.j2")
  if request.method != "POST":
    return show(error="")
  form, site = request.state.form, web.get_site(request)
  name, password = str(form.get("name", "")), str(form.get("password", ""))
  address = request.client.host if request.client else ""
  tries, key = request.app.state.tries, name[:64].lower()
  query = "SELECT * FROM user WHERE name = ? AND active"
  with site.lock:
    # Tries count before they are known to be wrong: many may come at once.
    wait = _add_try(tries, key, address)
  with site.reading() as connection:
    user = connection.execute(query, (name,)).fetchone()
  if wait:
    return show(429, error=f"too many tries; wait {wait:.0f} seconds")
  if not check_password(user, password) or user is None:
    return show(403, error="unknown name or wrong password")
  with site.lock:
    tries[:] = [old for old in tries if old[1:] != (key, address)]
  return _start_session(request, responses.RedirectResponse("/", 303), user)


def log_out(request: requests.Request) -> responses.Response:
  """Ends a session."""
  del request
  response = responses.RedirectResponse("/login", 303)
  response.delete_cookie(COOKIE)
  return response


def accept_invitation(request: requests.Request) -> responses.Response:
  """Shows the form that sets a password, or sets it and starts a session."""
  token = _hash_token(request.path_params["token"])
  password = str(request.state.form.get("password", ""))
  fits, site = len(password) in _LETTERS, web.get_site(request)
  query = "SELECT * FROM user WHERE invitation = ? AND active"
  with site.reading() as connection:
    user = connection.execute(query, (token,)).fetchone()
  if user is not None and fits:
    values = (hash_password(password), token)
    query = "UPDATE user SET password = ?, invitation = NULL"
    query += " WHERE invitation = ? AND active RETURNING *"
    with site.writing() as connection:
      user = connection.execute(query, values).fetchone()
  if user is None:
    raise web.fail(404, "this link was used or is not known")
  if fits:
    return _start_session(request, responses.RedirectResponse("/", 303), user)
  first = request.method == "GET"
  error = "" if first else f"a password has at least {_LETTERS[0]} letters"
  status, form = 200 if first else 422, "invitation.html.j2"
  return _show_form(request, form, status, name=user["name"], error=error)


_BOTH = ["GET", "POST"]
ROUTES = [
  routing.Route("/login", log_in, methods=_BOTH),
  routing.Route("/logout", log_out, methods=["POST"]),
  routing.Route("/invitation/{token}", accept_invitation, methods=_BOTH),
]
