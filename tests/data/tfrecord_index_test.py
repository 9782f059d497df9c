"""Tests of random access to TFRecord files, sidecars and damaged files."""

import os
import pickle
import shutil
import struct

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from imgbench import cache
from imgbench import errors
from imgbench.data import source
from imgbench.data import tfrecord_index
from tests import raising
from tests.data import shared_files
from tests.data import tiny_tfds

RECORDS = [b"first", b"", b"the third one is longer" * 20, b"\0\0\0", b"last"]


@pytest.fixture
def shard(tmp_path):
  path = tmp_path / "data" / "tiny.tfrecord-00000-of-00001"
  path.parent.mkdir()
  path.write_bytes(tiny_tfds.tfrecord_bytes(RECORDS))
  yield path
  path.parent.chmod(0o755)


def test_checksums_of_published_values():
  # The check value of the CRC catalogue; RFC 3720, appendix B.4.
  strings = [b"123456789", bytes(32), b"\xff" * 32, bytes(range(32))]
  stored = [tfrecord_index.masked_crc32c(s) for s in strings]
  # The mask undone: minus a constant, rotated left by 15 bits.
  rotated = [(crc - 0xA282EAD8) % 2**32 for crc in stored]
  crc = [(r << 15 | r >> 17) % 2**32 for r in rotated]
  assert crc == [0xE3069283, 0x8A9136AA, 0x62A8AB43, 0x46DD794E]


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
  st.lists(st.integers(0, 900), min_size=1, max_size=6), st.integers(0, 2**31)
)
def test_checksums_equal_the_slow_twin(lengths, seed):
  rng = np.random.default_rng(seed)
  strings = [rng.bytes(length) for length in lengths]
  for string in strings:
    stored = int.from_bytes(tiny_tfds.masked(string), "little")
    assert tfrecord_index.masked_crc32c(string) == stored


def test_offsets_by_hand(shard):
  # 12 bytes before the data and 4 after.
  sizes = [16 + len(record) for record in RECORDS]
  expected = np.concatenate([[0], np.cumsum(sizes)])
  offsets = tfrecord_index.build_offsets(shard)
  np.testing.assert_array_equal(offsets, expected)
  assert offsets.dtype == np.int64


def test_records_one_by_one_and_in_ranges(shard):
  reader = tfrecord_index.Shard(shard)
  assert len(reader) == len(RECORDS)
  assert [reader[i] for i in (4, 0, 2, 1, 3)] == [
    RECORDS[i] for i in (4, 0, 2, 1, 3)
  ]
  for start in range(len(RECORDS) + 1):
    for stop in range(start, len(RECORDS) + 1):
      assert reader.read(start, stop) == RECORDS[start:stop]
  for index in (-1, len(RECORDS)):
    with pytest.raises(IndexError):
      reader[index]


def test_a_reader_survives_pickling_after_use(shard):
  reader = tfrecord_index.Shard(shard)
  assert reader[0] == RECORDS[0]
  assert pickle.loads(pickle.dumps(reader))[4] == RECORDS[4]


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(st.lists(st.binary(max_size=300), max_size=12))
def test_any_records_come_back(tmp_path_factory, records):
  path = tmp_path_factory.mktemp("records") / "shard"
  path.write_bytes(tiny_tfds.tfrecord_bytes(records))
  reader = tfrecord_index.Shard(path)
  assert reader.read(0, len(records)) == records


def test_empty_file_has_no_records(tmp_path):
  path = tmp_path / "empty"
  path.touch()
  assert tfrecord_index.build_offsets(path).tolist() == [0]


