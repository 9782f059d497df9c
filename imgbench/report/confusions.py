"""Builds the section on mistakes: confused classes, confident mistakes."""

from collections.abc import Sequence
import io

import numpy as np
from PIL import Image
from PIL import PngImagePlugin

from imgbench import paths
from imgbench import report
from imgbench import writers
from imgbench.report import figures
from imgbench.report import figures_rows
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import formats
from imgbench.tables import page
from imgbench.tables import pictures
from imgbench.tables import table

MAX_MATRIX = 40  # classes of a readable confusion matrix
MAX_PAIRS = 25
MAX_WORST = 15
MAX_CLASSES = 60  # rows in the table of classes
MAX_MISTAKES = 18
# Metadata key of a PNG of mistakes: the digest of those it shows. PNGs of older
# versions, with captions, have another one.
_DIGEST = "imgbench-mistaken-images"
_CAPTION = (
  "Wrong top-1 predictions of highest confidence, judged by the original label:"
  " if an image shows several objects, the prediction may name another of them."
)
_REVIEWED_CAPTION = (
  "Top-1 predictions that differ from the original label, those that annotators"
  " call wrong first, then unreviewed, unclear and accepted ones; each by"
  " confidence."
)


def build(
  folder: paths.Folder,
  dataset: inputs.DatasetFiles,
  lookup: report.ImageLookup | None,
  with_figures: bool,
) -> list[page.Block]:
  """Returns the blocks on a data set's mistakes; draws into the folder.

  Args:
    folder: of the run.
    dataset: to show.
    lookup: of `report.write_report`.
    with_figures: whether the worst classes are drawn, too.
  """
  ending = f"_{writers.make_file_key(dataset.key)}.png"
  found = []
  if dataset.confusion is not None:
    found += _build_confusion(folder / f"confusion{ending}", dataset)
  if any(row.recall is not None for row in dataset.classes):
    path = folder / f"worst_classes{ending}"
    found += _build_classes(path if with_figures else None, dataset)
  if dataset.predictions is not None:
    found += _build_mistakes(folder / f"mistakes{ending}", dataset, lookup)
  return found


def _build_confusion(
  path: paths.Folder, dataset: inputs.DatasetFiles
) -> list[page.Block]:
  predictions = dataset.predictions
  pairs = selection.find_confused_pairs(
    dataset.confusion, MAX_PAIRS, predictions
  )
  num_classes = len(dataset.confusion)
  if not pairs and num_classes > MAX_MATRIX:
    return []
  totals = dataset.confusion.sum(axis=1)
  count = lambda pair: formats.counted(pair[2], totals[pair[0]])
  columns = [
    table.Column(0, "True class", format=dataset.name),
    table.Column(1, "Predicted", format=dataset.name),
    table.number(count, "Images of the true class"),
  ]
  if predictions is not None and predictions.review is not None:
    judged = lambda pair: selection.describe_reviews(predictions, *pair[:2])
    columns.append(table.Column(judged, "Reviews"))
  as_table = table.Table("", columns, pairs)
  if num_classes > MAX_MATRIX:
    note = (
      f"The {len(pairs)} most frequent confusions among {num_classes:,}"
      " classes; the whole matrix is in confusion.npz."
    )
    return [
      page.Heading("Most confused classes"),
      as_table,
      page.Paragraph(note, muted=True),
    ]
  figure = pictures.draw(
    path,
    figures.draw_confusion_matrix,
    dataset,
    alt=f"Confusion matrix of {dataset.key}",
    caption="Images by true class (rows, the original label) and top-1"
    " prediction (columns).",
  )
  found = [page.Heading("Confusion matrix"), *figure]
  if pairs:
    found.append(page.Folded("Most frequent confusions", as_table))
  return found


def _build_classes(
  path: paths.Folder | None, dataset: inputs.DatasetFiles
) -> list[page.Block]:
  worst = selection.select_worst_classes(dataset.classes, MAX_CLASSES)
  total = len(dataset.classes)
  title = f"All {total:,} classes"
  if total > len(worst):
    title = f"The {len(worst)} worst of {total:,} classes (all: per_class.csv)"
  figure = path and pictures.draw(
    path,
    figures_rows.draw_worst_classes,
    dataset,
    limit=MAX_WORST,
    alt=f"Classes of {dataset.key} with the lowest recall",
    caption="Recall with its interval, lowest first; on the right the most"
    " frequent wrong prediction and its count.",
  )
  as_table = page.Folded(title, build_class_table(dataset, worst))
  return [page.Heading("Worst classes"), *(figure or ()), as_table]


