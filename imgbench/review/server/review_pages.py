"""Pages of reviewers: home, images, classes, the panel, history, guides.

None shows names of models, counts of predictions, or votes of others before
the own vote.
"""

import datetime
from importlib import resources
import sqlite3
import time
from typing import Any

import markdown_it
import markupsafe
import nh3
from starlette import requests
from starlette import responses
from starlette import routing
from starlette import staticfiles

from imgbench.review import decide
from imgbench.review import hierarchy
from imgbench.review import labeling
from imgbench.review import store
from imgbench.review.server import api
from imgbench.review.server import auth
from imgbench.review.server import web

STATES = ("Unreviewed", "Wrong", "Unclear", "Correct", "Don’t know")
_POLICIES = {
  "single": "One vote decides.",
  "majority": "The majority of {} votes decides.",
  "unanimous": "{} equal votes decide; else the panel does.",
}
_SAMPLES = 12
_OWN_IMAGES = ("/images/", "/guide/images/")
_TAGS = frozenset(
  (
    *("a", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "hr"),
    *("img", "li", "ol", "p", "pre", "strong", "table", "tbody", "td", "th"),
    *("thead", "tr", "ul"),
  )
)
_ATTRIBUTES = {"a": {"href", "title"}, "img": {"src", "alt", "title"}}


def _find(connection, query: str, key, missing="no such page") -> sqlite3.Row:
  """Returns the row of a query, or raises 404."""
  row = connection.execute(query, (key,)).fetchone()
  if row is None:
    raise web.fail(404, missing)
  return row


def _find_campaign(connection, request: requests.Request) -> sqlite3.Row:
  query = "SELECT * FROM campaign WHERE id = ? AND active"
  missing = "there is no such campaign, or it is closed"
  return _find(connection, query, request.path_params["campaign"], missing)


def render_markdown(text: str) -> markupsafe.Markup:
  """Returns clean HTML; its images are those of this server."""

  def draw_image(renderer, tokens, index, options, env) -> str:
    own = tokens[index].attrGet("src").startswith(_OWN_IMAGES)
    draw = renderer.image if own else lambda *_: ""
    return draw(tokens, index, options, env)

  parser = markdown_it.MarkdownIt("commonmark", {"html": False})
  parser.enable("table").add_render_rule("image", draw_image)
  schemes = {"http", "https"}
  html = nh3.clean(
    parser.render(text),
    **{"tags": set(_TAGS), "attributes": _ATTRIBUTES, "url_schemes": schemes},
  )
  return markupsafe.Markup(html)


def _build_content(
  states: list, campaign: int | None, kind: str = "vote", **more: Any
) -> dict[str, Any]:
  """Returns what scripts read: states of images, and where keys lead to."""
  return {
    **{"campaign": campaign, "kind": kind, "grid": False, "onward": ""},
    **{"previous": None, "next": None, "reasons": decide.REASONS},
    **{"images_shown": states, **more},
  }


def get_home(request: requests.Request) -> responses.Response:
  """Shows the tasks of a user, and to reviewers the open campaigns."""
  user, campaigns = request.state.user, []
  reviews = user["role"] in auth.ACCESS["review"]
  with web.get_site(request).reading() as connection:
    tasks = labeling.list_tasks(connection, user["id"])
    found = decide.list_campaigns(connection, user["id"]) if reviews else []
    for campaign in found:
      query = (
        "SELECT policy, votes, count(*) AS images,"
        " ifnull(sum(NOT item.open), 0) AS done FROM campaign c"
        " JOIN item ON campaign = c.id WHERE c.id = ?"
      )
      row = dict(_find(connection, query, campaign["id"]))
      text = _POLICIES[row["policy"]].format(row["votes"])
      campaigns.append({**campaign, **row, "rule": text})
  return web.render(
    request,
    "home.html.j2",
    heading="Home",
    popups=labeling.POPUPS,
    **{"campaigns": campaigns, "tasks": tasks, "reviews": reviews},
  )


def get_image(request: requests.Request) -> responses.Response:
  """Shows an image and its classes to vote on."""
  with web.get_site(request).reading() as connection:
    campaign = _find_campaign(connection, request)
    image = api.find_image(connection, request.path_params["image"])
    state = api.describe(connection, request, campaign["id"], image)
  links = {name: state[name] for name in ("previous", "next")}
  onward = f"/review/{campaign['id']}"
  content = _build_content([state], campaign["id"], onward=onward, **links)
  return _show_image(request, content, campaign["name"], panel=False)


