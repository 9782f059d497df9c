"""Bootstrap resamples within classes, on the host in float64."""

from collections.abc import Iterator

import numpy as np

from imgbench import errors

# Draws held at once: 2 MiB, where all of 2000 x 1000 classes would be 16.
DRAWS_AT_ONCE = 2**18

# A sum of independent 0/1 draws is within 8 standard deviations plus 24 (for
# the tail of a Poisson) of its mean with probability 1 - 1e-13.
_DEVIATIONS, _FURTHER = 8, 24


def mean_resamples(
  rng: np.random.Generator,
  hits: np.ndarray,
  count: np.ndarray,
  num_resamples: int,
) -> np.ndarray:
  """Returns the means over classes of hits / count, one per resample.

  Classes of equal count have equal weight, so only the sum of their hits
  matters. It is drawn from its exact distribution: 1,000 classes with 20
  different counts need 20 draws.

  Args:
    rng: advanced in place.
    hits: float64 [K], whole numbers, 0 <= hits <= count.
    count: float64 [K], whole numbers, at least 1.
    num_resamples: R, at least 1.

  Returns:
    float64 [R]; deviations are scaled, so a mean may leave [0, 1].

  Raises:
    InputError: fewer than one resample.
  """
  _check_number(num_resamples)
  weight = weights(count)
  means = np.full(num_resamples, np.mean(hits / count))
  for n in np.unique(count):
    there = count == n
    first, chances = sum_of_draws(hits[there], n)
    drawn = np.searchsorted(
      np.cumsum(chances[:-1]), rng.random(num_resamples), side="right"
    )
    means += weight[there][0] * (first + drawn - hits[there].sum())
  return means


def sum_of_draws(hits: np.ndarray, n: float) -> tuple[int, np.ndarray]:
  """Returns the distribution of the sum over classes of Bin(n, hits / n).

  It is the inverse Fourier transform of the product of the classes'
  characteristic functions.

  Args:
    hits: float64 [K], whole numbers, 0 <= hits <= n.
    n: examples of each class, at least 1.

  Returns:
    (first, chances): probabilities [S] of first, first + 1, ...; they sum to 1,
    and values outside have a probability below 1e-13.
  """
  rates, times = np.unique(hits / n, return_counts=True)
  variance = n * np.sum(times * rates * (1 - rates))
  half = int(np.ceil(_DEVIATIONS * np.sqrt(variance))) + _FURTHER
  if variance == 0:
    half = 0
  size = 2 * half + 1  # odd: at half a turn a factor could be 0
  first = int(np.sum(hits)) - half
  angle = 2 * np.pi * np.arange(half + 1) / size
  turns = np.log1p(rates[:, None] * np.expm1(1j * angle))
  transform = np.exp(n * (times @ turns) - 1j * angle * first)
  chances = np.maximum(np.fft.irfft(transform.conj(), size), 0)
  return first, chances / chances.sum()


def means_of_sets(
  rng: np.random.Generator,
  hits: np.ndarray,
  count: np.ndarray,
  masks: np.ndarray,
  num_resamples: int,
) -> Iterator[np.ndarray]:
  """Yields `mean_resamples` of each of several sets of classes.

  Classes in the same sets are drawn together, once for all of these sets; a
  class in no set is not drawn.

  Args:
    rng: advanced in place.
    hits: float64 [K], see `mean_resamples`.
    count: float64 [K], at least 1 where a mask is true.
    masks: bool [S, K], each true somewhere.
    num_resamples: R, at least 1.

  Yields:
    S times float64 [R].
  """
  groups, group_of = np.unique(masks, axis=1, return_inverse=True)
  group_of = group_of.reshape(-1)
  sums = {}
  for group in np.flatnonzero(groups.any(axis=0)):
    there = group_of == group
    means = mean_resamples(rng, hits[there], count[there], num_resamples)
    sums[group] = means * there.sum()
  for mask, members in zip(masks, groups, strict=True):
    yield sum(sums[group] for group in np.flatnonzero(members)) / mask.sum()


def weights(count: np.ndarray) -> np.ndarray:
  """Returns the weight of one hit of each class in the scaled mean, [K].

  Source: Rao and Wu 1988, see `intervals.class_mean`.
  """
  return np.sqrt(count / np.maximum(count - 1, 1)) / (count * len(count))


def chunks(num_resamples: int, num_classes: int) -> Iterator[int]:
  """Yields numbers of resamples to draw at once; they sum to `num_resamples`.

  Generators draw row by row, so draws do not depend on the chunk size if each
  array has its own generator.

  Raises:
    InputError: fewer than one resample.
  """
  _check_number(num_resamples)
  size = max(1, DRAWS_AT_ONCE // num_classes)
  for start in range(0, num_resamples, size):
    yield min(size, num_resamples - start)


def _check_number(num_resamples: int) -> None:
  if num_resamples < 1:
    raise errors.InputError("num_resamples", "at least 1", num_resamples)
