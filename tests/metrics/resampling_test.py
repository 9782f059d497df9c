"""Tests of the draws of the bootstrap: their distribution, and its twin."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import stats

from imgbench import errors
from imgbench.metrics import resampling
from tests import raising


def twin(hits, n):
  """The distribution of the sum, by convolution of binomials."""
  chances = np.ones(1)
  for h in hits:
    chances = np.convolve(chances, stats.binom.pmf(np.arange(n + 1), n, h / n))
  return chances


def whole(hits, n):
  """Returns `sum_of_draws` from 0 to its end; the rest must be 0."""
  first, chances = resampling.sum_of_draws(np.asarray(hits, float), n)
  wanted = np.zeros(len(hits) * n + 1)
  for place, chance in enumerate(chances, first):
    if 0 <= place < len(wanted):
      wanted[place] = chance
    else:
      assert chance < 1e-12
  return wanted


@hypothesis.settings(deadline=None, max_examples=60, derandomize=True)
@hypothesis.given(st.data(), st.integers(1, 60))
def test_the_sum_is_a_convolution(data, n):
  hits = data.draw(st.lists(st.integers(0, n), min_size=1, max_size=12))
  np.testing.assert_allclose(whole(hits, n), twin(hits, n), atol=1e-12)


@pytest.mark.parametrize(
  ("hits", "n"),
  [([500] * 2, 1000), ([1] * 400, 50), ([49] * 300 + [25] * 20, 50), ([1], 1)],
)
def test_many_classes_and_large_ones(hits, n):
  np.testing.assert_allclose(whole(hits, n), twin(hits, n), atol=1e-12)


def test_what_does_not_vary_is_one_number():
  first, chances = resampling.sum_of_draws(np.array([0.0, 7.0, 7.0]), 7)
  assert (first, chances.tolist()) == (14, [1.0])


def test_means_have_the_scaled_variance():
  rng = np.random.default_rng(0)
  count = rng.integers(1, 40, 200).astype(float)
  hits = rng.binomial(count.astype(int), 0.7).astype(float)
  means = resampling.mean_resamples(rng, hits, count, 40_000)
  rate = hits / count
  varying = count > 1
  variance = np.sum((rate * (1 - rate))[varying] / (count[varying] - 1))
  # The standard error of a mean is 0.5%, of a deviation 0.35% of it.
  deviation = np.sqrt(variance) / 200
  assert abs(means.mean() - rate.mean()) < 0.02 * deviation
  np.testing.assert_allclose(means.std(), deviation, rtol=0.015)
  # Skewness of a sum of binomials, for the tails that a normal would not have.
  wanted = stats.skew(means)
  third = np.sum(
    (resampling.weights(count) ** 3 * count * rate * (1 - rate))
    * (1 - 2 * rate)
  )
  assert abs(wanted - third / deviation**3) < 0.05


def test_quantiles_are_those_of_the_distribution():
  hits, count = np.array([30.0]), np.array([40.0])
  rng = np.random.default_rng(0)
  means = resampling.mean_resamples(rng, hits, count, 100_000)
  drawn = np.rint((means - 0.75) / resampling.weights(count)[0]) + 30
  got = np.bincount(drawn.astype(int), minlength=41) / len(drawn)
  wanted = stats.binom.pmf(np.arange(41), 40, 0.75)
  np.testing.assert_allclose(got, wanted, atol=0.005)


def test_sets_are_made_of_groups_drawn_once():
  rng = np.random.default_rng(0)
  count = np.full(6, 20.0)
  hits = np.array([3.0, 18.0, 9.0, 12.0, 5.0, 0.0])
  masks = np.array(
    [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]], bool
  )
  count[5] = 0  # In no set.
  everything, first, second = resampling.means_of_sets(
    rng, hits, count, masks, 500
  )
  np.testing.assert_allclose(everything, (first + second) / 2)
  assert abs(np.corrcoef(first, second)[0, 1]) < 0.15
  assert list(resampling.means_of_sets(rng, hits, count, masks[:0], 5)) == []


def test_chunks():
  assert sum(resampling.chunks(2000, 1000)) == 2000
  assert max(resampling.chunks(2000, 1000)) * 1000 <= resampling.DRAWS_AT_ONCE
  assert list(resampling.chunks(3, 2**18)) == [1, 1, 1]
  for call in (
    lambda: list(resampling.chunks(0, 5)),
    lambda: resampling.mean_resamples(None, np.ones(1), np.ones(1), 0),
  ):
    with pytest.raises(
      errors.InputError, check=raising.about("num_resamples", given=0)
    ):
      call()
