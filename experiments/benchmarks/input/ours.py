"""Our input path for the benchmark, and its start in a new process.

It imports only what an input path needs, so that the time to the first batch is
realistic.
"""

from collections.abc import Iterator
import dataclasses
import json
import os
import sys
import time
from typing import Any

import numpy as np

from imgbench import config_utils
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
class Task:
  """Input of every tool.

  Attributes:
    split: source of the examples.
    images: number of examples to use, from the first.
    batch: B, batch size.
    size: S, side of the images of a batch.
    threads: of our pipeline; 0: one per core.
    decoder: of our pipeline, see `decode.build_decoder`.
    folder: of copies in the formats of baselines, see `peers.copy`.
    ordered: whether evaluation batches keep the order of the examples, which
      slows down some tools.
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
    """Batches per pass over the images."""
    return -(-self.images // self.batch)


def open_work(
  data_dir: str, dataset: str, split: str, images: int, **settings: Any
) -> Task:
  """Opens a prepared data set. Raises InputError."""
  with config_utils.prefix_errors("--"):
    opened = encoded.TfdsEncodedSource(dataset, split, data_dir)
  if images > len(opened):
    expected = f"at most {len(opened)} as in {opened.info.key}"
    raise errors.InputError("--images", expected, images)
  return Task(opened, images, **settings)


def build_train_pipeline(work: Task) -> pipeline.Pipeline:
  """Returns the training pipeline: Inception crops, antialiased bilinear."""
  return pipeline.Pipeline(
    work.split,
    transforms.InceptionCrop(work.size),
    work.size,
    decoder=decode.build_decoder(work.decoder),
    seed=0,
    threads=work.threads,
  )


def build_train_feed(work: Task) -> feeds.StreamedFeed:
  """Returns the training pipeline as a feed that can start at any step."""
  return feeds.StreamedFeed(
    order.ExampleOrder(work.images, seed=0),
    work.batch,
    build_train_pipeline(work),
    (work.size, work.size, 3),
  )


def stream_training(work: Task) -> Stream:
  """Yields endless training batches."""
  examples = order.ExampleOrder(work.images, seed=0)

  def orders():
    position = 0
    while True:
      part = examples.take(position, work.batch)
      yield part["index"], part["epoch"]
      position += work.batch

  for batch in build_train_pipeline(work).batches(orders()):
    yield batch.image, batch.label


def stream_evaluation(work: Task) -> Stream:
  """Yields endless evaluation passes; the last batch of each is padded."""
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


def read_resident_bytes() -> int:
  """Returns the resident memory of this process."""
  with open("/proc/self/statm", encoding="utf-8") as file:
    return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _run(settings: dict[str, Any], step: int, epochs: int) -> dict[str, Any]:
  started = time.perf_counter()
  work = open_work(**settings)
  feed = build_train_feed(work)
  feed.batch_at(step, 1)
  result = {"first_batch_s": time.perf_counter() - started}
  print(json.dumps(result), flush=True)  # The parent process waits for it.
  memory = []
  for epoch in range(epochs):
    for number in range(work.steps):
      feed.batch_at(step + 1 + epoch * work.steps + number, 1)
    memory.append(read_resident_bytes())
  feed.close()
  return {"memory_bytes": memory}


if __name__ == "__main__":
  # Arguments of open_work as JSON, the first step, epochs to continue.
  print(json.dumps(_run(json.loads(sys.argv[1]), *map(int, sys.argv[2:]))))
