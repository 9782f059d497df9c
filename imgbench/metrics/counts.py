"""Integer counts by original class: the state of an evaluation.

Merging batches, devices and hosts is integer addition, so the result is the
same for every batch size, padding, order and number of devices. Division
happens once, on the host, in float64.
"""

from collections.abc import Sequence
import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench.labels import annotations
from imgbench.metrics import checks
from imgbench.metrics import outcomes as outcomes_lib
from imgbench.metrics import topk

_LABEL_FIELDS = ("count", "non_finite")
_SET_FIELDS = (
  "reviewed_count",
  "lenient_hits",
  "unreviewed",
  "imagenet_m_count",
  "imagenet_m_hits",
  "imagenet_m_unreviewed",
)


_WORD = 31  # columns that one int32 has bits for

Column = str | tuple[str, int]  # a field, or hits at k


@flax.struct.dataclass
class Counts:
  """Numbers of examples by their labelled class, int32 [K].

  Counts against label sets are 0 if the examples have none; they exclude images
  that the label sets leave out (problematic ones; for ReaL those with an empty
  set).

  Attributes:
    table: int32 [K + 1, F], one column for each of the properties below; the
      last row counts real examples whose label is outside [0, K). It is one
      array because each argument of a compiled step costs time.
    ks: the k of `top_hits`.
    set_ks: the k of `strict_hits`.
  """

  table: jax.Array
  ks: tuple[int, ...] = flax.struct.field(pytree_node=False)
  set_ks: tuple[int, ...] = flax.struct.field(pytree_node=False)

  @property
  def num_classes(self) -> int:
    return self.table.shape[-2] - 1

  @property
  def outside(self) -> jax.Array:
    """Number of examples whose label is no class, a scalar; in no count."""
    return self.table[..., -1, 0]

  @property
  def count(self) -> jax.Array:
    """Examples."""
    return self._column("count")

  @property
  def non_finite(self) -> jax.Array:
    """Rows of logits that are not finite; never a hit."""
    return self._column("non_finite")

  def top_hits(self, k: int) -> jax.Array:
    """The label is among the first k predictions; k one of `ks`."""
    return self._column(("top", k))

  @property
  def reviewed_count(self) -> jax.Array:
    """Examples with a label set that are not left out."""
    return self._column("reviewed_count")

  def strict_hits(self, k: int = 1) -> jax.Array:
    """A correct label of the set is among the first k; k one of `set_ks`."""
    return self._column(("strict", k))

  @property
  def lenient_hits(self) -> jax.Array:
    """The top-1 prediction is a correct or an unclear label."""
    return self._column("lenient_hits")

  @property
  def unreviewed(self) -> jax.Array:
    """The top-1 prediction has not been reviewed."""
    return self._column("unreviewed")

  @property
  def imagenet_m_count(self) -> jax.Array:
    """Examples with a label set that belong to ImageNet-M."""
    return self._column("imagenet_m_count")

  @property
  def imagenet_m_hits(self) -> jax.Array:
    """Lenient hits among ImageNet-M."""
    return self._column("imagenet_m_hits")

  @property
  def imagenet_m_unreviewed(self) -> jax.Array:
    """Unreviewed top-1 predictions among ImageNet-M."""
    return self._column("imagenet_m_unreviewed")

  def _column(self, name) -> jax.Array:
    names = column_names(self.ks, self.set_ks)
    if name not in names:
      expected = (
        f"one of ks {self.ks}, or of set_ks {self.set_ks} for label sets"
      )
      raise errors.InputError("k", expected, name[1])
    return self.table[..., :-1, names.index(name)]


def column_names(ks: Sequence[int], set_ks: Sequence[int]) -> list[Column]:
  """Returns the names of the columns of `Counts.table`."""
  top = [("top", k) for k in ks]
  strict = [("strict", k) for k in set_ks]
  return [*_LABEL_FIELDS, *top, *strict, *_SET_FIELDS]


def empty(
  num_classes: int,
  ks: Sequence[int] = (1, outcomes_lib.TOP),
  set_ks: Sequence[int] = (1,),
) -> Counts:
  """Returns counts of zero.

  Args:
    num_classes: K.
    ks: the k for which label hits among the first k are counted.
    set_ks: the k for which hits of correct labels of the label set are counted;
      at most 5. Each above 1 needs the top 5 of every row.

  Raises:
    InputError: no k, or a k that is below 1, repeated or too large.
  """
  ks = _checked("ks", ks, None)
  set_ks = _checked("set_ks", set_ks, outcomes_lib.TOP)
  if num_classes < 1:
    raise errors.InputError("num_classes", "at least 1", num_classes)
  width = len(column_names(ks, set_ks))
  return Counts(jnp.zeros((num_classes + 1, width), jnp.int32), ks, set_ks)


def _checked(name, ks, most) -> tuple[int, ...]:
  if not isinstance(ks, Sequence) or not all(
    isinstance(k, (int, np.integer)) for k in ks
  ):
    expected = "a list of whole numbers such as [1, 5]"
    raise errors.InputError(name, expected, repr(ks))
  ks = tuple(int(k) for k in ks)
  bound = "" if most is None else f" and at most {most}"
  in_bounds = all(k >= 1 and (most is None or k <= most) for k in ks)
  if not ks or len(set(ks)) < len(ks) or not in_bounds:
    expected = f"one or more different k of at least 1{bound}"
    raise errors.InputError(name, expected, list(ks))
  return ks


