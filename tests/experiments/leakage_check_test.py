"""Tests of the experiment that plants copies, on random images."""

import numpy as np
import pytest

from experiments import leakage_check
from imgbench.leakage import search


def pairs(test, train):
  count = len(test)
  return search.Pairs(
    test=np.array(test),
    train=np.array(train),
    mirrored=np.zeros(count, bool),
    scale=np.ones(count),
    similarity=np.ones(count),
  )


def test_planted_copies_and_images_upside_down():
  rng = np.random.default_rng(1)
  test, train = rng.integers(0, 256, (2, 30, 32, 32, 3), np.uint8)
  planted, kind, source_of = leakage_check.plant(test, train, 3, seed=0)
  again = leakage_check.plant(test, train, 3, seed=0)
  assert all(
    (a == b).all() for a, b in zip((planted, kind), again, strict=False)
  )
  counts = np.bincount(kind + 1)
  assert counts.tolist() == [30 - 3 * 7, *[3] * 7]
  others = kind < 0
  assert (planted[others] == test[others, ::-1]).all()
  exact, mirrored = kind == 0, kind == 1
  assert (planted[exact] == train[source_of[exact]]).all()
  assert (planted[mirrored] == train[source_of[mirrored], :, ::-1]).all()
  assert len(set(source_of[~others].tolist())) == 21
  assert (source_of[others] == -1).all()


def test_recall_and_precision_by_hand():
  """Two copies of each kind; one is missed, one found in a wrong image."""
  kind = np.array([*np.repeat(np.arange(7), 2), -1, -1])
  source_of = np.array([*range(100, 114), -1, -1])
  rows = np.array([i for i in range(14) if i != 3])
  train = source_of[rows].copy()
  train[0] = 7  # of the first copy
  found = [pairs(rows, train), pairs([15, 1], [5, 6])]
  recalls, precision = leakage_check.score(found, kind, source_of)
  assert recalls == [0.5, 0.5, 1, 1, 1, 1, 1]
  # 13 copies and one other image are found; 12 with their source.
  assert precision == pytest.approx(12 / 14)
