"""Tests of checkpoints: damage is detected, and the previous one is used."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import checkpoints
from imgbench import errors
from tests import raising
from tests.train import processes


def make_state(step):
  return {
    "step": jnp.int32(step),
    "kernel": jnp.arange(6000.0).reshape(60, 100) + step,
    "scale": jnp.full((7,), step, jnp.bfloat16),
  }


def save_three(folder):
  store = checkpoints.Checkpoints(folder, keep=3)
  for step in (1, 2, 3):
    store.save(step, make_state(step), {"step": step})
  store.close()


def restore(folder):
  store = checkpoints.Checkpoints(folder, keep=3)
  state, meta = store.restore(make_state(0))
  store.close()
  step = meta["step"]
  for name, want in make_state(step).items():
    assert state[name].dtype == want.dtype
    np.testing.assert_array_equal(np.asarray(state[name]), np.asarray(want))
  return step


@pytest.mark.smoke
def test_the_newest_valid_checkpoint_is_restored(tmp_path):
  save_three(tmp_path)
  assert restore(tmp_path) == 3


def test_an_empty_folder_has_none(tmp_path):
  assert checkpoints.Checkpoints(tmp_path).restore(make_state(0)) is None


@pytest.mark.parametrize("damage", ["empty", "file missing", "truncated"])
def test_damage_falls_back_and_is_named(tmp_path, damage, caplog):
  save_three(tmp_path)
  newest = tmp_path / "checkpoints" / "3"
  if damage == "empty":
    shutil.rmtree(newest)
    newest.mkdir()
  else:
    data = max(newest.rglob("*"), key=_size)
    if damage == "file missing":
      data.unlink()
    else:
      data.write_bytes(data.read_bytes()[: _size(data) // 2])
  assert restore(tmp_path) == 2
  assert f"{newest.parent}: 3 (" in caplog.text and "damaged" in caplog.text
  assert (tmp_path / "damaged_checkpoints" / "3").is_dir()
  # The step is free again.
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  store.save(3, make_state(3), {"step": 3})
  store.close()
  assert restore(tmp_path) == 3


def test_fault_09_a_signal_while_restoring_is_no_damage(tmp_path, monkeypatch):
  save_three(tmp_path)

  def stop(*args):
    raise errors.Preempted("SIGTERM")

  monkeypatch.setattr(checkpoints.Checkpoints, "_read_step", stop)
  with pytest.raises(errors.Preempted):
    restore(tmp_path)
  assert not (tmp_path / checkpoints.DAMAGED_FOLDER).exists()
  assert (tmp_path / checkpoints.FOLDER / "3").is_dir()


def test_fault_03_a_copy_under_another_number_is_quarantined(tmp_path, caplog):
  save_three(tmp_path)
  folder = tmp_path / "checkpoints"
  shutil.copytree(folder / "2", folder / "9")
  assert restore(tmp_path) == 3
  assert (tmp_path / "damaged_checkpoints" / "9").is_dir()
  assert f"{folder}: 9 (" in caplog.text
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  store.save(4, make_state(4), {"step": 4})
  store.close()
  assert restore(tmp_path) == 4


def test_fault_03_another_run_does_not_start_from_a_copy(tmp_path):
  save_three(tmp_path)
  folder = tmp_path / "checkpoints"
  shutil.copytree(folder / "1", folder / "9")
  _, meta = checkpoints.restore_other(str(tmp_path), make_state(0))
  assert meta["step"] == 3
  assert (folder / "9").is_dir()


def test_fault_18_another_model_to_start_from(tmp_path):
  """Another --workdir would not help."""
  save_three(tmp_path)
  like = make_state(0) | {"bias": jnp.zeros(3)}
  with pytest.raises(errors.InputError) as caught:
    checkpoints.restore_other(str(tmp_path), like)
  assert caught.value.setting.startswith("init.source: ")
  assert "--workdir" not in str(caught.value)
  with pytest.raises(errors.InputError) as caught:
    checkpoints.Checkpoints(tmp_path).restore(like)
  assert "--workdir" in caught.value.fix


def test_fault_18_no_valid_checkpoint_to_start_from(tmp_path):
  save_three(tmp_path)
  for step in "123":
    (tmp_path / "checkpoints" / step / "meta" / "metadata").write_text("{}")
  about = raising.about("init.source", given=tmp_path)
  with pytest.raises(errors.InputError, check=about):
    checkpoints.restore_other(str(tmp_path), make_state(0))
  left = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  assert left == ["1", "2", "3"]


def test_a_run_at_a_step(tmp_path):
  save_three(tmp_path)
  _, meta = checkpoints.restore_other(f"{tmp_path}@2", make_state(0))
  assert meta["step"] == 2
  given = f"{tmp_path}@9"
  about = raising.about("--from", given=given)
  with pytest.raises(errors.InputError, check=about):
    checkpoints.check_other(given, "--from")


@pytest.mark.parametrize("run", ["a@b", "gs://bucket/run@", "@3", "a@3/b"])
def test_names_of_runs_without_a_step(run):
  assert checkpoints.split_run(run) == (run, None)


@pytest.mark.parametrize("name", ["absent", "file", "file/x", "", "x" * 300])
def test_fault_19_nothing_to_start_from(tmp_path, name):
  (tmp_path / "file").touch()
  about = raising.about("init.source")
  with pytest.raises(errors.InputError, check=about):
    checkpoints.check_other(str(tmp_path / name))


def test_fault_03_a_save_that_did_not_happen_is_an_error(tmp_path):
  save_three(tmp_path)
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  with pytest.raises(errors.RunError, match="step 2"):
    store.save(2, make_state(2), {"step": 2})
  store.close()


def _size(path: pathlib.Path) -> int:
  return path.stat().st_size if path.is_file() else -1


def test_a_flipped_bit_anywhere_never_loads_as_another_state(tmp_path):
  """Each file of a checkpoint in turn, at several places."""
  save_three(tmp_path / "whole")
  rng = np.random.default_rng(0)
  names = [
    path.relative_to(tmp_path / "whole")
    for path in sorted((tmp_path / "whole" / "checkpoints" / "3").rglob("*"))
    if path.is_file() and _size(path) > 0
  ]
  fell_back = 0
  for number, name in enumerate(names):
    folder = tmp_path / str(number)
    shutil.copytree(tmp_path / "whole", folder)
    data = bytearray((folder / name).read_bytes())
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    (folder / name).write_bytes(bytes(data))
    # restore() compares every bit with what was saved at the step it gives.
    step = restore(folder)
    assert step in (2, 3)
    fell_back += step == 2
  assert fell_back > 0


def test_bits_that_orbax_loads_silently_are_detected(
  tmp_path, monkeypatch, caplog
):
  """The files on disk are valid to Orbax, but differ from what was saved."""
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  store.save(1, make_state(1), {"step": 1})
  snapshot = checkpoints._snapshot

  def flip_one_bit(state):
    copy, digests = snapshot(state)
    kernel = np.array(copy["kernel"])
    kernel.view(np.uint32)[5, 7] ^= 1
    return {**copy, "kernel": jnp.asarray(kernel)}, digests

  monkeypatch.setattr(checkpoints, "_snapshot", flip_one_bit)
  store.save(2, make_state(2), {"step": 2})
  store.close()
  assert restore(tmp_path) == 1
  assert "kernel" in caplog.text and "digests" in caplog.text


def test_no_valid_checkpoint_is_an_error(tmp_path):
  save_three(tmp_path)
  for step in (1, 2, 3):
    shutil.rmtree(tmp_path / "checkpoints" / str(step) / "state")
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  with pytest.raises(errors.RunError, match=r"\[1, 2, 3\]"):
    store.restore(make_state(0))


def test_another_model_is_an_error_not_damage(tmp_path):
  save_three(tmp_path)
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  other = {**make_state(0), "kernel": jnp.zeros((60, 101))}
  kernel = f"{tmp_path}/checkpoints/3: ['kernel']"
  check = raising.about(
    kernel, expected="float32 [60, 101]", given="float32 [60, 100]"
  )
  with pytest.raises(errors.InputError, check=check):
    store.restore(other)
  half = {**make_state(0), "kernel": jnp.zeros((60, 100), jnp.float16)}
  check = raising.about(
    kernel, expected="float16 [60, 100]", given="float32 [60, 100]"
  )
  with pytest.raises(errors.InputError, check=check):
    store.restore(half)


def test_keeps_the_newest_and_the_best(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  for step, best in ((1, 1), (2, 2), (3, 2)):
    store.save(step, make_state(step), {"step": step}, best_step=best)
  store.close()
  assert store.steps() == [2, 3]
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  store.save(4, make_state(4), {"step": 4}, best_step=2)
  store.save(5, make_state(5), {"step": 5}, best_step=2)
  store.close()
  assert store.steps() == [2, 5]


def test_digest_sees_bits_and_places_and_no_device_count():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 24)), jnp.float32)
  plain = int(checkpoints.digest_leaf(x))
  assert plain != int(checkpoints.digest_leaf(x.T.reshape(16, 24)))
  swapped = x.at[0, 0].set(x[0, 1]).at[0, 1].set(x[0, 0])
  assert plain != int(checkpoints.digest_leaf(swapped))
  assert int(checkpoints.digest_leaf(jnp.zeros(3))) != int(
    checkpoints.digest_leaf(-jnp.zeros(3))
  )
  for count in (2, 8):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ("data",))
    sharding = jax.sharding.NamedSharding(
      mesh, jax.sharding.PartitionSpec("data")
    )
    sharded = jax.device_put(x, sharding)
    assert int(jax.jit(checkpoints.digest_leaf)(sharded)) == plain


def test_damage_after_a_temporary_folder_of_a_killed_save(tmp_path):
  save_three(tmp_path)
  left = tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp"
  (left / "state").mkdir(parents=True)
  assert restore(tmp_path) == 3
  assert not left.exists()


def test_fault_10_damaged_checkpoints_take_one_line(tmp_path, caplog):
  """Also those that Orbax abandons after an error, in threads."""
  save_three(tmp_path)
  for step in (2, 3):
    folder = tmp_path / "checkpoints" / str(step)
    (folder / "state/array_metadatas/process_0").write_bytes(b"{")
  assert restore(tmp_path) == 1
  (record,) = caplog.records
  assert record.levelname == "WARNING"
  assert len(record.getMessage().splitlines()) == 1


RESTORE = """
import pathlib
import sys
from imgbench import checkpoints
from imgbench import errors
from tests import checkpoints_test as test
many = {f"leaf{i}": test.make_state(0) for i in range(20)}
try:
  checkpoints.Checkpoints(pathlib.Path(sys.argv[1])).restore(many)
