"""Saves, verifies and restores checkpoints; the only module that uses Orbax.

Orbax loads a flipped bit silently. So a digest of every leaf is saved with the
state and verified on restore, and the newest valid checkpoint is used. Order of
resume: newest step first; a step that cannot be read, or whose digests differ,
is quarantined with a warning. Other shapes or dtypes are an error.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
import contextlib
import functools
import hashlib
import json
import logging as python_logging
import pathlib
import shutil
import sys
from typing import Any
import warnings

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from imgbench import errors
from imgbench import paths
from imgbench.parallel import processes

FOLDER = "checkpoints"
_OTHER = "init.source"  # its setting
DAMAGED_FOLDER = "damaged_checkpoints"
_ORBAX = f"{pathlib.Path(ocp.__file__).parents[1]}/"  # its source files
# Size of a checkpoint besides its arrays: metadata, half-filled blocks.
MARGIN_BYTES = 2_000_000


def _mix(x: jax.Array) -> jax.Array:
  """Mixes the bits of uint32, one to one (the finalizer of Murmur3)."""
  x = x ^ (x >> 16)
  x = x * jnp.uint32(0x85EBCA6B)
  x = x ^ (x >> 13)
  x = x * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)


def _to_bits(x: jax.Array) -> jax.Array:
  """Returns the bits of each element as uint32, shape of x or [..., 2]."""
  if x.dtype == jnp.bool_:
    return x.astype(jnp.uint32)
  width = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
  return jax.lax.bitcast_convert_type(x, width).astype(jnp.uint32)


def digest_leaf(x: jax.Array) -> jax.Array:
  """Returns a uint32 digest of an array's bits and their positions.

  The sum modulo 2^32 of a hash of each element's bits and global index: equal
  on any number of devices, and different if one element differs.
  """
  bits = _to_bits(x)
  index = jnp.zeros(bits.shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(bits.ndim)):
    iota = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    index = index + iota * jnp.uint32(stride % 2**32)
    stride *= bits.shape[axis]
  hashes = _mix(bits ^ _mix(index + jnp.uint32(0x9E3779B9)))
  return jnp.sum(hashes, dtype=jnp.uint32)


def _digest_leaves(state):
  return jnp.stack([digest_leaf(leaf) for leaf in jax.tree.leaves(state)])


def _copy_and_digest(state):
  return jax.tree.map(jnp.copy, state), _digest_leaves(state)


@functools.cache
def _compiled_copy(replicated: jax.sharding.Sharding | None) -> Callable:
  return jax.jit(_copy_and_digest, out_shardings=(None, replicated))


@functools.cache
def _compiled_digest(replicated: jax.sharding.Sharding | None) -> Callable:
  return jax.jit(_digest_leaves, out_shardings=replicated)


def _find_replicated(state) -> jax.sharding.Sharding | None:
  """Returns the sharding on a state's mesh that all processes can fetch."""
  sharding = jax.tree.leaves(state)[0].sharding
  if not isinstance(sharding, jax.sharding.NamedSharding):
    return None
  return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())


def _snapshot(state):
  """Returns a copy of the state, and uint32 [leaves], the digest of each."""
  return _compiled_copy(_find_replicated(state))(state)


