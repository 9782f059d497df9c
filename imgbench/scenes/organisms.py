"""Draws the organisms of `scenes`, each in the frame [-1, 1]^2.

A drawing gets a pen and `traits`, float32 [T, n, 1, 1] in [0, 1), which vary
between things of one class.
"""

import dataclasses

import numpy as np

from imgbench.scenes import pen as scenes_pen

hsv, INK, WHITE = scenes_pen.hsv, scenes_pen.INK, scenes_pen.WHITE

# Traits that a mixed-breed dog may have from its other breed.
DOG_TRAITS = ("ear", "tail", "pattern")


@dataclasses.dataclass(frozen=True)
class Breed:
  """Look of a breed of dogs; hue, saturation and value are (low, high)."""

  ear: str
  tail: str
  pattern: str
  leg: float
  hue: tuple[float, float]
  saturation: tuple[float, float]
  value: tuple[float, float]


BREEDS = {
  "husky": Breed(
    "pointed", "curled", "saddle", 0.5, (0.55, 0.68), (0.0, 0.2), (0.6, 0.9)
  ),
  "shepherd": Breed(
    "pointed", "bushy", "saddle", 0.5, (0.06, 0.1), (0.25, 0.6), (0.5, 0.8)
  ),
  "corgi": Breed(
    "pointed", "stub", "bib", 0.34, (0.05, 0.1), (0.4, 0.7), (0.6, 0.9)
  ),
  "beagle": Breed(
    "floppy", "raised", "patches", 0.44, (0.07, 0.12), (0.0, 0.2), (0.8, 1.0)
  ),
  "dalmatian": Breed(
    "floppy", "raised", "spots", 0.52, (0.07, 0.12), (0.0, 0.12), (0.82, 1.0)
  ),
  "retriever": Breed(
    "floppy", "bushy", "plain", 0.5, (0.07, 0.13), (0.2, 0.6), (0.6, 0.95)
  ),
}
ANY_COAT = ((0.04, 0.13), (0.0, 0.6), (0.4, 1.0))
ANY_COAT_SHARE = 0.3


def _between(low_high, share):
  return low_high[0] + (low_high[1] - low_high[0]) * share


def _pick_coat(breed: Breed, traits) -> np.ndarray:
  """Returns a coat of the breed, or of any breed for a share of the dogs."""
  common = traits[3] < ANY_COAT_SHARE
  ranges = zip(
    (breed.hue, breed.saturation, breed.value),
    ANY_COAT,
    traits[:3],
    strict=True,
  )
  return hsv(
    *(
      np.where(common, _between(every, share), _between(own, share))
      for own, every, share in ranges
    )
  )


def draw_dog(pen, traits, breed: Breed):
  """A dog seen from the side, looking to the right."""
  coat = _pick_coat(breed, traits)
  dark = coat * (0.25 + 0.2 * traits[4])
  leg = breed.leg + 0.1 * (traits[5] - 0.5)
  ground = 0.26 + leg
  pen.shadow(-0.05, ground, 0.75, 0.16)
  far = coat * 0.75
  pen.line(-0.42, 0.15, -0.36, ground, 0.1, far, end_width=0.07)
  pen.line(0.22, 0.15, 0.3, ground, 0.1, far, end_width=0.07)
  _draw_tail(pen, traits, breed, coat, dark)
  pen.line(-0.5, 0.12, -0.54, ground, 0.15, coat, end_width=0.08)
  pen.line(0.16, 0.12, 0.14, ground, 0.13, coat, end_width=0.08)
  pen.line(-0.42, 0.02, 0.18, 0.04, 0.25, coat, end_width=0.28)
  pen.line(0.2, -0.02, 0.44, -0.42, 0.2, coat, end_width=0.17)
  _draw_pattern(pen, traits, breed, coat, dark)
  muzzle = WHITE if breed.pattern == "bib" else coat * 1.08
  if breed.ear == "pointed":
    pen.polygon([(0.44, -0.62), (0.6, -0.98), (0.68, -0.6)], coat * 0.55)
  pen.ellipse(0.48, -0.5, 0.25, 0.23, coat)
  pen.line(
    0.6, -0.44, 0.82, -0.39, 0.12, np.minimum(muzzle, 1.0), end_width=0.1
  )
  pen.ellipse(0.91, -0.44, 0.065, 0.055, INK, edge=0.0)
  pen.ellipse(0.57, -0.56, 0.045, 0.05, INK, edge=0.0)
  _draw_ear(pen, traits, breed, coat, dark)


