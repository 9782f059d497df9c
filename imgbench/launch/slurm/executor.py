"""Executor "slurm": runs the sweep as jobs of a SLURM cluster.

Unfinished runs are submitted as a job array, and the launcher ends. A run may
use several nodes and processes, which find each other. A run that is stopped,
near its time limit or to make room, saves and returns to the queue. `status`
queries the scheduler, `cancel` cancels the jobs; the same command submits only
runs that are neither done nor in the queue.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import os
import pathlib
import re
import shutil
import subprocess
import time

from absl import flags

from imgbench import errors
from imgbench import writers
from imgbench.launch import board
from imgbench.launch import locks
from imgbench.launch import units
from imgbench.launch.slurm import script

_TOOLS = ("sbatch", "squeue", "scontrol", "scancel")
_POLL_S = 5.0
_ASK_S = 60.0  # a busy controller may be slow
_MAX_ARRAY = 1001  # SLURM's default
_MANY = 100  # jobs in a command line
_LOG_BYTES = 65536
# States of jobs that wait in the queue.
_QUEUED = (
  *("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"),
  "SPECIAL_EXIT",
)
_OPEN = (units.WAITING, units.RUNNING, units.PREEMPTED)
_CODE = re.compile(r"[0-9]{1,3}")
_STOPPED = ("CANCELLED", "PREEMPTED", "REVOKED")


@dataclasses.dataclass(frozen=True)
class QueuedTask:
  """A task of a job array in the scheduler's queue.

  Attributes:
    state: SLURM's name, e.g. "PENDING".
    reason: why it waits, in SLURM's words, or "None".
  """

  state: str
  reason: str


@dataclasses.dataclass(frozen=True)
class Note:
  """A line that the batch script wrote in the folder of a run.

  Attributes:
    time: as of `units.now`.
    job: task of an array, e.g. "12_3".
    event: "start" or "end".
    text: the nodes, or the exit code of srun.
  """

  time: str
  job: str
  event: str
  text: str


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the resources of each run, named as in sbatch, and --jobs."""
  text = functools.partial(flags.DEFINE_string, flag_values=flag_values)
  number = functools.partial(flags.DEFINE_integer, flag_values=flag_values)
  number("nodes", 1, "Nodes of each run.")
  number(
    "ntasks_per_node",
    None,
    "Processes of a run on each node; default: 1, or one for each GPU if a run"
    " has several nodes.",
  )
  number("gpus_per_node", 0, "GPUs of a run on each node.")
  number(
    "cpus_per_task",
    None,
    "CPU cores of each process; default: the cluster's, often 1, too few to"
    " decode images.",
  )
  text("time", "", "Time limit of an attempt, e.g. 8:00:00; default: SLURM's.")
  text("partition", "", "Comma-separated partitions; default: SLURM's.")
  text("account", "", "Account to charge; default: yours.")
  flags.DEFINE_bool(
    "requeue",
    True,
    "Requeue runs that are stopped, by the time limit or to make room for"
    " others; they resume from where they saved.",
    flag_values=flag_values,
  )
  text(
    "signal",
    "TERM@120",
    "Signal for a run to save, and how many seconds before the time limit.",
  )
  number("jobs", None, "Concurrent runs; default: as many as fit.")
  text("sbatch_args", "", 'More options of sbatch: "--qos=low --mem=64G".')


def check(sweep: units.Sweep, values: flags.FlagValues) -> None:
  """Raises InputError if SLURM is absent or the flags do not fit."""
  missing = [name for name in _TOOLS if shutil.which(name) is None]
  if missing:
    raise errors.InputError(
      "--executor=slurm",
      "the commands of SLURM",
      f"no {', '.join(missing)}",
      "run this on a login node of a cluster, or use --executor=local",
    )
  if "://" in os.fspath(sweep.sweep_dir):
    expected = "a folder that all nodes of the cluster share, not a bucket"
    raise errors.InputError("--sweep_dir", expected, sweep.sweep_dir)
  for setting, folder in (
    ("--sweep_dir", os.path.abspath(sweep.sweep_dir)),
    ("working directory", os.getcwd()),
  ):
    script.check_line(setting, folder)
  script.read_resources(values)


