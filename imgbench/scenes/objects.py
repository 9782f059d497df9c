"""Draws the objects of `scenes`, each in the frame [-1, 1]^2.

See `organisms` for the arguments. Clutter, which has no class (stones, sticks,
scraps of paper), is drawn here, too.
"""

import numpy as np

from imgbench.scenes import pen as scenes_pen

hsv, INK, WHITE = scenes_pen.hsv, scenes_pen.INK, scenes_pen.WHITE

GLASS = scenes_pen.fixed_hsv(0.55, 0.3, 0.85)
WOOD = scenes_pen.fixed_hsv(0.08, 0.55, 0.5)
LAMP_LIGHT = scenes_pen.fixed_hsv(0.14, 0.35, 1.0)
HEADLIGHT = scenes_pen.fixed_hsv(0.15, 0.5, 1.0)


def _pick_paint(traits) -> np.ndarray:
  """Returns the colour of a painted thing, with any hue."""
  return hsv(traits[0], 0.3 + 0.65 * traits[1], 0.45 + 0.5 * traits[2])


def _pick_second_paint(traits) -> np.ndarray:
  return hsv(traits[3], 0.2 + 0.6 * traits[1], 0.5 + 0.5 * traits[4])


def draw_mug(pen, traits):
  """A mug with its handle to the right."""
  body, band = _pick_paint(traits), _pick_second_paint(traits)
  width = 0.46 + 0.1 * traits[5]
  pen.shadow(0.0, 0.76, 0.8, 0.16)
  pen.ring(width - 0.06, 0.02, 0.34, 0.09, body * 0.85)
  pen.box(-0.12, 0.05, width, 0.68, body, rounding=0.1)
  pen.box(
    -0.12, 0.05, width, 0.16, np.where(traits[6] < 0.6, band, body), edge=0.0
  )
  pen.ellipse(-0.12, -0.6, width, 0.14, np.minimum(body * 1.2, 1.0))
  pen.ellipse(
    -0.12,
    -0.59,
    width - 0.08,
    0.09,
    hsv(0.07, np.float32(0.6), 0.2 + 0.3 * traits[7]),
    edge=0.0,
  )


def draw_lamp(pen, traits):
  """A table lamp."""
  shade = _pick_paint(traits)
  foot = hsv(traits[3], 0.3 * traits[1], 0.25 + 0.4 * traits[4])
  top = 0.2 + 0.14 * traits[5]
  pen.shadow(0.0, 0.86, 0.6, 0.14)
  pen.line(0.0, 0.0, 0.0, 0.8, 0.06, foot)
  pen.ellipse(0.0, 0.8, 0.4, 0.13, foot)
  pen.ellipse(0.0, 0.48, 0.12, 0.12, foot)
  lit = np.where(traits[6] < 0.5, np.float32(0.45), np.float32(0.0))
  shade = shade + (LAMP_LIGHT - shade) * lit
  pen.polygon([(-top, -0.9), (top, -0.9), (0.72, 0.12), (-0.72, 0.12)], shade)
  pen.box(0.0, 0.06, 0.68, 0.05, shade * 0.65, inside=True, edge=0.0)


def draw_ball(pen, traits):
  """A ball of two colours with a highlight."""
  one, two = _pick_paint(traits), _pick_second_paint(traits)
  pen.shadow(0.0, 0.82, 0.66, 0.16)
  pen.ellipse(0.0, 0.0, 0.82, 0.82, one, edge=0.4)
  pen.ellipse(0.0, 0.0, 0.34, 0.8, two, half_turn=0.3, edge=0.0)
  pen.ellipse(0.0, 0.0, 0.1, 0.8, one * 0.8, half_turn=0.3, edge=0.0)
  pen.ellipse(-0.3, -0.36, 0.15, 0.12, WHITE, edge=0.0)


def draw_car(pen, traits):
  """A car seen from the side."""
  body = _pick_paint(traits)
  roof = -0.48 - 0.14 * traits[5]
  back = -0.62 - 0.2 * traits[6]
  pen.shadow(0.0, 0.56, 0.95, 0.14)
  pen.polygon([(-0.4, roof), (0.2, roof), (0.55, 0.0), (back, 0.0)], body)
  pen.polygon(
    [(-0.38, roof + 0.12), (-0.12, roof + 0.12), (-0.12, -0.06), (-0.6, -0.06)],
    GLASS,
    edge=0.1,
  )
  pen.polygon(
    [(-0.02, roof + 0.12), (0.14, roof + 0.12), (0.38, -0.06), (-0.02, -0.06)],
    GLASS,
    edge=0.1,
  )
  pen.box(0.0, 0.16, 0.95, 0.24, body, rounding=0.14)
  pen.ellipse(0.86, 0.1, 0.08, 0.09, HEADLIGHT, edge=0.0)
  for x in (-0.52, 0.52):
    pen.ellipse(x, 0.38, 0.24, 0.24, INK + 0.06, edge=0.0)
    pen.ellipse(x, 0.38, 0.11, 0.11, WHITE * 0.75, edge=0.2)


