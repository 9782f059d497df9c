"""Reads reviewed labels, also from a CSV of TFDS's imagenet2012_multilabel."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import os
import pathlib
import re
from typing import Any

import numpy as np

from imgbench import errors
from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.labels import real
from imgbench.labels import review_database

_STATES = ("correct", "unclear", "wrong")
# The second names are those of the table in klarajanouskova/ImageNet.
_COLUMNS = (
  ("file_name", "id"),
  ("is_problematic",),
  ("correct_multi_labels", "proposed_labels"),
  ("unclear_multi_labels",),
  ("wrong_multi_labels",),
)
# An ImageNetV2 image, as lists have it or as its file is named.
_HEXADECIMAL = re.compile(r"^(?:.*/)?([0-9a-f]{40})(?:\.jpe?g)?$")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def read_file(path: str | os.PathLike[str]) -> Any:
  """Returns the keys of human_accuracy_v3.0.0.json. Raises InputError.

  Args:
    path: a JSON file, a CSV table or a database of `imgbench review`.
  """
  if review_database.is_database(path):
    return review_database.read(path)
  is_table = pathlib.Path(path).suffix.lower() == ".csv"
  return read(path) if is_table else real.read_json(path)


def read_codes(
  path: str | os.PathLike[str], image_ids: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the review codes of images of the 1,000 ImageNet classes.

  Args:
    path: see `read_file`.
    image_ids: N, those of ImageNetV2 with or without folder and suffix.

  Returns:
    int8 [N, 1000] of `annotations`, and bool [N], true for images that are
    problematic or not in the file; an InputError if all are.
  """
  content = read_file(path)
  names = list(map(find_id, image_ids))
  codes = np.zeros((len(names), real.NUM_CLASSES), np.int8)
  try:
    labels = {find_id(k): v for k, v in content["initial_annots"].items()}
    problematic = set(map(find_id, content["problematic_images"]))
    for row, name in enumerate(names):
      # From worst to best: a label in several lists counts as the best.
      for field, code in annotations.FIELD_CODES.items():
        state = field.removesuffix("_multi_labels")
        wnids = labels.get(name, {}).get(state, ())
        codes[row, list(map(classes.index_of, wnids))] = code
  except (AttributeError, KeyError, TypeError, errors.InputError) as error:
    expected = "the keys of human_accuracy_v3.0.0.json"
    raise errors.InputError(path, expected, f"{error!r}") from error
  once = len(labels) == len(content["initial_annots"])
  errors.check(once, path, "every image once", "one in two forms of its id")
  left_out = np.array([n not in labels or n in problematic for n in names])
  errors.check(not left_out.all(), path, f"images such as {names[0]}", "none")
  return codes, left_out


def find_id(name: str) -> str:
  """Returns an image id in the form that all files of ImageNetV2 share."""
  return _HEXADECIMAL.sub(r"\1", name)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns a table in the keys of human_accuracy_v3.0.0.json.

  Args:
    path: a line for each image; one column of each of `_COLUMNS`, perhaps
      `category`, others are ignored. Labels are class indices in [0, 1000),
      separated by commas or blanks, perhaps in brackets.

  Returns:
    initial_annots, {image: state: [WordNet ids]}, problematic_images, {image:
    category or ""}, and imagenet_m, None: the table does not say.

  Raises:
    InputError: another layout or value, an image twice.
  """
  wnids = {str(i): w for i, w in enumerate(classes.imagenet_classes().wnids)}
  annotated, problematic = {}, {}
  for where, row in iterate(path, _COLUMNS):
    used = [n for names in _COLUMNS for n in names if n in row]
    image, flag, *cells = (row[name] for name in used)
    new = image not in annotated
    errors.check(new, where, "every image once", repr(image))
    annotated[image] = {
      state: _parse_labels(f"{where}: {state}", cell, wnids)
      for state, cell in zip(_STATES, cells, strict=True)
    }
    known = flag.lower() in _TRUTH
    errors.check(known, where, "is_problematic true or false", repr(flag))
    if _TRUTH[flag.lower()]:
      problematic[image] = row.get("category", "")
  return {
    "initial_annots": annotated,
    "problematic_images": problematic,
    "imagenet_m": None,
  }


def iterate(
  path: str | os.PathLike[str], columns: Sequence[tuple[str, ...]]
) -> Iterator[tuple[str, dict[str, str]]]:
  """Yields place and cells of each line of a CSV file. Raises InputError."""
  try:
    with pathlib.Path(path).open(encoding="utf-8-sig", newline="") as file:
      rows = csv.DictReader(file, strict=True)
      header = rows.fieldnames or ()
      for names in columns:
        given = ",".join(header)[:120] or "none"
        one = sum(name in names for name in header) == 1
        errors.check(one, path, f"one column {' or '.join(names)}", given)
      for row in rows:
        where = f"{path}, line {rows.line_num}"
        full = None not in (*row, *row.values())
        errors.check(full, where, f"{len(header)} cells", "another number")
        yield where, row
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise errors.InputError(path, "a CSV file in UTF-8", error) from error


def _parse_labels(where: str, cell: str, wnids: Mapping[str, str]) -> list[str]:
  """Returns the WordNet ids of the class indices in a cell."""
  found = cell.strip("[] ").replace(",", " ").split()
  unknown = [text for text in found if text not in wnids]
  expected = f"class indices in [0, {len(wnids)})"
  errors.check(not unknown, where, expected, f"{unknown[:1]}"[:80])
  return [wnids[text] for text in found]
