"""The files of a run: its lock, config, environment, status and results."""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import fcntl
import json
import time
from typing import Any
from typing import Literal
import uuid

from absl import logging

from imgbench import bucket_lock
from imgbench import config_utils
from imgbench import errors
from imgbench import npz
from imgbench import paths
from imgbench import timing
from imgbench import typed
from imgbench import writers
from imgbench.parallel import processes

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
STATUS = "status.json"
RESULTS = "results.json"
CHECK = "check.json"
WARNINGS = "warnings.json"
PER_CLASS = "per_class.csv"
CONFUSION = "confusion.npz"
CALIBRATION = "calibration.json"
CURVES = "curves.json"
PREDICTIONS = "predictions"
RECONSTRUCTIONS = "reconstructions"
_LOCK = bucket_lock.NAME
_CHECKPOINTS = "checkpoints"  # `checkpoints.FOLDER`, whose import takes long
# Suffix of the alias of an evaluator of averaged parameters.
EMA = "_ema"

# Seconds within which the other processes have to see a change of a file.
SHARED_S = 30.0

RUNNING = "running"
DONE = "done"
FAILED = "failed"
DIVERGED = "diverged"
PREEMPTED = "preempted"
_STATUS_FIELDS = {
  "state": Literal[RUNNING, DONE, FAILED, DIVERGED, PREEMPTED],
  "step": int,
  "total_steps": int,
  "message": str,
  "times": Mapping[str, float],
}


def read_json(path: paths.Folder) -> Any:
  """Returns the content of a JSON file, None if it does not exist."""
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (RecursionError, ValueError) as error:
    raise errors.InputError(path, "JSON", error, "move it away") from error


def read_object(
  path: paths.Folder, hints: Mapping[str, Any], required: Sequence[str] = ()
) -> dict[str, Any] | None:
  """Returns a JSON object after `typed.check_fields`; None without a file.

  Args:
    path: of the file.
    hints: field -> annotation.
    required: fields that must be there.

  Raises:
    InputError: not such an object.
  """
  found = read_json(path)
  if found is not None:
    with config_utils.prefix_errors(f"{path}: "):
      typed.check_fields(hints, found, required)
  return found


def reach_finished(run: str, setting: str = "--workdir") -> paths.Folder:
  """Returns the folder of a run. Raises InputError for RUN@STEP.

  Args:
    run: its folder.
    setting: that gave it.
  """
  folder = paths.reach(run, setting)
  if "@" in run and not folder.exists():
    from imgbench import checkpoints  # Takes long.

    workdir, step = checkpoints.split_run(run)
    if step is not None:
      raise errors.InputError(
        setting,
        "a run without a step, as its files are those of its end",
        run,
        f"give {workdir}, or the folder that imgbench evaluate {run} writes",
      )
  return folder


def read_status(workdir: paths.Folder) -> dict[str, Any]:
  """Returns status.json, {} without it. Raises InputError."""
  return read_object(workdir / STATUS, _STATUS_FIELDS) or {}


@contextlib.contextmanager
def locked(workdir: paths.Folder, setting: str = "--workdir"):
  """Creates the workdir and keeps other processes out while the block runs.

  Args:
    workdir: a run's, or another folder that one process uses.
    setting: that gave it.

  Raises:
    InputError: it cannot be written, or another process uses it.
  """
  if paths.is_bucket(workdir):
    with bucket_lock.hold(workdir):
      yield
    return
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    file = (workdir / _LOCK).open("a", encoding="utf-8")
  except OSError as error:
    given = f"{workdir}: {error.strerror}"
    raise errors.InputError(setting, "a writable folder", given) from error
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise errors.InputError(
        workdir,
        "no other process that uses it",
        "one that does",
        "wait for it or give another folder",
      ) from None
    except OSError as error:
      logging.warning("%s cannot be locked: %s", workdir, error)
    yield


def check_shared(workdir: paths.Folder, group: processes.Group) -> None:
  """Raises InputError unless all processes see the folder of the first one."""
  if group is processes.ALONE:
    return
  token = group.from_first(lambda: _mark(workdir))
  deadline = timing.clock() + SHARED_S
  # A network file system may show changes late.
  while not _is_marked(workdir, token) and timing.clock() < deadline:
    time.sleep(0.1)
  seen = group.exchange(_is_marked(workdir, token))
  if not all(seen):
    others = [i for i, s in enumerate(seen) if not s]
    error = errors.InputError(
      "--workdir",
      "a folder that all processes share",
      f"{workdir}, which is another one to processes {others} of {len(seen)}",
    )
    error.together = True
    raise error


def _mark(workdir: paths.Folder) -> str:
  """Returns a token that only the lock file of this start contains."""
  if paths.is_bucket(workdir):
    return bucket_lock.read_token(workdir)
  token = uuid.uuid4().hex
  (workdir / _LOCK).write_text(token, encoding="utf-8")
  return token


