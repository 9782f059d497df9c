"""Label errors that workers reviewed: files of cleanlab/label-errors.

Five workers saw an image with its given label and a guessed one and voted for
one, both or neither (Northcutt et al. 2021, arXiv 2103.14749). As there, the
answer of at least three counts; without one an image keeps its given label.
"""

from collections.abc import Sequence
import operator
import os
import re

import numpy as np

from imgbench import errors
from imgbench.labels import annotations
from imgbench.labels import real

_fields = operator.itemgetter("id", "given_original_label", "our_guessed_label")
_votes = operator.itemgetter("given", "guessed", "both", "neither")


def read_codes(
  path: str | os.PathLike[str],
  image_ids: Sequence[str],
  labels: np.ndarray,
  num_classes: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns corrected labels of the images of a data set as review codes.

  Args:
    path: a JSON list of objects with `id`, which is the number in an image id,
      `given_original_label`, `our_guessed_label` and `mturk`, votes by answer.
    image_ids: N, such as "test_00000", "ILSVRC2012_val_00000001.JPEG".
    labels: integer [N] in [0, K), the given ones.
    num_classes: K.

  Returns:
    int8 [N, K] of `annotations`: CORRECT is the corrected label, UNCLEAR the
    guessed one where workers say "both", WRONG any other; and bool [N], true
    where they say "neither".

  Raises:
    InputError: another file, or given labels that the images do not have.
  """
  entries = real.read_json(path)
  try:
    table = np.array([[*_fields(e), *_votes(e["mturk"])] for e in entries])
    errors.check(table.dtype.kind == "i", path, "integers", table.dtype)
  except (KeyError, TypeError, ValueError) as error:
    expected = "a list of cleanlab/label-errors with votes of mturk"
    raise errors.InputError(path, expected, f"another: {error!r}") from error
  ids, given, guessed, *votes = table.T
  digits = [re.findall("[0-9]+", name)[-1:] for name in image_ids]
  places = {int(n): row for row, last in enumerate(digits) for n in last}
  rows = np.array([places.get(i, -1) for i in ids.tolist()])
  fits = (rows >= 0) & (labels[rows] == given)
  fits &= (guessed >= 0) & (guessed < num_classes)
  if not fits.all() or len({*rows.tolist()}) < len(rows):
    expected = f"ids and labels of {len(ids):,} images of the data set"
    raise errors.InputError(path, expected, f"{fits.sum():,} that fit")
  _, corrected, both, neither = np.array(votes) >= 3
  codes = annotations.set_codes(labels[:, None], num_classes)
  codes[rows[corrected]] = annotations.WRONG
  codes[rows[corrected], guessed[corrected]] = annotations.CORRECT
  codes[rows[both], guessed[both]] = annotations.UNCLEAR
  return codes, np.isin(np.arange(len(labels)), rows[neither])
