"""Masks over classes, read from files that people write."""

from collections.abc import Iterator
from collections.abc import Sequence
import os
import pathlib
import re
import textwrap

import numpy as np

from imgbench import errors
from imgbench import registry

_COMMENT = re.compile(r"(^|\s)#.*")
_INDEX = re.compile(r"[+-]?[0-9]{1,18}")


def read_class_mask(
  path: str | os.PathLike[str],
  num_classes: int,
  class_names: Sequence[str] = (),
  wnids: Sequence[str] = (),
) -> np.ndarray:
  """Returns the classes that a file names, as a mask.

  Args:
    path: an .npy file with bool [K] or with integer class indices [n]; any
      other file is UTF-8 text with one class per line: its index, or exactly
      its name or its wnid. Empty lines and what follows a # (at the start of a
      line or after a blank) are ignored.
    num_classes: K.
    class_names: names of the K classes, or none; they need not be unique, but
      a name in the file must be.
    wnids: WordNet ids of the K classes, or none.

  Returns:
    bool [K] with at least one class.

  Raises:
    InputError: the file cannot be read, holds something else, names a class
      that is unknown, ambiguous, outside [0, K) or named before, or holds no
      class at all; or names or ids are not K. It says which line.
  """
  for what, given in (("class_names", class_names), ("wnids", wnids)):
    if len(given) not in (0, num_classes):
      raise errors.InputError(
        f"{what}: expected {num_classes} (or none), got {len(given)}"
      )
  path = pathlib.Path(path)
  if path.suffix.lower() == ".npy":
    mask = _mask_of_array(path, _read_array(path), num_classes)
  else:
    mask = _mask_of_lines(path, num_classes, class_names, wnids)
  if not mask.any():
    raise errors.InputError(f"{path}: expected at least one class, got none")
  return mask


def _read_array(path: pathlib.Path) -> np.ndarray:
  try:
    with path.open("rb") as file:
      return np.lib.format.read_array(file, allow_pickle=False)
  # NumPy evaluates the header as Python: damage shows as any of its errors.
  except Exception as error:
    raise errors.InputError(
      f"{path}: expected an .npy file with bool [K] or integer indices, got"
      f" {type(error).__name__}: {error}"
    ) from error


def _mask_of_array(path, values: np.ndarray, num_classes: int) -> np.ndarray:
  got = f"got {values.dtype} {list(values.shape)}"
  is_mask = values.dtype == np.bool_
  if not is_mask and not np.issubdtype(values.dtype, np.integer):
    raise errors.InputError(
      f"{path}: expected bool [{num_classes}] or integer indices [n], {got}"
    )
  if values.ndim != 1 or (is_mask and len(values) != num_classes):
    wanted = num_classes if is_mask else "n"
    raise errors.InputError(f"{path}: expected shape [{wanted}], {got}")
  if is_mask:
    return values
  mask = np.zeros(num_classes, np.bool_)
  for position, index in enumerate(values.tolist()):
    where = f"{path}, position {position}"
    if not 0 <= index < num_classes:
      raise _outside(where, index, num_classes)
    if mask[index]:
      raise errors.InputError(
        f"{where}: class {index} stands there twice (indices must differ; save"
        " a mask of 0 and 1 as bool)"
      )
    mask[index] = True
  return mask


def _mask_of_lines(path, num_classes, class_names, wnids) -> np.ndarray:
  known = {}
  for names in (class_names, wnids):
    for index, name in enumerate(names):
      known.setdefault(name, set()).add(index)
  first_line = {}
  for number, text in _lines(path):
    where = f"{path}:{number}"
    index = _find(where, text, known, num_classes)
    if index in first_line:
      raise errors.InputError(
        f"{where}: class {index} ({text!r}) stands on line {first_line[index]}"
        " already; remove one of the two"
      )
    first_line[index] = number
  mask = np.zeros(num_classes, np.bool_)
  mask[list(first_line)] = True
  return mask


def _lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
  """Yields number and text of each line that says something."""
  try:
    text = path.read_text(encoding="utf-8-sig")
  except (OSError, UnicodeDecodeError) as error:
    raise errors.InputError(
      f"{path}: expected UTF-8 text with one class per line, got {error}"
    ) from error
  for number, line in enumerate(text.split("\n"), 1):
    line = _COMMENT.sub("", line).strip()
    if line:
      yield number, line


def _find(
  where: str, text: str, known: dict[str, set[int]], num_classes: int
) -> int:
  """Returns the one class that a line means."""
  found = set(known.get(text, ()))
  is_index = _INDEX.fullmatch(text) is not None
  if is_index and 0 <= int(text) < num_classes:
    found.add(int(text))
  if len(found) > 1:
    raise errors.InputError(
      f"{where}: {text!r} means classes {' and '.join(map(str, sorted(found)))}"
      "; give an index or a wnid that means one"
    )
  if not found and is_index:
    raise _outside(where, int(text), num_classes)
  if not found:
    hint = registry.near_names(text, known) if known else "no names are known"
    raise errors.InputError(
      f"{where}: expected an index below {num_classes} or a class name, got"
      f" {text!r}; {textwrap.shorten(hint, 200, placeholder=' ...')}"
    )
  return found.pop()


def _outside(where, index: int, num_classes: int) -> errors.InputError:
  return errors.InputError(
    f"{where}: expected a class index in [0, {num_classes}), got {index}"
  )
