"""Batch scripts of the executor "slurm": one array task for each run.

They do not use submitit: a run is a resumable command, so there is no function
to pickle, and a plain script can be read and submitted by hand.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import re
import shlex
from typing import Any

from imgbench import errors
from imgbench import texts
from imgbench.launch import units

NOTES = "slurm.txt"  # in a run's folder: starts and ends of its attempts
HEADLINE = "== job "  # of an attempt in a run's log
FOLDER = "slurm"  # in the sweep's folder: scripts and their own output

# Options that this module sets, or that change what sbatch does.
_OWN = (
  *("array", "chdir", "cpus-per-task", "gpus-per-node", "job-name", "nodes"),
  *("ntasks", "ntasks-per-node", "open-mode", "output", "error", "parsable"),
  *("requeue", "no-requeue", "signal", "test-only", "time", "wait", "wrap"),
  *("account", "partition"),
)
_SIGNAL = re.compile(r"(?:TERM|INT)@([0-9]{1,5})")
_TIME = re.compile(
  r"(?:(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?"
  r"|(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+)|(?P<only>\d+))"
)
# SLURM checks the clock now and then; a signal may come this much earlier.
_EARLIER_S = 60

# $job names the task: for one of the tasks, the job id alone is that of the
# whole array.
_BODY = """
job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
note() {
  echo "$(date -u +%Y-%m-%dT%H:%M:%S.%3N+00:00) $job $*" >>"$workdir/@NOTES@"
}
# SLURM signals the script itself only if SLURM ends the job: cancelled,
# preempted or out of time. Then SLURM decides whether to requeue it.
ended=no
trap 'ended=yes' TERM

note start "$SLURM_JOB_NODELIST"
where="on $SLURM_JOB_NODELIST, restart ${SLURM_RESTART_COUNT:-0}"
echo "@HEADLINE@$job $where" >>"$workdir/@LOG@"
srun @SRUN@"${command[@]}" >>"$workdir/@LOG@" 2>&1
code=$?
note end "$code"
"""
_REQUEUE = """\
# Stopped by the signal: it has saved (75) or had nothing to save yet (143).
if [ "$ended" = no ] && { [ "$code" = 75 ] || [ "$code" = 143 ]; }; then
  scontrol requeue "$job"