def run(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Submits units that are neither done nor in the queue; returns 0.

  Raises:
    RunError: the scheduler does not answer or rejects the jobs.
  """
  queue = _refresh(sweep)
  todo = [
    unit for unit in units.find_pending(sweep) if _read_job(unit) not in queue
  ]
  spec = script.read_resources(values)
  most = _read_max_array() if todo else 1
  for first in range(0, len(todo), most):
    _submit(sweep, todo[first : first + most], spec)
  board.print_table(sweep)
  print(
    f"{len(todo)} runs were submitted; for their status: python -m"
    f" imgbench.launch status --sweep_dir={sweep.sweep_dir}"
  )
  return errors.EXIT_DONE


def preview(sweep: units.Sweep, values: flags.FlagValues) -> None:
  """Prints the batch script of unfinished units; needs no SLURM."""
  spec = script.read_resources(values)
  todo = units.find_pending(sweep)
  if todo:
    print(script.format_script(sweep, todo, spec, os.getcwd()), end="")


def wait(sweep: units.Sweep) -> None:
  """Returns when no run is in the queue; Ctrl-C cancels the runs."""
  try:
    while queue := _refresh(sweep):
      time.sleep(_POLL_S)
  except KeyboardInterrupt:
    _ask("scancel", *queue)
    raise


def status(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Prints the table; returns the exit code."""
  del values
  with locks.locked(sweep.sweep_dir):
    _refresh(sweep)
  return board.print_table(sweep)


def cancel(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Cancels all jobs and prints the table; returns 0.

  Running jobs save first; SLURM gives them KillWait seconds.
  """
  with locks.locked(sweep.sweep_dir):
    queue = _refresh(sweep)
    jobs = [job for unit in sweep.units if (job := _read_job(unit)) in queue]
    for first in range(0, len(jobs), _MANY):
      _ask("scancel", *jobs[first : first + _MANY])
  print(f"{len(jobs)} jobs were cancelled; running ones save and end")
  status(sweep, values)
  return errors.EXIT_DONE


def _submit(
  sweep: units.Sweep,
  chosen: Sequence[units.Unit],
  spec: script.Resources,
) -> None:
  """Writes a script, submits it and records the jobs."""
  folder = pathlib.Path(os.path.abspath(sweep.sweep_dir), script.FOLDER)
  folder.mkdir(exist_ok=True)
  path = folder / f"{_next_number(folder):03d}.sh"
  writers.write_atomically(
    path, script.format_script(sweep, chosen, spec, os.getcwd())
  )
  for unit in chosen:
    unit.workdir.mkdir(parents=True, exist_ok=True)
  array = _ask("sbatch", "--parsable", str(path)).strip().partition(";")[0]
  for index, unit in enumerate(chosen):
    before = units.read_status(unit).attempts - len(
      _select_starts(read_notes(unit))
    )
    units.record(
      unit,
      state=units.PREEMPTED if _has_begun(unit) else units.WAITING,
      message="in the queue",
      job=f"{array}_{index}",
      process=None,  # may be left from another executor
      other_attempts=max(before, 0),
    )


def _next_number(folder: pathlib.Path) -> int:
  return 1 + max((int(p.stem) for p in folder.glob("[0-9]*.sh")), default=0)


def _has_begun(unit: units.Unit) -> bool:
  return units.read_status(unit).step > 0


def _read_job(unit: units.Unit) -> str:
  return units.read_launch(unit).get("job", "")


def _read_max_array() -> int:
  """Returns the most tasks that the cluster allows in an array."""
  found = re.search(
    r"^MaxArraySize\s*=\s*([0-9]+)", _ask("scontrol", "show", "config"), re.M
  )
  return max(int(found[1]), 1) if found else _MAX_ARRAY


def _refresh(sweep: units.Sweep) -> Mapping[str, QueuedTask]:
  """Updates each launch.json; returns the queue."""
  queue = read_queue(
    _ask(
      *("squeue", "--noheader", "--array", "--format=%i|%T|%r"),
      f"--name={script.name_job(sweep)}",
    )
  )
  for unit in sweep.units:
    facts = units.read_launch(unit)
    job = facts.get("job", "")
    if job in queue:
      units.record(unit, **_queued_facts(unit, facts, queue[job]))
    elif job and facts.get("state") in _OPEN:
      _record_end(unit, facts)
  return queue


def read_queue(text: str) -> dict[str, QueuedTask]:
  """Returns the jobs in the output of `squeue --format='%i|%T|%r'`, by id."""
  rows = [line.strip().split("|", 2) for line in text.splitlines() if line]
  return {row[0]: QueuedTask(*row[1:]) for row in rows if len(row) == 3}


def read_notes(unit: units.Unit) -> list[Note]:
  """Returns the notes of the batch scripts on a run."""
  try:
    text = (unit.workdir / script.NOTES).read_bytes().decode(errors="replace")
  except FileNotFoundError:
    return []
  rows = [line.split(" ", 3) for line in text.splitlines()]
  return [Note(*row) for row in rows if len(row) == 4 and _is_note(*row)]


def _is_note(time: str, job: str, event: str, text: str) -> bool:
  """Returns whether a line is one of the script: others may write, too."""
  del job
  return units.is_time(time) and (event != "end" or bool(_CODE.fullmatch(text)))


def _select_starts(notes: Iterable[Note]) -> list[Note]:
  return [note for note in notes if note.event == "start"]


def _attempt_facts(unit: units.Unit, facts: Mapping) -> dict:
  """Returns the number of starts and the time of the last, from the notes."""
  starts = _select_starts(read_notes(unit))
  known = {"attempts": facts.get("other_attempts", 0) + len(starts)}
  return {**known, **({"started_at": starts[-1].time} if starts else {})}


def _queued_facts(unit: units.Unit, facts: Mapping, job: QueuedTask) -> dict:
  """Returns the facts of a job that is in the queue, running or not."""
  known = _attempt_facts(unit, facts)
  if job.state in _QUEUED:
    state = units.PREEMPTED if _has_begun(unit) else units.WAITING
    return {**known, "state": state, "message": f"in the queue: {job.reason}"}
  message = "" if job.state == "RUNNING" else job.state.lower()
  started = {"ended_at": "", "exit_code": None}
  return {**known, **started, "state": units.RUNNING, "message": message}


def _record_end(unit: units.Unit, facts: Mapping) -> None:
  """Records the end of a job that has left the queue."""
  notes = [n for n in read_notes(unit) if n.job == facts["job"]]
  known = _attempt_facts(unit, facts)
  if notes and notes[-1].event == "end":
    code = int(notes[-1].text)
    # A shell adds 128 to a signal's number.
    code = 128 - code if code > 128 else code
    message = units.describe_failure(code, _read_log(unit))
    state = units.record_end(unit, code, message)
    known["ended_at"] = notes[-1].time
  else:
    state, message = _infer_end(unit, facts["job"], bool(notes))
    known |= dict(state=state, message=message, exit_code=None)
    known["ended_at"] = units.now() if notes else ""
  if state in _OPEN:
    known["job"] = ""  # It waits for the next submission.
  units.record(unit, **known)


def _infer_end(unit: units.Unit, job: str, begun: bool) -> tuple[str, str]:
  """Returns state and message if the script could not note the end."""
  state = _ask_final_state(job)
  # The controller forgets a task that is cancelled before it begins.
  if state in _STOPPED or not (state or begun):
    waits = units.PREEMPTED if begun or _has_begun(unit) else units.WAITING
    return waits, f"SLURM: {state.lower() or 'cancelled before it began'}"
  known = state.lower() if state else "no longer knows the job"
  return units.FAILED, f"SLURM: {known}"


def _ask_final_state(job: str) -> str:
  """Returns SLURM's state; "" if controller and accounting do not know it."""
  try:
    text = _ask("scontrol", "--oneliner", "show", "job", job)
    found = re.search(r"\bJobState=([A-Z_]+)", text)
  except errors.RunError:
    found = None
  if not found and shutil.which("sacct"):
    try:
      text = _ask(
        *("sacct", "--noheader", "--allocations", "--parsable2"),
        *("--format=State", f"--jobs={job}"),
      )
      found = re.search(r"^([A-Z_]+)", text, re.M)
    except errors.RunError:
      found = None  # There is no accounting.
  return found[1] if found else ""


def _read_log(unit: units.Unit) -> str:
  """Returns the end of the log of the last attempt."""
  path = pathlib.Path(os.fspath(unit.workdir), units.LOG)
  try:
    with path.open("rb") as file:
      file.seek(max(0, path.stat().st_size - _LOG_BYTES))
      log = file.read().decode(errors="replace")
  except FileNotFoundError:
    return ""
  return log.rpartition(script.HEADLINE)[2]


def _ask(*command: str) -> str:
  """Returns the output of a SLURM command.

  Raises:
    RunError: it fails or does not end in time.
  """
  try:
    done = subprocess.run(
      command,
      capture_output=True,
      text=True,
      check=False,
      timeout=_ASK_S,
      encoding="utf-8",
    )
  except subprocess.TimeoutExpired as error:
    raise errors.RunError(
      f"{command[0]} did not answer within {_ASK_S:g} s"
    ) from error
  if done.returncode:
    reported = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
    raise errors.RunError(f"{command[0]}: {reported}")
  return done.stdout
