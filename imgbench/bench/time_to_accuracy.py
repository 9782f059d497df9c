"""A whole run of a config until its evaluation set reaches a target.

The training loop is the program's own; it is asked to stop, as by Ctrl-C, when
the metric that was logged has reached the target. Seconds count training,
evaluations and logging, not set-up, compiling or saving.
"""

import ast
from collections.abc import Iterable
from collections.abc import Mapping
import contextlib
import importlib.util
import pathlib
import sys
import tempfile
from typing import Any

import ml_collections

from imgbench import config_utils
from imgbench import errors
from imgbench import registry
from imgbench import timing
from imgbench import writers
from imgbench.evaluators import base as evaluators_base
from imgbench.train import loop
from imgbench.train import setup

METRICS = "metrics.jsonl"
COUNTED = ("train_s", "eval_s", "log_s")


class TargetStop:
  """Asks a run to stop when its log has a value of at least the target.

  Args:
    path: metrics.jsonl of the run.
    metric: a key of its records, e.g. "test/top1_accuracy".
    target: the value to be reached.
  """

  def __init__(self, path: pathlib.Path, metric: str, target: float):
    self._path, self._metric, self._target = path, metric, target
    self._read = 0

  def requested(self) -> bool:
    """Whether the target is reached; cheap where nothing was logged."""
    size = self._path.stat().st_size if self._path.exists() else 0
    if size == self._read:
      return False
    self._read = size
    best = best_value(self._path, self._metric)
    return best is not None and best >= self._target

  def defer(self) -> None:
    """A run that is stopped saves; nothing else is to be put off."""


def best_value(path: pathlib.Path, metric: str) -> float | None:
  """Returns the highest logged value; None where there is none."""
  records = writers.read_lines(path)
  values = [r[metric] for r in records if r.get(metric) is not None]
  return max(values, default=None)


def load_config(
  name: str, seed: int, overrides: Iterable[str] = ()
) -> ml_collections.ConfigDict:
  """Returns the config of a file, options behind a colon, changed.

  Args:
    name: e.g. "configs/cifar10_fast.py:long".
    seed: of the run.
    overrides: such as "data.data_dir=DIR".

  Raises:
    InputError: no such file, an override of no key or of another type.
  """
  path, _, arg = name.partition(":")
  file = pathlib.Path(path).resolve()
  if not file.is_file():
    raise errors.InputError(f"time_to_accuracy.config: no such file: {path}")
  sys.path.insert(0, str(file.parents[1]))
  spec = importlib.util.spec_from_file_location(f"_config_{file.stem}", file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(arg or None)
  known = config_utils.flatten(config_utils.to_dict(config))
  changes = dict(_parsed(text, known) for text in overrides)
  config.update_from_flattened_dict({**changes, "seed": seed})
  # Neither checkpoints on the way nor a report are what is measured.
  config.checkpoint.every = "never"
  config.checkpoint.best = ""
  config.logging.report = False
  return config


def _parsed(text: str, known: Mapping[str, Any]) -> tuple[str, Any]:
  """Key and value of "key=value", of the type that the config has there."""
  key, equals, value = text.partition("=")
  if not equals or key not in known:
    raise errors.InputError(
      f"time_to_accuracy.overrides: expected KEY=VALUE, got {text!r};"
      f" {registry.near_names(key, known)}"
    )
  if isinstance(known[key], str):
    return key, value
  try:
    return key, ast.literal_eval(value)
  except (ValueError, SyntaxError) as error:
    raise errors.InputError(
      f"time_to_accuracy.overrides: {key}: expected a value like"
      f" {known[key]!r}, got {value!r}"
    ) from error


def train(request: Mapping[str, Any]) -> dict[str, Any]:
  """Trains once.

  Args:
    request: "config", "seed", "overrides", "metric" and "target".

  Returns:
    "process", see `run`.

  Raises:
    InputError: the config, or a metric that it does not measure.
  """
  config = load_config(request["config"], request["seed"], request["overrides"])
  check_metric(config, request["metric"])
  watch = timing.Stopwatch()
  with watch.section("setup_s"):
    parts = setup.build(config)
  with watch.section("compile_s"):
    compile_evaluations(parts)
  found = run(config, parts, watch, request["metric"], request["target"])
  return {"process": found}


def check_metric(config: ml_collections.ConfigDict, metric: str) -> None:
  """Raises InputError if a metric such as "test/top1_accuracy" has no set."""
  if metric.partition("/")[0] not in config.evaluation.sets:
    raise errors.InputError(
      "time_to_accuracy.metric: expected one of the sets"
      f" {', '.join(sorted(config.evaluation.sets))} before the slash, got"
      f" {metric!r}"
    )


def compile_evaluations(parts: setup.Parts) -> None:
  """Evaluates once, which compiles what the run's own evaluations call."""
  variables = {"raw": parts.state.variables, "ema": parts.state.ema}
  evaluators_base.run(parts.evaluators, variables)


def run(
  config: ml_collections.ConfigDict,
  parts: setup.Parts,
  watch: timing.Stopwatch,
  metric: str,
  target: float,
) -> dict[str, Any]:
  """Trains until the target or the end of the run.

  Args:
    config: of the run.
    parts: made of it; their state is used up.
    watch: gets the run's sections.
    metric: a key of metrics.jsonl, e.g. "test/top1_accuracy".
    target: the value to be reached.

  Returns:
    Fields of `rows.Process`: "seed", "seconds", "seconds_to_target" (None where
    it was not reached) and "final_accuracy", the metric when the run ended.

  Raises:
    InputError: a metric that the run does not log.
  """
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    stop = TargetStop(folder / METRICS, metric, target)
    with contextlib.suppress(errors.Preempted):  # At the target.
      loop.Run(config, folder, parts, watch, stop).train_and_evaluate()
    value = best_value(folder / METRICS, metric)
    if value is None:
      logged = writers.read_lines(folder / METRICS)
      known = sorted({k for r in logged for k in r if "/" in k})
      raise errors.InputError(
        f"time_to_accuracy.metric: expected one of {', '.join(known)}, got"
        f" {metric!r}"
      )
  seconds = sum(map(watch.total, COUNTED))
  return {
    "seed": config.seed,
    "seconds": seconds,
    "seconds_to_target": seconds if value >= target else None,
    "final_accuracy": value,
  }
