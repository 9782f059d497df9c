"""Random access to TFRecord files through an index of offsets.

A TFRecord file is a chain of records: length (uint64), its checksum (uint32),
data, its checksum (uint32), all little-endian. Walking it once gives the
offsets, which are stored in `<user cache>/tfrecord_index`. `store_beside`, for
`imgbench prepare --index`, stores them next to the file for all machines.
"""

import functools
import hashlib
import json
import mmap
import os
import pathlib
import struct
import tempfile

from absl import logging
import google_crc32c
import numpy as np

from imgbench import cache
from imgbench import errors
from imgbench import npz
from imgbench.data import source

_VERSION = 1
_HEADER = 12  # length and its checksum
_FOOTER = 4  # checksum of the data
_MASK_DELTA = 0xA282EAD8
_COPY = "copy the file again"


class Shard:
  """One TFRecord file.

  Attributes:
    path: the file.
    offsets: int64 [N + 1], the start of each record, and the end of the file.
  """

  def __init__(self, path: str | os.PathLike):
    self.path = pathlib.Path(path)
    self._fd = None

  @functools.cached_property
  def offsets(self) -> np.ndarray:
    return load_offsets(self.path)

  def __len__(self) -> int:
    return len(self.offsets) - 1

  def __getitem__(self, index: int) -> bytes:
    """Returns the data of one record. Raises DamagedRecord, see `read`."""
    if not 0 <= index < len(self):
      raise IndexError(f"{self.path}: no record {index} of {len(self)}")
    begin, end = self.offsets[index : index + 2].tolist()
    # Two reads cost less than a copy without length and checksum.
    record = self._read(begin + _HEADER, end - _FOOTER)
    self._check(index, record, self._read(end - _FOOTER, end))
    return record

  def read(self, start: int, stop: int) -> list[bytes]:
    """Returns the data of records [start, stop), checksums verified.

    Raises:
      DamagedRecord: one does not match its checksum.
    """
    offsets = self.offsets[start : stop + 1].tolist()
    base = offsets[0]
    span = self._read(base, offsets[-1])
    records = []
    for begin, end in zip(offsets[:-1], offsets[1:], strict=True):
      record = span[begin - base + _HEADER : end - base - _FOOTER]
      stored = span[end - base - _FOOTER : end - base]
      self._check(start + len(records), record, stored)
      records.append(record)
    return records

  def _check(self, index: int, record: bytes, stored: bytes) -> None:
    """Raises DamagedRecord unless a record matches its stored checksum."""
    if masked_crc32c(record) != int.from_bytes(stored, "little"):
      raise source.DamagedRecord(
        f"{self.path}, record {index} at byte {self.offsets[index]}",
        "data that match their checksum",
        "damaged data",
        _COPY,
      )

  def _read(self, begin: int, end: int) -> bytes:
    if self._fd is None:
      self._fd = os.open(self.path, os.O_RDONLY)
    parts, position = [], begin
    while position < end:  # a read may return less, e.g. at most 2 GiB
      part = os.pread(self._fd, end - position, position)
      if not part:
        raise errors.InputError(
          self.path, f"at least {end} bytes", position, _COPY
        )
      parts.append(part)
      position += len(part)
    return b"".join(parts)

  def __getstate__(self):
    return {**self.__dict__, "_fd": None}

  def __del__(self):
    # At interpreter exit modules may be gone before their objects.
    if getattr(self, "_fd", None) is not None and os is not None:
      os.close(self._fd)


