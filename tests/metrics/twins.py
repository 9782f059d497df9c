"""Slow twins of the kernels in plain Python, and logits to try them on."""

import math

from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np

# Few values, so that ties are frequent; no subnormals, which XLA:CPU flushes.
_SCORES = [0.0, -0.0, 1.0, -1.0, 2.5, 300.0, -1e30, 3e38, -np.inf]
_BROKEN = [np.nan, np.inf]

FIELDS = (
  "count",
  "non_finite",
  "top 1",
  "top 5",
  "strict 1",
  "strict 5",
  "reviewed_count",
  "lenient_hits",
  "unreviewed",
  "imagenet_m_count",
  "imagenet_m_hits",
  "imagenet_m_unreviewed",
)


@st.composite
def batches(draw, num_classes=(3, 7), size=6):
  """Logits [size, K], labels, codes, left-out and ImageNet-M flags, mask.

  Labels may lie outside [0, K) where the mask is false.
  """
  k = draw(st.sampled_from(num_classes))
  values = _SCORES + (_BROKEN if draw(st.booleans()) else [])
  logits = draw(
    hnp.arrays(np.float32, (size, k), elements=st.sampled_from(values))
  )
  labels = draw(hnp.arrays(np.int32, size, elements=st.integers(0, k - 1)))
  codes = draw(hnp.arrays(np.int8, (size, k), elements=st.integers(0, 3)))
  left_out = draw(hnp.arrays(bool, size))
  in_m = draw(hnp.arrays(bool, size))
  mask = draw(hnp.arrays(bool, size))
  garbage = draw(st.sampled_from([-1, 0, k, 2**31 - 1]))
  return logits, np.where(mask, labels, garbage), codes, left_out, in_m, mask


def is_finite(row) -> bool:
  values = [float(x) for x in row]
  if any(math.isnan(x) or x == math.inf for x in values):
    return False
  return any(x > -math.inf for x in values)


def order(row) -> list[int]:
  """Classes that can be predicted, the best first; empty if not finite."""
  if not is_finite(row):
    return []
  classes = [c for c in range(len(row)) if float(row[c]) > -math.inf]
  return sorted(classes, key=lambda c: (-float(row[c]), c))


def top(row, k) -> list[int]:
  return (order(row) + [-1] * k)[:k]


def rank(row, label) -> int:
  ranking = order(row)
  return ranking.index(label) if label in ranking else len(row)


def softmax(row) -> list[float]:
  values = [float(x) for x in row]
  weights = [math.exp(x - max(values)) for x in values]
  return [w / math.fsum(weights) for w in weights]


def nll(row, label) -> float:
  if not is_finite(row):
    return math.nan
  values = [float(x) for x in row]
  if values[label] == -math.inf:
    return math.inf
  high = max(values)
  total = math.fsum(math.exp(x - high) for x in values)
  return math.log(total) + (high - values[label])


def brier(row, label) -> float:
  if not is_finite(row):
    return math.nan
  return math.fsum((p - (c == label)) ** 2 for c, p in enumerate(softmax(row)))


def counts(logits, labels, codes, left_out, in_m, mask) -> dict[str, list[int]]:
  """Counts as `counts.Counts` does, example by example."""
  k = len(logits[0])
  result = {field: [0] * k for field in FIELDS}
  for i, row in enumerate(logits):
    if not mask[i]:
      continue
    first = top(row, 5)
    seen = {
      "count": True,
      "non_finite": not is_finite(row),
      "top 1": first[0] == labels[i],
      "top 5": labels[i] in first,
    }
    if left_out is not None and not left_out[i]:
      own = [codes[i][c] if c >= 0 else None for c in first]
      member = in_m is not None and in_m[i]
      seen |= {
        "reviewed_count": True,
        "strict 1": own[0] == 3,
        "strict 5": 3 in own,
        "lenient_hits": own[0] in (2, 3),
        "unreviewed": own[0] == 0,
        "imagenet_m_count": member,
        "imagenet_m_hits": member and own[0] in (2, 3),
        "imagenet_m_unreviewed": member and own[0] == 0,
      }
    for field, holds in seen.items():
      result[field][labels[i]] += bool(holds)
  return result
