"""Top-k and ranks of logits, with defined ties and NaN.

Ties go to the lowest class index; 0.0 and -0.0 tie. A row with a NaN or +inf,
or with only -inf, is not finite and has no order. Otherwise -inf is a valid
score (class masks use it) that is never predicted. Scores are compared in
float32, which represents bfloat16 and float16 exactly; XLA:CPU flushes
subnormal scores to 0.

The maximum of a row does not tell whether it is finite: large reductions in
XLA:CPU (jax 0.10 and 0.11) drop NaN from a maximum, small ones keep it.
"""

import flax.struct
import jax
from jax import lax
import jax.numpy as jnp

from imgbench import errors
from imgbench.metrics import checks

NO_PREDICTION = -1
# Groups whose maxima are found first; more slow down that pass, fewer the
# search in a group. On XLA:CPU with 1,000 classes 20 to 50 are equally fast.
_MOST_GROUPS = 64


@flax.struct.dataclass
class Ranks:
  """Top class and rank of the label in each row.

  Attributes:
    top1: int32 [B], the class of the highest score, -1 in rows not finite.
    top_score: float32 [B], its score; anything in rows not finite.
    label_rank: int32 [B] in [0, K], the number of classes before the label; a
      hit at k if below k. It is K, never a hit, if the row is not finite, the
      label's score is -inf or the label is outside [0, K).
    finite: bool [B].
  """

  top1: jax.Array
  top_score: jax.Array
  label_rank: jax.Array
  finite: jax.Array