def build_offsets(path: str | os.PathLike) -> np.ndarray:
  """Returns the start of each record, and the file's end, by walking the file.

  The checksum of every length is verified.

  Args:
    path: an uncompressed TFRecord file.

  Returns:
    int64 [N + 1].

  Raises:
    InputError: the file is truncated or damaged.
  """
  size = os.path.getsize(path)
  if not size:
    return np.zeros(1, np.int64)
  length_at = struct.Struct("<Q").unpack_from
  offsets, position = [], 0
  with (
    open(path, "rb") as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
  ):
    # After a damaged length offsets are wrong; the checksums below find it.
    while position + _HEADER <= size:
      offsets.append(position)
      position += _HEADER + length_at(data, position)[0] + _FOOTER
    headers = [data[begin : begin + _HEADER] for begin in offsets]
  _check_lengths(path, offsets, headers)
  if position != size:
    last = offsets[-1] if position > size else position
    raise errors.InputError(
      f"{path}, record {len(offsets) - (position > size)} at byte {last}",
      "a whole record",
      f"the end of the file at byte {size}",
      _COPY,
    )
  return np.array([*offsets, size], np.int64)


def _check_lengths(path, offsets, headers) -> None:
  for index, header in enumerate(headers):
    length, stored = header[:8], int.from_bytes(header[8:], "little")
    if masked_crc32c(length) != stored:
      raise errors.InputError(
        f"{path}, record {index} at byte {offsets[index]}",
        "a TFRecord length that matches its checksum",
        int.from_bytes(length, "little"),
        _COPY,
      )


def masked_crc32c(data: bytes) -> int:
  """Returns the checksum that a TFRecord file stores of these bytes.

  Source: TFRecord format, the CRC-32C rotated right by 15 bits plus a constant.
  """
  crc = google_crc32c.value(data)
  return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def load_offsets(path: str | os.PathLike) -> np.ndarray:
  """Returns `build_offsets`, from a sidecar if there is a valid one.

  Otherwise it writes one into the user's cache folder; if that fails, it logs a
  warning.
  """
  path = pathlib.Path(path)
  identity = _identify(path)
  cached = _find_cached(path)
  for place in filter(None, (_name_beside(path), cached)):
    offsets = _read_sidecar(place, identity)
    if offsets is not None:
      return offsets
  offsets = build_offsets(path)
  if cached is not None:
    with cache.optional("indices of TFRecords", cached.parent):
      _write_sidecar(cached, identity, offsets)
  return offsets


def store_beside(path: pathlib.Path) -> None:
  """Writes the sidecar next to a file, for users with other caches."""
  _write_sidecar(_name_beside(path), _identify(path), load_offsets(path))


def _name_beside(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(path.name + ".index.npz")


def _find_cached(path: pathlib.Path) -> pathlib.Path | None:
  """Returns the sidecar in the user's cache; None if there is no cache."""
  with cache.optional("indices of TFRecords"):
    folder = cache.user_cache_dir("tfrecord_index")
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return folder / f"{path.name}.{digest}.npz"
  return None


def _identify(path: pathlib.Path) -> str:
  stat = path.stat()
  return json.dumps(
    {"version": _VERSION, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
  )


def _read_sidecar(place: pathlib.Path, identity: str) -> np.ndarray | None:
  if not os.path.exists(place):  # Nor in a folder that cannot be searched.
    return None
  expected = {
    "identity": npz.Expected("U", ()),
    "offsets": npz.Expected("iu", ("N",)),
  }
  most = json.loads(identity)["size"] // (_HEADER + _FOOTER) + 1
  try:
    found = npz.read(place, expected, {"N": most})
    if str(found["identity"]) == identity:
      return found["offsets"]  # the zip's own checksum was verified
  except (errors.InputError, KeyError) as error:
    logging.warning("%s is damaged, rebuilding it: %s", place, error)
  return None


def _write_sidecar(place, identity: str, offsets: np.ndarray) -> None:
  place.parent.mkdir(parents=True, exist_ok=True)
  fd, temporary = tempfile.mkstemp(prefix=".", suffix=".npz", dir=place.parent)
  try:
    with os.fdopen(fd, "wb") as file:
      np.savez(file, identity=np.array(identity), offsets=offsets)
      os.fchmod(fd, 0o644)  # others may read the data, so also the index
    os.replace(temporary, place)
  except BaseException:
    os.unlink(temporary)
    raise
