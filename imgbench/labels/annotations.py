"""Sets of reviewed labels per image, as int8 codes [K] or [N, K]."""

from collections.abc import Sequence

import numpy as np

from imgbench import errors

UNREVIEWED = 0
WRONG = 1
UNCLEAR = 2
CORRECT = 3

# From the worst to the best: a label that stands in several lists of an image,
# as in three images of the published annotations, counts as the best.
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
      imagenet2012_multilabel). A label in several of them counts as the best.
    num_classes: K.

  Returns:
    int8 [K]: 0 unreviewed, 1 wrong, 2 unclear, 3 correct.

  Raises:
    InputError: a label outside [0, K), or a list is missing.
  """
  codes = np.zeros(num_classes, np.int8)
  for field, code in FIELD_CODES.items():
    if field not in example:
      raise errors.InputError(
        f"{field}: expected it in the example, got {', '.join(example)}"
      )
    labels = np.asarray(example[field]).reshape(-1)
    if labels.size and not np.issubdtype(labels.dtype, np.integer):
      raise errors.InputError(
        f"{field}: expected integers, got {labels.tolist()}"
      )
    labels = labels.astype(np.int64)
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
      raise errors.InputError(
        f"{field}: expected labels in [0, {num_classes}), got {labels.tolist()}"
      )
    codes[labels] = code
  return codes


def set_codes(
  sets: Sequence[np.ndarray],
  num_classes: int,
  inside: int = CORRECT,
  outside: int = WRONG,
) -> np.ndarray:
  """Returns the review codes of images that each have one set of labels.

  Args:
    sets: N integer arrays [n], n >= 0, labels in [0, K); a label that stands
      in an array twice counts once.
    num_classes: K.
    inside: code of the labels in an image's set.
    outside: code of all others.

  Returns:
    int8 [N, K].

  Raises:
    InputError: labels that are no integers or outside [0, K).
  """
  codes = np.full((len(sets), num_classes), outside, np.int8)
  sizes = [len(labels) for labels in sets]
  if not sum(sizes):
    return codes
  labels = np.concatenate([labels for labels in sets if len(labels)])
  rows = np.repeat(np.arange(len(sets)), sizes)
  if not np.issubdtype(labels.dtype, np.integer):
    raise errors.InputError(f"sets: expected integers, got {labels.dtype}")
  bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
  if bad.size:
    raise errors.InputError(
      f"sets: expected labels in [0, {num_classes}), got {labels[bad[0]]} in"
      f" set {rows[bad[0]]}"
    )
  codes[rows, labels] = inside
  return codes
