"""Order of the classes in a row of logits, with ties and NaN defined.

Ties go to the lowest class index, and 0.0 and -0.0 are a tie. A row with NaN
or +inf anywhere, or with -inf everywhere, is not finite: it has no order. -inf
elsewhere is a legal score (class masks are applied that way) that is never
predicted. Scores are compared in float32, to which bfloat16 and float16 go
without loss.
"""

import jax
import jax.numpy as jnp

from imgbench import errors
from imgbench.metrics import checks


def scores(logits: jax.Array) -> jax.Array:
  """Returns `logits`, [B, K] of any float type, as float32 with one zero.

  Raises:
    InputError: another rank, no class, or not floating point.
  """
  checks.shape("logits", logits, ("B", "K"))
  checks.kind("logits", logits, jnp.floating, "a floating-point type")
  if logits.shape[1] < 1:
    raise errors.InputError("logits: expected at least one class, got [B, 0]")
  values = jnp.asarray(logits, jnp.float32)
  # `lax.top_k` puts 0.0 before -0.0, comparisons hold them equal.
  return jnp.where(values == 0, jnp.zeros_like(values), values)


def finite_rows(logits: jax.Array) -> jax.Array:
  """Returns bool [B]: rows of `logits`, float [B, K], that have an order."""
  values = scores(logits)
  legal = jnp.all(values < jnp.inf, axis=-1)  # false for NaN
  return legal & jnp.any(values > -jnp.inf, axis=-1)


def top_k(logits: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
  """Returns the k classes of highest score, and their scores.

  Args:
    logits: float [B, K].
    k: columns of the result; those beyond K are empty.

  Returns:
    (int32 [B, k] class ids, float32 [B, k] scores), the highest first. A place
    without a class is -1 with score -inf: beyond K, where the score is -inf,
    and in all of a row that is not finite.

  Raises:
    InputError: see `scores`; k < 1.
  """
  if k < 1:
    raise errors.InputError(f"k: expected at least 1, got {k}")
  values = scores(logits)
  num_classes = values.shape[1]
  best, ids = jax.lax.top_k(values, min(k, num_classes))
  # A slice of the result must not turn into a full sort on XLA:CPU. One barrier
  # each: around both the compiler dies under pmap (jax 0.10 and 0.11).
  barrier = jax.lax.optimization_barrier
  best, ids = barrier(best), barrier(ids)
  legal = finite_rows(values)[:, None] & (best > -jnp.inf)
  best = jnp.where(legal, best, -jnp.inf)
  ids = jnp.where(legal, ids.astype(jnp.int32), -1)
  empty = ((0, 0), (0, k - best.shape[1]))
  return (
    jnp.pad(ids, empty, constant_values=-1),
    jnp.pad(best, empty, constant_values=-jnp.inf),
  )


def label_rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the number of classes that come before the label.

  A prediction is right at k exactly if its rank is below k.

  Args:
    logits: float [B, K].
    labels: integer [B].

  Returns:
    int32 [B] in [0, K]: 0 is the top class; K, never a hit, is a row that is
    not finite, a label whose score is -inf, or one outside [0, K).

  Raises:
    InputError: see `scores`; labels of another shape or type.
  """
  values = scores(logits)
  check_labels(labels, values)
  num_classes = values.shape[1]
  labels = jnp.asarray(labels).astype(jnp.int32)[:, None]
  legal = finite_rows(values) & in_range(labels[:, 0], num_classes)
  own = label_scores(values, labels[:, 0])[:, None]
  classes = jnp.arange(num_classes, dtype=jnp.int32)[None, :]
  ahead = (values > own) | ((values == own) & (classes < labels))
  rank = jnp.sum(ahead, axis=-1, dtype=jnp.int32)
  legal &= own[:, 0] > -jnp.inf
  return jnp.where(legal, rank, num_classes)


def label_scores(values: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns float32 [B], the label's score; a label outside counts as 0."""
  inside = jnp.where(in_range(labels, values.shape[1]), labels, 0)
  return jnp.take_along_axis(values, inside[:, None], axis=1)[:, 0]


def in_range(labels: jax.Array, num_classes: int) -> jax.Array:
  """Returns bool, whether a label is a class."""
  return (labels >= 0) & (labels < num_classes)


def check_labels(labels: jax.Array, logits: jax.Array) -> None:
  """Raises InputError unless labels are integers [B] for logits [B, K]."""
  checks.shape("labels", labels, logits.shape[:1])
  checks.kind("labels", labels, jnp.integer, "an integer type")
