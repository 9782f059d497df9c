"""Plans the images of `scenes`: things, places and labels.

Labels follow from the plan alone, not from pixels.
"""

import dataclasses

import numpy as np

from imgbench.labels import annotations
from imgbench.scenes import classes as scenes_classes
from imgbench.scenes import domains
from imgbench.scenes import organisms
from imgbench.scenes import randomness

# Kinds of image. All but plain ones are problematic: a label of another class
# than the one drawn, two classes blended, inverted colours.
MISLABELLED, BLENDED, NEGATIVE, PLAIN = range(4)
PICTURE_SHARES = (0.03, 0.02, 0.01, 0.94)

MIXED_DOG_SHARE = 0.15
SWAPPED_SHARE = 0.2  # of plain images with more than one thing
REVIEWED_WRONG_SHARE = 0.45

# A second thing is unclear below this visible share or radius (in half sides of
# the image); the breed of a dog needs a larger radius.
CLEAR_VISIBLE = 0.5
CLEAR_RADIUS = 0.22
CLEAR_DOG_RADIUS = 0.34
REVIEWED_VISIBLE = 0.15

NUM_TRAITS = 9
NUM_LIGHT = 24
MAX_CLUTTER = 5
MAIN_LAYER = 2  # behind it: 0 and 1, blend: 3, in front of it: 4 and 5
WORDS = 192  # of 64 bits per example, a multiple of 4 (Philox's block)


@dataclasses.dataclass(frozen=True)
class Things:
  """M things, at most one per (example, layer).

  Lengths are in half sides of the image, positions in [-1, 1].

  Attributes:
    example: int32 [M], row of the plan.
    layer: int32 [M]; higher ones hide lower ones.
    kind: int32 [M], a class, or clutter from NUM_CLASSES on.
    donor: int32 [M], the breed that gives a mixed-breed dog one trait;
      otherwise `kind`.
    donated: int32 [M], the number of that trait.
    x: float32 [M].
    y: float32 [M].
    radius: float32 [M].
    half_turn: float32 [M], tan(angle / 2).
    flip: float32 [M], 1 or -1.
    stretch: float32 [M].
    opacity: float32 [M].
    traits: float32 [M, T] in [0, 1).
  """

  example: np.ndarray
  layer: np.ndarray
  kind: np.ndarray
  donor: np.ndarray
  donated: np.ndarray
  x: np.ndarray
  y: np.ndarray
  radius: np.ndarray
  half_turn: np.ndarray
  flip: np.ndarray
  stretch: np.ndarray
  opacity: np.ndarray
  traits: np.ndarray

  def select(self, rows) -> "Things":
    return Things(
      *(getattr(self, f.name)[rows] for f in dataclasses.fields(self))
    )


@dataclasses.dataclass(frozen=True)
class ScenePlan:
  """B scenes.

  Attributes:
    original_label: int32 [B].
    label_codes: int8 [B, K] of `labels.annotations`.
    picture: int32 [B], PLAIN, MISLABELLED, BLENDED or NEGATIVE.
    things: the things to draw.
    domain: of the split.
    light: float32 [B, L] in [0, 1), for background, light and noise.
  """

  original_label: np.ndarray
  label_codes: np.ndarray
  picture: np.ndarray
  things: Things
  domain: domains.Domain
  light: np.ndarray

  @property
  def is_problematic(self) -> np.ndarray:
    return self.picture != PLAIN


@dataclasses.dataclass(frozen=True)
class _Cast:
  """Classes in B scenes: three slots, the first is the largest.

  Attributes:
    original: int32 [B].
    other: int32 [B], a class that the original may be confused with; not drawn
      in a plain image.
    picture: int32 [B], the kind of image.
    classes: int32 [3, B].
    present: bool [3, B].
    swapped: bool [B], the second thing has the original label.
    mixed: bool [B], the main thing is a dog with a trait of the breed `other`.
  """

  original: np.ndarray
  other: np.ndarray
  picture: np.ndarray
  classes: np.ndarray
  present: np.ndarray
  swapped: np.ndarray
  mixed: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Placement:
  """Places of the slots: float32 [3, B], bool [3, B] for `front`.

  Attributes:
    x: of the centre, in [-1, 1].
    y: of the centre.
    radius: in half sides of the image.
    front: whether in front of the main thing; false for the main thing.
    visible: approximate share that is visible.
  """

  x: np.ndarray
  y: np.ndarray
  radius: np.ndarray
  front: np.ndarray
  visible: np.ndarray


def make_plan(
  seed: int, domain: domains.Domain, start: int, count: int
) -> ScenePlan:
  """Returns the plan of the examples `start` to `start + count` of a split."""
  draws = randomness.Draws(
    randomness.random_words(
      seed, domain.stream, randomness.PLAN, start, count, WORDS
    )
  )
  cast = _draw_cast(
    draws, domain, _draw_labels(seed, domain.stream, start, count)
  )
  placement = _place(draws, domain, cast)
  return ScenePlan(
    original_label=cast.original,
    label_codes=_assign_codes(draws, cast, placement),
    picture=cast.picture,
    things=_list_things(draws, domain, cast, placement),
    domain=domain,
    light=draws.take(NUM_LIGHT),
  )


