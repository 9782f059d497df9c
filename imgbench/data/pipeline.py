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
import os

from absl import logging
import numpy as np

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
  """

  image: np.ndarray
  label: np.ndarray
  index: np.ndarray
  epoch: np.ndarray


class Pipeline:
  """Yields decoded batches of the examples that are asked for.

  Args:
    split: source of encoded images.
    transform: fills a slot with an image; gets a generator if there is a seed.
    size: S, side of the images.
    decoder: see `decode.build_decoder`.
    seed: of all randomness; None: the transform is not random.
    threads: number of decoding threads; 0: one per core.
    prefetch: batches in flight, at least 1.
    most_bad: number of images that cannot be decoded, each replaced by the
      example before it in its batch, before that is an error.

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
    most_bad: int = 0,
  ):
    for name, value, least in (
      ("threads", threads, 0),
      ("prefetch", prefetch, 1),
      ("most_bad", most_bad, 0),
    ):
      if value < least:
        raise errors.InputError(name, f"at least {least}", value)
    self._split = split
    self._transform = transform
    self._shape = (size, size, split.info.image_shape[-1])
    self._decoder = decoder
    self._seed = seed
    self._threads = threads or len(os.sched_getaffinity(0))
    self._prefetch = prefetch
    self._most_bad = most_bad
    self._bad: set[int] = set()

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
    )
    tasks = [
      pool.submit(self._fill, batch, start, min(start + _CHUNK, len(index)))
      for start in range(0, len(index), _CHUNK)
    ]
    return batch, tasks

  def _finish(self, batch: Batch, tasks) -> Batch:
    bad = [slot for task in tasks for slot in task.result()]
    if bad:
      good = np.setdiff1d(np.arange(len(batch.index)), bad)
      if not good.size:
        raise errors.InputError(
          self._split.info.key, "an image in each batch that decodes", "none"
        )
      for slot in bad:
        other = good[max(np.searchsorted(good, slot) - 1, 0)]
        batch.image[slot] = batch.image[other]
        batch.label[slot] = batch.label[other]
    return batch

  def _fill(self, batch: Batch, start: int, stop: int) -> list[int]:
    """Decodes some slots; returns those whose image is bad."""
    bad = []
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
        self._count_bad(index, error)
        bad.append(slot)
    return bad

  def _count_bad(self, index: int, error: Exception) -> None:
    self._bad.add(index)
    where, count = self._split.where(index), len(self._bad)
    if count > self._most_bad:
      raise errors.InputError(
        where,
        "a whole record with an image that can be decoded",
        error,
        "repair the file and prepare the set again; to replace such images in"
        f" training: input.on_bad_example=skip, input.most_bad={count} or more",
      ) from error
    logging.warning(
      "%s: %s; replaced (%d of at most %d)", where, error, count, self._most_bad
    )


def evaluation_orders(
  num_examples: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields (index, epoch) of each example once, padded with the last one."""
  for start in range(0, num_examples, batch_size):
    index = np.arange(start, start + batch_size, dtype=np.int32)
    yield np.minimum(index, num_examples - 1), np.zeros(batch_size, np.int32)
