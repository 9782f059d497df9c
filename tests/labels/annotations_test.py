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


def test_the_best_of_several_reviews_counts():
  codes = annotations.label_codes(example([1, 1], [0, 1, 2], [2]), 4)
  assert codes.tolist() == [1, 3, 2, 0]


def test_no_reviews_at_all():
  assert annotations.label_codes(example(), 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
  ("bad", "message"),
  [
    (example([6]), r"correct_multi_labels: expected labels in \[0, 6\)"),
    (example(wrong=[-1]), "wrong_multi_labels: expected labels"),
  ],
)
def test_bad_labels_are_refused(bad, message):
  with pytest.raises(errors.InputError, match=message):
    annotations.label_codes(bad, 6)


def test_codes_of_sets_by_hand():
  sets = [np.array([1, 3]), np.array([], int), np.array([0, 0])]
  codes = annotations.set_codes(sets, 4)
  assert codes.dtype == np.int8
  assert codes.tolist() == [[1, 3, 1, 3], [1, 1, 1, 1], [3, 1, 1, 1]]


def test_codes_of_sets_with_codes_of_their_own():
  sets = [np.array([1])]
  codes = annotations.set_codes(
    sets, 3, annotations.UNCLEAR, annotations.UNREVIEWED
  )
  assert codes.tolist() == [[0, 2, 0]]


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