def get_case(request: requests.Request) -> responses.Response:
  """Shows an image on which reviewers disagree to a member of the panel."""
  with web.get_site(request).reading() as connection:
    image = api.find_image(connection, request.path_params["image"])
    state = decide.describe_case(connection, image, request.state.user["id"])
  for row in state["rows"]:
    row["assigned"] = False
  content = _build_content([state], None, "panel", onward="/panel")
  return _show_image(request, content, "Panel", panel=True)


def _show_image(request, content, name: str, panel: bool):
  (image,) = content["images_shown"]
  if counts := image.get("images"):
    name += f" · {counts['saved']:,} saved, {counts['open']:,} open"
  return web.render(
    request,
    "image.html.j2",
    kicker=name,
    heading="Decide" if panel else "Review",
    reasons=list(decide.REASONS),
    categories=decide.CATEGORIES,
    **{"content": content, "image": image, "panel": panel},
  )


def list_classes(request: requests.Request) -> responses.Response:
  """Lists the classes with open images in a campaign."""
  query = (
    "SELECT id, name FROM class WHERE id IN (SELECT p.class FROM item"
    " CROSS JOIN prediction p ON p.image = item.image WHERE campaign = ?"
    " AND open = 1 AND p.state = 0 AND p.panel = 0) ORDER BY name"
  )
  with web.get_site(request).reading() as connection:
    campaign = _find_campaign(connection, request)
    rows = connection.execute(query, (campaign["id"],)).fetchall()
  root = f"/grid/{campaign['id']}"
  return web.render(
    request,
    "classes.html.j2",
    kicker=campaign["name"],
    heading="Classes with open images",
    classes={f"{root}/{row['id']}": row["name"] for row in rows},
  )


def get_grid(request: requests.Request) -> responses.Response:
  """Shows open images with one class to vote on."""
  user, now = request.state.user["id"], time.time()
  with web.get_site(request).reading() as connection:
    campaign = _find_campaign(connection, request)
    query = "SELECT id AS class, wnid, name, gloss FROM class WHERE id = ?"
    row = dict(_find(connection, query, request.path_params["class"]))
    found = decide.list_grid(
      connection, campaign["id"], row["class"], user, now
    )
  row["assigned"], row["guide"] = False, None
  states = [
    {"image": item["image"], "rows": [{**row, "state": item["state"]}]}
    for item in found
  ]
  return web.render(
    request,
    "grid.html.j2",
    kicker=campaign["name"],
    heading=row["name"],
    content=_build_content(states, campaign["id"], grid=True),
    **{"row": row, "images": states},
  )


def get_class(request: requests.Request) -> responses.Response:
  """Shows a class, what is above and beside it, its guides, and images.

  Their label is no longer open, and no labeling task has them.
  """
  wnid = request.path_params["wnid"]
  guides = (
    "SELECT name, title FROM (SELECT *, max(revision) FROM guide"
    " GROUP BY name) AS g WHERE EXISTS"
    " (SELECT 1 FROM json_each(g.classes) WHERE value = ?)"
  )
  # Labels of earlier annotations alone: those say nothing on votes.
  samples = (
    "SELECT public_id FROM prediction p JOIN image i ON i.id = p.image"
    " WHERE p.class = :id AND i.label = :id AND imported = 3 AND state = 3"
    " AND problematic IS NULL AND NOT EXISTS (SELECT 1 FROM campaign c"
    " CROSS JOIN item ON campaign = c.id AND item.image = i.id"
    " WHERE active AND open) AND NOT EXISTS (SELECT 1 FROM task_image t"
    " WHERE t.image = i.id) ORDER BY public_id LIMIT :limit"
  )
  with web.get_site(request).reading() as connection:
    row = _find(connection, "SELECT * FROM class WHERE wnid = ?", wnid)
    key = {"id": row["id"], "limit": _SAMPLES}
    found = [r[0] for r in connection.execute(samples, key)]
    listed = connection.execute(guides, (wnid,)).fetchall()
    tree = hierarchy.build_tree(connection)
  paths = [x for x in hierarchy.find_paths(tree, wnid) if len(x) > 1]
  beside = {x["wnid"]: x for path in paths for x in path[-2]["children"]}
  return web.render(
    request,
    "class.html.j2",
    kicker="Class",
    heading=row["name"],
    **{"row": row, "guides": listed, "samples": found, "paths": paths},
    beside=[node for node in beside.values() if node["wnid"] != wnid],
  )


