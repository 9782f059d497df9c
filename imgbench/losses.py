"""Losses per example, in float32; the caller reduces."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench import registry


@dataclasses.dataclass(frozen=True)
class Loss:
  """A loss of the outputs of a model.

  Attributes:
    function: (outputs, batch) -> float32 [B]. The batch of a training step has
      "image", the input, and "label"; see `train.step.build_train_step`.
    predicts_classes: whether the outputs are logits [B, K] of labels, so that
      hits can be counted.
    reconstructs: whether the outputs are images [B, H, W, C]. Then "image" has
      the pixels in [0, 1] that they should equal, without a model's noise.
    metric: of reconstructed images, e.g. "mse", that the mean loss is; ""
      otherwise. The training log has it as train/<metric>.
  """

  function: Callable[[jax.Array, Mapping[str, jax.Array]], jax.Array]
  predicts_classes: bool = True
  reconstructs: bool = False
  metric: str = ""

  def __call__(
    self, outputs: jax.Array, batch: Mapping[str, jax.Array]
  ) -> jax.Array:
    return self.function(outputs, batch)


BALANCED = "balanced"
MOST_WEIGHT = 50.0

# Builders of a Loss from its settings.
LOSSES: registry.Registry[Callable[..., Loss]] = registry.Registry("loss")


def softmax_cross_entropy(
  logits: jax.Array,
  label: jax.Array,
  label_smoothing: float = 0.0,
  *,
  second: jax.Array | None = None,
  weight: jax.Array | float | None = None,
) -> jax.Array:
  """Returns the cross-entropy of softmax(logits) with smoothed labels.

  The target is (1 - s) on the label plus s / K on every class. A class at -inf
  is excluded: it has probability 0 and no share of s (the others share it
  equally). A label at -inf costs +inf. With two labels (mixup, cutmix) `label`
  gets `weight` of the 1 - s and `second` the rest; a label without a share
  costs nothing.

  Args:
    logits: float [B, K].
    label: int [B] in [0, K).
    label_smoothing: s in [0, 1).
    second: int [B] in [0, K), or None: one label.
    weight: float [B] or one for all, in [0, 1]; None if `second` is None.

  Returns:
    float32 [B]; not finite (NaN or +inf) where a row holds NaN or +inf, or
    nothing above -inf.

  Source: Szegedy et al. 2016 (arXiv:1512.00567), section 7; for two labels
    Zhang et al. 2018 (arXiv:1710.09412).
  """
  logits = _checked(logits, label, second, weight)
  log_total = jax.nn.logsumexp(logits, axis=-1)
  return _minus_target(
    log_total, logits, label, label_smoothing, second, weight
  )


def sigmoid_cross_entropy(
  logits: jax.Array,
  label: jax.Array,
  label_smoothing: float = 0.0,
  *,
  second: jax.Array | None = None,
  weight: jax.Array | float | None = None,
) -> jax.Array:
  """Returns the sum of K binary cross-entropies, one for each class.

  The probability of a class is sigmoid(logit). Targets, arguments and
  non-finite values as in `softmax_cross_entropy`. It is a sum, not a mean: K
  log 2 at logits of zero.

  Source: Beyer et al. 2020 (arXiv:2006.07159).
  """
  logits = _checked(logits, label, second, weight)
  total = jnp.sum(jax.nn.softplus(logits), axis=-1)
  return _minus_target(total, logits, label, label_smoothing, second, weight)


@LOSSES.register("softmax")
def build_softmax(*, label_smoothing: float = 0.0) -> Loss:
  """Returns `softmax_cross_entropy` of a batch. Raises InputError.

  Args:
    label_smoothing: share of a label that all classes get, in [0, 1).
  """
  return _build_loss(softmax_cross_entropy, label_smoothing)


@LOSSES.register("sigmoid")
def build_sigmoid(*, label_smoothing: float = 0.0) -> Loss:
  """Returns `sigmoid_cross_entropy` of a batch. Raises InputError.

  Args:
    label_smoothing: share of a label that all classes get, in [0, 1).
  """
  return _build_loss(sigmoid_cross_entropy, label_smoothing)


@LOSSES.register("mse")
def build_mse() -> Loss:
  """Returns the mean squared difference of pixels in [0, 1]."""
  return _build_image_loss("mse", jnp.square)


@LOSSES.register("mae")
def build_mae() -> Loss:
  """Returns the mean absolute difference of pixels in [0, 1]."""
  return _build_image_loss("mae", jnp.abs)


def find_class_weights(
  wanted: str | Sequence[float] | Mapping[str, float],
  count: np.ndarray,
  class_names: Sequence[str],
) -> np.ndarray:
  """Returns float64 [K], scaled so that their mean over examples is 1.

  Args:
    wanted: BALANCED for N / (K n_k), at most MOST_WEIGHT, as one image must not
      dominate a step; or positive weights of all classes, or by name, else 1.
    count: int [K], n_k, the N training examples by class.
    class_names: K names.

  Raises:
    InputError: other weights.
  """
  weights, size = np.zeros(0), len(count)
  if wanted == BALANCED:
    mean = count.sum() / np.count_nonzero(count)
    weights = np.minimum(mean / np.maximum(count, 1), MOST_WEIGHT)
  elif isinstance(wanted, Mapping) and set(wanted) <= set(class_names):
    weights = np.array([wanted.get(name, 1.0) for name in class_names])
  elif not isinstance(wanted, str | Mapping):
    weights = np.array(wanted, np.float64)
  expected = f"{BALANCED!r}, or weights above 0 of {size} classes or by name"
  fits = len(weights) == size and weights.min() > 0
  errors.check(fits, "class_weights", expected, repr(wanted))
  return weights * (count.sum() / (weights @ count))


def weight_classes(loss: Loss, weights: np.ndarray) -> Loss:
  """Returns a loss with weights [K]; each of mixed labels has its own."""

  def weighted(outputs, batch):
    of_class, share = jnp.asarray(weights, jnp.float32), batch.get("weight")
    shares = [(batch["label"], 1.0 if share is None else share)]
    if share is not None:
      shares.append((batch["second"], 1.0 - share))
    alone = {**batch, "second": None, "weight": None}
    return sum(
      share * of_class[label] * loss(outputs, {**alone, "label": label})
      for label, share in shares
    )

  return dataclasses.replace(loss, function=weighted)


def _build_image_loss(metric: str, measure: Callable) -> Loss:
  def loss(outputs, batch):
    chex.assert_equal_shape([outputs, batch["image"]])
    difference = outputs.astype(jnp.float32) - batch["image"]
    return jnp.mean(measure(difference), axis=(1, 2, 3))

  return Loss(loss, predicts_classes=False, reconstructs=True, metric=metric)


def _build_loss(cross_entropy: Callable, label_smoothing: float) -> Loss:
  if not 0 <= label_smoothing < 1:
    raise errors.InputError(
      "label_smoothing", "a number in [0, 1)", label_smoothing
    )

  def loss(outputs, batch):
    return cross_entropy(
      outputs,
      batch["label"],
      label_smoothing,
      second=batch.get("second"),
      weight=batch.get("weight"),
    )

  return Loss(loss)


def _checked(logits, label, second, weight) -> jax.Array:
  """Returns the logits in float32, after checking all shapes and types."""
  chex.assert_rank([logits, label], [2, 1])
  chex.assert_equal_shape_prefix([logits, label], 1)
  chex.assert_type([logits, label], [float, int])
  if (second is None) != (weight is None):
    raise TypeError("expected second and weight, got one without the other")
  if second is not None:
    chex.assert_equal_shape([label, second])
    chex.assert_type([second, weight], [int, float])
    chex.assert_is_broadcastable(jnp.shape(weight), label.shape)
  return logits.astype(jnp.float32)


def _minus_target(
  total: jax.Array,
  logits: jax.Array,
  label: jax.Array,
  label_smoothing: float,
  second: jax.Array | None,
  weight: jax.Array | float | None,
) -> jax.Array:
  """Returns `total` [B] minus the mean of the logits under the target."""
  loss = total - _label_logit(logits, label, second, weight)
  if not label_smoothing:
    return loss
  possible = logits > -jnp.inf
  finite_logits = jnp.where(possible, logits, 0.0)
  mean_logit = jnp.sum(finite_logits, axis=-1) / jnp.sum(possible, axis=-1)
  uniform = total - mean_logit
  return (1.0 - label_smoothing) * loss + label_smoothing * uniform


def _label_logit(logits, label, second, weight) -> jax.Array:
  """Returns the label's logit, or the weighted mean of two labels' logits."""
  # Masked sums instead of gathers: their gradients need no scatter, and XLA
  # fuses the masks into the sums.
  is_label = _one_hot(label, logits.shape[-1])
  if second is None:
    return jnp.sum(jnp.where(is_label, logits, 0.0), axis=-1)
  weight = jnp.asarray(weight, jnp.float32)
  weight = jnp.broadcast_to(weight, label.shape)[:, None]
  is_second = _one_hot(second, logits.shape[-1])
  share = jnp.where(is_label, weight, 0.0)
  share += jnp.where(is_second, 1.0 - weight, 0.0)
  # Without a share, 0 * -inf would be NaN.
  return jnp.sum(jnp.where(share > 0, share * logits, 0.0), axis=-1)


def _one_hot(label: jax.Array, num_classes: int) -> jax.Array:
  classes = jnp.arange(num_classes, dtype=jnp.int32)
  return jnp.asarray(label, jnp.int32)[:, None] == classes[None]
