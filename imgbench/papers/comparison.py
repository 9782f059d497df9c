"""Published figures beside ours."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any
from typing import NamedTuple

import numpy as np

from imgbench.metrics import summary
from imgbench.papers import fits as fits_lib
from imgbench.papers import program
from imgbench.papers import published as published_lib
from imgbench.papers import ranks as ranks_lib
from imgbench.papers import records
from imgbench.papers import shifts
from imgbench.tables import table

NUM_PUBLIC = 67  # models of the public collection, which ranks are among

AGREES, DIFFERS = "agrees", "differs"
NOT_COUNTED, ABSENT = "not counted", "absent"

COLUMNS = (
  "source",
  *published_lib.Key._fields,
  "unit",
  "published",
  "ours",
  "difference",
  "precision",
  "verdict",
  "note",
)

_MOST = 20  # differing figures that are listed on the terminal
# So far may floats be off a bound that the decimal numbers meet.
_ROUNDING = 1e-9

Ours = Mapping[published_lib.Key, float | None]


class Compared(NamedTuple):
  """A published figure and ours, both in the published unit.

  `difference` is ours minus published. `verdict`: AGREES within the printed
  precision or DIFFERS; NOT_COUNTED where it differs and may; ABSENT without a
  value of ours.
  """

  published: published_lib.Published
  ours: float | None
  difference: float | None
  verdict: str


def ours(
  rows: Iterable[records.Row] = (),
  drops: Iterable[shifts.Drop] = (),
  ranks: Mapping[ranks_lib.Axis, ranks_lib.SetRanks] | None = None,
  lines: Iterable[fits_lib.Line] = (),
) -> dict[published_lib.Key, float | None]:
  """Returns our numbers by what they are of.

  Args:
    rows: of the table.
    drops: each is of its `dataset`; give those from one base.
    ranks: on each data set; see `comparable_ranks`.
    lines: plain fits, of one choice of models and from one base.
  """
  found = {}
  for row in rows:
    for field in (
      published_lib.VALUE,
      published_lib.CI_LOW,
      published_lib.CI_HIGH,
    ):
      key = published_lib.Key(*row[:4], field)
      found[key] = getattr(row.value, field)
  for drop in drops:
    what = (drop.model, drop.dataset, drop.subset, drop.metric)
    found[published_lib.Key(*what, published_lib.DROP)] = drop.drop
  for axis, set_ranks in (ranks or {}).items():
    for model, rank in set_ranks.of.items():
      found[published_lib.Key(model, *axis, published_lib.RANK)] = rank
  for line in lines:
    if line.fit is not None:
      what = (published_lib.FIT, line.dataset, line.subset, line.metric)
      for field in (
        published_lib.SLOPE,
        published_lib.INTERCEPT,
        published_lib.R,
      ):
        key = published_lib.Key(*what, field)
        found[key] = getattr(line.fit, field)
  return found


def read(
  output: program.Output, paths: Iterable[str]
) -> list[published_lib.Published]:
  """Returns the figures of --published, whose files are inputs."""
  paths = [pathlib.Path(path) for path in paths]
  output.inputs(paths)
  return [figure for path in paths for figure in published_lib.read(path)]


def comparable_ranks(
  output: program.Output,
  figures: Iterable[published_lib.Published],
  ranks: Mapping[ranks_lib.Axis, ranks_lib.SetRanks],
  num_public: int = NUM_PUBLIC,
) -> dict[ranks_lib.Axis, ranks_lib.SetRanks]:
  """Returns the ranks that are among as many models as published ones.

  Args:
    output: for a note on each data set whose published ranks cannot be
      compared.
    figures: published ones.
    ranks: ours, on each data set.
    num_public: models that published ranks are among.
  """
  kept = {axis: found for axis, found in ranks.items() if found.n == num_public}
  lacking = {}
  for figure in figures:
    axis = figure.key[1:4]
    if figure.key.field == published_lib.RANK and axis not in kept:
      lacking[axis[0]] = ranks[axis].n if axis in ranks else 0
  for dataset, n in lacking.items():
    output.note(
      f"{dataset}: published ranks are among {num_public} models and {n} are"
      " here: ranks are not compared"
    )
  return kept


def compare(
  published: Iterable[published_lib.Published], ours: Ours
) -> list[Compared]:
  """Puts our numbers, fractions or plain, beside published figures."""
  return [_compared(figure, ours.get(figure.key)) for figure in published]


def _compared(figure: published_lib.Published, value) -> Compared:
  if value is None:
    return Compared(figure, None, None, ABSENT)
  if not published_lib.is_plain(figure.key.field):
    value = 100 * value
  difference = value - figure.number
  if abs(difference) <= figure.half_unit + _ROUNDING:
    verdict = AGREES
  else:
    verdict = NOT_COUNTED if figure.not_counted else DIFFERS
  return Compared(figure, value, difference, verdict)


def cells(compared: Iterable[Compared]) -> Iterable[tuple[Any, ...]]:
  """Yields the cells of comparison.csv, in the order of COLUMNS."""
  for c in compared:
    figure = c.published
    plain = published_lib.is_plain(figure.key.field)
    yield (
      figure.source,
      *figure.key,
      "plain" if plain else "percent",
      figure.text,
      c.ours,
      c.difference,
      figure.half_unit,
      c.verdict,
      figure.not_counted,
    )


def summarized(compared: Sequence[Compared]) -> table.Table:
  """Returns how many figures agree, for each source, set, metric and field."""
  groups: dict[tuple[str, ...], list[Compared]] = {}
  for c in compared:
    key = c.published.key
    what = (c.published.source, key.dataset, key.metric, key.field)
    groups.setdefault(what, []).append(c)
  rows = []
  for what, members in groups.items():
    verdicts = [c.verdict for c in members]
    off = [
      abs(c.difference)
      for c in members
      if c.difference is not None and not c.published.not_counted
    ]
    rows.append(
      (
        *what,
        *(str(verdicts.count(v)) for v in (AGREES, DIFFERS, NOT_COUNTED)),
        str(verdicts.count(ABSENT)),
        f"{np.mean(off):.3f}" if off else "",
        f"{max(off):.3f}" if off else "",
      )
    )
  header = ("source", "data set", "metric", "field", AGREES, DIFFERS)
  return table.of_cells(
    "Published figures beside ours; differences, of those that count, in"
    " percentage points or plain numbers",
    (*header, NOT_COUNTED, ABSENT, "mean |diff.|", "largest"),
    tuple(rows),
    num_left=4,
  )


def verdict(compared: Sequence[Compared]) -> str:
  """Returns the figures that differ, and how many do as the last line."""
  differing = [c for c in compared if c.verdict == DIFFERS]
  tested = differing + [c for c in compared if c.verdict == AGREES]
  lines = []
  for c in sorted(differing, key=lambda c: -abs(c.difference))[:_MOST]:
    key = c.published.key
    lines.append(
      f"  {key.model} {key.dataset} {key.subset} {key.metric} {key.field}:"
      f" published {c.published.text}, ours {c.ours:.4f}"
      f" ({c.difference:+.4f})"
    )
  if len(differing) > _MOST:
    lines.append(f"  and {len(differing) - _MOST} more, in comparison.csv")
  if lines:
    lines.insert(0, "Differ by more than the printed precision:")
  last = (
    f"{len(differing)} of {len(tested)} published figures differ by more than"
    " the printed precision"
  )
  for other in (ABSENT, NOT_COUNTED):
    count = sum(c.verdict == other for c in compared)
    last += f", {count} {other}" if count else ""
  return "\n".join([*lines, last])


def columns(
  compared: Sequence[Compared],
  dataset: str,
  metric: str,
  subset: str = summary.ALL,
  field: str = published_lib.VALUE,
) -> tuple[table.Cell, table.Cell]:
  """Returns columns for `table.by_name`: published, and ours minus published.

  Where several sources have a figure it is the first one's.
  """
  found: dict[str, Compared] = {}
  for c in compared:
    key = c.published.key
    if key[1:] == (dataset, subset, metric, field):
      found.setdefault(key.model, c)

  def published(model: str) -> str:
    return f"{found[model].published.number:.7g}" if model in found else ""

  def difference(model: str) -> str:
    if model not in found or found[model].difference is None:
      return ""
    return f"{found[model].difference:+z.2f}"

  return published, difference


def write(output: program.Output, compared: Sequence[Compared]) -> None:
  """Adds comparison.csv; prints the summary and, at the end, the count."""
  output.csv("comparison.csv", COLUMNS, cells(compared))
  print(summarized(compared).text())
  output.end_with(verdict(compared))
