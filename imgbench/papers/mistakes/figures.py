"""Figures of reviewed mistakes: their kinds, and pairs of classes."""

from collections.abc import Callable
from collections.abc import Sequence

from matplotlib import figure as mpl_figure
from matplotlib import ticker

from imgbench.papers.mistakes import counted as tables
from imgbench.papers.mistakes import reviewed as mistakes_lib
from imgbench.tables import formats
from imgbench.tables import themes

Draw = Callable[[themes.Theme], mpl_figure.Figure]

_NARROW = 0.05  # of the widest bar; a number does not fit in less


def draw_kinds(
  reviewed: Sequence[mistakes_lib.ModelMistakes], categories: Sequence[str]
) -> Draw:
  """Returns a function that draws bars by category and severity."""
  found = [
    tables.count_mistakes(model.mistakes, categories) for model in reviewed
  ]
  widest = max(
    counts[category, tables.ALL] for counts in found for category in categories
  )

  def draw(theme: themes.Theme) -> mpl_figure.Figure:
    height = 1.5 + 0.42 * len(categories)
    figure = mpl_figure.Figure(
      figsize=(3.2 + 3.6 * len(reviewed), height), layout="constrained"
    )
    panels = figure.subplots(1, len(reviewed), sharey=True, squeeze=False)[0]
    for axes, model, counts in zip(panels, reviewed, found, strict=True):
      axes.set_title(
        themes.plain(f"{model.model}: {len(model.mistakes)} mistakes")
      )
      _draw_kinds(axes, theme, counts, categories, widest)
    panels[0].set_yticks(
      range(len(categories)), [themes.plain(name) for name in categories]
    )
    panels[0].set_ylim(len(categories) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))
    return figure

  return draw


def _draw_kinds(axes, theme, counts, categories, widest) -> None:
  done = [0] * len(categories)
  for severity, shade in zip(mistakes_lib.SEVERITIES, (1, 0, 2), strict=True):
    sizes = [counts[category, severity] for category in categories]
    axes.barh(
      range(len(categories)),
      sizes,
      left=done,
      height=0.68,
      color=theme.series[shade],
      label=severity,
    )
    for place, (start, size) in enumerate(zip(done, sizes, strict=True)):
      if size > _NARROW * widest:
        axes.text(
          start + size / 2,
          place,
          str(size),
          ha="center",
          va="center",
          fontsize=8.5,
          color=theme.background,
        )
    done = [start + size for start, size in zip(done, sizes, strict=True)]
  for place, total in enumerate(done):
    axes.annotate(
      str(total),
      (total, place),
      xytext=(5, 0),
      textcoords="offset points",
      va="center",
      fontsize=8.5,
      color=theme.muted,
    )
  axes.set_xlim(0, 1.12 * widest)
  axes.set_xlabel("images")
  axes.grid(axis="x")
  axes.tick_params(axis="y", labelcolor=theme.text)
  axes.spines["left"].set_visible(False)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))


def draw_pairs(
  found: Sequence[mistakes_lib.Pair],
  names: Sequence[str],
  arrow: str,
  x_label: str,
) -> Draw:
  """Returns a function that draws bars of pairs of classes.

  Args:
    found: in the order of the bars, at least one.
    names: of all classes.
    arrow: between the names of two classes.
    x_label: the count.
  """

  def draw(theme: themes.Theme) -> mpl_figure.Figure:
    figure = mpl_figure.Figure(
      figsize=(8.0, 1.0 + 0.27 * len(found)), layout="constrained"
    )
    axes = figure.subplots()
    axes.barh(
      range(len(found)),
      [pair.count for pair in found],
      height=0.68,
      color=theme.series[0],
    )
    labels = [
      f" {arrow} ".join(formats.short(names[i]) for i in pair[:2])
      for pair in found
    ]
    axes.set_yticks(range(len(found)), [themes.plain(x) for x in labels])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.tick_params(axis="y", labelcolor=theme.text)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.set_xlabel(x_label)
    return figure

  return draw
