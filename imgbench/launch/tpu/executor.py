"""Executor "tpu": runs the sweep on Cloud TPU slices.

Without --submit it prints the commands as a bash script; of a sweep in a bucket
those of all runs, whatever their state, as it asks no network. With --submit it
runs them: it requests slices as queued resources, sets them up, runs one unit
after another on each, requests preempted slices again and deletes all at the
end. A slice serves many units, so that waiting, installing and compiling happen
once. Runs survive a lost connection; their folders must be in a bucket or on a
file system that all VMs and this machine share.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import os
import pathlib
import re
import shlex
import shutil
import tempfile
import time
from typing import Any

from absl import flags
from absl import logging

from imgbench import errors
from imgbench import living
from imgbench import paths
from imgbench import run_files
from imgbench import timing
from imgbench import writers
from imgbench.launch import board
from imgbench.launch import locks
from imgbench.launch import units
from imgbench.launch.tpu import commands
from imgbench.launch.tpu import slices as tpu_slices

SLICES = "tpu.json"
_SLICES_FIELDS = {
  "project": str,
  "zone": str,
  "slices": Sequence[str],
  "launcher": Mapping[str, Any],
}
_GONE_FIX = (
  f"delete its slices with gcloud and remove {units.LAUNCH} in the folders of"
  " its runs, see docs/launch.md"
)
_SAVE_S = 600.0  # for a launcher to stop its runs and delete its slices


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines location, type and number of slices, and --submit."""
  text = functools.partial(flags.DEFINE_string, flag_values=flag_values)
  number = functools.partial(flags.DEFINE_integer, flag_values=flag_values)
  yes = functools.partial(flags.DEFINE_bool, flag_values=flag_values)
  yes("submit", False, "Run the commands instead of printing them.")
  text("project", None, "Google Cloud project.")
  text("zone", None, "Zone with TPUs, e.g. us-west4-a.")
  text("accelerator_type", "v5litepod-16", "Type of slices; 16: chips.")
  text(
    "runtime_version",
    "",
    "Software version of the VMs; default: the documented one for JAX.",
  )
  number("slices", 1, "Number of slices; each takes one run at a time.")
  yes("spot", False, "Cheaper slices that may be preempted; runs resume.")
  text("name_prefix", "imgbench", "Prefix of slice names.")
  text("service_account", "", "E-mail of the VMs' service account.")
  text(
    "data_bucket",
    "",
    "gs://BUCKET or a folder in it, mounted read-only at /mnt/data on the VMs:"
    " --config.data.data_dir=/mnt/data.",
  )
  text(
    "create_args",
    "",
    'More options of "gcloud compute tpus queued-resources create".',
  )
  number(
    "retries",
    2,
    "How often a run that ends without an error (killed, connection lost) is"
    " resumed from its last checkpoint.",
  )
  flags.DEFINE_float(
    "poll_s",
    30.0,
    "Seconds between two queries of a slice's state.",
    lower_bound=0.1,
    flag_values=flag_values,
  )


def check(sweep: units.Sweep, values: flags.FlagValues) -> None:
  """Raises InputError if a flag is missing or invalid, or gcloud is absent."""
  folder = os.fspath(sweep.sweep_dir)
  if not folder.startswith("gs://") and not os.path.isabs(folder):
    expected = (
      "gs://BUCKET/FOLDER or an absolute path that all VMs and this machine see"
    )
    raise errors.InputError("--sweep_dir", expected, folder)
  for name, low in (("slices", 1), ("retries", 0)):
    if values[name].value < low:
      given = values[name].value
      raise errors.InputError(f"--{name}", f"at least {low}", given)
  _read_spec(values)
  commands.name_slices(values.name_prefix, sweep, values.slices)
  commands.find_checkout(sweep.config.partition(":")[0])
  if values.submit and shutil.which("gcloud") is None:
    fix = "install the Google Cloud CLI, or omit --submit to see the commands"
    raise errors.InputError("--submit", "gcloud", "none", fix)


def _read_spec(values: flags.FlagValues) -> commands.SliceSpec:
  for name in ("project", "zone"):
    if not values[name].value:
      raise errors.InputError(f"--{name}", f"a {name} of Google Cloud", "none")
  data = values.data_bucket
  if data and not data.removeprefix("gs://").strip("/"):
    raise errors.InputError("--data_bucket", "gs://BUCKET", data)
  try:
    more = tuple(shlex.split(values.create_args))
  except ValueError as error:
    given = f"{values.create_args!r} ({error})"
    raise errors.InputError("--create_args", "shell words", given) from error
  version = values.runtime_version
  return commands.SliceSpec(
    project=values.project,
    zone=values.zone,
    accelerator_type=values.accelerator_type,
    runtime_version=version
    or commands.find_runtime_version(values.accelerator_type),
    spot=values.spot,
    service_account=values.service_account,
    data=data.removeprefix("gs://").strip("/"),
    create_args=more,
  )


def is_offline(sweep: units.Sweep, values: flags.FlagValues) -> bool:
  """Returns whether `run` only prints, and does not read the folder."""
  return not values.submit and paths.is_bucket(sweep.sweep_dir)


