"""The protocol of a data set: what the program asks of every source."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any
from typing import Protocol

import numpy as np

from imgbench import errors

# What label sets are; see `metrics.summary`.
REVIEWED = "reviewed"
REAL = "real"

Progress = Callable[[int, int], None]  # (examples done, examples in all)


@dataclasses.dataclass(frozen=True)
class Info:
  """What is known of a split before any example is read.

  Attributes:
    name: data set, e.g. "cifar10".
    split: as asked for, e.g. "test" or "train[:90%]".
    num_examples: N of the split.
    image_shape: (H, W, C), the same for every image, or (None, None, C) where
      images have many sizes: such a split is an `EncodedSource`.
    class_names: K names in the order of the labels.
    subsets: name -> bool [K] mask over classes, e.g. "dog"; "all" is implied.
    label_set: REVIEWED or REAL if `Examples.label_codes` and `left_out` are
      there, else None.
    synthetic: images are drawn by a program; results and reports say so.
    fingerprint: short hex text; the same for the same data wherever it lies.
  """

  name: str
  split: str
  num_examples: int
  image_shape: tuple[int | None, int | None, int]
  class_names: tuple[str, ...]
  fingerprint: str
  subsets: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  label_set: str | None = None
  synthetic: bool = False

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  @property
  def streamed(self) -> bool:
    """Whether images are decoded on the way to the device."""
    return None in self.image_shape

  @property
  def key(self) -> str:
    """`<name>:<split>`, the first part of a metric's name."""
    return f"{self.name}:{self.split}"


@dataclasses.dataclass(frozen=True)
class Examples:
  """All examples of a split as NumPy arrays, in the order of the source.

  Attributes:
    image: uint8 [N, H, W, C], or None of an `EncodedSource`.
    label: int32 [N] in [0, K); the original label where there are several.
    image_id: str [N], unique.
    label_codes: int8 [N, K] of `labels.annotations`, or None.
    left_out: bool [N], images that the label sets leave out: problematic ones,
      for ReaL those without labels; or None.
    in_imagenet_m: bool [N], images of ImageNet-M, or None.
  """

  image: np.ndarray | None
  label: np.ndarray
  image_id: np.ndarray
  label_codes: np.ndarray | None = None
  left_out: np.ndarray | None = None
  in_imagenet_m: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.label)


class Source(Protocol):
  """A split with random access whose images fit into memory."""

  info: Info

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, Any]:
    """One example under the field names of its TFDS data set."""

  def load(self, progress: Progress | None = None) -> Examples:
    """All examples, checked against `info`. Raises InputError."""


class EncodedSource(Protocol):
  """A split with random access whose images stay encoded until they are used.

  Reading is safe from several threads.
  """

  info: Info

  def __len__(self) -> int: ...

  def read(self, index: int) -> tuple[bytes, int]:
    """The encoded image and its (original) label. Raises InputError."""

  def where(self, index: int) -> str:
    """Says in an error which example this is, and where it lies."""

  def examples(self, progress: Progress | None = None) -> Examples:
    """All but the images, checked against `info`. Raises InputError."""

  def shared_with(self, other: "EncodedSource") -> float:
    """The share of the examples that `other`, of the same kind, has too."""


def check_examples(examples: Examples, info: Info) -> Examples:
  """Returns `examples` if they are what `info` promises, else raises."""
  expected = (info.num_examples, *info.image_shape)
  image = examples.image
  if not info.streamed and (image.shape != expected or image.dtype != np.uint8):
    raise errors.InputError(
      info.key,
      f"images uint8 {list(expected)}",
      f"{image.dtype} {list(image.shape)}",
    )
  bad = (examples.label < 0) | (examples.label >= info.num_classes)
  if bad.any():
    first = int(np.argmax(bad))
    raise errors.InputError(
      info.key,
      f"labels in [0, {info.num_classes})",
      f"{examples.label[first]} for {examples.image_id[first]} and"
      f" {int(bad.sum()) - 1} more",
    )
  return examples
