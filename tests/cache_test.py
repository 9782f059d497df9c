"""Tests of the array cache: arrays come back whole or not at all."""

import errno
import os
import pathlib
import subprocess

import jax
import numpy as np
import pytest

from imgbench import cache
from imgbench import cli
from imgbench import errors
from imgbench.bench import runner
from tests.data import tiny_tfds
from tests.train import processes


def _arrays():
  return {
    "image": np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3),
    "label": np.array([1, 0], np.int32),
    "image_id": np.array(["a", "bee"]),
  }


def test_round_trip_is_read_only(tmp_path):
  cache.write_arrays(tmp_path / "deep" / "key", _arrays())
  arrays = cache.read_arrays(tmp_path / "deep" / "key")
  for name, expected in _arrays().items():
    np.testing.assert_array_equal(arrays[name], expected)
    assert arrays[name].dtype == expected.dtype
    assert type(arrays[name]) is np.ndarray
    assert not arrays[name].flags.writeable
  assert [path.name for path in (tmp_path / "deep").iterdir()] == ["key"]


def test_nothing_there_is_none(tmp_path):
  assert cache.read_arrays(tmp_path / "key") is None


def test_written_over(tmp_path):
  cache.write_arrays(tmp_path / "key", {"old": np.zeros(3)})
  cache.write_arrays(tmp_path / "key", _arrays())
  assert set(cache.read_arrays(tmp_path / "key")) == set(_arrays())


def _flip_last_bit(path):
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)


@pytest.mark.parametrize(
  "damage",
  [
    lambda folder: _flip_last_bit(folder / "image.npy"),
    lambda folder: _flip_last_bit(folder / "label.npy"),
    lambda folder: _flip_last_bit(folder / "image_id.npy"),
    lambda folder: os.truncate(folder / "image.npy", 150),
    lambda folder: os.truncate(folder / "image.npy", 20),
    lambda folder: os.truncate(folder / "image.npy", 0),
    lambda folder: (folder / "label.npy").unlink(),
    lambda folder: os.truncate(folder / "manifest.json", 30),
    lambda folder: np.save(folder / "label.npy", np.array([1, 0], np.int64)),
  ],
)
def test_damage_is_never_trusted(tmp_path, damage, caplog):
  folder = tmp_path / "key"
  cache.write_arrays(folder, _arrays())
  damage(folder)
  assert cache.read_arrays(folder) is None
  (record,) = caplog.records
  assert record.levelname == "WARNING"
  assert str(folder) in record.getMessage()
  cache.write_arrays(folder, _arrays())
  assert cache.read_arrays(folder) is not None


def test_full_disk_leaves_no_files(tmp_path):
  class Unwritable(np.ndarray):
    """Fails while it is written, as a full disk does."""

    def tofile(self, *args, **kwargs):
      raise OSError(errno.ENOSPC, "No space left on device")

  bad = np.zeros(4, np.uint8).view(Unwritable)
  with pytest.raises(OSError) as caught:
    cache.write_arrays(tmp_path / "key", {"good": np.zeros(3), "bad": bad})
  assert caught.value.errno == errno.ENOSPC
  assert not list(tmp_path.iterdir())


def test_what_would_fill_the_disk_is_not_written(tmp_path):
  huge = np.broadcast_to(np.uint8(0), (2**50,))
  with pytest.raises(OSError, match=str(2**50)):
    cache.write_arrays(tmp_path / "key", {"huge": huge})
  assert not list(tmp_path.iterdir())


def test_a_killed_writer_is_cleared_after_an_hour(tmp_path):
  old, new = tmp_path / ".key.old", tmp_path / ".key.new"
  for path in (old, new):
    path.mkdir()
  os.utime(old, (0, 0))
  cache.write_arrays(tmp_path / "key", _arrays())
  assert not old.exists()
  assert new.exists()


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
  """Returns the user's cache folder, in whose place there is a file."""
  (tmp_path / "file").touch()
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  return cache.user_cache_dir()


def is_one_warning(caplog) -> bool:
  return [record.levelname for record in caplog.records] == ["WARNING"]


def test_fault_15_compiled_programs_need_no_cache(no_cache, caplog, tmp_path):
  before = jax.config.jax_compilation_cache_dir
  try:
    cli.keep_compiled("default")
    assert is_one_warning(caplog)
    assert jax.config.jax_compilation_cache_dir == before
    cli.keep_compiled(str(tmp_path / "new" / "folder"))
    assert (tmp_path / "new" / "folder").is_dir()
    assert is_one_warning(caplog)
  finally:
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize("place", ["file", "read-only"])
def test_fault_15_benchmarks_need_no_cache(
  no_cache, caplog, monkeypatch, place
):
  if place == "read-only":  # What root, too, cannot write.
    monkeypatch.setattr(
      cache, "user_cache_dir", lambda *p: pathlib.Path("/proc")
    )
  with runner._make_cache_folder() as folder:
    assert os.listdir(folder) == []
  assert runner._find_begin_cache() == ""
  assert is_one_warning(caplog)


def test_fault_15_no_home_is_one_warning(monkeypatch, caplog):
  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  monkeypatch.setenv("HOME", "relative")
  cache._warn_once.cache_clear()
  for _ in range(3):
    with cache.optional("things"):
      cache.user_cache_dir("things")
      pytest.fail("there is no home folder")
  assert is_one_warning(caplog)


# No cache can be written: annotations, indices, programs, fonts.
@pytest.mark.slow
def test_fault_15_a_run_needs_no_cache(tmp_path):
  pictures = tiny_tfds.examples(24)
  features = {
    "image": tiny_tfds.image_feature((None, None, 3)),
    "label": tiny_tfds.label_feature(),
  }
  splits = {"train": [pictures], "test": [pictures]}
  tiny_tfds.write(tmp_path / "data", splits, features=features)
  file = tmp_path / "file"
  file.touch()
  names = ("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
  sets = "val=dict(type='classification', split='test')"
  config = tmp_path / "config.py"
  config.write_text(
    CONFIG.format(
      sets=sets,
      data_dir=tmp_path / "data",
    )
  )
  command = processes.command(tmp_path / "run")
  command[3] = f"--config={config}"
  result = subprocess.run(
    command,
    env={**processes.environment(), **dict.fromkeys(names, str(file))},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == errors.EXIT_DONE, result.stderr
  assert (tmp_path / "run" / "report.html").exists()
  warned = [x for x in result.stderr.splitlines() if "are not cached" in x]
  # Programs, indices, annotations.
  assert len(warned) == 3, result.stderr


CONFIG = """
from imgbench.configs import tiny

def get_config():
  config = tiny.get_config()
  config.data.name = "tiny"
  config.data.data_dir = "{data_dir}"
  config.data.options = dict()
  config.evaluation.sets = dict({sets})
  config.augment.pad = 0
  config.input = dict(size=8)
  config.evaluation.input = dict(size=8)
  config.checkpoint.best = ""
  return config
"""


def test_location_of_the_cache(monkeypatch):
  monkeypatch.setenv("HOME", "/home/someone")
  monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
  assert cache.user_cache_dir("a") == pathlib.Path("/caches/imgbench/a")
  monkeypatch.setenv("XDG_CACHE_HOME", "relative")
  home = pathlib.Path("/home/someone/.cache/imgbench")
  assert cache.user_cache_dir() == home
  monkeypatch.delenv("XDG_CACHE_HOME")
  assert cache.user_cache_dir() == home
