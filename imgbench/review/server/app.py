"""The application of the review server, and checks on all its requests."""

import contextlib
import re

from starlette import applications
from starlette import concurrency
from starlette import exceptions
from starlette import requests
from starlette import responses

from imgbench.review.server import admin
from imgbench.review.server import api
from imgbench.review.server import auth
from imgbench.review.server import label_pages
from imgbench.review.server import results_pages
from imgbench.review.server import review_pages
from imgbench.review.server import study_pages
from imgbench.review.server import web

_BODY, _UPLOAD = 1 << 20, 1 << 29  # bytes of a request, and of an import
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_ADDRESS = re.compile(r"[\d.]+|\[[\da-f:.]+\]")  # no name


class Guard:
  """Checks requests before their endpoints, and adds headers to answers.

  Host, session, role, size of the body and CSRF token, in this order. Endpoints
  get request.state.user, csrf, form and body.
  """

  def __init__(self, app):
    self._app = app

  async def __call__(self, scope, receive, send):
    request = requests.Request(scope, receive)
    scope["state"] = {
      "user": None,
      "csrf": "",
      "links": {},
      "form": {},
      "body": b"",
    }

    async def send_with_headers(message):
      if message["type"] == "http.response.start":
        given = dict(message["headers"])
        own = {k.encode(): v.encode() for k, v in web.HEADERS.items()}
        own = [item for item in own.items() if item[0] not in given]
        message["headers"] = [*message["headers"], *own]
      await send(message)

    async with contextlib.AsyncExitStack() as stack:
      try:
        answer = await concurrency.run_in_threadpool(check_access, request)
        if answer is None and request.method == "POST":
          await _read_body(request, stack)
      except exceptions.HTTPException as error:
        answer = web.show_error(request, error)
      await (answer or self._app)(scope, receive, send_with_headers)


async def _read_body(request, stack: contextlib.AsyncExitStack) -> None:
  """Reads the form or body of a request and checks its CSRF token."""
  upload = request.url.path == "/admin/import"
  left = _UPLOAD if upload else _BODY

  async def receive_part():
    nonlocal left
    message = await request.receive()
    left -= len(message.get("body", b""))
    if left < 0:
      raise web.fail(413, "the request is too large")
    return message

  limited = requests.Request(request.scope, receive_part)
  if request.headers.get("content-type", "").startswith(_FORMS):
    form = limited.form(max_files=1, max_fields=100)
    request.state.form = await stack.enter_async_context(form)
  else:
    request.state.body = await limited.body()
  auth.check_csrf(request)


def check_access(request: requests.Request) -> responses.Response | None:
  """Returns None, or a redirect to the login; raises what else is refused."""
  site, path = web.get_site(request), request.scope["path"]
  host = request.headers.get("host", "").lower()
  name = re.sub(r":\d*$", "", host)
  # Another name may be one that a foreign page has bound to this address.
  if name not in site.hosts and not _ADDRESS.fullmatch(name):
    raise web.fail(400, "unknown Host")
  with site.reading() as connection:
    cookie = request.cookies.get(auth.COOKIE, "")
    user, request.state.csrf = auth.read_session(connection, cookie)
  request.state.user = user
  request.state.links = auth.list_links(user)
  allowed = auth.find_access(request.method, path)
  if not allowed:
    raise web.fail(404, "no such page")
  if allowed == auth.ANYONE or user is not None and user["role"] in allowed:
    return None
  if user is not None:
    raise web.fail(403, f"not for the role {user['role']}")
  if request.method == "GET" and not path.startswith(web.SCRIPTS):
    return responses.RedirectResponse("/login", 303)
  raise web.fail(401, "log in first")


def create_app(site: web.Site) -> applications.Starlette:
  """Returns the application on a database."""
  reviewing = (auth, api, admin, review_pages, results_pages)
  modules = (*reviewing, label_pages, study_pages)
  routes = [route for module in modules for route in module.ROUTES]
  handlers = dict.fromkeys((*web.EXPECTED, 500), web.show_error)
  app = applications.Starlette(routes=routes, exception_handlers=handlers)
  app.state.site = site
  app.state.tries = []
  app.add_middleware(Guard)
  return app
