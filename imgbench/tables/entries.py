"""Entries of results.json as rows, in the order in which reports show them."""

from collections.abc import Mapping
import dataclasses
import json
import math

from imgbench import errors

_FIELDS = (
  "n",
  "correct",
  "value",
  "ci_low",
  "ci_high",
  "ci_method",
  "definition",
)
# Behind the name of an accuracy: what unreviewed predictions may do to it,
_UNREVIEWED = ("unreviewed", "bound_low", "bound_high")
# and how far it lies below that on a base set.
_SHIFT = ("base", "drop")


@dataclasses.dataclass(frozen=True)
class Unreviewed:
  """Predictions that nobody has reviewed, and how far they may move a value.

  Attributes:
    share: of them; fractions, None is undefined.
    low: the value with all of them wrong.
    high: the value with all of them right.
  """

  share: float | None
  low: float | None
  high: float | None


@dataclasses.dataclass(frozen=True)
class Row:
  """One entry of results.json; rates are fractions, None is undefined.

  Attributes:
    dataset: e.g. "cifar10:test"; the others are as in the file.
    unreviewed: of an accuracy against label sets, or None.
    shift: of an accuracy that is compared with that on a base set, or None.
  """

  dataset: str
  subset: str
  metric: str
  n: int
  correct: int | None
  value: float | None
  ci_low: float | None
  ci_high: float | None
  ci_method: str | None
  definition: str
  unreviewed: Unreviewed | None = None
  shift: "Shift | None" = None


@dataclasses.dataclass(frozen=True)
class Shift:
  """How an accuracy compares with that on a base set.

  Attributes:
    base: the accuracy on the base set, over the same classes.
    drop: how far the accuracy lies below it, in [-1, 1].
  """

  base: Row
  drop: Row


def parse(results: Mapping[str, Mapping]) -> tuple[Row, ...]:
  """Rows of the content of results.json.

  Test and validation splits come first and splits of the training data last;
  otherwise the order is that of the file, but what was measured with other
  parameters ("cifar10+ema:test") follows its data set at once. What unreviewed
  predictions may do to an accuracy and how it compares with a base set are no
  rows of their own but in that accuracy's. Raises InputError.
  """
  rows = {key: _row(key, entry) for key, entry in results.items()}
  for key in results:
    parts = [f"{key}.{name}" for name in _UNREVIEWED]
    if all(part in rows for part in parts):
      values = [rows.pop(part).value for part in parts]
      rows[key] = dataclasses.replace(rows[key], unreviewed=Unreviewed(*values))
    parts = [f"{key}.{name}" for name in _SHIFT]
    if all(part in rows for part in parts):
      shift = Shift(*(rows.pop(part) for part in parts))
      rows[key] = dataclasses.replace(rows[key], shift=shift)
  families: dict[tuple[str, str], int] = {}
  for row in rows.values():
    families.setdefault(family(row.dataset), len(families))
  place = lambda name: (split_rank(name), families[family(name)], "+" in name)
  return tuple(sorted(rows.values(), key=lambda row: place(row.dataset)))


def is_training_split(dataset: str) -> bool:
  """By its name; a run knows better and says so in its environment."""
  return split_rank(dataset) == 2


def split_rank(dataset: str) -> int:
  """0 for test and validation splits, 2 for the training data, else 1."""
  split = dataset.partition(":")[2].partition("[")[0]
  return {"test": 0, "validation": 0, "train": 2}.get(split, 1)


def family(dataset: str) -> tuple[str, str]:
  """The same for all sets of parameters that a split was measured with."""
  name, _, split = dataset.partition(":")
  return name.partition("+")[0], split


def split_key(key: str) -> tuple[str, str, str]:
  """Returns data set, subset and metric of a key. Raises InputError."""
  # The name of a data set may hold a slash itself (TFDS's "set/config").
  parts = key.rsplit("/", 2)
  if len(parts) != 3 or ":" not in parts[0]:
    form = "keys <name>:<split>/<subset>/<metric>"
    raise errors.InputError("results.json", form, repr(key))
  dataset, subset, metric = parts
  return dataset, subset, metric


def _row(key: str, entry) -> Row:
  axes = split_key(key)
  if not isinstance(entry, Mapping) or any(f not in entry for f in _FIELDS):
    given = json.dumps(entry, default=str)[:120]
    expected = f"the fields {', '.join(_FIELDS)}"
    raise errors.InputError(f"results.json: {key}", expected, given)
  for field in ("n", "correct", "value", "ci_low", "ci_high"):
    number = entry[field]
    if number is None and field != "n":
      continue
    good = isinstance(number, int | float) and not isinstance(number, bool)
    if not good or not math.isfinite(number):
      setting = f"results.json: {key}: {field}"
      raise errors.InputError(setting, "a finite number", repr(number))
  return Row(*axes, **{field: entry[field] for field in _FIELDS})
