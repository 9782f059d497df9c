"""Tables of reviewed mistakes, and pairs of confused classes."""

from collections.abc import Sequence
import dataclasses
from typing import Any

from imgbench.labels import classes
from imgbench.papers.mistakes import counted as tables
from imgbench.papers.mistakes import reviewed as mistakes
from imgbench.tables import formats
from imgbench.tables import frame
from imgbench.tables import table

PAIR_COLUMNS = (
  "source",
  "order",
  "first_wnid",
  "first",
  "second_wnid",
  "second",
  "count",
)
EITHER_WAY, BY_LABEL = "either_way", "label_then_prediction"


def kind_grid(
  caption: str,
  shares: frame.Measurements,
  categories: Sequence[str],
  reviewed: str = "",
) -> table.Table:
  """Returns a table of category x severity for all images."""
  found = {key[-1]: m for key, m in shares.items() if key[2] == tables.ALL}
  return table.from_names(
    caption,
    (*categories, tables.ALL),
    {
      severity: lambda category, severity=severity: _format_count(
        found[tables.name_metric(category, severity, reviewed)]
      )
      for severity in tables.GROUPS
    },
    "category",
  )


def _format_count(share) -> str:
  """Returns a number of images and its percentage, e.g. "87 (23.0)"."""
  if share.value is None:
    return "-"
  return f"{share.correct} ({formats.percent(share.value, 1)})"


def subset_grid(
  model: str, shares: frame.Measurements, categories: Sequence[str]
) -> table.Table:
  """Returns a table of subset x category for all severities."""
  found = {key[2:]: m for key, m in shares.items()}

  def share(subset: str, category: str):
    return found[subset, tables.name_metric(category, tables.ALL)]

  return table.from_names(
    f"{model}: mistakes by subset of the original label and by category, with"
    " percentages of the subset's mistakes",
    dict.fromkeys(subset for subset, _ in found),
    {
      "mistakes": lambda subset: str(share(subset, tables.ALL).n),
      **{
        category: lambda subset, category=category: _format_count(
          share(subset, category)
        )
        for category in categories
      },
    },
    "subset",
  )


def overlap_grid(found: Sequence[tables.Overlap]) -> table.Table:
  """Returns a table of the overlap of models' mistakes."""
  return table.from_cells(
    "Images that both models get wrong, those with the same prediction, and of"
    " these the same reviewed category and severity",
    tuple(name.replace("_", " ") for name in tables.Overlap._fields),
    tuple(tuple(map(str, entry)) for entry in found),
    num_left=2,
  )


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Confused classes of one source, the most frequent first.

  Attributes:
    source: name of the file of confusions, or of a model.
    order: EITHER_WAY, or BY_LABEL: the original label first.
    found: the pairs.
  """

  source: str
  order: str
  found: tuple[mistakes.Pair, ...]

  def rows(self) -> list[tuple[Any, ...]]:
    """Returns the rows of pairs.csv."""
    wnids, names = classes.imagenet_classes().wnids, classes.short_names()
    return [
      (self.source, self.order, wnids[a], names[a], wnids[b], names[b], count)
      for a, b, count in self.found
    ]

  def grid(self, top: int) -> table.Table:
    """Returns a table of the first `top` pairs."""
    header = ("class", "class")
    caption = "Classes that ViT-3B confused most often, either way"
    if self.order == BY_LABEL:
      header = ("original label", "prediction")
      caption = f"Most frequent mistakes of {self.source}"
    names = classes.short_names()
    rows = [(names[a], names[b], str(n)) for a, b, n in self.found[:top]]
    return table.from_cells(
      caption, (*header, "mistakes"), tuple(rows), num_left=2
    )

  def draw(self, top: int):
    """Returns a function that draws the first `top` pairs."""
    # Matplotlib is slow to import.
    from imgbench.papers.mistakes import figures

    arrow, x_label = "–", "mistakes of ViT-3B, either way"
    if self.order == BY_LABEL:
      arrow = "→"
      x_label = f"mistakes of {self.source} (original label → prediction)"
    names = classes.short_names()
    return figures.draw_pairs(self.found[:top], names, arrow, x_label)
