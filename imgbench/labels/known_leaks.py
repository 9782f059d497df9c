"""Lists of test images that are known to be near duplicates."""

import csv
import json
import os
import pathlib

import numpy as np

from imgbench import errors

COLUMN, KIND, DATASET = "test_id", "kind", "dataset"
# Pairs of a data set, "" for any, and an id.
Known = frozenset[tuple[str, str]]
# Kind of pairs that only look alike to a model: no leaks.
FEATURES = "features"
_ENDINGS = (".jpeg", ".jpg", ".png")


def read(path: str | os.PathLike[str]) -> Known:
  """Returns the images that a list says to leave out.

  Args:
    path: pairs.csv of `imgbench leakage`, or another .csv file with the column
      test_id, and dataset if ids of several sets may be equal; or .json with
      {image: [its near duplicates]}, of which the keys are to be left out, as
      near_duplicates.json of ImageNetV2.

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
      found = [("", x) for x in found] if isinstance(found, dict) else None
    else:
      lines = csv.DictReader(text.splitlines(), restval="")
      if COLUMN in (lines.fieldnames or ()):
        leaks = [line for line in lines if line.get(KIND) != FEATURES]
        found = [(line.get(DATASET, ""), line[COLUMN]) for line in leaks]
  except (OSError, ValueError, RecursionError, csv.Error) as error:
    given = errors.find_reason(error)
    raise errors.InputError(path, expected, given) from error
  if found is None:
    raise errors.InputError(path, expected, f"{text[:60]!r}")
  return frozenset((key.partition(":")[0], _drop_suffix(x)) for key, x in found)


def find(ids: np.ndarray, known: Known, name: str) -> np.ndarray:
  """Returns bool [N], whether each image is in a list of `read`.

  Args:
    ids: str [N]; the suffixes .jpeg, .jpg and .png do not count, nor do the
      folders of an image that the list names without any.
    known: of `read`.
    name: of the data set, "+ema" may follow.
  """
  own = {x for dataset, x in known if dataset in ("", name.partition("+")[0])}
  names = map(_drop_suffix, ids.tolist())
  found = [x in own or x.rpartition("/")[2] in own for x in names]
  return np.array(found, bool)


def _drop_suffix(image_id: str) -> str:
  stem, dot, ending = image_id.rpartition(".")
  return stem if f"{dot}{ending.lower()}" in _ENDINGS else image_id
