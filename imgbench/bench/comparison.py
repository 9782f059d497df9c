"""Compares matched rows of two runs: ratios, intervals and verdicts."""

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
  """Verdict on two rows of one point; A is the base.

  Attributes:
    key: the point.
    before, after: the rows of A and B.
    verdict: SLOWER or FASTER if the interval excludes 1, else NONE_SHOWN;
      BROKEN if A succeeded and B failed, FIXED the other way round;
      NOT_COMPARED if there is nothing to compare.
    past: the whole interval is past the tolerance, or B broke.
    inconclusive: B may be slower past the tolerance: the interval is not past
      it and does not exclude it, or two rows that succeeded have no ratio.
    ratio: speed of B over speed of A, above 1 where B is faster.
    interval: of the ratio, with the coverage of Holm's step.
    paired: whether the processes ran side by side.
    reason: why a row was not compared, or how it failed.
  """

  key: rows.Key
  before: rows.Row
  after: rows.Row
  verdict: str
  past: bool = False
  inconclusive: bool = False
  ratio: float | None = None
  interval: medians.Interval | None = None
  paired: bool = False
  reason: str = ""

  @property
  def gates(self) -> bool:
    """Returns whether the row counts for the exit code, see `is_gated`."""
    return is_gated(self.key)

  @property
  def is_regression(self) -> bool:
    """Returns whether a gated row is slower past the tolerance, or broken."""
    return self.gates and self.past and self.verdict in (SLOWER, BROKEN)


@dataclasses.dataclass(frozen=True)
class Report:
  """Comparison of two runs.

  Attributes:
    comparisons: of the points of both.
    only_before, only_after: points of A only and of B only.
    missing: gated points of A only that succeeded.
    tolerance: see `compare`.
    quantity: see `compare`.
  """

  comparisons: Sequence[Comparison]
  only_before: Sequence[rows.Key]
  only_after: Sequence[rows.Key]
  missing: Sequence[rows.Key]
  tolerance: float
  quantity: str

  @property
  def regressions(self) -> list[Comparison]:
    return [c for c in self.comparisons if c.is_regression]

  @property
  def inconclusive(self) -> list[Comparison]:
    return [c for c in self.comparisons if c.gates and c.inconclusive]


def is_gated(key: rows.Key) -> bool:
  """Returns whether a row counts for the exit code of a comparison.

  Baselines of other frameworks and microbenchmarks describe the machine.
  """
  return key.framework == rows.FRAMEWORKS[0] and key.task != rows.MICRO


def compare(
  before: Sequence[rows.Row],
  after: Sequence[rows.Row],
  tolerance: float,
  quantity: str = summaries.THROUGHPUT,
) -> Report:
  """Compares the rows of B with those of A.

  The tolerance is a ratio of speeds: ratios above 1.15 and below 1 / 1.15 are
  past 0.15. The chance of any false verdict in all M rows is 5% (Holm): rows
  are ordered by their p-value for being within the tolerance; the interval of
  the k-th covers 1 - 0.05 / (M - k + 1), and from the first row that is not
  past the tolerance on the coverage stays the same.

  Args:
    before: rows of A, the base.
    after: rows of B.
    tolerance: at least 0.
    quantity: "throughput" or "latency", see `summaries.list_speeds`.

  Raises:
    InputError: no common point, or a tolerance below 0.
  """
  if not tolerance >= 0:
    raise errors.InputError("--tolerance", "at least 0", tolerance)
  first, second = ({row.key: row for row in r} for r in (before, after))
  both = [key for key in first if key in second]
  if not both:
    nearest = _find_nearest(before, after)
    raise errors.InputError("B", "points of A", "none of them", nearest)
  pairs = [_compare_pair(first[key], second[key], quantity) for key in both]
  return Report(
    comparisons=_judge(pairs, tolerance),
    only_before=[key for key in first if key not in second],
    only_after=[key for key in second if key not in first],
    missing=[
      key
      for key, row in first.items()
      if key not in second and is_gated(key) and row.status == rows.OK
    ],
    tolerance=tolerance,
    quantity=quantity,
  )


def choose_tolerance(platforms: Sequence[str]) -> float:
  """Returns 0.15 if a run was on a CPU, else 0.05."""
  on_cpu = any(platform in ("cpu", "") for platform in platforms)
  return CPU_TOLERANCE if on_cpu else ACCELERATOR_TOLERANCE


def compute_ratio(
  before: rows.Row, after: rows.Row, quantity: str = summaries.THROUGHPUT
) -> tuple[medians.LogRatio, bool] | str:
  """Returns the ratio of speeds, after over before, and whether it is paired.

  If there is none, returns the reason instead.
  """
  speeds = []
  for name, row in (("A", before), ("B", after)):
    found = summaries.list_speeds(row, quantity)
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
  """Returns indices of paired processes; none unless all of A are paired."""
  places = {p.pair: i for i, p in enumerate(after.raw) if p.pair is not None}
  if len(before.raw) != len(after.raw) or len(places) < 2:
    return []
  found = [(i, places.get(p.pair)) for i, p in enumerate(before.raw)]
  return found if all(place is not None for _, place in found) else []


def _compare_pair(before: rows.Row, after: rows.Row, quantity: str):
  """Returns the rows with their ratio, or a Comparison without one."""

  def conclude(verdict: str, reason: str, past: bool = False) -> Comparison:
    inconclusive = verdict == NOT_COMPARED and before.status == rows.OK
    return Comparison(
      *(before.key, before, after, verdict, past, inconclusive), reason=reason
    )

  if before.status != rows.OK or after.status != rows.OK:
    if before.status == rows.OK:
      reason = f"{after.status}: {after.message}"
      return conclude(BROKEN, reason, past=True)
    if after.status == rows.OK:
      return conclude(FIXED, f"A: {before.status}: {before.message}")
    return conclude(NOT_COMPARED, f"A: {before.status}, B: {after.status}")
  found = compute_ratio(before, after, quantity)
  if isinstance(found, str):
    fell_short = _reached_target(before) and not _reached_target(after)
    return conclude(BROKEN if fell_short else NOT_COMPARED, found, fell_short)
  return before, after, *found


def _reached_target(row: rows.Row) -> bool:
  """Returns whether all training runs did; true for other rows."""
  is_run = row.key.task == rows.TIME_TO_ACCURACY
  return not is_run or None not in summaries.list_speeds(row)


def _judge(pairs: Sequence, tolerance: float) -> list[Comparison]:
  """Returns comparisons in the order of `pairs`, with Holm's intervals."""
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
    inconclusive = not past and interval.low < 1 / (1 + tolerance)
    judged[place] = Comparison(
      *(before.key, before, after, _decide_verdict(interval), past),
      *(inconclusive, ratio.ratio, interval, paired),
    )
  return judged


def _decide_verdict(interval: medians.Interval) -> str:
  if interval.high < 1:
    return SLOWER
  return FASTER if interval.low > 1 else NONE_SHOWN


def _find_nearest(before: Sequence[rows.Row], after: Sequence[rows.Row]) -> str:
  """Says how the first point of B differs from the most similar one of A."""
  if not before or not after:
    return "one of them has no rows"
  key = dataclasses.asdict(after[0].key)
  differing = [
    [n for n, v in dataclasses.asdict(r.key).items() if v != key[n]]
    for r in before
  ]
  names = min(differing, key=len)
  return f"the nearest differ in {', '.join(names)}"
