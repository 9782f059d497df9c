"""Reads splits for a search: examples, digests and thumbnails, or batches."""

from collections.abc import Iterator
import dataclasses

import numpy as np

from imgbench import data
from imgbench import errors
from imgbench.data import input_pipelines
from imgbench.data import source
from imgbench.leakage import search

_BATCH = 500
_SIDE = 64  # at which images of several sizes are compared
_PICTURE = 256  # of a sheet


@dataclasses.dataclass(frozen=True)
class Split:
  """A split that has been read.

  Attributes:
    source: of the images.
    examples: of it; encoded images are not kept.
    digests: 16 bytes for each image.
    thumbnails: uint8 [N, 32, 32, 3].
  """

  source: source.AnySource
  examples: source.Examples
  digests: list[bytes]
  thumbnails: np.ndarray

  def __len__(self) -> int:
    return len(self.examples)

  @property
  def info(self) -> source.Info:
    return self.source.info


def open_split(flag: str, text: str, data_dir: str) -> source.AnySource:
  """Returns a split by NAME:SPLIT, e.g. "cifar10:test". Raises InputError."""
  name, colon, split = text.partition(":")
  if not (name and colon and split):
    expected = "NAME:SPLIT, such as cifar10:test"
    raise errors.InputError(flag, expected, repr(text))
  try:
    return data.build_source(name, split, data_dir)
  except errors.InputError as error:
    if error.setting == "split":
      error = errors.InputError(flag, error.expected, error.given, error.fix)
    elif error.setting == "data_dir":
      error = error.prefixed("--")
    raise error


def find_side(*sources: source.AnySource) -> int:
  """Returns the side at which encoded images are decoded, of all splits."""
  sides = [max(s.info.image_shape[:2]) for s in sources if not s.info.streamed]
  return max(sides, default=_SIDE)


def read(opened: source.AnySource, side: int) -> Split:
  """Reads a split; pictures of several sizes are cut square and resized."""
  if isinstance(opened, source.EncodedSource):
    examples = opened.examples()
  else:
    examples = opened.load()
  digests: list[bytes] = []
  thumbnails = np.empty((len(examples), search.SIDE, search.SIDE, 3), np.uint8)
  for batch in iterate(opened, examples, side):
    rows = slice(len(digests), len(digests) + len(batch))
    thumbnails[rows] = search.shrink(batch)
    digests += search.digest(batch)
  return Split(opened, examples, digests, thumbnails)


def iterate(
  opened: source.AnySource, examples: source.Examples, side: int
) -> Iterator[np.ndarray]:
  """Yields images uint8 [B, H, W, C] of a split in its order.

  Args:
    opened: the split.
    examples: of it.
    side: of the images of an encoded split.
  """
  if not isinstance(opened, source.EncodedSource):
    assert examples.image is not None
    for start in range(0, len(examples), _BATCH):
      yield examples.image[start : start + _BATCH]
    return
  for batch in _decode(opened, np.arange(len(opened), dtype=np.int32), side):
    yield batch.image


def take(split: Split, rows: np.ndarray) -> Iterator[np.ndarray]:
  """Yields single images uint8 [H, W, 3], at most 256 pixels a side if encoded.

  Args:
    split: that has been read.
    rows: int [n].
  """
  if not isinstance(split.source, source.EncodedSource):
    assert split.examples.image is not None
    for image in split.examples.image[rows]:
      yield image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)
    return
  for batch in _decode(split.source, rows.astype(np.int32), _PICTURE):
    yield from batch.image


def _decode(opened: source.EncodedSource, rows: np.ndarray, side: int):
  decoded = input_pipelines.build_eval_pipeline(
    split=opened, size=side, crop_fraction=1.0
  )
  parts = np.array_split(rows, range(_BATCH, len(rows), _BATCH))
  return decoded.batches((part, np.zeros_like(part)) for part in parts)
