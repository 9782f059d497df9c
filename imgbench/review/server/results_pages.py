"""Pages of viewers: accuracies, problematic images, categories, releases."""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import json
import threading
from typing import Any

from starlette import requests
from starlette import responses
from starlette import routing

from imgbench import errors
from imgbench.metrics import specs
from imgbench.review import store
from imgbench.review.server import web
from imgbench.tables import formats
from imgbench.tables import page
from imgbench.tables import table

_PREFIX = "multilabel_accuracy."
_NAMES = ("tfds", "icml2020", "lenient_mean", "imagenet_m")
_SHOWN = 120  # lines or images of a page
_NOTE = (
  "Percent with 95% intervals; below, the accuracy if all predictions that"
  " nobody has reviewed are wrong, and if all are right."
)
_lock = threading.Lock()


def fetch(request: requests.Request, query: str, **key) -> list[tuple]:
  """Returns the rows of a query of queries.sql."""
  with web.get_site(request).reading() as connection:
    return list(map(tuple, store.fetch(connection, query, **key)))


def render(
  request: requests.Request,
  heading: str,
  blocks: Mapping[str, Sequence[page.Block]],
  facts: Mapping[str, str],
  template: str = "results.html.j2",
  **context: Any,
) -> responses.Response:
  """Returns a page; `context` may have forms, images and version.

  A form is (button, address, {name: ({value: text}, chosen value)}); a field
  with no texts is hidden, one with None is filled in.
  """
  sections = [page.Section(n.lower(), n, found) for n, found in blocks.items()]
  default = {"forms": (), "images": (), "version": "", "sections": sections}
  context = {**default, **context, "heading": heading, "facts": facts}
  return web.render(request, template, **context)


def tabulate(header: Sequence[str], rows: Sequence, num_left: int = 1):
  """Returns blocks: a table, or the word none."""
  found = table.from_cells("", header, rows, num_left)
  return [found if rows else page.Paragraph("None.")]


def link(name: str, public_id: str) -> table.RichText:
  """Returns the name of an image, which leads to the image."""
  return table.RichText(name, url=f"/images/{public_id}")


def _number(request: requests.Request, name: str, default: str = "") -> int:
  """Returns a number of the address. Raises InputError."""
  return parse_number(name, request.query_params.get(name) or default)


def parse_number(name: str, text: str) -> int:
  """Returns a number that a user gave. Raises InputError."""
  fits = text.isascii() and text.isdigit() and len(text) < 16
  errors.check(fits, name, "a number", repr(text))
  return int(text)


@functools.cache
def _open(path: str, dataset: int):
  # It imports JAX, which would delay the start of a server by a second.
  from imgbench.review import live

  return live.Accuracies(path, dataset)


def _find_accuracies(request: requests.Request):
  """Returns accuracies, names of data sets by id, and the id of theirs."""
  names = dict(fetch(request, "datasets"))
  errors.check(bool(names), "database", "one with images", "none")
  dataset = _number(request, "dataset", str(min(names)))
  with web.get_site(request).reading() as connection:
    path = connection.execute("PRAGMA database_list").fetchone()["file"]
  with _lock:
    return _open(path, dataset), names, dataset


def _show(metric: str, row) -> table.Text:
  """Returns the value, interval and bounds of a metric; see `list_rows`."""
  _, result, subset = row
  rows = result.rows[subset]
  entry = rows.get(metric)
  if entry is None or entry.value is None:
    return table.RichText(formats.DASH, help=entry.definition if entry else "")
  join = lambda *numbers: " to ".join(map(formats.percent, numbers))
  below = [f"[{join(entry.ci_low, entry.ci_high)}]" if result.current else "…"]
  unreviewed = rows.get(f"{metric}.unreviewed")
  if unreviewed is not None and unreviewed.value:
    ends = [rows[f"{metric}.bound_{end}"].value for end in ("low", "high")]
    below.append(join(*ends))
  return table.RichText(join(entry.value), below=tuple(below))


def list_rows(heading: str, rows) -> list[page.Block]:
  """Returns blocks; rows are (what the first column shows, result, subset)."""
  entry = lambda row: row[1].rows[row[2]][f"{_PREFIX}lenient_mean.unreviewed"]
  metrics = {"top-1": "top1_accuracy"} | {n: _PREFIX + n for n in _NAMES}
  columns = [
    table.Column(0, heading),
    table.number(lambda row: f"{entry(row).n:,}", "images"),
    table.number(lambda row: f"{entry(row).correct or 0:,}", "unreviewed"),
    *(
      table.number(functools.partial(_show, metric), name)
      for name, metric in metrics.items()
    ),
  ]
  texts = {"top-1": specs.top_k_accuracy(1).definition}
  texts |= {n: specs.METRICS[_PREFIX + n].definition for n in _NAMES}
  return [
    page.Paragraph(_NOTE, muted=True),
    table.Table("", columns, rows),
    page.Folded("Definitions", page.Values(texts)),
  ]


