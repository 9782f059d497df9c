"""Protocols of data sets: what the program needs from every source."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import numpy as np

from imgbench import errors

# Kinds of label sets; see `metrics.summary`.
REVIEWED = "reviewed"
REAL = "real"

Progress = Callable[[int, int], None]  # (examples done, total examples)


class DamagedRecord(errors.InputError):
  """A record of a file does not match its checksum."""


@dataclasses.dataclass(frozen=True)
class Info:
  """Facts about a split that are known before it is read.

  Attributes:
    name: data set, e.g. "cifar10".
    split: as requested, e.g. "test" or "train[:90%]".
    num_examples: N of the split.
    image_shape: (H, W, C), the same for every image, or (None, None, C) if
      images have many sizes, as in an `EncodedSource`.
    class_names: K names in the order of the labels.
    subsets: name -> bool [K] mask over classes, e.g. "dog"; "all" is implied.
    label_set: REVIEWED or REAL if `Examples` has `label_codes` and `left_out`,
      else None.
    synthetic: images are synthetic; results and reports say so.
    fingerprint: short hex text; the same for every copy of the data.
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
    """Returns whether images are decoded during training or evaluation."""
    return None in self.image_shape

  @property
  def key(self) -> str:
    """`<name>:<split>`, the first part of a metric's name."""
    return f"{self.name}:{self.split}"


@dataclasses.dataclass(frozen=True)
class Examples:
  """All examples of a split as NumPy arrays, in the order of the source.

  Attributes:
    image: uint8 [N, H, W, C], or None for an `EncodedSource`.
    label: int32 [N] in [0, K); the original label if there are several.
    image_id: str [N], unique.
    label_codes: int8 [N, K] of `labels.annotations`, or None.
    left_out: bool [N], images that the label sets exclude: problematic ones,
      in ReaL those without labels; or None.
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


@runtime_checkable
class Source(Protocol):
  """A split with random access whose images fit into memory."""

  info: Info

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Returns one example with the field names of its TFDS data set."""

  def load(self, progress: Progress | None = None) -> Examples:
    """Returns all examples, checked against `info`. Raises InputError."""


@runtime_checkable
class EncodedSource(Protocol):
  """A split with random access whose images stay encoded until they are used.

  Reading is safe from several threads.
  """

  info: Info

  def __len__(self) -> int: ...

  def read(self, index: int) -> tuple[bytes, int]:
    """Returns the encoded image and its label. Raises InputError."""

  def where(self, index: int) -> str:
    """Returns which example this is, and in which file, for an error."""

  def examples(self, progress: Progress | None = None) -> Examples:
    """Returns all but the images, checked against `info`. Raises InputError."""

  def shared_with(self, other: "EncodedSource") -> float:
    """Returns the share of the examples that are also in `other`."""


AnySource = Source | EncodedSource


def check_examples(examples: Examples, info: Info) -> Examples:
  """Returns `examples`. Raises InputError if they do not fit `info`."""
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
