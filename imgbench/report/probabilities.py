"""Parses the entries of calibration.json and curves.json."""

from collections.abc import Mapping
import dataclasses
import math

from imgbench import errors

Numbers = tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Reliability:
  """Accuracy of predictions by confidence.

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


def parse_reliability(place: str, entry) -> Reliability | None:
  """Parses an entry of calibration.json.

  Args:
    place: file and data set, for errors.
    entry: JSON value, None if the file has none.

  Raises:
    InputError: fields that are missing, of other types or lengths.
  """
  if entry is None:
    return None
  names = ("count", "confidence", "accuracy")
  lists = _parse_lists(place, entry, ("edges", *names), optional=names[1:])
  sizes = {len(lists[name]) for name in names}
  if sizes != {len(lists["edges"]) - 1} or 0 in sizes:
    expected = f"one value of {', '.join(names)} for each bin"
    given = ", ".join(f"{name} {len(x)}" for name, x in lists.items())
    raise errors.InputError(f"{place}: edges", expected, given)
  filled = [i for i, count in enumerate(lists["count"]) if count]
  for name in names[1:]:
    if any(lists[name][i] is None for i in filled):
      expected = "a number for each bin with examples"
      raise errors.InputError(f"{place}: {name}", expected, "null")
  return Reliability(**lists, ece=_parse_number(place, entry, "ece"))


def parse_curves(place: str, entries) -> tuple[ClassCurve, ...]:
  """Parses an entry of curves.json, see `parse_reliability`."""
  if not isinstance(entries, list | tuple):
    raise errors.InputError(place, "a list", f"{entries!r:.80}")
  found = []
  for entry in entries:
    lists = _parse_lists(place, entry, ("recall", "precision"))
    if len(lists["recall"]) != len(lists["precision"]) or not lists["recall"]:
      raise errors.InputError(
        f"{place}: recall",
        f"one value for each of {len(lists['precision'])} of precision",
        len(lists["recall"]),
      )
    found.append(
      ClassCurve(
        class_index=int(_parse_number(place, entry, "class_index")),
        class_name=str(entry.get("class_name", "")),
        average_precision=_parse_number(place, entry, "average_precision"),
        positives=int(_parse_number(place, entry, "positives")),
        **lists,
      )
    )
  return tuple(found)


def _parse_lists(place: str, entry, names, optional=()) -> dict[str, tuple]:
  if not isinstance(entry, Mapping):
    raise errors.InputError(place, "an object", f"{entry!r:.80}")
  found = {}
  for name in names:
    values = entry.get(name)
    if not isinstance(values, list) or not all(
      _is_number(value) or (value is None and name in optional)
      for value in values
    ):
      expected = "a list of finite numbers"
      raise errors.InputError(f"{place}: {name}", expected, f"{values!r:.80}")
    found[name] = tuple(values)
  return found


def _parse_number(place: str, entry: Mapping, name: str) -> float:
  value = entry.get(name)
  if not _is_number(value):
    expected = "a finite number"
    raise errors.InputError(f"{place}: {name}", expected, f"{value!r:.80}")
  return value


def _is_number(value) -> bool:
  good = isinstance(value, int | float) and not isinstance(value, bool)
  return good and math.isfinite(value)