def draw_house(pen, traits):
  """A house with a door, a window and a chimney."""
  wall = hsv(traits[0], 0.08 + 0.4 * traits[1], 0.65 + 0.33 * traits[2])
  roof = hsv(traits[3], 0.35 + 0.5 * traits[1], 0.3 + 0.4 * traits[4])
  door = hsv(traits[5], np.float32(0.55), 0.3 + 0.4 * traits[6])
  pen.shadow(0.0, 0.86, 0.85, 0.12)
  pen.box(0.42, -0.62, 0.1, 0.28, roof * 0.8)
  pen.box(0.0, 0.38, 0.66, 0.48, wall)
  top = -0.8 - 0.14 * traits[7]
  pen.polygon([(0.0, top), (0.92, -0.06), (-0.92, -0.06)], roof)
  pen.box(-0.26, 0.52, 0.17, 0.33, door, edge=0.2)
  pen.box(0.3, 0.34, 0.2, 0.2, WHITE, edge=0.0)
  pen.box(0.3, 0.34, 0.15, 0.15, GLASS * 0.8, edge=0.0)
  pen.box(0.3, 0.34, 0.03, 0.15, WHITE, edge=0.0)


def draw_ladder(pen, traits):
  """A ladder of five rungs."""
  wood = hsv(
    0.02 + 0.12 * traits[0], 0.15 + 0.6 * traits[1], 0.4 + 0.5 * traits[2]
  )
  foot, head = 0.4 + 0.12 * traits[3], 0.3 + 0.1 * traits[4]
  for y in (-0.7, -0.36, -0.02, 0.32, 0.66):
    reach = head + (foot - head) * (y + 0.95) / 1.9
    pen.line(-reach, y, reach, y, 0.055, wood * 0.85, edge=0.2)
  for side in (-1.0, 1.0):
    pen.line(side * head, -0.95, side * foot, 0.95, 0.075, wood)


def draw_umbrella(pen, traits):
  """An open umbrella."""
  one, two = _pick_paint(traits), _pick_second_paint(traits)
  two = np.where(traits[5] < 0.6, two, one * 0.85)
  handle = hsv(0.07, 0.5 * traits[6], 0.2 + 0.3 * traits[7])
  pen.ring(0.14, 0.76, 0.14, 0.05, handle)
  pen.box(0.16, 0.6, 0.22, 0.15, INK, erase=True)
  pen.line(0.0, -0.9, 0.0, 0.78, 0.045, handle)
  pen.ellipse(0.0, 0.06, 0.94, 0.88, one, floor=0.04)
  pen.ellipse(0.0, 0.06, 0.42, 0.86, two, floor=0.04, edge=0.1)
  for x in (-0.68, 0.0, 0.68):
    pen.ellipse(x, 0.09, 0.26, 0.13, INK, erase=True)
  pen.line(0.0, -0.06, 0.0, 0.5, 0.045, handle)


def draw_clock(pen, traits):
  """A round clock."""
  rim = _pick_paint(traits)
  face = hsv(traits[3], 0.15 * traits[1], 0.85 + 0.15 * traits[4])
  hand = INK + 0.1
  pen.ellipse(0.0, 0.0, 0.88, 0.88, rim)
  pen.ellipse(0.0, 0.0, 0.7, 0.7, face, edge=0.1)
  for x, y in ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)):
    pen.line(x * 0.52, y * 0.52, x * 0.62, y * 0.62, 0.045, hand, edge=0.0)
  for trait, reach, width in ((traits[5], 0.3, 0.06), (traits[6], 0.5, 0.045)):
    # The diamond |x| + |y| = 1 stands in for the circle: no sine is needed.
    x = np.abs(trait * 4.0 - 2.0) - 1.0
    y = 1.0 - np.abs(x)
    y = np.where(trait < 0.5, y, -y)
    norm = np.sqrt(x * x + y * y)
    pen.line(
      0.0, 0.0, x / norm * reach, y / norm * reach, width, hand, edge=0.0
    )
  pen.ellipse(0.0, 0.0, 0.08, 0.08, hand, edge=0.0)


def draw_sailboat(pen, traits):
  """A boat with two sails."""
  hull, trim = _pick_paint(traits), _pick_second_paint(traits)
  sail = hsv(traits[3], 0.3 * traits[5], 0.82 + 0.18 * traits[4])
  boom = 0.24 + 0.06 * traits[6]
  pen.line(0.0, -0.92, 0.0, 0.5, 0.045, WOOD)
  pen.polygon([(0.08, -0.86), (0.74, boom), (0.08, boom)], sail)
  pen.polygon(
    [(-0.08, -0.7), (-0.08, boom), (-0.58, boom)],
    np.where(traits[7] < 0.5, sail, trim),
  )
  pen.polygon([(-0.9, 0.42), (0.94, 0.42), (0.6, 0.84), (-0.62, 0.84)], hull)
  pen.box(
    0.0,
    0.48,
    0.9,
    0.06,
    np.minimum(hull * 0.4 + 0.5, 1.0),
    inside=True,
    edge=0.0,
  )


