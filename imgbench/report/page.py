"""The HTML page of a run: one file without scripts or outside requests."""

import functools
import html
from importlib import resources
import string

import imgbench
from imgbench import paths
from imgbench import writers
from imgbench.report import accuracies
from imgbench.report import html_tables
from imgbench.report import inputs
from imgbench.report import overview
from imgbench.report import pictures
from imgbench.report import recommendations
from imgbench.report import selection
from imgbench.tables import formats

MAX_MATRIX = 40  # classes up to which a confusion matrix can be read
MAX_PAIRS = 25
MAX_WORST = 15
MAX_CLASSES = 60  # rows in the table of classes
MIN_BIN = 10  # images of a bin whose share of right ones is drawn


def write(
  workdir: paths.Folder, image_lookup: pictures.ImageLookup | None
) -> paths.Folder:
  """See `imgbench.report.write_report`."""
  run = inputs.read(workdir)
  files = _template("page.html"), _template("page.css")
  body = "\n".join(_body(run, pictures.Gallery(workdir, image_lookup)))
  page = string.Template(files[0]).substitute(
    title=html.escape(overview.title(run)),
    css=files[1],
    body=body,
    coverage=run.coverage,
    version=html.escape(imgbench.__version__),
  )
  path = workdir / "report.html"
  writers.write_atomically(path, page)
  return path


def _template(name: str) -> str:
  return resources.files("imgbench.report").joinpath(name).read_text()


def _body(run: inputs.Run, gallery: pictures.Gallery) -> list[str]:
  results = run.results or ()
  sections: list[tuple[str, str, str]] = []  # anchor, HTML title, content
  beyond = recommendations.content(run, gallery)
  if beyond:
    sections.append(("beyond", recommendations.TITLE, beyond))
  if results:
    sections.append(("results", "Results", accuracies.results(run)))
  subsets = accuracies.subsets(run, gallery)
  if subsets:
    sections.append(("subsets", "Subsets of classes", subsets))
  if run.records:
    sections.append(("curves", "Training", _curves(run, gallery)))
  for dataset in run.charted:
    content = _errors(dataset, gallery)
    if content:
      name = writers.file_key(dataset.key)
      title = f"Mistakes on {_titled(run, dataset.key)}"
      sections.append((f"errors-{name}", title, content))
    content = _probabilities(dataset, gallery)
    if content:
      name = writers.file_key(dataset.key)
      title = f"Probabilities on {_titled(run, dataset.key)}"
      sections.append((f"probabilities-{name}", title, content))
  sections.append(("setup", "Config and environment", _setup(run)))
  links = [
    f'<a href="#{formats.escape(anchor)}">{title.partition("<")[0]}</a>'
    for anchor, title, _ in sections
  ]
  return [
    overview.header(run),
    f"<nav>{' '.join(links)}</nav>",
    *(
      f'<section id="{formats.escape(anchor)}">\n<h2>{title}</h2>\n{content}'
      "\n</section>"
      for anchor, title, content in sections
    ),
  ]


def _curves(run: inputs.Run, gallery: pictures.Gallery) -> str:
  from imgbench.report import figures

  draw = functools.partial(figures.curves, records=run.records)
  first, last = (run.records[i]["step"] for i in (0, -1))
  return gallery.figure(
    "curves",
    draw,
    alt="Loss, accuracy, learning rate and speed against the training step",
    caption=f"As logged, from step {first:,} to {last:,}; nothing is smoothed."
    " The training loss is what was minimised (with label smoothing, if any);"
    " NLL is the plain negative log-likelihood.",
  )


def _errors(dataset: inputs.DatasetFiles, gallery: pictures.Gallery) -> str:
  parts = []
  if dataset.confusion is not None:
    parts.append(_confusion(dataset, gallery))
  if any(row.recall is not None for row in dataset.classes):
    parts.append(_classes(dataset, gallery))
  if dataset.predictions is not None:
    parts.append(gallery.mistakes(dataset))
  return "\n".join(filter(None, parts))


def _confusion(dataset: inputs.DatasetFiles, gallery: pictures.Gallery) -> str:
  from imgbench.report import figures
  from imgbench.report import figures_rows

  name = f"confusion_{writers.file_key(dataset.key)}"
  pairs = selection.confused_pairs(dataset.confusion, MAX_PAIRS)
  num_classes = len(dataset.confusion)
  if num_classes <= MAX_MATRIX:
    title = "Confusion matrix"
    draw = functools.partial(figures.confusion_matrix, dataset=dataset)
    caption = (
      "Images by true class (rows, the original label) and top-1 prediction"
      " (columns)."
    )
  elif pairs:
    title = "Most confused classes"
    draw = functools.partial(
      figures_rows.confused_pairs, dataset=dataset, limit=MAX_PAIRS
    )
    caption = (
      f"The {len(pairs)} most frequent confusions among {num_classes:,}"
      " classes; the whole matrix is in confusion.npz."
    )
  else:
    return ""
  figure = gallery.figure(
    name, draw, alt=f"{title} of {dataset.key}", caption=caption
  )
  table = html_tables.folded(
    "Most frequent confusions", html_tables.pairs(dataset, pairs)
  )
  return f"<h3>{title}</h3>\n{figure}\n{table if pairs else ''}"


