"""Image classification sets that TFDS has prepared, read without TensorFlow.

Both file formats give the same examples in the same order. Images are decoded
by Pillow (`image_decode`), never by what TFDS would pick.
"""

from collections.abc import Iterator
from concurrent import futures
import hashlib
import json
import operator
import os
import pathlib
from typing import Any

from absl import logging
import numpy as np
import tensorflow_datasets

from imgbench import cache
from imgbench import errors
from imgbench.data import image_decode
from imgbench.data import records
from imgbench.data import source
from imgbench.data import tfds_folder

_CACHE_VERSION = 1
_CACHE_LIMIT_BYTES = 2**32  # a set that is larger is not one to hold in memory
_CHUNK_BYTES = 2**22  # decoded; what one unit of work of `load` fills
# Below, Pillow holds the interpreter's lock for most of an image and threads
# only hinder each other: on 2 cores 32x32 takes 60 us with one and 95 us with
# two, 128x128 takes 197 and 141 us.
_THREADS_FROM_PIXELS = 96 * 96


class TfdsSource:
  """A split of a TFDS image classification set. See `source.Source`.

  The data set needs the features `image` (uint8, one fixed shape) and `label`
  (a class label). The identifier of an example is its feature `id`, else
  `file_name`, else `<split>_<its number in the whole split>`.

  Attributes:
    info: see `source.Info`. The fingerprint is made of name, version, ranges
      of examples, sizes and a sample of the examples themselves, so that both
      file formats, any sharding and every copy have the same one.
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
      version: e.g. "3.0.2"; the newest there is if empty.
      cache: whether `load` keeps decoded images in the user's cache folder.

    Raises:
      InputError: no such data, or not of this kind; says how to mend it.
    """
    self._records = records.Records(name, split, data_dir, version)
    self._folder = self._records.folder
    self._features = self._folder.builder.info.features
    self._use_cache = cache
    image_shape, class_names = _check_features(self._folder)
    self._id_field = next(
      (f for f in ("id", "file_name") if f in self._features), None
    )
    self.info = source.Info(
      # A metric is named <name>:<split>/<subset>/<metric>.
      name=name.replace("/", "-"),
      split=split,
      num_examples=len(self._records),
      image_shape=image_shape,
      class_names=class_names,
      fingerprint=self._records.fingerprint(self._parse),
      synthetic=self._folder.synthetic,
    )

  def __len__(self) -> int:
    return self.info.num_examples

  def __getitem__(self, index: int) -> dict[str, Any]:
    """One example under the field names and in the types of TFDS.

    Args:
      index: in [0, N).

    Raises:
      IndexError: outside.
      InputError: an example that cannot be read or has another shape. (The
        checksums of TFRecord data are verified by `load` only.)
    """
    index = operator.index(index)
    if not 0 <= index < len(self):
      raise IndexError(f"{self.info.key}: no example {index} of {len(self)}")
    piece, place = self._records.locate(index)
    record = self._records[index]
    try:
      example = self._features.deserialize_example_np(
        record,
        decoders={"image": tensorflow_datasets.decode.SkipDecoding()},
      )
      example["image"] = image_decode.decode(
        example["image"], self.info.image_shape
      )
    except Exception as error:  # of protobuf, of TFDS or of the image
      raise self._records.bad_example(piece, place, error) from error
    return example

  def _parse(self, piece, place: int, record: bytes) -> tuple[bytes, int, str]:
    """Returns encoded image, label and identifier of a record."""
    try:
      fields = records.parse(record)
      (image,) = fields["image"].bytes_list.value
      (label,) = fields["label"].int64_list.value
      if self._id_field is None:
        return image, label, f"{piece.split}_{piece.first + place:05d}"
      (name,) = fields[self._id_field].bytes_list.value
      return image, label, name.decode()
    except Exception as error:  # protobuf has its own errors
      raise self._records.bad_example(piece, place, error) from error

  def load(self, progress: source.Progress | None = None) -> source.Examples:
    """All examples. See `source.Source`.

    The arrays are read-only. With `cache`, decoded images are kept in
    `<user cache>/decoded` under a key made of the contents of the shards and
    the decoder's version, and are memory-mapped the next time.
    """
    folder = self._cache_folder()
    arrays = cache.read_arrays(folder) if folder else None
    if arrays is not None:
      if progress:
        progress(len(self), len(self))
      return source.check_examples(source.Examples(**arrays), self.info)
    arrays = self._decode_all(progress)
    examples = source.check_examples(source.Examples(**arrays), self.info)
    if folder:
      try:
        cache.write_arrays(folder, arrays)
      except OSError as error:
        logging.warning("decoded images are not kept in %s: %s", folder, error)
    return examples

  def _chunks(self) -> Iterator[tuple[int, tfds_folder.Piece, int, int]]:
    """Yields (place in the result, piece, start, stop) to decode at once."""
    size = _CHUNK_BYTES // int(np.prod(self.info.image_shape))
    size = min(max(size, 16), 1000)
    done = 0
    for piece in self._records.pieces:
      for start in range(piece.start, piece.stop, size):
        stop = min(start + size, piece.stop)
        yield done, piece, start, stop
        done += stop - start

  def _decode_all(self, progress) -> dict[str, np.ndarray]:
    count = len(self)
    image = np.empty((count, *self.info.image_shape), np.uint8)
    label = np.empty(count, np.int64)
    image_id = [""] * count

    def decode(chunk):
      at, piece, start, stop = chunk
      encoded = []
      stretch = self._records.shards[piece.path].read(start, stop)
      for i, record in enumerate(stretch):
        data, label[at + i], image_id[at + i] = self._parse(
          piece, start + i, record
        )
        encoded.append(data)
      try:
        image_decode.decode_batch(encoded, image[at : at + len(encoded)])
      except image_decode.DecodeError as error:
        place = start + error.index
        raise self._records.bad_example(piece, place, error) from error
      return len(encoded)

    height, width, _ = self.info.image_shape
    threads = 1
    if height * width >= _THREADS_FROM_PIXELS:
      threads = min(os.cpu_count(), 16)
    done = 0
    for decoded in _map(decode, self._chunks(), threads):
      done += decoded
      if progress:
        progress(done, count)
    self._check_ids(image_id)
    image.flags.writeable = False
    return {
      "image": image,
      "label": _to_int32(label),
      "image_id": np.array(image_id),
    }

  def _check_ids(self, image_id: list[str]) -> None:
    if len(set(image_id)) != len(image_id):
      seen = set()
      twice = next(i for i in image_id if i in seen or seen.add(i))
      raise errors.InputError(
        f"{self.info.key}: expected a different {self._id_field} for each"
        f" image, {twice!r} is there more than once"
      )

  def _cache_folder(self) -> pathlib.Path | None:
    """Returns where the decoded split is kept, or None if it is not."""
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
    try:
      return cache.user_cache_dir("decoded", f"{self.info.name}-{key}")
    except OSError as error:
      logging.warning("decoded images are not kept: %s", error)
      return None


