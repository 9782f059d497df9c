"""Draws the images of a plan: background, things, light, noise."""

import dataclasses

import numpy as np

from imgbench.scenes import classes
from imgbench.scenes import objects
from imgbench.scenes import organisms
from imgbench.scenes import pen as scenes_pen
from imgbench.scenes import plan as scenes_plan
from imgbench.scenes import randomness

# Raise it with any change of a pixel or a label: it is part of fingerprints.
VERSION = 1

_TEXTURE_SIDE = 6
TEXTURE_WORDS = 36  # _TEXTURE_SIDE squared, a multiple of 4
_BATCH = 16  # images whose background or light are computed at once, in cache
_REACH = 1.3  # of a rotated and stretched frame with its shadow


def count_noise_words(size: int) -> int:
  """Returns how many words give a byte to each value of an image."""
  return -(-size * size * 3 // 32) * 4


def draw(plan, size: int, texture, noise) -> np.ndarray:
  """Returns the images of a plan.

  Args:
    plan: `plan.ScenePlan` of B scenes.
    size: side of an image in pixels.
    texture: uint64 [B, TEXTURE_WORDS], random.
    noise: uint64 [B, count_noise_words(size)], random.

  Returns:
    uint8 [B, size, size, 3].
  """
  canvas = np.empty((len(plan.picture), 3, size, size), np.float32)
  batches = [
    slice(start, start + _BATCH) for start in range(0, len(canvas), _BATCH)
  ]
  for batch in batches:
    _paint_backgrounds(
      canvas[batch], plan.domain, plan.light[batch], texture[batch]
    )
  _paint_things(canvas, plan.things)
  images = np.empty((len(canvas), size, size, 3), np.uint8)
  for batch in batches:
    images[batch] = _expose(
      canvas[batch], plan.domain, plan.light[batch], noise[batch]
    )
  negative = plan.picture == scenes_plan.NEGATIVE
  images[negative] = 255 - images[negative]
  return images


def _grid(size):
  """Returns x [1, 1, S] and y [1, S, 1] of pixel centres in [-1, 1]."""
  line = (np.arange(size, dtype=np.float32) * 2 + 1) / np.float32(size) - 1
  return line[None, None, :], line[None, :, None]


def _wave(phase):
  """Returns a triangle wave of period 1 in [0, 1]."""
  return np.abs((phase - np.floor(phase)) * 2.0 - 1.0)


def _sharpen(values, gain):
  return np.clip((values - 0.5) * gain + 0.5, 0.0, 1.0)


def _gradient(x, y, cloud, a, b):
  return np.clip(0.5 + (0.5 * y + 0.6 * (a - 0.5) * x), 0.0, 1.0)


def _horizon(x, y, cloud, a, b):
  line = y - (a - 0.35) + 0.3 * (b - 0.5) * x
  return np.clip(line * 12.0, 0.0, 1.0) * (0.8 + 0.2 * y) + 0.15 * cloud


def _clouds(x, y, cloud, a, b):
  return _sharpen(cloud, 1.6)


def _planks(x, y, cloud, a, b):
  along = np.where(b < 0.5, x, y)
  board = along * (2.0 + 2.0 * a)
  tone = np.floor(board) * np.float32(0.37)
  return (
    np.minimum(_wave(board) * 6.0, 1.0) * (0.4 + 0.4 * (tone - np.floor(tone)))
    + 0.2 * cloud
  )


def _floor_and_wall(x, y, cloud, a, b):
  line = y - 0.2 - 0.4 * a
  rows = _sharpen(_wave(x * (3.0 + 2.0 * b)), 5.0)
  return np.where(line > 0, 0.85 + 0.15 * rows, 0.2 * rows + 0.1 * cloud)


def _checks(x, y, cloud, a, b):
  scale = 1.2 + 1.2 * a
  u, v = x + 0.6 * (b - 0.5) * y, y - 0.6 * (b - 0.5) * x
  one, two = _sharpen(_wave(u * scale), 8.0), _sharpen(_wave(v * scale), 8.0)
  return 0.25 + 0.5 * (one + two - 2.0 * one * two)


def _bars(x, y, cloud, a, b):
  slope = 2.0 * (a - 0.5)
  return 0.2 + 0.5 * _sharpen(_wave((x + slope * y) * (1.5 + 1.5 * b)), 4.0)


# Each returns the share of the second colour, about in [0, 1], as [n, S, S].
# The last two occur in v2 only.
BACKGROUNDS = (
  _gradient,
  _horizon,
  _clouds,
  _planks,
  _floor_and_wall,
  _checks,
  _bars,
)


def _texture(words, size) -> np.ndarray:
  """Returns float32 [B, S, S] in [0, 1): smooth random hills."""
  side = _TEXTURE_SIDE
  knots = (words[:, : side * side] >> np.uint64(40)).astype(np.float32)
  knots = (knots * np.float32(2.0**-24)).reshape(-1, side, side)
  place = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(
    (side - 1) / size
  )
  left = place.astype(np.int32)
  share = place - left
  share = share * share * (3.0 - 2.0 * share)
  rows = knots[:, left]
  rows = rows + (knots[:, left + 1] - rows) * share[None, :, None]
  out = rows[:, :, left]
  return out + (rows[:, :, left + 1] - out) * share


def _paint_backgrounds(canvas, domain, light, words):
  """Fills float32 [n, 3, S, S] with backgrounds of two muted colours."""
  size = canvas.shape[-1]
  x, y = _grid(size)
  cloud = _texture(words, size)
  kinds = randomness.choose(light[:, 0], domain.backgrounds)
  mix = np.empty_like(cloud)
  for kind in np.unique(kinds):
    rows = kinds == kind
    a, b = light[rows, 1][:, None, None], light[rows, 2][:, None, None]
    mix[rows] = BACKGROUNDS[kind](x, y, cloud[rows], a, b)
  value = 0.3 + 0.62 * light[:, 5]
  one = scenes_pen.hsv(light[:, 3], 0.08 + 0.4 * light[:, 4], value)
  sign = np.where(light[:, 6] < 0.5, -1, 1).astype(np.float32)
  value = value + sign * (0.1 + 0.2 * light[:, 7])
  two = scenes_pen.hsv(
    light[:, 3] + 0.4 * (light[:, 8] - 0.5),
    0.08 + 0.4 * light[:, 9],
    np.clip(value, 0.12, 0.98),
  )
  one, two = one.T[:, :, None, None], two.T[:, :, None, None]
  canvas[:] = one + (two - one) * mix[:, None]
  canvas *= (0.88 + 0.24 * cloud)[:, None]


def _paint_things(canvas, things):
  """Paints things, lower layers first, on float32 [B, 3, S, S]."""
  size = canvas.shape[-1]
  windows = _window_sizes(things, size)
  looks = (things.kind * 64 + things.donor) * 4 + things.donated
  groups = looks.astype(np.int64) * (1 << 16) + windows
  for layer in np.unique(things.layer):
    here = np.flatnonzero(things.layer == layer)
    for group in np.unique(groups[here]):
      rows = here[groups[here] == group]
      _paint_group(canvas, things.select(rows), int(windows[rows[0]]))


def _window_sizes(things, size):
  """Returns int [M], sides in pixels, rounded up to a few sizes."""
  step = max(size // 6, 1)
  needed = things.radius * np.float32(size * _REACH) + 2.0
  return np.ceil(needed / step).astype(np.int32) * step


def _paint_group(canvas, group, window):
  """Draws things of one look in windows and pastes each into its image."""
  size = canvas.shape[-1]
  x, y = (group.x + 1.0) * (size / 2.0), (group.y + 1.0) * (size / 2.0)
  left = np.floor(x - window / 2.0).astype(np.int32)
  top = np.floor(y - window / 2.0).astype(np.int32)
  pen = scenes_pen.Pen(
    window,
    x - left,
    y - top,
    group.radius * np.float32(size / 2.0),
    group.half_turn,
    group.flip,
    group.stretch,
  )
  _draw_kind(pen, group)
  pen.rgb *= group.opacity[:, None, None]
  keep = 1.0 - pen.alpha * group.opacity[:, None, None]
  for i, (example, x0, y0) in enumerate(
    zip(group.example.tolist(), left.tolist(), top.tolist(), strict=True)
  ):
    rows = slice(max(y0, 0), min(y0 + window, size))
    columns = slice(max(x0, 0), min(x0 + window, size))
    from_rows = slice(rows.start - y0, rows.stop - y0)
    from_columns = slice(columns.start - x0, columns.stop - x0)
    target = canvas[example, :, rows, columns]
    target *= keep[i, from_rows, from_columns]
    target += pen.rgb[:, i, from_rows, from_columns]


def _draw_kind(pen, group):
  traits = np.ascontiguousarray(group.traits.T)[:, :, None, None]
  kind, donor = int(group.kind[0]), int(group.donor[0])
  if kind >= classes.NUM_CLASSES:
    objects.CLUTTER[kind - classes.NUM_CLASSES](pen, traits)
    return
  name = classes.CLASS_NAMES[kind]
  if kind >= classes.NUM_DOGS:
    drawings = organisms.DRAWINGS | objects.DRAWINGS
    drawings[name](pen, traits)
    return
  breed = organisms.BREEDS[name]
  if donor != kind:
    trait = organisms.DOG_TRAITS[int(group.donated[0])]
    other = organisms.BREEDS[classes.CLASS_NAMES[donor]]
    breed = dataclasses.replace(breed, **{trait: getattr(other, trait)})
  organisms.draw_dog(pen, traits, breed)


def _expose(canvas, domain, light, words) -> np.ndarray:
  """Returns uint8 [n, S, S, 3], each lit differently, with pixel noise."""
  size = canvas.shape[-1]
  x, y = _grid(size)
  low, high = domain.light
  gain = low + (high - low) * light[:, 10]
  slope = 0.3 * (light[:, 11:13] - 0.5)
  shade = gain[:, None, None] * (
    1.0 + slope[:, :1, None] * x + slope[:, 1:, None] * y
  )
  warmth = domain.tint * (2.0 * light[:, 13] - 1.0)
  tint = np.stack([1.0 + warmth, np.ones_like(warmth), 1.0 - warmth], axis=1)
  low, high = domain.noise
  amplitude = low + (high - low) * light[:, 14]
  grain = words.astype("<u8").view(np.uint8)[:, : 3 * size * size]
  grain = grain.reshape(canvas.shape).astype(np.float32)
  grain = (grain * (1.0 / 255.0) - 0.5) * amplitude[:, None, None, None]
  lit = canvas * shade[:, None]
  lit *= tint[:, :, None, None]
  lit += grain
  lit = np.clip(lit * 255.0 + 0.5, 0.0, 255.0)
  return lit.astype(np.uint8).transpose(0, 2, 3, 1)
