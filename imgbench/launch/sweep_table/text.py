"""Rows of a sweep as tables in percent and as CSV in fractions."""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from imgbench.launch.sweep_table import gather
from imgbench.launch.sweep_table import groups as groups_lib
from imgbench.metrics import specs
from imgbench.report import inputs
from imgbench.tables import formats
from imgbench.tables import table

_UNIT = {"%": ", %", " points": ", points", "": ""}


def list_metrics(runs: Iterable[gather.SweptRun]) -> list[str]:
  """Returns the metrics that any run has, in the order of the runs."""
  named = ((*run.final, *run.best) for run in runs)
  return list(dict.fromkeys(metric for names in named for metric in names))


def shorten_keys(keys: Sequence[str]) -> dict[str, str]:
  """Returns config key -> its last part, or the whole key if ambiguous."""
  last = [key.rpartition(".")[2] for key in keys]
  return {
    key: name if last.count(name) == 1 else key
    for key, name in zip(keys, last, strict=True)
  }


def format_value(value: Any) -> str:
  """Returns a config value as text, e.g. "0.1", "(16, 32)" or "adam"."""
  if isinstance(value, (list, tuple)):
    return f"({', '.join(map(format_value, value))})"
  return str(value)


def format_title(metric: str, metrics: Sequence[str]) -> str:
  """Returns e.g. "top-1 accuracy, %", with the data set if ambiguous.

  Args:
    metric: as in results.json.
    metrics: all metrics of the table.
  """
  dataset, subset, name = gather.split_metric(metric)
  others = [gather.split_metric(other) for other in metrics]
  parts = [specs.describe(name).label]
  if len({other[0] for other in others}) > 1:
    parts.append(dataset)
  if len({other[1] for other in others}) > 1:
    parts.append(subset)
  return " ".join(parts) + _UNIT[formats.unit(name)]


def build_runs_table(runs: Sequence[gather.SweptRun]) -> table.Table:
  """Returns a table of runs: swept values, status, metrics, time, speed."""
  keys, metrics = groups_lib.find_swept_keys(runs), list_metrics(runs)
  columns = [
    table.Column(lambda run, key=key: run.value(key), name, format=format_value)
    for key, name in shorten_keys(keys).items()
  ] or [table.Column(lambda run: run.unit.name, "run")]
  columns.append(table.Column(_state, "status"))
  for metric in metrics:
    title = format_title(metric, metrics)
    columns.append(table.number(lambda run, m=metric: _final(run, m), title))
    if _best_differs(runs, metric):
      best = lambda run, m=metric: _best(run, m)
      columns.append(table.number(best, "best (step)"))
  columns.append(table.number("train_s", "training", formats.duration))
  columns.append(table.number("images_per_s", "images/s", formats.whole))
  return table.Table(_caption(runs, keys), columns, runs)


def _caption(runs, keys) -> str:
  coverages = sorted({inputs.format_coverage(run.alpha) for run in runs})
  text_ = f"Runs with {' and '.join(coverages)} intervals"
  fixed = {
    key: format_value(run.value(key))
    for run in runs
    for key in run.unit.overrides
    if key not in keys
  }
  if fixed:
    text_ += f", all with {', '.join(f'{k}={v}' for k, v in fixed.items())}"
  return text_


def build_groups_table(
  groups: Sequence[groups_lib.SeedGroup], metrics: Sequence[str]
) -> table.Table:
  """Returns a table of groups: means and standard errors over runs."""
  columns = [
    table.Column(lambda g, key=key: g.values[key], name, format=format_value)
    for key, name in shorten_keys(list(groups[0].values)).items()
  ] or [table.Column(lambda group: "all", "runs")]
  columns.append(table.number(_done, "done"))
  runs = [run for group in groups for run in group.runs]
  for metric in metrics:
    mean = lambda g, m=metric: _mean(m, g.mean(m))
    columns.append(table.number(mean, format_title(metric, metrics)))
    if _best_differs(runs, metric):
      best = lambda g, m=metric: _mean(m, g.mean(m, best=True))
      columns.append(table.number(best, "best"))
  columns.append(table.number(_mean_speed, "images/s", formats.whole))
  caption = "Means over finished runs, ± standard errors for two or more"
  return table.Table(caption, columns, groups)