def build_class_table(
  dataset: inputs.DatasetFiles, rows: Sequence[inputs.ClassRow]
) -> table.Table:
  """Returns recall, precision, F1 and any areas under curves by class."""

  def interval(row):
    if row.recall_ci_low is None:
      return formats.DASH
    bounds = row.recall_ci_low, row.recall_ci_high
    return " – ".join(formats.percent(bound, 1) for bound in bounds)

  def taken_for(row):
    taken = selection.find_top_confusion(dataset.confusion, row.class_index)
    if not taken:
      return formats.DASH
    judged = selection.describe_reviews(
      dataset.predictions, row.class_index, taken[0]
    )
    return f"{dataset.name(taken[0])} ({judged or f'{taken[1]:,}'})"

  count = lambda row: formats.counted(row.correct, row.n)
  columns = [
    table.Column("class_name", "Class"),
    table.number(count, "Correct of n"),
    table.number(lambda row: f"{row.predicted:,}", "Predicted"),
    table.number("recall", "Recall", formats.share),
    table.number(interval, "Interval"),
    table.number("precision", "Precision", formats.share),
    table.number("f1", "F1", formats.share),
  ]
  if any(row.average_precision is not None for row in rows):
    for key, title, curve in (
      ("average_precision", "Average precision", "precision-recall"),
      ("roc_auc", "ROC AUC", "ROC"),
    ):
      heading = table.RichText(title, help=f"area under the {curve} curve")
      columns.append(table.number(key, heading, formats.decimal))
  columns.append(table.Column(taken_for, "Most often predicted as"))
  return table.Table("", columns, rows)


def _build_mistakes(
  path: paths.Folder,
  dataset: inputs.DatasetFiles,
  lookup: report.ImageLookup | None,
) -> list[page.Block]:
  chosen = selection.select_mistakes(dataset.predictions, MAX_MISTAKES)
  if not chosen:
    return []
  columns = [
    table.Column("image_id", "Image"),
    table.Column("predicted", "Predicted", format=dataset.name),
    table.number("confidence", "Confidence", formats.share),
    table.Column("label", "Original label", format=dataset.name),
  ]
  if chosen[0].review:
    columns.append(table.Column("review", "Review"))
  as_table = table.Table("", columns, chosen)
  return [
    page.Heading("Most confident mistakes"),
    _show_pictures(path, dataset, chosen, lookup),
    page.Folded("As a table", as_table),
  ]


def _show_pictures(
  path: paths.Folder,
  dataset: inputs.DatasetFiles,
  chosen: Sequence[selection.Mistake],
  lookup: report.ImageLookup | None,
) -> page.Block:
  caption = _REVIEWED_CAPTION if chosen[0].review else _CAPTION
  digest = selection.hash_mistakes(chosen)
  if lookup is None:
    images = _read_kept(path, digest, len(chosen))
    if images is None:
      words = f"{caption} The images were not available."
      return page.Paragraph(words, muted=True)
  else:
    indices = np.array([mistake.index for mistake in chosen])
    images = lookup(dataset.key, indices)
    if images.dtype != np.uint8 or images.shape[:1] != indices.shape:
      raise ValueError(
        f"image_lookup: expected uint8 [{len(indices)}, H, W, C], got"
        f" {images.dtype} {list(images.shape)}"
      )
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    _keep(path, digest, images)
  lines = [
    (
      dataset.name(mistake.predicted),
      f"{formats.share(mistake.confidence)} confident",
      f"label: {dataset.name(mistake.label)}",
      mistake.review,
    )
    for mistake in chosen
  ]
  alt = f"One of the most confident mistakes on {dataset.key}"
  return pictures.Gallery(images, lines, alt, caption)


def _keep(path: paths.Folder, digest: str, images: np.ndarray) -> None:
  """Writes images [M, H, W, 3] side by side, for later reports."""
  described = PngImagePlugin.PngInfo()
  described.add_text(_DIGEST, digest)
  buffer = io.BytesIO()
  sheet = Image.fromarray(np.concatenate(images, axis=1))
  sheet.save(buffer, "png", pnginfo=described)
  writers.write_atomically(path, buffer.getvalue())


def _read_kept(
  path: paths.Folder, digest: str, count: int
) -> np.ndarray | None:
  """Returns the images of an earlier report if it shows these mistakes."""
  if not path.is_file():
    return None
  try:
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
      if picture.info.get(_DIGEST) != digest:
        return None
      return np.stack(np.split(np.asarray(picture), count, axis=1))
  except (OSError, ValueError):  # Not such a PNG.
    return None
