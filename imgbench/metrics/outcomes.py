"""Per-example outcomes of a batch of logits or of ranked predictions.

Fields are computed as independently as possible, so that under jit unused ones
cost nothing. Top-k hits, multi-label hits and confusions need one pass over the
logits; the top five classes and the probabilities need more.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench.labels import annotations
from imgbench.metrics import checks
from imgbench.metrics import topk

TOP = 5
NO_PREDICTION = topk.NO_PREDICTION


@flax.struct.dataclass
class Outcomes:
  """One value or row per example; see `topk` for ties and rows not finite.

  Attributes:
    top1: int32 [B], class of the highest score; -1 in rows not finite.
    top5: int32 [B, 5] classes of highest score, the highest first; -1 for none
      (row not finite, fewer than 5 classes, score -inf).
    top5_prob: float32 [B, 5], their softmax; NaN where `top5` is -1, and for
      rankings.
    label_rank: int32 [B] in [0, K], 0 if the label is on top, K if it can never
      be a hit; a hit at k if below k.
    code: int8 [B], review code (`labels.annotations`) of the top-1 prediction:
      0 without a label set, -1 in rows not finite.
    top5_code: int8 [B, 5], review codes of `top5`.
    nll: float32 [B], negative natural logarithm of the label's softmax; inf
      where its score is -inf, NaN in rows not finite and for rankings.
    brier: float32 [B] in [0, 2], sum over classes of the squared difference
      between softmax and label (Brier 1950); NaN where `nll` is.
    finite: bool [B].
    num_classes: K.
    width: number of known top classes, K for logits; ranks from there on are
      unknown.
    with_sets: whether a label set was given.
  """

  top1: jax.Array
  top5: jax.Array
  top5_prob: jax.Array
  label_rank: jax.Array
  code: jax.Array
  top5_code: jax.Array
  nll: jax.Array
  brier: jax.Array
  finite: jax.Array
  num_classes: int = flax.struct.field(pytree_node=False)
  width: int = flax.struct.field(pytree_node=False)
  with_sets: bool = flax.struct.field(pytree_node=False)


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
    InputError: wrong shape or type of an argument, or a NumPy array with
      invalid labels or codes.
  """
  values = topk.scores(logits)
  labels = topk.read_labels(labels, values.shape[:1])
  ranks = topk.ranks(values, labels)
  label_codes = read_codes(label_codes, values.shape)
  top5, top5_scores = topk.top_k(values, TOP)
  # Relative to the top score: log(sum(exp)) would round off at large logits.
  top = jnp.where(ranks.finite, ranks.top_score, 0.0)[:, None]
  log_total = jnp.log(jnp.sum(jnp.exp(values - top), axis=-1))
  prob = jnp.exp(top5_scores - top - log_total[:, None])
  nll, brier = _scores_of_label(values - top, labels, log_total, ranks.finite)
  return Outcomes(
    top1=ranks.top1,
    top5=top5,
    top5_prob=jnp.where(top5 == NO_PREDICTION, jnp.nan, prob),
    label_rank=ranks.label_rank,
    code=_review_codes(ranks.top1[:, None], label_codes)[:, 0],
    top5_code=_review_codes(top5, label_codes),
    nll=nll,
    brier=brier,
    finite=ranks.finite,
    num_classes=values.shape[1],
    width=values.shape[1],
    with_sets=label_codes is not None,
  )


def probabilities(logits: jax.Array) -> jax.Array:
  """Returns float32 [B, K], the softmax of logits; NaN in rows not finite."""
  values = topk.scores(logits)
  finite = topk.finite_rows(values)[:, None]
  return jnp.where(finite, jax.nn.softmax(values, axis=-1), jnp.nan)


