"""Builds the section on reconstructed images: pictures, errors, anomalies."""

from matplotlib import figure as mpl_figure
import numpy as np

from imgbench import writers
from imgbench.report import entry_tables
from imgbench.report import inputs
from imgbench.tables import formats
from imgbench.tables import page
from imgbench.tables import pictures
from imgbench.tables import themes

_GAP = 2  # pixels between the images of a pair
_BINS = 40


def build(
  run: inputs.Run, dataset: inputs.DatasetFiles, with_figures: bool
) -> list[page.Block]:
  """Returns the blocks on a data set's reconstructions, if it has any."""
  found = dataset.reconstructions
  if found is None:
    return []
  blocks = [page.Heading("Inputs beside reconstructions"), _show(found)]
  if with_figures:
    blocks.append(page.Heading("Errors"))
    blocks += pictures.draw(
      run.workdir / f"errors_{writers.make_file_key(dataset.key)}.png",
      draw_errors,
      found,
      threshold=_find_threshold(run, dataset.key),
      alt=f"Errors of reconstructions on {dataset.key}",
      caption=_describe_errors(found),
    )
  of_subsets = [
    row
    for row in run.results or ()
    if (row.dataset, row.metric) == (dataset.key, "mse") and row.subset != "all"
  ]
  if of_subsets:
    blocks.append(entry_tables.build_subsets(run, of_subsets))
  return blocks


def _show(found: inputs.Reconstructions) -> pictures.Gallery:
  """Returns the pairs of images that a run kept."""
  shape = (*found.images.shape[:2], _GAP, found.images.shape[-1])
  white = np.full(shape, 255, np.uint8)
  pairs = np.concatenate([found.images, white, found.reconstructions], axis=2)
  channels = 3 if pairs.shape[-1] == 1 else 1
  lines = []
  for index in found.shown:
    line = [formats.number("mse", float(found.mse[index]))]
    if found.abnormal is not None and found.abnormal[index]:
      line.append("abnormal")
    lines.append(line)
  # Of a large set only the first reconstructions are kept, until the errors of
  # all images are known; see `evaluators.reconstruction`.
  largest = lambda mse: np.max(mse, initial=0.0, where=np.isfinite(mse))
  among = ""
  if largest(found.mse[found.shown]) < largest(found.mse):
    among = " among the first images of the set"
  return pictures.Gallery(
    np.repeat(pairs, channels, axis=-1),
    lines,
    alt="Images and their reconstructions",
    caption="On the left the input, on the right its reconstruction, with the"
    f" mean squared error: first the highest errors{among}, then middle ones.",
  )


def _find_threshold(run: inputs.Run, key: str) -> float | None:
  wanted = key, "anomaly_threshold"
  values = [
    r.value for r in run.results or () if (r.dataset, r.metric) == wanted
  ]
  return values[0] if values else None


def _describe_errors(found: inputs.Reconstructions) -> str:
  if found.normal is None:
    return "Number of images by mean squared error, on a logarithmic scale."
  return (
    "Left: share of the normal and of the abnormal images by mean squared"
    " error, on a logarithmic scale; the line is the threshold, if one was"
    " chosen on another set. Right: precision against recall of flagging the"
    " images of highest errors as abnormal."
  )


def draw_errors(
  theme: themes.Theme,
  found: inputs.Reconstructions,
  threshold: float | None = None,
) -> mpl_figure.Figure:
  """Draws a histogram of errors, and precision against recall if known."""
  figure = themes.figure(3.8)
  curve = found.recall is not None
  axes = figure.subplots(1, 1 + curve, squeeze=False)[0]
  kinds = {"all images": np.ones(len(found.mse), bool)}
  if found.normal is not None:
    kinds = {"normal": found.normal, "abnormal": found.abnormal}
  positive = found.mse[np.isfinite(found.mse) & (found.mse > 0)]
  if positive.size:
    low, high = float(positive.min()), float(positive.max())
    ends = np.geomspace(low, max(high, low * 1.01), _BINS + 1)
    for color, (name, rows) in zip(theme.series, kinds.items(), strict=False):
      values = found.mse[rows & np.isfinite(found.mse)]
      counts, _ = np.histogram(np.clip(values, low, ends[-1]), ends)
      share = 100 * counts / max(rows.sum(), 1)
      axes[0].stairs(share, ends, fill=True, color=color, alpha=0.25)
      axes[0].stairs(share, ends, color=color, label=f"{name} ({rows.sum():,})")
    axes[0].set_xscale("log")
    axes[0].legend()
  if threshold:
    axes[0].axvline(threshold, color=theme.text, linewidth=1, dashes=(4, 3))
  axes[0].set_title("Errors")
  axes[0].set_xlabel("mean squared error")
  axes[0].set_ylabel("share of images")
  axes[0].yaxis.set_major_formatter(formats.PERCENT_TICKS)
  axes[0].grid(axis="y")
  if curve:
    recall = 100 * np.append(0, found.recall)
    precision = 100 * np.append(found.precision[:1], found.precision)
    share = 100 * found.abnormal.sum() / (found.abnormal | found.normal).sum()
    axes[1].axhline(share, color=theme.muted, linewidth=1, dashes=(4, 3))
    axes[1].plot(
      recall, precision, drawstyle="steps-pre", color=theme.series[0]
    )
    axes[1].set_title("Precision and recall of anomalies")
    axes[1].set_xlabel("recall")
    axes[1].set_ylabel("precision")
    axes[1].set_xlim(-3, 103)
    axes[1].set_ylim(-3, 103)
    axes[1].grid(True)
    axes[1].xaxis.set_major_formatter(formats.PERCENT_TICKS)
    axes[1].yaxis.set_major_formatter(formats.PERCENT_TICKS)
  return figure