def _seal(meta: dict[str, Any]) -> dict[str, Any]:
  text = json.dumps(meta, sort_keys=True)
  return {"text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _unseal(sealed: dict[str, Any]) -> dict[str, Any]:
  text = sealed["text"]
  if hashlib.sha256(text.encode()).hexdigest() != sealed["sha256"]:
    raise ValueError("the metadata do not match their sha256")
  return json.loads(text)


def _describe_leaves(state: Any) -> dict[str, str]:
  """Returns path -> "dtype [shape]" of each leaf."""
  return {
    jax.tree_util.keystr(path): f"{leaf.dtype} {list(leaf.shape)}"
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
  }


def _name_digests(state: Any, digests: jax.Array) -> dict[str, int]:
  return dict(
    zip(_describe_leaves(state), np.asarray(digests).tolist(), strict=True)
  )


def _check_leaves(folder, saved: dict[str, str], wanted: dict[str, str]):
  if saved == wanted:
    return
  name = min(
    n for n in saved.keys() | wanted.keys() if saved.get(n) != wanted.get(n)
  )
  raise errors.InputError(
    f"{folder}: {name}",
    wanted.get(name, "none"),
    saved.get(name, "none"),
    "it is of another model or optimizer: use another --workdir",
  )


class Checkpoints:
  """The checkpoints of one workdir.

  All processes make the same calls; each writes its part of the arrays.

  Args:
    workdir: its folder `checkpoints` is created if it does not exist.
    keep: how many of the newest are kept, at least 1.
    asynchronous: write in the background during training.
    read_only: write nothing and quarantine nothing: another run's folder.
    group: of the processes that use them.
  """

  def __init__(
    self,
    workdir: paths.Folder,
    *,
    keep: int = 2,
    asynchronous: bool = True,
    read_only: bool = False,
    group: processes.Group = processes.ALONE,
  ):
    self._group = group
    self._workdir = paths.make_absolute(workdir)
    self._folder = self._workdir / FOLDER
    self._best_step: int | None = None
    self._saved_step: int | None = None  # perhaps still being written
    self._read_only = read_only
    _silence_orbax()
    self._options = ocp.CheckpointManagerOptions(
      create=not read_only,
      read_only=read_only,
      cleanup_tmp_directories=not read_only,
      enable_async_checkpointing=asynchronous,
      # Created in threads, a folder that fails leaves others waiting for it
      # for minutes, also at the end of the process.
      async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
      preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy(
        [ocp.checkpoint_managers.LatestN(keep), self]
      ),
    )
    self._manager = self._open()

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    """Keeps the best step; a preservation policy as Orbax calls it."""
    del context
    return [checkpoint.step == self._best_step for checkpoint in checkpoints]

  def _open(self) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(self._folder, options=self._options)

  def save(
    self,
    step: int,
    state: Any,
    meta: dict[str, Any],
    best_step: int | None = None,
  ) -> None:
    """Starts a save; raises the error of an earlier one that failed.

    The step that was saved last is not saved again.

    Args:
      step: steps done.
      state: pytree of arrays.
      meta: JSON values that `restore` returns, `step` among them.
      best_step: kept in addition to the newest ones.

    Raises:
      RunError: the disk is full or cannot be written.
    """
    self._best_step = best_step
    if step == self._saved_step:
      return
    with _clear_write_errors(self._folder):
      self._group.from_first(lambda: self._check_space(step, state))
    snapshot, digests = _snapshot(state)
    sealed = _seal(
      {
        **meta,
        "leaves": _describe_leaves(state),
        "digests": _name_digests(state, digests),
      }
    )
    with _clear_write_errors(self._folder):
      saved = self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(snapshot),
          meta=ocp.args.JsonSave(sealed),
        ),
      )
    if not saved:  # Orbax takes no step below its newest.
      raise errors.RunError(
        f"the checkpoint of step {step} was not saved: {self._folder} holds"
        f" {self._list_steps()}. Move newer ones away and run the same command"
        " again"
      )
    self._saved_step = step

  def _check_space(self, step: int, state: Any) -> None:
    """Raises RunError on a full disk, for which Orbax logs 100s of lines."""
    if paths.is_bucket(self._folder):
      return
    if not self._folder.exists():
      logging.warning("%s was deleted and is created again", self._folder)
      self._folder.mkdir()
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + MARGIN_BYTES
    free = shutil.disk_usage(self._folder).free
    if free < needed:
      raise errors.RunError(
        f"no space left for the checkpoint of step {step} in {self._folder}:"
        f" it needs about {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free."
        f" Saved steps: {self._list_steps() or 'none'}. Free some space and run"
        " the same command again"
      )

  def wait(self) -> None:
    """Waits until all saves are on disk. Raises RunError."""
    with _clear_write_errors(self._folder):
      self._manager.wait_until_finished()

  def close(self) -> None:
    with _clear_write_errors(self._folder):
      self._manager.close()

  def steps(self) -> list[int]:
    """Returns the steps with a finished save, oldest first, damaged or not."""
    return self._group.from_first(self._list_steps)

  def _list_steps(self) -> list[int]:
    return list_steps(self._workdir)

  def restore(
    self,
    like: Any,
    check: Callable[[dict[str, Any]], None] = lambda meta: None,
    step: int | None = None,
  ) -> tuple[Any, dict[str, Any]] | None:
    """Returns (state, meta) of the newest valid checkpoint, None without any.

    Args:
      like: a state with the wanted shapes, dtypes and shardings.
      check: called with meta; may raise.
      step: of the checkpoint to read; None: the newest valid one.

    Raises:
      InputError: a checkpoint of another model or optimizer.
      RunError: there are checkpoints, but none is valid.
    """
    steps = self.steps() if step is None else [step]
    damaged: dict[int, str] = {}
    for step in reversed(steps):
      state, meta, reason = self._try_step(step, like)
      if reason:
        damaged[step] = reason
        continue
      if damaged:
        logging.warning(
          "damaged checkpoints in %s: %s; using step %d%s",
          self._folder,
          _list_damage(damaged),
          step,
          "" if self._read_only else f", moving them to {DAMAGED_FOLDER}",
        )
      check(meta)
      self._quarantine(damaged)
      return state, meta
    if steps:
      raise errors.RunError(
        f"none of the checkpoints {steps} in {self._folder} is valid:"
        f" {_list_damage(damaged)}; move the folder away to start from step 0"
      )
    return None

  def _try_step(self, step: int, like: Any):
    """Returns (state, meta, why it is damaged or ""), equal in all processes.

    If one process cannot read a step, none uses it: digests are sums over all
    devices and need all processes.
    """
    state, reason = None, ""
    meta: dict[str, Any] = {}
    try:
      state, meta = self._read_step(step, like)
    except (errors.InputError, MemoryError, PermissionError):
      raise
    except Exception as error:  # Orbax raises many kinds for a damaged step.
      if paths.is_out_of_reach(self._folder, error):
        raise errors.RunError(
          f"{self._folder / str(step)} cannot be read:"
          f" {paths.describe_error(error)}"
        ) from error
      reason = paths.describe_error(error)
    reason = next(filter(None, self._group.exchange(reason)), "")
    if not reason:
      digests = _compiled_digest(_find_replicated(state))(state)
      expected, found = meta.pop("digests"), _name_digests(state, digests)
      wrong = [name for name in found if found[name] != expected[name]]
      if wrong:
        reason = f"{', '.join(wrong[:3])} differ from their digests"
    return state, meta, reason

  def _read_step(self, step: int, like: Any):
    meta = self.read_meta(step)
    # Orbax casts dtypes silently, so compare them first.
    _check_leaves(
      self._folder / str(step), meta.pop("leaves"), _describe_leaves(like)
    )
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    read = self._read(step, state=ocp.args.StandardRestore(abstract))
    return read.state, meta

  def read_meta(self, step: int) -> dict[str, Any]:
    """Returns what `save` got; raises errors of many kinds if it is damaged."""
    meta = _unseal(self._read(step, meta=ocp.args.JsonRestore()).meta)
    if meta["step"] != step:  # A copy of another folder.
      raise ValueError(f"it holds step {meta['step']}")
    return meta

  def _read(self, step: int, **items) -> Any:
    return self._manager.restore(step, args=ocp.args.Composite(**items))

  def _quarantine(self, steps: Collection[int]) -> None:
    """Moves damaged steps to DAMAGED_FOLDER."""
    if not steps or self._read_only:
      return
    self._manager.close()
    self._group.from_first(lambda: self._move_damaged(steps))
    self._manager = self._open()

  def _move_damaged(self, steps: Collection[int]) -> None:
    folder = self._workdir / DAMAGED_FOLDER
    for step in steps:
      target = folder / str(step)
      copies = 0
      while target.exists():
        copies += 1
        target = folder / f"{step}.{copies}"
      paths.move_folder(self._folder / str(step), target)


