"""Pages of admins: users, campaigns, import, export, agreement, models."""

import contextlib
import pathlib
import shutil
import tempfile

from starlette import requests
from starlette import responses
from starlette import routing

from imgbench import errors
from imgbench.review import campaigns
from imgbench.review import decide
from imgbench.review import store
from imgbench.review.server import auth
from imgbench.review.server import web

_SUFFIXES = (".json", ".pickle", ".pkl", ".csv")
_LISTS = {
  "users": "SELECT id, name, role, active, password IS NOT NULL AS joined,"
  " invitation IS NOT NULL AS invited FROM user ORDER BY name",
  "campaigns": "SELECT c.*, count(i.image) AS items, ifnull(sum(open), 0)"
  " AS open FROM campaign c LEFT JOIN item i ON i.campaign = c.id"
  " GROUP BY c.id ORDER BY c.id DESC",
  "datasets": "SELECT d.name, count(i.id) AS images FROM dataset d"
  " LEFT JOIN image i ON i.dataset = d.id GROUP BY d.id ORDER BY d.name",
  "models": "SELECT name, source FROM model ORDER BY name",
}


def show(
  request: requests.Request, link: str = "", told: str = ""
) -> responses.Response:
  """Shows all that an admin changes.

  Args:
    request: of the admin.
    link: an invitation to hand on.
    told: what was imported.
  """
  with web.get_site(request).reading() as connection:
    lists = {
      name: [dict(row) for row in connection.execute(query)]
      for name, query in _LISTS.items()
    }
  link = link and str(request.base_url).rstrip("/") + link
  choices: dict[str, object] = {"roles": store.ROLES}
  choices["policies"] = decide.POLICIES
  choices["priorities"] = campaigns.PRIORITIES
  choices |= {"link": link, "told": told}
  return web.render(request, "admin.html.j2", **lists, **choices)


def change_user(request: requests.Request) -> responses.Response:
  """Invites a user, changes the role, or deactivates the account."""
  form = request.state.form
  name, role, action = (
    str(form.get(key, "")) for key in ("name", "role", "action")
  )
  own = name.strip().lower() == request.state.user["name"].lower()
  errors.check(not own, "name", "another user than you", name)
  queries = {
    "role": "UPDATE user SET role = :role WHERE name = :name",
    "deactivate": "UPDATE user SET active = 0, password = NULL,"
    " invitation = NULL WHERE name = :name",
  }
  with web.get_site(request).writing() as connection:
    if action in queries:
      fits = action == "deactivate" or role in store.ROLES
      errors.check(fits, "role", "a known one", repr(role))
      key = {"name": name, "role": role}
      known = connection.execute(queries[action], key).rowcount
      errors.check(bool(known), "name", "a user", name)
      return responses.RedirectResponse("/admin", 303)
    link = auth.invite(connection, name, role)
  return show(request, link)


def change_campaign(request: requests.Request) -> responses.Response:
  """Creates or closes a campaign."""
  form = request.state.form
  text = lambda key, default="": str(form.get(key) or default)
  try:
    number, votes = int(text("id", "0")), int(text("votes", "1"))
    control = float(text("control", "0"))
  except ValueError as error:
    raise web.fail(422, "votes, control: expected numbers") from error
  with web.get_site(request).writing() as connection:
    if number:
      query = "UPDATE campaign SET active = 0 WHERE id = ?"
      connection.execute(query, (number,))
    else:
      campaigns.create(
        connection,
        text("name").strip(),
        text("policy"),
        votes,
        [str(name) for name in form.getlist("datasets")],
        text("priority", "random"),
        control,
        bool(form.get("show_names")),
      )
  return responses.RedirectResponse("/admin", 303)


def import_files(request: requests.Request) -> responses.Response:
  """Imports an uploaded file of labels, and files of this machine."""
  from imgbench.review import imports  # It imports JAX.

  form = request.state.form
  lines = lambda key: str(form.get(key, "")).split("\n")
  given = {
    key: [line.strip() for line in lines(key) if line.strip()]
    for key in ("predictions", "images")
  }
  upload = form.get("annotations")
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
    if getattr(upload, "filename", ""):
      suffix = pathlib.PurePath(upload.filename).suffix
      expected, name = " or ".join(_SUFFIXES), repr(upload.filename)
      errors.check(suffix in _SUFFIXES, "file", expected, name)
      path = pathlib.Path(folder, f"upload{suffix}")
      with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)
      given["annotations"] = [str(path)]
    # Others read while it writes.
    opened = store.open_database(web.get_site(request).path)
    connection = stack.enter_context(contextlib.closing(opened))
    counts, _ = imports.import_files(connection, **given)
  new = [f"{number:+,} {name}" for name, number in counts.items() if number]
  return show(request, told=", ".join(new) or "nothing new")


def export(request: requests.Request) -> responses.Response:
  """Returns the labels or events as a file."""
  from imgbench.review import exports  # It imports pandas.

  form, forms = (
    request.query_params.get("form", "json"),
    ("json", "csv", "jsonl"),
  )
  errors.check(form in forms, "form", " or ".join(forms), repr(form))
  text = exports.export(web.get_site(request).path, form)
  headers = {"content-disposition": f'attachment; filename="labels.{form}"'}
  return responses.PlainTextResponse(text, headers=headers)


def show_agreement(request: requests.Request) -> responses.Response:
  """Shows how far reviewers agree."""
  from imgbench.review import agreement  # It imports JAX.

  with web.get_site(request).reading() as connection:
    tables = list(agreement.describe(connection))
  return web.render(request, "agreement.html.j2", tables=tables)


ROUTES = [
  routing.Route("/admin/import", import_files, methods=["POST"]),
  routing.Route("/admin/export", export),
  routing.Route("/admin/agreement", show_agreement),
  routing.Route("/admin", show),
  routing.Route("/admin/users", change_user, methods=["POST"]),
  routing.Route("/admin/campaigns", change_campaign, methods=["POST"]),
]
