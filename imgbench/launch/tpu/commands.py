"""Commands that create TPU slices, run units on them and delete them.

Sources: `gcloud COMMAND --help` of Google Cloud SDK 528.0.0 (a test checks
every flag against it) and the pages "Manage queued resources", "TPU software
versions" and "Run JAX code on TPU slices" of docs.cloud.google.com/tpu.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import os
import pathlib
import re
import shlex

from imgbench import errors
from imgbench import registry
from imgbench.launch import units

CODE = "imgbench-code"  # folder in the home of a TPU VM
ARCHIVE = f"{CODE}.tar.gz"
# Not moved into launch/tpu: slices that are set up use this path.
WORKER = "imgbench/launch/tpu_worker.sh"
# The parts of a checkout that are copied.
_PARTS = ("imgbench", "configs", "requirements", "setup.py", "README.md")
_RUNTIMES = {
  "v2": "tpu-ubuntu2204-base",
  "v3": "tpu-ubuntu2204-base",
  "v4": "tpu-ubuntu2204-base",
  "v5litepod": "v2-alpha-tpuv5-lite",
  "v5p": "v2-alpha-tpuv5",
  "v6e": "v2-alpha-tpuv6e",
}
_ALIVE = "-o ServerAliveInterval=30"
_TPUS = ("gcloud", "compute", "tpus")
_NAME = re.compile(r"[a-z][a-z0-9-]*")

Argv = list[str]


@dataclasses.dataclass(frozen=True)
class SliceSpec:
  """Location and type of slices; its methods return commands on one of them.

  Attributes:
    project: Google Cloud project.
    zone: e.g. "us-west4-a".
    accelerator_type: e.g. "v5litepod-16", 16 chips.
    runtime_version: software version of the VMs.
    spot: cheaper VMs that may be preempted.
    service_account: e-mail of the VMs' service account; "": the default.
    data: BUCKET or BUCKET/FOLDER to mount; "": none.
    create_args: more options of `queued-resources create`.
  """

  project: str
  zone: str
  accelerator_type: str
  runtime_version: str
  spot: bool = False
  service_account: str = ""
  data: str = ""
  create_args: tuple[str, ...] = ()

  def _where(self) -> Argv:
    return [f"--project={self.project}", f"--zone={self.zone}"]

  def _queued(self, verb: str, name: str) -> Argv:
    return [*_TPUS, "queued-resources", verb, name, *self._where()]

  def create(self, name: str) -> Argv:
    """Requests a slice, which is created when there is capacity."""
    command = [
      *self._queued("create", name),
      f"--node-id={name}",
      f"--accelerator-type={self.accelerator_type}",
      f"--runtime-version={self.runtime_version}",
    ]
    if self.spot:
      command.append("--spot")
    if self.service_account:
      command.append(f"--service-account={self.service_account}")
    return [*command, *self.create_args]

  def state(self, name: str) -> Argv:
    """Prints the state of a request: ACTIVE, FAILED, ..."""
    return [*self._queued("describe", name), "--format=value(state.state)"]

  def node_state(self, name: str) -> Argv:
    """Prints the state of the VMs: READY, PREEMPTED, ..."""
    verb = [*_TPUS, "tpu-vm", "describe", name]
    return [*verb, *self._where(), "--format=value(state)"]

  def delete(self, name: str) -> Argv:
    """Deletes a slice or its request."""
    return [*self._queued("delete", name), "--force", "--quiet"]

  def copy(self, archive: str, name: str) -> Argv:
    """Copies a file to the home folder on all VMs of a slice."""
    command = [*_TPUS, "tpu-vm", "scp", archive, f"{name}:", "--worker=all"]
    return [*command, *self._where()]

  def ssh(self, name: str, text: str) -> Argv:
    """Runs a shell command on all VMs of a slice at once.

    The exit code is 0 if all succeed, else that of the first failure. A dead VM
    is noticed in a minute or two.
    """
    command = [*_TPUS, "tpu-vm", "ssh", name, "--worker=all", *self._where()]
    return [*command, f"--ssh-flag={_ALIVE}", f"--command={text}"]

  def setup(self, name: str) -> Argv:
    """Unpacks the code on all VMs, installs it and mounts the data."""
    worker = f"{CODE}/{WORKER}"
    steps = [
      f"if test -e {worker}; then bash {worker} stop; fi",
      f"rm -rf {CODE}/imgbench {CODE}/configs",
      f"mkdir -p {CODE}",
      f"tar -xzf {ARCHIVE} -C {CODE}",
      shlex.join(["bash", worker, "setup", *filter(None, [self.data])]),
    ]
    return self.ssh(name, " && ".join(steps))

  def run(
    self, name: str, sweep: units.Sweep, unit: units.Unit, attempt: int | str
  ) -> Argv:
    """Runs a unit on all VMs of a slice."""
    command = sweep.command(unit, python=".venv/bin/python")
    worker = ["bash", f"{CODE}/{WORKER}", "run", name_run(unit, attempt)]
    return self.ssh(name, shlex.join([*worker, *command]))

  def stop(self, name: str) -> Argv:
    """Lets the run on a slice save and end."""
    return self.ssh(name, f"bash {CODE}/{WORKER} stop")


def find_runtime_version(accelerator_type: str) -> str:
  """Returns the documented software version for JAX on a TPU.

  Raises:
    InputError: an unknown type.
  """
  generation, dash, size = accelerator_type.rpartition("-")
  if not dash or not size.isdigit() or generation not in _RUNTIMES:
    near = registry.near_names(generation, _RUNTIMES)
    expected = "a known type, e.g. v5litepod-16"
    fix = f"newer types need --runtime_version; {near}"
    raise errors.InputError(
      "--accelerator_type", expected, accelerator_type, fix
    )
  return _RUNTIMES[generation]


def name_slices(prefix: str, sweep: units.Sweep, count: int) -> list[str]:
  """Returns names of slices, always the same for a sweep.

  Raises:
    InputError: the prefix is invalid in Google Cloud.
  """
  check_name("--name_prefix", prefix, 31)
  text = os.fspath(sweep.sweep_dir)
  digest = hashlib.sha256(text.encode()).hexdigest()[:6]
  return [f"{prefix}-{digest}-{i}" for i in range(count)]


def check_name(setting: str, name: str, most: int = 63) -> None:
  """Raises InputError unless Google Cloud accepts a name of a slice."""
  if len(name) > most or not _NAME.fullmatch(name):
    expected = (
      f"1 to {most} lowercase letters, digits and hyphens, the first a letter"
    )
    raise errors.InputError(setting, expected, name)


def name_run(unit: units.Unit, attempt: int | str) -> str:
  """Returns the name of an attempt at a unit on a VM."""
  digest = hashlib.sha256(unit.name.encode()).hexdigest()[:12]
  return f"{digest}.{attempt}"


def find_checkout(config: str) -> tuple[pathlib.Path, pathlib.Path]:
  """Returns the checkout and the relative path of a config file in it.

  Args:
    config: the file, without options.

  Raises:
    InputError: imgbench is not in a checkout, or the config is outside it.
  """
  root = pathlib.Path(__file__).resolve().parents[3]
  if not (root / "setup.py").is_file():
    expected = "imgbench installed from a checkout, to copy it to the VMs"
    raise errors.InputError("--executor=tpu", expected, root)
  path = pathlib.Path(config).resolve()
  if not path.is_relative_to(root):
    expected = f"a file in {root}, which is copied to the VMs"
    raise errors.InputError("--config", expected, config)
  return root, path.relative_to(root)


def pack(root: pathlib.Path, config: pathlib.Path, archive: str) -> Argv:
  """Returns the command that packs the files of a checkout for the VMs.

  Args:
    root: the checkout.
    config: the config file, relative to it.
    archive: the file to write.
  """
  parts = list(dict.fromkeys([*_PARTS, config.parts[0]]))
  left_out = ["--exclude=__pycache__", "--exclude=*.so"]
  return ["tar", "-czf", archive, *left_out, "-C", str(root), *parts]


def format_script(
  spec: SliceSpec,
  sweep: units.Sweep,
  todo: Sequence[units.Unit],
  names: Sequence[str],
  packing: Argv,
  attempt: str,
  record: str = "",
) -> str:
  """Returns all commands as a bash script.

  Slices work in parallel, each on its share of the units, one after another.

  Args:
    spec: location and type of the slices.
    sweep: the sweep.
    todo: its units to run.
    names: of the slices.
    packing: as of `pack`.
    attempt: name of the attempt at all units; a new one each time.
    record: contents of sweep.json for the bucket, which `status` and the table
      read; "": it is written already.
  """
  lines = ["#!/bin/bash", f"# {len(todo)} runs on {len(names)} slices.", ""]
  if record:
    file = os.fspath(sweep.sweep_dir / units.SWEEP)
    copy = ["gcloud", "storage", "cp", "--no-clobber", "-", file]
    lines += [f"{shlex.join(copy)} <<'END'", record.rstrip("\n"), "END", ""]
  lines += ["# The code, for all slices.", f"{shlex.join(packing)} || exit 1"]
  for i, name in enumerate(names):
    lines += ["", f"# Slice {name}.", "("]
    lines += [
      f"  {line}"
      for line in _format_slice(
        spec, sweep, todo[i :: len(names)], name, attempt
      )
    ]
    lines.append(") &")
  return "\n".join([*lines, "wait", ""])


def _format_slice(spec, sweep, todo, name: str, attempt: str) -> list[str]:
  lines = [
    f"{shlex.join(spec.create(name))} || exit 1",
    f"until state=$({shlex.join(spec.state(name))}) &&",
    '    [ "$state" = ACTIVE ]; do',
    '  case "$state" in FAILED | SUSPENDED) break ;; esac',
    "  sleep 30",
    "done",
    f"{shlex.join(spec.copy(ARCHIVE, name))} &&",
    f"{shlex.join(spec.setup(name))} &&",
    "{",
  ]
  for unit in todo:
    command = spec.run(name, sweep, unit, attempt)
    lines += [f"  # {unit.name}", f"  {shlex.join(command)}"]
  return [*lines, "}", shlex.join(spec.delete(name))]
