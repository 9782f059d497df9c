"""Which benchmark rows a table or figure is of."""

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
  """How much faster ours is than a peer's at the same point."""

  ours: rows.Row
  theirs: rows.Row
  ratio: float
  interval: medians.Interval


def select_measured(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Those with images per second."""
  return [r for r in found if r.status == rows.OK and r.images_per_s]


def compute_baseline_ratios(found: Sequence[rows.Row]) -> list[BaselineRatio]:
  """Ours over theirs, wherever a peer ran the same point.

  The strategy is left aside: peers have none. Intervals cover 95% each.
  """
  same = lambda key: dataclasses.replace(key, framework="", strategy=None)
  ours = [r for r in select_measured(found) if r.key.framework == "imgbench"]
  theirs = [r for r in select_measured(found) if r.key.framework != "imgbench"]
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


def format_precision(key: rows.PointKey) -> str:
  """A dtype with the precisions that are set: "float32, highest"."""
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
  """Rows by what `by` gives, both in the order they come."""
  groups = {}
  for row in found:
    groups.setdefault(by(row), []).append(row)
  return groups


def group_by_devices(
  found: Iterable[rows.Row],
) -> list[tuple[str, list[rows.Row]]]:
  """Rows of one point at several numbers of devices.

  Returns:
    Pairs of what is kept (WEAK: the batch per device, STRONG: the batch) and
    rows by number of devices, at least two of different numbers.
  """
  groups = []
  for kind in (WEAK, STRONG):
    share = lambda key, kind=kind: key.devices if kind == WEAK else 1
    by = lambda r, share=share: dataclasses.replace(
      r.key, devices=1, batch=round(r.key.batch / share(r.key))
    )
    for group in group_rows(select_measured(found), by).values():
      if len({r.key.devices for r in group}) > 1:
        groups.append((kind, sorted(group, key=lambda r: r.key.devices)))
  return groups


def compute_efficiencies(group: Sequence[rows.Row]) -> list[float]:
  """Images per second and device over those at the fewest devices."""
  fewest = group[0].images_per_s_per_device
  return [r.images_per_s_per_device / fewest for r in group]


def keep_largest_batch(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Of rows that differ in their batch only the one of the largest."""
  groups = group_rows(found, lambda r: dataclasses.replace(r.key, batch=None))
  return [max(g, key=lambda r: r.key.batch) for g in groups.values()]


def keep_fastest(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Of rows that differ in batch and strategy only the one of most images/s."""
  plain = lambda key: dataclasses.replace(key, batch=None, strategy=None)
  groups = group_rows(found, lambda r: plain(r.key))
  return [max(g, key=lambda r: r.images_per_s) for g in groups.values()]


def keep_fewest_devices(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Rows with data on the devices, on as few as there are rows of."""
  plain = [r for r in select_measured(found) if r.key.data in (None, "device")]
  fewest = min((r.key.devices for r in plain), default=0)
  return [r for r in plain if r.key.devices == fewest]


def keep_largest_ratios(found: Iterable[BaselineRatio]) -> list[BaselineRatio]:
  """Of ratios that differ in their batch only the one of the largest."""
  best = {}
  for ratio in found:
    key = dataclasses.replace(ratio.theirs.key, batch=None)
    place = (key, ratio.ours.key.strategy)
    if place not in best or best[place].ours.key.batch < ratio.ours.key.batch:
      best[place] = ratio
  return list(best.values())


def select_compiled(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Rows with a compile time, on the fewest devices, of the largest batch."""
  return keep_largest_batch(
    r
    for r in keep_fewest_devices(found)
    if r.compile_cold_s or r.compile_cached_s
  )


def keep_first_precision(found: Iterable[rows.Row]) -> list[rows.Row]:
  """Of each model, task and size our rows in the precision that comes first."""
  groups = group_rows(
    (r for r in found if r.key.framework == "imgbench"),
    lambda r: (r.key.task, r.key.model, r.key.image_size, r.key.strategy),
  )
  same = lambda group: format_precision(group[0].key)
  return [
    r for g in groups.values() for r in g if format_precision(r.key) == same(g)
  ]