def merge(a: Counts, b: Counts) -> Counts:
  """Returns the sum of both; commutative, associative, exact.

  Raises:
    InputError: they differ in k or in the number of classes.
  """
  if (a.ks, a.set_ks) != (b.ks, b.set_ks):
    expected = f"counts at k {a.ks} and {a.set_ks}"
    raise errors.InputError("b", expected, f"{b.ks} and {b.set_ks}")
  checks.shape("b.table", b.table, a.table.shape)
  return jax.tree.map(jnp.add, a, b)


def update(
  counts: Counts,
  outcomes: outcomes_lib.Outcomes,
  labels: jax.Array,
  mask: jax.Array,
  *,
  left_out: jax.Array | None = None,
  in_imagenet_m: jax.Array | None = None,
) -> Counts:
  """Returns `counts` with a batch added, in place if it is donated.

  Pure, also on a batch sharded over Auto axes. Under pmap add each device's
  batch to `empty`, `psum` the sum and `merge` it.

  Args:
    counts: so far.
    outcomes: of B examples; masked rows may hold anything.
    labels: integer [B]. A real example with a label outside [0, K) is counted
      in `outside` alone.
    mask: bool [B], false for padding.
    left_out: bool [B], images that the label sets leave out; None if the
      examples have no label sets.
    in_imagenet_m: bool [B], images that belong to ImageNet-M; None: none.

  Raises:
    InputError: wrong shape or type of an argument; outcomes with another number
      of classes, of rankings shorter than a counted k, or without label sets
      while `left_out` is given.
  """
  size = outcomes.label_rank.shape
  labels = topk.read_labels(labels, size)
  mask = checks.flags("mask", mask, size)
  if left_out is not None:
    left_out = checks.flags("left_out", left_out, size)
  if in_imagenet_m is not None:
    in_imagenet_m = checks.flags("in_imagenet_m", in_imagenet_m, size)
  _check_known(counts, outcomes, left_out, in_imagenet_m)
  num_classes = counts.num_classes
  inside = topk.in_range(labels, num_classes)
  columns = _columns(counts, outcomes, left_out, in_imagenet_m)
  words = [
    _unpacked(columns[start : start + _WORD], jnp.asarray(mask))
    for start in range(0, len(columns), _WORD)
  ]
  rows = jnp.concatenate(words, axis=1) if len(words) > 1 else words[0]
  # Scatters wrap negative ids; labels outside go to the last row.
  ids = jnp.where(inside, labels, num_classes)
  return dataclasses.replace(counts, table=counts.table.at[ids].add(rows))


def _unpacked(columns: list[jax.Array], mask: jax.Array) -> jax.Array:
  """Returns int32 [B, F] of up to 31 columns, 0 where the mask is false.

  Packs the columns into the bits of one integer per example: stacking columns
  would launch one small kernel each, which matters in a step of 0.1 ms.
  """
  places = jnp.arange(len(columns), dtype=jnp.int32)
  bits = sum(
    column.astype(jnp.int32) << place for place, column in enumerate(columns)
  )
  return (jnp.where(mask, bits, 0)[:, None] >> places[None, :]) & 1


def _columns(counts, outcomes, left_out, in_imagenet_m) -> list[jax.Array]:
  """Returns bool [B], one for each of `column_names`."""
  rank, code = outcomes.label_rank, outcomes.code
  # A rank of K is never a hit, even if K is below k.
  ranked = rank < counts.num_classes
  none = jnp.zeros(rank.shape, bool)
  reviewed = none if left_out is None else ~jnp.asarray(left_out)
  in_m = none if in_imagenet_m is None else reviewed & in_imagenet_m
  lenient = reviewed & (code >= annotations.UNCLEAR)
  unreviewed = reviewed & (code == annotations.UNREVIEWED)
  values: dict[Column, jax.Array] = {
    "count": ~none,
    "non_finite": ~outcomes.finite,
    "reviewed_count": reviewed,
    "lenient_hits": lenient,
    "unreviewed": unreviewed,
    "imagenet_m_count": in_m,
    "imagenet_m_hits": in_m & lenient,
    "imagenet_m_unreviewed": in_m & unreviewed,
  }
  values |= {("top", k): ranked & (rank < k) for k in counts.ks}
  correct = outcomes.top5_code == annotations.CORRECT
  values |= {
    ("strict", k): reviewed & correct[:, :k].any(axis=1) for k in counts.set_ks
  }
  # From the fast top-1, so that XLA can drop the top 5 if unused.
  values["strict", 1] = reviewed & (code == annotations.CORRECT)
  return [values[name] for name in column_names(counts.ks, counts.set_ks)]


def _check_known(counts, outcomes, left_out, in_imagenet_m) -> None:
  if outcomes.num_classes != counts.num_classes:
    expected = f"{counts.num_classes} classes, as in the counts"
    raise errors.InputError("outcomes", expected, outcomes.num_classes)
  for name in ("ks", "set_ks"):
    ks = [k for k in getattr(counts, name) if k > outcomes.width]
    if ks and outcomes.width < outcomes.num_classes:
      expected = f"at most {outcomes.width}, the length of the rankings"
      raise errors.InputError(name, expected, ks[0])
  if in_imagenet_m is not None and left_out is None:
    raise errors.InputError(
      "in_imagenet_m", "None without left_out", "an array"
    )
  if left_out is not None and not outcomes.with_sets:
    expected = "None for outcomes without label_codes"
    fix = "give the codes to `outcomes`"
    raise errors.InputError("left_out", expected, "an array", fix)
