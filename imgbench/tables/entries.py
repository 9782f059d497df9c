"""Entries of results.json as rows, in the order of reports."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import sys

from imgbench import errors
from imgbench.metrics import specs

_FIELDS = (
  "n",
  "correct",
  "value",
  "ci_low",
  "ci_high",
  "ci_method",
  "definition",
)
# Suffixes of an accuracy: bounds from unreviewed predictions, and the drop
# from a base set.
_UNREVIEWED = ("unreviewed", "bound_low", "bound_high")
_SHIFT = ("base", "drop")


@dataclasses.dataclass(frozen=True)
class Unreviewed:
  """Share of unreviewed predictions, and the bounds they put on a value.

  Fractions; None is undefined.

  Attributes:
    share: of predictions that are unreviewed.
    low: the value if all of them are wrong.
    high: the value if all of them are right.
  """

  share: float | None
  low: float | None
  high: float | None


@dataclasses.dataclass(frozen=True)
class Row:
  """One entry of results.json; rates are fractions, None is undefined.

  Attributes:
    dataset: e.g. "cifar10:test"; the other fields are as in the file.
    unreviewed: for an accuracy against label sets, else None.
    shift: for an accuracy that is compared with a base set, else None.
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

  @property
  def augmented(self) -> bool:
    """Returns whether the predictions use test-time augmentation."""
    return specs.MIRRORED in self.definition


@dataclasses.dataclass(frozen=True)
class Shift:
  """Comparison of an accuracy with that on a base set.

  Attributes:
    base: accuracy on the base set, over the same classes.
    drop: base accuracy minus this one, in [-1, 1].
  """

  base: Row
  drop: Row


def parse(results: Mapping[str, Mapping]) -> tuple[Row, ...]:
  """Returns the rows of a results.json.

  Test and validation splits come first, those on several labels of an image
  after the others; then other splits; then sets that are compared with a base
  set, those with more of its classes first; training splits last. Otherwise
  rows keep the order of the file, except that other parameters of a data set
  ("cifar10+ema:test") follow it directly. Bounds from unreviewed predictions
  and comparisons with a base set become fields of their accuracy's row.

  Raises:
    InputError: a key or an entry of another form.
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
  families: dict[tuple[str, str], list[Row]] = {}
  for row in rows.values():
    families.setdefault(family(row.dataset), []).append(row)
  ranked = sorted(families, key=lambda name: _rank(name, families[name]))
  place = lambda name: (ranked.index(family(name)), "+" in name)
  return tuple(sorted(rows.values(), key=lambda row: place(row.dataset)))


def _rank(name: tuple[str, str], rows: Sequence[Row]) -> tuple:
  """Returns the place of a data set, see `parse`."""
  rank = split_rank(":".join(name))
  compared = [row.shift.base.n for row in rows if row.shift]
  # More images first, of those on several labels.
  labeled = [row.n for row in rows if specs.describe(row.metric).label_set]
  sizes = [max(compared, default=0), max(labeled, default=0)]
  return rank == 2, any(compared), rank, any(labeled), *(-n for n in sizes)


def is_training_split(dataset: str) -> bool:
  """Returns whether the name is a training split's; runs record the truth."""
  return split_rank(dataset) == 2


def split_rank(dataset: str) -> int:
  """Returns 0 for test and validation, 2 with training data, else 1."""
  parts = dataset.partition(":")[2].split("+")
  ranks = {"test": 0, "validation": 0, "train": 2}
  return max(ranks.get(part.partition("[")[0], 1) for part in parts)


def family(dataset: str) -> tuple[str, str]:
  """Returns name and split without the parameters, e.g. "+ema"."""
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
    if not good or not abs(number) <= sys.float_info.max:
      setting = f"results.json: {key}: {field}"
      raise errors.InputError(setting, "a finite number", repr(number))
  return Row(*axes, **{field: entry[field] for field in _FIELDS})
