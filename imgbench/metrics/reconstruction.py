"""Reconstruction errors of autoencoders, and anomaly detection with them."""

from collections.abc import Sequence
import dataclasses
import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors as errors_lib
from imgbench.metrics import checks
from imgbench.metrics import curves

NUM_BINS = 20  # of `overlap`


@flax.struct.dataclass
class ReconstructionErrors:
  """One value per image, in the units of the images.

  Attributes:
    mse: float32 [B], mean over the elements of the squared difference.
    mae: float32 [B], mean over the elements of the absolute difference.
    psnr: float32 [B], 10 log10((high - low)^2 / mse) in dB; inf at mse 0.
    in_range: bool [B], whether all values of image and reconstruction are in
      [low, high]; false with a NaN.
  """

  mse: jax.Array
  mae: jax.Array
  psnr: jax.Array
  in_range: jax.Array


def reconstruction_errors(
  images: jax.Array,
  reconstructions: jax.Array,
  *,
  value_range: tuple[float, float],
  mask: jax.Array | None = None,
) -> ReconstructionErrors:
  """Returns the errors of every image; pure, to be jitted by the caller.

  Computes in float32.

  Args:
    images: any float type or uint8 [B, ...].
    reconstructions: the same shape and one of these types.
    value_range: (low, high) of the images, two Python numbers, e.g. (0, 1) or
      (0, 255); PSNR depends on it. Values outside are not clipped.
    mask: bool [B], false for padding, which may hold anything: NaN errors,
      never out of range.

  Raises:
    InputError: wrong shapes or types, or an invalid range.
  """
  low, high = _checked_range(value_range)
  images = _read_images("images", images)
  reconstructions = _read_images("reconstructions", reconstructions)
  checks.shape("reconstructions", reconstructions, np.shape(images))
  images = jnp.asarray(images).astype(jnp.float32)
  reconstructions = jnp.asarray(reconstructions).astype(jnp.float32)
  inside = lambda x: (x >= low) & (x <= high)
  elements = tuple(range(1, images.ndim))
  difference = images - reconstructions
  mse = jnp.mean(jnp.square(difference), axis=elements)
  mae = jnp.mean(jnp.abs(difference), axis=elements)
  in_range = jnp.all(inside(images) & inside(reconstructions), axis=elements)
  if mask is not None:
    mask = checks.flags("mask", mask, mse.shape)
    mse, mae = jnp.where(mask, mse, jnp.nan), jnp.where(mask, mae, jnp.nan)
    in_range |= ~jnp.asarray(mask)
  psnr = 20 * math.log10(high - low) - 10 * jnp.log10(mse)
  return ReconstructionErrors(mse, mae, psnr, in_range)


@dataclasses.dataclass(frozen=True)
class Detection:
  """Images flagged as anomalies.

  Attributes:
    flagged: int64, indices of the images, ascending.
    point: counts, precision, recall and F1.
  """

  flagged: np.ndarray
  point: curves.OperatingPoint


def find_anomalies(errors: np.ndarray, threshold: float) -> np.ndarray:
  """Returns the indices of the images whose error is above the threshold.

  Args:
    errors: float [N], e.g. mse; no NaN.
    threshold: an error equal to it is not flagged; compared in float64.

  Returns:
    int64 indices, ascending.

  Raises:
    InputError: wrong shape or type, a NaN.
  """
  errors = np.asarray(errors)
  errors, _ = _checked(errors, np.zeros(errors.shape, bool))
  curves.check_threshold(threshold)
  return np.flatnonzero(errors > float(threshold))


def detect_anomalies(
  errors: np.ndarray,
  is_anomaly: np.ndarray,
  threshold: float,
  alpha: float = 0.05,
) -> Detection:
  """Returns the images with error > threshold, and their precision and recall.

  Args:
    errors: float [N], e.g. mse; no NaN.
    is_anomaly: bool [N], the truth. Without any anomaly the rates are None.
    threshold: an error equal to it is not flagged; compared in float64.
    alpha: 1 - the coverage of the intervals; see `curves.operating_point`.

  Raises:
    InputError: wrong shapes or types, a NaN.
  """
  errors, is_anomaly = _checked(errors, is_anomaly)
  images = find_anomalies(errors, threshold)
  is_flagged = np.zeros(len(errors), bool)
  is_flagged[images] = True
  point = curves.operating_point(threshold, is_flagged, is_anomaly, alpha)
  return Detection(images, point)


