"""Integer counts by original class: the state of an evaluation.

Merging batches, devices and hosts is integer addition, so the result is the
same for every batch size, padding, order and number of devices. Division
happens once, on the host, in float64.
"""

import flax.struct
import jax
import jax.numpy as jnp

from imgbench.labels import annotations
from imgbench.metrics import checks
from imgbench.metrics import outcomes as outcomes_lib
from imgbench.metrics import topk


@flax.struct.dataclass
class Counts:
  """Numbers of examples by the class they are labelled with, int32 [K].

  The last four are 0 where the examples have no reviewed label sets, and
  leave problematic images out.

  Attributes:
    count: examples.
    top1_hits: the label is on top.
    top5_hits: the label is among the first five.
    non_finite: rows of logits that are not finite; never a hit.
    reviewed_count: examples that are not problematic.
    strict_hits: the top-1 prediction is a correct label.
    lenient_hits: it is a correct or an unclear label.
    unreviewed: nobody has reviewed the top-1 prediction.
  """

  count: jax.Array
  top1_hits: jax.Array
  top5_hits: jax.Array
  non_finite: jax.Array
  reviewed_count: jax.Array
  strict_hits: jax.Array
  lenient_hits: jax.Array
  unreviewed: jax.Array


def empty(num_classes: int) -> Counts:
  """Returns the counts of no example, K = `num_classes`."""
  # One array per field: a buffer must not be donated twice.
  fields = Counts.__dataclass_fields__
  return Counts(**{f: jnp.zeros(num_classes, jnp.int32) for f in fields})


def merge(a: Counts, b: Counts) -> Counts:
  """Returns the counts of both; commutative, associative, exact."""
  return jax.tree.map(jnp.add, a, b)


def from_outcomes(
  outcomes: outcomes_lib.Outcomes,
  labels: jax.Array,
  mask: jax.Array,
  *,
  num_classes: int,
  is_problematic: jax.Array | None = None,
) -> Counts:
  """Returns the counts of a batch; pure, also on a sharded batch.

  Args:
    outcomes: of B examples; masked rows may hold anything.
    labels: integer [B]. A real example with a label outside [0, K) is in no
      count, so the sum of `count` tells that one was there.
    mask: bool [B], false for padding.
    num_classes: K.
    is_problematic: bool [B], images that multi-label accuracy leaves out, or
      None where the examples have no reviewed label sets.

  Raises:
    InputError: wrong shape or type of an argument.
  """
  _check(outcomes, labels, mask, is_problematic)
  labels = jnp.asarray(labels).astype(jnp.int32)
  rank, code = outcomes.label_rank, outcomes.code
  # A rank of K is never a hit, also where K is below 5.
  hit = rank < num_classes
  if is_problematic is None:
    reviewed = jnp.zeros(labels.shape, bool)
  else:
    reviewed = ~jnp.asarray(is_problematic)
  columns = Counts(
    count=jnp.ones(labels.shape, bool),
    top1_hits=hit & (rank < 1),
    top5_hits=hit & (rank < outcomes_lib.TOP),
    non_finite=~outcomes.finite,
    reviewed_count=reviewed,
    strict_hits=reviewed & (code == annotations.CORRECT),
    lenient_hits=reviewed & (code >= annotations.UNCLEAR),
    unreviewed=reviewed & (code == annotations.UNREVIEWED),
  )
  leaves, treedef = jax.tree.flatten(columns)
  keep = jnp.asarray(mask) & topk.in_range(labels, num_classes)
  table = jnp.where(keep[:, None], jnp.stack(leaves, axis=1), False)
  # segment_sum wraps negative ids; those that do not count add 0 to class 0.
  sums = jax.ops.segment_sum(
    table.astype(jnp.int32), jnp.where(keep, labels, 0), num_classes
  )
  return jax.tree.unflatten(treedef, [sums[:, i] for i in range(len(leaves))])


def _check(outcomes, labels, mask, is_problematic) -> None:
  size = outcomes.label_rank.shape
  checks.shape("labels", labels, size)
  checks.kind("labels", labels, jnp.integer, "an integer type")
  checks.shape("mask", mask, size)
  checks.kind("mask", mask, jnp.bool_, "bool")
  if is_problematic is not None:
    checks.shape("is_problematic", is_problematic, size)
    checks.kind("is_problematic", is_problematic, jnp.bool_, "bool")
