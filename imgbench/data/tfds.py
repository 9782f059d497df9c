"""Reads image classification sets prepared by TFDS, without TensorFlow.

Both file formats give the same examples in the same order. Images are decoded
by Pillow (`image_decode`), never by the decoder that TFDS would pick.
"""

from collections.abc import Iterator
from concurrent import futures
import hashlib
import json
import operator
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets

from imgbench import cache
from imgbench import cpus
from imgbench import errors
from imgbench.data import image_decode
from imgbench.data import records
from imgbench.data import source
from imgbench.data import tfds_folder

_CACHE_VERSION = 1
# Classes of sets to which TFDS gives numbers: CIFAR-10.1 has those of CIFAR-10.
_CLASS_NAMES = {
  "cifar10_1": (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
  )
}
_CACHE_LIMIT_BYTES = 2**32  # larger sets should not be held in memory
_CHUNK_BYTES = 2**22  # decoded bytes per task of `load`
# For smaller images Pillow holds the interpreter's lock most of the time and
# threads compete: on 2 cores 32x32 takes 60 us with one thread and 95 us with
# two, 128x128 takes 197 and 141 us.
_THREADS_FROM_PIXELS = 96 * 96


class TfdsSource:
  """A split of a TFDS image classification set. See `source.Source`.

  All images have one size. `records.Records` says which features it needs.

  Attributes:
    info: see `source.Info`.
  """

  def __init__(
    self,
    name: str,
    split: str,
    data_dir: str = "",
    *,
    version: str = "",
    cache: bool = True,
  ):
    """Opens the split; reads no more than a few examples.

    Args:
      name: TFDS name, e.g. "cifar10", or "<name>/<config>".
      split: in TFDS's language, e.g. "train[:90%]".
      data_dir: folder with prepared data sets.
      version: e.g. "3.0.2"; the newest one if empty.
      cache: whether `load` stores decoded images in the user's cache folder.

    Raises:
      InputError: no such data, or not an image classification set.
    """
    self._records = records.Records(name, split, data_dir, version)
    self._use_cache = cache
    features = self._records.features
    image_shape = tuple(features["image"].shape)
    if None in image_shape:
      raise errors.InputError(
        self._records.folder.path / "features.json",
        "images of one size",
        list(image_shape),
        "use encoded.TfdsEncodedSource",
      )
    self.info = source.Info(
      # A metric is named <name>:<split>/<subset>/<metric>.
      name=name.replace("/", "-"),
      split=split,
      num_examples=len(self._records),
      image_shape=image_shape,
      class_names=_CLASS_NAMES.get(name.partition("/")[0])
      or tuple(features[self._records.label_field].names),
      fingerprint=self._records.fingerprint(),
      synthetic=self._records.folder.synthetic,
    )

  def __len__(self) -> int:
    return self.info.num_examples

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Returns one example with the field names and types of TFDS.

    Args:
      index: in [0, N).

    Raises:
      IndexError: out of range.
      InputError: the example cannot be read or has another shape.
    """
    index = operator.index(index)
    if not 0 <= index < len(self):
      raise IndexError(f"{self.info.key}: no example {index} of {len(self)}")
    piece, place = self._records.locate(index)
    record = self._records[index]
    try:
      example = self._records.features.deserialize_example_np(
        record,
        decoders={"image": tensorflow_datasets.decode.SkipDecoding()},
      )
      example["image"] = image_decode.decode(
        example["image"], self.info.image_shape
      )
    except Exception as error:  # from protobuf, TFDS or the image
      raise self._records.bad_example(piece, place, error) from error
    return example

  def load(
    self,
    progress: source.Progress | None = None,
    bad: source.BadExamples | None = None,
  ) -> source.Examples:
    """Returns all examples. See `source.Source`.

    The arrays are read-only. With `cache`, decoded images are stored in
    `<user cache>/decoded` under a hash of the shards and the decoder's version,
    and are memory-mapped the next time.
    """
    folder = self._cache_folder()
    arrays = cache.read_arrays(folder) if folder else None
    if arrays is not None:
      if progress:
        progress(len(self), len(self))
      return source.check_examples(source.Examples(**arrays), self.info)
    arrays = self._decode_all(progress, bad)
    examples = source.check_examples(source.Examples(**arrays), self.info)
    if folder and examples.place is None:
      with cache.optional("decoded images", folder.parent):
        cache.write_arrays(folder, arrays)
    return examples

  def _chunks(self) -> Iterator[tuple[int, tfds_folder.Piece, int, int]]:
    """Yields (place in the result, piece, start, stop) of each task."""
    size = _CHUNK_BYTES // int(np.prod(self.info.image_shape))
    size = min(max(size, 16), 1000)
    done = 0
    for piece in self._records.pieces:
      for start in range(piece.start, piece.stop, size):
        stop = min(start + size, piece.stop)
        yield done, piece, start, stop
        done += stop - start

  def _decode_all(
    self, progress, bad: source.BadExamples | None
  ) -> dict[str, np.ndarray]:
    count = len(self)
    whole = np.ones(count, bool)
    image = np.empty((count, *self.info.image_shape), np.uint8)
    label = np.empty(count, np.int64)
    image_id = [""] * count

    def decode(chunk):
      at, piece, start, stop = chunk
      encoded = []
      for i, record in enumerate(
        self._records.shards[piece.path].read(start, stop)
      ):
        data, label[at + i], image_id[at + i] = self._records.parse(
          piece, start + i, record
        )
        encoded.append(data)
      try:
        image_decode.decode_batch(encoded, image[at : at + len(encoded)])
      except image_decode.BatchDecodeError as error:
        place = start + error.index
        raise self._records.bad_example(piece, place, error) from error
      return len(encoded)

    def decode_whole(chunk):
      """Decodes a chunk, or its examples one by one if some are bad."""
      at, piece, start, stop = chunk
      try:
        return decode(chunk)
      except errors.InputError as error:
        cause = error.__cause__
        damaged = isinstance(error, source.DamagedRecord)
        if bad is None or not (
          damaged or isinstance(cause, image_decode.BatchDecodeError)
        ):
          raise
        if stop - start == 1:
          where = f"{self.info.key}: example {at}"
          where += f" (example {start} of {piece.path})"
          bad.add(at, where, error if damaged else cause)
          whole[at] = False
      if stop - start > 1:
        for i in range(stop - start):
          decode_whole((at + i, piece, start + i, start + i + 1))
      return stop - start

    height, width, _ = self.info.image_shape
    threads = 1
    if height * width >= _THREADS_FROM_PIXELS:
      threads = min(cpus.count_cpus(), 16)
    done = 0
    for decoded in _map(decode_whole, self._chunks(), threads):
      done += decoded
      if progress:
        progress(done, count)
    arrays = {
      "image": image,
      "label": _to_int32(label),
      "image_id": np.array(image_id),
    }
    if not whole.all():
      arrays = {name: array[whole] for name, array in arrays.items()}
      arrays["place"] = np.flatnonzero(whole)
    self._check_ids(arrays["image_id"].tolist())
    arrays["image"].flags.writeable = False
    return arrays

  def _check_ids(self, image_id: list[str]) -> None:
    if len(set(image_id)) != len(image_id):
      seen = set()
      twice = next(i for i in image_id if i in seen or seen.add(i))
      raise errors.InputError(
        self.info.key,
        f"a different {self._records.id_field} for each image",
        f"{twice!r} more than once",
      )

  def _cache_folder(self) -> pathlib.Path | None:
    """Returns the cache folder of the decoded split, or None without one."""
    size = len(self) * int(np.prod(self.info.image_shape))
    if not self._use_cache or size > _CACHE_LIMIT_BYTES:
      return None
    digests = []
    for path in self._records.shards:
      with open(path, "rb") as file:
        digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    identity = [
      _CACHE_VERSION,
      self.info.fingerprint,
      image_decode.decoder_version(),
      digests,
    ]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
    with cache.optional("decoded images"):
      return cache.user_cache_dir("decoded", f"{self.info.name}-{key}")
    return None


def _map(function, items, threads: int) -> Iterator:
  if threads == 1:
    yield from map(function, items)
    return
  pool = futures.ThreadPoolExecutor(threads)
  try:
    yield from pool.map(function, items)
  finally:
    pool.shutdown(cancel_futures=True)  # drops the rest after an error


def _to_int32(label: np.ndarray) -> np.ndarray:
  # Clipped, so that a label beyond int32 stays out of range.
  limits = np.iinfo(np.int32)
  return np.clip(label, limits.min, limits.max).astype(np.int32)
