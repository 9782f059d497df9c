"""Tests of review codes."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import annotations


def test_codes_of_sets_by_hand():
  sets = [np.array([1, 3]), np.array([], int), np.array([0, 0])]
  codes = annotations.set_codes(sets, 4)
  assert codes.dtype == np.int8
  assert codes.tolist() == [[1, 3, 1, 3], [1, 1, 1, 1], [3, 1, 1, 1]]


def test_no_sets_at_all():
  assert annotations.set_codes([], 5).shape == (0, 5)


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    ([4], r"sets: expected labels in \[0, 4\), got 4 in set 1"),
    ([-1], "got -1 in set 1"),
    ([0.0], "sets: expected integers, got float64"),
    ([True], "sets: expected integers"),
  ],
)
def test_bad_sets_are_refused(labels, message):
  with pytest.raises(errors.InputError, match=message):
    annotations.set_codes([np.array([], int), np.array(labels)], 4)
