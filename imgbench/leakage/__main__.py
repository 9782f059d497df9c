"""Finds test images that the training data has too, and what they add.

imgbench leakage --train=cifar10:train --test=cifar10:test --data_dir=DATA \
    --predictions=runs/cifar10 --out=leakage

Prints how many test images are exact copies or near duplicates of training
images (recompressed, brightened, mirrored, or a crop), and the accuracy with
and without them. --out gets pairs.csv, accuracy.csv, and a sheet of pairs.
A run whose config names pairs.csv in evaluation.known_leaks warns about them.

--features=RUN also lists test images next to training images in the logits of a
model, neighbors.csv: they look alike to it, but need not be copies.
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
from imgbench.score import passes
from imgbench.tables import formats
from imgbench.tables import table

EXACT, NEAR, KNOWN, ALL = "exact", "near", "known", "all"
PAIRS = (
  *("kind", known_leaks.COLUMN, "train_id", "test_label", "train_label"),
  *("mirrored", "scale", "similarity"),
)
ACCURACY = (
  *("left_out", "images", "left_out_images", "left_out_correct"),
  *("accuracy", "accuracy_without", "inflation"),
  *("inflation_ci_low", "inflation_ci_high"),
)
REQUIRED = ("train", "test")
_PAIRS_SHOWN = 24
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
  flags.DEFINE_enum(
    "scores",
    None,
    (files.LOGITS, files.PROBABILITIES, files.RANKING),
    "What a file of predictions has; needed only where it is not certain.",
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    "order",
    passes.FILE,
    (passes.FILE, passes.ID),
    "Order of predictions without ids: that of the split, or sorted by image"
    " id.",
    flag_values=flag_values,
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
  path: str, test: images.Split, order: str = passes.FILE, scores: str = ""
) -> tuple[pathlib.Path, np.ndarray]:
  """Returns the file of predictions, and bool [N], those that are right.

  Args:
    path: file, or the folder of a run that evaluated the split.
    test: the split.
    order: of rows without ids, that of the split or sorted by image id.
    scores: what the file has, see `files.read`.

  Raises:
    InputError: no such file, or one without a prediction of each image.
  """
  flag, key, count = "--predictions", test.info.key, len(test)
  file = pathlib.Path(path)
  if file.is_dir():
    file = inputs.find_predictions(file, key)
  if not file.is_file():
    expected = f"a file, or a run that evaluated {key}"
    raise errors.InputError(flag, expected, f"{path}, without {file}")
  found = files.read(file, scores)
  rows = np.arange(count)
  if order == passes.ID:
    rows = np.argsort(np.argsort(test.examples.image_id))
  if found.image_ids is not None:
    places = {name: row for row, name in enumerate(found.image_ids)}
    ids = test.examples.image_id.tolist()
    absent = [name for name in ids if name not in places]
    expected = f"a prediction for each of {count:,} images of {key}"
    given = f"none for {len(absent):,}, such as {absent[:1]}"
    errors.check(not absent, str(file), expected, given)
    rows = np.array([places[name] for name in ids])
  elif len(found) != count:
    raise errors.InputError(file, f"{count:,} rows", f"{len(found):,}")
  values = found.take(rows)
  best = values[:, 0] if found.kind == files.RANKING else values.argmax(1)
  finite = ~(np.isnan(values) | (values == np.inf)).any(1)
  return file, (best == test.examples.label) & finite


def find_neighbors(
  test: images.Split, train: images.Split, model: predictor.Predictor
) -> tuple[np.ndarray, np.ndarray]:
  """Returns for each test image the nearest training image and the cosine.

  Args:
    test: M images.
    train: N images.
    model: its logits, less their means over the training images, are compared.

  Returns:
    int [M] and float32 [M].
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
  return best, (ours * theirs[best]).sum(1)


def search_splits(values: flags.FlagValues, output: program.Output) -> None:
  """Searches the splits of the flags; prints tables and adds files."""
  train_source, test_source = (
    images.open_split(f"--{flag}", values[flag].value, values.data_dir or "")
    for flag in ("train", "test")
  )
  known = known_leaks.read(values.known) if values.known else frozenset()
  model = predictor.load(values.features) if values.features else None
  side = images.find_side(train_source, test_source)
  with timing.timed() as reading:
    train, test = (images.read(s, side) for s in (train_source, test_source))
  correct = None
  if values.predictions:
    file, correct = read_correct(
      values.predictions, test, values.order, values.scores or ""
    )
    output.inputs([file])
  with timing.timed() as searching:
    found = find_pairs(test, train, values.similarity)
  left_out = {
    kind: np.isin(np.arange(len(test)), pairs.test)
    for kind, pairs in found.items()
  }
  if values.known:
    output.inputs([pathlib.Path(values.known)])
    left_out[KNOWN] = known_leaks.find(test.examples.image_id, known)
  left_out[ALL] = np.any(list(left_out.values()), axis=0)
  rows = [
    row
    for kind, pairs in found.items()
    for row in _describe(kind, pairs, test, train)
  ]
  output.csv("pairs.csv", PAIRS, rows)
  _add_sheet(output, "pairs", found, test, train)
  print(
    f"{test.info.key} ({len(test):,} images) in {train.info.key}"
    f" ({len(train):,} images)\n"
  )
  print(_build_table(output, left_out, correct).text())
  if model is not None:
    _add_neighbors(output, test, train, model)
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
    (kind, test_id, train_id, test_label, train_label, *row)
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


def _add_sheet(output, name, found, test, train) -> None:
  """Adds a sheet of pairs, each test image beside its training image."""
  if not output.wanted or not any(map(len, found.values())):
    return
  from imgbench.papers import contact_sheet

  # Near duplicates first, the least similar last: those are to be looked at.
  chosen = [
    (kind, pairs.take(_spread(len(pairs), _PAIRS_SHOWN // len(found))))
    for kind, pairs in found.items()
  ]
  pictures = []
  for kind, pairs in chosen:
    sides = ((test, pairs.test), (train, pairs.train))
    shown = [images.take(split, rows) for split, rows in sides]
    for number, both in enumerate(zip(*shown, strict=True)):
      score = f"{kind} {formats.decimal(float(pairs.similarity[number]))}"
      for image, (split, rows) in zip(both, sides, strict=True):
        text = _name(split, rows[number])
        pictures.append(contact_sheet.Picture(image, (score, *text)))
  total = sum(map(len, found.values()))
  title = f"{len(pictures) // 2} of {total:,} pairs"
  output.figure(name, contact_sheet.draw(title, pictures), photographs=True)


def _spread(count: int, most: int) -> np.ndarray:
  """Returns indices of at most `most` of `count` pairs, first and last too."""
  return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _add_neighbors(output, test, train, model) -> None:
  """Adds neighbors.csv and its sheet, the nearest first."""
  nearest, cosine = find_neighbors(test, train, model)
  order = np.argsort(-cosine, kind="stable")[:_NEIGHBORS]
  pairs = search.measure(
    test.thumbnails, order, train.thumbnails, nearest[order]
  )
  rows = _describe("features", pairs, test, train)
  columns = (*PAIRS, "cosine")
  output.csv(
    "neighbors.csv",
    columns,
    [(*row, float(c)) for row, c in zip(rows, cosine[order], strict=True)],
  )
  _add_sheet(output, "neighbors", {"features": pairs}, test, train)


main = functools.partial(program.run, search_splits)


if __name__ == "__main__":
  commands.start("leakage")
