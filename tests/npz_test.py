"""Tests of reading .npz files, above all of files that unpack to far more."""

import io
import math
import pathlib
import resource
import zipfile

import numpy as np
import pytest

from imgbench import errors
from imgbench import npz
from imgbench import operating_points
from imgbench.data import tfrecord_index
from imgbench.report import inputs
from tests import raising
from tests import written
from tests.data import tiny_tfds
from tests.papers import clones
from tests.papers import own_samples

MIB = 1 << 20
PAIR = {"a": npz.Expected("iu", ("N", 2)), "b": npz.Expected("U", ("N",))}
MOST = {"N": 10}


def header(shape, kind: str) -> bytes:
  file = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    file, {"descr": kind, "fortran_order": False, "shape": shape}
  )
  return file.getvalue()


def write_bomb(path, name: str, shape, kind: str, num_bytes: int) -> None:
  """Replaces an array of a file by so many zeros under a header."""
  members = {}
  if path.exists():
    with zipfile.ZipFile(path) as old:
      others = [n for n in old.namelist() if n != f"{name}.npy"]
      members = {other: old.read(other) for other in others}
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
    for other, data in members.items():
      new.writestr(other, data)
    with new.open(f"{name}.npy", "w", force_zip64=True) as member:
      member.write(header(shape, kind))
      for start in range(0, num_bytes, MIB):
        member.write(bytes(min(MIB, num_bytes - start)))


def peak_bytes() -> int:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_arrays_are_read_as_written(tmp_path):
  path = tmp_path / "x.npz"
  arrays = {"a": np.arange(6).reshape(3, 2), "b": np.array(["x", "yy", "ü"])}
  for save in (np.savez, np.savez_compressed):
    save(path, other=np.zeros(99), **arrays)
    found = npz.read(path, PAIR, MOST)
    assert list(found) == ["a", "b"]
    for name, array in arrays.items():
      np.testing.assert_array_equal(found[name], array)
      assert found[name].dtype == array.dtype
  fortran = np.asfortranarray(arrays["a"]).astype(">i8")
  np.savez(path, a=fortran)
  found = npz.read(path, PAIR, MOST)
  assert list(found) == ["a"] and found["a"].tolist() == fortran.tolist()


@pytest.mark.parametrize(
  ("name", "array", "expected", "given"),
  [
    ("a", np.zeros((3, 2)), "integer [N, 2]", "float64 [3, 2]"),
    ("a", np.zeros((3, 2), object), "integer [N, 2]", "object [3, 2]"),
    ("a", np.zeros((3, 2), "M8[s]"), "integer [N, 2]", "datetime64[s] [3, 2]"),
    ("a", np.zeros((3, 3), int), "integer [N, 2]", "int64 [3, 3]"),
    ("a", np.zeros(3, int), "integer [N, 2]", "int64 [3]"),
    ("a", np.zeros((11, 2), int), "integer [N, 2], N <= 10", "int64 [11, 2]"),
    ("b", np.zeros(4, "U1"), "text [3]", "<U1 [4]"),
    (
      "b",
      np.zeros(3, "U600"),
      "text [3] of at most 512 characters",
      "<U600 [3]",
    ),
    ("b", np.zeros((), "U1"), "text [3]", "<U1 []"),
  ],
)
def test_fault_21_other_arrays_are_refused(
  tmp_path, name, array, expected, given
):
  path = tmp_path / "x.npz"
  arrays = {"a": np.zeros((3, 2), int), "b": np.zeros(3, "U4")}
  np.savez(path, **{**arrays, name: array})
  check = raising.about(f"{path}: {name}", expected=expected, given=given)
  with pytest.raises(errors.InputError, check=check):
    npz.read(path, PAIR, MOST)


@pytest.mark.parametrize("shape", [(3, 2), (1, 2), (10, 2), (0, 2)])
def test_fault_21_headers_that_claim_another_size_are_refused(tmp_path, shape):
  path = tmp_path / "x.npz"
  write_bomb(path, "a", shape, "<i8", 72)
  check = raising.about(f"{path}: a", expected="integer [N, 2]")
  with pytest.raises(errors.InputError, check=check):
    npz.read(path, PAIR, MOST)


