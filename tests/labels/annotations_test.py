"""Tests of review codes."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import annotations


def example(correct=(), wrong=(), unclear=()):
  return {
    "correct_multi_labels": list(correct),
    "wrong_multi_labels": list(wrong),
    "unclear_multi_labels": list(unclear),
  }


def test_codes_by_hand():
  codes = annotations.label_codes(example([1, 4], [0], [3]), 6)
  assert codes.dtype == np.int8
  assert codes.tolist() == [1, 3, 0, 2, 3, 0]


def test_no_reviews_at_all():
  assert annotations.label_codes(example(), 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
  ("bad", "message"),
  [
    (example([6]), r"correct_multi_labels: expected labels in \[0, 6\)"),
    (example(wrong=[-1]), "wrong_multi_labels: expected labels"),
    (example([1], [1]), "repeats a label"),
  ],
)
def test_bad_labels_are_refused(bad, message):
  with pytest.raises(errors.InputError, match=message):
    annotations.label_codes(bad, 6)
