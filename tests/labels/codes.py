"""Review codes of one example, a reference for data sources."""

from collections.abc import Mapping

import numpy as np

from imgbench.labels import annotations

CODES = {
  "wrong_multi_labels": annotations.WRONG,
  "unclear_multi_labels": annotations.UNCLEAR,
  "correct_multi_labels": annotations.CORRECT,
}


def label_codes(example: Mapping, num_classes: int) -> np.ndarray:
  """Returns int8 [K] of an example with the fields of TFDS.

  A label in several fields counts as the best.
  """
  codes = np.zeros(num_classes, np.int8)
  for field, code in CODES.items():
    codes[np.asarray(example[field], np.int64)] = code
  return codes