def _draw_labels(seed, stream, start, count) -> np.ndarray:
  """Returns original labels; each block of K examples has each class once."""
  k = scenes_classes.NUM_CLASSES
  first, last = start // k, (start + count - 1) // k
  words = randomness.random_words(
    seed, stream, randomness.ORDER, first, last - first + 1, k
  )
  order = np.argsort(words, axis=-1, kind="stable").reshape(-1)
  offset = start - first * k
  return order[offset : offset + count].astype(np.int32)


def _pick_other(draws, *excluded) -> np.ndarray:
  """Returns int32 [B], a class that is in none of the `excluded`."""
  picked = draws.below(scenes_classes.NUM_CLASSES - len(excluded))
  for taken in np.sort(np.stack(excluded), axis=0):
    picked += picked >= taken
  return picked


def _draw_cast(draws, domain, original) -> _Cast:
  confusions = scenes_classes.CONFUSIONS[original]
  column = draws.below(confusions.shape[1])[:, None]
  other = np.take_along_axis(confusions, column, axis=1)[:, 0]
  picture = randomness.choose(draws.one(), PICTURE_SHARES).astype(np.int32)
  num_extras = randomness.choose(draws.one(), domain.extras)
  main = np.where(picture == MISLABELLED, other, original)
  first = _pick_other(draws, original, other)
  second = _pick_other(draws, original, other, first)
  plain = picture == PLAIN
  swapped = (draws.one() < SWAPPED_SHARE) & (num_extras > 0) & plain
  mixed = (draws.one() < MIXED_DOG_SHARE) & plain & ~swapped
  return _Cast(
    original=original,
    other=other,
    picture=picture,
    classes=np.stack(
      [
        np.where(swapped, first, main),
        np.where(swapped, original, first),
        second,
      ]
    ),
    present=np.arange(3)[:, None] <= num_extras,
    swapped=swapped,
    mixed=mixed & (original < scenes_classes.NUM_DOGS),
  )


def _place(draws, domain, cast) -> _Placement:
  """Places the main thing near the middle and the others beside it."""
  alone = ~cast.present[1]
  side = np.where(draws.one() < 0.5, -1, 1).astype(np.float32)
  radius = np.stack([draws.between(*domain.radius)] * 3)
  radius[1:] *= np.stack([draws.between(*domain.extra_radius) for _ in "12"])
  # The thing with the original label is never small.
  radius[1] = np.where(cast.swapped, np.maximum(radius[1], 0.36), radius[1])
  room = 1.0 - radius[0]
  shift = draws.between(-0.9, 0.9)
  x = np.stack(
    [
      np.where(alone, shift, side * (0.35 + 0.35 * shift)) * room,
      -side * draws.between(0.4, 0.8),
      draws.between(-0.8, 0.8),
    ]
  ).astype(np.float32)
  up = np.where(draws.one() < 0.5, -1, 1).astype(np.float32)
  y = np.stack(
    [
      draws.between(-0.8, 0.8) * room,
      draws.between(-0.6, 0.75),
      up * draws.between(0.45, 0.8),
    ]
  ).astype(np.float32)
  # A thing is in front only if it does not hide much of the main thing.
  hides = _overlap(x, y, radius, 0, 1), _overlap(x, y, radius, 0, 2)
  wanted = draws.take(2).T < 0.6
  front = np.stack(
    [
      np.zeros_like(alone),
      (wanted[0] & (hides[0] < 0.3)) | cast.swapped,
      wanted[1] & (hides[1] < 0.3) & ~cast.swapped,
    ]
  )
  visible = _visible(x, y, radius, front, cast.present)
  return _Placement(x, y, radius, front, visible)