def threshold_sweep(
  errors: np.ndarray,
  is_anomaly: np.ndarray,
  thresholds: Sequence[float] | np.ndarray | None = None,
) -> curves.Curve:
  """Returns counts and rates of flagging errors > each threshold.

  Args:
    errors: float [N], e.g. mse; no NaN.
    is_anomaly: bool [N], the truth. Without any anomaly the rates are NaN.
    thresholds: float [T], kept in order. None: all distinct errors, descending,
      and a number just below the smallest, so that each set that a threshold
      can flag occurs once.

  Raises:
    InputError: wrong shapes or types, a NaN.
  """
  errors, is_anomaly = _checked(errors, is_anomaly)
  curve = curves.precision_recall_curve(errors, is_anomaly)
  if thresholds is None:
    below = np.nextafter(curve.thresholds[-1:], -np.inf)
    thresholds = np.append(curve.thresholds, below)
  thresholds = np.asarray(thresholds, np.float64)
  checks.shape("thresholds", thresholds, ("T",))
  if np.isnan(thresholds).any():
    first = np.argmax(np.isnan(thresholds))
    raise errors_lib.InputError(f"thresholds[{first}]", "a number", "nan")
  # Number of distinct errors above; the curve flags errors >= its threshold.
  above = np.searchsorted(-curve.thresholds, -thresholds, side="left")
  return dataclasses.replace(
    curve,
    thresholds=thresholds,
    true_positives=np.append(0, curve.true_positives)[above],
    false_positives=np.append(0, curve.false_positives)[above],
  )


def threshold_for_recall(
  errors: np.ndarray, is_anomaly: np.ndarray, wanted: float
) -> float:
  """Returns the highest threshold of `threshold_sweep` with a wanted recall.

  Args:
    errors: float [N], e.g. mse; no NaN.
    is_anomaly: bool [N], the truth, at least one true.
    wanted: recall, in (0, 1].

  Raises:
    InputError: wrong shapes or types, a NaN; no anomaly, `wanted` outside.
  """
  check_share("wanted", wanted)
  curve = threshold_sweep(errors, is_anomaly)
  expected = "at least one true"
  if not curve.positives:
    given = f"none of {curve.negatives}"
    raise errors_lib.InputError("is_anomaly", expected, given)
  # Recall grows along the sweep and ends at 1.
  return float(curve.thresholds[np.argmax(curve.recall >= wanted)])


def overlap(errors: np.ndarray, is_anomaly: np.ndarray) -> float:
  """Returns the overlap of the distributions of normal and abnormal errors.

  The sum of min(share of the normal, share of the abnormal) over 20 bins with
  equal numbers of images, or fewer where errors are equal: 1 if they are
  distributed alike, 0 if they are apart. NaN without any of either. Arguments
  and errors as in `threshold_sweep`.
  """
  errors, is_anomaly = _checked(errors, is_anomaly)
  if is_anomaly.all() or not is_anomaly.any():
    return float("nan")
  ends = np.quantile(errors, np.arange(1, NUM_BINS) / NUM_BINS, method="higher")
  bins = np.searchsorted(np.unique(ends), errors, side="right")
  abnormal, normal = (
    np.bincount(bins[rows], minlength=NUM_BINS)
    for rows in (is_anomaly, ~is_anomaly)
  )
  sizes = int(abnormal.sum()), int(normal.sum())
  shared = np.minimum(abnormal * sizes[1], normal * sizes[0]).sum()
  return int(shared) / (sizes[0] * sizes[1])


def check_share(name: str, share: float) -> None:
  """Raises InputError unless a share is in (0, 1]."""
  errors_lib.check(0 < share <= 1, name, "a rate in (0, 1]", share)


def _checked(errors, is_anomaly) -> tuple[np.ndarray, np.ndarray]:
  return curves.checked(errors, is_anomaly, "errors", "is_anomaly")


def _checked_range(value_range) -> tuple[float, float]:
  low, high = (float(end) for end in value_range)
  if not (math.isfinite(low) and math.isfinite(high) and low < high):
    given = f"({low:g}, {high:g})"
    raise errors_lib.InputError("value_range", "finite low < high", given)
  return low, high


def _read_images(name: str, array):
  """Returns float or uint8 [B, ...] that JAX takes. Raises InputError."""
  shape = np.shape(array)
  if len(shape) < 2 or not math.prod(shape[1:]):
    expected = "images of shape [B, ...]"
    raise errors_lib.InputError(name, expected, list(shape))
  if getattr(array, "dtype", None) == np.uint8:
    return array
  return checks.floats(name, array, shape)