def _draw_ear(pen, traits, breed, coat, dark):
  colour = (
    dark if breed.pattern in ("saddle", "spots", "patches") else (coat * 0.72)
  )
  lean = 0.12 * (traits[6] - 0.5)
  if breed.ear == "pointed":
    pen.polygon(
      [(0.26, -0.56), (0.3 + lean, -0.98), (0.54, -0.68)], colour, edge=0.2
    )
  else:
    pen.line(0.36, -0.62, 0.26 + lean, -0.28, 0.1, colour, end_width=0.13)


def _draw_tail(pen, traits, breed, coat, dark):
  lean = 0.2 * (traits[7] - 0.5)
  if breed.tail == "curled":
    pen.ring(-0.66, -0.3 + 0.5 * lean, 0.16, 0.07, coat)
    pen.line(-0.6, 0.0, -0.78, -0.2, 0.08, coat)
  elif breed.tail == "bushy":
    pen.line(-0.62, 0.0, -0.9, 0.36 + lean, 0.08, coat * 0.9, end_width=0.13)
  elif breed.tail == "raised":
    pen.line(
      -0.62, -0.02, -0.88 + 0.5 * lean, -0.52, 0.07, coat, end_width=0.05
    )
    tip = dark if breed.pattern == "spots" else WHITE
    pen.ellipse(-0.88 + 0.5 * lean, -0.52, 0.07, 0.08, tip)
  else:
    pen.ellipse(-0.7, -0.1 + lean, 0.1, 0.09, coat)


def _draw_pattern(pen, traits, breed, coat, dark):
  shift = 0.16 * (traits[8] - 0.5)
  if breed.pattern == "saddle":
    pen.ellipse(-0.18 + shift, -0.16, 0.5, 0.17, dark, inside=True, edge=0.0)
    pale = np.minimum(coat * 1.35, 1.0)
    pen.ellipse(-0.1, 0.3, 0.36, 0.1, pale, inside=True, edge=0.0)
  elif breed.pattern == "bib":
    pen.ellipse(0.34, 0.02, 0.15, 0.3, WHITE, inside=True, edge=0.0)
    pen.box(0.0, 0.26 + breed.leg, 0.7, 0.14, WHITE, inside=True, edge=0.0)
  elif breed.pattern == "patches":
    brown = hsv(0.06, np.float32(0.65), 0.3 + 0.3 * traits[4])
    pen.ellipse(-0.3 + shift, -0.1, 0.3, 0.22, dark, inside=True, edge=0.0)
    pen.ellipse(0.32 + shift, -0.2, 0.17, 0.24, brown, inside=True, edge=0.0)
  elif breed.pattern == "spots":
    for x, y, size in (
      (-0.5, 0.0, 0.09),
      (-0.28, -0.1, 0.08),
      (-0.18, 0.14, 0.09),
      (0.02, -0.06, 0.09),
      (0.2, 0.14, 0.08),
      (0.32, -0.22, 0.08),
      (-0.5, 0.36, 0.06),
      (0.15, 0.42, 0.06),
    ):
      pen.ellipse(x + shift, y, size, size, dark, inside=True, edge=0.0)


def draw_bird(pen, traits):
  """A songbird seen from the side."""
  hue = traits[0]
  body = hsv(hue, 0.35 + 0.5 * traits[1], 0.5 + 0.45 * traits[2])
  wing = hsv(hue + 0.06, 0.5 + 0.4 * traits[1], 0.35 + 0.3 * traits[2])
  beak = hsv(0.1, np.float32(0.85), 0.8 + 0.2 * traits[3])
  pen.line(-0.08, 0.5, -0.1, 0.9, 0.04, beak * 0.7)
  pen.line(0.12, 0.5, 0.14, 0.9, 0.04, beak * 0.7)
  tilt = 0.15 * (traits[4] - 0.5)
  pen.polygon(
    [(-0.45, 0.1), (-0.3, 0.34), (-0.96, 0.5 + tilt), (-1.0, 0.26 + tilt)],
    wing,
  )
  pen.ellipse(-0.02, 0.18, 0.52, 0.42, body)
  pen.ellipse(
    0.12,
    0.36,
    0.32,
    0.22,
    np.minimum(body * 0.4 + 0.6, 1.0),
    edge=0.0,
    inside=True,
  )
  pen.polygon([(0.62, -0.5), (0.98, -0.34), (0.62, -0.24)], beak)
  pen.ellipse(0.4, -0.36, 0.31, 0.3, body)
  pen.ellipse(0.5, -0.42, 0.06, 0.06, INK, edge=0.0)
  pen.ellipse(-0.16, 0.14, 0.38, 0.22, wing, half_turn=0.12)


