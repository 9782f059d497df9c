"""Decodes and augments batches of encoded images with threads, in any order.

Threads decode directly into the slots of a batch; several batches are in flight
at once. The augmentation of an example depends on the seed, its index and its
epoch alone, so any part of the stream can be computed again.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent import futures
import dataclasses

import numpy as np

from imgbench import cpus
from imgbench import errors
from imgbench.data import decode
from imgbench.data import source

# Images per task: few enough to balance a batch, enough to amortise a task.
_CHUNK = 4

# (decoder, encoded, uint8 [S, S, C] to fill, rng) -> None
Transform = Callable[
  [decode.Decoder, bytes, np.ndarray, np.random.Generator | None], None
]


@dataclasses.dataclass(frozen=True)
class Batch:
  """A batch on the host.

  Attributes:
    image: uint8 [B, S, S, C].
    label: int32 [B].
    index: int32 [B], the numbers of the examples.
    epoch: int32 [B], the epoch of each.
    bad: bool [B], whether it cannot be read or decoded. In training the example
      before it in the batch takes its place, else its image is black.
  """

  image: np.ndarray
  label: np.ndarray
  index: np.ndarray
  epoch: np.ndarray
  bad: np.ndarray

  def arrays(self) -> dict[str, np.ndarray]:
    """Returns what a training step takes, by name."""
    return {name: array for name, array in vars(self).items() if name != "bad"}


class Pipeline:
  """Yields decoded batches of the examples that are asked for.

  Args:
    split: source of encoded images.
    transform: fills a slot with an image; gets a generator if there is a seed.
    size: S, side of the images.
    decoder: see `decode.build_decoder`.
    seed: of all randomness; None: the transform is not random.
    threads: number of decoding threads; 0: one per usable CPU.
    prefetch: batches in flight, at least 1.
    bad: counts examples that cannot be read or decoded; None: they are errors.
    replaces_bad: whether another example of the batch takes their place.

  Raises:
    InputError: a setting out of range.
  """

  def __init__(
    self,
    split: source.EncodedSource,
    transform: Transform,
    size: int,
    *,
    decoder: decode.Decoder,
    seed: int | None,
    threads: int = 0,
    prefetch: int = 2,
    bad: source.BadExamples | None = None,
    replaces_bad: bool = True,
  ):
    for name, value, least in (
      ("threads", threads, 0),
      ("prefetch", prefetch, 1),
    ):
      if value < least:
        raise errors.InputError(name, f"at least {least}", value)
    self._split = split
    self._transform = transform
    self._shape = (size, size, split.info.image_shape[-1])
    self._decoder = decoder
    self._seed = seed
    self._threads = threads or cpus.count_cpus()
    self._prefetch = prefetch
    self._bad = bad or source.BadExamples("")
    self._replaces_bad = replaces_bad

  def batches(
    self, orders: Iterable[tuple[np.ndarray, np.ndarray]]
  ) -> Iterator[Batch]:
    """Yields a batch for each (index, epoch), int32 [B], in their order.

    Closing the iterator stops the threads.

    Raises:
      InputError: an image that cannot be read or decoded.
    """
    pool = futures.ThreadPoolExecutor(self._threads, "decode")
    waiting = collections.deque()
    try:
      for index, epoch in orders:
        waiting.append(self._start(pool, index, epoch))
        if len(waiting) > self._prefetch:
          yield self._finish(*waiting.popleft())
      while waiting:
        yield self._finish(*waiting.popleft())
    finally:
      pool.shutdown(wait=True, cancel_futures=True)

  def _start(self, pool, index: np.ndarray, epoch: np.ndarray):
    batch = Batch(
      image=np.empty((len(index), *self._shape), np.uint8),
      label=np.empty(len(index), np.int32),
      index=index,
      epoch=epoch,
      bad=np.zeros(len(index), bool),
    )
    tasks = [
      pool.submit(self._fill, batch, start, min(start + _CHUNK, len(index)))
      for start in range(0, len(index), _CHUNK)
    ]
    return batch, tasks

  def _finish(self, batch: Batch, tasks) -> Batch:
    for task in tasks:
      task.result()
    if self._replaces_bad and batch.bad.any():
      good = np.flatnonzero(~batch.bad)
      if not good.size:
        raise errors.InputError(
          self._split.info.key, "an image in each batch that decodes", "none"
        )
      for slot in np.flatnonzero(batch.bad):
        other = good[max(np.searchsorted(good, slot) - 1, 0)]
        batch.image[slot] = batch.image[other]
        batch.label[slot] = batch.label[other]
    return batch

  def _fill(self, batch: Batch, start: int, stop: int) -> None:
    """Decodes some slots."""
    for slot in range(start, stop):
      index, epoch = int(batch.index[slot]), int(batch.epoch[slot])
      rng = None
      if self._seed is not None:
        # An independent stream for each example and epoch.
        rng = np.random.Generator(
          np.random.Philox(key=[self._seed, (epoch << 32) | index])
        )
      try:
        data, batch.label[slot] = self._split.read(index)
        self._transform(self._decoder, data, batch.image[slot], rng)
      except (decode.DecodeError, source.DamagedRecord) as error:
        self._bad.add(index, self._split.where(index), error)
        batch.bad[slot] = True
        batch.image[slot], batch.label[slot] = 0, 0


def evaluation_orders(
  num_examples: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields (index, epoch) of each example once, padded with the last one."""
  for start in range(0, num_examples, batch_size):
    index = np.arange(start, start + batch_size, dtype=np.int32)
    yield np.minimum(index, num_examples - 1), np.zeros(batch_size, np.int32)
