"""Builds the top of the page: the run, its main results and warnings."""

from collections.abc import Mapping
from collections.abc import Sequence
import re
from typing import Any
from typing import NamedTuple

from imgbench import paths
from imgbench.metrics import bands
from imgbench.metrics import specs
from imgbench.report import entry_tables
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import entries
from imgbench.tables import formats
from imgbench.tables import table

_CONFIG_FLAG = re.compile(r"--?config[= ]'?([^\s']+)")
_STATES = {
  "diverged": "The loss became infinite or NaN and the run ended.",
  "failed": "The run ended with an error.",
  "preempted": "The run was stopped and saved its state.",
}


class Tile(NamedTuple):
  """The main accuracies of a data set; `others` are (label, value)."""

  heading: table.RichText
  value: table.RichText
  interval: table.RichText
  others: Sequence[tuple[str, table.RichText]]


def format_command(run: inputs.Run) -> str:
  """Returns the command of the run as one line, or ""."""
  parts = run.environment.get("command") or ""
  return parts if isinstance(parts, str) else " ".join(map(str, parts))


def find_config_name(run: inputs.Run) -> str:
  """Returns e.g. "cifar10_fast:long"; the folder's name without a config."""
  found = _CONFIG_FLAG.search(format_command(run))
  if not found:
    return paths.make_absolute(run.workdir).name
  path, colon, options = found[1].partition(":")
  return path.rpartition("/")[2].removesuffix(".py") + colon + options


def format_title(run: inputs.Run) -> str:
  """Returns e.g. "tiny: 93.12% on digits:test", of the first data set."""
  for row, *_ in selection.select_tiles(run):
    words = f"{find_config_name(run)}: {formats.value(row)} on {row.dataset}"
    return f"{words} {specs.AUGMENTED}" if row.augmented else words
  return f"{find_config_name(run)} – imgbench"


def build_header(run: inputs.Run) -> dict[str, Any]:
  """Returns the variables of the top of the page."""
  return {
    "title": format_title(run),
    "kicker": "imgbench run",
    "heading": find_config_name(run),
    "facts": _collect_facts(run),
    "tiles": [_build_tile(rows, run) for rows in selection.select_tiles(run)],
    "unfinished": _describe_state(run),
    "synthetic": _describe_synthetic(run),
    "warnings": [_describe_warning(warning) for warning in run.warnings],
  }


def _collect_facts(run: inputs.Run) -> dict[str, str]:
  environment = run.environment
  keys = [dataset.key for dataset in run.datasets]
  facts = {
    "Data": _find_name(run.config, "data") or ", ".join(keys),
    "Model": _find_name(run.config, "model"),
    "Optimizer": _find_name(run.config, "optim"),
    "Trained for": _format_steps(run),
    "Training time": _format_time(run),
    "Devices": _format_devices(environment),
    "Commit": str(environment.get("commit") or ""),
    "Started": formats.moment(str(environment.get("started_at") or "")),
  }
  return {name: value for name, value in facts.items() if value}


def _find_name(config: Mapping, name: str) -> str:
  section = config.get(name)
  return str(section.get("name") or "") if isinstance(section, Mapping) else ""


def _format_steps(run: inputs.Run) -> str:
  step = selection.find_last(run.records, "step") or run.status.get("step")
  if not step:
    return ""
  epoch = selection.find_last(run.records, "epoch")
  return f"{step:,} steps" + (f", {epoch:g} epochs" if epoch else "")


def _format_time(run: inputs.Run) -> str:
  times = run.status.get("times") or {}
  seconds = times.get("train_s") or selection.find_last(
    run.records, "time/train_s"
  )
  return formats.duration(seconds) if seconds else ""


def _format_devices(environment: Mapping) -> str:
  count = environment.get("num_devices")
  if not count:
    return ""
  kind = environment.get("device_kind") or environment.get("platform")
  if kind == "cpu" and environment.get("processor"):
    kind = f"cpu ({environment['processor']})"
  return f"{count} × {kind}"


def _build_tile(rows: Sequence[entries.Row], run: inputs.Run) -> Tile:
  main, *others = rows
  interval = formats.interval(main)
  if interval:
    interval = f"{run.coverage} interval {interval}, "
  below = entry_tables.describe_unreviewed(main)
  if main.augmented:
    below = (table.RichText(specs.AUGMENTED, help=main.definition), *below)
  label_of = lambda row: specs.describe(row.metric).label
  axes = main.dataset, main.subset, main.metric, main.value
  band = bands.find(*axes, run.synthetic)
  if band:
    below = (table.RichText(f"{band}, by rule of thumb"), *below)
  own = [row for row in others if row.dataset == main.dataset]
  lines = [(label_of(row), row) for row in own]
  # Those of other parameters.
  for row in others:
    if row not in own:
      variant = row.dataset.partition(":")[0].partition("+")[2]
      lines.append((f"{label_of(row)} (+{variant})", row))
  if main.shift:
    base = run.base_of(main.dataset) or "the base set"
    lines.insert(0, (f"drop from {base}", main.shift.drop))
  return Tile(
    f"{label_of(main)} on {main.dataset}",
    table.RichText(formats.value(main), help=main.definition),
    table.RichText(f"{interval}n = {main.n:,}", below=below),
    [(name, _format_value(row)) for name, row in lines],
  )


def _format_value(row: entries.Row) -> table.RichText:
  interval = formats.interval(row)
  return table.RichText(
    formats.value(row),
    help=row.definition,
    beside=f"({interval})" if interval else "",
    below=entry_tables.describe_unreviewed(row),
  )


def _describe_state(run: inputs.Run) -> str:
  state = run.status.get("state")
  sentences = [_STATES[state]] if state in _STATES else []
  if run.results is None:
    step = selection.find_last(run.records, "step")
    until = f" until step {step:,}" if step else ""
    sentences.append(
      f"There is no results.json: this page shows the log{until}."
    )
  if sentences:
    sentences.append(str(run.status.get("message") or ""))
  return " ".join(sentences).strip()


def _describe_synthetic(run: inputs.Run) -> str:
  if not run.synthetic:
    return ""
  # Once for all parameters.
  families = dict.fromkeys(map(entries.family, run.synthetic))
  keys = [f"{name}:{split}" for name, split in families]
  return (
    f"{', '.join(keys)}: the results say how well the model learns these"
    " images, and nothing about photographs."
  )


def _describe_warning(warning: Mapping[str, Any]) -> dict[str, str]:
  place, subset = warning.get("dataset", ""), warning.get("subset")
  if subset and subset != "all":
    place = f"{place}/{subset}"
  return {
    "name": warning.get("name", "warning"),
    "place": place,
    "message": warning["message"],
  }
