"""Trains a config until its evaluation set reaches a target.

This is the training loop of `imgbench.main`; it is asked to stop, as by Ctrl-C,
when the logged metric has reached the target. Seconds cover training,
evaluations and logging, not set-up, compiling or saving.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import contextlib
import pathlib
import tempfile
from typing import Any

import ml_collections

from imgbench import cli
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import timing
from imgbench import writers
from imgbench.evaluators import base as evaluators_base
from imgbench.train import loop
from imgbench.train import setup

METRICS = "metrics.jsonl"
COUNTED = ("train_s", "eval_s", "log_s")


class TargetStop:
  """Asks a run to stop when a logged value has reached the target.

  Args:
    path: metrics.jsonl of the run.
    metric: a key of its records, e.g. "test/top1_accuracy".
    target: value to reach.
  """

  def __init__(self, path: pathlib.Path, metric: str, target: float):
    self._path, self._metric, self._target = path, metric, target
    self._read = 0

  def requested(self) -> bool:
    """Returns whether the target is reached; cheap if nothing was logged."""
    size = self._path.stat().st_size if self._path.exists() else 0
    if size == self._read:
      return False
    self._read = size
    best = best_value(self._path, self._metric)
    return best is not None and best >= self._target

  def defer(self) -> None:
    """Does nothing: no stop has to be deferred."""


def best_value(path: pathlib.Path, metric: str) -> float | None:
  """Returns the highest logged value; None without one."""
  records = writers.read_lines(path)
  values = [r[metric] for r in records if r.get(metric) is not None]
  return max(values, default=None)


def load_config(
  name: str, seed: int, overrides: Iterable[str] = ()
) -> ml_collections.ConfigDict:
  """Returns the config of a file with options after a colon, and overrides.

  Args:
    name: e.g. "configs/cifar10_fast.py:long".
    seed: of the run.
    overrides: e.g. "data.data_dir=DIR".

  Raises:
    InputError: no such file, or an override of an unknown key or wrong type.
  """
  path = pathlib.Path(cli.find_config_file(name).partition(":")[0])
  if not path.is_file():
    raise errors.InputError("time_to_accuracy.config", "a config file", path)
  with config_utils.prefix_errors("time_to_accuracy.overrides: "):
    config = cli.read_config(name, [*overrides, f"seed={seed}"])
  # Checkpoints during training and a report are not measured.
  with config.unlocked():
    config.checkpoint.every = "never"
    config.checkpoint.best = ""
    config.logging.report = False
  return config


def train(request: Mapping[str, Any]) -> dict[str, Any]:
  """Trains once.

  Args:
    request: "config", "seed", "overrides", "metric" and "target".

  Returns:
    "process", see `run`.

  Raises:
    InputError: a bad config, or a metric that it does not measure.
  """
  config = load_config(request["config"], request["seed"], request["overrides"])
  check_metric(config, request["metric"])
  watch = timing.Stopwatch()
  with watch.section("setup_s"):
    prepared = setup.prepare(config_lib.parse(config))
  with watch.section("compile_s"):
    compile_evaluations(prepared)
  target = request["target"]
  found = run(config, prepared, watch, request["metric"], target)
  return {"process": found}


def check_metric(config: ml_collections.ConfigDict, metric: str) -> None:
  """Raises InputError if a metric such as "test/top1_accuracy" has no set."""
  if metric.partition("/")[0] not in config.evaluation.sets:
    sets = ", ".join(sorted(config.evaluation.sets))
    expected = f"SET/METRIC with a set of {sets}"
    raise errors.InputError("time_to_accuracy.metric", expected, repr(metric))


def compile_evaluations(prepared: setup.Prepared) -> None:
  """Evaluates once, which compiles the programs of later evaluations."""
  state = prepared.state
  variables = {"raw": state.variables, "ema": state.ema}
  evaluators_base.run(prepared.evaluators, variables)


def run(
  config: ml_collections.ConfigDict,
  prepared: setup.Prepared,
  watch: timing.Stopwatch,
  metric: str,
  target: float,
) -> dict[str, Any]:
  """Trains until the target or the end of the run.

  Args:
    config: of the run.
    prepared: built from it; its state is consumed.
    watch: gets the run's sections.
    metric: a key of metrics.jsonl, e.g. "test/top1_accuracy".
    target: value to reach.

  Returns:
    Fields of `rows.Process`: "seed", "seconds", "seconds_to_target" (None if
    not reached) and "final_accuracy", the metric at the end of the run.

  Raises:
    InputError: a metric that the run does not log.
  """
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    stop = TargetStop(folder / METRICS, metric, target)
    with contextlib.suppress(errors.Preempted):  # At the target.
      loop.train_and_evaluate(
        config, name, prepared=prepared, watch=watch, stop=stop
      )
    value = best_value(folder / METRICS, metric)
    if value is None:
      logged = writers.read_lines(folder / METRICS)
      known = sorted({k for r in logged for k in r if "/" in k})
      expected = f"one of {', '.join(known)}"
      raise errors.InputError("time_to_accuracy.metric", expected, repr(metric))
  seconds = sum(map(watch.total, COUNTED))
  return {
    "seed": config.seed,
    "seconds": seconds,
    "seconds_to_target": seconds if value >= target else None,
    "final_accuracy": value,
  }
