"""Tests of the variance over seeds and images."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import seeds
from tests import raising


def test_values_by_hand():
  hits = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
  found = seeds.split_variance(hits)
  # Accuracies 1/2 and 3/4, of variance 1/32. Means of images 1, 1, 1/2 and 0,
  # of variance 11/48. Squares of the noise add up to 3/8, their mean is 1/8.
  assert (found.n, found.value) == (4, 0.625)
  np.testing.assert_allclose(found.training_std**2, 1 / 32 / 2)
  np.testing.assert_allclose(found.sampling_std**2, 11 / 48 / 4 - 1 / 8 / 8)
  # sqrt(1/64 + 1/24) is 0.24, and few degrees of freedom make it wide.
  assert (found.ci_low, found.ci_high) == (0.0, 1.0)


def test_masked_equals_filtered_and_a_group_less_itself_is_zero():
  rng = np.random.default_rng(0)
  hits, mask = rng.random((3, 40)) < 0.6, rng.random(40) < 0.5
  masked = seeds.split_variance(hits, mask=mask)
  assert masked == seeds.split_variance(hits[:, mask])
  same = seeds.split_variance(hits, hits)
  assert same.value == 0 and same.sampling_std == 0
  once = seeds.split_variance(hits)
  np.testing.assert_allclose(same.training_std**2, 2 * once.training_std**2)


def test_without_variance_there_is_no_interval():
  found = seeds.split_variance(np.ones((2, 5), bool))
  assert (found.value, found.ci_low, found.ci_high) == (1.0, None, None)


def _draw(rng, chances, shifts):
  """Draws hits [S, N] of images with chances [N] and shifts of seeds [S]."""
  chance = chances + np.asarray(shifts)[:, None]
  return rng.random(chance.shape) < chance


def test_the_parts_and_their_sum_are_unbiased_on_simulated_data():
  """The parts are known: hits are mean + seed + image + noise."""
  rng = np.random.default_rng(1)
  num_seeds, size, shift, trials = 4, 80, 0.08, 3000
  levels = np.array([0.1, 0.5, 0.9])
  of_image, of_seed = np.var(levels), shift**2
  noise = 0.5 * 0.5 - of_image - of_seed
  found = [
    seeds.split_variance(
      _draw(
        rng,
        rng.choice(levels, size),
        rng.choice([-shift, shift], num_seeds),
      )
    )
    for _ in range(trials)
  ]
  training = np.mean([x.training_std**2 for x in found])
  sampling = np.mean([x.sampling_std**2 for x in found])
  np.testing.assert_allclose(
    training, (of_seed + noise / size) / num_seeds, rtol=0.05
  )
  np.testing.assert_allclose(sampling, of_image / size, rtol=0.05)
  values = np.array([x.value for x in found])
  np.testing.assert_allclose(training + sampling, values.var(), rtol=0.1)
  covered = [x.ci_low <= 0.5 <= x.ci_high for x in found]
  assert 0.93 < np.mean(covered) < 0.985


def test_differences_of_groups_are_unbiased_on_simulated_data():
  rng = np.random.default_rng(2)
  size, trials = 60, 3000
  # (chance of A, of B) of an image: the groups share what is easy.
  levels = np.array([[0.2, 0.1], [0.6, 0.6], [0.9, 0.5]])
  found = []
  for _ in range(trials):
    of_a, of_b = levels[rng.integers(0, 3, size)].T
    found.append(
      seeds.split_variance(
        _draw(rng, of_a, rng.choice([-0.1, 0.1], 3)),
        _draw(rng, of_b, rng.choice([-0.1, 0.1], 5)),
      )
    )
  truth = np.mean(levels[:, 0] - levels[:, 1])
  sampling = np.mean([x.sampling_std**2 for x in found])
  training = np.mean([x.training_std**2 for x in found])
  wanted = np.var(levels[:, 0] - levels[:, 1]) / size
  np.testing.assert_allclose(sampling, wanted, rtol=0.15)  # At least 0.
  values = np.array([x.value for x in found])
  np.testing.assert_allclose(training + sampling, values.var(), rtol=0.1)
  covered = [x.ci_low <= truth <= x.ci_high for x in found]
  assert 0.93 < np.mean(covered) < 0.985


@pytest.mark.parametrize(
  "given, name",
  [
    ((np.ones((1, 5), bool),), "hits_a"),
    ((np.ones((2, 1), bool),), "hits_a"),
    ((np.ones((2, 5), bool), np.ones((1, 5), bool)), "hits_b"),
    ((np.ones((2, 5), bool), np.ones((2, 4), bool)), "hits_b"),
    ((np.full((2, 5), 0.5),), "hits_a"),
    ((np.ones(5, bool),), "hits_a"),
  ],
)
def test_bad_hits_are_refused(given, name):
  with pytest.raises(errors.InputError, check=raising.about(name)):
    seeds.split_variance(*given)


def test_a_bad_alpha_is_refused():
  hits = np.eye(3, dtype=bool)
  with pytest.raises(errors.InputError, check=raising.about("alpha")):
    seeds.split_variance(hits, alpha=1.0)
