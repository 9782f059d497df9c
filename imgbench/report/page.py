"""Writes the HTML page of a run: one file without scripts or requests."""

import shlex
from typing import Any

from absl import logging

from imgbench import paths
from imgbench import report
from imgbench import writers
from imgbench.metrics import specs
from imgbench.report import accuracies
from imgbench.report import confusions
from imgbench.report import entry_tables
from imgbench.report import figures
from imgbench.report import figures_probabilities
from imgbench.report import inputs
from imgbench.report import overview
from imgbench.report import recommendations
from imgbench.report import reconstructions
from imgbench.report import selection
from imgbench.tables import formats
from imgbench.tables import page
from imgbench.tables import pictures

MIN_BIN = 10  # images of a bin whose accuracy is drawn


def write(
  workdir: paths.Folder, image_lookup: report.ImageLookup | None
) -> paths.Folder:
  """Writes the page; see `imgbench.report.write_report`."""
  shown = build_contents(inputs.read(workdir), image_lookup)
  text = page.render("report/templates/run.html.j2", **shown)
  path = workdir / "report.html"
  writers.write_atomically(path, text)
  return path


def build_contents(
  run: inputs.Run, lookup: report.ImageLookup | None
) -> dict[str, Any]:
  """Returns the variables of the page; draws figures into the workdir."""
  sections = [
    page.Section(anchor, run.mark(title), build(run))
    for anchor, title, build in (
      ("published", "Published accuracy", accuracies.build_published),
      ("beyond", recommendations.TITLE, recommendations.build),
      ("results", "Results", accuracies.build_results),
      ("subsets", "Class subsets", accuracies.build_subsets),
      ("curves", "Training", _draw_curves),
    )
  ]
  drawn = selection.select_drawn(run)
  for place, dataset in enumerate(run.charted, 1):
    logging.info("report: %s, %d of %d", dataset.key, place, len(run.charted))
    with_figures = dataset.key in drawn
    mistakes = confusions.build(run.workdir, dataset, lookup, with_figures)
    images = reconstructions.build(run, dataset, with_figures)
    probabilities = []
    if with_figures:
      probabilities = _build_probabilities(run, dataset)
    for name, title, blocks in (
      ("images", "Reconstructions", images),
      ("errors", "Mistakes", mistakes),
      ("probabilities", "Probabilities", probabilities),
    ):
      anchor = f"{name}-{writers.make_file_key(dataset.key)}"
      heading = run.mark(f"{title} on {dataset.key}", dataset.key)
      sections.append(page.Section(anchor, heading, blocks))
  command = overview.format_command(run)
  setup = page.provenance(command, run.config, run.environment)
  setup = setup or [page.Paragraph("Not written.")]
  sections.append(page.Section("setup", "Config and environment", setup))
  header = overview.build_header(run)
  return {**header, "sections": sections, "coverage": run.coverage}


def _draw_curves(run: inputs.Run) -> list[page.Block]:
  if not run.records:
    return []
  first, last = (run.records[i]["step"] for i in (0, -1))
  return pictures.draw(
    run.workdir / "curves.png",
    figures.draw_curves,
    run.records,
    alt="Loss, accuracy, learning rate and speed against the training step",
    caption=f"As logged, from step {first:,} to {last:,}, not smoothed. The"
    " training loss is the minimized one (with label smoothing and weights of"
    " classes, if any); NLL is the negative log-likelihood.",
  )


def _build_probabilities(
  run: inputs.Run, dataset: inputs.DatasetFiles
) -> list[page.Block]:
  """Returns the blocks on reliability and precision-recall, if any."""
  found = []
  if selection.select_bins(dataset.reliability, MIN_BIN):
    found.append(page.Heading("Calibration"))
    found += _draw_reliability(run.workdir, dataset)
    rows = [
      row
      for row in run.results or ()
      if row.dataset == dataset.key and row.metric in specs.SCALING
    ]
    if any(row.value is not None for row in rows):
      found.append(page.Heading("Temperature scaling"))
      found.append(entry_tables.build_results(run, rows))
      note = "T is fitted on one half of the images; the rest is of the other."
      found.append(page.Paragraph(note, muted=True))
  if dataset.curves:
    found.append(page.Heading("Classes of lowest average precision"))
    found += _draw_precision_recall(run.workdir, dataset)
    found += _describe_thresholds(run, dataset)
  return found


def _describe_thresholds(
  run: inputs.Run, dataset: inputs.DatasetFiles
) -> list[page.Block]:
  """Returns the command that chooses a threshold of the worst class."""
  splits = [f"--dataset={dataset.key}"]
  for other in run.charted:
    if other.curves and not inputs.share_images(dataset, other):
      splits = [f"--choose={dataset.key}", f"--judge={other.key}"]
      break
  name = dataset.curves[0].class_name
  if dataset.class_names.count(name) != 1:
    name = str(dataset.curves[0].class_index)
  command = ["imgbench", "operating-points", str(run.workdir), *splits]
  command += [f"--class={name}", "--recall=0.9"]
  return [
    page.Paragraph("The threshold that finds 90% of the first class:"),
    page.Paragraph(shlex.join(command), code=True),
  ]


def _draw_reliability(
  folder: paths.Folder, dataset: inputs.DatasetFiles
) -> list[pictures.Figure]:
  bins = dataset.reliability
  shown = selection.select_bins(bins, MIN_BIN)
  small = sum(count > 0 for count in bins.count) - len(shown)
  ece = formats.number("ece", bins.ece)
  caption = (
    "Left: accuracy of predictions by confidence (the probability of the"
    " predicted class). Below the diagonal the model is overconfident, above it"
    " underconfident. Larger points are more images; lines show the distance"
    " from the diagonal, whose mean over all images is the expected calibration"
    f" error, {ece}. Right: number of predictions by confidence."
  )
  if small:
    caption += (
      f" The left omits {small} bin{'s' if small > 1 else ''} of fewer than"
      f" {MIN_BIN} images."
    )
  return pictures.draw(
    folder / f"reliability_{writers.make_file_key(dataset.key)}.png",
    figures_probabilities.draw_reliability,
    bins,
    shown=shown,
    alt=f"Accuracy against confidence on {dataset.key}",
    caption=caption,
  )


def _draw_precision_recall(
  folder: paths.Folder, dataset: inputs.DatasetFiles
) -> list[pictures.Figure]:
  return pictures.draw(
    folder / f"precision_recall_{writers.make_file_key(dataset.key)}.png",
    figures_probabilities.draw_precision_recall,
    dataset.curves,
    alt=f"Precision against recall of classes of {dataset.key}",
    caption=f"The {len(dataset.curves)} classes of lowest average precision"
    " (AP), the area under the curve; each panel shows the others in gray. An"
    " image counts as the class if its probability is at least a threshold;"
    " lower thresholds are to the right. per_class.csv has the AP of all.",
  )
