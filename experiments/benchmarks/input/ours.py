"""Our input path as the benchmark runs it, and its start in a new process.

It imports no more than an input path needs, so that what a process spends
before its first batch is seen.
"""

from collections.abc import Iterator
import dataclasses
import json
import os
import sys
import time
from typing import Any

import numpy as np

from imgbench import errors
from imgbench.data import decode
from imgbench.data import encoded
from imgbench.data import order
from imgbench.data import pipeline
from imgbench.data import source
from imgbench.data import transforms
from imgbench.train import feeds

Stream = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class InputWork:
  """What every tool is given.

  Attributes:
    split: source of the examples.
    images: only so many of them, the first, are used.
    batch: B, batch size.
    size: S, side of the images of a batch.
    threads: of our pipeline; 0: as many as there are cores.
    decoder: of our pipeline, see `decode.build_decoder`.
    folder: of copies in the form that a peer needs; see `input_peers.copy`.
    ordered: evaluation batches come in the order of the examples, for tools
      that are faster where they may come in another.
  """

  split: source.EncodedSource
  images: int
  batch: int
  size: int
  threads: int = 0
  decoder: str = "auto"
  folder: str = ""
  ordered: bool = False

  @property
  def steps(self) -> int:
    """Batches of one pass over the images."""
    return -(-self.images // self.batch)


def open_work(
  data_dir: str, dataset: str, split: str, images: int, **settings: Any
) -> InputWork:
  """Returns work on a prepared set. Raises InputError: there is none."""
  opened = encoded.TfdsEncodedSource(dataset, split, data_dir)
  if images > len(opened):
    raise errors.InputError(
      f"images: expected at most {len(opened)}, which {opened.info.key} has,"
      f" got {images}"
    )
  return InputWork(opened, images, **settings)


def train_pipeline(work: InputWork) -> pipeline.Pipeline:
  """Returns what a run trains on: Inception crops, antialiased bilinear."""
  return pipeline.Pipeline(
    work.split,
    transforms.InceptionCrop(work.size),
    work.size,
    decoder=decode.build_decoder(work.decoder),
    seed=0,
    threads=work.threads,
  )


def train_feed(work: InputWork) -> feeds.StreamedFeed:
  """Returns the same pipeline, any step of which can be asked for."""
  return feeds.StreamedFeed(
    order.ExampleOrder(work.images, seed=0),
    work.batch,
    train_pipeline(work),
    (work.size, work.size, 3),
  )


def train_stream(work: InputWork) -> Stream:
  """Yields batches without end."""
  examples = order.ExampleOrder(work.images, seed=0)

  def orders():
    position = 0
    while True:
      part = examples.take(position, work.batch)
      yield part["index"], part["epoch"]
      position += work.batch

  for batch in train_pipeline(work).batches(orders()):
    yield batch.image, batch.label


def eval_stream(work: InputWork) -> Stream:
  """Yields passes without end; the last batch of each is padded."""
  decoded = pipeline.Pipeline(
    work.split,
    transforms.CentreCrop(work.size),
    work.size,
    decoder=decode.build_decoder(work.decoder, exact=True),
    seed=None,
    threads=work.threads,
  )

  def orders():
    while True:
      yield from pipeline.evaluation_orders(work.images, work.batch)

  for batch in decoded.batches(orders()):
    yield batch.image, batch.label


def resident_bytes() -> int:
  """Memory of this process that is in RAM now."""
  with open("/proc/self/statm") as file:
    return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _run(settings: dict[str, Any], step: int, epochs: int) -> dict[str, Any]:
  started = time.perf_counter()
  work = open_work(**settings)
  feed = train_feed(work)
  feed.at(step, 1)
  result = {"first_batch_s": time.perf_counter() - started}
  print(json.dumps(result), flush=True)  # the one who waits takes the time
  memory = []
  for epoch in range(epochs):
    for number in range(work.steps):
      feed.at(step + 1 + epoch * work.steps + number, 1)
    memory.append(resident_bytes())
  feed.close()
  return {"memory_bytes": memory}


if __name__ == "__main__":
  # Arguments of open_work as JSON, the first step, epochs to go on for.
  print(json.dumps(_run(json.loads(sys.argv[1]), *map(int, sys.argv[2:]))))
