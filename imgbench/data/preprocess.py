"""Augmentation and normalisation in the compiled step.

The random numbers of an example depend on the key, its index and its epoch
only, not on its place in the batch or the sharding of the batch. Any step can
therefore be computed again.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from imgbench import errors

FLIPS = ("none", "random", "alternating")


def normalize(
  images: jax.Array, mean: Sequence[float], std: Sequence[float], dtype: Any
) -> jax.Array:
  """Returns (images / 255 - mean) / std.

  Args:
    images: uint8 [B, H, W, C].
    mean: C numbers on the scale of 0 to 1.
    std: C numbers on the same scale.
    dtype: of the result; the arithmetic is float32.
  """
  scale = 1.0 / (255.0 * jnp.asarray(std, jnp.float32))
  shift = jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
  scale, shift = (x.reshape(1, 1, 1, -1) for x in (scale, shift))
  return (images.astype(jnp.float32) * scale - shift).astype(dtype)


def denormalize(
  images: jax.Array, mean: Sequence[float], std: Sequence[float]
) -> jax.Array:
  """Returns pixels in [0, 1], float32, of normalized images."""
  std, mean = (
    jnp.asarray(x, jnp.float32)[None, None, None] for x in (std, mean)
  )
  return images.astype(jnp.float32) * std + mean


def sample(
  images: jax.Array,
  index: jax.Array,
  epoch: jax.Array,
  step_key: jax.Array,
  *,
  pad: int = 0,
  flip: str = "none",
  cutout: int = 0,
  cutout_value: int = 127,
  whole_batch: bool = False,
) -> jax.Array:
  """Returns the selected images, each cropped, flipped and cut out.

  Args:
    images: uint8 [N, H, W, C], all of the data set, or those of the batch.
    index: int32 [B] in [0, N).
    epoch: int32 [B], the epoch that each example belongs to, from 0.
    step_key: PRNG key.
    pad: the image is shifted by up to `pad` pixels along each axis, with
      reflection at the border; less than H and W.
    flip: "none"; "random", with probability 1/2; "alternating": a fixed half
      of the examples in even epochs, the other half in odd ones (Jordan 2024,
      arXiv:2404.00498, section 3.6).
    cutout: side of a square that is filled; its centre is anywhere in the
      image, so it may reach over the border (DeVries and Taylor 2017).
    cutout_value: the value that fills it.
    whole_batch: `images` are the batch, N = B, in its order; else the batch is
      `images[index]`.

  Returns:
    uint8 [B, H, W, C].

  Raises:
    InputError: a setting out of range.
  """
  height, width = images.shape[1:3]
  _check(height, width, pad, flip, cutout)
  bits = random_bits(step_key, index, epoch)
  draw = lambda column, count: (bits[:, column] % count).astype(jnp.int32)
  rows = _arange(height)
  cols = _arange(width)
  if whole_batch and not pad:
    # Without a gather, which would copy full-size images once more.
    batch = images
    if flip != "none":
      mirrored = _draw_flips(flip, draw, epoch, index)
      mirrored = mirrored[:, None, None, None]
      batch = jnp.where(mirrored, images[:, :, ::-1], images)
    return _cut_out(batch, draw, cutout, cutout_value)
  if pad:
    rows = rows + draw(0, 2 * pad + 1)[:, None] - pad
    cols = cols + draw(1, 2 * pad + 1)[:, None] - pad
  if flip != "none":
    mirrored = _draw_flips(flip, draw, epoch, index)
    cols = jnp.where(mirrored[:, None], cols[:, ::-1], cols)
  rows, cols = _reflect(rows, height), _reflect(cols, width)
  place = jnp.arange(len(index)) if whole_batch else index
  batch = images[place[:, None, None], rows[:, :, None], cols[:, None, :]]
  return _cut_out(batch, draw, cutout, cutout_value)


def _draw_flips(flip, draw, epoch, index) -> jax.Array:
  if flip == "random":
    return draw(2, 2) == 1
  return (epoch + hash_bit(index)) % 2 == 1


def _cut_out(batch, draw, size: int, value: int) -> jax.Array:
  if not size:
    return batch
  height, width = batch.shape[1:3]
  inside_rows = _window(height, draw(3, height), size)
  inside_cols = _window(width, draw(4, width), size)
  hole = inside_rows[:, :, None] & inside_cols[:, None, :]
  return jnp.where(hole[..., None], jnp.uint8(value), batch)


def random_bits(
  key: jax.Array, index: jax.Array, epoch: jax.Array
) -> jax.Array:
  """Returns uint32 [B, 5], independent for each (index, epoch)."""

  def one(i, e):
    return jax.random.bits(
      jax.random.fold_in(jax.random.fold_in(key, e), i), (5,), jnp.uint32
    )

  return jax.vmap(one)(index, epoch)


def hash_bit(index: jax.Array) -> jax.Array:
  """Returns int32 0 or 1 for each index, half each, without a pattern."""
  x = index.astype(jnp.uint32) * jnp.uint32(0x9E3779B1)
  x = (x ^ (x >> 15)) * jnp.uint32(0x85EBCA77)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE3D)
  return (x >> 31).astype(jnp.int32)


def _arange(length: int) -> jax.Array:
  return jnp.arange(length, dtype=jnp.int32)[None]


def _reflect(position: jax.Array, length: int) -> jax.Array:
  """Returns positions with those outside mirrored at the border pixel."""
  position = jnp.abs(position)
  last = length - 1
  return last - jnp.abs(last - position)


def _window(length: int, centre: jax.Array, size: int) -> jax.Array:
  """Returns bool [B, length], true for `size` positions around the centre."""
  offset = _arange(length) - (centre - size // 2)[:, None]
  return (offset >= 0) & (offset < size)


def _check(height: int, width: int, pad: int, flip: str, cutout: int) -> None:
  if flip not in FLIPS:
    raise errors.InputError("flip", f"one of {', '.join(FLIPS)}", repr(flip))
  smallest = min(height, width)
  for name, value, most in (
    ("pad", pad, smallest - 1),
    ("cutout", cutout, smallest),
  ):
    if not 0 <= value <= most:
      raise errors.InputError(
        name, f"0 to {most} for images of {height}x{width}", value
      )
