"""Reads the serialized examples of a split that TFDS has prepared.

Both file formats give the same records in the same order.
"""

import hashlib
import json
import pathlib

import numpy as np
import tensorflow_datasets
from tensorflow_datasets.proto import tf_example_pb2

from imgbench import errors
from imgbench.data import source
from imgbench.data import tfds_folder
from imgbench.data import tfrecord_index

_FINGERPRINT_EXAMPLES = 16
_LABELS = ("label", "original_label")
_IDS = ("id", "file_name")


class ArrayRecordShard:
  """One array_record file; the library verifies the hash of every record."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    self._opened = None

  def _reader(self):
    if self._opened is None:
      from array_record.python import array_record_module

      self._opened = array_record_module.ArrayRecordReader(
        str(self.path),
        options="readahead_buffer_size:0",
        file_reader_buffer_size=32768,
      )
    return self._opened

  def _read(self, indices: list[int]) -> list[bytes]:
    try:
      return self._reader().read(indices)
    except (RuntimeError, IndexError, ValueError) as error:
      self._opened = None  # It may refuse whole records, too.
      raise source.DamagedRecord(
        self.path,
        "a whole file",
        f"{self.path.stat().st_size} bytes ({tfds_folder.one_line(error)})",
        "copy the file again",
      ) from error

  def __len__(self) -> int:
    return self._reader().num_records()  # 0 if damaged, no error

  def __getitem__(self, index: int) -> bytes:
    return self._read([index])[0]

  def read(self, start: int, stop: int) -> list[bytes]:
    """Returns records [start, stop)."""
    return self._read(list(range(start, stop)))

  def __getstate__(self):
    return {**self.__dict__, "_opened": None}


class Records:
  """Records of a split, by their number in it; reading is thread-safe.

  The data set needs the features `image` (uint8, 1 or 3 channels) and a class
  label: `label` or `original_label`. An example is identified by its feature
  `id`, else `file_name`, else `<split>_<its number in the whole split>`.

  Attributes:
    folder: of the data set.
    features: name -> feature, as TFDS describes them.
    label_field: the feature that holds the label.
    id_field: the feature that holds the identifier, or None.
    pieces: stretches of shards in the split, in order.
  """

  def __init__(self, name: str, split: str, data_dir: str, version: str = ""):
    """Opens the split; for arguments and errors see `tfds.TfdsSource`."""
    self.folder = tfds_folder.open_folder(name, data_dir, version)
    self.features = self.folder.builder.info.features
    self.label_field = _find_label(self.folder.path, dict(self.features))
    self.id_field = next((f for f in _IDS if f in self.features), None)
    self.pieces = self.folder.pieces(split)
    self._ends = np.cumsum([len(piece) for piece in self.pieces])
    shard_type = {
      "array_record": ArrayRecordShard,
      "tfrecord": tfrecord_index.Shard,
    }[self.folder.file_format]
    self.shards = {p.path: shard_type(p.path) for p in self.pieces}
    for piece in self.pieces:
      found = len(self.shards[piece.path])
      if found != piece.shard_length:
        raise errors.InputError(
          piece.path,
          f"{piece.shard_length} examples (dataset_info.json)",
          f"{found} in {piece.path.stat().st_size} bytes",
          "copy the file again",
        )

  def __len__(self) -> int:
    return int(self._ends[-1])

  def locate(self, index: int) -> tuple[tfds_folder.Piece, int]:
    """Returns the piece of a record and its place in the shard."""
    number = int(np.searchsorted(self._ends, index, side="right"))
    piece = self.pieces[number]
    return piece, piece.stop - int(self._ends[number] - index)

  def __getitem__(self, index: int) -> bytes:
    piece, place = self.locate(index)
    return self.shards[piece.path][place]

  def ranges(self) -> list[tuple[str, int, int]]:
    """Returns the (whole split, start, stop) of all records, shards joined."""
    ranges = []  # Joined: sharding differs between formats.
    for piece in self.pieces:
      start, stop = piece.first + piece.start, piece.first + piece.stop
      if ranges and ranges[-1][0] == piece.split and ranges[-1][2] == start:
        ranges[-1][2] = stop
      else:
        ranges.append([piece.split, start, stop])
    return [tuple(r) for r in ranges]

  def example(self, index: int) -> tuple[bytes, int, str]:
    """Returns encoded image, label and identifier of an example."""
    return self.parse(*self.locate(index), self[index])

  def parse(
    self, piece: tfds_folder.Piece, place: int, record: bytes
  ) -> tuple[bytes, int, str]:
    """Returns encoded image, label and identifier of the record at `place`."""
    try:
      fields = parse_fields(record)
      (image,) = fields["image"].bytes_list.value
      (label,) = fields[self.label_field].int64_list.value
      if self.id_field is None:
        return image, label, f"{piece.split}_{piece.first + place:05d}"
      (name,) = fields[self.id_field].bytes_list.value
      return image, label, name.decode()
    except Exception as error:  # protobuf has its own errors
      raise self.bad_example(piece, place, error) from error

  def fingerprint(self) -> str:
    """Returns a short text that is the same for every copy of the examples.

    It depends on name, version, ranges, sizes and a sample of the examples,
    not on file format or sharding.
    """
    info = self.folder.builder.info
    sizes = {s.name: int(s.num_bytes) for s in info.splits.values()}
    ranges = self.ranges()
    identity = [info.full_name, ranges]
    identity.append([sizes[name] for name, _, _ in ranges])
    count = len(self)
    sampled = np.linspace(0, count - 1, min(count, _FINGERPRINT_EXAMPLES))
    for index in sampled.astype(int).tolist():
      try:
        image, label, name = self.example(index)
      except source.DamagedRecord:  # Reading the data decides what follows.
        identity.append("damaged")
        continue
      identity.append([hashlib.sha256(image).hexdigest(), label, name])
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]

  def bad_example(self, piece, place: int, error) -> errors.InputError:
    """Returns the error of a record that is not as features.json says."""
    return errors.InputError(
      f"{piece.path}, example {place}",
      "what features.json says",
      tfds_folder.one_line(error),
      f"to prepare it again: {self.folder.command}",
    )


def _find_label(path: pathlib.Path, features) -> str:
  """Returns the label field of an image classification set."""
  kinds = tensorflow_datasets.features
  named = sorted(f"{k} ({type(v).__name__})" for k, v in features.items())
  found = ", ".join(named)
  image = features.get("image")
  if not isinstance(image, kinds.Image):
    wanted = "an Image feature 'image'"
  elif image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3):
    wanted = "uint8 images of 1 or 3 channels"
    found = f"{np.dtype(image.np_dtype).name} {list(image.shape)}"
  else:
    wanted = f"a ClassLabel feature {' or '.join(map(repr, _LABELS))}"
    for field in _LABELS:
      label = features.get(field)
      if isinstance(label, kinds.ClassLabel) and label.num_classes:
        return field
  raise errors.InputError(
    path / "features.json", wanted, found, "choose an image classification set"
  )


def parse_fields(record: bytes):
  """Returns the fields of a serialized example: name -> tf.train.Feature."""
  return tf_example_pb2.Example.FromString(record).features.feature
