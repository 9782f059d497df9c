"""Pages on labeling tasks for the owner of a study: progress and numbers."""

import dataclasses
import random

from starlette import requests
from starlette import responses
from starlette import routing

from imgbench import errors
from imgbench.review import labeling
from imgbench.review import store
from imgbench.review.server import results_pages as pages
from imgbench.review.server import web
from imgbench.tables import formats
from imgbench.tables import page
from imgbench.tables import table

_ALL = "evaluation"  # all tasks of this mode, in addresses


def _render(request, heading, blocks, **more) -> responses.Response:
  """Returns a page; admins create a task there, or change one."""
  more = {"modes": labeling.MODES, "task": None, **more}
  more["names"] = pages.fetch(request, "study names")
  return pages.render(request, heading, blocks, {}, "study.html.j2", **more)


def _list_progress(rows) -> list[page.Block]:
  """Returns blocks; rows of the query begin with what is shown."""
  link = lambda row: table.RichText(row["name"], url=f"/study/{row['id']}")
  header = ("task", "mode", "state", "labeler", "images", "parts")
  return pages.tabulate(header, [(link(row), *row[1:6]) for row in rows], 4)


def get_studies(request: requests.Request) -> responses.Response:
  """Lists tasks with the progress of labelers, and what they suggest."""
  with web.get_site(request).reading() as connection:
    progress = store.fetch(connection, "study progress")
  tasks = _list_progress(progress)
  if any(row["mode"] == _ALL for row in progress):
    text = "All evaluation tasks together"
    tasks.append(page.Heading(table.RichText(text, url=f"/study/{_ALL}")))
  found = pages.fetch(request, "study suggestions")
  rows = [(pages.link(*row[:2]), *row[2:]) for row in found]
  header = ("image", "by", "answer", "suggested", "problematic", "note")
  blocks = {"Tasks": tasks, "Suggestions": pages.tabulate(header, rows, 6)}
  return _render(request, "Study", blocks)


def _list_times(labelers) -> list[page.Block]:
  """Returns blocks on `study.Study.labelers`."""
  rows = [
    (x["name"], f"{x['answers']:,}", formats.percent(x["external"]))
    + (formats.duration(x["seconds"]), formats.duration(x["active_seconds"]))
    for x in labelers
  ]
  header = ("labeler", "answers", "other sources, %", "median time", "active")
  return pages.tabulate(header, rows)


def _list_parts(labelers) -> list[page.Block]:
  """Returns blocks on right answers of `study.Study.labelers`."""
  text = (
    "Right answers of each part. A label of the data set that nobody has"
    " reviewed counts as right."
  )
  most = max(len(x["parts"]) for x in labelers)
  rows = []
  for x in labelers:
    cells = [
      table.RichText(f"{formats.percent(k / n, 0)}%", below=(f"{k} of {n}",))
      for k, n in x["parts"]
    ]
    rows.append((x["name"], *cells, *[""] * (most - len(cells))))
  header = ("labeler", *(f"part {n}" for n in range(1, most + 1)))
  return [page.Paragraph(text, muted=True), *pages.tabulate(header, rows)]


