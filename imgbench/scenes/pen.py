"""A pen that draws one shape on many small canvases at once, with NumPy.

Pixels depend on +, -, *, /, sqrt, comparisons and clipping only, in float32.
These round the same everywhere, so an image does not depend on the platform or
on the other images that are drawn at the same time.
"""

import numpy as np

EDGE_WIDTH = 0.1  # of the shading at the rim, in units of the frame


def hsv(hue, saturation, value) -> np.ndarray:
  """Returns float32 [3, ...] red, green, blue in [0, 1].

  Args:
    hue: in turns, any real number; arguments broadcast against each other.
    saturation: in [0, 1].
    value: in [0, 1].
  """
  channels = []
  for offset in (5.0, 3.0, 1.0):
    k = (offset + np.asarray(hue, np.float32) * 6.0) % 6.0
    weight = np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)
    channels.append(value - value * saturation * weight)
  return np.stack(np.broadcast_arrays(*channels)).astype(np.float32)


def fixed_hsv(hue: float, saturation: float, value: float) -> np.ndarray:
  """Returns a colour for all things, float32 [3, 1, 1, 1]."""
  colour = hsv(hue, np.float32(saturation), np.float32(value))
  return colour.reshape(3, 1, 1, 1)


INK = fixed_hsv(0.0, 0.0, 0.1)
WHITE = fixed_hsv(0.1, 0.04, 0.96)


