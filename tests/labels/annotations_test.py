"""Tests of review codes."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import annotations
from tests import raising


def test_set_codes_match_hand_written_ones():
  sets = [np.array([1, 3]), np.array([], int), np.array([0, 0])]
  codes = annotations.set_codes(sets, 4)
  assert codes.dtype == np.int8
  assert codes.tolist() == [[1, 3, 1, 3], [1, 1, 1, 1], [3, 1, 1, 1]]


def test_no_sets():
  assert annotations.set_codes([], 5).shape == (0, 5)


@pytest.mark.parametrize(
  ("labels", "setting", "given"),
  [
    ([4], "sets[1]", 4),
    ([-1], "sets[1]", -1),
    ([0.0], "sets", "float64"),
    ([True], "sets", "bool"),
  ],
)
def test_bad_sets_are_refused(labels, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    annotations.set_codes([np.array([], int), np.array(labels)], 4)
