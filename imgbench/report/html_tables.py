"""Tables of the HTML page. All text of a run goes through `formats.escape`."""

from collections.abc import Mapping
from collections.abc import Sequence
import json

from imgbench.metrics import specs
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import entries
from imgbench.tables import formats

UNREVIEWED = (
  "Never reviewed: top-1 predictions whose label no reviewer has judged for the"
  " image. They count as wrong; the bounds are the value with all of them wrong"
  " and with all of them right."
)
_AREAS = (
  '<th class="num" title="area under the precision-recall curve">Average'
  ' precision</th><th class="num" title="area under the ROC curve">ROC AUC</th>'
)


def dataset_title(key: str, synthetic: Sequence[str]) -> str:
  """The name of a data set, marked if a program has drawn it."""
  badge = ' <span class="badge">synthetic data</span>'
  return formats.escape(key) + (badge if key in synthetic else "")


def results(
  rows: Sequence[entries.Row], synthetic: Sequence[str], coverage: str
) -> str:
  """One line per metric, the data sets side by side, definitions below."""
  datasets = list(dict.fromkeys(row.dataset for row in rows))
  found = {(row.dataset, row.metric): row for row in rows}
  body = []
  for name in selection.first_metrics(rows, len(rows)):
    of_metric = [found.get((dataset, name)) for dataset in datasets]
    label = metric(name, list(filter(None, of_metric)), coverage)
    body.append(f'<tr><th scope="row">{label}</th>{cells(of_metric)}</tr>')
  return _side_by_side(["Metric"], datasets, body, synthetic, coverage)


def subsets(
  rows: Sequence[entries.Row], synthetic: Sequence[str], coverage: str
) -> str:
  """One line per metric and subset, the data sets side by side."""
  datasets = list(dict.fromkeys(row.dataset for row in rows))
  subset_names = list(dict.fromkeys(row.subset for row in rows))
  found = {(r.dataset, r.metric, r.subset): r for r in rows}
  body = []
  for metric in selection.first_metrics(rows, len(rows)):
    label = formats.escape(specs.describe(metric).label)
    head = f'<th scope="rowgroup" rowspan="{len(subset_names)}">{label}</th>'
    for subset in subset_names:
      of_subset = [found.get((d, metric, subset)) for d in datasets]
      name = f'<td class="subset-name">{formats.escape(subset)}</td>'
      body.append(f"<tr>{head}{name}{cells(of_subset)}</tr>")
      head = ""
  names = ["Metric", "Subset"]
  return _side_by_side(names, datasets, body, synthetic, coverage)


def _side_by_side(names, datasets, body, synthetic, coverage) -> str:
  columns = "".join(f'<th scope="col">{name}</th>' for name in names)
  if len(datasets) == 1:
    columns += (
      f'<th class="num start" scope="col">'
      f"{dataset_title(datasets[0], synthetic)}</th>"
      f'<th class="num" scope="col">{coverage} interval</th>'
      '<th class="num" scope="col">Correct of n</th>'
    )
  else:
    columns += "".join(
      f'<th class="num start" scope="col">{dataset_title(key, synthetic)}<span'
      f' class="below">{coverage} interval · correct of n</span></th>'
      for key in datasets
    )
  return table(f"<tr>{columns}</tr>", body, "wide")


def cells(rows: Sequence[entries.Row | None]) -> str:
  """Three cells for one row; one each, of two lines, for several."""
  drawn = []
  for row in rows:
    if row is None:
      drawn.append('<td class="num start">–</td>')
      continue
    interval = formats.interval(row)
    count = f"{row.n:,}"
    if row.correct is not None:
      count = f"{row.correct:,} of {count}"
    value = f"<b>{formats.value(row)}</b>"
    title = formats.escape(row.definition)
    reviews = unreviewed(row)
    if len(rows) == 1:
      drawn.append(
        f'<td class="num start" title="{title}">{value}{reviews}</td>'
        f'<td class="num">{interval or "–"}</td>'
        f'<td class="num muted">{count}</td>'
      )
    else:
      below = f"{interval} · {count}" if interval else count
      drawn.append(
        f'<td class="num start" title="{title}">{value}'
        f'<span class="below">{below}</span>{reviews}</td>'
      )
  return "".join(drawn)


def metric(name: str, rows: Sequence[entries.Row], coverage: str) -> str:
  """A metric's label with its definitions and how its intervals are made."""
  by_definition = {}
  for row in rows:
    if row.definition:
      by_definition.setdefault(row.definition, []).append(row.dataset)
  lines = list(by_definition)
  if len(lines) > 1:
    lines = [f"{', '.join(sets)}: {d}" for d, sets in by_definition.items()]
  methods = dict.fromkeys(row.ci_method for row in rows if row.ci_method)
  lines += [
    f"{coverage} interval: {method.replace('_', ' ')}" for method in methods
  ]
  below = "".join(
    f'<span class="definition">{formats.escape(line)}</span>' for line in lines
  )
  label = formats.escape(specs.describe(name).label)
  return f'<span title="{formats.escape(name)}">{label}</span>{below}'


