"""Sets of reviewed labels per image, as int8 codes [K] or [N, K]."""

import numpy as np

from imgbench import errors

UNREVIEWED = 0
WRONG = 1
UNCLEAR = 2
CORRECT = 3

FIELD_CODES = {
  "wrong_multi_labels": WRONG,
  "unclear_multi_labels": UNCLEAR,
  "correct_multi_labels": CORRECT,
}


def label_codes(example, num_classes: int) -> np.ndarray:
  """Returns the review code of every class for one image.

  Args:
    example: mapping with the integer sequences `correct_multi_labels`,
      `wrong_multi_labels` and `unclear_multi_labels` (the fields of TFDS's
      imagenet2012_multilabel), each label at most once over all three.
    num_classes: K.

  Returns:
    int8 [K]: 0 unreviewed, 1 wrong, 2 unclear, 3 correct.

  Raises:
    InputError: a label outside [0, K), or in two of the three lists.
  """
  codes = np.zeros(num_classes, np.int8)
  for field, code in FIELD_CODES.items():
    labels = np.asarray(example[field], np.int64).reshape(-1)
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
      raise errors.InputError(
        f"{field}: expected labels in [0, {num_classes}), got {labels.tolist()}"
      )
    if np.any(codes[labels] != UNREVIEWED):
      raise errors.InputError(
        f"{field}: {labels.tolist()} repeats a label of another review list"
      )
    codes[labels] = code
  return codes
