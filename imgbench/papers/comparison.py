"""Comparison of published figures with ours."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib

import numpy as np
import pandas as pd

from imgbench.metrics import summary
from imgbench.papers import fits
from imgbench.papers import program
from imgbench.papers import published as published_lib
from imgbench.tables import formats
from imgbench.tables import frame
from imgbench.tables import table

NUM_PUBLIC = 67  # models of the public collection, for published ranks

AGREES, DIFFERS = "agrees", "differs"
NOT_COUNTED, ABSENT = "not counted", "absent"

COLUMNS = (
  "source",
  *published_lib.FigureKey._fields,
  "unit",
  "published",
  "ours",
  "difference",
  "precision",
  "verdict",
  "note",
)

_MOST = 20  # differing figures to print
# Error of floats at a bound that decimal numbers meet exactly.
_ROUNDING = 1e-9

Ours = Mapping[tuple[str, ...], float | None]


def collect_ours(
  rows: pd.DataFrame, lines: Iterable[fits.FittedLine] = ()
) -> dict[tuple[str, ...], float | None]:
  """Returns our numbers by `published.FigureKey`.

  Args:
    rows: of the table.
    lines: plain fits of one choice of models and one base.
  """
  bounds = (published_lib.VALUE, published_lib.CI_LOW, published_lib.CI_HIGH)
  found = frame.to_dict(rows, **{field: field for field in bounds})
  for line in lines:
    if line.fit is not None:
      what = (published_lib.FIT, line.dataset, line.subset, line.metric)
      for field in published_lib.OF_FIT:
        found[*what, field] = getattr(line.fit, field)
  return found


def read(
  output: program.Output, paths: Iterable[str]
) -> list[published_lib.PublishedFigure]:
  """Returns the figures of --published; adds its files to the inputs.

  A file that is given twice counts once.
  """
  paths = list({p.resolve(): p for p in map(pathlib.Path, paths)}.values())
  output.inputs(paths)
  return [figure for path in paths for figure in published_lib.read(path)]


def find_comparable_ranks(
  output: program.Output,
  figures: Iterable[published_lib.PublishedFigure],
  ranked: pd.DataFrame,
  num_public: int = NUM_PUBLIC,
) -> dict[tuple[str, ...], float | None]:
  """Returns our ranks among as many models as the published ones have.

  Args:
    output: for a note on each data set whose published ranks cannot be
      compared.
    figures: published ones.
    ranked: ours, on each data set; see `frame.add_ranks`.
    num_public: number of models in published rankings.
  """
  among = ranked.groupby(list(frame.AXIS)).among.first().to_dict()
  lacking = {}
  for figure in figures:
    axis = tuple(figure.key[1:4])
    n = among.get(axis, 0)
    if figure.key.field == published_lib.RANK and n != num_public:
      lacking[axis[0]] = n
  for dataset, n in lacking.items():
    output.note(
      f"{dataset}: ranks are not compared: published ones are among"
      f" {num_public} models, ours among {n}"
    )
  comparable = ranked[ranked.among == num_public]
  return frame.to_dict(comparable, rank=published_lib.RANK)


def compare(
  figures: Sequence[published_lib.PublishedFigure], ours: Ours
) -> pd.DataFrame:
  """Compares our numbers, fractions or plain, with published figures.

  Returns:
    COLUMNS and the published `number`, both numbers in the published unit.
    `difference` is ours minus published. `verdict` is AGREES (within the
    printed precision), DIFFERS, NOT_COUNTED (a difference that is allowed) or
    ABSENT (we have no value).
  """
  # A rank stays a whole number beside fractions.
  return pd.DataFrame(
    [_compare(figure, ours.get(figure.key)) for figure in figures],
    columns=[*COLUMNS, "number"],
    dtype=object,
  )


def _compare(figure: published_lib.PublishedFigure, value):
  plain = published_lib.is_plain(figure.key.field)
  difference, verdict = None, ABSENT
  if value is not None:
    value = value if plain else 100 * value
    difference = value - figure.number
    verdict = NOT_COUNTED if figure.not_counted else DIFFERS
    if abs(difference) <= figure.half_unit + _ROUNDING:
      verdict = AGREES
  unit = "plain" if plain else "percent"
  what = (figure.source, *figure.key, unit, figure.text, value, difference)
  return *what, figure.half_unit, verdict, figure.not_counted, figure.number


def summarize(compared: pd.DataFrame) -> table.Table:
  """Returns a table of agreement by source, data set, metric and field."""
  verdicts = (AGREES, DIFFERS, NOT_COUNTED, ABSENT)
  by = ["source", "dataset", "metric", "field"]
  rows = []
  for what, group in compared.groupby(by, sort=False):
    counts = group.verdict.value_counts()
    off = group.difference[group.note == ""].dropna()
    off = np.abs(off.to_numpy(float))
    worst = [np.mean(off), max(off)] if len(off) else []
    worst = [*map(formats.decimal, worst)] or ["", ""]
    rows.append((*what, *(str(counts.get(v, 0)) for v in verdicts), *worst))
  header = ("source", "data set", "metric", "field", *verdicts)
  return table.from_cells(
    "Published figures and ours; differences of counted figures in percentage"
    " points or plain numbers",
    (*header, "mean |diff.|", "largest"),
    rows,
    num_left=4,
  )


def describe_differences(compared: pd.DataFrame) -> str:
  """Returns lines on the figures that differ; the last has the counts."""
  counts = compared.verdict.value_counts()
  num_differ = counts.get(DIFFERS, 0)
  differing = frame.select(compared, verdict=DIFFERS).sort_values(
    "difference", key=lambda d: -abs(d.astype(float)), kind="stable"
  )
  lines = [
    f"  {c.model} {c.dataset} {c.subset} {c.metric} {c.field}: published"
    f" {c.published}, ours {formats.decimal(c.ours, 4)}"
    f" ({formats.difference(c.difference, 4)})"
    for c in frame.to_rows(differing)[:_MOST]
  ]
  if num_differ > _MOST:
    lines.append(f"  and {num_differ - _MOST} more, in comparison.csv")
  if lines:
    lines.insert(0, "Differ by more than the printed precision:")
  last = (
    f"{num_differ} of {num_differ + counts.get(AGREES, 0)} published figures"
    " differ by more than the printed precision"
  )
  for other in (ABSENT, NOT_COUNTED):
    last += f", {counts[other]} {other}" if other in counts else ""
  return "\n".join([*lines, last])


def columns(
  compared: pd.DataFrame,
  dataset: str,
  metric: str,
  subset: str = summary.ALL,
  field: str = published_lib.VALUE,
) -> list[tuple[str, table.Cell]]:
  """Returns columns for `table.from_names`: published, and the difference.

  Figures that are not counted, as of other weights or images, are left out. If
  several sources have a figure, the first one counts.
  """
  what = {"dataset": dataset, "subset": subset, "metric": metric}
  counted = compared[compared.note == ""]
  found = frame.select(counted, **what, field=field).drop_duplicates("model")
  known = found[found.difference.notna()]
  return [
    (title, frame.build_cell(rows, text))
    for title, rows, text in (
      ("published", found, lambda c: formats.significant(c.number, 7)),
      ("diff.", known, lambda c: formats.difference(c.difference)),
    )
  ]


def write(output: program.Output, compared: pd.DataFrame) -> None:
  """Adds comparison.csv; prints the summary and, at the end, the verdict."""
  output.csv("comparison.csv", COLUMNS, frame.to_rows(compared, COLUMNS))
  print(summarize(compared).text())
  output.end_with(describe_differences(compared))
