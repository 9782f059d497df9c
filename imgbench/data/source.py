"""Protocols of data sets: what the program needs from every source."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import threading
from typing import Any
from typing import Protocol
from typing import runtime_checkable

from absl import logging
import numpy as np

from imgbench import errors

ON_BAD = ("stop", "skip")

# Kinds of label sets; see `metrics.summary`.
REVIEWED = "reviewed"
REAL = "real"
CORRECTED = "corrected"

Progress = Callable[[int, int], None]  # (examples done, total examples)


class DamagedRecord(errors.InputError):
  """An example cannot be read: no file, or not one that its checksum fits."""


class BadExamples:
  """Counts examples that cannot be read or decoded, up to a bound.

  Threads may share one.

  Attributes:
    skips: whether such examples are skipped; otherwise the first is an error.

  Args:
    section: of the config that has the next two, named in errors; "": none.
    on_bad_example: "stop" or "skip".
    most_bad: examples that may be skipped.

  Raises:
    InputError: a setting out of range.
  """

  def __init__(
    self, section: str, on_bad_example: str = "stop", most_bad: int = 100
  ):
    check_on_bad(on_bad_example, most_bad)
    self.skips = on_bad_example == "skip"
    self._section = section
    self._most = most_bad if self.skips else 0
    self._found: set[int] = set()
    self._lock = threading.Lock()

  def add(self, index: int, where: str, error: Exception) -> None:
    """Counts an example once. Raises InputError if there are too many.

    Args:
      index: of the example.
      where: which example this is, and in which file.
      error: that it caused.
    """
    with self._lock:
      if index in self._found:
        return
      count = len(self._found) + 1
      if count <= self._most:
        self._found.add(index)
    if count > self._most:
      fix = "repair the file or prepare the set again"
      if self._section:
        fix += (
          f"; to skip such examples: {self._section}.on_bad_example=skip,"
          f" {self._section}.most_bad={count} or more"
        )
      raise errors.InputError(
        where,
        "a whole record with an image that can be decoded",
        error,
        fix,
      ) from error
    logging.warning(
      "%s: %s; skipped (%d of at most %d)", where, error, count, self._most
    )


def check_on_bad(on_bad_example: str, most_bad: int) -> None:
  """Raises InputError unless both are settings of `BadExamples`."""
  expected = f"one of {', '.join(ON_BAD)}"
  known = on_bad_example in ON_BAD
  errors.check(known, "on_bad_example", expected, repr(on_bad_example))
  errors.check(most_bad >= 0, "most_bad", "at least 0", most_bad)


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
    label_set: REVIEWED, REAL or CORRECTED if `Examples` has `label_codes` and
      `left_out`, else None.
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
    place: int64 [N], place of each in the split; None: none was skipped.
  """

  image: np.ndarray | None
  label: np.ndarray
  image_id: np.ndarray
  label_codes: np.ndarray | None = None
  left_out: np.ndarray | None = None
  in_imagenet_m: np.ndarray | None = None
  place: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.label)

  def take(self, rows: np.ndarray) -> "Examples":
    """Returns some examples, by integer [n] or bool [N]."""
    fields = {
      name: None if array is None else array[rows]
      for name, array in vars(self).items()
    }
    return Examples(**fields)

  def fill(self, count: int) -> "Examples":
    """Returns all `count` examples of the split, for training.

    A skipped one is replaced by the one before it, the first by the next.
    """
    if self.place is None:
      return self
    before = np.searchsorted(self.place, np.arange(count), side="right") - 1
    return self.take(np.maximum(before, 0))


@runtime_checkable
class Source(Protocol):
  """A split with random access whose images fit into memory."""

  info: Info

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Returns one example with the field names of its TFDS data set."""

  def load(
    self, progress: Progress | None = None, bad: BadExamples | None = None
  ) -> Examples:
    """Returns all examples, checked against `info`. Raises InputError.

    Args:
      progress: called with (examples done, total examples).
      bad: counts damaged ones, which are left out; None: they are errors.
    """


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

  def examples(
    self, progress: Progress | None = None, bad: BadExamples | None = None
  ) -> Examples:
    """Returns all but the images; see `Source.load`."""

  def shared_with(self, other: "EncodedSource") -> float:
    """Returns the share of the examples that are also in `other`."""


AnySource = Source | EncodedSource


def check_examples(examples: Examples, info: Info) -> Examples:
  """Returns `examples`. Raises InputError if they do not fit `info`."""
  size = info.num_examples if examples.place is None else len(examples)
  errors.check(size > 0, info.key, "at least one example that is whole", size)
  expected = (size, *info.image_shape)
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