def list_steps(workdir: paths.Folder) -> list[int]:
  """Returns the steps of a run with a finished save, oldest first."""
  folder = paths.make_absolute(workdir) / FOLDER
  found = [name for name in paths.list_names(folder) if name.isdigit()]
  finished = ocp.utils.is_checkpoint_finalized
  return sorted(int(name) for name in found if finished(folder / name))


def split_run(run: str) -> tuple[str, int | None]:
  """Returns workdir and step of RUN or RUN@STEP; None: the newest step."""
  workdir, _, step = run.rpartition("@")
  if workdir and step.isdigit():
    return workdir, int(step)
  return run, None


def check_other(
  run: str, setting: str = _OTHER
) -> tuple[paths.Folder, int | None]:
  """Returns the folder of another run, and the step if one is named.

  Args:
    run: RUN or RUN@STEP, see `split_run`.
    setting: that names it.

  Raises:
    InputError: the run has no checkpoint, or none of that step.
  """
  workdir, step = split_run(run)
  folder = paths.reach(workdir, setting)
  try:
    steps = list_steps(folder)
  except OSError as error:
    given = f"{workdir}: {error.strerror}"
    raise errors.InputError(setting, "a folder to read", given) from error
  if not steps:
    expected = f"the workdir of a run with a checkpoint in {FOLDER}/"
    expected += ", or a file of weights" if setting == _OTHER else ""
    raise errors.InputError(setting, expected, workdir)
  if step is not None and step not in steps:
    expected = f"a step with a checkpoint, {', '.join(map(str, steps))}"
    raise errors.InputError(setting, expected, run)
  return folder, step


