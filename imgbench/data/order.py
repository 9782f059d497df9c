"""The order of training examples: a position is one number."""

import functools

import numpy as np


class ExampleOrder:
  """An endless stream of examples: shuffle, then repeat.

  Every epoch is a permutation of its own, made from (seed, epoch) alone, so
  that any stretch of the stream can be had without what came before it. A
  batch may reach over the end of an epoch: no example is dropped.
  """

  def __init__(self, num_examples: int, seed: int):
    self._num_examples = num_examples
    self._seed = seed
    # Two epochs, for the batches that reach from one into the next.
    self._permutation = functools.lru_cache(maxsize=2)(self._shuffled)

  def _shuffled(self, epoch: int) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
    return rng.permutation(self._num_examples).astype(np.int32)

  def at(self, position: int, count: int) -> dict[str, np.ndarray]:
    """Returns examples `position` to `position + count` of the stream.

    Returns:
      dict of int32 [count]: "index" in [0, N), and "epoch", how often the
      example has been seen before.
    """
    places = np.arange(position, position + count, dtype=np.int64)
    epochs, offsets = np.divmod(places, self._num_examples)
    index = np.empty(count, np.int32)
    for epoch in np.unique(epochs):
      inside = epochs == epoch
      index[inside] = self._permutation(int(epoch))[offsets[inside]]
    return {"index": index, "epoch": epochs.astype(np.int32)}