def draw_chair(pen, traits):
  """A chair with a slatted back, seen from the side."""
  wood = hsv(traits[0], 0.2 + 0.6 * traits[1], 0.35 + 0.5 * traits[2])
  seat = _pick_second_paint(traits)
  depth = 0.42 + 0.12 * traits[5]
  pen.shadow(0.0, 0.92, 0.7, 0.1)
  pen.line(-0.3, 0.2, -0.3, 0.8, 0.06, wood * 0.6)
  pen.line(depth - 0.12, 0.2, depth - 0.12, 0.8, 0.06, wood * 0.6)
  pen.line(-0.46, 0.2, -0.5, 0.92, 0.08, wood)
  pen.line(depth, 0.2, depth + 0.04, 0.92, 0.08, wood)
  pen.line(-0.46, 0.2, -0.56, -0.92, 0.08, wood)
  pen.line(-0.16, 0.1, -0.22, -0.8, 0.07, wood * 0.85)
  for y in (-0.72, -0.42, -0.12):
    pen.line(-0.5, y, -0.2, y + 0.06, 0.06, wood, edge=0.2)
  pen.box(0.02, 0.14, depth + 0.08, 0.1, seat, rounding=0.06)


def draw_bottle(pen, traits):
  """A bottle with a label and a cap."""
  glass = hsv(traits[0], 0.3 + 0.6 * traits[1], 0.35 + 0.5 * traits[2])
  label = _pick_second_paint(traits)
  width = 0.3 + 0.1 * traits[5]
  neck = 0.11 + 0.04 * traits[6]
  pen.shadow(0.0, 0.9, 0.5, 0.12)
  pen.box(0.0, -0.6, neck, 0.34, glass)
  pen.ellipse(0.0, -0.06, width, 0.3, glass, edge=0.2)
  pen.box(0.0, 0.4, width, 0.52, glass, rounding=0.1)
  pen.box(0.0, -0.88, neck + 0.04, 0.1, label * 0.7)
  pen.box(0.0, 0.38, width, 0.22, np.minimum(label * 0.6 + 0.4, 1.0), edge=0.1)
  pen.line(
    -width * 0.6,
    -0.02,
    -width * 0.6,
    0.8,
    0.035,
    np.minimum(glass * 0.5 + 0.5, 1.0),
    edge=0.0,
  )


def draw_envelope(pen, traits):
  """A closed envelope with a seal or a stamp."""
  paper = hsv(traits[0], 0.05 + 0.4 * traits[1], 0.72 + 0.28 * traits[2])
  mark = hsv(traits[3], np.float32(0.75), 0.5 + 0.4 * traits[4])
  height = 0.54 + 0.1 * traits[5]
  pen.box(0.0, 0.0, 0.92, height, paper, edge=0.35)
  pen.line(-0.86, height - 0.08, -0.2, 0.02, 0.03, paper * 0.6, edge=0.0)
  pen.line(0.86, height - 0.08, 0.2, 0.02, 0.03, paper * 0.6, edge=0.0)
  pen.polygon(
    [(-0.9, -height + 0.02), (0.9, -height + 0.02), (0.0, 0.16)],
    paper * 0.93,
    edge=0.45,
  )
  pen.ellipse(0.0, 0.1, 0.13, 0.13, mark)


def draw_stone(pen, traits):
  """A pebble: clutter."""
  grey = hsv(traits[0], 0.25 * traits[1], 0.25 + 0.55 * traits[2])
  pen.ellipse(0.0, 0.0, 0.9, 0.5 + 0.4 * traits[3], grey)


def draw_stick(pen, traits):
  """A stick: clutter."""
  pen.line(
    -0.9,
    0.0,
    0.9,
    0.3 * (traits[3] - 0.5),
    0.08 + 0.12 * traits[4],
    _pick_paint(traits) * 0.8,
  )


def draw_tile(pen, traits):
  """A scrap of paper: clutter."""
  pen.polygon(
    [
      (-0.8, -0.6),
      (0.7, -0.7 + 0.3 * traits[3]),
      (0.8, 0.6),
      (-0.6, 0.7 - 0.3 * traits[4]),
    ],
    _pick_paint(traits),
    edge=0.15,
  )


DRAWINGS = {
  "mug": draw_mug,
  "lamp": draw_lamp,
  "ball": draw_ball,
  "car": draw_car,
  "house": draw_house,
  "ladder": draw_ladder,
  "umbrella": draw_umbrella,
  "clock": draw_clock,
  "sailboat": draw_sailboat,
  "chair": draw_chair,
  "bottle": draw_bottle,
  "envelope": draw_envelope,
}
CLUTTER = (draw_stone, draw_stick, draw_tile)
