"""`scenes`: a synthetic miniature ImageNet, drawn with NumPy.

Reports have to say that it is synthetic. It has 24 classes: six look-alike
dogs, six other organisms, twelve objects. A scene shows one main thing and
often others, so it has a set of correct labels, one of which is its original
label. As in ImageNet, some images are problematic and some labels unclear
(`scenes.plan` has the shares). Examples have the fields of TFDS's
imagenet2012_multilabel.
"""

import hashlib
import itertools
import json
import types

import numpy as np

from imgbench import errors
from imgbench.data import source
from imgbench.labels import annotations
from imgbench.scenes import classes
from imgbench.scenes import domains
from imgbench.scenes import drawing
from imgbench.scenes import plan as scenes_plan
from imgbench.scenes import randomness

_BLOCK_PIXELS = 4096 * 48 * 48  # drawn at once: 110 MB of canvas
_MIN_SIZE, _MAX_SIZE = 16, 256
_RARE_EVERY = 4  # of the classes, with `imbalance`


class ScenesSource:
  """A split of `scenes`; see `source.Source`.

  Attributes:
    info: see `source.Info`.
  """

  def __init__(
    self,
    split: str,
    train_examples: int = 16_000,
    validation_examples: int = 2_000,
    v2_examples: int = 2_000,
    image_size: int = 48,
    seed: int = 0,
    only: str = "",
    imbalance: int = 1,
  ):
    """Opens a split; draws nothing yet.

    Example i of a split depends on the seed and the image size alone, not on
    the number of examples or on the slice. In each block of 24 examples that
    starts at a multiple of 24, each class is the original label once.

    Args:
      split: "train", "validation", "v2" (the same classes under a mild shift:
        other backgrounds, smaller and more things, less light), or slices
        and sums of them in TFDS's notation.
      train_examples: number of examples in train, at least 1.
      validation_examples: the same for validation.
      v2_examples: the same for v2.
      image_size: side in pixels, 16 to 256.
      seed: 0 to 2**63 - 1.
      only: "object", "organism" or another subset of classes: only the images
        in which nothing of another class is drawn, whatever their labels say.
        "": all images.
      imbalance: every fourth class, the first one included, has as many times
        fewer images in train; other splits are as they are. 1: none.

    Raises:
      InputError: unknown or empty split, option out of range.
    """
    sizes = {
      "train": train_examples,
      "validation": validation_examples,
      "v2": v2_examples,
    }
    for name, number in sizes.items():
      _check_integer(f"{name}_examples", number, 1, 10**8)
    _check_integer("image_size", image_size, _MIN_SIZE, _MAX_SIZE)
    _check_integer("seed", seed, 0, 2**63 - 1)
    _check_integer("imbalance", imbalance, 1, 10**6)
    self._size, self._seed = int(image_size), int(seed)
    self._parts = _split_parts(split, sizes)
    num_examples = sum(stop - start for _, start, stop in self._parts)
    self._chosen = None  # places of the examples; None: all
    options = [*filter(None, (only, int(imbalance) - 1))]
    if options:
      self._chosen = self._find_chosen(only, int(imbalance))
      num_examples = len(self._chosen)
      errors.check(num_examples > 0, "only", "a subset with images", repr(only))
    self.info = source.Info(
      name="scenes",
      split=split,
      num_examples=num_examples,
      image_shape=(self._size, self._size, 3),
      class_names=classes.CLASS_NAMES,
      fingerprint=_fingerprint(self._seed, self._size, self._parts, options),
      subsets=classes.subsets(),
      label_set=source.REVIEWED,
      synthetic=True,
    )

  def __len__(self) -> int:
    return self.info.num_examples

  def __getitem__(self, index: int) -> dict:
    """Draws one example, with the fields and types of TFDS."""
    position = index + len(self) if index < 0 else index
    if not 0 <= position < len(self):
      raise IndexError(f"{self.info.key}: no example {index} of {len(self)}")
    if self._chosen is not None:
      position = int(self._chosen[position])
    split, i = self._locate(position)
    plan, images = self._draw(split, i, 1)
    codes = plan.label_codes[0]
    labels = {
      field: np.flatnonzero(codes == code).astype(np.int64)
      for field, code in annotations.FIELD_CODES.items()
    }
    return {
      "image": images[0],
      "original_label": np.int64(plan.original_label[0]),
      **labels,
      "is_problematic": np.bool_(plan.is_problematic[0]),
      "file_name": _file_name(split, i).encode(),
    }

  def load(
    self,
    progress: source.Progress | None = None,
    bad: source.BadExamples | None = None,
  ) -> source.Examples:
    """Draws all examples; 16,000 of 48 pixels take a few seconds.

    Args:
      progress: called with (examples done, total examples).
      bad: gets nothing, as no drawn example is damaged.
    """
    del bad
    n = sum(stop - start for _, start, stop in self._parts)
    k = self.info.num_classes
    images = np.empty((n, *self.info.image_shape), np.uint8)
    label = np.empty(n, np.int32)
    codes = np.empty((n, k), np.int8)
    problematic = np.empty(n, np.bool_)
    names, done = [], 0
    block = max(_BLOCK_PIXELS // self._size**2, 1)
    for split, start, stop in self._parts:
      for first in range(start, stop, block):
        count = min(block, stop - first)
        rows = slice(done, done + count)
        plan, images[rows] = self._draw(split, first, count)
        label[rows] = plan.original_label
        codes[rows] = plan.label_codes
        problematic[rows] = plan.is_problematic
        names += [_file_name(split, i) for i in range(first, first + count)]
        done += count
        if progress is not None:
          progress(done, n)
    found = source.Examples(images, label, np.array(names), codes, problematic)
    if self._chosen is not None:
      found = found.take(self._chosen)
    return source.check_examples(found, self.info)

  def _find_chosen(self, only: str, imbalance: int) -> np.ndarray:
    """Returns the places of the images that the options leave."""
    subsets = {"": np.ones(classes.NUM_CLASSES, bool), **classes.subsets()}
    expected = f"one of {', '.join(filter(None, subsets))}, or none"
    errors.check(only in subsets, "only", expected, repr(only))
    others = np.flatnonzero(~subsets[only])
    kept = []
    for split, start, stop in self._parts:
      plan = self._plan(split, start, stop - start)
      drawn = plan.things.example[np.isin(plan.things.kind, others)]
      kept.append(np.bincount(drawn, minlength=stop - start) == 0)
      if split == "train":
        # Each block has each class once.
        block = np.arange(start, stop) // classes.NUM_CLASSES
        is_rare = plan.original_label % _RARE_EVERY == 0
        kept[-1] &= ~is_rare | (block % imbalance == 0)
    return np.flatnonzero(np.concatenate(kept))

  def _locate(self, position) -> tuple[str, int]:
    """Returns the split and the example in it at a position of the source."""
    for split, start, stop in self._parts:
      if position < stop - start:
        return split, start + position
      position -= stop - start
    raise AssertionError("position past the end")

  def _plan(self, split, start, count) -> scenes_plan.ScenePlan:
    domain = domains.DOMAINS[split]
    return scenes_plan.make_plan(self._seed, domain, start, count)

  def _draw(self, split, start, count):
    """Returns the plan and the images, uint8 [count, S, S, 3]."""
    domain = domains.DOMAINS[split]

    def words(purpose, width):
      return randomness.random_words(
        self._seed, domain.stream, purpose, start, count, width
      )

    plan = self._plan(split, start, count)
    images = drawing.draw(
      plan,
      self._size,
      words(randomness.TEXTURE, drawing.TEXTURE_WORDS),
      words(randomness.NOISE, drawing.count_noise_words(self._size)),
    )
    return plan, images


def _check_integer(name, value, low, high):
  integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
  if not integer or not low <= value <= high:
    raise errors.InputError(
      name, f"an integer from {low} to {high}", repr(value)
    )


def _split_parts(split, sizes) -> list[tuple[str, int, int]]:
  """Returns the (split, start, stop) of each slice in the sum `split`."""
  if split in sizes:
    return [(split, 0, sizes[split])]
  setting = "split"
  known = f"one of {', '.join(sizes)}, or slices such as 'train[:90%]'"
  if "[" not in split and "+" not in split:
    raise errors.InputError(setting, known, repr(split))
  # Imported here: the import takes longer than drawing a small split.
  from tensorflow_datasets.core import splits

  infos = {
    name: types.SimpleNamespace(num_examples=n, shard_lengths=[n])
    for name, n in sizes.items()
  }
  try:
    slices = splits.AbstractSplit.from_spec(split).to_absolute(infos)
  except (ValueError, AssertionError, NotImplementedError) as e:
    reason = str(e).splitlines()[0]
    raise errors.InputError(setting, known, f"{split!r} ({reason})") from e
  parts = [
    (s.splitname, *slice(s.from_, s.to).indices(sizes[s.splitname])[:2])
    for s in slices
  ]
  parts = [part for part in parts if part[2] > part[1]]
  if not parts:
    raise errors.InputError(setting, "at least one example", repr(split))
  for (name, _, stop), (next_name, start, _) in itertools.pairwise(
    sorted(parts)
  ):
    if name == next_name and start < stop:
      raise errors.InputError(
        setting,
        "slices that do not overlap",
        f"{split!r} with example {start} of {name} twice",
      )
  return parts


def _fingerprint(seed, size, parts, options) -> str:
  what = [drawing.VERSION, seed, size, parts, *options]
  return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _file_name(split, index) -> str:
  return f"scenes_{split}_{index:08d}.png"