def draw_fish(pen, traits):
  """A fish with a forked tail and, often, stripes."""
  hue = traits[0]
  body = hsv(hue, 0.4 + 0.55 * traits[1], 0.6 + 0.4 * traits[2])
  fin = hsv(hue + 0.08, 0.6 + 0.3 * traits[1], 0.5 + 0.35 * traits[2])
  height = 0.38 + 0.12 * traits[3]
  pen.polygon([(-0.4, 0.0), (-0.98, -0.02), (-0.92, -0.5)], fin)
  pen.polygon([(-0.4, 0.0), (-0.92, 0.5), (-0.98, 0.02)], fin)
  pen.polygon([(-0.35, -0.2), (-0.1, -height - 0.26), (0.4, -0.2)], fin)
  pen.polygon([(-0.1, 0.2), (0.15, 0.25), (-0.1, height + 0.2)], fin)
  pen.ellipse(0.2, 0.0, 0.74, height, body)
  stripe = np.where(traits[4] < 0.6, np.minimum(body * 0.3 + 0.65, 1.0), body)
  pen.box(0.2, 0.0, 0.07, 0.6, stripe, inside=True, edge=0.0)
  pen.box(-0.14, 0.0, 0.07, 0.6, stripe, inside=True, edge=0.0)
  pen.ellipse(0.26, 0.12, 0.15, 0.08, fin, half_turn=0.2)
  pen.ellipse(0.62, -0.1, 0.11, 0.11, WHITE, edge=0.1)
  pen.ellipse(0.64, -0.1, 0.06, 0.06, INK, edge=0.0)
  pen.line(0.78, 0.16, 0.9, 0.1, 0.025, INK, inside=True, edge=0.0)


def draw_frog(pen, traits):
  """A frog seen from the front."""
  hue = 0.2 + 0.22 * traits[0]
  skin = hsv(hue, 0.45 + 0.45 * traits[1], 0.4 + 0.45 * traits[2])
  belly = np.minimum(skin * 0.5 + 0.45, 1.0)
  for side in (-1.0, 1.0):
    pen.ellipse(side * 0.66, 0.48, 0.3, 0.36, skin * 0.85, half_turn=side * 0.2)
    pen.ellipse(side * 0.7, 0.84, 0.28, 0.1, skin * 0.8)
  pen.ellipse(0.0, 0.4, 0.56, 0.52, skin)
  pen.ellipse(0.0, 0.56, 0.36, 0.34, belly, edge=0.0, inside=True)
  for side in (-1.0, 1.0):
    pen.line(
      side * 0.3, 0.5, side * 0.3, 0.86, 0.09, skin * 0.9, end_width=0.11
    )
    pen.ellipse(side * 0.4, -0.56, 0.24, 0.24, skin)
  pen.ellipse(0.0, -0.2, 0.68, 0.42, skin)
  for side in (-1.0, 1.0):
    pen.ellipse(side * 0.4, -0.6, 0.16, 0.16, WHITE, edge=0.1)
    pen.ellipse(side * 0.4, -0.58, 0.07, 0.1, INK, edge=0.0)
  mouth = 0.02 + 0.06 * traits[3]
  pen.line(-0.46, -0.12, 0.0, mouth, 0.035, skin * 0.3, edge=0.0)
  pen.line(0.0, mouth, 0.46, -0.12, 0.035, skin * 0.3, edge=0.0)


