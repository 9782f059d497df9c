"""Runs of configs/tiny.py as processes of their own, and what they leave."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def command(workdir, *overrides: str) -> list[str]:
  """The command line of a tiny run."""
  return [
    *(sys.executable, "-m", "imgbench.main"),
    f"--config={ROOT / 'configs/tiny.py'}",
    f"--workdir={workdir}",
    *overrides,
  ]


def environment(platforms: str = "cpu") -> dict[str, str]:
  """Returns the variables of a child process, without the tests' XLA flags.

  Args:
    platforms: of JAX, the first is the default.
  """
  kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  # Packages of an accelerator kit are there.
  paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
  kept["PYTHONPATH"] = os.pathsep.join(paths)
  return {**kept, "JAX_PLATFORMS": platforms}


def run_python(*args: str) -> subprocess.CompletedProcess:
  """Runs Python with arguments and returns the completed process."""
  return subprocess.run(
    [sys.executable, *args],
    env=environment(),
    capture_output=True,
    text=True,
    check=False,
    cwd=ROOT,
  )


def start(workdir, *overrides: str, platforms: str = "cpu") -> subprocess.Popen:
  """Starts a tiny run as a process; its standard error is a pipe."""
  return subprocess.Popen(
    command(workdir, *overrides),
    env=environment(platforms),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def run(
  workdir, *overrides: str, platforms: str = "cpu"
) -> subprocess.CompletedProcess:
  """Runs a tiny run to its end."""
  return subprocess.run(
    command(workdir, *overrides),
    env=environment(platforms),
    capture_output=True,
    text=True,
    check=False,
  )


def is_time(key: str) -> bool:
  """Returns whether a metric depends on the clock."""
  return key.startswith("time/") or key.endswith(
    ("_per_s", "/mfu", "/input_wait_share")
  )


def read_metrics(workdir) -> list[dict]:
  """Records of metrics.jsonl without what depends on the clock."""
  lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if not is_time(k)}
    for line in lines
  ]


def read_json(workdir, name: str):
  return json.loads((pathlib.Path(workdir) / name).read_text())
