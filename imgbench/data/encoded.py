"""TFDS sets with images of many sizes, kept encoded until they are used.

These are ImageNet and its relabelled and shifted versions.
"""

from collections.abc import Iterator
from concurrent import futures
import contextlib
import hashlib
import os

import numpy as np

from imgbench import cache
from imgbench import cpus
from imgbench import errors
from imgbench.data import records
from imgbench.data import source
from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.labels import review_table

_REVIEWED = tuple(annotations.FIELD_CODES)
_REAL = "real_label"
_CACHE_VERSION = 1
_CHUNK = 256  # records parsed at once
# Common names of splits that TFDS does not know.
_ALIASES = {"imagenet2012": {"minival": "train[99%:]"}}


class TfdsEncodedSource:
  """A split of a TFDS classification set, see `source.EncodedSource`.

  `records.Records` says which features it needs. Label sets are read from the
  fields of imagenet2012_multilabel and imagenet2012_real.

  Attributes:
    info: see `source.Info`. Names and subsets of ImageNet's classes come from
      `labels.classes`.
  """

  def __init__(
    self,
    name: str,
    split: str,
    data_dir: str = "",
    *,
    version: str = "",
    annotations: str = "",
  ):
    """Opens the split; reads no more than a few examples.

    Args:
      name: TFDS name, e.g. "imagenet2012", or "<name>/<config>".
      split: in TFDS's language, e.g. "train[:99%]"; "minival" of imagenet2012
        is the last hundredth of train.
      data_dir: folder with prepared data sets.
      version: e.g. "5.1.0"; the newest one if empty.
      annotations: file with reviewed labels, see `labels.review_table`.

    Raises:
      InputError: no such data, or not an image classification set.
    """
    wanted = _ALIASES.get(name, {}).get(split, split)
    self._records = records.Records(name, wanted, data_dir, version)
    features = self._records.features
    label_set = None
    if all(field in features for field in _REVIEWED):
      label_set = source.REVIEWED
    elif _REAL in features:
      label_set = source.REAL
    class_names = tuple(features[self._records.label_field].names)
    imagenet = class_names == classes.imagenet_classes().wnids
    self._label_set, self._annotations = label_set, annotations
    if annotations:
      label_set = source.REVIEWED
      errors.check(imagenet, "annotations", "classes of ImageNet", "others")
    self.info = source.Info(
      # A metric is named <name>:<split>/<subset>/<metric>.
      name=name.replace("/", "-"),
      split=split,
      num_examples=len(self._records),
      image_shape=(None, None, 3),
      class_names=classes.short_names() if imagenet else class_names,
      fingerprint=self._records.fingerprint(),
      subsets=classes.subsets() if imagenet else {},
      label_set=label_set,
      synthetic=self._records.folder.synthetic,
    )

  def __len__(self) -> int:
    return self.info.num_examples

  def read(self, index: int) -> tuple[bytes, int]:
    """See `source.EncodedSource`."""
    image, label, _ = self._records.example(index)
    if not 0 <= label < self.info.num_classes:
      raise errors.InputError(
        self.where(index),
        f"a label in [0, {self.info.num_classes})",
        label,
        f"to prepare it again: {self._records.folder.command}",
      )
    return image, label

  def where(self, index: int) -> str:
    """See `source.EncodedSource`."""
    piece, place = self._records.locate(index)
    found = f"example {place} of {piece.path}"
    with contextlib.suppress(source.DamagedRecord):
      found = f"{self._records.example(index)[2]}; {found}"
    return f"{self.info.key}: example {index} ({found})"

  def shared_with(self, other: source.EncodedSource) -> float:
    """See `source.EncodedSource`."""
    mine, theirs = self._records, getattr(other, "_records", None)
    if theirs is None or theirs.folder.path != mine.folder.path:
      return 0.0
    shared = sum(
      max(0, min(stop, other_stop) - max(start, other_start))
      for split, start, stop in mine.ranges()
      for other_split, other_start, other_stop in theirs.ranges()
      if split == other_split
    )
    return shared / len(self)

  def examples(
    self,
    progress: source.Progress | None = None,
    bad: source.BadExamples | None = None,
  ):
    """See `source.EncodedSource`.

    Reads every record once. If all are whole, the result is stored in the
    user's cache folder.
    """
    folder = self._cache_folder()
    arrays = cache.read_arrays(folder) if folder else None
    if arrays is None:
      arrays = self._read_all(progress, bad)
      if folder and len(arrays["label"]) == len(self):
        with cache.optional("annotations", folder.parent):
          cache.write_arrays(folder, arrays)
    if progress:
      progress(len(self), len(self))
    return source.check_examples(self._with_codes(arrays), self.info)

  def _cache_folder(self):
    # Sizes and times of the shards replace hashes: shards may have 150 GB.
    digest = hashlib.sha256(
      f"{_CACHE_VERSION} {self.info.fingerprint}".encode()
    )
    for path in self._records.shards:
      stat = path.stat()
      text = f"{path} {stat.st_size} {stat.st_mtime_ns}"
      digest.update(os.fsencode(text))
    name = f"{self.info.name}-{digest.hexdigest()[:24]}"
    with cache.optional("annotations"):
      return cache.user_cache_dir("annotations", name)
    return None

  def _read_all(
    self, progress, bad: source.BadExamples | None
  ) -> dict[str, np.ndarray]:
    """Returns labels, ids and label sets as (row, class, code) triples.

    Without some examples there is an array more, their `place`.
    """
    chunks = [
      range(start, min(start + _CHUNK, len(self)))
      for start in range(0, len(self), _CHUNK)
    ]
    place, label, image_id, left_out, triples = [], [], [], [], []
    with futures.ThreadPoolExecutor(min(cpus.count_cpus(), 8)) as pool:
      read = lambda chunk: list(self._read_labels(chunk, bad))
      for chunk, rows in zip(chunks, pool.map(read, chunks), strict=True):
        for index, name, image_label, is_left_out, codes in rows:
          triples += [(len(place), *code) for code in codes]
          place.append(index)
          label.append(image_label)
          image_id.append(name)
          left_out.append(is_left_out)
        if progress:
          progress(chunk.stop, len(self))
    some = {"place": np.array(place)} if len(place) < len(self) else {}
    return some | {
      "label": np.array(label, np.int64).clip(-1, 2**31 - 1).astype(np.int32),
      "image_id": np.array(image_id),
      "left_out": np.array(left_out, bool),
      "triples": np.array(triples, np.int32).reshape(-1, 3),
    }

  def _read_labels(
    self, indices, bad: source.BadExamples | None
  ) -> Iterator[tuple]:
    """Yields (index, identifier, label, left out, [(class, code)])."""
    for index in indices:
      try:
        record = self._records[index]
      except source.DamagedRecord as error:
        if bad is None:
          raise
        bad.add(index, self.where(index), error)
        continue
      _, label, name = self._records.parse(*self._records.locate(index), record)
      fields = records.parse_fields(record)
      values = lambda field, fields=fields: list(fields[field].int64_list.value)
      if self._label_set == source.REVIEWED:
        codes = [
          (c, code)
          for field, code in annotations.FIELD_CODES.items()
          for c in values(field)
        ]
        yield index, name, label, bool(values("is_problematic")[0]), codes
      elif self._label_set == source.REAL:
        accepted = set(values(_REAL))
        codes = [(c, annotations.CORRECT) for c in accepted]
        yield index, name, label, not accepted, codes
      else:
        yield index, name, label, False, []

  def _with_codes(self, arrays) -> source.Examples:
    label, image_id = arrays["label"], arrays["image_id"]
    place = arrays.get("place")
    if self.info.label_set is None:
      return source.Examples(None, label, image_id, place=place)
    if self._annotations:
      codes, left_out = review_table.read_codes(self._annotations, image_id)
    else:
      codes = self._build_codes(arrays["triples"], image_id)
      left_out = arrays["left_out"]
    return source.Examples(
      None,
      label,
      image_id,
      place=place,
      label_codes=codes,
      left_out=left_out,
      in_imagenet_m=self._find_imagenet_m(image_id),
    )

  def _build_codes(self, triples: np.ndarray, image_id) -> np.ndarray:
    num_classes = self.info.num_classes
    row, label, code = triples.T
    bad = np.flatnonzero((label < 0) | (label >= num_classes))
    if bad.size:
      raise errors.InputError(
        f"{self.info.key}, label set of {image_id[row[bad[0]]]}",
        f"labels in [0, {num_classes})",
        label[bad[0]],
      )
    # In ReaL a class that is not in the set is wrong; elsewhere unreviewed.
    unlisted = (
      annotations.WRONG
      if self._label_set == source.REAL
      else annotations.UNREVIEWED
    )
    codes = np.full((len(image_id), num_classes), unlisted, np.int8)
    # A label in several lists counts as the best of them.
    np.maximum.at(codes, (row, label), code.astype(np.int8))
    return codes

  def _find_imagenet_m(self, image_id: np.ndarray) -> np.ndarray | None:
    """Returns bool [N], images in the split imagenet_m, or None without it."""
    folder = self._records.folder
    splits = folder.builder.info.splits
    if "imagenet_m" not in splits or self._records.id_field is None:
      return None
    # The data_dir that the folder was opened from.
    root = folder.path.parents[len(folder.name.split("/"))]
    members = records.Records(
      folder.name, "imagenet_m", str(root), folder.path.name
    )
    names = [members.example(i)[2] for i in range(len(members))]
    return np.isin(image_id, names)
