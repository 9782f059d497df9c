"""Baselines: input pipelines of other libraries that make the same batches.

Each baseline gets the same examples and yields endless batches of uint8
[B, S, S, 3]: Inception crops in random order for training, centre crops for
evaluation. It is written for speed, as an experienced user of the library
would. Flips and normalisation are part of the compiled step and left out
everywhere. Baselines only read JPEG files.

None of the libraries is a dependency of imgbench.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
from importlib import metadata
import importlib.util
import math
import pathlib

import numpy as np

from imgbench import cpus
from imgbench.data import transforms
from imgbench.experiments.benchmarks.input import ours

_SHARDS = 8
# Batches prefetched, as by our pipeline and a worker of PyTorch. tf.data would
# choose more, and consume them while it is timed.
_PREFETCH = 2
_AREA, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
# Side of the centre crop / short side of the image, as in CentreCrop.
_CROP_FRACTION = 0.875


@dataclasses.dataclass(frozen=True)
class InputBaseline:
  """An input pipeline of another library.

  Attributes:
    modules: required ones.
    train, evaluate: work -> endless iterator of (image uint8 [B, S, S, 3],
      integer label [B]); the last batch of an evaluation pass is short or
      padded.
    text: description.
  """

  modules: tuple[str, ...]
  train: Callable[[ours.Task], ours.Stream]
  evaluate: Callable[[ours.Task], ours.Stream]
  text: str


def copy(work: ours.Task) -> None:
  """Writes the images to `work.folder` as JPEG files and as TFRecords.

  TFRecords of tf.train.Examples with `image` and `label` are only written if
  TensorFlow is installed.
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


def stream_tf_data_training(
  work: ours.Task, antialias: bool = False
) -> ours.Stream:
  """Yields tf.data's batches: fused decode and crop, bilinear, autotuned."""
  tf = _import_tensorflow()
  auto = tf.data.AUTOTUNE

  def decode(record):
    data, label = _parse(tf, record)
    return _crop_with_tf(tf, data, work.size, antialias), label

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


def stream_tf_data_evaluation(
  work: ours.Task, antialias: bool = False
) -> ours.Stream:
  """Yields tf.data's batches: fused decode and centre crop, bicubic."""
  tf = _import_tensorflow()
  auto, size = tf.data.AUTOTUNE, work.size

  def decode(record):
    data, label = _parse(tf, record)
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


def _import_tensorflow():
  import tensorflow as tf

  # They are for JAX.
  tf.config.set_visible_devices([], "GPU")
  return tf


def _parse(tf, record):
  features = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
  }
  example = tf.io.parse_single_example(record, features)
  return example["image"], example["label"]


def _crop_with_tf(tf, data, size: int, antialias: bool):
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


def build_tf_decoders(size: int) -> dict[str, Callable[[bytes], np.ndarray]]:
  """Returns decoders of one image: "whole", and "crop" without antialias."""
  tf = _import_tensorflow()
  crop = tf.function(
    lambda data: _crop_with_tf(tf, data, size, False),
    input_signature=[tf.TensorSpec([], tf.string)],
  )
  return {
    "whole": lambda data: tf.image.decode_jpeg(data, channels=3).numpy(),
    "crop": lambda data: crop(data).numpy(),
  }


class _Encoded:
  """The images as a random-access source of Grain, the last one repeated."""

  def __init__(self, work: ours.Task, length: int):
    self._work, self._length = work, length

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> tuple[bytes, int]:
    return self._work.split.read(min(index, self._work.images - 1))


def _stream_grain(work: ours.Task, dataset) -> ours.Stream:
  import grain

  # Its default of 16 threads, or more threads than cores, are no faster.
  threads = work.threads or cpus.count_cpus()
  options = grain.ReadOptions(
    num_threads=threads, prefetch_buffer_size=_PREFETCH * work.batch
  )
  yield from iter(dataset.to_iter_dataset(options).batch(work.batch))


