"""What other libraries take to make the same batches, as a yardstick.

Each peer is given the same examples and gives batches of uint8 [B, S, S, 3],
without end: for training of Inception crops in random order, for evaluation of
centre crops. It is written the way a user who knows the library would for
speed. Flips and normalisation belong to the compiled step and are left out
everywhere. They read JPEG files alone.

None of the libraries is a dependency of imgbench.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
from importlib import metadata
import importlib.util
import math
import os
import pathlib

import numpy as np

from experiments.benchmarks.input import ours
from imgbench.data import transforms

_SHARDS = 8
# Batches made ahead, as by our pipeline and a worker of PyTorch's. Left to
# tf.data it becomes more, which would be emptied while the clock runs.
_PREFETCH = 2
_AREA, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
# Side of the centre crop / short side of the image, as in CentreCrop.
_CROP_FRACTION = 0.875


@dataclasses.dataclass(frozen=True)
class InputBaseline:
  """A way to make batches with a library.

  Attributes:
    modules: that have to be there.
    train, evaluate: work -> iterator of (image uint8 [B, S, S, 3], integer
      label [B]) without end; the last batch of an evaluation pass is short
      or padded.
    text: what it does.
  """

  modules: tuple[str, ...]
  train: Callable[[ours.InputWork], ours.Stream]
  evaluate: Callable[[ours.InputWork], ours.Stream]
  text: str


def copy(work: ours.InputWork) -> None:
  """Writes the images to `work.folder` as JPEG files and as TFRecords.

  TFRecords, of tf.train.Examples with `image` and `label`, are written where
  TensorFlow is there to write them.
  """
  folder = pathlib.Path(work.folder)
  for index in range(work.images):
    data, label = work.split.read(index)
    (folder / f"{index:07d}-{label}.jpg").write_bytes(data)
  if importlib.util.find_spec("tensorflow") is None:
    return
  import tensorflow as tf

  bounds = np.linspace(0, work.images, _SHARDS + 1).astype(int)
  for i, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
    with tf.io.TFRecordWriter(str(folder / f"{i}.tfrecord")) as writer:
      for index in range(start, stop):
        data, label = work.split.read(index)
        example = tf.train.Example()
        feature = example.features.feature
        feature["image"].bytes_list.value.append(data)
        feature["label"].int64_list.value.append(label)
        writer.write(example.SerializeToString())


def tf_data_train(work: ours.InputWork, antialias: bool = False) -> ours.Stream:
  """tf.data: fused decode and crop, bilinear, everything autotuned."""
  tf = _tensorflow()
  auto = tf.data.AUTOTUNE

  def decode(record):
    data, label = _parsed(tf, record)
    return _tf_random_crop(tf, data, work.size, antialias), label

  files = tf.data.Dataset.list_files(f"{work.folder}/*.tfrecord", shuffle=True)
  records = files.interleave(
    tf.data.TFRecordDataset,
    cycle_length=_SHARDS,
    num_parallel_calls=auto,
    deterministic=False,
  )
  batches = (
    records.shuffle(work.images)
    .repeat()
    .map(decode, num_parallel_calls=auto, deterministic=False)
    .batch(work.batch, drop_remainder=True)
    .prefetch(_PREFETCH)
  )
  yield from batches.as_numpy_iterator()


def tf_data_evaluate(
  work: ours.InputWork, antialias: bool = False
) -> ours.Stream:
  """tf.data: fused decode and centre crop, bicubic, everything autotuned."""
  tf = _tensorflow()
  auto, size = tf.data.AUTOTUNE, work.size

  def decode(record):
    data, label = _parsed(tf, record)
    shape = tf.image.extract_jpeg_shape(data)[:2]
    side = tf.cast(tf.reduce_min(shape), tf.float32) * _CROP_FRACTION
    side = tf.cast(tf.round(side), tf.int32)
    window = tf.concat([(shape - side + 1) // 2, [side, side]], 0)
    image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
    image = tf.image.resize(image, [size, size], "bicubic", antialias=antialias)
    return tf.saturate_cast(tf.round(image), tf.uint8), label

  records = tf.data.TFRecordDataset(
    [f"{work.folder}/{i}.tfrecord" for i in range(_SHARDS)],
    num_parallel_reads=None if work.ordered else auto,
  )
  batches = (
    records.map(decode, num_parallel_calls=auto, deterministic=work.ordered)
    .batch(work.batch)
    .repeat()
    .prefetch(_PREFETCH)
  )
  yield from batches.as_numpy_iterator()


def _tensorflow():
  import tensorflow as tf

  # JAX's, if there are any.
  tf.config.set_visible_devices([], "GPU")
  return tf


def _parsed(tf, record):
  features = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
  }
  example = tf.io.parse_single_example(record, features)
  return example["image"], example["label"]


def _tf_random_crop(tf, data, size: int, antialias: bool):
  begin, extent, _ = tf.image.sample_distorted_bounding_box(
    tf.image.extract_jpeg_shape(data),
    tf.zeros([1, 0, 4]),
    min_object_covered=0.0,
    aspect_ratio_range=_RATIO,
    area_range=_AREA,
    max_attempts=10,
    use_image_if_no_bounding_boxes=True,
  )
  window = tf.concat([begin[:2], extent[:2]], 0)
  image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
  image = tf.image.resize(image, [size, size], antialias=antialias)
  return tf.cast(image, tf.uint8)


def tf_decoders(size: int) -> dict[str, Callable[[bytes], np.ndarray]]:
  """Returns "whole", and "crop" without antialias, of one encoded image."""
  tf = _tensorflow()
  crop = tf.function(
    lambda data: _tf_random_crop(tf, data, size, False),
    input_signature=[tf.TensorSpec([], tf.string)],
  )
  return {
    "whole": lambda data: tf.image.decode_jpeg(data, channels=3).numpy(),
    "crop": lambda data: crop(data).numpy(),
  }


class _Encoded:
  """The images as a random-access source of Grain, the last one repeated."""

  def __init__(self, work: ours.InputWork, length: int):
    self._work, self._length = work, length

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> tuple[bytes, int]:
    return self._work.split.read(min(index, self._work.images - 1))


def _grain(work: ours.InputWork, dataset) -> ours.Stream:
  import grain

  # Its default of 16 threads is no faster, more than there are cores neither.
  threads = work.threads or len(os.sched_getaffinity(0))
  options = grain.ReadOptions(
    num_threads=threads, prefetch_buffer_size=_PREFETCH * work.batch
  )
  yield from iter(dataset.to_iter_dataset(options).batch(work.batch))


def grain_train(work: ours.InputWork) -> ours.Stream:
  """Grain's threads: simplejpeg, then OpenCV's bilinear resize of the crop."""
  import cv2
  import grain
  import simplejpeg

  cv2.setNumThreads(1)
  crop = transforms.InceptionCrop(work.size, _AREA, _RATIO)

  def decode(example, rng):
    data, label = example
    image = simplejpeg.decode_jpeg(data, "RGB")
    top, left, rows, columns = crop.box(*image.shape[:2], rng)
    image = image[top : top + rows, left : left + columns]
    return cv2.resize(image, (work.size, work.size)), label

  dataset = grain.MapDataset.source(_Encoded(work, work.images)).seed(0)
  yield from _grain(work, dataset.shuffle().repeat().random_map(decode))


def grain_evaluate(work: ours.InputWork) -> ours.Stream:
  """Grain's threads: simplejpeg, then OpenCV's area resize of the centre."""
  import cv2
  import grain
  import simplejpeg

  cv2.setNumThreads(1)

  def decode(example):
    data, label = example
    image = simplejpeg.decode_jpeg(data, "RGB")
    side = round(min(image.shape[:2]) * _CROP_FRACTION)
    top, left = ((extent - side + 1) // 2 for extent in image.shape[:2])
    image = image[top : top + side, left : left + side]
    size = work.size, work.size
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), label

  # Padded: batches are made of a stream that knows no passes.
  dataset = grain.MapDataset.source(_Encoded(work, work.steps * work.batch))
  yield from _grain(work, dataset.map(decode).repeat())


def _whole_size(height: int, width: int, size: int) -> tuple[int, int]:
  """Returns (width, height) of a resized image whose centre is cropped."""
  short = math.floor(size / _CROP_FRACTION)
  scale = short / min(height, width)
  return max(short, int(width * scale)), max(short, int(height * scale))


class _JpegFiles:
  """A map-style dataset of PyTorch as torchvision's users have it."""

  def __init__(self, work: ours.InputWork, train: bool):
    self._paths = sorted(map(str, pathlib.Path(work.folder).glob("*.jpg")))
    self._size = work.size
    self._crop = transforms.InceptionCrop(work.size, _AREA, _RATIO)
    self._train = train

  @functools.cached_property
  def _rng(self) -> np.random.Generator:
    return np.random.default_rng()  # one of its own in each worker

  def __len__(self) -> int:
    return len(self._paths)

  def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
    from PIL import Image

    path = self._paths[index]
    label = int(pathlib.PurePath(path).stem.rpartition("-")[2])
    with open(path, "rb") as file:
      image = Image.open(file).convert("RGB")
    size = (self._size, self._size)
    if self._train:
      top, left, rows, columns = self._crop.box(
        image.height, image.width, self._rng
      )
      image = image.crop((left, top, left + columns, top + rows))
      return np.array(image.resize(size, Image.Resampling.BILINEAR)), label
    whole = _whole_size(image.height, image.width, self._size)
    image = image.resize(whole, Image.Resampling.BICUBIC)
    left, top = (round((side - self._size) / 2) for side in whole)
    box = (left, top, left + self._size, top + self._size)
    return np.array(image.crop(box)), label


