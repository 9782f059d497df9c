"""Benchmarks the paper scripts on collections of the full size.

imgbench bench papers --out=experiments/results/testbed_cpu

Writes a synthetic clone (67 models for 5 data sets: 6.7 million predictions)
with synthetic labels to a temporary folder and runs the scripts on it in turn,
in fresh processes, from the start of Python to the last file. Rows: seconds,
CPU seconds (which other programs disturb less) and peak memory of each script,
and the seconds of its first run, which fills the cache for later ones.
"""

from collections.abc import Sequence
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple

from absl import flags
from absl import logging

from imgbench import cli
from imgbench import commands
from imgbench import environment
from imgbench import errors
from imgbench import startup
from imgbench import timing
from imgbench.bench import quantities
from imgbench.experiments.benchmarks.paper_scripts import clone

# Script -> flags besides --repo and --out.
SCRIPTS = {
  "imagenet_v2": {},
  "real_labels": {"real": "real.json"},
  "multilabel": {"annotations": "annotations.json"},
}


REQUIRED = ()


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the size of the clone, how much is measured, where rows go."""
  quantities.define_flags(
    flag_values,
    models=(67, 1, "Models in the clone."),
    per_class=(50, 1, "Images per class in the validation set."),
    rounds=(5, 1, "Counted runs of each script."),
  )
  flags.DEFINE_multi_enum(
    "script", list(SCRIPTS), list(SCRIPTS), "Scripts to run.", flag_values
  )
  flags.DEFINE_bool(
    "files",
    True,
    "Write all files of the scripts; else they only print their tables.",
    flag_values=flag_values,
  )


def measure(
  folder: pathlib.Path, scripts: Sequence[str], rounds: int, files: bool
) -> dict[str, quantities.Samples]:
  """Returns the rows of scripts on the clone in a folder.

  Args:
    folder: written by `clone.write`.
    scripts: keys of SCRIPTS.
    rounds: counted runs of each, after a first one.
    files: whether they write files and figures too.

  Raises:
    RunError: a script failed.
  """
  rows: dict[str, quantities.Samples] = {}

  def add(name: str, unit: str, value: float) -> None:
    empty = quantities.Samples(unit, [])
    rows.setdefault(name, empty).values.append(value)

  for number in range(rounds + 1):
    for script in scripts:
      cost = _run(script, folder, files)
      if number:
        add(f"{script}_s", "s", cost.seconds)
        add(f"{script}_cpu_s", "s", cost.cpu_seconds)
        add(f"{script}_peak_memory_bytes", "bytes", cost.peak_memory_bytes)
      else:
        add(f"{script}_first_s", "s", cost.seconds)
      logging.info(
        "round %d of %d: %s took %.1f s, %.1f CPU seconds and %.0f MB",
        *(number, rounds, script, cost.seconds, cost.cpu_seconds),
        cost.peak_memory_bytes / 1e6,
      )
  return rows


class _Cost(NamedTuple):
  """Cost of one run; `cpu_seconds` sums over its threads."""

  seconds: float
  cpu_seconds: float
  peak_memory_bytes: int


def _run(script: str, folder: pathlib.Path, files: bool) -> _Cost:
  arguments = {"repo": folder}
  if files:
    arguments["out"] = folder / "out" / script
  arguments |= {name: folder / file for name, file in SCRIPTS[script].items()}
  command = [
    *(sys.executable, "-m", f"imgbench.experiments.{script}"),
    *(f"--{name}={value}" for name, value in arguments.items()),
  ]
  # An empty cache for the first run.
  variables = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
  with (folder / "log.txt").open("w+", encoding="utf-8") as log:
    started = timing.clock()
    process = subprocess.Popen(
      command, stdout=log, stderr=subprocess.STDOUT, env=variables
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = timing.clock() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
      log.seek(0)
      raise errors.RunError(
        f"{' '.join(command)} ended with {process.returncode}:"
        f" {log.read()[-1000:].strip()}"
      )
  # Linux counts kilobytes, macOS bytes.
  unit = 1 if sys.platform == "darwin" else 1024
  cpu_seconds = usage.ru_utime + usage.ru_stime
  return _Cost(seconds, cpu_seconds, usage.ru_maxrss * unit)


def main(argv: list[str]) -> None:
  """Measures, prints and writes the rows."""
  del argv
  values = flags.FLAGS
  cli.show_log()
  # The devices are for the scripts that are measured.
  startup.log_start(environment=environment.collect_software())
  with tempfile.TemporaryDirectory() as name:
    quantities.check_out(values.out, "papers")
    folder = pathlib.Path(name)
    with timing.timed() as writing:
      clone.write(folder, values.models, values.per_class)
    logging.info("the clone was written in %.1f s", writing.seconds)
    images = clone.sizes(values.per_class)
    rows = measure(folder, values.script, values.rounds, values.files)
  facts = {
    "models": values.models,
    "files_written": values.files,
    "images": images,
    "rows_of_predictions": values.models * sum(images.values()),
  }
  quantities.publish("papers", rows, facts, values.out)


if __name__ == "__main__":
  commands.start("bench papers")
