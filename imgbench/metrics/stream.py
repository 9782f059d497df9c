"""Counts predictions of other frameworks or files, batch by batch.

An evaluation step that computes its own logits counts them in place, with
`outcomes.outcomes` and `counts.update`. This module is for logits from
elsewhere.
"""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench.metrics import checks
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import outcomes as outcomes_lib

# Batches per call. One by one, a batch of 256 takes twice as long on CPU,
# because threads go to sleep between calls.
GROUP = 8

# Arguments that come with every batch or with none.
_OPTIONAL = ("label_codes", "left_out", "in_imagenet_m")


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _add(keep: str, counts: counts_lib.Counts, batches):
  """Returns the counts with all batches added, and (mask, kept results)."""
  kept = []
  for logits, labels, mask, label_codes, left_out, in_imagenet_m in batches:
    outcomes = outcomes_lib.outcomes(logits, labels, label_codes)
    counts = counts_lib.update(
      counts,
      outcomes,
      labels,
      mask,
      left_out=left_out,
      in_imagenet_m=in_imagenet_m,
    )
    kept.append((mask, outcomes.top1 if keep == "top1" else outcomes))
  return counts, jax.tree.map(lambda *parts: jnp.concatenate(parts), *kept)


_MOST_ROWS = 2**31 - 1


class Stream:
  """Accumulates counts, and outcomes or top-1 classes, of batches.

  Each batch shape is compiled once, so pad the last batch with a false mask. Up
  to GROUP batches are buffered before they are counted.

  Args:
    num_classes: K.
    ks: see `counts.empty`.
    set_ks: see `counts.empty`.
    keep: "outcomes", or "top1" for predictions only, which is many times
      faster.
    group: batches per call.

  Raises:
    InputError: see `counts.empty`; another `keep`, a group below 1.
  """

  def __init__(
    self,
    num_classes: int,
    ks: Sequence[int] = (1, outcomes_lib.TOP),
    set_ks: Sequence[int] = (1,),
    *,
    keep: str = "outcomes",
    group: int = GROUP,
  ):
    if keep not in ("outcomes", "top1"):
      raise errors.InputError("keep", "'outcomes' or 'top1'", repr(keep))
    if group < 1:
      raise errors.InputError("group", "at least 1", group)
    self._counts = counts_lib.empty(num_classes, ks, set_ks)
    self._keep = keep
    self._group = group
    self._waiting: list[tuple] = []
    self._kept: list[tuple] = []
    self._checked: set[tuple] = set()  # shapes and types of batches
    self._given: list[str] | None = None  # of _OPTIONAL
    self._rows = 0

  def add(
    self,
    logits,
    labels,
    *,
    mask=None,
    label_codes=None,
    left_out=None,
    in_imagenet_m=None,
  ) -> None:
    """Adds a batch of arrays, which must not be modified later.

    Args:
      logits: float [B, K].
      labels: integer [B] in [0, K) where the mask is true. NumPy labels are
        checked; other arrays count bad ones in `Counts.outside`.
      mask: bool [B], false for padding; None for none.
      label_codes: int8 [B, K] of `labels.annotations`, or None.
      left_out: bool [B], see `counts.update`, or None.
      in_imagenet_m: bool [B], or None.

    Raises:
      InputError: wrong shape or type of an argument, labels outside, more rows
        than int32 counts. The batch is then not added.
    """
    logits = checks.floats("logits", logits, ("B", self._counts.num_classes))
    size = logits.shape[:1]
    labels = checks.integers("labels", labels, size)
    if mask is None:
      mask = np.ones(size, bool)
    mask = checks.flags("mask", mask, size)
    label_codes = outcomes_lib.read_codes(label_codes, logits.shape)
    batch = (logits, labels, mask, label_codes) + tuple(
      x if x is None else checks.flags(name, x, size)
      for name, x in zip(_OPTIONAL[1:], (left_out, in_imagenet_m), strict=True)
    )
    key = tuple(x if x is None else (x.shape, x.dtype) for x in batch)
    if key not in self._checked:
      self._check(batch)
      self._checked.add(key)
    given = [
      name
      for name, x in zip(_OPTIONAL, batch[3:], strict=True)
      if x is not None
    ]
    if self._given not in (None, given):
      expected = f"{self._given} with every batch, as before"
      raise errors.InputError(", ".join(_OPTIONAL), expected, given)
    if isinstance(labels, np.ndarray):
      checks.labels_in_range(
        "labels", np.where(np.asarray(mask), labels, 0), logits.shape[1]
      )
    rows = self._rows + len(labels)
    if rows > _MOST_ROWS:
      expected = f"at most {_MOST_ROWS:,} rows, as counts are int32"
      raise errors.InputError("stream", expected, f"{rows:,}")
    self._rows, self._given = rows, given
    self._waiting.append(batch)
    if len(self._waiting) == self._group:
      self._flush([self._waiting])

  def _check(self, batch) -> None:
    """Raises the kernels' InputErrors before the batch is added."""
    jax.eval_shape(functools.partial(_add, self._keep), self._counts, [batch])

  def result(self):
    """Returns (counts, outcomes or int32 top-1 [N]) of all real examples.

    NumPy arrays, in the order of addition. More batches may follow.
    """
    self._flush([[batch] for batch in self._waiting])
    if not self._kept:
      raise errors.InputError("stream", "at least one batch", "none")
    counts, kept = jax.device_get((self._counts, self._kept))
    mask, kept = jax.tree.map(lambda *parts: np.concatenate(parts), *kept)
    return counts, jax.tree.map(lambda x: x[mask], kept)

  def _flush(self, groups) -> None:
    for batches in groups:
      self._counts, kept = _add(self._keep, self._counts, batches)
      self._kept.append(kept)
    self._waiting = []
