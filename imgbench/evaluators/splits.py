"""Splits as batches on the devices: every example exactly once."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from typing import TYPE_CHECKING
from typing import Protocol

import jax
import numpy as np

from imgbench import parallel
from imgbench.data import device
from imgbench.data import source

if TYPE_CHECKING:
  from imgbench.data import pipeline


class Split(Protocol):
  """The examples that an evaluator evaluates.

  Attributes:
    info: of the split.
    examples: without the images if they are streamed.
    skips_bad: whether damaged examples are left out.
  """

  info: source.Info
  examples: source.Examples
  skips_bad: bool

  def batches(
    self, batch_size: int
  ) -> Generator[tuple[device.DeviceExamples, jax.Array], None, None]:
    """Yields (batch, mask bool [B]); the last batch is padded.

    The mask is also false for examples that cannot be decoded.
    """

  def images(self, indices: np.ndarray) -> np.ndarray:
    """Returns images as evaluated, uint8 [n, H, W, C], of examples [n]."""


class ResidentSplit:
  """A split that is on the device as a whole; a batch is a gather."""

  def __init__(
    self,
    info: source.Info,
    examples: source.Examples,
    strategy: parallel.Strategy,
    skips_bad: bool = False,
  ):
    self.info = info
    self.examples = examples
    self.skips_bad = skips_bad
    self._data = strategy.replicate(device.from_examples(examples))
    self._strategy = strategy
    self._gathers: dict[int, Callable] = {}

  def batches(self, batch_size: int):
    """See `Split`."""
    if batch_size not in self._gathers:
      self._gathers[batch_size] = self._strategy.jit(
        lambda data, start: self._strategy.as_batch(
          device.eval_batch(data, start, batch_size)
        ),
        out=self._strategy.batch,
      )
    for start in range(0, len(self.examples), batch_size):
      # A NumPy scalar is the same in all processes and on no device yet.
      yield self._gathers[batch_size](self._data, np.int32(start))

  def images(self, indices: np.ndarray) -> np.ndarray:
    """See `Split`."""
    return self.examples.image[indices]


class StreamedSplit:
  """A split whose images are decoded during the pass."""

  def __init__(
    self,
    info: source.Info,
    examples: source.Examples,
    strategy: parallel.Strategy,
    decoded: pipeline.Pipeline,
    skips_bad: bool = False,
  ):
    self.info = info
    self.examples = examples
    self.skips_bad = skips_bad
    self._strategy = strategy
    self._decoded = decoded

  def batches(self, batch_size: int):
    """See `Split`."""
    # A split on the devices needs no decoders.
    from imgbench.data import pipeline

    count, own = len(self.examples), self._strategy.own_rows(batch_size)
    orders = [
      (index[own], epoch[own])
      for index, epoch in pipeline.evaluation_orders(count, batch_size)
    ]
    batches = self._decoded.batches(
      (self._find_places(index), epoch) for index, epoch in orders
    )
    try:
      for number, batch in enumerate(batches):
        mask = np.arange(batch_size)[own] + number * batch_size < count
        mask &= ~batch.bad
        rows = lambda array, index=orders[number][0]: (
          None if array is None else array[index]
        )
        yield self._strategy.shard_batch(
          (
            device.DeviceExamples(
              image=batch.image,
              label=batch.label,
              label_codes=rows(self.examples.label_codes),
              left_out=rows(self.examples.left_out),
              in_imagenet_m=rows(self.examples.in_imagenet_m),
            ),
            mask,
          )
        )
    finally:
      batches.close()

  def images(self, indices: np.ndarray) -> np.ndarray:
    """See `Split`."""
    index = self._find_places(np.asarray(indices, np.int32))
    (batch,) = self._decoded.batches([(index, np.zeros_like(index))])
    return batch.image

  def _find_places(self, index: np.ndarray) -> np.ndarray:
    """Returns the places in the split, int32 [n], of examples [n]."""
    place = self.examples.place
    return index if place is None else place[index].astype(np.int32)
