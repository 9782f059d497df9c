"""What is swept, means over seeds, and rows that are missing or doubled."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import math
from typing import Any

import numpy as np

from imgbench import paths
from imgbench import run_files
from imgbench.launch import units
from imgbench.launch.sweep_table import gather


def swept_keys(runs: Sequence[gather.Run]) -> list[str]:
  """Returns the overridden keys that have several values, in their order."""
  keys = dict.fromkeys(key for run in runs for key in run.unit.overrides)
  return [k for k in keys if len({as_key(run.value(k)) for run in runs}) > 1]


def as_key(value: Any) -> str:
  """Returns a text that is equal for equal values."""
  return json.dumps(value, sort_keys=True, default=str)


@dataclasses.dataclass(frozen=True)
class Mean:
  """Of several runs: number, mean and standard error (None for one run)."""

  n: int
  mean: float
  sem: float | None


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs that differ in nothing but their seeds.

  Attributes:
    values: swept key -> value, without the keys of seeds.
    runs: all of them, done or not; doubled ones once.
  """

  values: Mapping[str, Any]
  runs: tuple[gather.Run, ...]

  def mean(self, metric: str, best: bool = False) -> Mean | None:
    """Returns the mean over runs that are done; None where none has a value.

    Args:
      metric: as in results.json.
      best: of the best values on the way instead of the final ones.
    """
    source = [run.best if best else run.final for run in self.runs if run.done]
    found = [entries[metric].value for entries in source if metric in entries]
    return mean_of([value for value in found if value is not None])


def mean_of(values: Sequence[float]) -> Mean | None:
  """Returns number, mean and standard error; None of no values."""
  if not values:
    return None
  sem = None
  if len(values) > 1:
    sem = float(np.std(values, ddof=1) / math.sqrt(len(values)))
  return Mean(len(values), float(np.mean(values)), sem)


def groups(runs: Sequence[gather.Run], seed_keys: Sequence[str]) -> list[Group]:
  """Returns the runs by what is swept besides seeds, in their order."""
  keys = [key for key in swept_keys(runs) if key not in seed_keys]
  found: dict[str, list[gather.Run]] = {}
  twins = {run.unit.name for _, run in doubled(runs)}
  for run in runs:
    values = {key: run.value(key) for key in keys}
    members = found.setdefault(as_key(values), [])
    if run.unit.name not in twins:
      members.append(run)
  return [
    Group({key: members[0].value(key) for key in keys}, tuple(members))
    for members in found.values()
  ]


# What is not right.


def doubled(runs: Sequence[gather.Run]) -> list[tuple[gather.Run, gather.Run]]:
  """Returns pairs of runs with one config: the first one and a later one."""
  first: dict[str, gather.Run] = {}
  pairs = []
  for run in runs:
    key = as_key(run.config)
    if key in first:
      pairs.append((first[key], run))
    first.setdefault(key, run)
  return pairs


def strays(sweep: units.Sweep) -> list[str]:
  """Returns names of folders of runs that the sweep knows nothing of."""
  known = {unit.name for unit in sweep.units}
  return [
    name
    for name in paths.list_names(sweep.sweep_dir)
    if name not in known
    and (sweep.sweep_dir / name / run_files.STATUS).exists()
  ]


def notes(
  sweep: units.Sweep, runs: Sequence[gather.Run], seed_keys: Sequence[str]
) -> list[str]:
  """Returns a line for each row that is missing, doubled or not as asked."""
  lines = []
  metrics = dict.fromkeys(metric for run in runs for metric in run.final)
  for run in runs:
    name = run.unit.name
    if not run.done:
      message = f": {run.status.message}" if run.status.message else ""
      lines.append(f"missing: {name} is {run.status.state}{message}")
    elif lacking := [metric for metric in metrics if metric not in run.final]:
      lines.append(f"missing: {name} is done without {', '.join(lacking)}")
    if other := _other_values(run):
      lines.append(f"not as asked: {name} ran with {', '.join(other)}")
  lines += _missing_seeds(runs, seed_keys)
  lines += [
    f"doubled: {later.unit.name} has the config of {first.unit.name}; means"
    " count the first alone"
    for first, later in doubled(runs)
  ]
  lines += [f"not of this sweep: {name}" for name in strays(sweep)]
  return [" ".join(line.split()) for line in lines]


def _other_values(run: gather.Run) -> list[str]:
  """Keys that the run's own config.json has other values of."""
  return [
    f"{key}={run.value(key)}"
    for key, value in run.unit.overrides.items()
    if as_key(run.value(key)) != as_key(value)
  ]


def _missing_seeds(runs, seed_keys) -> list[str]:
  """Seeds that some values of the other keys have and others have not."""
  seeds = lambda run: {k: run.value(k) for k in seed_keys}
  wanted = {as_key(seeds(run)): seeds(run) for run in runs}
  lines = []
  for group in groups(runs, seed_keys):
    there = {as_key(seeds(run)) for run in group.runs}
    for key, seed in wanted.items():
      if key not in there:
        point = ", ".join(
          f"{k}={v}" for k, v in {**group.values, **seed}.items()
        )
        lines.append(f"missing: the sweep has no point {point}")
  return lines
