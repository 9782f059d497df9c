"""The top of the page: what ran, the main numbers, what to be careful of."""

from collections.abc import Mapping
from collections.abc import Sequence
import re

from imgbench import paths
from imgbench.metrics import specs
from imgbench.report import html_tables
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import entries
from imgbench.tables import formats

_CONFIG_FLAG = re.compile(r"--?config[= ]'?([^\s']+)")
_MAX_WARNINGS = 8  # shown at once; the others are folded
_STATES = {
  "diverged": "The loss became infinite or NaN and the run ended.",
  "failed": "The run ended with an error.",
  "preempted": "The run was stopped and has saved its state.",
}


def command(run: inputs.Run) -> str:
  """The command of the run as one line, or empty."""
  parts = run.environment.get("command") or ""
  return parts if isinstance(parts, str) else " ".join(map(str, parts))


def config_name(run: inputs.Run) -> str:
  """E.g. "cifar10_fast:long"; the folder's name if no config is known."""
  found = _CONFIG_FLAG.search(command(run))
  if not found:
    return paths.absolute(run.workdir).name
  path, colon, options = found[1].partition(":")
  return path.rpartition("/")[2].removesuffix(".py") + colon + options


def title(run: inputs.Run) -> str:
  rows = main_rows(run)
  if not rows:
    return f"{config_name(run)} – imgbench"
  return f"{config_name(run)}: {formats.value(rows[0])} on {rows[0].dataset}"


def main_rows(run: inputs.Run) -> list[entries.Row]:
  """The first accuracy of every data set."""
  rows = [selection.headline(run.results or (), d.key) for d in run.datasets]
  return [of_set[0] for of_set in rows if of_set]


def header(run: inputs.Run) -> str:
  parts = [
    "<header>",
    '<p class="kicker">imgbench run</p>',
    f"<h1>{formats.escape(config_name(run))}{_badge(run)}</h1>",
    _facts(_known_facts(run)),
    _tiles(run),
    _unfinished(run),
    _synthetic(run),
    _warnings(run),
    "</header>",
  ]
  return "\n".join(filter(None, parts))


def _badge(run: inputs.Run) -> str:
  badge = ' <span class="badge">synthetic data</span>'
  return badge if run.synthetic else ""


def _known_facts(run: inputs.Run) -> dict[str, str]:
  environment = run.environment
  facts = {
    "Data": _data(run),
    "Model": _section(run.config, "model"),
    "Optimizer": _section(run.config, "optim"),
    "Trained for": _trained(run),
    "Training time": _training_time(run),
    "Devices": _devices(environment),
    "Commit": str(environment.get("commit") or ""),
    "Started": _moment(str(environment.get("started_at") or "")),
  }
  return {name: value for name, value in facts.items() if value}


def _data(run: inputs.Run) -> str:
  keys = [dataset.key for dataset in run.datasets]
  return _section(run.config, "data") or ", ".join(keys)


def _moment(iso: str) -> str:
  """ "2025-01-31T10:20:30+00:00" becomes "2025-01-31 10:20 UTC"."""
  found = re.fullmatch(r"(\S{10})T(\d\d:\d\d):\S*\+00:00", iso)
  return f"{found[1]} {found[2]} UTC" if found else iso


def _section(config: Mapping, name: str) -> str:
  section = config.get(name)
  return str(section.get("name") or "") if isinstance(section, Mapping) else ""


def _trained(run: inputs.Run) -> str:
  step = selection.last(run.records, "step") or run.status.get("step")
  if not step:
    return ""
  epoch = selection.last(run.records, "epoch")
  return f"{step:,} steps" + (f", {epoch:g} epochs" if epoch else "")


def _training_time(run: inputs.Run) -> str:
  times = run.status.get("times") or {}
  seconds = times.get("train_s") or selection.last(run.records, "time/train_s")
  return formats.duration(seconds) if seconds else ""


def _devices(environment: Mapping) -> str:
  count = environment.get("num_devices")
  if not count:
    return ""
  kind = environment.get("device_kind") or environment.get("platform")
  if kind == "cpu" and environment.get("processor"):
    kind = f"cpu ({environment['processor']})"
  return f"{count} × {kind}"


