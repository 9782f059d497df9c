"""How many more reviews decide which of two models is better.

The difference of two accuracies is a sum over predictions; an unreviewed one
adds its weight, or nothing. So the difference lies between `low` and `high`,
which are as far apart as the weights add up to. The order is decided if one
model is at least as good as the other whatever the unreviewed predictions are:
unless low < 0 < high. A review raises low or lowers high by a weight.
"""

from collections.abc import Sequence
import math

_LIMIT = 20_000  # sums to look at


def count_reviews(
  low: int, high: int, weights: Sequence[int]
) -> tuple[int, int]:
  """Returns the least and the largest number of reviews that are needed.

  Args:
    low: least difference, a whole number; so no rounding decides a tie.
    high: largest difference, low + the sum of the weights.
    weights: of the unreviewed predictions, above 0, the largest first.

  Returns:
    (least, most). The first `least` predictions decide the order with the
    results that help most, and no fewer do. The first `most` decide it with
    any results, and no choice of fewer does: swapping a prediction for one of
    larger weight never hurts. `most` may be too large, but never too small,
    where there are more than `_LIMIT` sums of weights to look at.
  """
  if not low < 0 < high:
    return 0, 0
  total, least = 0, 0
  while total < min(-low, high):
    total += weights[least]
    least += 1
  most, left = len(weights), 0
  while most:
    left += weights[most - 1]
    if _reach(weights[: most - 1], -low - left, -low):
      break
    most -= 1
  return least, most


def _reach(weights: Sequence[int], above: int, below: int) -> bool:
  """Returns whether a sum of some weights is between two numbers.

  That is: some results leave the order open. `below` is above 0 and `above`
  below the sum of all. True if there are too many sums to look at.
  """
  # Adding weights one by one does not jump over so wide a gap.
  if weights and below - above > weights[0]:
    return True
  step = math.gcd(*weights) or 1
  if above // step * step + step >= below:
    return False
  sums, rest, seen = {0}, sum(weights), 0
  for weight in weights:
    rest -= weight
    sums |= {x + weight for x in sums}
    sums = {x for x in sums if x < below and x + rest > above}
    seen += len(sums)
    if seen > _LIMIT:
      return True
  return any(above < x < below for x in sums)
