"""Endpoints of scripts: the next image, its state, votes, undo, image bytes."""

import functools
import json
import threading
import time
from typing import Any

from absl import logging
from starlette import requests
from starlette import responses
from starlette import routing

from imgbench import errors
from imgbench import typed
from imgbench.review import decide
from imgbench.review import store
from imgbench.review.server import auth
from imgbench.review.server import web

_EVENTS = 200  # in one request
_lock = threading.Lock()
_HINTS = {
  **{"campaign": int | None, "image": str, "action": str | None},
  **{"events": list, "client": str},
}


def find_image(connection, public_id: str) -> int:
  """Returns the id of an image, or raises 404."""
  image = decide.find_image(connection, public_id)
  if image is None:
    raise web.fail(404, "no such image")
  return image


def describe(
  connection, request: requests.Request, campaign: int | None, image: int
) -> dict[str, Any]:
  """Returns the state of an image for a user, or raises 404.

  Args:
    connection: of the database.
    request: of the user.
    campaign: id; None for the panel.
    image: id.
  """
  user = request.state.user
  if campaign is None:
    if user["role"] not in auth.ACCESS["panel"]:
      raise web.fail(403, "only the panel has no campaign")
    return decide.describe_case(connection, image, user["id"])
  state = decide.describe_item(connection, campaign, image, user["id"])
  if state is None:
    raise web.fail(404, "no such image in this campaign")
  return state


def get_next(request: requests.Request) -> responses.Response:
  """Leases the next image and redirects to it."""
  campaign, user = request.path_params["campaign"], request.state.user["id"]
  with web.get_site(request).writing() as connection:
    image = decide.lease_next(connection, campaign, user, time.time())
    query = "SELECT public_id FROM image WHERE id = ?"
    found = connection.execute(query, (image,)).fetchone()
  if found is None:
    return web.render(request, "nothing_left.html.j2", campaign=campaign)
  return responses.RedirectResponse(f"/review/{campaign}/{found[0]}", 303)


def get_state(request: requests.Request) -> responses.Response:
  """Returns the state of an image, in a campaign or for the panel."""
  values = request.path_params
  with web.get_site(request).reading() as connection:
    image = find_image(connection, values["image"])
    state = describe(connection, request, values.get("campaign"), image)
  return responses.JSONResponse(state)


def post_events(request: requests.Request) -> responses.Response:
  """Writes events on an image; the answer comes once they are on disk."""
  content = web.read_json(request)
  typed.check_fields(_HINTS, content, ("image", "events"))
  campaign, action = content.get("campaign"), content.get("action")
  if len(content["events"]) > _EVENTS or len(action or "") > 64:
    raise web.fail(422, f"at most {_EVENTS} events and 64 letters of action")
  events = [
    typed.build_dataclass(decide.Event, values, f"events[{number}].")
    for number, values in enumerate(content["events"])
  ]
  user = request.state.user["id"]
  if any(event.kind == "panel" for event in events):
    campaign = None
  with web.get_site(request).writing() as connection:
    image = find_image(connection, content["image"])
    describe(connection, request, campaign, image)  # It may be refused.
    number = decide.apply(connection, user, image, events, campaign, action)
    state = describe(connection, request, campaign, image)
  return responses.JSONResponse({"applied": number, "state": state})


def post_undo(request: requests.Request) -> responses.Response:
  """Takes back the last action of the user in a campaign, or in the panel."""
  content = web.read_json(request)
  typed.check_fields(_HINTS, content, ("client",))
  campaign, user = content.get("campaign"), request.state.user["id"]
  state: dict[str, Any] | None = None
  with web.get_site(request).writing() as connection:
    image = decide.undo(connection, user, content["client"], campaign)
    if image is not None:
      state = describe(connection, request, campaign, image)
  name = state and state["image"]
  return responses.JSONResponse({"image": name, "state": state})


@functools.lru_cache(16)
def _open_images(place: str):
  """Returns a function from the id of an image to its bytes and their type."""
  from imgbench.review import images  # It imports JAX.

  read = images.open_images(json.loads(place))
  return lambda name: images.encode(read(name))


def get_image(request: requests.Request) -> responses.Response:
  """Returns an image, encoded again so that its bytes tell only the picture."""
  query = "SELECT i.name, images FROM image i JOIN dataset d ON d.id = dataset"
  with web.get_site(request).reading() as connection:
    image = find_image(connection, request.path_params["image"])
    query += " WHERE i.id = ?"
    name, place = connection.execute(query, (image,)).fetchone()
  try:
    with _lock:  # One thread reads a set.
      read = _open_images(place)
    content, kind = read(name)
  except Exception as error:  # Of many kinds; no image has no shape.
    logging.warning("image %s of %s: %s", name, place, errors.describe(error))
    raise web.fail(404, "this image is missing or damaged") from error
  headers = {"cache-control": "private, max-age=86400"}
  return responses.Response(content, media_type=kind, headers=headers)


def get_search(request: requests.Request) -> responses.Response:
  """Returns the classes with a text: exact, prefix, word, then the gloss."""
  text = request.query_params.get("q", "").strip().lower()
  with web.get_site(request).reading() as connection:
    rows = store.fetch(connection, "search", text=text)
  return responses.JSONResponse({"classes": [dict(row) for row in rows]})


ROUTES = [
  routing.Route("/review/{campaign:int}", get_next),
  routing.Route("/api/review/{campaign:int}/{image}", get_state),
  routing.Route("/api/panel/{image}", get_state),
  routing.Route("/api/events", post_events, methods=["POST"]),
  routing.Route("/api/undo", post_undo, methods=["POST"]),
  routing.Route("/images/{image}", get_image),
  routing.Route("/search", get_search),
]