def _facts(facts: Mapping[str, str]) -> str:
  if not facts:
    return ""
  items = [
    f"<div><dt>{formats.escape(name)}</dt><dd>{formats.escape(value)}</dd></div>"
    for name, value in facts.items()
  ]
  return f'<dl class="facts">{"".join(items)}</dl>'


def _tiles(run: inputs.Run) -> str:
  tiles = []
  for key in selection.leading(run.results or ()):
    rows = selection.headline(run.results, key)
    if rows:
      tiles.append(_tile(rows, run))
  return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _tile(rows: Sequence[entries.Row], run: inputs.Run) -> str:
  main, others = rows[0], rows[1:]
  items = "".join(
    f'<li title="{formats.escape(row.definition)}">'
    f"<span>{formats.escape(specs.describe(row.metric).label)}</span>"
    f"<span><b>{formats.value(row)}</b> {_range(row)}</span>"
    f"{html_tables.unreviewed(row)}</li>"
    for row in others
  )
  interval = formats.interval(main)
  if interval:
    interval = f"{run.coverage} interval {interval}, "
  return (
    '<div class="tile">'
    f'<div class="set">{formats.escape(specs.describe(main.metric).label)} on'
    f" {html_tables.dataset_title(main.dataset, run.synthetic)}</div>"
    f'<div class="value" title="{formats.escape(main.definition)}">'
    f"{formats.value(main)}</div>"
    f'<div class="range">{interval}n&nbsp;=&nbsp;{main.n:,}</div>'
    f"{html_tables.unreviewed(main)}"
    f"{f'<ul>{items}</ul>' if items else ''}</div>"
  )


def _range(row: entries.Row) -> str:
  interval = formats.interval(row)
  return f'<span class="muted">({interval})</span>' if interval else ""


def _unfinished(run: inputs.Run) -> str:
  state = run.status.get("state")
  sentences = [_STATES[state]] if state in _STATES else []
  if run.results is None:
    step = selection.last(run.records, "step")
    until = f" until step {step:,}" if step else ""
    sentences.append(
      f"There is no results.json: this page shows what was logged{until}."
    )
  if not sentences:
    return ""
  sentences.append(str(run.status.get("message") or ""))
  return _banner("warning", "Not finished.", " ".join(sentences).strip())


def _synthetic(run: inputs.Run) -> str:
  if not run.synthetic:
    return ""
  # Once, with whatever parameters it was evaluated.
  families = dict.fromkeys(map(entries.family, run.synthetic))
  keys = [f"{name}:{split}" for name, split in families]
  return _banner(
    "synthetic",
    "Synthetic data.",
    f"The images of {', '.join(keys)} are drawn by a program. The"
    " numbers say how well the model learns these drawings, and nothing about"
    " photographs.",
  )


def _banner(kind: str, strong: str, sentence: str) -> str:
  return (
    f'<div class="banner {kind}"><p><strong>{formats.escape(strong)}</strong>'
    f" {formats.escape(sentence)}</p></div>"
  )


def _warnings(run: inputs.Run) -> str:
  if not run.warnings:
    return ""
  items = []
  for warning in run.warnings:
    place, subset = warning.get("dataset", ""), warning.get("subset")
    if subset and subset != "all":
      place = f"{place}/{subset}"
    name = warning.get("name", "warning")
    items.append(
      f"<li><code>{formats.escape(name)}</code> {formats.escape(place)}:"
      f" {formats.escape(warning.get('message', ''))}</li>"
    )
  count = len(items)
  shown = f"<ul>{''.join(items[:_MAX_WARNINGS])}</ul>"
  rest = items[_MAX_WARNINGS:]
  if rest:
    shown += (
      f"<details><summary>{len(rest)} more</summary>"
      f"<ul>{''.join(rest)}</ul></details>"
    )
  return (
    '<div class="banner warning"><p><strong>'
    f"{count} warning{'s' if count > 1 else ''}.</strong></p>{shown}</div>"
  )
