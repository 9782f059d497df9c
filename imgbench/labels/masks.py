"""Class masks read from text and .npy files."""

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
      other file is UTF-8 text with one class per line: its index, exact name
      or wnid. Empty lines and comments (# at the start of a line or after a
      blank) are ignored.
    num_classes: K.
    class_names: names of the K classes, or empty; a name in the file must
      belong to one class only.
    wnids: WordNet ids of the K classes, or empty.

  Returns:
    bool [K] with at least one class.

  Raises:
    InputError: the file cannot be read or holds something else; a class (with
      its line) is unknown, ambiguous, outside [0, K) or a duplicate; there is
      no class; or there are not K names or ids.
  """
  for setting, given in (("class_names", class_names), ("wnids", wnids)):
    if len(given) not in (0, num_classes):
      raise errors.InputError(setting, f"0 or {num_classes}", len(given))
  path = pathlib.Path(path)
  if path.suffix.lower() == ".npy":
    mask = _mask_of_array(path, _read_array(path), num_classes)
  else:
    mask = _mask_of_lines(path, num_classes, class_names, wnids)
  if not mask.any():
    raise errors.InputError(path, "at least one class", "none")
  return mask


def _read_array(path: pathlib.Path) -> np.ndarray:
  try:
    with path.open("rb") as file:
      return np.lib.format.read_array(file, allow_pickle=False)
  # NumPy evaluates the header as Python, so damage can raise any error.
  except Exception as error:
    raise errors.InputError(
      path,
      "an .npy file with bool [K] or integer indices [n]",
      f"{type(error).__name__}: {error}",
    ) from error


def _mask_of_array(path, values: np.ndarray, num_classes: int) -> np.ndarray:
  is_mask = values.dtype == np.bool_
  if (
    not (is_mask or np.issubdtype(values.dtype, np.integer))
    or values.ndim != 1
    or (is_mask and len(values) != num_classes)
  ):
    raise errors.InputError(
      path,
      f"bool [{num_classes}] or integer indices [n]",
      f"{values.dtype} {list(values.shape)}",
    )
  if is_mask:
    return values
  mask = np.zeros(num_classes, np.bool_)
  for position, index in enumerate(values.tolist()):
    where = f"{path}, position {position}"
    _check_range(where, index, num_classes)
    if mask[index]:
      raise errors.InputError(
        where, "distinct class indices", index, "save a 0/1 mask as bool"
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
    where = f"{path}, line {number}"
    index = find_class(where, text, known, num_classes)
    if index in first_line:
      raise errors.InputError(
        where, f"a class not yet on line {first_line[index]}", repr(text)
      )
    first_line[index] = number
  mask = np.zeros(num_classes, np.bool_)
  mask[list(first_line)] = True
  return mask


def _lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
  """Yields the number and text of each line that names a class."""
  try:
    text = path.read_text(encoding="utf-8-sig")
  except (OSError, UnicodeDecodeError) as error:
    raise errors.InputError(
      path, "UTF-8 text with one class per line", error
    ) from error
  for number, line in enumerate(text.split("\n"), 1):
    line = _COMMENT.sub("", line).strip()
    if line:
      yield number, line


def find_class(
  where: str, text: str, known: dict[str, set[int]], num_classes: int
) -> int:
  """Returns the index of the class that a text names.

  Args:
    where: file and line, for errors.
    text: an index, or a name.
    known: name -> the classes that have it.
    num_classes: K.

  Raises:
    InputError: no class, or several.
  """
  found = set(known.get(text, ()))
  is_index = _INDEX.fullmatch(text) is not None
  if is_index and 0 <= int(text) < num_classes:
    found.add(int(text))
  if len(found) > 1:
    raise errors.InputError(
      where,
      "the name of one class",
      f"{text!r}, which names classes {' and '.join(map(str, sorted(found)))}",
      "give an index or a wnid",
    )
  if not found and is_index:
    _check_range(where, int(text), num_classes)
  if not found:
    hint = registry.near_names(text, known) if known else "no names are known"
    raise errors.InputError(
      where,
      f"an index below {num_classes} or a class name",
      repr(text),
      textwrap.shorten(hint, 200, placeholder=" ..."),
    )
  return found.pop()


def _check_range(where: str, index: int, num_classes: int) -> None:
  if not 0 <= index < num_classes:
    expected = f"a class index in [0, {num_classes})"
    raise errors.InputError(where, expected, index)