def unreviewed(row: entries.Row) -> str:
  """What predictions that nobody has reviewed may do; empty where none."""
  words = formats.unreviewed(row)
  if not words:
    return ""
  return f'<span class="below unreviewed" title="{UNREVIEWED}">{words}</span>'


def pairs(
  dataset: inputs.DatasetFiles, chosen: Sequence[tuple[int, int, int]]
) -> str:
  """The most frequent confusions."""
  totals = dataset.confusion.sum(axis=1)
  body = [
    f"<tr><td>{formats.escape(dataset.name(true))}</td>"
    f"<td>{formats.escape(dataset.name(guess))}</td>"
    f'<td class="num">{count:,} of {totals[true]:,}</td></tr>'
    for true, guess, count in chosen
  ]
  return table(
    "<tr><th>True class</th><th>Predicted</th>"
    '<th class="num">Images of the true class</th></tr>',
    body,
  )


def classes(
  dataset: inputs.DatasetFiles, rows: Sequence[inputs.ClassRow]
) -> str:
  """Recall, precision and F1 by class, and areas under curves if known."""
  areas = any(row.average_precision is not None for row in rows)
  body = []
  for row in rows:
    taken = selection.taken_for(dataset.confusion, row.class_index)
    guess = (
      f"{formats.escape(dataset.name(taken[0]))} ({taken[1]:,})"
      if taken
      else "–"
    )
    low, high = row.recall_ci_low, row.recall_ci_high
    interval = "–" if low is None else f"{100 * low:.1f} – {100 * high:.1f}"
    body.append(
      f'<tr><th scope="row">{formats.escape(row.class_name)}</th>'
      f'<td class="num">{row.correct:,} of {row.n:,}</td>'
      f'<td class="num">{formats.share(row.recall)}</td>'
      f'<td class="num">{interval}</td>'
      f'<td class="num">{formats.share(row.precision)}</td>'
      f'<td class="num">{formats.share(row.f1)}</td>'
      f"{_areas(row) if areas else ''}"
      f'<td class="start">{formats.escape(guess)}</td></tr>'
    )
  return table(
    '<tr><th>Class</th><th class="num">Correct of n</th>'
    '<th class="num">Recall</th><th class="num">Its interval</th>'
    '<th class="num">Precision</th><th class="num">F1</th>'
    f"{_AREAS if areas else ''}"
    '<th class="start">Most often taken for</th></tr>',
    body,
  )


def _areas(row: inputs.ClassRow) -> str:
  values = (row.average_precision, row.roc_auc)
  texts = ["–" if value is None else f"{value:.3f}" for value in values]
  return "".join(f'<td class="num">{cell}</td>' for cell in texts)


def mistakes(
  dataset: inputs.DatasetFiles, chosen: Sequence[selection.Mistake]
) -> str:
  """The most confident mistakes by name."""
  body = [
    f"<tr><td>{formats.escape(mistake.image_id)}</td>"
    f"<td>{formats.escape(dataset.name(mistake.predicted))}</td>"
    f'<td class="num">{formats.share(mistake.confidence)}</td>'
    f'<td class="start">{formats.escape(dataset.name(mistake.label))}</td></tr>'
    for mistake in chosen
  ]
  return table(
    '<tr><th>Image</th><th>Predicted</th><th class="num">Confidence</th>'
    '<th class="start">Original label</th></tr>',
    body,
  )


def key_values(values: Mapping[str, object]) -> str:
  """Two columns: key, dotted where values hold others, and value."""
  body = [
    f'<tr><th scope="row"><code>{formats.escape(key)}</code></th>'
    f"<td><code>{formats.escape(_plain(value))}</code></td></tr>"
    for key, value in _flat(values).items()
  ]
  return table("", body, "keys")


def _flat(tree: Mapping, prefix: str = "") -> dict[str, object]:
  flat = {}
  for name, value in tree.items():
    if isinstance(value, Mapping) and value:
      flat |= _flat(value, f"{prefix}{name}.")
    else:
      flat[f"{prefix}{name}"] = value
  return flat


def sentences(values: Mapping[str, str]) -> str:
  """Two columns: a name and what it is."""
  body = [
    f'<tr><th scope="row"><code>{formats.escape(key)}</code></th>'
    f"<td>{formats.escape(value)}</td></tr>"
    for key, value in values.items()
  ]
  return table("", body, "keys")


def folded(title: str, content: str) -> str:
  """What is shown when its title is clicked."""
  summary = f"<summary>{formats.escape(title)}</summary>"
  return f"<details>{summary}\n{content}\n</details>"


def _plain(value) -> str:
  return value if isinstance(value, str) else json.dumps(value)


def table(head: str, body: Sequence[str], kind: str = "") -> str:
  """Lines of a table, and what stands above them."""
  attribute = f' class="{kind}"' if kind else ""
  top = f"<thead>{head}</thead>\n" if head else ""
  rows = "\n".join(body)
  return (
    f'<div class="scroll"><table{attribute}>\n{top}<tbody>\n{rows}\n</tbody>'
    "</table></div>"
  )
