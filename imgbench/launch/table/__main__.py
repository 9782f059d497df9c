"""Gathers the runs of a sweep in one table.

python -m imgbench.launch.table --sweep_dir=runs/rates

prints a row for each run: what is swept, how the run stands, final and best
values of metrics with their intervals, time of training and images per second;
then means and standard errors over seeds. Rows that are missing or doubled are
named. In --out it leaves table.csv, groups.csv, table.md, table.tex and the
figures table.png and table.pdf. --watch shows it again and again, until all
are done or Ctrl-C. Exit codes: 0 shown, 2 bad input.
"""

from collections.abc import Sequence
import dataclasses
import functools
import logging as python_logging
import sys
import time

from absl import flags

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import paths
from imgbench import writers
from imgbench.launch import units
from imgbench.launch.table import figure
from imgbench.launch.table import gather
from imgbench.launch.table import groups as groups_lib
from imgbench.launch.table import text as table_text
from imgbench.tables import table
from imgbench.tables import themes

FOLDER = "table"
_CLEAR = "\x1b[H\x1b[2J"
_CAUTION = (
  "A best value is chosen among the evaluations of its run: it is too good, and"
  " its interval knows nothing of the choice."
)


@dataclasses.dataclass(frozen=True)
class Table:
  """All of it.

  Attributes:
    runs: a row for each unit of the sweep.
    groups: of the seeds, see `groups.groups`.
    notes: rows that are missing or doubled.
  """

  runs: tuple[gather.Run, ...]
  groups: tuple[groups_lib.Group, ...]
  notes: tuple[str, ...]

  def grids(self) -> list[table.Table]:
    """Returns the tables for people; means only where there are any."""
    found = [table_text.runs_grid(self.runs)]
    if len(self.groups) < len(self.runs):
      metrics = table_text.metrics_of(self.runs)
      found.append(table_text.groups_grid(self.groups, metrics))
    return found

  def cautions(self) -> list[str]:
    """Returns what has to be kept in mind, the notes first."""
    headers = [header for grid in self.grids() for header in grid.header]
    has_best = any(header.startswith("best") for header in headers)
    return [*self.notes, *([_CAUTION] if has_best else [])]

  def text(self) -> str:
    """Returns what is printed, without a final newline."""
    parts = [*map(table.Table.text, self.grids()), "\n".join(self.cautions())]
    return "\n".join(part for part in parts if part).rstrip()


def read(
  sweep_dir: str, metrics: Sequence[str], seed_keys: Sequence[str]
) -> Table:
  """Returns the table of a sweep as it stands.

  Args:
    sweep_dir: its folder.
    metrics: see `gather.read`.
    seed_keys: config keys whose values are repetitions.

  Raises:
    InputError: no sweep, no such metric, or a file that cannot be read.
  """
  sweep = units.read(sweep_dir)
  runs = gather.read(sweep, metrics)
  return Table(
    tuple(runs),
    tuple(groups_lib.groups(runs, seed_keys)),
    tuple(groups_lib.notes(sweep, runs, seed_keys)),
  )


def write(table: Table, folder: paths.Folder, seed_keys: Sequence[str]) -> None:
  """Writes all files; figures only where there is something to draw.

  Raises:
    InputError: the folder cannot be written.
  """
  metrics = table_text.metrics_of(table.runs)
  files = {
    "table.csv": table_text.runs_csv(table.runs),
    "groups.csv": table_text.groups_csv(table.groups, metrics),
    "table.md": _markdown(table),
    "table.tex": _latex(table),
  }
  draw = figure.figure(table.runs, table.groups, metrics, seed_keys)
  if draw is not None:
    files["table.png"] = themes.render(draw, themes.LIGHT)
    files["table.pdf"] = themes.render_pdf(draw, themes.LIGHT)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
      writers.write_atomically(folder / name, content)
  except OSError as error:
    raise errors.InputError(
      f"--out={folder} cannot be written: {error.strerror or error}"
    ) from error


def _markdown(table: Table) -> str:
  notes = "".join(f"- {line}\n" for line in table.cautions())
  return "\n".join([*map(table.Table.markdown, table.grids()), notes])


def _latex(table: Table) -> str:
  notes = "".join(f"% {line}\n" for line in table.cautions())
  return "\n".join([*map(table.Table.latex, table.grids()), notes]).replace(
    "±", r"$\pm$"
  )


REQUIRED = ("sweep_dir",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --sweep_dir, --metrics, --seed_keys, --out, --watch."""
  text = functools.partial(flags.DEFINE_string, flag_values=flag_values)
  words = functools.partial(flags.DEFINE_list, flag_values=flag_values)
  text("sweep_dir", None, "Folder of the sweep.")
  words(
    "metrics",
    ["*/all/top1_accuracy"],
    "Names as in results.json, e.g. cifar10:test/all/nll; * is any text.",
  )
  words("seed_keys", ["seed"], "Config keys whose values are repetitions.")
  text(
    "out",
    None,
    f"Folder of the files; default: {FOLDER}/ in the sweep's; empty: none.",
  )
  flags.DEFINE_bool(
    "watch",
    False,
    "Show it again and again, until all are done or Ctrl-C.",
    flag_values=flag_values,
  )
  flags.DEFINE_float(
    "every_s",
    5.0,
    "With --watch: seconds between two looks.",
    lower_bound=0.1,
    flag_values=flag_values,
  )


def _show(values: flags.FlagValues, before: str = "") -> tuple[Table, str]:
  """Prints and writes the table unless it is as before; returns it."""
  table = read(values.sweep_dir, values.metrics, values.seed_keys)
  text = table.text()
  if text == before:
    return table, text
  clear = _CLEAR if values.watch and sys.stdout.isatty() else ""
  print(f"{clear}{text}", flush=True)
  out = values.out
  if out is None:
    out = paths.of(values.sweep_dir) / FOLDER
  if out != "":
    write(table, paths.of(out), values.seed_keys)
    print(f"\nfiles: {out}", flush=True)
  return table, text


def main(argv: list[str]) -> int:
  """Shows the table that the flags ask for."""
  del argv
  values = flags.FLAGS
  # It tells of every letter that a PDF has or has not.
  python_logging.getLogger("fontTools").setLevel(python_logging.WARNING)
  with cli.one_line_errors():
    try:
      table, text = _show(values)
      while values.watch and not all(run.done for run in table.runs):
        time.sleep(values.every_s)
        table, text = _show(values, text)
    except KeyboardInterrupt:
      if not values.watch:
        raise
      print()
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("sweep table")