def run(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Prints or runs the commands; returns the exit code.

  Raises:
    InputError: the launcher of a run is on another machine.
    RunError: a slice could not be created or set up.
    Preempted: a signal came before all runs were done.
  """
  todo, record = list(sweep.units), ""
  if is_offline(sweep, values):
    record = writers.format_json(units.to_json(sweep))
  else:
    _check_here(sweep)
    todo = units.find_pending(sweep)
  if not todo:
    # Without --submit the output is a bash script.
    return board.print_table(sweep, prefix="" if values.submit else "# ")
  names = commands.name_slices(
    values.name_prefix, sweep, min(values.slices, len(todo))
  )
  file, _, options = sweep.config.partition(":")
  root, config = commands.find_checkout(file)
  there = f"{config}:{options}" if options else str(config)
  moved = dataclasses.replace(sweep, config=there)
  spec = _read_spec(values)
  if not values.submit:
    packing = commands.pack(root, config, commands.ARCHIVE)
    # Lets VMs tell a run from one of an earlier script.
    attempt = re.sub(r"\W", "", units.now())
    print(
      commands.format_script(
        spec, moved, todo, names, packing, attempt, record
      ),
      end="",
    )
    return errors.EXIT_DONE
  with tempfile.TemporaryDirectory() as folder:
    archive = str(pathlib.Path(folder, commands.ARCHIVE))
    packed = tpu_slices.run_command(commands.pack(root, config, archive))
    if packed.code:
      raise errors.RunError(f"tar: {packed.text.strip()}")
    return _submit(moved, spec, todo, names, archive, values)


def _check_here(sweep: units.Sweep) -> None:
  """Raises InputError for runs of another machine, which may be alive."""
  for unit in sweep.units:
    process = units.read_launch(unit).get("process")
    running = units.read_status(unit).state == units.RUNNING
    if running and process is not None:
      locks.check_here(unit.name, process, _GONE_FIX)


def _submit(sweep, spec, todo, names, archive: str, values) -> int:
  stop = tpu_slices.Stop()
  writers.write_json(
    sweep.sweep_dir / SLICES,
    {
      "project": spec.project,
      "zone": spec.zone,
      "slices": names,
      "launcher": living.describe_process(os.getpid()),
    },
  )
  slices = [
    tpu_slices.Slice(
      *(name, spec, sweep, archive, stop),
      retries=values.retries,
      poll_s=values.poll_s,
    )
    for name in names
  ]
  problems = tpu_slices.run(slices, tpu_slices.UnitQueue(todo), stop)
  code = board.print_table(sweep)
  if code == errors.EXIT_DONE:
    return code
  if problems:
    raise errors.RunError("; ".join(problems))
  if stop.requested:
    raise errors.Preempted("stopped; the same command resumes")
  return code


def status(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Prints the table and the slices; returns the exit code.

  Raises:
    RunError: Google Cloud does not return the state of a slice.
  """
  del values
  code = board.print_table(sweep)
  known = _read_slices(sweep)
  if known and shutil.which("gcloud"):
    for name in known["slices"]:
      state = tpu_slices.read_state(_rebuild_spec(known), name)
      print(f"{name}: {state or 'not found'}")
  return code


def cancel(sweep: units.Sweep, values: flags.FlagValues) -> int:
  """Stops the launcher, or what it left: runs save, slices are deleted.

  Raises:
    InputError: the launcher is on another machine, or there is no gcloud.
    RunError: it does not end, or a slice cannot be deleted.
  """
  del values
  known = _read_slices(sweep)
  if known is None:
    print("nothing was submitted")
    return errors.EXIT_DONE
  if shutil.which("gcloud") is None:
    fix = "cancel from a machine that has it"
    raise errors.InputError("cancel", "gcloud", "none", fix)
  _stop_launcher(sweep, known["launcher"])
  spec = _rebuild_spec(known)
  for name in known["slices"]:
    stopped = tpu_slices.run_command(spec.stop(name))
    if stopped.code:
      logging.info("%s: nothing to stop", name)
    tpu_slices.run_or_raise(spec.delete(name), f"{name}: delete", unknown=True)
  for unit in sweep.units:
    # Another executor may take it.
    if units.read_launch(unit).get("job") in known["slices"]:
      units.record(unit, job="")
  print(f"{len(known['slices'])} slices were deleted")
  return errors.EXIT_DONE


def _read_slices(sweep: units.Sweep) -> dict[str, Any] | None:
  """Returns what `_submit` wrote, None without it. Raises InputError."""
  path = sweep.sweep_dir / SLICES
  known = run_files.read_object(path, _SLICES_FIELDS, tuple(_SLICES_FIELDS))
  if known is not None:
    locks.check_process(f"{path}: launcher", known["launcher"])
    for name in known["slices"]:
      commands.check_name(f"{path}: slices", name)
  return known


def _rebuild_spec(known: Mapping[str, Any]) -> commands.SliceSpec:
  return commands.SliceSpec(known["project"], known["zone"], "", "")


def _stop_launcher(sweep: units.Sweep, process: Mapping[str, Any]) -> None:
  """Stops the launcher of the slices, if it is alive, and waits for it."""
  if not locks.is_alive(process):
    return
  locks.check_here("cancel", process, _GONE_FIX)
  file = sweep.sweep_dir / SLICES
  locks.check_command(file, process, "sweep_dir", sweep.sweep_dir)
  locks.stop(process)
  deadline = timing.clock() + _SAVE_S
  while locks.is_alive(process):
    if timing.clock() > deadline:
      raise errors.RunError(f"process {process['pid']} did not end in time")
    time.sleep(0.2)
