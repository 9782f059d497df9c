"""Finds test images that the training data has too, and what they add.

imgbench leakage --train=cifar10:train --test=cifar10:test --data_dir=DATA \\
    --predictions=runs/cifar10 --out=leakage

Prints how many test images are exact copies or near duplicates of training
images (recompressed, brightened, mirrored, or a crop), and the accuracy with
and without them. --out gets pairs.csv, accuracy.csv, and a sheet of pairs.
A run whose config names pairs.csv in evaluation.known_leaks warns about them.

--features=RUN also lists the test images nearest to training images in the
logits of a model. They look alike to it, but need not be copies, so they do not
count as found; their similarity says which may be.
"""

import functools
import pathlib

from absl import flags
import numpy as np

from imgbench import commands
from imgbench import errors
from imgbench import predictor
from imgbench import timing
from imgbench.bench import memory
from imgbench.labels import known_leaks
from imgbench.leakage import images
from imgbench.leakage import search
from imgbench.metrics import drops
from imgbench.papers import program
from imgbench.report import inputs
from imgbench.score import files
from imgbench.tables import formats
from imgbench.tables import table

EXACT, NEAR = "exact", "near"
KNOWN, ALL = "known", "all"
PAIRS = (
  *(known_leaks.KIND, known_leaks.DATASET, known_leaks.COLUMN, "train_id"),
  *("test_label", "train_label", "mirrored", "scale", "similarity"),
)
ACCURACY = (
  *("left_out", "images", "left_out_images", "left_out_correct"),
  *("accuracy", "accuracy_without", "inflation"),
  *("inflation_ci_low", "inflation_ci_high"),
)
REQUIRED = ("train", "test")
_SHOWN = 12  # pairs of each kind, on the sheet
_NEIGHBORS = 100
_ROWS = 1000  # of cosines at once


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the program."""
  program.define_flags(
    flag_values,
    (program.OUT,),
    train="Training split, NAME:SPLIT of TFDS or of a data set of imgbench.",
    test="Test split, the same.",
    data_dir="Folder with data sets that TFDS prepared.",
    predictions="Run that evaluated the test split, or a file of predictions"
    " (docs/score.md): accuracy with and without the images that are found.",
    known="List of test images to leave out too: pairs.csv of an earlier search"
    " or near_duplicates.json of ImageNetV2.",
    features="RUN or RUN@STEP, a trained model: nearest neighbors by logits.",
  )
  flags.DEFINE_float(
    "similarity",
    search.SIMILARITY,
    "Least correlation of fine structure of near duplicates.",
    flag_values=flag_values,
  )


def find_pairs(
  test: images.Split, train: images.Split, least: float = search.SIMILARITY
) -> dict[str, search.Pairs]:
  """Returns the exact copies, and the near duplicates that are not exact."""
  exact = search.find_exact(test.digests, train.digests)
  near = search.find_near(test.thumbnails, train.thumbnails, least)
  known = exact.test * len(train) + exact.train
  new = ~np.isin(near.test * len(train) + near.train, known)
  return {EXACT: exact, NEAR: near.take(new)}


def measure_inflation(
  correct: np.ndarray, left_out: np.ndarray, alpha: float = 0.05
) -> dict[str, float | int | None]:
  """Returns accuracy with and without some images, and their difference.

  The difference is the share of the images times the drop of accuracy from
  these images to the others, two independent sets. Its interval is Newcombe's
  for that drop, times the share.

  Args:
    correct: bool [N], whether each prediction is right.
    left_out: bool [N].
    alpha: 1 - the coverage of the interval.

  Returns:
    The columns ACCURACY but the first; None: no image is left out, or all.
  """
  count, n = int(left_out.sum()), len(correct)
  hits = int(correct[left_out].sum())
  rest = int(correct.sum()) - hits
  found: dict[str, float | int | None] = dict.fromkeys(ACCURACY[1:])
  found |= {
    "images": n,
    "left_out_images": count,
    "left_out_correct": hits,
    "accuracy": (hits + rest) / n,
  }
  if 0 < count < n:
    drop = drops.drop(hits, count, rest, n - count, alpha)
    values = [count / n * float(value) for value in drop]
    names = ("inflation", "inflation_ci_low", "inflation_ci_high")
    found |= dict(zip(names, values, strict=True))
    found["accuracy_without"] = rest / (n - count)
  return found


def read_correct(
  path: str, test: images.Split
) -> tuple[pathlib.Path, np.ndarray]:
  """Returns the file of predictions, and bool [N], those that are right.

  Args:
    path: file, or the folder of a run that evaluated the split.
    test: the split.

  Raises:
    InputError: no such file, or one without a prediction of each image.
  """
  key, ids = test.info.key, test.examples.image_id.tolist()
  file = pathlib.Path(path)
  if file.is_dir():
    file = inputs.find_predictions(file, key)
  if not file.is_file():
    expected = f"a file, or a run that evaluated {key}"
    raise errors.InputError("--predictions", expected, f"no file {file}")
  found = files.read(file)
  places = {name: row for row, name in enumerate(found.image_ids or ())}
  absent = [name for name in ids if name not in places]
  expected = f"an id and a prediction for each of {len(ids):,} images of {key}"
  given = f"none for {len(absent):,}, such as {absent[:1]}"
  errors.check(not absent, str(file), expected, given)
  values = found.take(np.array([places[name] for name in ids]))
  best = values[:, 0] if found.kind == files.RANKING else values.argmax(1)
  finite = ~(np.isnan(values) | (values == np.inf)).any(1)
  return file, (best == test.examples.label) & finite


def find_neighbors(
  test: images.Split, train: images.Split, model: predictor.Predictor
) -> search.Pairs:
  """Returns test images and their nearest training images, nearest first.

  Args:
    test: M images.
    train: N images.
    model: its logits, less their means over the training images, are compared.
  """
  side = model.image_shape[0]
  features = [
    np.concatenate(
      [
        part.logits
        for batch in images.iterate(split.source, split.examples, side)
        for part in model.iterate(batch)
      ]
    )
    for split in (test, train)
  ]
  mean = features[1].mean(0)
  ours, theirs = (
    (x - mean) / np.linalg.norm(x - mean, axis=1, keepdims=True).clip(1e-6)
    for x in features
  )
  parts = np.array_split(ours, range(_ROWS, len(ours), _ROWS))
  best = np.concatenate([(part @ theirs.T).argmax(1) for part in parts])
  order = np.argsort(-(ours * theirs[best]).sum(1), kind="stable")[:_NEIGHBORS]
  return search.measure(test.thumbnails, order, train.thumbnails, best[order])


def search_splits(values: flags.FlagValues, output: program.Output) -> None:
  """Searches the splits of the flags; prints tables and adds files."""
  least = values.similarity
  errors.check(0 < least <= 1, "--similarity", "a number in (0, 1]", least)
  train_source, test_source = (
    images.open_split(f"--{flag}", values[flag].value, values.data_dir or "")
    for flag in ("train", "test")
  )
  known = (
    known_leaks.read(values.known) if values.known else known_leaks.Known()
  )
  model = predictor.load(values.features) if values.features else None
  side = images.find_side(train_source, test_source)
  with timing.timed() as reading:
    train, test = (images.read(s, side) for s in (train_source, test_source))
  correct = None
  if values.predictions:
    file, correct = read_correct(values.predictions, test)
    output.inputs([file])
  with timing.timed() as searching:
    found = find_pairs(test, train, least)
  left_out = {
    kind: np.isin(np.arange(len(test)), pairs.test)
    for kind, pairs in found.items()
  }
  if values.known:
    output.inputs([pathlib.Path(values.known)])
    left_out[KNOWN] = known_leaks.find(
      test.examples.image_id, known, test.info.name
    )
  left_out[ALL] = np.any(list(left_out.values()), axis=0)
  if model is not None:
    found[known_leaks.FEATURES] = find_neighbors(test, train, model)
  rows = [_describe(kind, x, test, train) for kind, x in found.items()]
  output.csv("pairs.csv", PAIRS, [row for some in rows for row in some])
  _add_sheet(output, found, test, train)
  print(
    f"{test.info.key} ({len(test):,} images) in {train.info.key}"
    f" ({len(train):,} images)\n"
  )
  print(_build_table(output, left_out, correct).text())
  print(
    f"read in {formats.seconds(reading.seconds)}, searched in"
    f" {formats.seconds(searching.seconds)}, peak memory"
    f" {formats.si(memory.read_peak_bytes(), 'B')}"
  )


def _describe(kind, pairs: search.Pairs, test, train) -> list[tuple]:
  """Returns rows of pairs.csv."""
  names = [
    [_name(split, row) for row in rows]
    for split, rows in ((test, pairs.test), (train, pairs.train))
  ]
  found = (pairs.mirrored, pairs.scale, pairs.similarity)
  values = zip(*(array.tolist() for array in found), strict=True)
  return [
    (kind, test.info.key, test_id, train_id, test_label, train_label, *row)
    for (test_id, test_label), (train_id, train_label), row in zip(
      *names, values, strict=True
    )
  ]


def _name(split: images.Split, row: int) -> tuple[str, str]:
  """Returns the id of an image and the name of its class."""
  name = split.info.class_names[split.examples.label[row]]
  return str(split.examples.image_id[row]), name


def _build_table(output, left_out, correct) -> table.Table:
  """Returns the table of test images that are found, and adds accuracy.csv."""
  columns = [
    table.Column(lambda row: row[0], "found"),
    table.number(lambda row: int(row[1].sum()), "test images", "{:,}".format),
    table.number(lambda row: row[1].mean(), "share", formats.percent),
  ]
  rows = list(left_out.items())
  if correct is not None:
    measured = {k: measure_inflation(correct, mask) for k, mask in rows}
    output.csv(
      "accuracy.csv",
      ACCURACY,
      [
        (kind, *(row[c] for c in ACCURACY[1:]))
        for kind, row in measured.items()
      ],
    )
    columns += [
      table.number(
        lambda row, name=name: measured[row[0]][name], title, formats.percent
      )
      for name, title in (
        ("accuracy", "accuracy"),
        ("accuracy_without", "without them"),
      )
    ]
    columns.append(
      table.number(
        lambda row: formats.with_bounds(
          *(measured[row[0]][name] for name in ACCURACY[-3:]), "%"
        ),
        "inflation [95% interval]",
      )
    )
  return table.Table(
    "Test images that the training data has too", columns, rows
  )


def _add_sheet(output, found, test, train) -> None:
  """Adds a sheet of pairs, each test image beside its training image."""
  if not output.wanted or not any(map(len, found.values())):
    return
  from imgbench.papers import contact_sheet

  pictures = []
  for kind, every in found.items():
    # From the most to the least similar ones.
    rows = np.linspace(0, len(every) - 1, min(len(every), _SHOWN)).astype(int)
    pairs = every.take(rows)
    sides = ((test, pairs.test), (train, pairs.train))
    shown = [images.take(split, rows) for split, rows in sides]
    for number, both in enumerate(zip(*shown, strict=True)):
      score = f"{kind} {formats.decimal(float(pairs.similarity[number]))}"
      for image, (split, rows) in zip(both, sides, strict=True):
        text = _name(split, rows[number])
        pictures.append(contact_sheet.Picture(image, (score, *text)))
  total = sum(map(len, found.values()))
  title = f"{len(pictures) // 2} of {total:,} pairs"
  output.figure("pairs", contact_sheet.draw(title, pictures), photographs=True)


main = functools.partial(program.run, search_splits)


if __name__ == "__main__":
  commands.start("leakage")