def stream_grain_training(work: ours.Task) -> ours.Stream:
  """Yields Grain's batches: simplejpeg, then OpenCV's bilinear resize."""
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
  yield from _stream_grain(work, dataset.shuffle().repeat().random_map(decode))


def stream_grain_evaluation(work: ours.Task) -> ours.Stream:
  """Yields Grain's batches: simplejpeg, then OpenCV's area resize."""
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

  # Padded, because batches continue across passes.
  dataset = grain.MapDataset.source(_Encoded(work, work.steps * work.batch))
  yield from _stream_grain(work, dataset.map(decode).repeat())


def _compute_whole_size(height: int, width: int, size: int) -> tuple[int, int]:
  """Returns (width, height) of a resized image whose centre is cropped."""
  short = math.floor(size / _CROP_FRACTION)
  scale = short / min(height, width)
  return max(short, int(width * scale)), max(short, int(height * scale))


class _JpegFiles:
  """A map-style dataset of PyTorch, as is usual with torchvision."""

  def __init__(self, work: ours.Task, train: bool):
    self._paths = sorted(map(str, pathlib.Path(work.folder).glob("*.jpg")))
    self._size = work.size
    self._crop = transforms.InceptionCrop(work.size, _AREA, _RATIO)
    self._train = train

  @functools.cached_property
  def _rng(self) -> np.random.Generator:
    return np.random.default_rng()  # Different in each worker.

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
    whole = _compute_whole_size(image.height, image.width, self._size)
    image = image.resize(whole, Image.Resampling.BICUBIC)
    left, top = (round((side - self._size) / 2) for side in whole)
    box = (left, top, left + self._size, top + self._size)
    return np.array(image.crop(box)), label


class _Batches:
  """Endless indices of batches, for a DataLoader's `batch_sampler`."""

  def __init__(self, work: ours.Task, train: bool):
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


def _stream_torch(work: ours.Task, train: bool) -> ours.Stream:
  """Yields PyTorch's batches: a worker per core, JPEG files by Pillow."""
  from torch.utils import data

  loader = data.DataLoader(
    _JpegFiles(work, train),
    batch_sampler=_Batches(work, train),
    num_workers=cpus.count_cpus(),
    multiprocessing_context="forkserver",  # Threads must not be forked.
  )
  for image, label in loader:
    yield image.numpy(), label.numpy()


_ANTIALIASED = {"antialias": True}
BASELINES: Mapping[str, InputBaseline] = {
  "tf.data": InputBaseline(
    ("tensorflow",),
    stream_tf_data_training,
    stream_tf_data_evaluation,
    "decode_and_crop_jpeg, resize without antialias, AUTOTUNE",
  ),
  "tf.data-antialias": InputBaseline(
    ("tensorflow",),
    functools.partial(stream_tf_data_training, **_ANTIALIASED),
    functools.partial(stream_tf_data_evaluation, **_ANTIALIASED),
    "the same with antialias, as imgbench, PyTorch and Pillow do it",
  ),
  "grain": InputBaseline(
    ("grain", "simplejpeg", "cv2"),
    stream_grain_training,
    stream_grain_evaluation,
    "threads, simplejpeg, OpenCV: linear in training, area in evaluation",
  ),
  "pytorch": InputBaseline(
    ("torch",),
    functools.partial(_stream_torch, train=True),
    functools.partial(_stream_torch, train=False),
    "DataLoader, a process per core, Pillow: bilinear, bicubic",
  ),
}


def find_versions() -> dict[str, str | None]:
  """Returns packages and versions of each baseline, or None."""
  found = metadata.packages_distributions()
  versions = {}
  for name, baseline in BASELINES.items():
    packages = [found.get(module, [None])[0] for module in baseline.modules]
    versions[name] = (
      None
      if None in packages
      else ", ".join(f"{p} {metadata.version(p)}" for p in packages)
    )
  return versions
