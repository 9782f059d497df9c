"""The protocol of a data set: what the program asks of every source."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any
from typing import Protocol

import numpy as np

from imgbench import errors

Progress = Callable[[int, int], None]  # (examples done, examples in all)


@dataclasses.dataclass(frozen=True)
class Info:
  """What is known of a split before any example is read.

  Attributes:
    name: data set, e.g. "cifar10".
    split: as asked for, e.g. "test" or "train[:90%]".
    num_examples: N of the split.
    image_shape: (H, W, C), the same for every image.
    class_names: K names in the order of the labels.
    subsets: name -> bool [K] mask over classes, e.g. "dog"; "all" is implied.
    multilabel: whether `Examples.label_codes` and `is_problematic` are there.
    synthetic: images are drawn by a program; reports must say so.
    fingerprint: short hex text; the same for the same data wherever it lies.
  """

  name: str
  split: str
  num_examples: int
  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...]
  fingerprint: str
  subsets: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  multilabel: bool = False
  synthetic: bool = False

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  @property
  def key(self) -> str:
    """`<name>:<split>`, the first part of a metric's name."""
    return f"{self.name}:{self.split}"


@dataclasses.dataclass(frozen=True)
class Examples:
  """All examples of a split as NumPy arrays, in the order of the source.

  Attributes:
    image: uint8 [N, H, W, C].
    label: int32 [N] in [0, K); the original label where there are several.
    image_id: str [N], unique.
    label_codes: int8 [N, K] of `labels.annotations`, or None.
    is_problematic: bool [N], or None.
  """

  image: np.ndarray
  label: np.ndarray
  image_id: np.ndarray
  label_codes: np.ndarray | None = None
  is_problematic: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.label)


class Source(Protocol):
  """A split with random access."""

  info: Info

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, Any]:
    """One example under the field names of its TFDS data set."""

  def load(self, progress: Progress | None = None) -> Examples:
    """All examples, checked against `info`. Raises InputError."""


def check_examples(examples: Examples, info: Info) -> Examples:
  """Returns `examples` if they are what `info` promises, else raises."""
  where = f"{info.key}"
  expected = (info.num_examples, *info.image_shape)
  if examples.image.shape != expected or examples.image.dtype != np.uint8:
    raise errors.InputError(
      f"{where}: expected images uint8 {list(expected)}, got"
      f" {examples.image.dtype} {list(examples.image.shape)}"
    )
  bad = (examples.label < 0) | (examples.label >= info.num_classes)
  if bad.any():
    first = int(np.argmax(bad))
    raise errors.InputError(
      f"{where}: expected labels in [0, {info.num_classes}), got"
      f" {examples.label[first]} for {examples.image_id[first]} and"
      f" {int(bad.sum()) - 1} more"
    )
  return examples
