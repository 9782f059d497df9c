"""Dataclasses from JSON objects, with names and types checked."""

import collections.abc
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import sys
import types
import typing
from typing import Any
from typing import Literal

from imgbench import errors
from imgbench import registry


def build_dataclass(kind: type, values: Mapping[str, Any], prefix: str = ""):
  """Returns `kind(**values)`, names and types checked against annotations.

  Args:
    kind: a dataclass of numbers, text, and sequences and mappings of them.
    values: as JSON holds them; fields with a default may be missing.
    prefix: put before the setting of errors, e.g. "model.".

  Raises:
    InputError: unknown or missing names, wrong types, numbers not finite.
  """
  try:
    return kind(**_check_values(kind, values))
  except errors.InputError as error:
    raise error.prefixed(prefix) from error


def check_fields(
  hints: Mapping[str, Any], values: Any, required: Sequence[str] = ()
) -> None:
  """Checks the types of an object whose other fields are of no concern.

  Args:
    hints: field -> annotation.
    values: as JSON holds them.
    required: fields that must be there.

  Raises:
    InputError: no object, a missing field, a value of another type.
  """
  if not isinstance(values, Mapping):
    raise errors.InputError("", "an object", show(values))
  for name, hint in hints.items():
    if name in values and not _fits(values[name], hint):
      raise errors.InputError(name, _type_text(hint), show(values[name]))
  for name in required:
    if name not in values:
      raise errors.InputError(name, _type_text(hints[name]), "none")


def _check_values(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
  if not isinstance(values, Mapping):
    raise errors.InputError("", "an object", show(values))
  hints = typing.get_type_hints(kind)
  checked = {}
  for name, value in values.items():
    if name not in hints:
      near = registry.suggest_near(name, hints)
      raise errors.InputError(name, "a known field", show(value), near)
    if not _fits(value, hints[name]):
      raise errors.InputError(name, _type_text(hints[name]), show(value))
    checked[name] = tuple(value) if isinstance(value, list) else value
  for field in dataclasses.fields(kind):
    defaults = (field.default, field.default_factory)
    required = all(d is dataclasses.MISSING for d in defaults)
    if field.name not in checked and required:
      raise errors.InputError(field.name, _type_text(hints[field.name]), "none")
  return checked


def _fits(value, hint) -> bool:
  """Returns whether a JSON value has an annotated type; NaN has none."""
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return any(_fits(value, choice) for choice in inner)
  if hint is Any:
    return True
  if origin is Literal:
    return value in inner
  if origin is collections.abc.Sequence:
    return isinstance(value, list | tuple) and all(
      _fits(item, inner[0]) for item in value
    )
  if origin is collections.abc.Mapping:
    return isinstance(value, Mapping) and all(
      _fits(name, inner[0]) and _fits(item, inner[1])
      for name, item in value.items()
    )
  if hint in (int, float):
    kinds = int if hint is int else int | float
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max
  return isinstance(value, hint)


def check_plain(setting: str, value: Any, hint: Any) -> None:
  """Raises InputError unless a value has an annotated type.

  Args:
    setting: of the value.
    value: number, text, or a sequence or mapping of them.
    hint: annotation; others than of such values are not checked.
  """
  if _is_plain(hint):
    errors.check(_fits(value, hint), setting, _type_text(hint), show(value))


def _is_plain(hint: Any) -> bool:
  inner = typing.get_args(hint)
  if inner and typing.get_origin(hint) is not tuple:
    return all(map(_is_plain, inner))
  return hint in (bool, int, float, str, type(None))


def _type_text(hint) -> str:
  if typing.get_args(hint):
    return str(hint).replace("collections.abc.", "")
  return getattr(hint, "__name__", None) or str(hint)


def show(value) -> str:
  """Returns a value as errors show it: its repr, shortened."""
  text = repr(value)
  return text if len(text) <= 60 else text[:57] + "..."
