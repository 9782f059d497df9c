"""The order of training examples, addressed by one position."""

from collections.abc import Callable
import functools

import numpy as np


class ExampleOrder:
  """An endless stream of examples: shuffle, then repeat.

  The permutation of an epoch depends on (seed, epoch) alone, so any part of the
  stream can be computed without the ones before it. A batch may span two
  epochs: no example is dropped.

  With `labels`, which reads int [N], classes share an epoch equally. A class
  repeats its examples if they are too few, each time with another "epoch".
  """

  def __init__(
    self,
    num_examples: int,
    seed: int,
    labels: Callable[[], np.ndarray] | None = None,
  ):
    self._num_examples = num_examples
    self._seed = seed
    self._labels = labels
    # Two epochs, for batches that span both.
    self._permutation = functools.lru_cache(maxsize=2)(self._shuffle)

  @functools.cached_property
  def _classes(self) -> list[np.ndarray]:
    """The examples of each class that has some; one class if not balanced."""
    if self._labels is None:
      return [np.arange(self._num_examples)]
    labels, self._labels = self._labels(), None  # Lets go of what it holds.
    _, counts = np.unique(labels, return_counts=True)
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])

  def _shuffle(self, epoch: int) -> np.ndarray:
    """Returns int32 [2, N], examples and their numbers of the epoch."""
    rng = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
    order, classes = rng.permutation(self._num_examples), self._classes
    if len(classes) == 1:
      return np.stack([order, np.full_like(order, epoch)]).astype(np.int32)
    # Odd, so that a mirror image follows in the next epoch, too.
    most_turns = -(-len(order) // (len(classes) * min(map(len, classes)))) | 1
    found = np.empty((2, len(order)), np.int32)
    for start, k in enumerate(rng.permutation(len(classes))):
      slots, size = order[start :: len(classes)], len(classes[k])
      drawn = [rng.permutation(classes[k]) for _ in range(0, len(slots), size)]
      turn = epoch * most_turns + np.arange(len(slots)) // size
      found[:, slots] = np.concatenate(drawn)[: len(slots)], turn
    return found

  def take(self, position: int, count: int) -> dict[str, np.ndarray]:
    """Returns examples `position` to `position + count` of the stream.

    Returns:
      dict of int32 [count]: "index" in [0, N), and "epoch", the number of
      earlier passes over the examples; with `labels` see above.
    """
    places = np.arange(position, position + count, dtype=np.int64)
    epochs, offsets = np.divmod(places, self._num_examples)
    found = np.empty((2, count), np.int32)
    for epoch in np.unique(epochs):
      inside = epochs == epoch
      found[:, inside] = self._permutation(int(epoch))[:, offsets[inside]]
    return {"index": found[0], "epoch": found[1]}