def test_fault_21_damaged_files_are_refused_in_one_line(tmp_path):
  path = tmp_path / "x.npz"
  np.savez_compressed(path, a=np.arange(20).reshape(10, 2))
  whole = path.read_bytes()
  rng = np.random.default_rng(0)
  broken = [b"", b"PK\x03\x04 torn", b"\x93NUMPY", whole[:-9], whole[9:]]
  for place in rng.integers(0, len(whole), 200):
    changed = bytearray(whole)
    changed[place] ^= 1 + rng.integers(255)
    broken.append(bytes(changed))
  refused = 0
  for data in broken:
    path.write_bytes(data)
    try:
      found = npz.read(path, PAIR, MOST)
    except errors.InputError as error:
      refused += 1
      assert error.setting.startswith(str(path)) and str(error).isprintable()
    else:  # Names and times of a zip have no checksum.
      assert "a" not in found or found["a"].tolist() == [
        [2 * i, 2 * i + 1] for i in range(10)
      ]
  assert refused > 100


def test_fault_21_other_compressions_are_refused(tmp_path):
  """The window of LZMA is as large as a file says."""
  path = tmp_path / "x.npz"
  for kind in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
    with zipfile.ZipFile(path, "w", kind) as file:
      file.writestr("a.npy", header((0, 2), "<i8"))
    with pytest.raises(errors.InputError, check=raising.about(str(path))):
      npz.read(path, PAIR, MOST)


def _of_papers(folder):
  dataset = clones.dataset(folder, clones.MATCHED_FREQUENCY, 20)
  path = folder / "mine.npz"
  np.savez(path, image_id=dataset.image_ids, top5=[range(5)] * 20)
  return path, "top5", lambda: own_samples.read(path, dataset)


def _write_run(folder) -> pathlib.Path:
  rng = np.random.default_rng(0)
  probs = rng.dirichlet(np.ones(3), 8)
  written.write(
    folder,
    written.evaluation("pond:test", "abc", probs, rng.integers(0, 3, 8)),
  )
  return folder / "predictions" / "pond-test.npz"


def _of_report(folder):
  return _write_run(folder), "top5_prob", lambda: inputs.read(folder)


def _of_confusion(folder):
  _write_run(folder)
  path = folder / "confusion.npz"
  return path, "pond-test", lambda: inputs.read(folder)


def _of_points(folder):
  read = lambda: operating_points.read_scores(folder, "pond:test")
  return _write_run(folder), "probs", read


@pytest.mark.parametrize(
  "reader", [_of_papers, _of_report, _of_confusion, _of_points]
)
def test_fault_21_a_small_file_does_not_take_all_memory(tmp_path, reader):
  (tmp_path / "run").mkdir()
  path, name, read = reader(tmp_path / "run")
  read()
  size = 4096  # the matrix takes 64 MiB
  kind = "<f4" if name in ("top5_prob", "probs") else "<i4"
  before = peak_bytes()
  for shape in ((size**2,), (size**2 // 8, 8), (size + 1, size + 1)):
    write_bomb(path, name, shape, kind, 4 * math.prod(shape))
    assert path.stat().st_size < MIB
    check = raising.about(f"{path}: {name}")
    with pytest.raises(errors.InputError, check=check):
      read()
  assert peak_bytes() - before < 30 * MIB


def test_fault_21_an_index_that_holds_too_much_is_rebuilt(
  tmp_path, monkeypatch
):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  shard = tmp_path / "tiny.tfrecord-00000-of-00001"
  shard.write_bytes(tiny_tfds.tfrecord_bytes([b"first", b"second"]))
  offsets = tfrecord_index.load_offsets(shard)
  (index,) = tmp_path.rglob("*.npz")
  before = peak_bytes()
  write_bomb(index, "offsets", (25 * MIB,), "<i8", 200 * MIB)
  np.testing.assert_array_equal(tfrecord_index.load_offsets(shard), offsets)
  assert peak_bytes() - before < 50 * MIB
  assert index.stat().st_size < MIB // 16