def ranks(logits: jax.Array, labels: jax.Array) -> Ranks:
  """Returns the ranks of all rows in one pass over the logits.

  Args:
    logits: float [B, K].
    labels: integer [B].

  Raises:
    InputError: see `scores`; labels of another shape or type.
  """
  values = scores(logits)
  labels = read_labels(labels, values.shape[:1])
  size, num_classes = values.shape
  own = label_scores(values, labels)
  groups = _num_groups(num_classes)
  grouped = values.reshape(size, groups, num_classes // groups)
  maxima, ahead, broken = _look_at_groups(grouped, own, labels)
  top_score = jnp.max(maxima, axis=1)
  finite = ~broken & (top_score > -jnp.inf)
  legal = finite & in_range(labels, num_classes) & (own > -jnp.inf)
  return Ranks(
    top1=jnp.where(
      finite, _first_class_of(grouped, maxima, top_score), NO_PREDICTION
    ),
    top_score=top_score,
    label_rank=jnp.where(
      legal, jnp.sum(ahead, axis=1, dtype=jnp.int32), num_classes
    ),
    finite=finite,
  )


def _num_groups(num_classes: int) -> int:
  most = min(_MOST_GROUPS, num_classes)
  return max(g for g in range(1, most + 1) if num_classes % g == 0)


def _look_at_groups(grouped, own, labels):
  """Returns maxima and numbers ahead of the label, [B, G], and broken [B].

  A joint reduction reads the logits once, and XLA:CPU vectorizes it. A NaN or
  +inf adds more than the number of group members, which marks the row as
  broken.
  """
  shape = grouped.shape
  width = shape[2]
  classes = lax.broadcasted_iota(
    jnp.int32, shape, 1
  ) * width + lax.broadcasted_iota(jnp.int32, shape, 2)
  own, labels = own[:, None, None], labels[:, None, None]
  ahead = jnp.where(classes < labels, grouped >= own, grouped > own)
  ahead = jnp.where(grouped < jnp.inf, ahead.astype(jnp.int32), width + 1)
  maxima, ahead = lax.reduce(
    (grouped, ahead),
    (jnp.float32(-jnp.inf), jnp.int32(0)),
    lambda a, b: (jnp.maximum(a[0], b[0]), a[1] + b[1]),
    dimensions=(2,),
  )
  broken = jnp.any(ahead > width, axis=1)
  if width * (width + 1) >= 2**31:  # the sum may overflow
    broken |= ~jnp.all(grouped < jnp.inf, axis=(1, 2))
  return maxima, ahead, broken


def _first_class_of(grouped, maxima, top_score) -> jax.Array:
  """Returns int32 [B], the first class with the top score of its row.

  `argmax` over all classes is many times slower than the maximum on XLA:CPU.
  """
  group = _first_equal(maxima, top_score)
  members = jnp.take_along_axis(grouped, group[:, None, None], axis=1)[:, 0]
  return group * grouped.shape[2] + _first_equal(members, top_score)


def _first_equal(values, wanted) -> jax.Array:
  """Returns int32 [B], the first column of [B, n] that is equal, or n - 1."""
  last = values.shape[1] - 1
  columns = jnp.arange(values.shape[1], dtype=jnp.int32)[None, :]
  equal = values == wanted[:, None]
  return jnp.min(jnp.where(equal, columns, last), axis=1)


def scores(logits: jax.Array) -> jax.Array:
  """Returns `logits`, [B, K] of any float type, as float32.

  Raises:
    InputError: another rank, no class, or not floating point.
  """
  logits = checks.floats("logits", logits, ("B", "K"))
  if 0 in logits.shape:
    expected = "at least one row and one class"
    raise errors.InputError("logits", expected, list(logits.shape))
  return jnp.asarray(logits, jnp.float32)


def finite_rows(logits: jax.Array) -> jax.Array:
  """Returns bool [B]: rows of `logits`, float [B, K], that have an order."""
  values = scores(logits)
  # Comparisons are false for NaN.
  whole = jnp.all(values < jnp.inf, axis=1)
  return whole & jnp.any(values > -jnp.inf, axis=1)


def top_k(logits: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
  """Returns the k classes of highest score, and their scores.

  Args:
    logits: float [B, K].
    k: columns of the result; those beyond K are empty.

  Returns:
    (int32 [B, k] class ids, float32 [B, k] scores), the highest first. Empty
    places are -1 with score -inf: beyond K, at scores of -inf, and in rows that
    are not finite.

  Raises:
    InputError: see `scores`; k < 1.
  """
  if k < 1:
    raise errors.InputError("k", "at least 1", k)
  values = scores(logits)
  size, num_classes = values.shape
  groups = _num_groups(num_classes)
  grouped = values.reshape(size, groups, num_classes // groups)
  maxima = jnp.max(grouped, axis=2)
  best, ids = _top_k(grouped, maxima, min(k, num_classes))
  legal = finite_rows(values)[:, None] & (best > -jnp.inf)
  best = jnp.where(legal, best, -jnp.inf)
  ids = jnp.where(legal, ids, NO_PREDICTION)
  empty = ((0, 0), (0, k - best.shape[1]))
  return (
    jnp.pad(ids, empty, constant_values=NO_PREDICTION),
    jnp.pad(best, empty, constant_values=-jnp.inf),
  )


def _top_k(grouped, maxima, k):
  """Returns scores and classes, [B, k], of the top k of finite rows.

  They are in the k groups of highest maxima: k maxima precede any class of
  another group. With 1,000 classes only 165 are sorted.
  """
  size, groups, width = grouped.shape
  if groups <= k:
    return _sorted_top_k(grouped.reshape(size, -1), k)
  _, chosen = _sorted_top_k(maxima, k)
  chosen = jnp.sort(chosen, axis=1)  # ties keep the class order
  some = jnp.take_along_axis(grouped, chosen[:, :, None], axis=1)
  best, places = _sorted_top_k(some.reshape(size, -1), k)
  group = jnp.take_along_axis(chosen, places // width, axis=1)
  return best, group * width + places % width


def _sorted_top_k(values, k):
  # `lax.top_k` orders 0.0 before -0.0; here they tie.
  values = jnp.where(values == 0, jnp.zeros_like(values), values)
  best, ids = lax.top_k(values, k)
  # Without barriers XLA:CPU turns a slice of the result into a full sort. One
  # barrier each: a joint one crashes the compiler under pmap (jax 0.10, 0.11).
  return lax.optimization_barrier(best), lax.optimization_barrier(ids)


def label_scores(values: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns float32 [B], the label's score; that of class 0 if outside."""
  inside = jnp.where(in_range(labels, values.shape[1]), labels, 0)
  return jnp.take_along_axis(values, inside[:, None], axis=1)[:, 0]


def in_range(labels: jax.Array, num_classes: int) -> jax.Array:
  """Returns bool, whether a label is a class."""
  return (labels >= 0) & (labels < num_classes)


def read_labels(labels: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Returns labels, integers [B], as int32. Raises InputError for others.

  Overflow is only detected in NumPy arrays, because JAX has already converted
  its own.
  """
  labels = checks.integers("labels", labels, shape)
  checks.fits_int32("labels", labels)
  return jnp.asarray(labels).astype(jnp.int32)
