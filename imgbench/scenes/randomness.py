"""Counter-based random numbers of `scenes`, the same in every slice.

Example i of a split uses the words [i * W, (i + 1) * W) of each stream of
(seed, split, purpose), so no example depends on another.
"""

import numpy as np

PLAN, ORDER, NOISE, TEXTURE = range(4)  # purposes of streams


def random_words(seed, stream, purpose, start, count, width) -> np.ndarray:
  """Returns uint64 [count, width], rows `start` to `start + count`.

  NumPy guarantees that the words of Philox stay the same, but not the numbers
  of its Generator.

  Args:
    seed: integer in [0, 2**64).
    stream: number of the split.
    purpose: integer in [0, 8), one per use of the stream.
    start: first row.
    count: number of rows.
    width: words in a row, a multiple of 4.
  """
  bits = np.random.Philox(key=seed + ((8 * stream + purpose) << 64))
  bits.advance(start * width // 4)
  return bits.random_raw(count * width).reshape(count, width)


class Draws:
  """Columns of uniform numbers, used from left to right."""

  def __init__(self, words):
    # 24 bits fill a float32's significand: every value is exact.
    self._values = (words >> np.uint64(40)).astype(np.float32) * np.float32(
      2.0**-24
    )
    self._next = 0

  def take(self, width: int) -> np.ndarray:
    """Returns float32 [B, width] in [0, 1)."""
    self._next += width
    return self._values[:, self._next - width : self._next]

  def one(self) -> np.ndarray:
    return self.take(1)[:, 0]

  def between(self, low, high) -> np.ndarray:
    return (low + (high - low) * self.one()).astype(np.float32)

  def below(self, n: int) -> np.ndarray:
    """Returns int32 [B] in [0, n)."""
    return (self.one() * n).astype(np.int32)


def choose(uniform, probabilities) -> np.ndarray:
  """Returns int [B] choices; the last one has the remaining probability.

  Args:
    uniform: float32 [B] in [0, 1).
    probabilities: of each choice.
  """
  limits = np.cumsum(probabilities)[:-1].astype(np.float32)
  return np.searchsorted(limits, uniform, side="right")
