"""Places for names beside points that do not cover each other."""

from collections.abc import Sequence
import itertools

Box = tuple[float, float, float, float]  # left, bottom, right, top; points

_HEIGHT = 10.5  # of a line of 8.5 points
_LETTER = 5.4  # mean width at that size
_MARK = 4.0  # half the side of a mark
_NEAR = 7.0  # distance of a name from the centre of its point
_RINGS = (1.0, 2.2, 3.6, 5.2)
# Right below first, where readers look for a name.
_SIDES = (
  (1, -1),
  (-1, 1),
  (1, 1),
  (-1, -1),
  (1, 0),
  (-1, 0),
  (0, -1),
  (0, 1),
)


def find_offsets(
  places: Sequence[tuple[float, float]],
  names: Sequence[str],
  size: tuple[float, float],
  others: Sequence[tuple[float, float]] = (),
) -> list[tuple[float, float]]:
  """Returns the offsets of the names' centres from their points.

  Each name in turn takes the nearest place, among eight sides and a few
  distances, that is inside the axes and free of earlier names and all points.
  If there is none it may cover points without a name, or else it takes the
  first place.

  Args:
    places: of the N points, in points (1/72 inch) from the lower left corner.
    names: N texts.
    size: of the axes, in points.
    others: of points without a name, as `places`.
  """
  taken: list[Box] = [_mark(*place) for place in places]
  avoided = [_mark(*place) for place in others]
  found = []
  for (x, y), name in zip(places, names, strict=True):
    width = _LETTER * max(len(name), 1)
    choices = [
      (
        right * (ring * _NEAR + width / 2),
        up * (ring * _NEAR + _HEIGHT / 2),
      )
      for ring, (right, up) in itertools.product(_RINGS, _SIDES)
    ]
    boxes = [_box(x + dx, y + dy, width) for dx, dy in choices]
    free = [
      i
      for i, box in enumerate(boxes)
      if _inside(box, size) and not any(_meet(box, other) for other in taken)
    ]
    clear = [
      i for i in free if not any(_meet(boxes[i], mark) for mark in avoided)
    ]
    chosen = [*clear, *free, 0][0]
    taken.append(boxes[chosen])
    found.append(choices[chosen])
  return found


def _mark(x: float, y: float) -> Box:
  return x - _MARK, y - _MARK, x + _MARK, y + _MARK


def _box(x: float, y: float, width: float) -> Box:
  return x - width / 2, y - _HEIGHT / 2, x + width / 2, y + _HEIGHT / 2


def _meet(a: Box, b: Box) -> bool:
  return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _inside(box: Box, size: tuple[float, float]) -> bool:
  return box[0] > 0 and box[1] > 0 and box[2] < size[0] and box[3] < size[1]
