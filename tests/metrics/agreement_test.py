"""Tests of agreement: published numbers, and values worked out by hand."""

import itertools

import numpy as np
import pytest

from imgbench.metrics import agreement
from tests.data import shared_files


def read_answers(name):
  """Returns int [questions, raters] of a file of reassessed-imagenet."""
  path = shared_files.shared_path(f"data/reassessed-imagenet/{name}.npz")
  given = np.nan_to_num(np.load(path)["tensor"])
  seen = given.sum(axis=-1) > 0
  return np.where(seen, given.argmax(axis=-1), agreement.MISSING).T


def test_experts_of_real():
  answers = read_answers("golden")
  votes = agreement.count_votes(answers, 3)
  assert agreement.fleiss_kappa(votes) == pytest.approx(0.7321, abs=5e-5)
  kappas = [
    agreement.cohen_kappa(answers[:, a], answers[:, b])
    for a, b in itertools.combinations(range(5), 2)
  ]
  assert min(kappas) == pytest.approx(0.641, abs=5e-4)
  assert max(kappas) == pytest.approx(0.813, abs=5e-4)


def test_raters_of_real():
  votes = agreement.count_votes(read_answers("raters"), 3)
  assert votes.sum(axis=1).tolist() == [5] * 184_962
  assert agreement.fleiss_kappa(votes) == pytest.approx(0.4120, abs=5e-5)
  unanimous, no_majority = agreement.majority_shares(votes)
  assert unanimous == pytest.approx(0.612, abs=5e-4)
  assert no_majority == pytest.approx(0.047, abs=5e-4)


def test_hand_worked():
  a, b = np.array([0, 0, 1, 1, -1]), np.array([0, 1, 1, 1, 0])
  # Observed 3/4, expected (1/2)(1/4) + (1/2)(3/4) = 1/2.
  assert agreement.cohen_kappa(a, b) == pytest.approx(0.5)
  votes = agreement.count_votes(np.stack([a, b], axis=1), 2)
  assert votes.tolist() == [[2, 0], [1, 1], [0, 2], [0, 2], [1, 0]]
  # Expected (3/8)² + (5/8)² = 34/64; the last question has one vote.
  assert agreement.fleiss_kappa(votes) == pytest.approx((48 - 34) / (64 - 34))
  assert agreement.majority_shares(votes) == (0.75, 0.25)


def test_undefined():
  none = np.zeros((0, 3), int)
  assert agreement.fleiss_kappa(none) is None
  assert agreement.majority_shares(none) == (None, None)
  same = np.zeros(4, int)
  assert agreement.cohen_kappa(same, same) is None
  assert agreement.cohen_kappa(same, same - 1) is None
