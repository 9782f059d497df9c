"""Tests of images that all get wrong, and of hard classes."""

import numpy as np

from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.papers import hard_images
from imgbench.papers import records

_MODELS = [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 1]]
_PEOPLE = [[1, 0, 1, 0, 0], [1, 0, 1, 0, 1]]


def _answers(models=_MODELS, people=_PEOPLE, **options):
  labels = np.array([151, 151, 700, 700, 5], np.int32)
  codes = np.zeros((5, 1000), np.int8)
  codes[np.arange(5), labels] = annotations.CORRECT
  codes[3, 4] = annotations.CORRECT
  codes[3, 9] = annotations.UNCLEAR
  dataset = records.Dataset(
    name="set",
    image_ids=np.array(["b", "a", "e", "d", "c"]),
    labels=labels,
    class_names=classes.short_names(),
    subsets={},
    path=None,
  )
  size = len(labels)
  named = np.array([[3, 3, 8, 7, 6], [3, 4, 8, 7, 5], [3, 4, 9, -1, 6]])
  return hard_images.Answers(
    dataset=dataset,
    codes=codes,
    models_named=named[: len(models)],
    models_right=np.array(models, bool).reshape(-1, size),
    people_right=np.array(people, bool).reshape(-1, size),
    **options,
  )


def test_images_by_hand():
  rows = [row._asdict() for row in hard_images.image_rows(_answers())]
  # d is wrong for all, e for the models, a for the humans; d comes first.
  assert [(r["image_id"], r["wrong_by"]) for r in rows] == [
    ("d", "models_and_people"),
    ("e", "all_models"),
    ("a", "all_people"),
  ]
  names = classes.short_names()
  assert rows[0] == {
    "dataset": "set",
    "image_id": "d",
    "wnid": classes.imagenet_classes().wnids[700],
    "class_name": names[700],
    "accepted": f"{names[4]}; {names[700]}; ({names[9]})",
    "wrong_by": "models_and_people",
    "models": 3,
    "models_wrong": 3,
    "people": 2,
    "people_wrong": 2,
    "most_named": names[7],
    "named_by": 2,
  }
  assert (rows[1]["most_named"], rows[1]["named_by"]) == (names[8], 2)
  assert (rows[2]["models_wrong"], rows[2]["people_wrong"]) == (1, 2)


def test_lists_have_no_unclear_labels():
  rows = hard_images.image_rows(_answers(tells_states=False))
  assert "(" not in rows[0][4].replace(classes.short_names()[4], "")


def test_without_people_or_models():
  rows = hard_images.image_rows(_answers(people=[]))
  assert [row[1] for row in rows] == ["d", "e"]
  assert {row[5] for row in rows} == {"all_models"}
  rows = hard_images.image_rows(_answers(models=[]))
  assert [row[1] for row in rows] == ["a", "d"]
  assert all(row[-2:] == (None, None) for row in rows)
  assert hard_images.image_rows(_answers([], [])) == []
  assert hard_images.class_rows(_answers([], [])) == []


def test_counts_by_hand():
  subsets = {
    "all": np.ones(5, bool),
    "few": np.array([True, True, True, False, False]),
    "none": np.zeros(5, bool),
  }
  rows = hard_images.count_rows(_answers(), subsets)
  assert [row[1:] for row in rows] == [
    ("all", "all_models", 2, 5, 0.4),
    ("all", "all_people", 2, 5, 0.4),
    ("all", "models_and_people", 1, 5, 0.2),
    ("few", "all_models", 1, 3, 1 / 3),
    ("few", "all_people", 1, 3, 1 / 3),
    ("few", "models_and_people", 0, 3, 0.0),
    ("none", "all_models", 0, 0, None),
    ("none", "all_people", 0, 0, None),
    ("none", "models_and_people", 0, 0, None),
  ]
  assert hard_images.count_grid(rows, "m").cells[0] == [
    "set",
    "all",
    "all models",
    "2",
    "5",
    "40.00",
  ]


def test_classes_hardest_first():
  rows = hard_images.class_rows(_answers())
  assert [(row[1], row[4]) for row in rows] == [(700, 2), (5, 1), (151, 2)]
  np.testing.assert_allclose([row[5] for row in rows], [0, 1 / 3, 4 / 6])
  np.testing.assert_allclose([row[6] for row in rows], [0.5, 0.5, 0.5])
  assert hard_images.class_rows(_answers(people=[]))[0][6] is None
  assert [row[1] for row in hard_images.class_rows(_answers(models=[]))] == [
    5,
    151,
    700,
  ]
  grid = hard_images.class_grid(
    hard_images.class_rows(_answers(people=[])), "m"
  )
  assert len(grid.header) == 5 and len(grid.rows) == 3
