"""Measures two checkouts of the code side by side, process by process.

The processes of a pair run right after each other, alternating A B, B A, so
that drift of the machine affects both sides of a ratio and cancels. This
checkout's harness measures both: the other one only provides the measured code.
"""

import contextlib
import dataclasses
import io
import math
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import uuid

from absl import logging

import imgbench
from imgbench import config_utils
from imgbench import errors
from imgbench import startup
from imgbench import writers
from imgbench.bench import medians
from imgbench.bench import points as points_lib
from imgbench.bench import processes
from imgbench.bench import rows
from imgbench.bench import run_settings
from imgbench.bench import runner

ROOT = pathlib.Path(imgbench.__file__).parents[1]
_HARNESS = ("imgbench/bench", "imgbench/typed.py")
_NEEDED = "imgbench/config.py"


def check_out(commit: str, folder: pathlib.Path, root: pathlib.Path) -> str:
  """Writes the files of a commit into a folder, with the harness of `root`.

  `git archive` leaves no traces in the repository if this process is killed.

  Args:
    commit: any name that git resolves.
    folder: empty.
    root: of the repository.

  Returns:
    The commit's short hash.

  Raises:
    InputError: no repository, or no such commit.
  """
  if not (root / ".git").exists():
    raise errors.InputError("--paired", "a git clone of imgbench", root)
  found = _run_git(
    root, "rev-parse", "--verify", "--short=12", f"{commit}^{{commit}}"
  )
  if found.returncode:
    raise errors.InputError("--paired", f"a commit of {root}", repr(commit))
  name = found.stdout.decode().strip()
  archive = _run_git(root, "archive", "--format=tar", name)
  if archive.returncode:
    raise errors.RunError(f"git archive {name}: {archive.stderr.decode()}")
  with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
    files.extractall(folder, filter="data")
  if not (folder / _NEEDED).is_file():
    expected = f"a commit with {_NEEDED}, which this harness needs"
    raise errors.InputError("--paired", expected, repr(commit))
  if not (folder / "imgbench").is_dir():
    expected = "a commit with the package imgbench"
    raise errors.InputError("--paired", expected, repr(commit))
  package, *modules = _HARNESS
  shutil.rmtree(folder / package, ignore_errors=True)
  ignored = shutil.ignore_patterns("__pycache__")
  shutil.copytree(root / package, folder / package, ignore=ignored)
  for module in modules:
    shutil.copy(root / module, folder / module)
  return name


def _run_git(root: pathlib.Path, *args: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    ["git", "-C", str(root), *args], capture_output=True, check=False
  )


def measure(
  config, commit: str, out: pathlib.Path, root: pathlib.Path = ROOT
) -> tuple[pathlib.Path, pathlib.Path]:
  """Measures the steps of a config on a commit (A) and on this checkout (B).

  Microbenchmarks, baselines and whole training runs are left out.

  Args:
    config: of configs/bench.py.
    commit: the base.
    out: folder for both, without rows.
    root: of this checkout.

  Returns:
    The folders A and B for `compare`.

  Raises:
    InputError: bad config or commit, or existing rows.
    RunError: a checkout does not start.
  """
  sides = (out / "a", out / "b")
  for folder in sides:
    if (folder / rows.ROWS).exists():
      raise errors.InputError("--out", "a folder without rows", out)
  config = _keep_steps(config)
  points_lib.check(config)
  with tempfile.TemporaryDirectory(prefix="imgbench-") as name:
    checkout = pathlib.Path(name)
    commit = check_out(commit, checkout, root)
    launchers = [_create_launcher(checkout), _create_launcher(root)]
    environments = list(map(processes.describe_machine, launchers))
    startup.log_start(config, environment=environments[1])
    # The archive is no repository.
    environments[0] |= {
      "commit": commit,
      "harness_commit": environments[1].get("commit", "unknown"),
    }
    machine = points_lib.Machine(
      environments[1]["platform"], environments[1]["num_devices"]
    )
    points = points_lib.expand(config, machine)
    measuring = []
    for folder, environment, launcher in zip(
      sides, environments, launchers, strict=True
    ):
      folder.mkdir(parents=True, exist_ok=True)
      writers.write_json(folder / rows.ENVIRONMENT, environment)
      writers.write_json(folder / rows.CONFIG, config_utils.to_dict(config))
      settings = run_settings.Settings.build(config, environment)
      measuring.append(
        SideRunner(folder, points, settings, {points_lib.OURS: launcher})
      )
    session = uuid.uuid4().hex[:8]
    keys = [key for group in points.groups for key in group]
    for number, key in enumerate(keys, 1):
      logging.info("%d of %d: %s", number, len(keys), key.text())
      measure_point(key, *measuring, f"{session}/{number}")
  return sides


class SideRunner(runner.Runner):
  """One checkout: measures one process of a point at a time."""

  def begin(
    self, key: rows.Key, stack: contextlib.ExitStack
  ) -> runner.Measuring:
    """Returns the point with its own folder of compiled programs."""
    return self._prepare(runner.Measuring(key), stack)

  def measure(self, one: runner.Measuring, pair: str) -> None:
    """Measures a process and records its pair."""
    self._measure_once(one)
    if not one.failed:
      last = one.processes[-1]
      one.processes[-1] = dataclasses.replace(last, pair=pair)

  def end(self, one: runner.Measuring) -> None:
    """Writes the row."""
    self._finish(one)

  @property
  def sampling(self) -> run_settings.Sampling:
    return self._settings.sampling


def measure_point(
  key: rows.Key, first: SideRunner, second: SideRunner, name: str
) -> None:
  """Measures pairs of processes until their ratio is precise enough.

  Stops if one side fails.

  Args:
    key: which point.
    first, second: A and B.
    name: prefix of the pairs' names.
  """
  with contextlib.ExitStack() as stack:
    both = [(side, side.begin(key, stack)) for side in (first, second)]
    number = 0
    while not _is_done([one for _, one in both], first.sampling):
      for side, one in both if number % 2 == 0 else both[::-1]:
        side.measure(one, f"{name}/{number}")
      number += 1
    for side, one in both:
      side.end(one)


def _is_done(
  both: list[runner.Measuring], sampling: run_settings.Sampling
) -> bool:
  if any(one.failed for one in both):
    return True
  count = len(both[0].processes)
  if count < max(2, sampling.processes):
    return False
  spent_s = sum(one.spent_s for one in both)
  if count >= sampling.most_processes or spent_s >= sampling.row_s:
    return True
  ratio = medians.paired_ratio(*(one.compute_medians() for one in both))
  bounds = ratio.interval(medians.COVERAGE)
  return math.log(bounds.high / bounds.low) <= sampling.relative_width


def _keep_steps(config):
  """Returns the config with steps only."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.frameworks = (points_lib.OURS,)
    config.micro.names = ()
    config.time_to_accuracy.config = ""
    config.fit_batch = False
  return config


def _create_launcher(root: pathlib.Path) -> processes.Launcher:
  # Else the current folder comes first on the path, before `root`.
  return processes.Launcher(root=root, variables={"PYTHONSAFEPATH": "1"})
