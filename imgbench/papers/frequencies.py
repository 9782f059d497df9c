"""Accuracy by selection frequency: the share of workers who chose an image.

Source: Recht et al. 2019 (arXiv 1902.10811); the bins are those of its code.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import functools
import itertools
import pathlib

import numpy as np
import pandas as pd

from imgbench import errors
from imgbench.metrics import drops
from imgbench.metrics import intervals
from imgbench.metrics import measurement
from imgbench.metrics import specs
from imgbench.papers import program
from imgbench.papers import records
from imgbench.papers import study as study_lib
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.tables import frame

# A frequency on an edge is in the upper bin; subset -> middle of its bin.
EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
BINS = {f"frequency_{a}_{b}": (a + b) / 2 for a, b in itertools.pairwise(EDGES)}
KNOWN = "frequency_known"
# Data set -> mean over its images, as the paper states.
MEANS = {
  datasets.MATCHED_FREQUENCY: 0.73,
  datasets.THRESHOLD: 0.85,
  datasets.TOP_IMAGES: 0.93,
}
REWEIGHTED = ("reweighted_drop", "reweighted_low", "reweighted_high")
DROP_COLUMNS = (*study_lib.COLUMNS["drops"], *REWEIGHTED)
_TOP1 = "top1_accuracy"
_FILE = {"image_id": str, "selection_frequency": float}


def read(
  output: program.Output,
  given: Sequence[str],
  known: Mapping[str, records.Dataset],
) -> dict[str, np.ndarray]:
  """Returns data set -> frequencies of its images, float64 [N], NaN for none.

  Args:
    output: gets the names of the files, and notes on images left out.
    given: texts DATASET=FILE.csv.
    known: the data sets by name.

  Raises:
    InputError: an unknown data set or one given twice, a file without the two
      columns, a number outside [0, 1], an image twice or none of the data set.
  """
  found: dict[str, np.ndarray] = {}
  for text in given:
    name, _, file = text.partition("=")
    wanted = f"DATASET=FILE.csv, once for one of {', '.join(known)}"
    valid = bool(file) and name in known and name not in found
    errors.check(valid, "--frequencies", wanted, repr(text))
    path, wanted = pathlib.Path(file).expanduser(), ", ".join(_FILE)
    try:
      lines = pd.read_csv(path, usecols=list(_FILE), dtype=_FILE)
    except (OSError, ValueError) as error:
      reason = errors.find_reason(error)
      raise errors.InputError(path, f"columns {wanted}", reason) from error
    of_image = lines.set_index("image_id").selection_frequency
    bad = of_image[~of_image.between(0, 1) | of_image.index.duplicated()]
    wanted = "every image once, with a number in [0, 1]"
    errors.check(bad.empty, str(path), wanted, bad[:1].to_dict())
    found[name] = of_image.reindex(known[name].image_ids).to_numpy()
    absent = int(np.isnan(found[name]).sum())
    wanted = f"images such as {known[name].image_ids[0]}"
    errors.check(absent < len(known[name]), str(path), wanted, "none")
    output.inputs([path])
    if absent:
      output.note(f"{name}: {absent:,} images have no selection frequency")
  return found


def report(
  output: program.Output,
  found: study_lib.Study,
  collection: clone.Collection,
  frequencies: Mapping[str, np.ndarray],
) -> None:
  """Adds a figure by the sets' means, and files by the images' frequencies.

  Args:
    output: gets them.
    found: accuracies and pairs of sets without common images.
    collection: of the predictions.
    frequencies: of `read`.
  """
  whole = frame.select(found.rows, metric=_TOP1, subset="all")
  means = whole.assign(x=whole.dataset.map(MEANS)).dropna(subset=["x"])
  if means.dataset.nunique() > 1:
    title = ", ".join(map(datasets.SHORT_TITLES.get, means.dataset.unique()))
    draw = functools.partial(_draw, panels={title: means}, own=found.outside)
    draw = functools.partial(draw, xlabel="mean selection frequency")
    output.figure(f"{_TOP1}-by-mean-frequency", draw)
  if not frequencies:
    return
  rows = _measure(collection, frequencies)
  study_lib.write_rows(output, rows, "frequency.csv")
  lost = frame.to_rows(_compute_drops(rows, found.pairs))
  if lost:
    output.csv("frequency_drops.csv", DROP_COLUMNS, lost)
  for row in lost:
    if row.reweighted_drop is None:
      what = f"reweighted drop of {row.model}, {row.base} - {row.dataset}"
      output.undefined(what, f"no image of {row.dataset} in a bin of the base")
  rows = rows.assign(x=rows.subset.map(BINS)).dropna(subset=["x"])
  panels = {datasets.TITLES[n]: rows[rows.dataset == n] for n in frequencies}
  draw = functools.partial(_draw, panels=panels, own=found.outside)
  output.figure(f"{_TOP1}-by-frequency", draw)


def _measure(collection, frequencies) -> pd.DataFrame:
  """Returns top-1 accuracies of KNOWN and BINS."""
  measurer = measurement.Measurer(alpha=0.05)
  text, found = specs.describe(_TOP1).definition, {}
  for name, values in frequencies.items():
    masks = {KNOWN: np.isfinite(values)}
    places = np.where(masks[KNOWN], np.digitize(values, EDGES[1:-1]), -1)
    masks |= {subset: places == i for i, subset in enumerate(BINS)}
    for p in collection.predictions[name]:
      right = p.ranking[:, 0] == collection.datasets[name].labels
      for subset, mask in masks.items():
        counts = int(right[mask].sum()), int(mask.sum())
        found[p.model, name, subset, _TOP1] = measurer.proportion(*counts, text)
  return study_lib.order_rows(datasets.KNOWN, found)


def _compute_drops(rows: pd.DataFrame, pairs) -> pd.DataFrame:
  """Returns plain and reweighted drops of rows of `_measure`."""
  counts = {row[:3]: (row.correct or 0, row.n) for row in frame.to_rows(rows)}
  known = frame.select(rows, subset=KNOWN)
  found = study_lib.Study(known, pairs, study_lib.pair_same([_TOP1])).drops
  cells = [
    counts[row.model, row.base, b] + counts[row.model, row.dataset, b]
    for row in frame.to_rows(found)
    for b in BINS
  ]
  cells = np.array(cells, np.float64).reshape(len(found), len(BINS), 4)
  hits_base, n_base, hits, n = np.moveaxis(cells, 2, 0)
  k, total = hits_base.sum(axis=1), n_base.sum(axis=1)
  share = n_base / total[:, None]
  with np.errstate(divide="ignore", invalid="ignore"):
    value = np.where(n_base > 0, share * hits / n, 0).sum(axis=1)
  # A hit and a miss more in each bin: few hits are not certain (Agresti and
  # Caffo 2000). The base's shares count as known.
  variance = share**2 * (hits + 1) * (n - hits + 1) / (n + 2) ** 3
  half = intervals.normal_quantile(0.05) * np.sqrt(variance.sum(axis=1))
  bounds = intervals.wilson(k, total), (value - half, value + half)
  lost = drops.square_and_add(k / total, bounds[0], value, bounds[1])
  return found.assign(**dict(zip(REWEIGHTED, lost, strict=True)))


def _draw(theme, panels, own, xlabel="selection frequency"):
  """Returns a figure of accuracy by frequency, public models in grey."""
  from imgbench.tables import themes  # Matplotlib is slow to import.

  figure = themes.figure(4.8, 4.8 * len(panels))
  grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
  named = {}
  for axes, (title, rows) in zip(grid, panels.items(), strict=True):
    axes.set(title=title, xlabel=xlabel)
    axes.set(xticks=sorted(set(rows.x)), ylabel="Top-1 accuracy (%)")
    axes.grid(True)
    for model, line in rows.sort_values("x").groupby("model"):
      style = {"color": theme.muted, "lw": 0.5, "ms": 2, "alpha": 0.5}
      if model in own:
        style = {"label": themes.plain(model), "zorder": 3}
        style["color"] = f"C{sorted(own).index(model)}"
      lines = axes.plot(line.x, 100 * line.value, "o-", **style)
      named |= {style["label"]: lines[0]} if model in own else {}
  if named:
    loc, ncols = "outside upper left", 2 * len(panels)
    figure.legend(named.values(), named, loc=loc, ncols=ncols)
  return figure