@pytest.mark.parametrize("cut", range(1, 25))
def test_truncated_anywhere_in_the_last_records(shard, cut):
  size = shard.stat().st_size - cut
  os.truncate(shard, size)
  offsets = np.cumsum([0, *(16 + len(record) for record in RECORDS)])
  broken = int(np.searchsorted(offsets, size, side="right")) - 1
  if offsets[broken] == size:  # whole records are gone: see tfds_test
    assert len(tfrecord_index.build_offsets(shard)) == broken + 1
    return
  where = f"{shard}, record {broken} at byte {offsets[broken]}"
  with pytest.raises(errors.InputError, check=raising.about(where)) as caught:
    tfrecord_index.build_offsets(shard)
  assert str(size) in caught.value.given


@pytest.mark.parametrize("bit", range(0, 96, 5))
def test_every_damaged_length_is_seen(shard, bit):
  at = 16 + len(RECORDS[0]) + 16 + len(RECORDS[1])  # header of the third
  data = bytearray(shard.read_bytes())
  data[at + bit // 8] ^= 1 << bit % 8
  shard.write_bytes(data)
  about = raising.about(f"{shard}, record 2 at byte {at}")
  with pytest.raises(errors.InputError, check=about):
    tfrecord_index.build_offsets(shard)


def test_not_a_tfrecord_file(tmp_path):
  path = tmp_path / "shard"
  path.write_bytes(struct.pack("<Q", 4) + b"none of this is a record")
  about = raising.about(f"{path}, record 0 at byte 0", given=4)
  with pytest.raises(errors.InputError, check=about):
    tfrecord_index.build_offsets(path)


def test_damaged_data_are_seen_when_read_in_bulk(shard):
  data = bytearray(shard.read_bytes())
  at = 16 + len(RECORDS[0]) + 16 + len(RECORDS[1])
  data[at + 12 + 100] ^= 4
  shard.write_bytes(data)
  reader = tfrecord_index.Shard(shard)
  assert reader.read(0, 2) == RECORDS[:2]
  about = raising.about(f"{shard}, record 2 at byte {at}")
  with pytest.raises(errors.InputError, check=about):
    reader.read(1, 4)


@pytest.mark.parametrize("bit", range(8))
def test_fault_01_a_flipped_bit_of_a_single_record_is_seen(shard, bit):
  data = bytearray(shard.read_bytes())
  data[12 + 5] ^= 1 << bit
  shard.write_bytes(data)
  reader = tfrecord_index.Shard(shard)
  about = raising.about(f"{shard}, record 0 at byte 0")
  with pytest.raises(source.DamagedRecord, check=about):
    reader[0]
  assert reader[1] == RECORDS[1]


def test_truncated_after_it_was_indexed(shard):
  reader = tfrecord_index.Shard(shard)
  assert len(reader) == 5
  os.truncate(shard, 60)
  about = raising.about(str(shard), given=60)
  with pytest.raises(errors.InputError, check=about):
    reader.read(0, 5)


def _sidecar(shard):
  """Returns the only sidecar in the user's cache."""
  folder = cache.user_cache_dir("tfrecord_index")
  (found,) = [path for path in folder.iterdir() if shard.name in path.name]
  return found


def test_fault_12_sidecar_is_written_once_into_the_users_cache(shard):
  before = shard.parent.stat().st_mtime_ns
  offsets = tfrecord_index.load_offsets(shard)
  written = _sidecar(shard).stat()
  np.testing.assert_array_equal(tfrecord_index.load_offsets(shard), offsets)
  assert _sidecar(shard).stat().st_mtime_ns == written.st_mtime_ns
  assert _sidecar(shard).stat().st_ino == written.st_ino
  assert list(shard.parent.iterdir()) == [shard]
  assert shard.parent.stat().st_mtime_ns == before


def test_a_sidecar_beside_the_file_is_written_where_asked(shard, user_cache):
  tfrecord_index.store_beside(shard)
  beside = shard.with_name(shard.name + ".index.npz")
  assert set(shard.parent.iterdir()) == {shard, beside}
  shutil.rmtree(user_cache)
  with np.load(beside) as arrays:
    changed = dict(arrays, offsets=arrays["offsets"] + 1)
  np.savez(beside, **changed)
  assert tfrecord_index.load_offsets(shard)[0] == 1
  assert not user_cache.exists()


def test_sidecar_is_what_is_read(shard):
  tfrecord_index.load_offsets(shard)
  with np.load(_sidecar(shard)) as arrays:
    changed = dict(arrays, offsets=arrays["offsets"] + 1)
  np.savez(_sidecar(shard), **changed)
  assert tfrecord_index.load_offsets(shard)[0] == 1


def test_fault_15_no_place_for_the_indices_is_one_warning(
  shard, user_cache, caplog
):
  user_cache.parent.touch()  # a file where the cache folder should be
  for name in ("second", "third"):
    copy = shard.with_name(name)
    copy.write_bytes(shard.read_bytes())
    assert len(tfrecord_index.load_offsets(copy)) == 6
  assert len(tfrecord_index.load_offsets(shard)) == 6
  (record,) = caplog.records
  assert record.levelname == "WARNING"
  assert str(user_cache) in record.getMessage()


def test_fault_15_a_sidecar_that_is_a_folder(shard, caplog):
  expected = tfrecord_index.load_offsets(shard)
  place = _sidecar(shard)
  place.unlink()
  place.mkdir()
  np.testing.assert_array_equal(tfrecord_index.load_offsets(shard), expected)
  assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_fault_15_a_flipped_bit_anywhere_in_a_sidecar(shard):
  expected = tfrecord_index.load_offsets(shard)
  place = _sidecar(shard)
  whole = place.read_bytes()
  for at in range(0, len(whole), 3):
    damaged = bytearray(whole)
    damaged[at] ^= 1 << at % 8
    place.write_bytes(damaged)
    np.testing.assert_array_equal(tfrecord_index.load_offsets(shard), expected)


@pytest.mark.parametrize("change", ["content", "time"])
def test_changed_file_is_indexed_again(shard, change):
  tfrecord_index.load_offsets(shard)
  if change == "content":
    shard.write_bytes(tiny_tfds.tfrecord_bytes([*RECORDS, b"more"]))
  else:
    # As many bytes, other records, another time.
    shard.write_bytes(tiny_tfds.tfrecord_bytes(RECORDS[::-1]))
    os.utime(shard, (1, 1))
  reader = tfrecord_index.Shard(shard)
  np.testing.assert_array_equal(
    reader.offsets, tfrecord_index.build_offsets(shard)
  )


@pytest.mark.parametrize("size", [0, 10, 200])
def test_damaged_sidecar_is_rebuilt(shard, size, caplog):
  expected = tfrecord_index.load_offsets(shard)
  os.truncate(_sidecar(shard), size)
  np.testing.assert_array_equal(tfrecord_index.load_offsets(shard), expected)
  (record,) = caplog.records
  assert record.levelname == "WARNING"
  assert str(_sidecar(shard)) in record.getMessage()
  with np.load(_sidecar(shard)) as arrays:
    np.testing.assert_array_equal(arrays["offsets"], expected)


def test_sidecar_with_a_flipped_bit_is_rebuilt(shard):
  expected = tfrecord_index.load_offsets(shard)
  whole = _sidecar(shard).read_bytes()
  at = whole.index(expected.tobytes()) + 9
  damaged = bytearray(whole)
  damaged[at] ^= 1
  _sidecar(shard).write_bytes(damaged)
  np.testing.assert_array_equal(tfrecord_index.load_offsets(shard), expected)


def test_real_shard():
  path = shared_files.shared_path(
    "data/tfds/cifar10/3.0.2/cifar10-test.tfrecord-00000-of-00001"
  )
  reader = tfrecord_index.Shard(path)
  assert len(reader) == 10_000
  assert reader.offsets[-1] == 9_969_662
  records = reader.read(0, 10_000)
  assert sum(map(len, records)) == 9_809_662  # dataset_info.json, numBytes
  assert reader[9_999] == records[-1]
