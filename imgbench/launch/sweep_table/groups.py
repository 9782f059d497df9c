"""Swept keys, means over seeds, and missing or duplicate rows."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import math
from typing import Any

import numpy as np

from imgbench import paths
from imgbench import run_files
from imgbench import texts
from imgbench.launch import units
from imgbench.launch.sweep_table import gather


def find_swept_keys(runs: Sequence[gather.SweptRun]) -> list[str]:
  """Returns the overridden keys with several values, in their order."""
  keys = dict.fromkeys(key for run in runs for key in run.unit.overrides)
  return [
    k for k in keys if len({format_key(run.value(k)) for run in runs}) > 1
  ]


def format_key(value: Any) -> str:
  """Returns a string that is equal for equal values."""
  return json.dumps(value, sort_keys=True, default=str)


@dataclasses.dataclass(frozen=True)
class Mean:
  """Number, mean and standard error (None for one run) over runs."""

  n: int
  mean: float
  sem: float | None


@dataclasses.dataclass(frozen=True)
class SeedGroup:
  """Runs that differ only in their seeds.

  Attributes:
    values: swept key -> value, without seed keys.
    runs: all of them, done or not; duplicates once.
  """

  values: Mapping[str, Any]
  runs: tuple[gather.SweptRun, ...]

  def mean(self, metric: str, best: bool = False) -> Mean | None:
    """Returns the mean over finished runs; None if none has a value.

    Args:
      metric: as in results.json.
      best: average the best values instead of the final ones.
    """
    source = [run.best if best else run.final for run in self.runs if run.done]
    found = [entries[metric].value for entries in source if metric in entries]
    return compute_mean([value for value in found if value is not None])


def compute_mean(values: Sequence[float]) -> Mean | None:
  """Returns number, mean and standard error; None for no values."""
  if not values:
    return None
  sem = None
  if len(values) > 1:
    sem = float(np.std(values, ddof=1) / math.sqrt(len(values)))
  return Mean(len(values), float(np.mean(values)), sem)


def group_runs(
  runs: Sequence[gather.SweptRun], seed_keys: Sequence[str]
) -> list[SeedGroup]:
  """Returns the runs grouped by swept values other than seeds, in order."""
  keys = [key for key in find_swept_keys(runs) if key not in seed_keys]
  found: dict[str, list[gather.SweptRun]] = {}
  twins = {run.unit.name for _, run in find_duplicates(runs)}
  for run in runs:
    values = {key: run.value(key) for key in keys}
    members = found.setdefault(format_key(values), [])
    if run.unit.name not in twins:
      members.append(run)
  return [
    SeedGroup({key: members[0].value(key) for key in keys}, tuple(members))
    for members in found.values()
  ]


def find_duplicates(
  runs: Sequence[gather.SweptRun],
) -> list[tuple[gather.SweptRun, gather.SweptRun]]:
  """Returns pairs of runs with the same config: the first and a later one."""
  first: dict[str, gather.SweptRun] = {}
  pairs = []
  for run in runs:
    key = format_key(run.config)
    if key in first:
      pairs.append((first[key], run))
    first.setdefault(key, run)
  return pairs


def find_strays(sweep: units.Sweep) -> list[str]:
  """Returns the folders of runs that are not in the sweep."""
  known = {unit.name for unit in sweep.units}
  return [
    name
    for name in paths.list_names(sweep.sweep_dir)
    if name not in known
    and (sweep.sweep_dir / name / run_files.STATUS).exists()
  ]


def write_notes(
  sweep: units.Sweep, runs: Sequence[gather.SweptRun], seed_keys: Sequence[str]
) -> list[str]:
  """Returns a line for each missing, duplicate or deviating row."""
  lines = []
  metrics = dict.fromkeys(metric for run in runs for metric in run.final)
  for run in runs:
    name = run.unit.name
    if not run.done:
      message = f": {run.status.message}" if run.status.message else ""
      lines.append(f"missing: {name} is {run.status.state}{message}")
    elif lacking := [metric for metric in metrics if metric not in run.final]:
      lines.append(f"missing: {name} is done without {', '.join(lacking)}")
    if other := _find_other_values(run):
      lines.append(f"deviating: {name} ran with {', '.join(other)}")
  lines += _find_missing_seeds(runs, seed_keys)
  lines += [
    f"duplicate: {later.unit.name} has the config of {first.unit.name}; means"
    " use only the latter"
    for first, later in find_duplicates(runs)
  ]
  lines += [f"not in this sweep: {name}" for name in find_strays(sweep)]
  return [" ".join(texts.printable(line).split()) for line in lines]


def _find_other_values(run: gather.SweptRun) -> list[str]:
  """Returns overrides whose values differ in the run's config.json."""
  return [
    f"{key}={run.value(key)}"
    for key, value in run.unit.overrides.items()
    if format_key(run.value(key)) != format_key(value)
  ]


def _find_missing_seeds(runs, seed_keys) -> list[str]:
  """Returns a line for each seed that a group lacks and another has."""
  seeds = lambda run: {k: run.value(k) for k in seed_keys}
  wanted = {format_key(seeds(run)): seeds(run) for run in runs}
  lines = []
  for group in group_runs(runs, seed_keys):
    there = {format_key(seeds(run)) for run in group.runs}
    for key, seed in wanted.items():
      if key not in there:
        point = ", ".join(
          f"{k}={v}" for k, v in {**group.values, **seed}.items()
        )
        lines.append(f"missing: the sweep has no point {point}")
  return lines
