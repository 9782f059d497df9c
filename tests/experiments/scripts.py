"""Runs scripts of `experiments` in this process or in a new one."""

import csv
import os
import pathlib
import subprocess
import sys

from absl import flags

from imgbench.papers import program
from tests.train import processes


def main(module, out, *args):
  """Runs a script and writes its files.

  Args:
    module: of `experiments`.
    out: folder for the files, or None.
    *args: flags, as on the command line.
  """
  values = flags.FlagValues()
  module.define_flags(values)
  values([module.__name__, *map(str, args)])
  output = program.Output(None if out is None else pathlib.Path(out))
  module.reproduce(values, output)
  output.close()


def run(name, *args):
  """Runs `python -m experiments.NAME`; returns the completed process."""
  return subprocess.run(
    [sys.executable, "-m", f"experiments.{name}", *map(str, args)],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
    cwd=processes.ROOT,
  )


def run_unread(name, *args):
  """Runs it with a closed pipe as stdout, as before `| head`."""
  reader, writer = os.pipe()
  os.close(reader)
  try:
    return subprocess.run(
      [sys.executable, "-m", f"experiments.{name}", *map(str, args)],
      env=processes.environment(),
      stdout=writer,
      stderr=subprocess.PIPE,
      text=True,
      check=False,
      cwd=processes.ROOT,
    )
  finally:
    os.close(writer)


def texts(folder):
  """Returns name -> bytes of the files in a folder."""
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def csv_rows(folder, name="table.csv"):
  """Returns the rows of a CSV file of a folder as dictionaries."""
  with (pathlib.Path(folder) / name).open(newline="") as file:
    return list(csv.DictReader(file))