class Pen:
  """Draws n things of one kind into n square windows.

  Each thing has its frame, [-1, 1] in both axes, x to the right and y down,
  which is scaled, rotated, mirrored and moved into the window. Numbers in
  methods are frame units, and either a float or float32 [n, 1, 1]. Colours
  are float32 [3, n, 1, 1] or [3, 1, 1, 1] in [0, 1].

  Attributes:
    rgb: float32 [3, n, size, size], multiplied by alpha.
    alpha: float32 [n, size, size], coverage of the thing.
  """

  def __init__(self, size, x, y, radius, half_turn, flip, stretch):
    """Places the frames.

    Args:
      size: of the windows, in pixels.
      x: float32 [n], centre of each frame in the window, in pixels.
      y: float32 [n].
      radius: float32 [n], half the side of the frame, in pixels.
      half_turn: float32 [n], tan(angle / 2), which needs no sine.
      flip: float32 [n], 1 or -1 (mirrored).
      stretch: float32 [n], width of the frame over its height.
    """
    wide = lambda values: np.asarray(values, np.float32)[:, None, None]
    half_turn = wide(half_turn)
    norm = 1.0 + half_turn * half_turn
    self._cos = (1.0 - half_turn * half_turn) / norm
    self._sin = 2.0 * half_turn / norm
    self._x, self._y, self._radius = wide(x), wide(y), wide(radius)
    self._across = wide(flip) * wide(stretch)
    self._size = size
    centres = np.arange(size, dtype=np.float32) + np.float32(0.5)
    right = (centres[None, None, :] - self._x) / self._radius
    down = (centres[None, :, None] - self._y) / self._radius
    self._u = (self._cos * right + self._sin * down) / self._across
    self._v = self._cos * down - self._sin * right
    self.rgb = np.zeros((3, *self._u.shape), np.float32)
    self.alpha = np.zeros(self._u.shape, np.float32)

  def ellipse(self, x, y, rx, ry, colour, half_turn=0.0, floor=None, **paint):
    """Paints an ellipse, or its part above the height `floor`."""
    wide = high = np.maximum(rx, ry)
    if half_turn == 0.0:
      wide, high = rx, ry
    region = self._region(x - wide, x + wide, y - high, y + high)
    u, v = self._u[region] - x, self._v[region] - y
    if half_turn != 0.0:
      norm = 1.0 + half_turn * half_turn
      cos, sin = (1.0 - half_turn * half_turn) / norm, 2.0 * half_turn / norm
      u, v = cos * u + sin * v, cos * v - sin * u
    distance = np.sqrt(np.square(u / rx) + np.square(v / ry)) - 1.0
    distance *= np.minimum(rx, ry)
    if floor is not None:
      distance = np.maximum(distance, self._v[region] - floor)
    self._paint(region, distance, colour, **paint)

  def ring(self, x, y, radius, width, colour, **paint):
    """Paints a circle line; `width` is half the thickness."""
    reach = radius + width
    region = self._region(x - reach, x + reach, y - reach, y + reach)
    u, v = self._u[region] - x, self._v[region] - y
    distance = np.abs(np.sqrt(u * u + v * v) - radius) - width
    self._paint(region, distance, colour, **paint)

  def line(self, x0, y0, x1, y1, width, colour, end_width=None, **paint):
    """Paints a round-ended line; widths are half the thickness at its ends."""
    end_width = width if end_width is None else end_width
    reach = np.maximum(width, end_width)
    region = self._region(
      np.minimum(x0, x1) - reach,
      np.maximum(x0, x1) + reach,
      np.minimum(y0, y1) - reach,
      np.maximum(y0, y1) + reach,
    )
    u, v = self._u[region] - x0, self._v[region] - y0
    run, rise = x1 - x0, y1 - y0
    along = (u * run + v * rise) / (run * run + rise * rise)
    np.clip(along, 0.0, 1.0, out=along)
    u = u - along * run
    v = v - along * rise
    distance = np.sqrt(u * u + v * v) - (width + along * (end_width - width))
    self._paint(region, distance, colour, **paint)

  def box(self, x, y, half_width, half_height, colour, rounding=0.0, **paint):
    """Paints an upright rectangle with corners of radius `rounding`."""
    region = self._region(
      x - half_width, x + half_width, y - half_height, y + half_height
    )
    u = np.abs(self._u[region] - x) - (half_width - rounding)
    v = np.abs(self._v[region] - y) - (half_height - rounding)
    distance = np.maximum(u, v)
    if rounding:
      corner = np.maximum(u, 0.0) ** 2 + np.maximum(v, 0.0) ** 2
      distance = np.minimum(distance, 0.0) + np.sqrt(corner) - rounding
    self._paint(region, distance, colour, **paint)

  def polygon(self, corners, colour, **paint):
    """Paints a convex polygon; corners run clockwise on the screen."""
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    least = lambda values: np.minimum.reduce(np.broadcast_arrays(*values))
    most = lambda values: np.maximum.reduce(np.broadcast_arrays(*values))
    region = self._region(least(xs), most(xs), least(ys), most(ys))
    u, v = self._u[region], self._v[region]
    distance = None
    for (x0, y0), (x1, y1) in zip(
      corners, corners[1:] + corners[:1], strict=True
    ):
      run, rise = x1 - x0, y1 - y0
      length = np.sqrt(np.float32(1.0) * (run * run + rise * rise))
      run, rise = run / length, rise / length
      side = u * rise - v * run + (y0 * run - x0 * rise)
      distance = side if distance is None else np.maximum(distance, side)
    self._paint(region, distance, colour, **paint)

  def shadow(self, x, y, rx, ry, opacity=0.35):
    """Paints a soft dark ellipse below a thing that stands on the ground."""
    region = self._region(x - rx, x + rx, y - ry, y + ry)
    u, v = (self._u[region] - x) / rx, (self._v[region] - y) / ry
    cover = np.clip(1.0 - (u * u + v * v), 0.0, 1.0) * np.float32(opacity)
    self._cover(region, cover, np.zeros((3, 1, 1, 1), np.float32))

  def _region(self, left, right, top, bottom):
    """Returns the slices of the windows that a rectangle of a frame touches."""
    x, y = (left + right) * 0.5 * self._across, (top + bottom) * 0.5
    wide, high = (right - left) * 0.5 * np.abs(self._across), (bottom - top) / 2
    cos, sin = np.abs(self._cos), np.abs(self._sin)
    return (
      slice(None),
      self._pixels(
        self._y + self._radius * (self._sin * x + self._cos * y),
        self._radius * (sin * wide + cos * high),
      ),
      self._pixels(
        self._x + self._radius * (self._cos * x - self._sin * y),
        self._radius * (cos * wide + sin * high),
      ),
    )

  def _pixels(self, centre, reach) -> slice:
    start = max(int((centre - reach).min()) - 1, 0)
    stop = min(int((centre + reach).max()) + 2, self._size)
    return slice(min(start, self._size), max(stop, 0))

  def _paint(
    self, region, distance, colour, edge=0.3, inside=False, erase=False
  ):
    """Paints where `distance` (frame units, negative inside) is below 0.

    Args:
      region: slices of the windows.
      distance: float32 of the region's shape.
      colour: float32 [3, n or 1, 1, 1].
      edge: how much darker the rim is, in [0, 1].
      inside: paints only where something is drawn already.
      erase: removes what is there; the colour does not matter.
    """
    cover = np.clip(0.5 - distance * self._radius, 0.0, 1.0)
    if inside:
      cover *= self.alpha[region]
    if erase:
      self.rgb[(slice(None), *region)] *= 1.0 - cover
      self.alpha[region] *= 1.0 - cover
      return
    if edge:
      rim = np.clip(distance * (1.0 / EDGE_WIDTH) + 1.0, 0.0, 1.0)
      colour = colour * (1.0 - np.float32(edge) * rim)
    self._cover(region, cover, colour)

  def _cover(self, region, cover, colour):
    below = self.rgb[(slice(None), *region)]
    below += (colour - below) * cover
    below = self.alpha[region]
    below += (1.0 - below) * cover
