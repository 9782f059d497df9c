"""The runs of a sweep as rows: overrides, status and results."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import fnmatch
from typing import Any

from imgbench import config_utils
from imgbench import errors
from imgbench import registry
from imgbench import run_files
from imgbench import typed
from imgbench import writers
from imgbench.launch import units
from imgbench.metrics import intervals
from imgbench.metrics import measurement
from imgbench.metrics import specs
from imgbench.tables import entries

METRICS = "metrics.jsonl"
_PROPORTION = {
  "clopper_pearson": intervals.clopper_pearson,
  "wilson": intervals.wilson,
}
_ALPHA = 0.05  # of runs that have not started


@dataclasses.dataclass(frozen=True)
class Best:
  """The best value of a metric among the evaluations during a run.

  Attributes:
    value: rates are fractions.
    step: its step; of equal values the last.
    ci_low: lower end of its interval, which ignores the selection, or None if
      only an evaluation at the last step has one.
    ci_high: upper end, or None.
  """

  value: float
  step: int
  ci_low: float | None = None
  ci_high: float | None = None


@dataclasses.dataclass(frozen=True)
class SweptRun:
  """A row: a unit of a sweep and the contents of its folder.

  Attributes:
    unit: of the sweep.
    status: of the unit.
    final: metric as in results.json -> measurement; of a finished run.
    best: the same metrics -> best so far.
    train_s: seconds of training, over all attempts, or None.
    total_s: seconds in all, of a finished run, or None.
    images_per_s: training throughput between the first and the last logged
      step, or at the only one; or None.
    config: the resolved config with defaults, dotted key -> value.
    alpha: intervals cover 1 - alpha.
  """

  unit: units.Unit
  status: units.Status
  final: Mapping[str, measurement.Measurement]
  best: Mapping[str, Best]
  train_s: float | None
  total_s: float | None
  images_per_s: float | None
  config: Mapping[str, Any]
  alpha: float

  @property
  def done(self) -> bool:
    return self.status.state == units.DONE

  def value(self, key: str) -> Any:
    """Returns the value of a dotted config key, or a section as a dict."""
    if key in self.config:
      return self.config[key]
    inside = f"{key}."
    return {
      name.removeprefix(inside): value
      for name, value in self.config.items()
      if name.startswith(inside)
    }


def split_metric(metric: str) -> tuple[str, str, str]:
  """Returns data set, subset and name of a metric as in results.json.

  Args:
    metric: e.g. "cifar10:test/all/nll"; the data set may contain a slash.
  """
  dataset, subset, name = metric.rsplit("/", 2)
  return dataset, subset, name


def read(sweep: units.Sweep, patterns: Sequence[str]) -> list[SweptRun]:
  """Returns a row for each unit, in the order of the sweep.

  Args:
    sweep: as of `units.read`.
    patterns: names of metrics as in results.json; * matches any text.

  Raises:
    InputError: a pattern matches no metric of a finished run, or is not the
      name of a metric if none has finished; or a file is malformed.
  """
  results = [_read_results(unit) for unit in sweep.units]
  known = list(dict.fromkeys(name for found in results for name in found))
  metrics = _match_metrics(patterns, known)
  return [
    _read_run(sweep, unit, found, metrics)
    for unit, found in zip(sweep.units, results, strict=True)
  ]


def _read_results(unit: units.Unit) -> dict[str, Any]:
  path = unit.workdir / run_files.RESULTS
  found = run_files.read_object(path, {}) or {}
  for key in found:
    entries.split_key(key)
  return found


def _match_metrics(patterns: Sequence[str], known: Sequence[str]) -> list[str]:
  """Returns the metrics that match; full names if none is known yet."""
  if not known:
    return [_check_name(pattern) for pattern in patterns if "*" not in pattern]
  found = []
  for pattern in patterns:
    fitting = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
    if not fitting:
      near = registry.near_names(pattern, known)
      expected = "a metric in results.json of a finished run"
      raise errors.InputError("--metrics", expected, pattern, near)
    found += fitting
  return list(dict.fromkeys(found))


def _check_name(metric: str) -> str:
  """Returns the name of a metric that no run has yet, checked."""
  if metric.count("/") < 2:
    expected = "a name as in results.json, e.g. cifar10:test/all/nll"
    raise errors.InputError("--metrics", expected, metric)
  return metric


def _read_run(
  sweep: units.Sweep,
  unit: units.Unit,
  results: Mapping[str, Mapping],
  metrics: Sequence[str],
) -> SweptRun:
  try:
    return _build_run(sweep, unit, results, metrics)
  except errors.InputError:
    raise
  # Sections and values of any other kind than those of a config.
  except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
    given = f"{type(error).__name__}: {error}"
    expected = f"the {run_files.CONFIG} of a run"
    raise errors.InputError(unit.workdir, expected, given) from error


def _build_run(
  sweep: units.Sweep,
  unit: units.Unit,
  results: Mapping[str, Mapping],
  metrics: Sequence[str],
) -> SweptRun:
  # Here, as it imports all models.
  from imgbench import config as config_lib

  reported = run_files.read_status(unit.workdir)
  config = run_files.read_object(unit.workdir / run_files.CONFIG, {})
  flat = config_utils.flatten(config) if config else _plan_config(sweep, unit)
  flat = {**config_lib.find_defaults(config or sweep.base), **flat}
  status = units.read_status(unit)
  records = writers.read_lines(unit.workdir / METRICS)
  alpha = flat.get("evaluation.alpha", _ALPHA)
  if not 0 < alpha < 1:
    where = f"{unit.workdir / run_files.CONFIG}: evaluation.alpha"
    raise errors.InputError(
      where, "a number between 0 and 1", typed.show(alpha)
    )
  final = {}
  if status.state == units.DONE:
    final = {
      m: _read_measurement(unit, m, results) for m in metrics if m in results
    }
  train_s, images_per_s = _compute_speed(records, flat.get("global_batch_size"))
  times = reported.get("times")
  return SweptRun(
    unit=unit,
    status=status,
    final=final,
    best=dict(_find_bests(config or {}, records, metrics, final, alpha)),
    train_s=train_s,
    total_s=sum(times.values()) if times else None,
    images_per_s=images_per_s,
    config=flat,
    alpha=alpha,
  )


def _plan_config(sweep: units.Sweep, unit: units.Unit) -> dict[str, Any]:
  """Returns the config of a run that has not started."""
  return {**config_utils.flatten(sweep.base), **unit.overrides}


def _read_measurement(unit, metric: str, results) -> measurement.Measurement:
  try:
    return measurement.from_json(results[metric])
  except (TypeError, ValueError) as error:
    where = f"{unit.workdir / run_files.RESULTS}, {metric}"
    raise errors.InputError(where, "a valid measurement", error) from error


def _compute_speed(records: Sequence[Mapping], batch_size: int | None):
  """Returns seconds of training up to the last logged step, and throughput.

  Steps that a run of an older version took over from another one
  (checkpoint.init_from) do not count: they have no seconds.
  """
  timed = [record for record in records if record.get("time/train_s")]
  if not timed:
    return None, None
  first, last = timed[0], timed[-1]
  train_s = last["time/train_s"]
  since_s = train_s - first["time/train_s"]
  if since_s <= 0:
    return train_s, last.get("train/images_per_s")
  if batch_size is None:
    return train_s, None
  return train_s, (last["step"] - first["step"]) * batch_size / since_s


def _find_bests(config, records, metrics, final, alpha) -> Iterator:
  """Yields pairs of a metric and its Best."""
  aliases = {key: alias for alias, key in _list_datasets(config)}
  for metric in metrics:
    dataset, subset, name = split_metric(metric)
    # Evaluations during a run are of the whole set.
    if subset != "all" or dataset not in aliases:
      continue
    logged = f"{aliases[dataset]}/{name}"
    found = [r for r in records if r.get(logged) is not None]
    if not found:
      continue
    better = specs.describe(name).better
    sign = 1 if better == specs.HIGHER else -1
    top = max(found, key=lambda r: (sign * r[logged], r["step"]))
    last = found[-1]["step"]
    yield metric, _best(top["step"], top[logged], last, final, metric, alpha)


def _best(step, value, last_step, final, metric, alpha) -> Best:
  """Returns the Best with the interval of an evaluation at that step."""
  entry = final.get(metric)
  if entry is None or entry.ci_low is None:
    return Best(value, step)
  if step == last_step:
    return Best(value, step, entry.ci_low, entry.ci_high)
  make, hits = _PROPORTION.get(entry.ci_method), value * entry.n
  if make is None or entry.correct is None or abs(hits - round(hits)) > 1e-3:
    return Best(value, step)
  low, high = make(round(hits), entry.n, alpha)
  return Best(value, step, float(low), float(high))


def _list_datasets(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
  """Yields the alias in metrics.jsonl and the data set in results.json."""
  for alias, entry in config.get("evaluation", {}).get("sets", {}).items():
    if entry == "":  # Removed by a flag.
      continue
    name = entry.get("name") or config["data"]["name"]
    yield alias, f"{name}:{entry['split']}"
    yield f"{alias}{run_files.EMA}", f"{name}+ema:{entry['split']}"
