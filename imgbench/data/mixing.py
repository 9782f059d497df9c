"""Mixup and cutmix inside the compiled step: each image with its neighbour."""

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench import parallel

# Cells of a table of quantiles; the error in probability is below 1 / CELLS.
CELLS = 4096


@flax.struct.dataclass
class MixedLabels:
  """Labels of mixed images, for `losses` as label, second and weight.

  Attributes:
    first: int32 [B], the label that weighs at least one half; what training
      accuracy can be counted on.
    second: int32 [B], the other one; None where nothing is mixed.
    weight: float32 [B] in [0.5, 1], the share of `first`; None where nothing
      is mixed.
  """

  first: jax.Array
  second: jax.Array | None
  weight: jax.Array | None


def mix(
  images: jax.Array,
  labels: jax.Array,
  key: jax.Array,
  *,
  mixup: float = 0.0,
  cutmix: float = 0.0,
  switch: float = 0.5,
  view: parallel.View = parallel.WHOLE,
) -> tuple[jax.Array, MixedLabels]:
  """Returns images mixed with their neighbours in the batch, and their labels.

  Image i is mixed with image i - 1, the first one with the last. On a sharded
  batch that moves one image per device, where a reversed or permuted batch
  moves all of them. Neighbours are chance, as the order of examples is. Each
  image draws its own share from Beta(a, a), and its own box. What comes out
  depends on the key and the global batch, not on the number of devices.

  Mixup is the weighted mean of both images. Cutmix puts a box of the neighbour
  into the image: sides of floor(H * sqrt(1 - share)) and floor(W *
  sqrt(1 - share)) around any pixel, cut off at the border; labels weigh what
  each image really covers.

  Args:
    images: float [B, H, W, C], normalised (finite).
    labels: int32 [B].
    key: PRNG key of the step.
    mixup: a of the Beta distribution of shares, 1 is uniform; 0 is off.
    cutmix: the same for cutmix.
    switch: with both on, the probability in [0, 1] that a batch takes cutmix.
    view: which of the global batch's B rows are given.

  Returns:
    Images of the same shape and dtype, and MixedLabels. With both off the
    arguments come back, and no operation is added to a compiled step.

  Raises:
    InputError: a setting out of range.

  Source: Zhang et al. 2018 (arXiv:1710.09412), Yun et al. 2019
    (arXiv:1905.04899).
  """
  check_settings(mixup, cutmix, switch)
  chex.assert_rank([images, labels], [4, 1])
  chex.assert_equal_shape_prefix([images, labels], 1)
  chex.assert_type([images, labels], [float, int])
  if not mixup and not cutmix:
    return images, MixedLabels(first=labels, second=None, weight=None)
  kind_key, share_key, box_key = jax.random.split(key, 3)
  uniform = _drawn(view, jax.random.uniform, share_key, labels.shape[0])
  if mixup:
    weight = beta_quantile(uniform, mixup)
    share = weight[:, None, None]
  if cutmix:
    cut, cut_weight = _outside_boxes(
      box_key, 1.0 - beta_quantile(uniform, cutmix), images.shape[1:3], view
    )
    if mixup:
      takes_cutmix = jax.random.bernoulli(kind_key, switch)
      share = jnp.where(takes_cutmix, cut, share)
      weight = jnp.where(takes_cutmix, cut_weight, weight)
    else:
      share, weight = cut, cut_weight
  neighbours = view.shift(images), view.shift(labels)
  return (
    _blend(images, neighbours[0], share),
    _weighed(labels, neighbours[1], weight),
  )


def _drawn(view, draw, key: jax.Array, size: int, *args) -> jax.Array:
  """Random numbers [B] of the global batch; of them the rows that are seen."""
  return view.rows(draw(key, (view.global_size(size),), *args))


def beta_quantile(uniform: jax.Array, a: float) -> jax.Array:
  """Returns where Beta(a, a) has the share `uniform` [B] of its mass below.

  Interpolated in a table. Sampling by rejection, as jax.random.beta does, has
  loops that take over a second to compile.

  Args:
    uniform: float32 [B] in [0, 1).
    a: more than 0.

  Returns:
    float32 [B] in [0, 1].
  """
  if a == 1.0:
    return uniform
  # Only runs that mix wait for its import.
  import scipy.special

  cells = np.linspace(0.0, 1.0, CELLS + 1)
  table = jnp.asarray(scipy.special.betaincinv(a, a, cells), jnp.float32)
  cell = jnp.floor(uniform * CELLS)
  left = cell.astype(jnp.int32)
  low, high = table[left], table[left + 1]
  return low + (uniform * CELLS - cell) * (high - low)


def check_settings(mixup: float, cutmix: float, switch: float) -> None:
  """Raises InputError for a setting out of range, before anything is read."""
  for key, value in {"mixup": mixup, "cutmix": cutmix}.items():
    if not 0 <= value < np.inf:
      raise errors.InputError(
        key, "0 (off) or the positive parameter of a Beta distribution", value
      )
  if not 0 <= switch <= 1:
    raise errors.InputError("switch", "a probability in [0, 1]", switch)


def _outside_boxes(
  key: jax.Array,
  area: jax.Array,
  size: tuple[int, int],
  view: parallel.View = parallel.WHOLE,
) -> tuple[jax.Array, jax.Array]:
  """Where a box of about `area` [B] is not, and the share that this covers.

  Returns:
    bool [B, H, W] and float32 [B].
  """
  side = jnp.sqrt(area)
  row_key, col_key = jax.random.split(key)
  rows = _inside(view, row_key, side, size[0])
  cols = _inside(view, col_key, side, size[1])
  covered = jnp.sum(rows, axis=1) * jnp.sum(cols, axis=1)
  pixels = size[0] * size[1]
  outside = ~(rows[:, :, None] & cols[:, None, :])
  return outside, (pixels - covered) / pixels


def _inside(view, key: jax.Array, side: jax.Array, length: int) -> jax.Array:
  """bool [B, length], true on a stretch of the share `side` [B] at most."""
  count = jnp.floor(side * length).astype(jnp.int32)
  centre = _drawn(view, jax.random.randint, key, side.shape[0], 0, length)
  position = jnp.arange(length, dtype=jnp.int32)[None]
  offset = position - (centre - count // 2)[:, None]
  return (offset >= 0) & (offset < count[:, None])


def _blend(
  images: jax.Array, neighbour: jax.Array, share: jax.Array
) -> jax.Array:
  """`share` [B, H or 1, W or 1] of each image, the rest of its neighbour."""
  share = share.astype(jnp.float32)[..., None]
  neighbour = neighbour.astype(jnp.float32)
  mixed = share * images.astype(jnp.float32) + (1.0 - share) * neighbour
  return mixed.astype(images.dtype)


def _weighed(
  labels: jax.Array, neighbour: jax.Array, weight: jax.Array
) -> MixedLabels:
  """The labels of image and neighbour, the heavier one first."""
  own_first = weight >= 0.5
  return MixedLabels(
    first=jnp.where(own_first, labels, neighbour),
    second=jnp.where(own_first, neighbour, labels),
    weight=jnp.maximum(weight, 1.0 - weight),
  )
