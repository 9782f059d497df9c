"""Variance of accuracies over seeds: training noise and sampling of images.

Runs that differ only in the seed are evaluated on the same images. Other seeds
give other models, and another test set other images; both change the mean
accuracy. Host, float64.
"""

import dataclasses

import numpy as np

from imgbench import errors
from imgbench.metrics import checks
from imgbench.metrics import intervals


@dataclasses.dataclass(frozen=True)
class SeedVariance:
  """A mean over seeds and images, or a difference of two.

  Attributes:
    n: images.
    value: the mean accuracy, or the difference of two.
    ci_low: lower bound of the value.
    ci_high: upper bound; both None without any variance.
    training_std: standard deviation of the value over draws of the seeds.
    sampling_std: standard deviation of the value over draws of the images.
  """

  n: int
  value: float
  ci_low: float | None
  ci_high: float | None
  training_std: float
  sampling_std: float


def split_variance(
  hits_a, hits_b=None, alpha: float = 0.05, *, mask=None
) -> SeedVariance:
  """Returns the mean accuracy over seeds, or a difference, with its variance.

  With hits y[s, i] = mean + seed s + image i + noise[s, i], and seeds and
  images drawn independently, the law of total variance says

    var(mean) = E[var(mean | images)] + var(E[mean | images])

  For S seeds, N images and the mean squares MS of the two-way layout, unbiased
  estimates of both terms are

    training = MS[seeds] / (S N), the variance between accuracies over S
    sampling = (MS[images] - MS[noise]) / (S N), reported as at least 0

  so the noise, which differs by seed and image, counts once, as training noise.
  For a difference, training noise is the sum of that of both groups, and
  sampling is the variance of the images' differences over N less the noise of
  both. The interval is Student's, with Satterthwaite's degrees of freedom; at
  95% it covers about 91% with two seeds, 94% with five.

  Args:
    hits_a: bool [S, N], whether the model of a seed is right on an image; at
      least two seeds and two images.
    hits_b: bool [T, N] of another group on the same images, which is
      subtracted; None: no other group.
    alpha: 1 - the coverage, in (0, 1).
    mask: bool [N], false for images to leave out, or None.

  Raises:
    InputError: wrong shape or type, fewer than two seeds or images, bad alpha.

  Source: Searle, Casella and McCulloch, Variance Components (1992), chapter 4;
    Satterthwaite, Biometrics Bulletin 2 (1946).
  """
  from scipy import special

  intervals.check_alpha(alpha)
  groups, terms, noise = [], [], 0.0
  for name, hits in (("hits_a", hits_a), ("hits_b", hits_b)):
    if hits is None:
      continue
    images = np.shape(hits_a)[-1:]
    hits = checks.flags(name, np.asarray(hits), ("S", *images))
    if mask is not None:
      hits = hits[:, checks.flags("mask", np.asarray(mask), images)]
    expected = "at least two seeds and two images"
    errors.check(min(hits.shape) > 1, name, expected, list(hits.shape))
    of_seed, of_image = hits.mean(axis=1), hits.mean(axis=0)
    rest = hits - of_seed[:, None] - of_image + hits.mean()
    noise += np.sum(rest**2) / np.prod(np.subtract(hits.shape, 1)) / hits.size
    terms.append((np.var(of_seed, ddof=1) / len(hits), len(hits) - 1))
    groups.append(of_image)
  training = sum(variance for variance, _ in terms)
  by_image = groups[0] - groups[1] if groups[1:] else groups[0]
  n = len(by_image)
  sampling = max(np.var(by_image, ddof=1) / n - noise, 0.0)
  terms.append((sampling, n - 1))
  value, total = float(by_image.mean()), training + sampling
  low = high = None
  if total > 0:
    freedom = total**2 / sum(v**2 / degrees for v, degrees in terms)
    half = special.stdtrit(freedom, 1 - alpha / 2) * np.sqrt(total)
    low = float(max(value - half, -1.0 if groups[1:] else 0.0))
    high = float(min(value + half, 1.0))
  stds = float(np.sqrt(training)), float(np.sqrt(sampling))
  return SeedVariance(n, value, low, high, *stds)