def get_metrics(request: requests.Request) -> responses.Response:
  """Shows the accuracies of all models; for scripts as JSON.

  The version is another text if numbers are others. Scripts get it alone if it
  is the one that they know.
  """
  found, names, dataset = _find_accuracies(request)
  subset = request.query_params.get("subset", "all")
  results = found.overview(subset)
  version = f"{found.event}.{sum(result.current for result in results)}"
  if request.url.path.startswith("/api/"):
    content: dict[str, Any] = {"version": version, "dataset": names[dataset]}
    if request.query_params.get("known") != version:
      content["models"] = [
        {"id": r.id, "name": r.name, "current": r.current}
        | {"metrics": {k: vars(v) for k, v in r.rows[subset].items()}}
        for r in results
      ]
    return responses.JSONResponse(content)
  models = {result.id: result.name for result in results}
  value = lambda r: r.rows[subset][f"{_PREFIX}tfds"].value
  results.sort(key=lambda r: -1 if value(r) is None else value(r), reverse=True)
  query = f"?dataset={dataset}"
  rows = [
    (table.RichText(r.name, url=f"/metrics/{r.id}{query}"), r, subset)
    for r in results
  ]
  subsets = {name: name.replace("_", " ") for name in found.masks}
  fields = {"dataset": (names, dataset), "subset": (subsets, subset)}
  forms = [("Show", "", fields)]
  if len(models) > 1:
    best = [(models, result.id) for result in results[:2]]
    definitions = {name: name for name in _NAMES}
    fields = {"a": best[0], "b": best[1], "definition": (definitions, "tfds")}
    fields["dataset"] = {}, dataset
    forms.append(("Compare", "/metrics/compare", fields))
  facts = {"Data set": names[dataset], "Models": f"{len(models):,}"}
  blocks, more = {"Models": list_rows("model", rows)}, {"forms": forms}
  return render(request, "Accuracies", blocks, facts, version=version, **more)


def get_model(request: requests.Request) -> responses.Response:
  """Shows the accuracies of a model by subset."""
  found, names, dataset = _find_accuracies(request)
  result = found.measure(request.path_params["model"])
  rows = [(name.replace("_", " "), result, name) for name in result.rows]
  blocks = {"Subsets": list_rows("subset", rows)}
  return render(request, result.name, blocks, {"Data set": names[dataset]})


def get_comparison(request: requests.Request) -> responses.Response:
  """Shows how many reviews decide which of two models is better."""
  found, sets, dataset = _find_accuracies(request)
  definition = request.query_params.get("definition", "tfds")
  a, b = _number(request, "a"), _number(request, "b")
  result = found.compare(a, b, definition)
  names = [dict(found.models)[model] for model in (a, b)]
  text = f"{' and '.join(names)} are equally good."
  if result.most:
    text = (
      f"At most {result.most:,} more reviews decide the order: those of the"
      f" first {result.most:,} lines. {result.least:,} can be enough."
    )
  elif result.low or result.high:
    better, other = names if result.low >= 0 else names[::-1]
    text = f"{better} is at least as good as {other}, whatever further reviews"
    text += " of predictions say."
  in_script = request.url.path.startswith("/api/")
  shown = result.open[: None if in_script else _SHOWN]
  ids = json.dumps([image for _, image, *_ in shown])
  listed = fetch(request, "described images", images=ids)
  images = {row[0]: row[1:] for row in listed}
  with web.get_site(request).reading() as connection:
    classes = dict(map(tuple, connection.execute("SELECT id, name FROM class")))
  lines = [
    (*images[image], classes[index], names[model], effect)
    for effect, image, index, model in shown
  ]
  if in_script:
    content = {**dataclasses.asdict(result), "open": lines}
    return responses.JSONResponse(content)
  rows = [
    (place, link(*line[:2]), *line[2:-1], formats.decimal(100 * line[-1], 4))
    for place, line in enumerate(lines, 1)
  ]
  header = ("line", "image", "label", "not reviewed", "predicted by", "points")
  blocks = {"Order": [page.Paragraph(text)]}
  blocks["Reviews"] = tabulate(header, rows, 5)
  low, high = formats.signed(result.low), formats.signed(result.high)
  facts = {"Data set": sets[dataset], "Definition": definition}
  facts |= {"Images": f"{result.n:,}", "Difference": f"{low} to {high} points"}
  facts["Reviews that matter"] = f"{len(result.open):,}"
  return render(request, " and ".join(names), blocks, facts)


