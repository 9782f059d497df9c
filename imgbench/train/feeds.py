"""Host arrays of training steps: numbers of examples, or their images."""

from collections.abc import Iterator
from typing import Any
from typing import Protocol

import numpy as np

from imgbench import timing
from imgbench.data import order as order_lib
from imgbench.data import pipeline

Arrays = dict[str, np.ndarray]


class Feed(Protocol):
  """Host arrays of batches by step; any step can be asked for again.

  Attributes:
    waited_s: seconds that `batch_at` waited for images since it was last set
      to 0.
  """

  waited_s: float

  def batch_at(self, step: int, count: int) -> Arrays:
    """Returns arrays of steps [step, step + count), of length count * B."""

  def make_template(self, count: int) -> Arrays:
    """Returns arrays of the same shapes and dtypes, to compile with."""

  def close(self) -> None:
    """Stops background work."""


class ResidentFeed:
  """Feeds "index" and "epoch", int32 [B], of a split on the devices.

  Args:
    order: of the examples.
    batch_size: of the global batch.
    own: the rows of it that this process feeds.
  """

  waited_s = 0.0

  def __init__(
    self,
    order: order_lib.ExampleOrder,
    batch_size: int,
    own: slice = slice(None),
  ):
    self._order = order
    self._batch = batch_size
    self._own = own

  def batch_at(self, step: int, count: int) -> Arrays:
    """See `Feed`."""
    order = self._order.take(step * self._batch, count * self._batch)
    own = lambda x: x.reshape(count, -1)[:, self._own].reshape(-1)
    return {name: own(array) for name, array in order.items()}

  def make_template(self, count: int) -> Arrays:
    """See `Feed`."""
    return self.batch_at(0, count)

  def close(self) -> None:
    """Does nothing."""


class StreamedFeed:
  """Feeds also "image" and "label" of images that are decoded on the fly.

  Threads decode the next steps ahead. A step out of order restarts them, which
  costs the time of a batch.
  """

  def __init__(
    self,
    order: order_lib.ExampleOrder,
    batch_size: int,
    decoded: pipeline.Pipeline,
    image_shape: tuple[int, int, int],
    own: slice = slice(None),
  ):
    """Takes arguments of `ResidentFeed`; `decoded` produces the images."""
    self._order = order
    self._batch = batch_size
    self._decoded = decoded
    self._image_shape = image_shape
    self._share = own
    self.waited_s = 0.0
    self._next: int | None = None
    self._batches: Any = None

  def _orders(self, step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
      order = self._order.take(step * self._batch, self._batch)
      yield order["index"][self._share], order["epoch"][self._share]
      step += 1

  def batch_at(self, step: int, count: int) -> Arrays:
    """See `Feed`. Raises InputError where an image cannot be decoded."""
    with timing.timed() as wait:
      if step != self._next:
        self.close()
        self._batches = self._decoded.batches(self._orders(step))
      self._next = step + count
      batches = [next(self._batches).arrays() for _ in range(count)]
    self.waited_s += wait.seconds
    if count == 1:
      return batches[0]
    return {
      name: np.concatenate([batch[name] for batch in batches])
      for name in batches[0]
    }

  def make_template(self, count: int) -> Arrays:
    """See `Feed`."""
    size = count * len(range(self._batch)[self._share])
    return {
      "image": np.zeros((size, *self._image_shape), np.uint8),
      **{n: np.zeros(size, np.int32) for n in ("label", "index", "epoch")},
    }

  def close(self) -> None:
    """See `Feed`."""
    if self._batches is not None:
      self._batches.close()
    self._next = self._batches = None
