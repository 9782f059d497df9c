"""The serialized examples of a split that TFDS has prepared.

Both file formats give the same records in the same order.
"""

from collections.abc import Callable
import hashlib
import json
import pathlib

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from imgbench import errors
from imgbench.data import tfds_folder
from imgbench.data import tfrecord_index

_FINGERPRINT_EXAMPLES = 16

Describe = Callable[[tfds_folder.Piece, int, bytes], tuple[bytes, int, str]]


class ArrayRecordShard:
  """One array_record file; the library verifies a hash of every record."""

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
      raise errors.InputError(
        f"{self.path}: truncated or damaged ({self.path.stat().st_size}"
        f" bytes): {tfds_folder.one_line(error)}. Copy the file anew"
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

  Attributes:
    folder: of the data set.
    pieces: stretches of shards that the split is made of, in order.
  """

  def __init__(self, name: str, split: str, data_dir: str, version: str = ""):
    """Opens the split; for arguments and errors see `tfds.TfdsSource`."""
    self.folder = tfds_folder.open_folder(name, data_dir, version)
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
          f"{piece.path}: truncated, damaged or foreign: expected"
          f" {piece.shard_length} examples (dataset_info.json), found {found}"
          f" in {piece.path.stat().st_size} bytes. Copy the file anew"
        )

  def __len__(self) -> int:
    return int(self._ends[-1])

  def locate(self, index: int) -> tuple[tfds_folder.Piece, int]:
    """Returns the piece and the place in its shard of a record."""
    number = int(np.searchsorted(self._ends, index, side="right"))
    piece = self.pieces[number]
    return piece, piece.stop - int(self._ends[number] - index)

  def __getitem__(self, index: int) -> bytes:
    piece, place = self.locate(index)
    return self.shards[piece.path][place]

  def ranges(self) -> list[tuple[str, int, int]]:
    """Returns (whole split, start, stop) of what there is, shards joined."""
    ranges = []  # Joined: sharding differs between formats.
    for piece in self.pieces:
      start, stop = piece.first + piece.start, piece.first + piece.stop
      if ranges and ranges[-1][0] == piece.split and ranges[-1][2] == start:
        ranges[-1][2] = stop
      else:
        ranges.append([piece.split, start, stop])
    return [tuple(r) for r in ranges]

  def fingerprint(self, describe: Describe) -> str:
    """Returns a short text that every copy of the same examples has.

    It is made of name, version, ranges, sizes and a sample of the examples,
    so that file formats and sharding make no difference.

    Args:
      describe: (piece, place, record) -> encoded image, label, identifier.
    """
    info = self.folder.builder.info
    sizes = {s.name: int(s.num_bytes) for s in info.splits.values()}
    ranges = self.ranges()
    identity = [info.full_name, ranges]
    identity.append([sizes[name] for name, _, _ in ranges])
    count = len(self)
    sampled = np.linspace(0, count - 1, min(count, _FINGERPRINT_EXAMPLES))
    for index in sampled.astype(int).tolist():
      image, label, name = describe(*self.locate(index), self[index])
      identity.append([hashlib.sha256(image).hexdigest(), label, name])
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]

  def bad_example(self, piece, place: int, error) -> errors.InputError:
    """Returns the error of a record that is not as features.json says."""
    return errors.InputError(
      f"{piece.path}: example {place} is not what features.json says:"
      f" {tfds_folder.one_line(error)}. To prepare it anew:"
      f" {self.folder.command}"
    )


def parse(record: bytes):
  """Returns the fields of a serialized example: name -> tf.train.Feature."""
  return tf_example_pb2.Example.FromString(record).features.feature
