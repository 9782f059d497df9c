"""Reads reviewed labels from a CSV of TFDS's imagenet2012_multilabel."""

from collections.abc import Mapping
import csv
import os
import pathlib
from typing import Any

from imgbench import errors
from imgbench.labels import classes

_STATES = ("correct", "unclear", "wrong")
# The second names are those of the table in klarajanouskova/ImageNet.
_COLUMNS = (
  ("file_name", "id"),
  ("is_problematic",),
  ("correct_multi_labels", "proposed_labels"),
  ("unclear_multi_labels",),
  ("wrong_multi_labels",),
)
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


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
  try:
    with pathlib.Path(path).open(encoding="utf-8-sig", newline="") as file:
      rows = csv.DictReader(file, strict=True)
      header = rows.fieldnames or ()
      for names in _COLUMNS:
        given = ",".join(header)[:120] or "none"
        one = sum(name in names for name in header) == 1
        errors.check(one, path, f"one column {' or '.join(names)}", given)
      used = [n for names in _COLUMNS for n in names if n in header]
      for row in rows:
        where = f"{path}, line {rows.line_num}"
        full = None not in (*row, *row.values())
        errors.check(full, where, f"{len(header)} cells", "another number")
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
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise errors.InputError(path, "a CSV file in UTF-8", error) from error
  return {
    "initial_annots": annotated,
    "problematic_images": problematic,
    "imagenet_m": None,
  }


def _parse_labels(where: str, cell: str, wnids: Mapping[str, str]) -> list[str]:
  """Returns the WordNet ids of the class indices in a cell."""
  found = cell.strip("[] ").replace(",", " ").split()
  unknown = [text for text in found if text not in wnids]
  expected = f"class indices in [0, {len(wnids)})"
  errors.check(not unknown, where, expected, f"{unknown[:1]}"[:80])
  return [wnids[text] for text in found]
