"""Sets of reviewed labels per image, as int8 codes [N, K]."""

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from imgbench import errors

UNREVIEWED = 0
WRONG = 1
UNCLEAR = 2
CORRECT = 3

# From worst to best: a label in several lists of an image counts as the best
# (three images of the published annotations have one).
FIELD_CODES = {
  "wrong_multi_labels": WRONG,
  "unclear_multi_labels": UNCLEAR,
  "correct_multi_labels": CORRECT,
}


def set_codes(sets: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
  """Returns the review codes of images that each have one set of labels.

  Args:
    sets: N integer arrays [n], n >= 0, labels in [0, K); duplicates count once.
    num_classes: K.

  Returns:
    int8 [N, K], CORRECT in an image's set and WRONG outside.

  Raises:
    InputError: labels are not integers or outside [0, K).
  """
  codes = np.full((len(sets), num_classes), WRONG, np.int8)
  sizes = [len(labels) for labels in sets]
  if not sum(sizes):
    return codes
  labels = np.concatenate([labels for labels in sets if len(labels)])
  rows = np.repeat(np.arange(len(sets)), sizes)
  if not np.issubdtype(labels.dtype, np.integer):
    raise errors.InputError("sets", "integers", labels.dtype)
  bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
  if bad.size:
    raise errors.InputError(
      f"sets[{rows[bad[0]]}]", f"labels in [0, {num_classes})", labels[bad[0]]
    )
  codes[rows, labels] = CORRECT
  return codes


def find_reason(value) -> str:
  """Returns the texts in a JSON value, and the keys whose value is true."""
  if isinstance(value, Mapping):
    value = [key if found is True else found for key, found in value.items()]
  parts = value if isinstance(value, list) else [value]
  return ", ".join(x.strip() for x in parts if isinstance(x, str) and x.strip())