def draw_butterfly(pen, traits):
  """A butterfly with open wings."""
  hue = traits[0]
  upper = hsv(hue, 0.55 + 0.4 * traits[1], 0.65 + 0.35 * traits[2])
  lower = hsv(
    hue + 0.2 * (traits[3] - 0.5), 0.6 + 0.3 * traits[1], 0.5 + 0.4 * traits[2]
  )
  dot = np.minimum(upper * 0.3 + 0.65, 1.0)
  spread = 0.08 * traits[4]
  for side in (-1.0, 1.0):
    pen.ellipse(
      side * 0.42,
      0.42,
      0.36,
      0.42 + spread,
      lower,
      edge=0.6,
      half_turn=side * -0.25,
    )
    pen.ellipse(
      side * 0.5,
      -0.3,
      0.52,
      0.38 + spread,
      upper,
      edge=0.6,
      half_turn=side * -0.3,
    )
    pen.ellipse(side * 0.62, -0.4, 0.14, 0.14, dot, edge=0.0)
    pen.ellipse(side * 0.45, 0.5, 0.1, 0.1, dot, edge=0.0)
    pen.line(0.0, -0.5, side * 0.26, -0.95, 0.03, INK, edge=0.0)
  pen.line(0.0, -0.46, 0.0, 0.6, 0.09, INK + 0.1, end_width=0.06)


# tan(angle / 2) of the directions of a flower's petals, and the directions.
_PETALS = (
  (0.0, 1.0, 0.0),
  (0.41421356, 0.70710678, 0.70710678),
  (1.0, 0.0, 1.0),
  (2.41421356, -0.70710678, 0.70710678),
)


def draw_daisy(pen, traits):
  """A daisy on its stem."""
  petal = hsv(traits[0], 0.06 + 0.3 * traits[1], 0.86 + 0.14 * traits[2])
  heart = hsv(0.1 + 0.06 * traits[3], np.float32(0.85), 0.75 + 0.2 * traits[2])
  green = hsv(0.28 + 0.1 * traits[4], np.float32(0.65), 0.35 + 0.3 * traits[5])
  bend = 0.3 * (traits[6] - 0.5)
  pen.line(0.0, -0.2, bend, 0.95, 0.055, green)
  pen.ellipse(bend - 0.26, 0.62, 0.28, 0.1, green, half_turn=0.25)
  pen.ellipse(bend + 0.28, 0.5, 0.28, 0.1, green, half_turn=-0.25)
  for half_turn, cos, sin in _PETALS:
    for side in (-1.0, 1.0):
      pen.ellipse(
        side * cos * 0.42,
        side * sin * 0.42 - 0.3,
        0.28,
        0.15,
        petal,
        half_turn=half_turn,
      )
  pen.ellipse(0.0, -0.3, 0.22, 0.22, heart)


def draw_mushroom(pen, traits):
  """A toadstool with dots on its cap."""
  cap = hsv(
    -0.04 + 0.14 * traits[0], 0.5 + 0.45 * traits[1], 0.45 + 0.5 * traits[2]
  )
  stem = hsv(0.1, 0.08 + 0.2 * traits[3], 0.8 + 0.18 * traits[4])
  width = 0.17 + 0.1 * traits[5]
  pen.shadow(0.0, 0.88, 0.55, 0.14)
  pen.line(0.0, -0.1, 0.0, 0.74, width, stem, end_width=width + 0.05)
  pen.ellipse(0.0, 0.04, 0.74, 0.16, stem * 0.72)
  pen.ellipse(0.0, 0.06, 0.86, 0.82 + 0.12 * traits[6], cap, floor=0.08)
  dot = np.where(traits[7] < 0.75, np.minimum(cap * 0.15 + 0.84, 1.0), cap)
  for x, y, size in (
    (-0.42, -0.2, 0.13),
    (0.05, -0.45, 0.14),
    (0.44, -0.16, 0.12),
    (0.02, -0.08, 0.1),
  ):
    pen.ellipse(x, y, size, size * 0.85, dot, inside=True, edge=0.0)


DRAWINGS = {
  "bird": draw_bird,
  "fish": draw_fish,
  "frog": draw_frog,
  "butterfly": draw_butterfly,
  "daisy": draw_daisy,
  "mushroom": draw_mushroom,
}