def _best_differs(runs: Iterable[gather.SweptRun], metric: str) -> bool:
  """Returns whether any best value differs from the final one."""
  pairs = [(run.final.get(metric), run.best.get(metric)) for run in runs]
  return any(
    best is not None and (final is None or final.value != best.value)
    for final, best in pairs
  )


def _state(run: gather.SweptRun) -> str:
  status = run.status
  if run.done or not status.total_steps:
    return status.state
  return f"{status.state} at {status.step}/{status.total_steps}"


def _final(run: gather.SweptRun, metric: str) -> str:
  entry = run.final.get(metric)
  if entry is None:
    return ""
  return _with_bounds(metric, entry.value, entry.ci_low, entry.ci_high)


def _best(run: gather.SweptRun, metric: str) -> str:
  best = run.best.get(metric)
  if best is None:
    return ""
  bounds = _with_bounds(metric, best.value, best.ci_low, best.ci_high)
  return f"{bounds} ({best.step})"


def _with_bounds(metric: str, value, low, high) -> str:
  return formats.number_with_bounds(
    gather.split_metric(metric)[2], value, low, high
  )


def _done(group: groups_lib.SeedGroup) -> str:
  return f"{sum(run.done for run in group.runs)} of {len(group.runs)}"


def _mean(metric: str, mean: groups_lib.Mean | None) -> str:
  if mean is None:
    return ""
  name = gather.split_metric(metric)[2]
  numbers = [v for v in (mean.mean, mean.sem) if v is not None]
  return " ± ".join(formats.number(name, value) for value in numbers)


def _mean_speed(group: groups_lib.SeedGroup) -> float | None:
  found = [run.images_per_s for run in group.runs if run.done]
  mean = groups_lib.compute_mean(
    [speed for speed in found if speed is not None]
  )
  return None if mean is None else mean.mean


def format_runs_csv(runs: Sequence[gather.SweptRun]) -> str:
  """Returns a line for each run with all values; empty: unknown."""
  metrics = list_metrics(runs)
  keys = list(dict.fromkeys(key for run in runs for key in run.unit.overrides))
  return table.csv_text([_csv_row(run, keys, metrics) for run in runs])


def _csv_row(run: gather.SweptRun, keys, metrics) -> dict[str, Any]:
  status = run.status
  row = {"run": run.unit.name}
  row |= {key: format_value(run.value(key)) for key in keys}
  row |= {
    name: getattr(status, name)
    for name in ("state", "step", "total_steps", "attempts", "exit_code")
  }
  for metric in metrics:
    row |= _csv_metric(metric, run)
  return row | {
    "train_s": run.train_s,
    "total_s": run.total_s,
    "images_per_s": run.images_per_s,
    "started_at": status.started_at,
    "ended_at": status.ended_at,
    "message": status.message,
  }


def _csv_metric(metric: str, run: gather.SweptRun) -> dict[str, Any]:
  final, best = run.final.get(metric), run.best.get(metric)
  part = lambda entry, name: None if entry is None else getattr(entry, name)
  return {
    metric: part(final, "value"),
    f"{metric}.ci_low": part(final, "ci_low"),
    f"{metric}.ci_high": part(final, "ci_high"),
    f"{metric}.n": part(final, "n"),
    f"{metric}.best": part(best, "value"),
    f"{metric}.best_ci_low": part(best, "ci_low"),
    f"{metric}.best_ci_high": part(best, "ci_high"),
    f"{metric}.best_step": part(best, "step"),
  }


def format_groups_csv(
  groups: Sequence[groups_lib.SeedGroup], metrics: Sequence[str]
) -> str:
  """Returns a line for each group and metric, final and best."""
  rows = []
  for group in groups:
    values = {key: format_value(value) for key, value in group.values.items()}
    for metric in metrics:
      for kind in ("final", "best"):
        mean = group.mean(metric, best=kind == "best")
        rows.append(
          {
            **values,
            "metric": metric,
            "value": kind,
            "runs": len(group.runs),
            "n": mean.n if mean else 0,
            "mean": mean.mean if mean else None,
            "sem": mean.sem if mean else None,
          }
        )
  return table.csv_text(rows)
