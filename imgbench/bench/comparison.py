"""Rows of two runs matched: ratios, their intervals, and what they show."""

from collections.abc import Sequence
import dataclasses

from imgbench import errors
from imgbench.bench import medians
from imgbench.bench import rows
from imgbench.bench import summaries

ALPHA = 0.05
SLOWER, FASTER = "slower", "faster"
NONE_SHOWN, NOT_COMPARED = "no difference shown", "not compared"
BROKEN, FIXED = "broken", "fixed"

CPU_TOLERANCE, ACCELERATOR_TOLERANCE = 0.15, 0.05


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What two rows of one point show; A is the base.

  Attributes:
    key: the point.
    before, after: the rows of A and B.
    verdict: SLOWER or FASTER where the interval leaves out 1, NONE_SHOWN where
      it does not; BROKEN where B did not succeed and A did, FIXED the other
      way round; NOT_COMPARED where there is nothing to compare.
    past: the whole interval lies past the tolerance, or B broke.
    ratio: speed of B over speed of A, above 1 where B is faster.
    interval: of the ratio; its coverage is that of Holm's step.
    paired: whether the processes ran side by side.
    reason: why a row was not compared, or what broke.
  """

  key: rows.PointKey
  before: rows.Row
  after: rows.Row
  verdict: str
  past: bool = False
  ratio: float | None = None
  interval: medians.Interval | None = None
  paired: bool = False
  reason: str = ""

  @property
  def is_regression(self) -> bool:
    """Whether it should stop a change: slower past tolerance, or broken."""
    return self.past and self.verdict in (SLOWER, BROKEN)


@dataclasses.dataclass(frozen=True)
class Report:
  """All rows of two runs: those of both, and those of one only."""

  comparisons: Sequence[Comparison]
  only_before: Sequence[rows.PointKey]
  only_after: Sequence[rows.PointKey]
  tolerance: float
  quantity: str

  @property
  def regressions(self) -> list[Comparison]:
    return [c for c in self.comparisons if c.is_regression]


def compare(
  before: Sequence[rows.Row],
  after: Sequence[rows.Row],
  tolerance: float,
  quantity: str = summaries.THROUGHPUT,
) -> Report:
  """Returns what the rows of B show against those of A.

  The tolerance is a ratio of speeds: past 0.15 lie ratios above 1.15 and
  below 1 / 1.15. Over all M rows the chance of any false verdict stays at 5%:
  rows are taken in the order of how sure it is that they lie past the
  tolerance; the interval of the k-th covers 1 - 0.05 / (M - k + 1), and from
  the first one that is not past it the coverage is kept (Holm).

  Args:
    before: rows of A, the base.
    after: rows of B.
    tolerance: at least 0.
    quantity: "throughput" or "latency", see `summaries.compute_speeds`.

  Raises:
    InputError: no point is in both, or a tolerance below 0.
  """
  if not tolerance >= 0:
    raise errors.InputError(f"--tolerance: expected >= 0, got {tolerance}")
  first, second = ({row.key: row for row in r} for r in (before, after))
  both = [key for key in first if key in second]
  if not both:
    raise errors.InputError(
      "no row of B is of a point of A;" + _describe_nearest(before, after)
    )
  pairs = [_compare_pair(first[key], second[key], quantity) for key in both]
  return Report(
    comparisons=_judge(pairs, tolerance),
    only_before=[key for key in first if key not in second],
    only_after=[key for key in second if key not in first],
    tolerance=tolerance,
    quantity=quantity,
  )


def choose_tolerance(platforms: Sequence[str]) -> float:
  """0.15 where a run was on a CPU, else 0.05."""
  on_cpu = any(platform in ("cpu", "") for platform in platforms)
  return CPU_TOLERANCE if on_cpu else ACCELERATOR_TOLERANCE


def compute_ratio(
  before: rows.Row, after: rows.Row, quantity: str = summaries.THROUGHPUT
) -> tuple[medians.LogRatio, bool] | str:
  """Returns the ratio of speeds, after over before, and whether it is paired.

  Where there is none it is the reason.
  """
  speeds = []
  for name, row in (("A", before), ("B", after)):
    found = summaries.compute_speeds(row, quantity)
    if len(found) < 2 or None in found:
      missing = sum(speed is None for speed in found)
      what = f"{missing} without {quantity}" if missing else "at least 2 needed"
      if missing and row.key.task == rows.TIME_TO_ACCURACY:
        what = f"{missing} did not reach the target"
      elif missing and row.key.task in rows.QUANTITIES:
        what = f"{missing} not above 0"
      return f"{name}: {len(found)} process{'es' * (len(found) != 1)}, {what}"
    speeds.append(found)
  partners = _find_partners(before, after)
  if partners:
    one, other = zip(*partners, strict=True)
    above = [speeds[1][place] for place in other]
    return medians.paired_ratio(above, [speeds[0][p] for p in one]), True
  return medians.ratio(speeds[1], speeds[0]), False


def _find_partners(before: rows.Row, after: rows.Row) -> list[tuple[int, int]]:
  """Places of processes that ran side by side; none unless all of A's did."""
  places = {p.pair: i for i, p in enumerate(after.raw) if p.pair is not None}
  if len(before.raw) != len(after.raw) or len(places) < 2:
    return []
  found = [(i, places.get(p.pair)) for i, p in enumerate(before.raw)]
  return found if all(place is not None for _, place in found) else []