def get_guide(request: requests.Request) -> responses.Response:
  """Shows the newest revision of a guide."""
  query = "SELECT * FROM guide WHERE name = ? ORDER BY revision DESC LIMIT 1"
  with web.get_site(request).reading() as connection:
    row = _find(connection, query, request.path_params["name"])
  return web.render(
    request,
    "guide.html.j2",
    kicker=f"Guide, revision {row['revision']}",
    heading=row["title"],
    html=render_markdown(row["text"]),
  )


def get_guide_image(request: requests.Request) -> responses.Response:
  """Returns an image of a guide."""
  query = "SELECT data FROM guide_image WHERE sha256 = ?"
  with web.get_site(request).reading() as connection:
    row = _find(connection, query, request.path_params["sha256"])
  headers = {"cache-control": "private, max-age=86400"}
  kind = "image/jpeg" if row["data"].startswith(b"\xff") else "image/png"
  return responses.Response(row["data"], media_type=kind, headers=headers)


def _describe_event(row: dict[str, Any]) -> str:
  """Returns one line on an event of a user."""
  if row["kind"] == "save":
    return "Saved"
  if row["kind"] == "category":
    return f"{row['reason']}: {'added' if row['state'] else 'removed'}"
  if row["target"] != store.IMAGE:
    return f"{row['class']}: {STATES[row['state'] or 0]}"
  if row["state"] == decide.PROBLEM:
    return f"Problematic: {row['reason']}"
  return "Not problematic"


def get_history(request: requests.Request) -> responses.Response:
  """Shows what a user did last, and takes the last action back."""
  with web.get_site(request).reading() as connection:
    rows = decide.list_history(connection, request.state.user["id"])
  lines = []
  for row in rows:
    moment = datetime.datetime.fromtimestamp(row["time"], datetime.UTC)
    panel = row["kind"] == "panel"
    place = "/panel" if panel else f"/review/{row['campaign']}"
    lines.append(
      {
        **{"image": row["image"], "url": f"{place}/{row['image']}"},
        **{"text": _describe_event(row), "note": row["note"]},
        "below": f"{moment:%Y-%m-%d %H:%M} UTC{', panel' if panel else ''}",
      }
    )
  content = _build_content([], rows[0]["campaign"]) if rows else None
  return web.render(
    request,
    "list.html.j2",
    heading="My history",
    **{"content": content, "lines": lines, "nothing": "No vote yet."},
  )


def get_panel(request: requests.Request) -> responses.Response:
  """Lists the images that the panel decides."""
  with web.get_site(request).reading() as connection:
    images = decide.list_panel(connection)
  lines = [
    {"image": image, "url": f"/panel/{image}", "text": f"Image {number}"}
    | {"note": "", "below": "Reviewers disagree"}
    for number, image in enumerate(images, 1)
  ]
  nothing = "The panel has nothing to decide."
  return web.render(
    request,
    "list.html.j2",
    heading="Panel",
    **{"content": None, "lines": lines, "nothing": nothing},
  )


def get_help(request: requests.Request) -> responses.Response:
  """Shows keys, and what the states mean."""
  return web.render(request, "help.html.j2", heading="Help")


def get_style(request: requests.Request) -> responses.Response:
  """Returns the style that pages share with reports."""
  del request
  file = resources.files("imgbench") / "tables/templates/page.css"
  return responses.Response(file.read_bytes(), media_type="text/css")


ROUTES = [
  routing.Route("/", get_home),
  routing.Route("/review/{campaign:int}/{image}", get_image),
  routing.Route("/grid/{campaign:int}", list_classes),
  routing.Route("/grid/{campaign:int}/{class:int}", get_grid),
  routing.Route("/class/{wnid:path}", get_class),
  routing.Route("/guide/{name}", get_guide),
  routing.Route("/guide/images/{sha256}", get_guide_image),
  routing.Route("/history", get_history),
  routing.Route("/panel", get_panel),
  routing.Route("/panel/{image}", get_case),
  routing.Route("/help", get_help),
  routing.Route("/static/page.css", get_style),
  routing.Mount(
    "/static", staticfiles.StaticFiles(packages=[(__package__, "static")])
  ),
]