except errors.RunError:
  print("not valid")
"""


def test_fault_10_threads_print_nothing(tmp_path):
  many = {f"leaf{i}": make_state(0) for i in range(20)}
  store = checkpoints.Checkpoints(tmp_path)
  store.save(1, many, {"step": 1})
  store.close()
  metadata = tmp_path / "checkpoints/1/state/array_metadatas/process_0"
  metadata.write_bytes(b"{")
  result = processes.run_python("-c", RESTORE, str(tmp_path))
  assert result.returncode == 0, result.stderr
  assert (result.stdout, result.stderr) == ("not valid\n", "")


def test_fault_10_a_deleted_folder_is_created_again(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  store.save(1, make_state(1), {"step": 1})
  store.wait()
  shutil.rmtree(tmp_path / "checkpoints")
  store.save(2, make_state(2), {"step": 2})
  store.close()
  assert store.steps() == [2]
  assert restore(tmp_path) == 2


def test_fault_10_a_write_that_fails_is_a_run_error(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  store.save(1, make_state(1), {"step": 1})
  store.wait()
  shutil.rmtree(tmp_path / "checkpoints")
  (tmp_path / "checkpoints").write_text("")  # A file in its place.
  with pytest.raises(errors.RunError):
    store.save(2, make_state(2), {"step": 2})
    store.wait()