def _overlap(x, y, radius, i, j) -> np.ndarray:
  """Returns float32 [B] in [0, 1], how far circle j reaches over circle i."""
  distance = np.sqrt((x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2)
  reach = radius[i] + radius[j] - distance
  return np.clip(reach / (2.0 * radius[i]), 0.0, 1.0)


def _layers(front) -> np.ndarray:
  """Returns int [3, B], different layers, MAIN_LAYER for the main thing."""
  order = np.arange(3)[:, None]
  return np.where(front, MAIN_LAYER + 4 - order, MAIN_LAYER - order)


def _visible(x, y, radius, front, present) -> np.ndarray:
  """Returns float32 [3, B], the approximate visible share of each thing."""
  layers = _layers(front)

  def inside(p):
    return np.clip((1.0 + radius - np.abs(p)) / (2 * radius), 0.0, 1.0)

  visible = inside(x) * inside(y)
  for i in range(3):
    for j in range(3):
      over = present[j] & (layers[j] > layers[i])
      visible[i] *= 1.0 - np.where(over, _overlap(x, y, radius, i, j), 0.0)
  return visible


def _assign_codes(draws, cast, placement) -> np.ndarray:
  """Returns int8 [B, K]; later reviews of a class replace earlier ones."""
  rows = np.arange(len(cast.original))
  codes = np.zeros((len(rows), scenes_classes.NUM_CLASSES), np.int8)

  def review(where, labels, code):
    codes[rows[where], labels[where]] = code

  for column in range(scenes_classes.CONFUSIONS.shape[1]):
    taken = draws.one() < REVIEWED_WRONG_SHARE
    wrong = scenes_classes.CONFUSIONS[cast.original, column]
    review(taken, wrong, annotations.WRONG)
  blended = cast.picture == BLENDED
  review(cast.picture == MISLABELLED, cast.original, annotations.WRONG)
  for slot in range(3):
    labels, seen = cast.classes[slot], placement.visible[slot]
    is_dog = labels < scenes_classes.NUM_DOGS
    enough = np.where(is_dog, CLEAR_DOG_RADIUS, CLEAR_RADIUS)
    clear = (seen >= CLEAR_VISIBLE) & (placement.radius[slot] >= enough)
    if slot == 0:
      clear[:] = True
    if slot == 1:
      clear |= cast.swapped
    listed = cast.present[slot] & (clear | (seen >= REVIEWED_VISIBLE))
    hidden = cast.present[slot] & ~listed
    review(hidden, labels, annotations.UNREVIEWED)
    review(listed & ~clear, labels, annotations.UNCLEAR)
    review(listed & clear, labels, annotations.CORRECT)
  review(blended, cast.original, annotations.UNCLEAR)
  review(blended | cast.mixed, cast.other, annotations.UNCLEAR)
  return codes


def _list_things(draws, domain, cast, placement) -> Things:
  clutter = _draw_clutter(draws, domain, len(cast.original))
  parts = [part for part, _ in clutter]
  exists = [present for _, present in clutter]
  layers = _layers(placement.front)
  rows = np.arange(len(cast.original), dtype=np.int32)

  def draw_pose():
    return {
      "half_turn": draws.between(-domain.tilt, domain.tilt),
      "flip": np.where(draws.one() < 0.5, -1, 1).astype(np.float32),
      "stretch": draws.between(0.86, 1.16),
      "traits": draws.take(NUM_TRAITS),
    }

  donated = draws.below(len(organisms.DOG_TRAITS))
  for slot in range(3):
    mixed = cast.mixed & (slot == 0)
    parts.append(
      Things(
        example=rows,
        layer=layers[slot],
        kind=cast.classes[slot],
        donor=np.where(mixed, cast.other, cast.classes[slot]),
        donated=np.where(mixed, donated, 0),
        x=placement.x[slot],
        y=placement.y[slot],
        radius=placement.radius[slot],
        opacity=np.ones(len(rows), np.float32),
        **draw_pose(),
      )
    )
    exists.append(cast.present[slot])
  blend = dataclasses.replace(
    parts[-3],
    layer=np.full(len(rows), MAIN_LAYER + 1),
    kind=cast.other,
    donor=cast.other,
    donated=np.zeros(len(rows), np.int32),
    opacity=np.full(len(rows), 0.5, np.float32),
    **draw_pose(),
  )
  parts.append(blend)
  exists.append(cast.picture == BLENDED)
  joined = [
    np.concatenate([getattr(part, field.name) for part in parts])
    for field in dataclasses.fields(Things)
  ]
  return Things(*joined).select(np.concatenate(exists))


def _draw_clutter(draws, domain, count):
  """Returns MAX_CLUTTER pairs of Things [B] and bool [B], which are drawn."""
  number = draws.between(*domain.clutter)
  rows = np.arange(count, dtype=np.int32)
  parts = []
  for layer in range(MAX_CLUTTER):
    kind = scenes_classes.NUM_CLASSES + draws.below(scenes_classes.NUM_CLUTTER)
    thing = Things(
      example=rows,
      layer=np.full(count, layer - MAX_CLUTTER),
      kind=kind,
      donor=kind,
      donated=np.zeros(count, np.int32),
      x=draws.between(-0.95, 0.95),
      y=draws.between(-0.95, 0.95),
      radius=draws.between(0.06, 0.24),
      half_turn=draws.between(-1.0, 1.0),
      flip=np.ones(count, np.float32),
      stretch=np.ones(count, np.float32),
      opacity=np.ones(count, np.float32),
      traits=np.concatenate([draws.take(5)] * 2, axis=1)[:, :NUM_TRAITS],
    )
    parts.append((thing, layer + 0.5 < number))
  return parts