def from_ranking(
  ranking: jax.Array,
  labels: jax.Array,
  num_classes: int,
  label_codes: jax.Array | None = None,
) -> Outcomes:
  """Returns the outcomes of predictions of which only the order is known.

  Args:
    ranking: integer [B, k], the top k classes of each example, best first, each
      class once; -1 at the end of a row for none. NumPy arrays are checked, see
      `check_ranking`.
    labels: integer [B]; see `outcomes`.
    num_classes: K.
    label_codes: int8 [B, K] of `labels.annotations`, or None.

  Returns:
    Outcomes whose `label_rank` is K if the label is not among the k; they do
    not support hits at more than k.

  Raises:
    InputError: wrong shape or type of an argument, or `check_ranking`.
  """
  ranking = checks.integers("ranking", ranking, ("B", "k"))
  labels = topk.read_labels(labels, ranking.shape[:1])
  size, width = ranking.shape
  if not size or not width:
    expected = "at least one row and one column"
    raise errors.InputError("ranking", expected, list(ranking.shape))
  if isinstance(ranking, np.ndarray):
    check_ranking(ranking, num_classes)
  label_codes = read_codes(label_codes, (size, num_classes))
  ranking = jnp.asarray(ranking).astype(jnp.int32)
  ranking = jnp.where(
    topk.in_range(ranking, num_classes), ranking, NO_PREDICTION
  )
  finite = ranking[:, 0] != NO_PREDICTION
  hit = (ranking == labels[:, None]) & (ranking != NO_PREDICTION)
  hit &= finite[:, None]
  rank = jnp.where(hit.any(axis=1), jnp.argmax(hit, axis=1), num_classes)
  missing = ((0, 0), (0, max(TOP - width, 0)))
  top5 = jnp.pad(ranking[:, :TOP], missing, constant_values=NO_PREDICTION)
  unknown = jnp.full(size, jnp.nan, jnp.float32)
  return Outcomes(
    top1=ranking[:, 0],
    top5=top5,
    top5_prob=jnp.full(top5.shape, jnp.nan, jnp.float32),
    label_rank=rank.astype(jnp.int32),
    code=_review_codes(ranking[:, :1], label_codes)[:, 0],
    top5_code=_review_codes(top5, label_codes),
    nll=unknown,
    brier=unknown,
    finite=finite,
    num_classes=num_classes,
    width=min(width, num_classes),
    with_sets=label_codes is not None,
  )


def check_ranking(ranking: np.ndarray, num_classes: int) -> None:
  """Raises InputError unless every row ranks different classes.

  Args:
    ranking: integer [N, k]; values in [0, K), then -1 for none.
    num_classes: K.
  """
  bad = (ranking < NO_PREDICTION) | (ranking >= num_classes)
  if bad.any():
    row, column = np.argwhere(bad)[0]
    raise errors.InputError(
      f"ranking[{row}]",
      f"classes in [0, {num_classes}), or -1",
      ranking[row, column],
    )
  none = ranking == NO_PREDICTION
  gap = (none[:, :-1] & ~none[:, 1:]).any(axis=1)
  if gap.any():
    row = np.argmax(gap)
    expected = "-1 only after the classes"
    raise errors.InputError(f"ranking[{row}]", expected, ranking[row].tolist())
  ordered = np.sort(ranking, axis=1)
  twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
  if twice.any():
    row = np.argmax(twice.any(axis=1))
    expected = "different classes"
    raise errors.InputError(f"ranking[{row}]", expected, ranking[row].tolist())


def _scores_of_label(shifted, labels, log_total, finite):
  """Returns (nll, Brier score), float32 [B]."""
  legal = finite & topk.in_range(labels, shifted.shape[1])
  nll = log_total - topk.label_scores(shifted, labels)
  classes = jnp.arange(shifted.shape[1], dtype=jnp.int32)[None, :]
  # 1 - p as the sum of the others: the difference would lose digits near p = 1.
  probs = jnp.exp(shifted - log_total[:, None])
  others = jnp.where(classes == labels[:, None], 0.0, probs)
  brier = others.sum(axis=-1) ** 2 + (others**2).sum(axis=-1)
  return jnp.where(legal, nll, jnp.nan), jnp.where(legal, brier, jnp.nan)


def read_codes(label_codes, shape):
  """Returns codes int8 [B, K], or None for None. Raises InputError."""
  if label_codes is None:
    return None
  label_codes = checks.integers("label_codes", label_codes, shape)
  if isinstance(label_codes, np.ndarray):
    checks.review_codes("label_codes", label_codes)
    return label_codes.astype(np.int8)
  checks.kind("label_codes", label_codes, jnp.int8, "int8")
  return label_codes


def _review_codes(predicted, label_codes) -> jax.Array:
  """Returns int8 [B, n], the codes of predicted classes, -1 for none."""
  there = predicted != NO_PREDICTION
  if label_codes is None:
    codes = jnp.full(predicted.shape, annotations.UNREVIEWED, jnp.int8)
  else:
    columns = jnp.where(there, predicted, 0)
    codes = jnp.take_along_axis(jnp.asarray(label_codes), columns, axis=1)
    codes = codes.astype(jnp.int8)
  return jnp.where(there, codes, jnp.int8(NO_PREDICTION))
