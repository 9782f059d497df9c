"""Tabulates the runs of a sweep.

imgbench sweep table --sweep_dir=runs/rates

prints a row for each run: swept values, status, final and best metrics with
intervals, training time and images per second; then means and standard errors
over seeds. Missing and duplicate rows are listed. --out receives table.csv,
groups.csv, table.md, table.tex and the figures table.png and table.pdf. --watch
refreshes the table until all runs are done or Ctrl-C. Exit codes: 0 shown, 2
bad input.
"""

from collections.abc import Sequence
import dataclasses
import functools
import logging as python_logging
import sys
import time

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench import paths
from imgbench import writers
from imgbench.launch import units
from imgbench.launch.sweep_table import figure
from imgbench.launch.sweep_table import gather
from imgbench.launch.sweep_table import groups as groups_lib
from imgbench.launch.sweep_table import text as table_text
from imgbench.tables import table
from imgbench.tables import themes

FOLDER = "table"
_CLEAR = "\x1b[H\x1b[2J"
_CAUTION = (
  "A best value is the best of several evaluations of its run: it is"
  " optimistic, and its interval ignores the selection."
)


@dataclasses.dataclass(frozen=True)
class SweepTable:
  """Runs of a sweep, their groups and notes.

  Attributes:
    runs: a row for each unit of the sweep.
    groups: over seeds, see `groups.group_runs`.
    notes: missing and duplicate rows.
  """

  runs: tuple[gather.SweptRun, ...]
  groups: tuple[groups_lib.SeedGroup, ...]
  notes: tuple[str, ...]

  def tables(self) -> list[table.Table]:
    """Returns the table of runs and, if runs have seeds, that of means."""
    found = [table_text.build_runs_table(self.runs)]
    if len(self.groups) < len(self.runs):
      metrics = table_text.list_metrics(self.runs)
      found.append(table_text.build_groups_table(self.groups, metrics))
    return found

  def cautions(self) -> list[str]:
    """Returns the notes and the caution about best values, a line each."""
    headers = [header for made in self.tables() for header in made.header]
    has_best = any(header.startswith("best") for header in headers)
    return [*self.notes, *([_CAUTION] if has_best else [])]

  def text(self) -> str:
    """Returns the printed text, without a final newline."""
    parts = [*map(table.Table.text, self.tables()), "\n".join(self.cautions())]
    return "\n".join(part for part in parts if part).rstrip()


def read(
  sweep_dir: str, metrics: Sequence[str], seed_keys: Sequence[str]
) -> SweepTable:
  """Returns the current table of a sweep.

  Args:
    sweep_dir: its folder.
    metrics: see `gather.read`.
    seed_keys: config keys whose values are repetitions.

  Raises:
    InputError: there is no sweep or metric, or a file cannot be read.
  """
  launched = units.read(sweep_dir)
  runs = gather.read(launched, metrics)
  return SweepTable(
    tuple(runs),
    tuple(groups_lib.group_runs(runs, seed_keys)),
    tuple(groups_lib.write_notes(launched, runs, seed_keys)),
  )


def write(
  sweep: SweepTable, folder: paths.Folder, seed_keys: Sequence[str]
) -> None:
  """Writes all files; figures only if there is something to draw.

  Raises:
    InputError: the folder cannot be written.
  """
  metrics = table_text.list_metrics(sweep.runs)
  files = {
    "table.csv": table_text.format_runs_csv(sweep.runs),
    "groups.csv": table_text.format_groups_csv(sweep.groups, metrics),
    "table.md": _format_markdown(sweep),
    "table.tex": _format_latex(sweep),
  }
  draw = figure.build_figure(sweep.runs, sweep.groups, metrics, seed_keys)
  if draw is not None:
    files["table.png"] = themes.render(draw, themes.LIGHT)
    files["table.pdf"] = themes.render_pdf(draw, themes.LIGHT)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
      writers.write_atomically(folder / name, content)
  except OSError as error:
    given = f"{folder} ({errors.find_reason(error)})"
    expected = "a folder that can be written"
    raise errors.InputError("--out", expected, given) from error


def _format_markdown(sweep: SweepTable) -> str:
  notes = "".join(
    f"- {table.escape_markdown(line)}\n" for line in sweep.cautions()
  )
  return "\n".join([*map(table.Table.markdown, sweep.tables()), notes])


def _format_latex(sweep: SweepTable) -> str:
  notes = "".join(f"% {line}\n" for line in sweep.cautions())
  return "\n".join([*map(table.Table.latex, sweep.tables()), notes]).replace(
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
    "Names as in results.json, e.g. cifar10:test/all/nll; * matches any text.",
  )
  words("seed_keys", ["seed"], "Config keys whose values are repetitions.")
  text(
    "out",
    None,
    f"Folder of the files; default: {FOLDER}/ in --sweep_dir; empty: none.",
  )
  flags.DEFINE_bool(
    "watch",
    False,
    "Refresh the table until all runs are done or Ctrl-C.",
    flag_values=flag_values,
  )
  flags.DEFINE_float(
    "every_s",
    5.0,
    "With --watch: seconds between refreshes.",
    lower_bound=0.1,
    flag_values=flag_values,
  )


def _show(values: flags.FlagValues, before: str = "") -> tuple[SweepTable, str]:
  """Prints and writes the table if it changed; returns it and its text."""
  sweep = read(values.sweep_dir, values.metrics, values.seed_keys)
  text = sweep.text()
  if text == before:
    return sweep, text
  clear = _CLEAR if values.watch and sys.stdout.isatty() else ""
  print(f"{clear}{text}", flush=True)
  out = values.out
  if out is None:
    out = paths.as_path(values.sweep_dir) / FOLDER
  if out != "":
    write(sweep, paths.as_path(out), values.seed_keys)
    print(f"\nfiles: {out}", flush=True)
  return sweep, text


def main(argv: list[str]) -> int:
  """Prints and writes the table."""
  del argv
  values = flags.FLAGS
  # fontTools logs every glyph of a PDF.
  python_logging.getLogger("fontTools").setLevel(python_logging.WARNING)
  try:
    sweep, text = _show(values)
    while values.watch and not all(run.done for run in sweep.runs):
      time.sleep(values.every_s)
      sweep, text = _show(values, text)
  except KeyboardInterrupt:
    if not values.watch:
      raise
    print()
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("sweep table")
