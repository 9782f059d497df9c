"""Accepted labels per validation image: ReaL, and lists by file name.

ReaL is Beyer et al. 2020, "Are we done with ImageNet?" (arXiv 2006.07159). The
labels of image number n (file ILSVRC2012_val_<n, 8 digits>.JPEG, n from 1) are
element n - 1 of its list; the snippet published with the file is off by one.
"""

from collections.abc import Sequence
import json
import os
import pathlib
import re

import numpy as np

from imgbench import errors
from imgbench.labels import annotations

NUM_IMAGES = 50_000
NUM_CLASSES = 1000

_FILE_NAME = re.compile(r"ILSVRC2012_val_([0-9]{8})\.JPEG")


def read(
  path: str | os.PathLike[str],
  num_images: int = NUM_IMAGES,
  num_classes: int = NUM_CLASSES,
) -> list[np.ndarray]:
  """Returns the ReaL labels of every image, by image number minus 1.

  Args:
    path: real.json: a list of `num_images` lists of class indices.
    num_images: expected length; in another list, positions would differ.
    num_classes: K.

  Returns:
    `num_images` arrays int32 [n], n >= 0, sorted, without duplicates.

  Raises:
    InputError: the file, or an element that it names, is malformed.
  """
  lists = read_json(path)
  if not isinstance(lists, list) or len(lists) != num_images:
    raise errors.InputError(
      path, f"a list of {num_images} lists of class indices", _describe(lists)
    )
  return [
    _label_set(f"{path}, element {i}", labels, num_classes)
    for i, labels in enumerate(lists)
  ]


def read_label_lists(
  path: str | os.PathLike[str], num_classes: int = NUM_CLASSES
) -> dict[str, np.ndarray]:
  """Returns the accepted labels of each image of a JSON {file name: labels}.

  Args:
    path: a JSON object; lists may contain duplicates.
    num_classes: K.

  Returns:
    File name -> int32 [n], sorted, without duplicates, in the file's order.

  Raises:
    InputError: the file is malformed or has a file name twice.
  """
  lists = read_json(path)
  if not isinstance(lists, dict):
    raise errors.InputError(
      path, "an object {file name: class indices}", _describe(lists)
    )
  return {
    name: _label_set(f"{path}, {name!r}", labels, num_classes)
    for name, labels in lists.items()
  }


def label_codes(
  sets: Sequence[np.ndarray], num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns review codes of images whose sets hold all correct labels.

  Args:
    sets: N integer arrays [n] with labels in [0, K), as `read` returns.
    num_classes: K.

  Returns:
    int8 [N, K] of `annotations`, CORRECT in the set and WRONG outside (nothing
    is unreviewed), and bool [N], true for images that every accuracy leaves out
    because their set is empty (all their codes are WRONG).

  Raises:
    InputError: a label is outside [0, K).

  Source: Beyer et al. 2020, section 4.
  """
  left_out = np.array([len(labels) == 0 for labels in sets], np.bool_)
  return annotations.set_codes(sets, num_classes), left_out


def image_number(file_name: str) -> int:
  """Returns n, from 1 to 50,000, of "ILSVRC2012_val_<n, 8 digits>.JPEG".

  Its labels are element n - 1 of what `read` returns.

  Raises:
    InputError: the name is not of this form.
  """
  match = _FILE_NAME.fullmatch(file_name)
  number = int(match.group(1)) if match else 0
  if not 1 <= number <= NUM_IMAGES:
    expected = f"ILSVRC2012_val_<00000001 to {NUM_IMAGES:08d}>.JPEG"
    raise errors.InputError("file_name", expected, repr(file_name))
  return number


def read_json(path: str | os.PathLike[str]):
  """Returns what a JSON file holds.

  Raises:
    InputError: no such file, not JSON, or an object has a duplicate key.
  """
  try:
    text = pathlib.Path(path).read_text(encoding="utf-8")
    return json.loads(text, object_pairs_hook=distinct_keys)
  except errors.InputError as error:
    raise error.prefixed(f"{path}, ") from error
  except (OSError, RecursionError, ValueError) as error:
    raise errors.InputError(path, "a JSON file", error) from error


def distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
  """Returns a JSON object as a dict; an `object_pairs_hook` for `json.loads`.

  Raises:
    InputError: a duplicate key; Python would silently keep the last value.
  """
  found = {}
  for key, value in pairs:
    if key in found:
      raise errors.InputError(repr(key), "one value", "several")
    found[key] = value
  return found


def _label_set(where: str, labels, num_classes: int) -> np.ndarray:
  """Returns the labels of one image, sorted, without duplicates."""
  if not isinstance(labels, list):
    expected = "a list of class indices"
    raise errors.InputError(where, expected, _describe(labels))
  for label in labels:
    # True is an int in Python, but not in JSON.
    if type(label) is not int or not 0 <= label < num_classes:
      expected = f"integers in [0, {num_classes})"
      raise errors.InputError(where, expected, _describe(label))
  return np.array(sorted(set(labels)), np.int32)


def _describe(value) -> str:
  if isinstance(value, list | dict):
    return f"a {type(value).__name__} of {len(value)}"
  return repr(value)[:80]
