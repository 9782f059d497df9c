"""Selects the benchmark rows of tables and figures."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from imgbench.bench import comparison
from imgbench.bench import medians
from imgbench.bench import rows

WEAK, STRONG = "batch per device", "batch"


class BaselineRatio(NamedTuple):
  """Speed of ours over that of a baseline at the same point."""

  ours: rows.Row
  theirs: rows.Row
  ratio: float
  interval: medians.Interval


def keep_measured(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Returns the rows with images per second."""
  return [r for r in found if r.status == rows.OK and r.images_per_s]


def compute_ratios(found: Sequence[rows.Row]) -> list[BaselineRatio]:
  """Returns the ratios of ours to baselines for all common points.

  Strategies are ignored: baselines have none. Each interval covers 95%.
  """
  same = lambda key: dataclasses.replace(key, framework="", strategy=None)
  ours = [r for r in keep_measured(found) if r.key.framework == "imgbench"]
  theirs = [r for r in keep_measured(found) if r.key.framework != "imgbench"]
  ratios = []
  for mine in ours:
    for other in theirs:
      if same(mine.key) != same(other.key):
        continue
      found_ratio = comparison.compute_ratio(other, mine)
      if not isinstance(found_ratio, str):
        ratio = found_ratio[0]
        bounds = ratio.interval(medians.COVERAGE)
        ratios.append(BaselineRatio(mine, other, ratio.ratio, bounds))
  return ratios


def name_precision(key: rows.Key) -> str:
  """Returns a dtype with non-default precisions, e.g. "float32, highest"."""
  matmul, conv = (
    None if value == "default" else value
    for value in (key.matmul_precision, key.conv_precision)
  )
  parts = [key.dtype or "dtype unknown"]
  if matmul == conv:
    parts += [matmul] if matmul else []
  else:
    parts += [f"matmul {matmul}"] if matmul else []
    parts += [f"conv {conv}"] if conv else []
  return ", ".join(parts)


def group_rows(found: Iterable[rows.Row], by: Callable) -> dict:
  """Returns key -> rows, both in the original order, with keys from `by`."""
  groups = {}
  for row in found:
    groups.setdefault(by(row), []).append(row)
  return groups


def group_by_devices(
  found: Iterable[rows.Row],
) -> list[tuple[str, list[rows.Row]]]:
  """Groups rows that differ in their number of devices.

  Returns:
    Pairs of what is constant (WEAK: the batch per device, STRONG: the batch)
    and rows sorted by number of devices, of at least two different numbers.
  """
  groups = []
  for kind in (WEAK, STRONG):

    def drop_devices(row: rows.Row, kind: str = kind) -> rows.Key:
      share = row.key.devices if kind == WEAK else 1
      batch = round(row.key.batch / share)
      return dataclasses.replace(row.key, devices=1, batch=batch)

    for group in group_rows(keep_measured(found), drop_devices).values():
      if len({r.key.devices for r in group}) > 1:
        groups.append((kind, sorted(group, key=lambda r: r.key.devices)))
  return groups


def list_efficiencies(group: Sequence[rows.Row]) -> list[float]:
  """Returns images/s per device over those on the fewest devices."""
  fewest = group[0].images_per_s_per_device
  return [r.images_per_s_per_device / fewest for r in group]


def keep_largest_batch(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Returns the largest batch of rows that differ in batch only."""
  groups = group_rows(found, lambda r: dataclasses.replace(r.key, batch=None))
  return [max(g, key=lambda r: r.key.batch) for g in groups.values()]


def keep_fastest(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Returns the fastest of rows that differ in batch and strategy only."""
  plain = lambda key: dataclasses.replace(key, batch=None, strategy=None)
  groups = group_rows(found, lambda r: plain(r.key))
  return [max(g, key=lambda r: r.images_per_s) for g in groups.values()]


def keep_fewest_devices(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Returns rows with data on the devices, for the smallest device count."""
  plain = [r for r in keep_measured(found) if r.key.data in (None, "device")]
  fewest = min((r.key.devices for r in plain), default=0)
  return [r for r in plain if r.key.devices == fewest]


def keep_largest(found: Iterable[BaselineRatio]) -> list[BaselineRatio]:
  """Returns the ratio of the largest batch, of ratios that differ in batch."""
  best = {}
  for ratio in found:
    key = dataclasses.replace(ratio.theirs.key, batch=None)
    place = (key, ratio.ours.key.strategy)
    if place not in best or best[place].ours.key.batch < ratio.ours.key.batch:
      best[place] = ratio
  return list(best.values())


def keep_compiled(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Returns rows with a compile time: fewest devices, largest batch."""
  return keep_largest_batch(
    r
    for r in keep_fewest_devices(found)
    if r.compile_cold_s or r.compile_cached_s
  )


def keep_first_precision(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Returns our rows in the first precision of each model, task and size."""
  groups = group_rows(
    (r for r in found if r.key.framework == "imgbench"),
    lambda r: (r.key.task, r.key.model, r.key.image_size, r.key.strategy),
  )
  same = lambda group: name_precision(group[0].key)
  return [
    r for g in groups.values() for r in g if name_precision(r.key) == same(g)
  ]
