"""Losses per example, in float32; the caller reduces."""

import chex
import jax
import jax.numpy as jnp


def softmax_cross_entropy(
  logits: jax.Array, label: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
  """Returns the cross-entropy of softmax(logits) with smoothed labels.

  The target is (1 - s) on the label plus s / K on every class. A class at
  -inf is ruled out: it has no probability and gets no share of s (the rest
  share it equally). A label at -inf costs +inf.

  Args:
    logits: float [B, K].
    label: int [B] in [0, K).
    label_smoothing: s in [0, 1).

  Returns:
    float32 [B]; not finite (NaN or +inf) where a row holds NaN or +inf, or
    nothing above -inf.

  Source: Szegedy et al. 2016 (arXiv:1512.00567), section 7.
  """
  chex.assert_rank([logits, label], [2, 1])
  chex.assert_equal_shape_prefix([logits, label], 1)
  chex.assert_type([logits, label], [float, int])
  label = jnp.asarray(label, jnp.int32)
  logits = logits.astype(jnp.float32)
  classes = jnp.arange(logits.shape[-1], dtype=jnp.int32)
  is_label = label[:, None] == classes[None]
  log_total = jax.nn.logsumexp(logits, axis=-1)
  # A masked sum, not a gather: its gradient needs no scatter.
  nll = log_total - jnp.sum(jnp.where(is_label, logits, 0.0), axis=-1)
  if not label_smoothing:
    return nll
  possible = logits > -jnp.inf
  finite_logits = jnp.where(possible, logits, 0.0)
  mean_logit = jnp.sum(finite_logits, axis=-1) / jnp.sum(possible, axis=-1)
  uniform = log_total - mean_logit
  return (1.0 - label_smoothing) * nll + label_smoothing * uniform