def _classes(dataset: inputs.DatasetFiles, gallery: pictures.Gallery) -> str:
  from imgbench.report import figures_rows

  worst = selection.worst_classes(dataset.classes, MAX_CLASSES)
  figure = gallery.figure(
    f"worst_classes_{writers.file_key(dataset.key)}",
    functools.partial(
      figures_rows.worst_classes, dataset=dataset, limit=MAX_WORST
    ),
    alt=f"Classes of {dataset.key} with the lowest recall",
    caption="Recall with its interval, the lowest first; on the right the"
    " class that it is most often taken for, and how many times.",
  )
  total = len(dataset.classes)
  title = f"All {total:,} classes"
  if total > len(worst):
    title = f"The {len(worst)} worst of {total:,} classes (all: per_class.csv)"
  table = html_tables.folded(title, html_tables.classes(dataset, worst))
  return f"<h3>Worst classes</h3>\n{figure}\n{table}"


def _probabilities(
  dataset: inputs.DatasetFiles, gallery: pictures.Gallery
) -> str:
  """Reliability and precision-recall, as far as the run has written them."""
  parts = []
  if selection.shown_bins(dataset.reliability, MIN_BIN):
    parts.append(_reliability(dataset, gallery))
  if dataset.curves:
    parts.append(_precision_recall(dataset, gallery))
  return "\n".join(parts)


def _reliability(
  dataset: inputs.DatasetFiles, gallery: pictures.Gallery
) -> str:
  from imgbench.report import figures_probabilities

  bins = dataset.reliability
  shown = selection.shown_bins(bins, MIN_BIN)
  small = sum(count > 0 for count in bins.count) - len(shown)
  caption = (
    "Left: predictions of about the same confidence (the probability of the"
    " predicted class), and how many of them are right. On the diagonal the"
    " model is as often right as it says; below it, it is too sure of itself,"
    " above it not sure enough. Larger points stand for more images, lines for"
    " the distance from the diagonal; its mean over all images is the expected"
    f" calibration error, {bins.ece:.4f}. Right: how many predictions there are"
    " of each confidence."
  )
  if small:
    caption += (
      f" {small} bin{'s' if small > 1 else ''} of fewer than {MIN_BIN} images"
      f" {'are' if small > 1 else 'is'} not drawn on the left."
    )
  figure = gallery.figure(
    f"reliability_{writers.file_key(dataset.key)}",
    functools.partial(
      figures_probabilities.reliability, bins=bins, shown=shown
    ),
    alt=f"Accuracy against confidence on {dataset.key}",
    caption=caption,
  )
  return f"<h3>Are the probabilities right?</h3>\n{figure}"


def _precision_recall(
  dataset: inputs.DatasetFiles, gallery: pictures.Gallery
) -> str:
  from imgbench.report import figures_probabilities

  count = len(dataset.curves)
  figure = gallery.figure(
    f"precision_recall_{writers.file_key(dataset.key)}",
    functools.partial(
      figures_probabilities.precision_recall, curves=dataset.curves
    ),
    alt=f"Precision against recall of classes of {dataset.key}",
    caption="Whoever flags the images whose probability of a class is at least"
    " a threshold finds a share of that class (recall, to the right), and a"
    " share of what is flagged is of that class (precision, up). A lower"
    " threshold moves to the right along the line; the best place is the upper"
    f" right corner. These are the {count} classes of lowest average precision"
    " (AP), the area under the line, each before the others in grey; the AP of"
    " all is in per_class.csv.",
  )
  return f"<h3>The classes hardest to single out</h3>\n{figure}"


def _setup(run: inputs.Run) -> str:
  parts = []
  if overview.command(run):
    parts.append(f"<p><code>{formats.escape(overview.command(run))}</code></p>")
  for title, values in (
    ("Config", run.config),
    ("Environment", run.environment),
  ):
    if values:
      parts.append(html_tables.folded(title, html_tables.key_values(values)))
  return "\n".join(parts) or "<p>Not written.</p>"


def _titled(run: inputs.Run, key: str) -> str:
  return html_tables.dataset_title(key, run.synthetic)
