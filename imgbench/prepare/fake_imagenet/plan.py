"""The pictures of a fake ImageNet and their file names."""

import dataclasses
import functools

import numpy as np

from imgbench import errors
from imgbench.labels import classes
from imgbench.prepare.fake_imagenet import drawing

# In ImageNet these training images are not RGB JPEGs; TFDS converts them.
_TRAIN_ODDITIES = {
  "n01739381": (1309, "cmyk"),
  "n03062245": (4620, "cmyk"),
  "n02105855": (2933, "png"),
}
_VALIDATION_ODDITIES = ("cmyk", "grey", "png")  # of the first images
_SET_NUMBERS = {"train": 0, "validation": 1, "v2": 2, "a": 3, "r": 4}


@dataclasses.dataclass(frozen=True)
class PicturePlan:
  """The pictures to draw.

  Attributes:
    image_size: (width, height) of most pictures, in pixels, at least 16.
    train_per_class, shift_per_class: pictures per class in the training set
      and in each shifted set, at least 1; the validation set has one, and a
      second, problematic one of every twentieth class.
    num_classes: how many of the 1,000 classes have pictures, spread evenly.
    seed: of all pictures.
    oddities: whether some files are CMYK or grey JPEGs or PNGs named JPEG.
  """

  image_size: tuple[int, int] = (500, 375)
  train_per_class: int = 1
  shift_per_class: int = 1
  num_classes: int = 1000
  seed: int = 0
  oddities: bool = False

  def __post_init__(self):
    """Raises InputError if a number is out of range."""
    for name, low, high in (
      ("train_per_class", 1, 10_000),
      ("shift_per_class", 1, 10_000),
      ("num_classes", 1, 1000),
      ("seed", 0, 2**31),
    ):
      if not low <= getattr(self, name) <= high:
        raise errors.InputError(name, f"{low} to {high}", getattr(self, name))
    if not all(16 <= side <= 4096 for side in self.image_size):
      width, height = self.image_size
      raise errors.InputError(
        "image_size", "sides of 16 to 4096", f"{width}x{height}"
      )

  @functools.cached_property
  def labels(self) -> tuple[int, ...]:
    """The classes that have pictures, ascending."""
    evenly = np.arange(self.num_classes) * 1000 // self.num_classes
    return tuple(evenly.tolist())

  def train_pictures(self, label: int) -> list[tuple[str, str]]:
    """Returns file name and kind of the training pictures of a class."""
    wnid = classes.imagenet_classes().wnids[label]
    pictures = [(i + 1, "rgb") for i in range(self.train_per_class)]
    if self.oddities:
      pictures[0] = _TRAIN_ODDITIES.get(wnid, pictures[0])
    return [(f"{wnid}_{number}.JPEG", kind) for number, kind in pictures]

  @functools.cached_property
  def problematic(self) -> frozenset[int]:
    """Image numbers of second pictures of a class in the validation set."""
    seen = {}
    for number in self.validation_pictures:
      seen.setdefault(validation_labels()[number - 1], []).append(number)
    return frozenset(n for numbers in seen.values() for n in numbers[1:])

  @functools.cached_property
  def validation_pictures(self) -> dict[int, tuple[int, str]]:
    """Image number -> (class, kind), ascending, with ImageNet's numbers.

    They are the first image of each class, and also the second one of every
    twentieth class.
    """
    wanted = {k: 2 if i % 20 == 0 else 1 for i, k in enumerate(self.labels)}
    labels = {}
    for number, label in enumerate(validation_labels(), 1):
      if wanted.get(label, 0):
        wanted[label] -= 1
        labels[number] = label
    kinds = ["rgb"] * len(labels)
    if self.oddities:
      kinds = [*_VALIDATION_ODDITIES, *kinds]
    return {n: (labels[n], k) for n, k in zip(labels, kinds, strict=False)}

  def encode_picture(
    self, files: str, label: int, number: int, strength=1.0, kind="rgb"
  ) -> bytes:
    """Returns picture `number` of a class, as the bytes of a file.

    Args:
      files: "train", "validation", "v2", "a" or "r".
      label: class index.
      number: different numbers give different pictures.
      strength, kind: see `drawing.encode_picture`.
    """
    seed = (self.seed, _SET_NUMBERS[files], label, number)
    return drawing.encode_picture(label, self.image_size, seed, strength, kind)


@functools.cache
def validation_labels() -> tuple[int, ...]:
  """Returns the class index of image number i + 1, for all 50,000 images."""
  import tensorflow_datasets

  path = tensorflow_datasets.core.tfds_path(
    "datasets/imagenet2012/validation_labels.txt"
  )
  return tuple(
    classes.index_of(w) for w in path.read_text(encoding="utf-8").split()
  )


def validation_name(number: int) -> str:
  return f"ILSVRC2012_val_{number:08d}.JPEG"
