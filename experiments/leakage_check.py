"""Recall and precision of the search for leaked images, on CIFAR-10.

imgbench leakage check --data_dir=DATA

Plants copies of training images into the test set: 300 of each kind, at places
and from images that a fixed seed draws. All other test images are turned upside
down, so that the near duplicates which CIFAR-10 has itself are no copies any
more: each of them that is found is a false pair, though its statistics are
those of a photograph. Found near duplicates of the unchanged test set are
reported apart: the share of pairs with two different labels bounds how many are
false from below, as genuine ones have equal labels.

Prints recall by kind, precision over test images, wall time and peak memory.
Recall counts a copy if the found training images include its source. Exit code
3: a value is below its threshold.
"""

import functools
import io

from absl import flags
import numpy as np
from PIL import Image

from imgbench import commands
from imgbench import data
from imgbench import errors
from imgbench import timing
from imgbench.bench import memory
from imgbench.data import source
from imgbench.leakage import __main__ as leakage
from imgbench.leakage import images
from imgbench.leakage import search
from imgbench.tables import formats
from imgbench.tables import table

REQUIRED = ("data_dir",)
PRECISION = 0.95


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --data_dir, --copies and --seed."""
  string = functools.partial(flags.DEFINE_string, flag_values=flag_values)
  integer = functools.partial(flags.DEFINE_integer, flag_values=flag_values)
  string("data_dir", None, "Folder with cifar10, prepared by TFDS.")
  integer("copies", 300, "Copies of each kind.", lower_bound=1)
  integer("seed", 0, "Of places, sources and changes.", lower_bound=0)


def _recompress(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Returns an image after JPEG of quality 30 to 75."""
  buffer = io.BytesIO()
  quality = int(rng.integers(30, 76))
  Image.fromarray(image).save(buffer, "JPEG", quality=quality)
  return np.asarray(Image.open(buffer))


def _crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Returns a crop of 3/4 to 15/16 of the side, resized to all of it."""
  side = image.shape[0]
  size = int(rng.integers(side * 3 // 4, side * 15 // 16 + 1))
  y, x = rng.integers(0, side - size + 1, 2)
  crop = Image.fromarray(image[y : y + size, x : x + size])
  return np.asarray(crop.resize((side, side), Image.Resampling.BICUBIC))


def _brighten(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Returns an image 1.2 to 1.5 times as bright, clipped at white."""
  return np.clip(image * rng.uniform(1.2, 1.5) + 0.5, 0, 255).astype(np.uint8)


# Kind -> change of an image, and least recall.
KINDS = {
  "exact": (lambda image, rng: image, 1.0),
  "mirrored": (lambda image, rng: image[:, ::-1], 0.95),
  "recompressed": (_recompress, 0.95),
  "mirrored and recompressed": (
    lambda image, rng: _recompress(image[:, ::-1], rng),
    0.95,
  ),
  "cropped": (_crop, 0.8),
  "brightened": (_brighten, 0.8),
  "cropped and brightened": (
    lambda image, rng: _brighten(_crop(image, rng), rng),
    0.8,
  ),
}


def plant(
  test: np.ndarray, train: np.ndarray, copies: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns test images with copies, and the kind and source of each.

  Args:
    test: uint8 [M, H, W, 3], at least as many as copies of all kinds.
    train: uint8 [N, H, W, 3], the same size.
    copies: of each kind.
    seed: of places, sources and changes.

  Returns:
    uint8 [M, H, W, 3]; int [M], index in KINDS, -1 for images that are turned
    upside down; int [M], index of the training image, -1 for the same.
  """
  rng = np.random.default_rng(seed)
  count = copies * len(KINDS)
  for name, given in (("test", test), ("train", train)):
    errors.check(len(given) >= count, name, f"{count} images", len(given))
  places, sources = (rng.permutation(len(x))[:count] for x in (test, train))
  planted = test[:, ::-1].copy()
  kind, source_of = np.full((2, len(test)), -1)
  kind[places] = np.repeat(np.arange(len(KINDS)), copies)
  source_of[places] = sources
  changes = [change for change, _ in KINDS.values()]
  for place, original in zip(places, sources, strict=True):
    planted[place] = changes[kind[place]](train[original], rng)
  return planted, kind, source_of


def score(
  found: list[search.Pairs], kind: np.ndarray, source_of: np.ndarray
) -> tuple[list[float], float]:
  """Returns the recall of each kind, and the precision over test images."""
  right, any_found = np.zeros((2, len(kind)), bool)
  for pairs in found:
    any_found[pairs.test] = True
    right[pairs.test[source_of[pairs.test] == pairs.train]] = True
  recalls = [float(right[kind == k].mean()) for k in range(len(KINDS))]
  return recalls, float(right[any_found].mean()) if any_found.any() else 1.0


def _wrap(opened: source.AnySource, examples, pixels: np.ndarray):
  """Returns a split with other pixels."""
  thumbnails = search.shrink(pixels)
  return images.Split(opened, examples, search.digest(pixels), thumbnails)


def main(argv: list[str]) -> int:
  """Prints recall, precision, time and memory."""
  del argv
  values = flags.FLAGS
  opened = [
    data.build_source("cifar10", split, values.data_dir)
    for split in ("train", "test")
  ]
  train_examples, test_examples = (s.load() for s in opened)
  planted, kind, source_of = plant(
    test_examples.image, train_examples.image, values.copies, values.seed
  )
  with timing.timed() as timed:
    train = _wrap(opened[0], train_examples, train_examples.image)
    test = _wrap(opened[1], test_examples, planted)
    found = leakage.find_pairs(test, train)
  recalls, precision = score(list(found.values()), kind, source_of)
  rows = [
    (name, recall, least)
    for (name, (_, least)), recall in zip(KINDS.items(), recalls, strict=True)
  ]
  rows.append(("precision", precision, PRECISION))
  columns = [
    table.Column(lambda row: row[0], "copies"),
    table.number(lambda row: row[1], "recall", formats.percent),
    table.number(lambda row: row[2], "at least", formats.percent),
  ]
  print(
    table.Table(f"{values.copies} copies of each kind", columns, rows).text()
  )
  count, peak = len(train) + len(test), memory.read_peak_bytes()
  print(
    f"{count:,} images in {formats.seconds(timed.seconds)}, peak memory"
    f" {formats.si(peak, 'B')}"
  )
  genuine = leakage.find_pairs(
    _wrap(opened[1], test_examples, test_examples.image), train
  )
  for name, pairs in genuine.items():
    labels = test_examples.label[pairs.test], train_examples.label[pairs.train]
    print(
      f"unchanged test set, {name}: {len(np.unique(pairs.test)):,} images in"
      f" {len(pairs):,} pairs, {int((labels[0] != labels[1]).sum()):,} with"
      " different labels"
    )
  below = any(value < least for _, value, least in rows)
  return errors.EXIT_CHECK if below else errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("leakage check")