def _map(function, items, threads: int) -> Iterator:
  if threads == 1:
    yield from map(function, items)
    return
  pool = futures.ThreadPoolExecutor(threads)
  try:
    yield from pool.map(function, items)
  finally:
    pool.shutdown(cancel_futures=True)  # after an error the rest is no use


def _to_int32(label: np.ndarray) -> np.ndarray:
  # A label beyond int32 stays out of range instead of wrapping into it.
  limits = np.iinfo(np.int32)
  return np.clip(label, limits.min, limits.max).astype(np.int32)


def _check_features(folder: tfds_folder.Folder):
  """Returns (image_shape, class_names) of a set that this program can read."""
  features = dict(folder.builder.info.features.items())
  where = f"{folder.path}/features.json"
  image_type = tensorflow_datasets.features.Image
  label_type = tensorflow_datasets.features.ClassLabel
  for field, kind in (("image", image_type), ("label", label_type)):
    if not isinstance(features.get(field), kind):
      found = sorted(f"{k} ({type(v).__name__})" for k, v in features.items())
      raise errors.InputError(
        f"{where}: expected the feature {field!r} of type {kind.__name__}, got"
        f" {', '.join(found)}; this is not an image classification set"
      )
  shape, dtype = features["image"].shape, features["image"].np_dtype
  if dtype != np.uint8 or len(shape) != 3 or shape[-1] not in (1, 3):
    raise errors.InputError(
      f"{where}: expected uint8 images of 1 or 3 channels, got"
      f" {np.dtype(dtype).name} {list(shape)}"
    )
  if None in shape:
    raise errors.InputError(
      f"{where}: expected images of one size, got {list(shape)}; see"
      " `encoded.TfdsEncodedSource`"
    )
  if not features["label"].num_classes:
    raise errors.InputError(f"{where}: the label has no classes")
  return tuple(shape), tuple(features["label"].names)