def read_other_meta(run: str, setting: str = _OTHER) -> dict[str, Any]:
  """Returns the metadata of a checkpoint of another run.

  Args:
    run: RUN, for the newest checkpoint with whole metadata, or RUN@STEP.
    setting: that names the run, for errors.

  Raises:
    InputError: see `check_other`, or no metadata are whole.
  """
  folder, step = check_other(run, setting)
  steps = list_steps(folder) if step is None else [step]
  reason = ""
  other = Checkpoints(folder, read_only=True)
  try:
    for step in reversed(steps):
      try:
        return other.read_meta(step)
      except Exception as error:  # Of many kinds, see `_try_step`.
        reason = reason or f"step {step} ({paths.describe_error(error)[:200]})"
  finally:
    other.close()
  expected = "the workdir of a run with a valid checkpoint"
  raise errors.InputError(setting, expected, f"{run}: {reason}")


def restore_other(
  run: str,
  like: Any,
  group: processes.Group = processes.ALONE,
  setting: str = _OTHER,
) -> tuple[Any, dict[str, Any]]:
  """Returns (state, meta) of a checkpoint of another run.

  Args:
    run: RUN, for the newest valid checkpoint, or RUN@STEP; nothing in it is
      changed.
    like: see `Checkpoints.restore`.
    group: of the processes that restore it.
    setting: that names the run, for errors.

  Raises:
    InputError: no valid checkpoint, or one of another model or optimizer.
  """
  folder, step = check_other(run, setting)
  other = Checkpoints(folder, read_only=True, group=group)
  try:
    restored = other.restore(like, step=step)
  except errors.RunError as error:
    expected = "the workdir of a run with a valid checkpoint"
    raise errors.InputError(setting, expected, run) from error
  except errors.InputError as error:
    raise errors.InputError(
      f"{setting}: {error.setting}",
      error.expected,
      error.given,
      "give a run of this model and optimizer",
    ) from error
  finally:
    other.close()
  assert restored is not None  # It has steps.
  return restored


def _list_damage(reasons: Mapping[int, str], most: int = 3) -> str:
  """Returns step and reason of the newest damaged checkpoints, as one line."""
  listed = [f"{step} ({reason[:200]})" for step, reason in reasons.items()]
  more = [f"{len(listed) - most} more"] if len(listed) > most else []
  return ", ".join(listed[:most] + more)


@contextlib.contextmanager
def _clear_write_errors(folder: paths.Folder):
  """Turns the errors of Orbax, of many kinds, into one clear line."""
  try:
    yield
  except (errors.InputError, errors.RunError):
    raise
  except Exception as error:
    signs = ("No space left", "ENOSPC", "RESOURCE_EXHAUSTED", "Disk quota")
    sign = next((sign for sign in signs if sign in str(error)), None)
    # TensorStore raises ValueError. Others may be about a process that ended.
    if sign is None and not isinstance(error, (OSError, ValueError)):
      raise
    raise errors.RunError(
      f"could not write a checkpoint into {folder}:"
      f" {sign or paths.describe_error(error)}. Checkpoints that are there are"
      " valid: repair the disk and run the same command again"
    ) from error


@functools.cache
def _silence_orbax() -> None:
  """Drops what Orbax prints of errors that it raises as well.

  After its first error it abandons other reads and writes. They end later, in
  threads: with a log line, a warning or an unraisable error each.
  """
  python_logging.getLogger("absl").addFilter(_drop_orbax_log)
  # "exception was never retrieved": only Orbax and gcsfs use asyncio.
  python_logging.getLogger("asyncio").addFilter(lambda r: logging.level_debug())
  warnings.filterwarnings("ignore", "coroutine .* was never", RuntimeWarning)
  # Bound here: the last ones come when modules are already empty.
  report = sys.unraisablehook

  def report_others(raised) -> None:
    code = getattr(raised.object, "cr_code", None)
    from_orbax = code.co_filename.startswith(_ORBAX) if code else False
    if not (from_orbax or str(raised.exc_value) == "Event loop is closed"):
      report(raised)

  sys.unraisablehook = report_others


def _drop_orbax_log(record: python_logging.LogRecord) -> bool:
  """Returns whether to print a log line: not those of Orbax."""
  from_orbax = record.pathname.startswith(_ORBAX)
  return not from_orbax or logging.level_debug()