def _is_marked(workdir: paths.Folder, token: str) -> bool:
  try:
    return token in (workdir / _LOCK).read_text(encoding="utf-8")
  except FileNotFoundError:
    return False


def check_config(
  workdir: paths.Folder,
  config: Mapping[str, Any],
  find_defaults: config_utils.FindDefaults,
) -> None:
  """Compares `config` (as of `config_utils.to_dict`) with config.json.

  Args:
    workdir: of the run.
    config: of this start.
    find_defaults: see `config_utils.frozen_differences`.

  A run without a checkpoint and without results may change its config: nothing
  of it is kept.

  Raises:
    InputError: the workdir has a run of another config; shows the difference.
  """
  old = read_json(workdir / CONFIG)
  if not isinstance(old, dict | None):
    raise errors.InputError(
      workdir / CONFIG, "a JSON object", type(old).__name__, "move it away"
    )
  status = _read_object(workdir / STATUS) or {}
  is_done = status.get("state") == DONE or (workdir / RESULTS).exists()
  if old is None or not (is_done or _has_checkpoint(workdir)):
    return
  differences = config_utils.frozen_differences(old, config, find_defaults)
  if differences:
    raise errors.InputError(
      workdir / CONFIG,
      "the config of this start",
      f"other values: {'; '.join(differences)}",
      "give another --workdir, or the old values",
    )


def write_start(
  workdir: paths.Folder,
  config: Mapping[str, Any],
  environment: Mapping[str, Any],
) -> None:
  """Writes config and environment, keeping a list of all starts."""
  old = read_json(workdir / ENVIRONMENT) or {}
  starts = old.get("starts", [])
  starts.append(
    {key: environment[key] for key in ("started_at", "commit", "command")}
  )
  writers.write_json(workdir / CONFIG, config)
  writers.write_json(workdir / ENVIRONMENT, {**environment, "starts": starts})


def write_status(workdir: paths.Folder, state: str, **facts) -> None:
  """Writes status.json, which sweeps and restarts read.

  Args:
    workdir: the run's folder.
    state: RUNNING, DONE, FAILED, DIVERGED or PREEMPTED.
    **facts: JSON values, e.g. step and total_steps.
  """
  writers.write_json(workdir / STATUS, {"state": state, **facts})


def read_finished_results(
  workdir: paths.Folder, config_hash: str
) -> dict[str, Any] | None:
  """Returns the results if the run of this config is done, else None.

  None also where files are missing, empty or damaged, which is logged: the run
  resumes from its last checkpoint and writes them again.

  Raises:
    RunError: there is no checkpoint to write them from.
  """
  status = _read_object(workdir / STATUS) or {}
  if status.get("state") != DONE or status.get("config_hash") != config_hash:
    return None
  results = _read_object(workdir / RESULTS)
  damaged = _find_damaged(workdir, results)
  if damaged is None:
    return results
  if not _has_checkpoint(workdir):
    raise errors.RunError(
      f"{damaged} is missing or damaged, and the run has no checkpoint to write"
      " it from; restore it, or give another --workdir"
    )
  logging.warning("%s is missing or damaged", damaged)
  return None


def _find_damaged(
  workdir: paths.Folder, results: Mapping[str, Any] | None
) -> paths.Folder | None:
  """Returns a file of a finished run that is missing or damaged, or None."""
  config = _read_object(workdir / CONFIG) or {}
  evaluation = config.get("evaluation")
  sets = evaluation.get("sets") if isinstance(evaluation, dict) else None
  if isinstance(sets, dict):
    sets = [entry for entry in sets.values() if entry != ""]  # Not removed.
  if results is None or (sets and not results):
    return workdir / RESULTS
  for ending, folder in (
    ("/all/top1_accuracy", PREDICTIONS),
    ("/all/mse", RECONSTRUCTIONS),
  ):
    keys = [k.removesuffix(ending) for k in results if k.endswith(ending)]
    for key in keys:
      path = workdir / folder / f"{writers.make_file_key(key)}.npz"
      if not npz.is_whole(path):
        return path
  return None


def _has_checkpoint(workdir: paths.Folder) -> bool:
  """Returns whether a save is finished; its folder then has its final name."""
  return any(map(str.isdigit, paths.list_names(workdir / _CHECKPOINTS)))


def _read_object(path: paths.Folder) -> dict[str, Any] | None:
  """Returns a JSON object; None, and logged, if the file holds none."""
  try:
    found = read_json(path)
  except (errors.InputError, UnicodeDecodeError):
    found = ""
  if not isinstance(found, dict) and found is not None:
    logging.warning("%s is damaged: expected a JSON object", path)
  return found if isinstance(found, dict) else None
