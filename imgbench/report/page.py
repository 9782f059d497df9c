"""The HTML page of a run: one file without scripts or outside requests."""

from typing import Any

from imgbench import paths
from imgbench import writers
from imgbench.report import accuracies
from imgbench.report import confusions
from imgbench.report import figures
from imgbench.report import figures_probabilities
from imgbench.report import inputs
from imgbench.report import overview
from imgbench.report import recommendations
from imgbench.report import selection
from imgbench.tables import formats
from imgbench.tables import page
from imgbench.tables import pictures

MIN_BIN = 10  # images of a bin whose share of right ones is drawn


def write(
  workdir: paths.Folder, image_lookup: confusions.ImageLookup | None
) -> paths.Folder:
  """See `imgbench.report.write_report`."""
  shown = contents(inputs.read(workdir), image_lookup)
  text = page.render("report/templates/run.html.j2", **shown)
  path = workdir / "report.html"
  writers.write_atomically(path, text)
  return path


def contents(
  run: inputs.Run, lookup: confusions.ImageLookup | None
) -> dict[str, Any]:
  """Returns what the page shows; draws its figures into the workdir."""
  sections = [
    page.Section("beyond", recommendations.TITLE, recommendations.blocks(run)),
    page.Section("results", "Results", accuracies.results(run)),
    page.Section("subsets", "Subsets of classes", accuracies.subsets(run)),
    page.Section("curves", "Training", _curves(run)),
  ]
  for dataset in run.charted:
    for name, title, blocks in (
      ("errors", "Mistakes", confusions.blocks(run.workdir, dataset, lookup)),
      ("probabilities", "Probabilities", _probabilities(run.workdir, dataset)),
    ):
      anchor = f"{name}-{writers.file_key(dataset.key)}"
      title = run.titled(dataset.key, f"{title} on ")
      sections.append(page.Section(anchor, title, blocks))
  setup = page.provenance(overview.command(run), run.config, run.environment)
  setup = setup or [page.Paragraph("Not written.")]
  sections.append(page.Section("setup", "Config and environment", setup))
  header = overview.header(run)
  return {**header, "sections": sections, "coverage": run.coverage}


def _curves(run: inputs.Run) -> list[page.Block]:
  if not run.records:
    return []
  first, last = (run.records[i]["step"] for i in (0, -1))
  return pictures.draw(
    run.workdir / "curves.png",
    figures.curves,
    run.records,
    alt="Loss, accuracy, learning rate and speed against the training step",
    caption=f"As logged, from step {first:,} to {last:,}; nothing is smoothed."
    " The training loss is what was minimised (with label smoothing, if any);"
    " NLL is the plain negative log-likelihood.",
  )


def _probabilities(
  folder: paths.Folder, dataset: inputs.DatasetFiles
) -> list[page.Block]:
  """Reliability and precision-recall, as far as the run has written them."""
  found = []
  if selection.shown_bins(dataset.reliability, MIN_BIN):
    found.append(page.Heading("Are the probabilities right?"))
    found += _reliability(folder, dataset)
  if dataset.curves:
    found.append(page.Heading("The classes hardest to single out"))
    found += _precision_recall(folder, dataset)
  return found


def _reliability(
  folder: paths.Folder, dataset: inputs.DatasetFiles
) -> list[pictures.Figure]:
  bins = dataset.reliability
  shown = selection.shown_bins(bins, MIN_BIN)
  small = sum(count > 0 for count in bins.count) - len(shown)
  ece = formats.number("ece", bins.ece)
  caption = (
    "Left: predictions of about the same confidence (the probability of the"
    " predicted class), and how many of them are right. On the diagonal the"
    " model is as often right as it says; below it, it is too sure of itself,"
    " above it not sure enough. Larger points stand for more images, lines for"
    " the distance from the diagonal; its mean over all images is the expected"
    f" calibration error, {ece}. Right: how many predictions there are"
    " of each confidence."
  )
  if small:
    caption += (
      f" {small} bin{'s' if small > 1 else ''} of fewer than {MIN_BIN} images"
      f" {'are' if small > 1 else 'is'} not drawn on the left."
    )
  return pictures.draw(
    folder / f"reliability_{writers.file_key(dataset.key)}.png",
    figures_probabilities.reliability,
    bins,
    shown=shown,
    alt=f"Accuracy against confidence on {dataset.key}",
    caption=caption,
  )


def _precision_recall(
  folder: paths.Folder, dataset: inputs.DatasetFiles
) -> list[pictures.Figure]:
  return pictures.draw(
    folder / f"precision_recall_{writers.file_key(dataset.key)}.png",
    figures_probabilities.precision_recall,
    dataset.curves,
    alt=f"Precision against recall of classes of {dataset.key}",
    caption="Whoever flags the images whose probability of a class is at least"
    " a threshold finds a share of that class (recall, to the right), and a"
    " share of what is flagged is of that class (precision, up). A lower"
    " threshold moves to the right along the line; the best place is the upper"
    f" right corner. These are the {len(dataset.curves)} classes of lowest"
    " average precision (AP), the area under the line, each before the others"
    " in grey; the AP of all is in per_class.csv.",
  )
