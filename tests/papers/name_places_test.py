"""Tests of the places of names beside points."""

import numpy as np

from imgbench.papers import name_places

_SIZE = (300.0, 200.0)


def _boxes(places, names):
  found = name_places.find_offsets(places, names, _SIZE)
  return [
    name_places._box(x + dx, y + dy, name_places._LETTER * len(name))
    for (x, y), (dx, dy), name in zip(places, found, names, strict=True)
  ]


def test_single_name_is_right_below():
  ((dx, dy),) = name_places.find_offsets([(100, 100)], ["model"], _SIZE)
  assert dx > 0 > dy


def test_names_keep_apart_and_inside():
  rng = np.random.default_rng(0)
  places = [(150 + x, 100 + y) for x, y in rng.normal(0, 8, (6, 2))]
  boxes = _boxes(places, list("abcdef"))
  for i, box in enumerate(boxes):
    assert name_places._inside(box, _SIZE)
    assert not any(name_places._meet(box, other) for other in boxes[:i])


def test_name_in_a_corner_stays_inside():
  for place in ((3, 3), (297, 3), (3, 197), (297, 197)):
    (box,) = _boxes([place], ["a_long_name"])
    assert name_places._inside(box, _SIZE)


def test_names_cover_other_points_only_without_room():
  below = [(100 + x, 90.0) for x in range(5, 60, 5)]
  ((dx, dy),) = name_places.find_offsets([(100, 100)], ["model"], _SIZE, below)
  assert dx < 0 < dy
  everywhere = [
    (float(x), float(y)) for x in range(0, 300, 5) for y in range(0, 200, 5)
  ]
  ((dx, dy),) = name_places.find_offsets(
    [(100, 100)], ["model"], _SIZE, everywhere
  )
  assert dx > 0 > dy


def test_no_room_at_all():
  places = [(5.0, 5.0)] * 2
  assert len(name_places.find_offsets(places, ["x" * 99, "y" * 99], _SIZE)) == 2
  assert name_places.find_offsets([], [], _SIZE) == []