def show_images(
  request: requests.Request, heading: str, query: str, kind: str
) -> responses.Response:
  """Shows numbers of images by kind, and those of one kind or of all."""
  chosen = request.query_params.get(kind) or None
  numbers = fetch(request, f"{query} numbers")
  found = fetch(request, f"{query} images", kind=chosen, most=_SHOWN)
  images = [(public, [x for x in lines if x]) for public, *lines in found]
  fields = {kind: ({"": "all"} | {name: name for name, _ in numbers}, chosen)}
  total = sum(n for name, n in numbers if chosen in (None, name))
  facts = {"Shown": f"{len(images):,} of {total:,}"}
  rows = [(name, f"{n:,}") for name, n in numbers]
  blocks, forms = (
    {"Numbers": tabulate((kind, "number"), rows)},
    ("Show", "", fields),
  )
  return render(request, heading, blocks, facts, forms=[forms], images=images)


def get_releases(request: requests.Request) -> responses.Response:
  """Lists the releases of the labels."""
  rows, events = [], {0: "nothing"}
  for name, *cells, event, before in fetch(request, "releases"):
    url = f"/releases/diff?a={before}&b={event}"
    rows.append((table.RichText(name, url=url), *cells, event))
    events[event] = name
  with web.get_site(request).reading() as connection:
    (last,) = connection.execute("SELECT max(id) FROM event").fetchone()
  fields = {"a": (events, max(events)), "b": (events | {last: "now"}, last)}
  forms = [("Compare", "/releases/diff", fields)] if rows else []
  if request.state.user["role"] == "admin":
    forms.append(("Release", "/releases", {"name": (None, None)}))
  header = ("release", "time", "by", "decisions before it", "event")
  blocks = {"Releases": tabulate(header, rows, 3)}
  return render(request, "Releases of the labels", blocks, {}, forms=forms)


def post_release(request: requests.Request) -> responses.Response:
  """Makes a release of the labels as they are."""
  name = str(request.state.form.get("name", "")).strip()
  with web.get_site(request).writing() as connection:
    known = {row[0] for row in store.fetch(connection, "releases")}
    # review export --at also takes numbers of events.
    fits = 0 < len(name) <= 64 and not name.isdigit() and name not in known
    errors.check(fits, "name", "a new name of at most 64 letters", repr(name))
    user = request.state.user["id"]
    store.add_event(connection, "release", note=name, user=user)
  return responses.RedirectResponse("/releases", 303)


def get_diff(request: requests.Request) -> responses.Response:
  """Shows the labels that differ between two events."""
  a, b = sorted((_number(request, "a"), _number(request, "b")))
  found = fetch(request, "changes", a=a, b=b)
  ((imported,),) = fetch(request, "imports", a=a, b=b)
  counts = collections.Counter(tuple(change) for _, _, _, *change in found)
  totals = [(*change, n) for change, n in sorted(counts.items())]
  rows = [(link(*row[:2]), *row[2:]) for row in found[:_SHOWN]]
  header = ("image", "class", "before", "after")
  blocks = {"Numbers": tabulate(("before", "after", "labels"), totals, 2)}
  blocks["Labels"] = tabulate(header, rows, 4)
  facts = {"Events": f"{a:,} to {b:,}", "Changed labels": f"{len(found):,}"}
  facts["Images with new imported labels"] = f"{imported:,}"
  return render(request, "Changed labels", blocks, facts)


_PROBLEMATIC = ("Problematic images", "problematic", "reason")
_CATEGORIES = ("Categories", "category", "category")
ROUTES = [
  routing.Route("/metrics", get_metrics),
  routing.Route("/api/metrics", get_metrics),
  routing.Route("/metrics/compare", get_comparison),
  routing.Route("/api/metrics/compare", get_comparison),
  routing.Route("/metrics/{model:int}", get_model),
  routing.Route("/problematic", lambda r: show_images(r, *_PROBLEMATIC)),
  routing.Route("/categories", lambda r: show_images(r, *_CATEGORIES)),
  routing.Route("/releases", get_releases, methods=["GET"]),
  routing.Route("/releases", post_release, methods=["POST"]),
  routing.Route("/releases/diff", get_diff),
]
