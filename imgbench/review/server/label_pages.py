"""Pages of labelers: images to label, feedback of training, all classes.

No answer of an evaluation task tells a label of the data set or a review.
"""

import functools
import time
from typing import Any

from starlette import requests
from starlette import responses
from starlette import routing

from imgbench import typed
from imgbench.review import decide
from imgbench.review import hierarchy
from imgbench.review import labeling
from imgbench.review.server import api
from imgbench.review.server import review_pages
from imgbench.review.server import web

_HINTS = {
  **{"client": str, "task": int, "image": str, "class": int, "ms": int},
  **{"external": bool, "state": int | None, "problematic": str, "note": str},
}
_LABEL = ("client", "task", "image", "class", "ms", "external")
_SUGGESTION = ("task", "image", "state", "problematic", "note")


def _find_task(connection, request: requests.Request) -> dict[str, Any]:
  """Returns a task that the user may label, or raises 404."""
  number = request.path_params["task"]
  for task in labeling.list_tasks(connection, request.state.user["id"]):
    if task["id"] == number:
      return task
  raise web.fail(404, "there is no such task, or it is not open to you")


def _describe(connection, request: requests.Request) -> dict[str, Any]:
  """Returns an image of a task that the user may see, or raises 404."""
  values, user = request.path_params, request.state.user["id"]
  image = api.find_image(connection, values["image"])
  found = labeling.describe_image(connection, values["task"], user, image)
  if found is None:
    raise web.fail(404, "this image is not open to you now")
  return {**found, "id": image}


def get_next(request: requests.Request) -> responses.Response:
  """Gives the user the next image and redirects to it."""
  user = request.state.user["id"]
  with web.get_site(request).writing() as connection:
    task = _find_task(connection, request)
    image = labeling.find_next(connection, task["id"], user, time.time())
    query = "SELECT public_id FROM image WHERE id = ?"
    found = connection.execute(query, (image,)).fetchone()
  if found is None:
    return get_done(request)
  return responses.RedirectResponse(f"/label/{task['id']}/{found[0]}", 303)


def get_done(request: requests.Request) -> responses.Response:
  """Shows how far the user is, after each part."""
  with web.get_site(request).reading() as connection:
    task = _find_task(connection, request)
  ended = task["parts_done"] == task["parts"]
  parts = f"{task['parts_done']} of {task['parts']} parts are complete"
  return web.render(
    request,
    "label_done.html.j2",
    kicker=task["name"],
    heading="All images are labeled" if ended else parts,
    **{"task": task, "ended": ended},
  )


def get_image(request: requests.Request) -> responses.Response:
  """Shows an image to label."""
  with web.get_site(request).reading() as connection:
    found = _describe(connection, request)
  final = found["answered"] and found["mode"] == "training"
  content = {"task": found["task"], "image": found["image"], "final": final}
  content["chosen"] = found["selected"]
  return web.render(
    request,
    "label.html.j2",
    **{"content": content, "image": found, "final": final},
  )


def get_feedback(request: requests.Request) -> responses.Response:
  """Shows what a user of a training task should have answered."""
  user = request.state.user["id"]
  with web.get_site(request).reading() as connection:
    found = _describe(connection, request)
    number, image = found["task"], found["id"]
    feedback = labeling.give_feedback(connection, number, user, image)
  if feedback is None:
    raise web.fail(404, "there is no feedback on this image")
  root, last = f"/label/{number}", found["number"] == found["size"]
  content = {"task": number, "image": found["image"], "feedback": True}
  content["onward"] = f"{root}/done" if last else root
  return web.render(
    request,
    "label_feedback.html.j2",
    states=review_pages.STATES,
    reasons=decide.REASONS,
    **{"content": content, "image": found, "feedback": feedback},
  )


def post_label(request: requests.Request) -> responses.Response:
  """Writes an answer; tells the page that comes next, once it is on disk."""
  content = web.read_json(request)
  typed.check_fields(_HINTS, content, _LABEL)
  user = request.state.user["id"]
  with web.get_site(request).writing() as connection:
    image = api.find_image(connection, content["image"])
    done = labeling.confirm(
      connection,
      user,
      content["task"],
      image,
      content["class"],
      **{name: content[name] for name in ("client", "ms", "external")},
      now=time.time(),
    )
  url = f"/label/{content['task']}"
  if done["feedback"]:
    url += f"/{content['image']}/feedback"
  elif done["closed"]:
    url += "/done"
  return responses.JSONResponse({"next": url})


def post_suggestion(request: requests.Request) -> responses.Response:
  """Writes what a user of a training task suggests to reviewers."""
  content = web.read_json(request)
  typed.check_fields(_HINTS, content, _SUGGESTION)
  user, names = request.state.user["id"], ("state", "problematic", "note")
  values: Any = {name: content[name] for name in names}
  with web.get_site(request).writing() as connection:
    image = api.find_image(connection, content["image"])
    labeling.suggest(connection, user, content["task"], image, **values)
  return responses.JSONResponse({})


def set_popup(request: requests.Request) -> responses.Response:
  """Sets when feedback of a training task appears."""
  popup, user = request.state.form.get("popup", ""), request.state.user["id"]
  with web.get_site(request).writing() as connection:
    task = request.path_params["task"]
    labeling.set_popup(connection, user, task, str(popup))
  return responses.RedirectResponse("/", 303)


def get_classes(request: requests.Request) -> responses.Response:
  """Returns the hierarchy of the classes."""
  with web.get_site(request).reading() as connection:
    tree = hierarchy.build_tree(connection)
  headers = {"cache-control": "private, max-age=300"}
  return responses.JSONResponse({"tree": tree}, 200, headers)


_route = functools.partial(routing.Route, methods=["POST"])
ROUTES = [
  routing.Route("/label/{task:int}", get_next),
  routing.Route("/label/{task:int}/done", get_done),
  routing.Route("/label/{task:int}/{image}", get_image),
  routing.Route("/label/{task:int}/{image}/feedback", get_feedback),
  _route("/label/{task:int}/popup", set_popup),
  _route("/api/label", post_label),
  _route("/api/label/suggestion", post_suggestion),
  routing.Route("/api/classes", get_classes),
]
