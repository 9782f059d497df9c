"""Lists of test images that are known to be near duplicates."""

import csv
import json
import os
import pathlib

import numpy as np

from imgbench import errors

COLUMN, KIND = "test_id", "kind"
# Kind of pairs that only look alike to a model: no leaks.
FEATURES = "features"
_ENDINGS = (".jpeg", ".jpg", ".png")


def read(path: str | os.PathLike[str]) -> frozenset[str]:
  """Returns the ids of the images that a list says to leave out.

  Args:
    path: pairs.csv of `imgbench leakage`, or another .csv file with the column
      test_id; or .json with {image: [its near duplicates]}, of which the keys
      are to be left out, as near_duplicates.json of ImageNetV2.

  Raises:
    InputError: an unreadable file, or one of another kind.
  """
  path = pathlib.Path(path)
  expected = f"a .csv file with the column {COLUMN}, or .json with an object"
  try:
    text = path.read_text(encoding="utf-8-sig")
    found = None
    if path.suffix.lower() == ".json":
      found = json.loads(text)
    else:
      lines = csv.DictReader(text.splitlines(), restval="")
      if COLUMN in (lines.fieldnames or ()):
        leaks = [line for line in lines if line.get(KIND) != FEATURES]
        found = {line[COLUMN]: None for line in leaks}
  except (OSError, ValueError, RecursionError, csv.Error) as error:
    given = errors.find_reason(error)
    raise errors.InputError(path, expected, given) from error
  if not isinstance(found, dict):
    raise errors.InputError(path, expected, f"{text[:60]!r}")
  return frozenset(map(_drop_suffix, found))


def find(ids: np.ndarray, known: frozenset[str]) -> np.ndarray:
  """Returns bool [N], whether each image is in a list of `read`.

  Args:
    ids: str [N]; the suffixes .jpeg, .jpg and .png do not count, nor do the
      folders of an image that the list names without any.
    known: of `read`.
  """
  names = map(_drop_suffix, ids.tolist())
  found = [x in known or x.rpartition("/")[2] in known for x in names]
  return np.array(found, bool)


def _drop_suffix(image_id: str) -> str:
  stem, dot, ending = image_id.rpartition(".")
  return stem if f"{dot}{ending.lower()}" in _ENDINGS else image_id
