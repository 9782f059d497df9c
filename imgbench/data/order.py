"""The order of training examples, addressed by one position."""

import functools

import numpy as np


class ExampleOrder:
  """An endless stream of examples: shuffle, then repeat.

  The permutation of an epoch depends on (seed, epoch) alone, so any part of the
  stream can be computed without the ones before it. A batch may span two
  epochs: no example is dropped.
  """

  def __init__(self, num_examples: int, seed: int):
    self._num_examples = num_examples
    self._seed = seed
    # Two epochs, for batches that span both.
    self._permutation = functools.lru_cache(maxsize=2)(self._shuffle)

  def _shuffle(self, epoch: int) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
    return rng.permutation(self._num_examples).astype(np.int32)

  def take(self, position: int, count: int) -> dict[str, np.ndarray]:
    """Returns examples `position` to `position + count` of the stream.

    Returns:
      dict of int32 [count]: "index" in [0, N), and "epoch", the number of
      earlier passes over the examples.
    """
    places = np.arange(position, position + count, dtype=np.int64)
    epochs, offsets = np.divmod(places, self._num_examples)
    index = np.empty(count, np.int32)
    for epoch in np.unique(epochs):
      inside = epochs == epoch
      index[inside] = self._permutation(int(epoch))[offsets[inside]]
    return {"index": index, "epoch": epochs.astype(np.int32)}
