r"""Lists the predictions of a run that nobody has reviewed.

imgbench review pending RUN --annotations=human_accuracy_v3.0.0.json \
    --out=reviews

--out gets pending.csv, to be filled in and given to imgbench review merge, and
sheets with the images. docs/review.md has the columns.
"""

import functools
import pathlib

from absl import flags
import numpy as np

from imgbench import cli
from imgbench import commands
from imgbench import compare
from imgbench import errors
from imgbench import run_files
from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.labels import review_table
from imgbench.papers import evaluate
from imgbench.papers import program
from imgbench.papers import records
from imgbench.papers.readers import reviews as reviews_lib
from imgbench.report import inputs

COLUMNS = (
  *("row", "image_id", "class_index", "wnid", "class_name", "original_label"),
  *("original_name", "effect", "state", "problematic", "note"),
)
RUN_FLAGS = {
  "run": "Folder of a run, or of imgbench score or evaluate.",
  "dataset": "Set of the run; by default the only one with reviewed labels.",
}
REQUIRED = ("run", "out")
_TILES, _SHEETS = 48, 20


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the program."""
  program.define_flags(
    flag_values,
    (program.OUT,),
    **RUN_FLAGS,
    annotations="Reviewed labels: human_accuracy_v3.0.0.json, a CSV of TFDS's"
    " fields or a database; by default those that the run was evaluated with.",
    images="Folder with the images; by default those of the run's set.",
  )


def read_run(values) -> tuple[inputs.Run, inputs.DatasetFiles]:
  """Returns what RUN_FLAGS name, a set with predictions. Raises InputError."""
  run = inputs.read(run_files.reach_finished(values.run, "--run"))
  known = {d.key: d for d in run.datasets if d.predictions is not None}
  reviewed = [k for k, d in known.items() if d.predictions.review is not None]
  key = values.dataset or (reviewed[0] if len(reviewed) == 1 else "none")
  errors.check(key in known, "--dataset", f"one of {', '.join(known)}", key)
  return run, known[key]


def evaluate_reviewed(
  found: inputs.DatasetFiles, reviews: reviews_lib.Reviews
) -> tuple[np.ndarray, records.ModelResult]:
  """Returns rows of images that count, and the result. Raises InputError."""
  key, names, path = found.key, found.class_names, reviews.path
  imagenet = names == classes.short_names()
  errors.check(imagenet, "--dataset", "a set of ImageNet's classes", key)
  forms = {review_table.find_id(image): image for image in reviews.labels}
  ids = found.predictions.image_id.astype(str).tolist()
  ids = np.array([forms.get(review_table.find_id(i), i) for i in ids])
  dataset = records.Dataset(key, ids, found.predictions.label, names, {}, path)
  counted = reviews_lib.select_reviewed(dataset, reviews)
  if counted is None:
    raise errors.InputError(path, f"annotated images of {key}", "none")
  evaluator = evaluate.RankingEvaluator(counted.dataset, counted.label_sets)
  top = found.predictions.top5.astype(np.int16)
  predictions = records.RankedPredictions("run", key, top, path)
  return counted.rows, evaluator(counted.cut(predictions))


def list_pending(
  found: inputs.DatasetFiles, images: np.ndarray, codes: np.ndarray
) -> list[tuple]:
  """Returns rows of COLUMNS, the unreviewed predictions of a set.

  The effect of one is what it can add to the mean over classes: 1 / (classes *
  images of the original class). The largest are first, then by image id.
  `images`, int [N], are rows of the images that count; `codes`, int [N] of
  `labels.annotations`, are of their best classes.
  """
  names, given = found.class_names, found.predictions
  imagenet = names == classes.short_names()
  wnids = classes.imagenet_classes().wnids if imagenet else names
  sizes = np.bincount(given.label[images], minlength=len(names))
  queue = []
  for image in images[codes == annotations.UNREVIEWED].tolist():
    label, index = int(given.label[image]), int(given.top5[image, 0])
    effect = 1 / (len(names) * int(sizes[label]))
    row = (str(given.image_id[image]), index, wnids[index], names[index], label)
    queue.append((-effect, (*row, names[label], repr(effect), "", "", "")))
  return [(number, *row) for number, (_, row) in enumerate(sorted(queue), 1)]


def _add_sheets(output, run: inputs.Run, key: str, rows, folder) -> None:
  """Adds sheets with the images of the first rows. Raises InputError."""
  from imgbench.papers import contact_sheet

  output.replace("sheet_*")
  look_up = None if folder else compare.open_images(run, key)
  mark = ", synthetic data" if key in run.synthetic else ""

  def read(image_id: str, label: int) -> np.ndarray | None:
    if look_up:
      return look_up(image_id)
    path = contact_sheet.find([pathlib.Path(folder)], image_id, label)
    return path and contact_sheet.read(path)

  for start in range(0, min(len(rows), _TILES * _SHEETS), _TILES):
    part = rows[start : start + _TILES]
    pictures = [
      contact_sheet.Picture(read(row[1], row[5]), (f"{row[0]}: {row[4]}",))
      for row in part
    ]
    title = f"Rows {part[0][0]} to {part[-1][0]} of {len(rows):,}{mark}"
    name, draw = f"sheet_{start // _TILES + 1:02d}", contact_sheet.draw
    output.figure(name, draw(title, pictures), photographs=True)


def write_pending(values: flags.FlagValues, output: program.Output) -> None:
  """Adds pending.csv and sheets; prints the number of rows."""
  exists = not values.images or pathlib.Path(values.images).is_dir()
  errors.check(exists, "--images", "a folder", values.images)
  run, found = read_run(values)
  output.inputs([inputs.find_predictions(run.workdir, found.key)])
  codes, left_out = found.predictions.review, found.predictions.left_out
  if values.annotations:
    reviews = reviews_lib.read(values.annotations)
    output.read([reviews.path], reviews.notes)
    images, result = evaluate_reviewed(found, reviews)
    codes = result.outcomes.code
  elif codes is not None and left_out is not None:
    images, codes = np.flatnonzero(~left_out), codes[~left_out]
  else:
    raise errors.InputError("--annotations", "a file for this set", "none")
  rows = list_pending(found, images, codes)
  output.csv("pending.csv", COLUMNS, rows)
  print(f"{found.key}: {len(rows):,} of {len(images):,} are not reviewed")
  try:
    _add_sheets(output, run, found.key, rows, values.images)
  except errors.InputError as error:
    output.note(f"not all rows have sheets: {error}")


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; a first argument is the value of --run."""
  return cli.parse_flags(cli.name_argument(argv, "run"), REQUIRED)


main = functools.partial(program.run, write_pending)


if __name__ == "__main__":
  commands.start("review pending")