class _Batches:
  """Indices of batches without end, for a DataLoader's `batch_sampler`."""

  def __init__(self, work: ours.InputWork, train: bool):
    self._images, self._batch = work.images, work.batch
    self._train = train

  def __iter__(self):
    rng = np.random.default_rng(0)
    left = []
    while True:
      if self._train:
        left += rng.permutation(self._images).tolist()
      else:
        left = list(range(self._images))
      while len(left) >= self._batch or (left and not self._train):
        yield left[: self._batch]
        left = left[self._batch :]


def _torch(work: ours.InputWork, train: bool) -> ours.Stream:
  """PyTorch's DataLoader, a worker for each core: JPEG files by Pillow."""
  from torch.utils import data

  loader = data.DataLoader(
    _JpegFiles(work, train),
    batch_sampler=_Batches(work, train),
    num_workers=len(os.sched_getaffinity(0)),
    multiprocessing_context="forkserver",  # threads must not be forked
  )
  for image, label in loader:
    yield image.numpy(), label.numpy()


_ANTIALIASED = {"antialias": True}
BASELINES: Mapping[str, InputBaseline] = {
  "tf.data": InputBaseline(
    ("tensorflow",),
    tf_data_train,
    tf_data_evaluate,
    "decode_and_crop_jpeg, resize without antialias, AUTOTUNE",
  ),
  "tf.data-antialias": InputBaseline(
    ("tensorflow",),
    functools.partial(tf_data_train, **_ANTIALIASED),
    functools.partial(tf_data_evaluate, **_ANTIALIASED),
    "the same with antialias, as imgbench, PyTorch and Pillow do it",
  ),
  "grain": InputBaseline(
    ("grain", "simplejpeg", "cv2"),
    grain_train,
    grain_evaluate,
    "threads, simplejpeg, OpenCV: linear in training, area in evaluation",
  ),
  "pytorch": InputBaseline(
    ("torch",),
    functools.partial(_torch, train=True),
    functools.partial(_torch, train=False),
    "DataLoader, a process per core, Pillow: bilinear, bicubic",
  ),
}


def available() -> dict[str, str | None]:
  """Returns packages and versions of each peer in BASELINES, or None."""
  found = metadata.packages_distributions()
  versions = {}
  for name, peer in BASELINES.items():
    packages = [found.get(module, [None])[0] for module in peer.modules]
    versions[name] = (
      None
      if None in packages
      else ", ".join(f"{p} {metadata.version(p)}" for p in packages)
    )
  return versions
