"""The numbers of a row from what its processes measured."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import statistics

import numpy as np

from imgbench import errors
from imgbench.bench import medians
from imgbench.bench import rows

THROUGHPUT, LATENCY = "throughput", "latency"
QUANTITIES = (THROUGHPUT, LATENCY)


@dataclasses.dataclass(frozen=True)
class Facts:
  """What is known of a point besides its times; None where it is not.

  Attributes:
    params: number of trained parameters.
    flops_per_image: analytic; forward, or forward and backward for training.
    bytes_accessed: of a step on one device, as the compiler counts them.
    peak_flops: name of a peak -> FLOP/s of one device ("datasheet",
      "measured").
    bandwidth: measured bytes per second of one device's memory.
    attention: form in which the model's attention was computed.
    work: of one call of a microbenchmark: FLOPs, bytes or 1.
    rate_unit: "FLOP/s", "bytes/s" or "calls/s"; of a quantity its unit.
  """

  params: int | None = None
  flops_per_image: float | None = None
  bytes_accessed: float | None = None
  peak_flops: Mapping[str, float] = dataclasses.field(default_factory=dict)
  bandwidth: float | None = None
  attention: str | None = None
  work: float | None = None
  rate_unit: str | None = None


def build_row(
  key: rows.PointKey,
  processes: Sequence[rows.Process],
  facts: Facts = Facts(),
  **about,
) -> rows.Row:
  """Returns the checked row of a point that was measured.

  Args:
    key: which point.
    processes: of each fresh process; at least 1, better MIN_PROCESSES of
      `medians`, below which bounds are None.
    facts: what is known besides.
    **about: further fields of the row: message, batch_asked, environment.

  Raises:
    InputError: the row contradicts itself.
  """
  numbers = {c.name: _reduce(c, processes) for c in rows.MEASURED if c.over}
  if key.task == rows.TIME_TO_ACCURACY:
    numbers |= _summarize_runs(processes)
  elif key.task in rows.QUANTITIES:
    numbers |= _summarize_quantity(processes, facts)
  else:
    numbers |= _summarize_times(processes) | _summarize_speeds(
      key, processes, facts
    )
  made = rows.Row(
    key=key,
    processes=len(processes),
    raw=tuple(processes),
    params=facts.params,
    attention=facts.attention,
    **numbers,
    **about,
  )
  rows.check(made)
  return made


def compute_speeds(
  of: rows.Row, quantity: str = THROUGHPUT
) -> list[float | None]:
  """Returns one number per process, higher is better: what is compared.

  Images per second, or for a microbenchmark its rate, from the median round
  (throughput) or the median step (latency) of the process; for time to
  accuracy 1 / seconds. None where a process did not measure the quantity.
  Of a row of one of our own parts it is the value of each round, or 1 / value
  where less is better; None where that has no logarithm.
  """
  if of.key.task in rows.QUANTITIES:
    power = 1 if of.rate_unit in rows.MORE_IS_BETTER else -1
    return [p.value**power if p.value > 0 else None for p in of.raw]
  if of.key.task == rows.TIME_TO_ACCURACY:
    seconds = [process.seconds_to_target for process in of.raw]
  elif quantity == THROUGHPUT:
    seconds = [_median(process.throughput_s) for process in of.raw]
  else:
    milliseconds = [_median(process.latencies_ms) for process in of.raw]
    seconds = [None if m is None else m / 1e3 for m in milliseconds]
  return [None if s is None else count_work(of) / s for s in seconds]


def count_work(of: rows.Row) -> float:
  """Returns what a step does: images, or the work of a microbenchmark."""
  return of.key.batch if of.key.task in rows.IMAGE_TASKS else of.work or 1


def _reduce(
  column: rows.RowColumn, processes: Sequence[rows.Process]
) -> float | None:
  """Returns the row's number of those that processes measured."""
  values = [getattr(process, column.name) for process in processes]
  known = [value for value in values if value is not None]
  return column.over(known) if known else None


def _summarize_quantity(
  processes: Sequence[rows.Process], facts: Facts
) -> dict:
  values = [process.value for process in processes]
  return {
    "rate": statistics.median(values),
    "rate_low": min(values),
    "rate_high": max(values),
    "rate_unit": facts.rate_unit,
    "interval_method": medians.RANGE,
  }


def _summarize_times(processes: Sequence[rows.Process]) -> dict:
  by_cache = {True: [], False: []}
  for process in processes:
    if process.compile_s is not None:
      by_cache[bool(process.compile_cached)].append(process.compile_s)
  steps = [ms for process in processes for ms in process.latencies_ms]
  latency = None
  if steps:
    values = np.quantile(steps, [0.5, 0.9, 0.99])
    names = ("median", "p90", "p99")
    latency = dict(zip(names, values.tolist(), strict=True))
  return {
    "compile_cold_s": _median(by_cache[False]),
    "compile_cached_s": _median(by_cache[True]),
    "latency_ms": latency,
  }


def _summarize_speeds(
  key: rows.PointKey, processes: Sequence[rows.Process], facts: Facts
) -> dict:
  seconds = [_median(process.throughput_s) for process in processes]
  if None in seconds or not seconds:
    raise errors.InputError(f"{key.text()}: a process has no throughput_s")
  if key.task == rows.MICRO:
    if facts.work is None or facts.rate_unit is None:
      raise errors.InputError(f"{key.text()}: needs work and rate_unit")
    about = {"work": facts.work, "rate_unit": facts.rate_unit}
    return about | _add_interval("rate", [facts.work / s for s in seconds])
  found = _add_interval("images_per_s", [key.batch / s for s in seconds])
  per_device = found["images_per_s"] / key.devices
  found["images_per_s_per_device"] = per_device
  if facts.flops_per_image is not None:
    found["flops_per_image"] = facts.flops_per_image
    found["flops_share_of_peak"] = {
      name: per_device * facts.flops_per_image / peak
      for name, peak in facts.peak_flops.items()
    }
  if facts.bytes_accessed is not None:
    found["bytes_accessed"] = facts.bytes_accessed
    if facts.bandwidth:
      rate = facts.bytes_accessed * found["images_per_s"] / key.batch
      found["bandwidth_share"] = rate / facts.bandwidth
  return found


def _add_interval(name: str, values: Sequence[float]) -> dict:
  found = {name: statistics.median(values)}
  bounds = medians.interval(values)
  if bounds is not None:
    found |= {
      f"{name}_low": bounds.low,
      f"{name}_high": bounds.high,
      "interval_method": medians.ORDER_STATISTICS,
      "interval_coverage": bounds.coverage,
    }
  return found


def _summarize_runs(processes: Sequence[rows.Process]) -> dict:
  """Mean over runs with its t interval; nothing where a run fell short."""
  seconds = [process.seconds_to_target for process in processes]
  if not seconds or None in seconds:
    return {}
  found = {"seconds_to_target": statistics.fmean(seconds)}
  bounds = medians.mean_interval(seconds)
  # Few runs that differ much: a bound at or below 0 says nothing.
  if bounds is not None and bounds.low > 0:
    found |= {
      "seconds_to_target_low": bounds.low,
      "seconds_to_target_high": bounds.high,
      "interval_method": medians.STUDENT,
      "interval_coverage": bounds.coverage,
    }
  return found


def _median(values: Sequence[float]) -> float | None:
  return statistics.median(values) if values else None
