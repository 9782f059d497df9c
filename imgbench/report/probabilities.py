"""What files of a run say of probabilities: calibration.json, curves.json."""

from collections.abc import Mapping
import dataclasses
import math

from imgbench import errors

Numbers = tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Reliability:
  """How often predictions of about the same confidence are right.

  Attributes:
    edges: M + 1 ends of the bins, ascending, in [0, 1].
    count: M numbers of examples.
    confidence: M mean confidences, None in empty bins.
    accuracy: M shares of right predictions, None in empty bins.
    ece: expected calibration error of these bins.
  """

  edges: Numbers
  count: tuple[int, ...]
  confidence: Numbers
  accuracy: Numbers
  ece: float


@dataclasses.dataclass(frozen=True)
class ClassCurve:
  """Precision against recall of one class; recall ascends."""

  class_index: int
  class_name: str
  average_precision: float
  positives: int
  recall: Numbers
  precision: Numbers


def reliability(place: str, entry) -> Reliability | None:
  """Checks an entry of calibration.json.

  Args:
    place: file and data set, for errors.
    entry: as JSON gives it, None if the file has none.

  Raises:
    InputError: fields that are missing, of other types or lengths.
  """
  if entry is None:
    return None
  names = ("count", "confidence", "accuracy")
  lists = _lists(place, entry, ("edges", *names), optional=names[1:])
  sizes = {len(lists[name]) for name in names}
  if sizes != {len(lists["edges"]) - 1} or 0 in sizes:
    raise errors.InputError(
      f"{place}: expected M + 1 edges and M values in {', '.join(names)}, got"
      f" {', '.join(f'{name} {len(x)}' for name, x in lists.items())}"
    )
  filled = [i for i, count in enumerate(lists["count"]) if count]
  if any(lists[name][i] is None for name in names[1:] for i in filled):
    raise errors.InputError(
      f"{place}: expected confidence and accuracy of each bin with examples,"
      " got null"
    )
  return Reliability(**lists, ece=_number(place, entry, "ece"))


def class_curves(place: str, entries) -> tuple[ClassCurve, ...]:
  """Checks an entry of curves.json; arguments and errors as `reliability`."""
  if not isinstance(entries, list | tuple):
    raise errors.InputError(f"{place}: expected a list, got {entries!r:.80}")
  found = []
  for entry in entries:
    lists = _lists(place, entry, ("recall", "precision"))
    if len(lists["recall"]) != len(lists["precision"]) or not lists["recall"]:
      raise errors.InputError(
        f"{place}: expected recall and precision of one length, got"
        f" {len(lists['recall'])} and {len(lists['precision'])}"
      )
    found.append(
      ClassCurve(
        class_index=int(_number(place, entry, "class_index")),
        class_name=str(entry.get("class_name", "")),
        average_precision=_number(place, entry, "average_precision"),
        positives=int(_number(place, entry, "positives")),
        **lists,
      )
    )
  return tuple(found)


def _lists(place: str, entry, names, optional=()) -> dict[str, tuple]:
  if not isinstance(entry, Mapping):
    raise errors.InputError(f"{place}: expected an object, got {entry!r:.80}")
  found = {}
  for name in names:
    values = entry.get(name)
    if not isinstance(values, list) or not all(
      _is_number(value) or (value is None and name in optional)
      for value in values
    ):
      raise errors.InputError(
        f"{place}: expected a list of finite numbers in {name!r}, got"
        f" {values!r:.80}"
      )
    found[name] = tuple(values)
  return found


def _number(place: str, entry: Mapping, name: str) -> float:
  value = entry.get(name)
  if not _is_number(value):
    raise errors.InputError(
      f"{place}: expected a finite number in {name!r}, got {value!r:.80}"
    )
  return value


def _is_number(value) -> bool:
  good = isinstance(value, int | float) and not isinstance(value, bool)
  return good and math.isfinite(value)
