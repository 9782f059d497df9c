"""What a batch of logits says about each example."""

import flax.struct
import jax
import jax.numpy as jnp

from imgbench.labels import annotations
from imgbench.metrics import checks
from imgbench.metrics import topk

TOP = 5
NO_PREDICTION = -1


@flax.struct.dataclass
class Outcomes:
  """One value or row per example; see `topk` for ties and rows not finite.

  Attributes:
    top5: int32 [B, 5] classes of highest score, the highest first; -1 where
      there is none (row not finite, fewer than 5 classes, score -inf).
    top5_prob: float32 [B, 5], their softmax; NaN where `top5` is -1.
    label_rank: int32 [B] in [0, K], 0 if the label is on top, K if it can
      never be a hit; right at k if below k.
    code: int8 [B], review code (`labels.annotations`) of the top-1 prediction:
      0 where no label set is given, -1 in rows not finite.
    nll: float32 [B], negative natural logarithm of the label's softmax; inf
      where its score is -inf, NaN in rows not finite.
    finite: bool [B].
  """

  top5: jax.Array
  top5_prob: jax.Array
  label_rank: jax.Array
  code: jax.Array
  nll: jax.Array
  finite: jax.Array


def outcomes(
  logits: jax.Array,
  labels: jax.Array,
  label_codes: jax.Array | None = None,
) -> Outcomes:
  """Returns the outcome of every example; pure, to be jitted by the caller.

  Args:
    logits: float [B, K].
    labels: integer [B]; one outside [0, K) is never a hit, its nll is NaN.
    label_codes: int8 [B, K] of `labels.annotations`, or None.

  Raises:
    InputError: wrong shape or type of an argument.
  """
  values = topk.scores(logits)
  topk.check_labels(labels, values)
  if label_codes is not None:
    checks.shape("label_codes", label_codes, values.shape)
    checks.kind("label_codes", label_codes, jnp.integer, "an integer type")
  finite = topk.finite_rows(values)
  top5, top5_scores = topk.top_k(values, TOP)
  # Against the top score: large logits would round log(sum(exp)) away.
  top = jnp.where(finite, top5_scores[:, 0], 0.0)[:, None]
  log_total = jnp.log(jnp.sum(jnp.exp(values - top), axis=-1))
  prob = jnp.exp(top5_scores - top - log_total[:, None])
  return Outcomes(
    top5=top5,
    top5_prob=jnp.where(top5 == NO_PREDICTION, jnp.nan, prob),
    label_rank=topk.label_rank(values, labels),
    code=_review_code(top5[:, 0], label_codes),
    nll=_nll(values - top, labels, log_total, finite),
    finite=finite,
  )


def _nll(shifted, labels, log_total, finite) -> jax.Array:
  labels = jnp.asarray(labels).astype(jnp.int32)
  legal = finite & topk.in_range(labels, shifted.shape[1])
  own = topk.label_scores(shifted, labels)
  return jnp.where(legal, log_total - own, jnp.nan)


def _review_code(top1, label_codes) -> jax.Array:
  predicted = top1 != NO_PREDICTION
  if label_codes is None:
    code = jnp.full(top1.shape, annotations.UNREVIEWED, jnp.int8)
  else:
    column = jnp.where(predicted, top1, 0)[:, None]
    code = jnp.take_along_axis(jnp.asarray(label_codes), column, axis=1)[:, 0]
    code = code.astype(jnp.int8)
  return jnp.where(predicted, code, jnp.int8(NO_PREDICTION))
