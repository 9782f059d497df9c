"""Mixup and cutmix of each image with its neighbour, in the compiled step."""

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench import parallel

# Cells in the table of quantiles; the error in probability is below 1 / CELLS.
CELLS = 4096


@flax.struct.dataclass
class MixedLabels:
  """Labels of mixed images: label, second and weight of `losses`.

  Attributes:
    first: int32 [B], the label with a weight of at least one half; training
      accuracy is counted on it.
    second: int32 [B], the other label; None if nothing is mixed.
    weight: float32 [B] in [0.5, 1], the weight of `first`; None if nothing is
      mixed.
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
  batch this moves one image per device; reversing or permuting the batch would
  move all of them. Neighbours are random because the order of examples is. Each
  image draws its own share from Beta(a, a), and its own box. The result depends
  on the key and the global batch, not on the number of devices.

  Mixup is the weighted mean of both images. Cutmix puts a box of the neighbour
  into the image, with sides of floor(H * sqrt(1 - share)) and floor(W *
  sqrt(1 - share)), centred at any pixel and cut off at the border; labels are
  weighted by the area that each image covers.

  Args:
    images: float [B, H, W, C], normalised (finite).
    labels: int32 [B].
    key: PRNG key of the step.
    mixup: a of the Beta distribution of shares, 1 is uniform; 0 is off.
    cutmix: the same for cutmix.
    switch: with both on, the probability in [0, 1] that a batch uses cutmix.
    view: which rows of the global batch the B rows are.

  Returns:
    Images of the same shape and dtype, and MixedLabels. With both off the
    arguments are returned, and a compiled step has no additional operation.

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
  uniform = _draw(view, jax.random.uniform, share_key, labels.shape[0])
  if mixup:
    weight = beta_quantile(uniform, mixup)
    share = weight[:, None, None]
  if cutmix:
    cut, cut_weight = _draw_boxes(
      box_key, 1.0 - beta_quantile(uniform, cutmix), images.shape[1:3], view
    )
    if mixup:
      use_cutmix = jax.random.bernoulli(kind_key, switch)
      share = jnp.where(use_cutmix, cut, share)
      weight = jnp.where(use_cutmix, cut_weight, weight)
    else:
      share, weight = cut, cut_weight
  neighbours = view.shift(images), view.shift(labels)
  return (
    _blend(images, neighbours[0], share),
    _order_labels(labels, neighbours[1], weight),
  )


def _draw(view, draw, key: jax.Array, size: int, *args) -> jax.Array:
  """Draws random numbers of the global batch; returns those [B] of the view."""
  return view.rows(draw(key, (view.global_size(size),), *args))


def beta_quantile(uniform: jax.Array, a: float) -> jax.Array:
  """Returns quantiles of Beta(a, a) at `uniform` [B], interpolated in a table.

  Rejection sampling, as in jax.random.beta, has loops that take over a second
  to compile.

  Args:
    uniform: float32 [B] in [0, 1).
    a: more than 0.

  Returns:
    float32 [B] in [0, 1].
  """
  if a == 1.0:
    return uniform
  # Imported here: only runs that mix wait for it.
  import scipy.special

  cells = np.linspace(0.0, 1.0, CELLS + 1)
  table = jnp.asarray(scipy.special.betaincinv(a, a, cells), jnp.float32)
  cell = jnp.floor(uniform * CELLS)
  left = cell.astype(jnp.int32)
  low, high = table[left], table[left + 1]
  return low + (uniform * CELLS - cell) * (high - low)


def check_settings(mixup: float, cutmix: float, switch: float) -> None:
  """Raises InputError for a setting out of range."""
  for key, value in {"mixup": mixup, "cutmix": cutmix}.items():
    if not 0 <= value < np.inf:
      raise errors.InputError(
        key, "0 (off) or the positive parameter of a Beta distribution", value
      )
  if not 0 <= switch <= 1:
    raise errors.InputError("switch", "a probability in [0, 1]", switch)


def _draw_boxes(
  key: jax.Array,
  area: jax.Array,
  size: tuple[int, int],
  view: parallel.View = parallel.WHOLE,
) -> tuple[jax.Array, jax.Array]:
  """Draws boxes that cover a share of about `area` [B] of each image.

  Returns:
    bool [B, H, W], true outside the box, and float32 [B], the share outside.
  """
  side = jnp.sqrt(area)
  row_key, col_key = jax.random.split(key)
  rows = _draw_intervals(view, row_key, side, size[0])
  cols = _draw_intervals(view, col_key, side, size[1])
  covered = jnp.sum(rows, axis=1) * jnp.sum(cols, axis=1)
  pixels = size[0] * size[1]
  outside = ~(rows[:, :, None] & cols[:, None, :])
  return outside, (pixels - covered) / pixels


def _draw_intervals(view, key, side: jax.Array, length: int) -> jax.Array:
  """Returns bool [B, length], true on an interval of the share `side` [B]."""
  count = jnp.floor(side * length).astype(jnp.int32)
  centre = _draw(view, jax.random.randint, key, side.shape[0], 0, length)
  position = jnp.arange(length, dtype=jnp.int32)[None]
  offset = position - (centre - count // 2)[:, None]
  return (offset >= 0) & (offset < count[:, None])


def _blend(
  images: jax.Array, neighbour: jax.Array, share: jax.Array
) -> jax.Array:
  """Returns the mean, `share` [B, H or 1, W or 1] being weights of `images`."""
  share = share.astype(jnp.float32)[..., None]
  neighbour = neighbour.astype(jnp.float32)
  mixed = share * images.astype(jnp.float32) + (1.0 - share) * neighbour
  return mixed.astype(images.dtype)


def _order_labels(
  labels: jax.Array, neighbour: jax.Array, weight: jax.Array
) -> MixedLabels:
  """Returns the labels of image and neighbour, the heavier one first."""
  own_first = weight >= 0.5
  return MixedLabels(
    first=jnp.where(own_first, labels, neighbour),
    second=jnp.where(own_first, neighbour, labels),
    weight=jnp.maximum(weight, 1.0 - weight),
  )
