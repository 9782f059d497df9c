"""The smoke run of a sweep: a few steps of its first point, before the rest.

It has a folder of its own, with its own lock, jobs or slice, so that it leaves
the runs of the sweep alone.
"""

import dataclasses
import datetime
import re
from typing import Any

from imgbench import errors
from imgbench import run_files
from imgbench import texts
from imgbench.launch import units

FOLDER = "smoke"  # in the sweep's folder
STEPS = 10
_LINES = 10  # of the log of a failed run


def build(sweep: units.Sweep) -> units.Sweep:
  """Returns a sweep of STEPS steps of the first point, in a new folder."""
  folder = sweep.sweep_dir / FOLDER / re.sub(r"\W", "", units.now())
  first = sweep.units[0]
  return dataclasses.replace(
    sweep,
    sweep_dir=folder,
    units=(dataclasses.replace(first, workdir=folder / first.name),),
    flags=(f"--smoke_steps={STEPS}",),
  )


def report(smoke: units.Sweep, count: int, values: Any) -> int:
  """Prints times of the ended smoke run, or why it failed; returns the code.

  Args:
    smoke: as of `build`.
    count: of the runs of the sweep.
    values: flags; those that limit how many run at once count.
  """
  (unit,) = smoke.units
  if units.read_status(unit).state != units.DONE:
    log = unit.workdir / units.LOG
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    lines = text.splitlines()[-_LINES:] or ["it left no log"]
    print(texts.printable_lines("\n".join(lines)))
    print(
      f"the smoke run of {unit.name} failed; its files are in {unit.workdir}"
    )
    return errors.EXIT_FAILED
  found = run_files.read_status(unit.workdir)
  times, steps = found["times"], found["total_steps"]
  run_s = times["setup_s"] + times["compile_s"] + steps * times["step_s"]
  asked = getattr(values, "slices", None) or values["jobs"].value
  at_once = min(asked or 1, count)
  sweep_s = run_s * -(-count // at_once)
  # Without --jobs the executor decides it once it starts them.
  how = f"{at_once} at a time" if asked else "if one runs after another"
  print(
    f"smoke run of {unit.name}: {1e3 * times['step_s']:.3g} ms per step,"
    f" {times['compile_s']:.3g} s to compile, {times['setup_s']:.3g} s to start"
    f"\nestimate, without evaluations: {_format(run_s)} for its {steps} steps,"
    f" {_format(sweep_s)} for {count} such runs, {how}"
  )
  return errors.EXIT_DONE


def _format(seconds: float) -> str:
  return str(datetime.timedelta(seconds=round(seconds)))