fi
"""


@dataclasses.dataclass(frozen=True)
class Resources:
  """SLURM resources of each run; None and "": SLURM's default.

  Attributes:
    nodes: of each run.
    ntasks_per_node: processes of a run on each of its nodes.
    gpus_per_node: 0: none are requested.
    cpus_per_task: CPU cores of each process.
    time: limit in the format of sbatch.
    partition: one or several, comma-separated.
    account: the account to charge.
    requeue: stopped runs return to the queue.
    signal: NAME@SECONDS, sent to a run so long before the limit.
    jobs: concurrent runs.
    sbatch_args: more options of sbatch.
  """

  nodes: int = 1
  ntasks_per_node: int = 1
  gpus_per_node: int = 0
  cpus_per_task: int | None = None
  time: str = ""
  partition: str = ""
  account: str = ""
  requeue: bool = True
  signal: str = "TERM@120"
  jobs: int | None = None
  sbatch_args: tuple[str, ...] = ()


def read_resources(values: Any) -> Resources:
  """Returns the resources that the flags request.

  Args:
    values: has the attributes of `Resources`, but `ntasks_per_node` may be None
      and `sbatch_args` is one string.

  Raises:
    InputError: a flag has an invalid value.
  """
  tasks = values.ntasks_per_node
  if tasks is None:
    tasks = values.gpus_per_node if values.nodes > 1 else 1
  try:
    more = tuple(shlex.split(values.sbatch_args))
  except ValueError as error:
    given = f"{values.sbatch_args!r} ({error})"
    raise errors.InputError("--sbatch_args", "shell words", given) from error
  for name in ("partition", "account", "sbatch_args"):
    check_line(f"--{name}", getattr(values, name))
  names = [field.name for field in dataclasses.fields(Resources)]
  given = {name: getattr(values, name) for name in names}
  spec = Resources(
    **{**given, "ntasks_per_node": max(tasks, 1), "sbatch_args": more}
  )
  for name in ("nodes", "ntasks_per_node", "cpus_per_task", "jobs"):
    if given[name] is not None and given[name] < 1:
      raise errors.InputError(f"--{name}", "at least 1", given[name])
  _check_gpus(spec)
  _check_time(spec)
  _check_sbatch_args(spec.sbatch_args)
  return spec


def check_line(setting: str, text: str) -> None:
  """Raises InputError for a text that sbatch would not read as one line."""
  if texts.printable(text) != text:
    expected = "a text without control characters"
    raise errors.InputError(setting, expected, repr(text))


def _check_gpus(spec: Resources) -> None:
  if spec.gpus_per_node < 0:
    raise errors.InputError("--gpus_per_node", "at least 0", spec.gpus_per_node)
  if not spec.gpus_per_node or spec.nodes * spec.ntasks_per_node == 1:
    return
  # JAX gives each of several processes the GPU of its local rank.
  if spec.ntasks_per_node != spec.gpus_per_node:
    raise errors.InputError(
      "--ntasks_per_node",
      f"{spec.gpus_per_node} (on SLURM, JAX gives each process one GPU)",
      spec.ntasks_per_node,
      "for one process with all GPUs of a node: --nodes=1 --ntasks_per_node=1",
    )


def _check_time(spec: Resources) -> None:
  match = _SIGNAL.fullmatch(spec.signal)
  if spec.signal and not match:
    expected = "TERM@SECONDS, INT@SECONDS or nothing"
    raise errors.InputError("--signal", expected, spec.signal)
  if not spec.time:
    return
  limit_s = parse_seconds(spec.time)
  needed_s = int(match[1]) + _EARLIER_S if match else 0
  if limit_s is not None and limit_s <= needed_s:
    expected = f"more than {needed_s} s, which --signal={spec.signal} needs"
    raise errors.InputError("--time", expected, spec.time)


def parse_seconds(limit: str) -> int | None:
  """Returns the seconds of a time limit of sbatch; None: no limit.

  Args:
    limit: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
      days-hours:minutes, days-hours:minutes:seconds, UNLIMITED or INFINITE.

  Raises:
    InputError: it has another form.
  """
  if limit.upper() in ("UNLIMITED", "INFINITE"):
    return None
  match = _TIME.fullmatch(limit)
  if not match:
    expected = "minutes, hours:minutes:seconds or days-hours:minutes:seconds"
    raise errors.InputError("--time", expected, limit)
  part = {name: int(text or 0) for name, text in match.groupdict().items()}
  hours = 24 * part["days"] + part["hours"] + part["h"]
  minutes = part["minutes"] + part["m"] + part["only"]
  return 3600 * hours + 60 * minutes + part["seconds"] + part["s"]


def _check_sbatch_args(arguments: Sequence[str]) -> None:
  for argument in arguments:
    name = argument.removeprefix("--").partition("=")[0]
    if not re.fullmatch(r"--[a-z][a-z-]*(=.+)?", argument):
      expected = "options such as --qos=low"
      raise errors.InputError("--sbatch_args", expected, repr(argument))
    if name in _OWN:
      expected = "options that imgbench.launch does not set or have as flags"
      raise errors.InputError("--sbatch_args", expected, argument)


def format_script(
  sweep: units.Sweep,
  chosen: Sequence[units.Unit],
  spec: Resources,
  cwd: str,
) -> str:
  """Returns a batch script whose task i runs the i-th unit.

  Args:
    sweep: the sweep.
    chosen: its units to run.
    spec: resources of each run.
    cwd: working directory of the runs.
  """
  body = _BODY.replace("@NOTES@", NOTES).replace("@LOG@", units.LOG)
  body = body.replace("@HEADLINE@", HEADLINE)
  # Since SLURM 22.05, srun no longer inherits this option from the job.
  cpus = f"--cpus-per-task={spec.cpus_per_task} " if spec.cpus_per_task else ""
  parts = [
    "#!/bin/bash",
    f"# Runs of imgbench: {len(chosen)}, each a task of the array.",
    *(
      f"#SBATCH {line}"
      for line in format_options(sweep, len(chosen), spec, cwd)
    ),
    "",
    "case $SLURM_ARRAY_TASK_ID in",
    *(_format_case(i, sweep, unit) for i, unit in enumerate(chosen)),
    "esac",
    body.replace("@SRUN@", cpus) + (_REQUEUE if spec.requeue else "") + "exit",
  ]
  return "\n".join(parts) + ' "$code"\n'


def format_options(
  sweep: units.Sweep, count: int, spec: Resources, cwd: str
) -> list[str]:
  """Returns the sbatch options of a script.

  Args:
    sweep: the output goes to its folder.
    count: number of tasks.
    spec: resources of each task.
    cwd: working directory of the runs.
  """
  at_once = f"%{spec.jobs}" if spec.jobs else ""
  folder = os.path.join(os.path.abspath(sweep.sweep_dir), FOLDER)
  # % begins a pattern, %% is a percent sign.
  output = f"{folder.replace('%', '%%')}/%A_%a.txt"
  given: Mapping[str, Any] = {
    "job-name": name_job(sweep),
    "array": f"0-{count - 1}{at_once}",
    "nodes": spec.nodes,
    "ntasks-per-node": spec.ntasks_per_node,
    "gpus-per-node": spec.gpus_per_node,
    "cpus-per-task": spec.cpus_per_task,
    "time": spec.time,
    "partition": spec.partition,
    "account": spec.account,
    "signal": spec.signal,
    "chdir": cwd,
    "output": output,
    "open-mode": "append",
  }
  lines = [f"--{k}={_quote(str(v))}" for k, v in given.items() if v]
  lines.append("--requeue" if spec.requeue else "--no-requeue")
  return lines + [_quote(argument) for argument in spec.sbatch_args]


def _quote(argument: str) -> str:
  """Quotes an argument for a script, where sbatch takes # for a comment."""
  if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]*", argument):
    return argument
  return '"' + argument.replace("\\", "\\\\").replace('"', '\\"') + '"'


def name_job(sweep: units.Sweep) -> str:
  """Returns the name of a sweep's jobs, which squeue filters by."""
  folder = os.path.basename(os.path.abspath(sweep.sweep_dir))
  return f"imgbench.{re.sub(r'[^A-Za-z0-9._-]', '_', folder)}"


def _format_case(index: int, sweep: units.Sweep, unit: units.Unit) -> str:
  workdir = os.path.abspath(unit.workdir)
  return "\n".join(
    (
      f"{index})",
      f"  workdir={shlex.quote(workdir)}",
      f"  command=({shlex.join(sweep.command(unit))})",
      "  ;;",
    )
  )