def get_study(request: requests.Request) -> responses.Response:
  """Shows the numbers of a task, or of all evaluations; as JSON for scripts."""
  from imgbench.papers import paired_table
  from imgbench.review import study  # Both import pandas, which takes a second.

  name = request.path_params["task"]
  with web.get_site(request).reading() as connection:
    progress = store.fetch(connection, "study progress")
    same = lambda row: name == str(row["id"]) or name == row["mode"] == _ALL
    progress = [row for row in progress if same(row)]
    if not progress:
      raise web.fail(404, "no such task")
    found = study.measure(connection, {row["id"] for row in progress})
  if request.url.path.startswith("/api/"):
    content = dataclasses.asdict(found)
    for key in ("drops", "paired"):
      content[key] = [row._asdict() for row in getattr(found, key)]
    return responses.JSONResponse(content)
  blocks = {"Progress": _list_progress(progress)}
  subset = request.query_params.get("subset", "all")
  known = " or ".join(found.subsets)
  errors.check(subset in found.subsets, "subset", known, subset)
  for group, results in found.results.items():
    rows = [(result.name, result, subset) for result in results]
    if group == "all" or len(found.datasets) > 1:
      title = "Accuracies" if group == "all" else group
      blocks[title] = pages.list_rows("classifier", rows)
  rows = [
    (r.model, r.metric, r.base, r.dataset)
    + (formats.with_bounds(r.drop, r.ci_low, r.ci_high),)
    for r in found.drops
    if r.subset == subset
  ]
  header = ("classifier", "metric", "from", "to", "drop in points")
  blocks["Drops"] = pages.tabulate(header, rows, 4) if rows else []
  about = page.Paragraph("On the images of all classes.", muted=True)
  blocks["Paired tests"] = [] if subset == "all" else [about]
  blocks["Paired tests"].append(paired_table.grid(found.paired))
  if found.labelers:
    blocks["Time per image"] = _list_times(found.labelers)
    if name != _ALL:
      blocks["Learning curve"] = _list_parts(found.labelers)
  subsets = {text: text.replace("_", " ") for text in found.subsets}
  forms = [("Show", "", {"subset": (subsets, subset)})]
  task = None if name == _ALL else progress[0]
  heading = task["name"] if task else "All evaluation tasks"
  access = {row["labeler"] for row in progress if row["access"]}
  more = {"forms": forms, "access": access}
  return _render(request, heading, blocks, task=task, **more)


def post_task(request: requests.Request) -> responses.Response:
  """Creates a task; or closes or opens one, or sets who may label."""
  form = request.state.form
  text = lambda key: str(form.get(key) or "").strip()
  number = lambda key: pages.parse_number(key, text(key) or "0")
  several = lambda key: [str(value) for value in form.getlist(key)]
  with web.get_site(request).writing() as connection:
    if task := number("id"):
      action, states = text("action"), {"": None, "close": 0, "open": 1}
      errors.check(action in states, "action", "close or open", repr(action))
      state = states[action]
      query = "UPDATE task SET active = ifnull(?, active) WHERE id = ?"
      changed = connection.execute(query, (state, task)).rowcount
      errors.check(bool(changed), "id", "a task", task)
      if state is None:
        labeling.set_access(connection, task, several("users"))
      return responses.RedirectResponse(f"/study/{task}", 303)
    classes = text("classes").replace(",", " ").split()  # as --suggest lists
    chosen = {"subset": text("subset"), "classes": classes}
    chosen |= {key: number(key) for key in ("sample", "seed")}
    lines = [line.strip() for line in text("images").splitlines()]
    named, images = set(filter(None, lines)), []
    query = "SELECT d.name, i.name FROM image i, dataset d WHERE d.id = dataset"
    known = set(map(tuple, connection.execute(query))) if named else set()
    sets = list(dict.fromkeys(several("datasets")))
    others = [n for n in named if not known.intersection((s, n) for s in sets)]
    expected = "names of images of the data sets"
    errors.check(not others, "images", expected, ", ".join(others[:1]))
    for name in sets:
      own = [image for image in named if (name, image) in known]
      if own or not named:
        chosen["names"] = own
        images += labeling.choose_images(connection, name, **chosen)
    random.Random(chosen["seed"]).shuffle(images)
    facts = text("name"), text("mode"), images, several("users")
    more = number("part"), bool(text("external"))
    labeling.create_task(connection, *facts, *more)
  return responses.RedirectResponse("/study", 303)


ROUTES = [
  routing.Route("/study", get_studies),
  routing.Route("/study/tasks", post_task, methods=["POST"]),
  routing.Route("/study/{task}", get_study),
  routing.Route("/api/study/{task}", get_study),
]
