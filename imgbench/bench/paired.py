"""Two checkouts of the code measured side by side, process by process.

The processes of a pair run right after one another, in turn A B, B A, so that
what drifts on the machine strikes both sides of a ratio and falls out of it.
Both sides are measured by the harness of this checkout: of the other one only
what is measured is taken.
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
from typing import Any
import uuid

from absl import logging

import imgbench
from imgbench import config_utils
from imgbench import errors
from imgbench import startup
from imgbench import writers
from imgbench.bench import exchange
from imgbench.bench import medians
from imgbench.bench import points as points_lib
from imgbench.bench import processes
from imgbench.bench import rows
from imgbench.bench import run_settings
from imgbench.bench import runner

ROOT = pathlib.Path(imgbench.__file__).parents[1]
_HARNESS = pathlib.Path("imgbench") / "bench"
_DESCRIBE_S = 300.0  # JAX on a large machine takes its time


def check_out(commit: str, folder: pathlib.Path, root: pathlib.Path) -> str:
  """Writes the files of a commit into a folder, with this harness in it.

  They come by `git archive`, which leaves nothing behind in the repository,
  however this process ends.

  Args:
    commit: whatever git knows it by.
    folder: empty.
    root: of the repository; its imgbench/bench is the harness.

  Returns:
    The commit's name as environments have it.

  Raises:
    InputError: no repository, or no such commit.
  """
  git = lambda *args: subprocess.run(
    ["git", "-C", str(root), *args], capture_output=True, check=False
  )
  if not (root / ".git").exists():
    raise errors.InputError(
      f"--paired={commit}: {root} is no git repository; it needs a clone"
    )
  found = git("rev-parse", "--verify", "--short=12", f"{commit}^{{commit}}")
  if found.returncode:
    raise errors.InputError(f"--paired={commit}: git knows no such commit")
  name = found.stdout.decode().strip()
  archive = git("archive", "--format=tar", name)
  if archive.returncode:
    raise errors.RunError(f"git archive {name}: {archive.stderr.decode()}")
  with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
    files.extractall(folder, filter="data")
  if not (folder / "imgbench").is_dir():
    raise errors.InputError(f"--paired={commit}: has no package imgbench")
  shutil.rmtree(folder / _HARNESS, ignore_errors=True)
  ignored = shutil.ignore_patterns("__pycache__")
  shutil.copytree(root / _HARNESS, folder / _HARNESS, ignore=ignored)
  return name


def measure(
  config, commit: str, out: pathlib.Path, root: pathlib.Path = ROOT
) -> tuple[pathlib.Path, pathlib.Path]:
  """Measures the steps of a config on a commit (A) and on this checkout (B).

  Microbenchmarks, peers and whole training runs do not depend on the commit's
  steps and are left out.

  Args:
    config: as of configs/bench.py.
    commit: the base.
    out: folder for both; has no rows yet.
    root: of this checkout.

  Returns:
    The folders A and B, which `compare` takes.

  Raises:
    InputError: bad config or commit, or there are rows already.
    RunError: one of them does not even start.
  """
  sides = (out / "a", out / "b")
  for folder in sides:
    if (folder / rows.ROWS).exists():
      raise errors.InputError(f"--out={out}: has rows already; give another")
  config = _keep_steps(config)
  points_lib.check(config)
  with tempfile.TemporaryDirectory(prefix="imgbench-") as name:
    checkout = pathlib.Path(name)
    commit = check_out(commit, checkout, root)
    launchers = [_create_launcher(checkout), _create_launcher(root)]
    environments = [_describe(launcher) for launcher in launchers]
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
      settings = run_settings.Settings.from_config(config, environment)
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
    self, key: rows.PointKey, stack: contextlib.ExitStack
  ) -> runner.Measuring:
    """Returns the point, with a folder of compiled programs of its own."""
    return self._prepare(runner.Measuring(key), stack)

  def measure(self, one: runner.Measuring, pair: str) -> None:
    """Measures a process and marks which pair it is of."""
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
  key: rows.PointKey, first: SideRunner, second: SideRunner, name: str
) -> None:
  """Measures pairs of processes until their ratio is known well enough.

  Where one side fails there is nothing more to measure.

  Args:
    key: which point.
    first, second: A and B.
    name: the pairs' names begin with it.
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
  ratio = medians.paired_ratio(*(one.medians() for one in both))
  bounds = ratio.interval(medians.COVERAGE)
  return math.log(bounds.high / bounds.low) <= sampling.relative_width


def _keep_steps(config):
  """The config without what a comparison of two checkouts has no use for."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.frameworks = (points_lib.OURS,)
    config.micro.names = ()
    config.time_to_accuracy.config = ""
    config.fit_batch = False
  return config


def _create_launcher(root: pathlib.Path) -> processes.Launcher:
  # Without it the current folder comes first on the path, whatever `root` is.
  return processes.Launcher(root=root, variables={"PYTHONSAFEPATH": "1"})


def _describe(launcher: processes.Launcher) -> dict[str, Any]:
  result = launcher({"kind": "environment"}, _DESCRIBE_S)
  if result["status"] != exchange.OK:
    raise errors.RunError(
      f"the benchmark does not start in {launcher.root}: {result['message']}"
    )
  return result["environment"]