def _compare_pair(before: rows.Row, after: rows.Row, quantity: str):
  """A row's ratio, or the Comparison that needs none."""
  make = lambda verdict, reason, past=False: Comparison(
    before.key, before, after, verdict, past, reason=reason
  )
  if before.status != rows.OK or after.status != rows.OK:
    if before.status == rows.OK:
      reason = f"{after.status}: {after.message}"
      return make(BROKEN, reason, past=True)
    if after.status == rows.OK:
      return make(FIXED, f"A: {before.status}: {before.message}")
    return make(NOT_COMPARED, f"A: {before.status}, B: {after.status}")
  found = compute_ratio(before, after, quantity)
  if isinstance(found, str):
    fell_short = _reached_target(before) and not _reached_target(after)
    return make(BROKEN if fell_short else NOT_COMPARED, found, fell_short)
  return before, after, *found


def _reached_target(row: rows.Row) -> bool:
  """Whether all training runs did; true of other rows."""
  is_run = row.key.task == rows.TIME_TO_ACCURACY
  return not is_run or None not in summaries.compute_speeds(row)


def _judge(pairs: Sequence, tolerance: float) -> list[Comparison]:
  """Comparisons in the order of `pairs`, with intervals after Holm."""
  tested = [
    i for i, pair in enumerate(pairs) if not isinstance(pair, Comparison)
  ]
  tested.sort(key=lambda i: pairs[i][2].p_past(tolerance))
  judged, remaining, stopped = list(pairs), len(tested), False
  for place in tested:
    before, after, ratio, paired = pairs[place]
    alpha = ALPHA / remaining
    past = not stopped and ratio.p_past(tolerance) <= alpha
    if past:
      remaining -= 1
    else:
      stopped = True
    interval = ratio.interval(1 - alpha)
    judged[place] = Comparison(
      *(before.key, before, after, _verdict(interval), past),
      *(ratio.ratio, interval, paired),
    )
  return judged


def _verdict(interval: medians.Interval) -> str:
  if interval.high < 1:
    return SLOWER
  return FASTER if interval.low > 1 else NONE_SHOWN


def _describe_nearest(
  before: Sequence[rows.Row], after: Sequence[rows.Row]
) -> str:
  """How the first point of B differs from the most similar one of A."""
  if not before or not after:
    return " one of them has no rows"
  key = dataclasses.asdict(after[0].key)
  differing = [
    [n for n, v in dataclasses.asdict(r.key).items() if v != key[n]]
    for r in before
  ]
  names = min(differing, key=len)
  return f" the nearest differ in {', '.join(names)}"
