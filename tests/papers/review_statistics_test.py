"""Tests of the statistics of reviewed labels."""

import json

import numpy as np
import pytest

from imgbench.labels import classes
from imgbench.papers import records
from imgbench.papers import review_statistics
from imgbench.papers.readers import reviews
from tests.papers import human_files


def _found(rows, name):
  return {row[1]: row[2:] for row in rows if row[0] == name}


def test_by_hand(tmp_path):
  content = human_files.json_content()
  image = human_files.VALIDATION[0]
  wnids = [human_files.wnid(i) for i in range(5)]
  content["initial_annots"][image] = {
    "correct": wnids[:3],
    # The first one is correct already.
    "unclear": wnids[2:4],
    "wrong": wnids[4:],
  }
  content["initial_annots"][human_files.VALIDATION[1]] = {"wrong": wnids}
  found = reviews.read(human_files.write_json(tmp_path / "h.json", content))
  rows = review_statistics.rows(
    found,
    {"val": [*human_files.VALIDATION, "other"], "none": ["other"]},
  )
  assert {row[0] for row in rows} == {"all reviewed images", "val"}
  val = _found(rows, "val")
  # Five images with one label each of three states, and the two above.
  assert val == {
    "images_reviewed": (7, None),
    "images_problematic": (1, None),
    "images_problematic: no label": (1, 1.0),
    "images_counted": (6, None),
    "pairs_reviewed": (4 * 3 + 5 + 5, None),
    "pairs_correct": (4 + 3, 7 / 22),
    "pairs_unclear": (4 + 1, 5 / 22),
    "pairs_wrong": (4 + 1 + 5, 10 / 22),
    "images_with_several_correct_labels": (1, 1 / 6),
    "images_with_0_correct_labels": (1, 1 / 6),
    "images_with_1_correct_labels": (4, 4 / 6),
    "images_with_2_correct_labels": (0, 0.0),
    "images_with_3_correct_labels": (1, 1 / 6),
  }
  everything = _found(rows, "all reviewed images")
  assert everything["images_reviewed"] == (16, None)
  assert everything["images_problematic"] == (2, None)
  assert everything["images_problematic: no label"] == (1, 0.5)
  assert everything["images_problematic: no category"] == (1, 0.5)
  grid = review_statistics.grid(rows)
  assert grid.cells[1] == [
    "val",
    "7",
    "1",
    "22",
    "7 (31.8%)",
    "5 (22.7%)",
    "10 (45.5%)",
    "1 (16.7%)",
  ]


def test_lists(tmp_path):
  path = tmp_path / "lists.json"
  path.write_text(json.dumps({"a": [1, 2], "b": [], "c": [3]}))
  found = reviews.read_lists(path)
  rows = _found(review_statistics.rows(found, {}), "all reviewed images")
  assert rows == {
    "images_reviewed": (3, None),
    "images_problematic": (1, None),
    "images_counted": (2, None),
    "pairs_reviewed": (3, None),
    "pairs_accepted": (3, 1.0),
    "images_with_several_accepted_labels": (1, 0.5),
    "images_with_0_accepted_labels": (0, 0.0),
    "images_with_1_accepted_labels": (1, 0.5),
    "images_with_2_accepted_labels": (1, 0.5),
  }
  path.write_text(json.dumps({"b": []}))
  rows = review_statistics.rows(reviews.read_lists(path), {})
  assert _found(rows, "all reviewed images")["pairs_accepted"] == (0, None)


def test_ceilings_by_hand(tmp_path):
  """Class 0 has four reviewed images, one of them problematic; 3 has one."""
  lists = [[0], [0, 1, 2], [1], [2, 3], [3], []]
  lines = [
    f'i{i},"{", ".join(map(str, labels))}",,0,{i == 2}\n'
    for i, labels in enumerate(lists)
  ]
  path = tmp_path / "reviews.csv"
  path.write_text(
    "id,proposed_labels,unclear_multi_labels,wrong_multi_labels,"
    "is_problematic\n" + "".join(lines)
  )
  dataset = records.Dataset(
    name="val",
    image_ids=np.array(["i5", "i0", "i1", "i2", "i4", "other"]),
    labels=np.array([0, 0, 0, 0, 3, 5], np.int32),
    class_names=classes.short_names(),
    subsets={},
    path=path,
  )
  found = review_statistics.ceiling_rows(dataset, reviews.read(path))
  wnids, names = classes.imagenet_classes().wnids, dataset.class_names
  # Of class 0, i5 has no correct label, i2 another one.
  at_random = 1 + 1 / 3
  assert found == [
    ("val", 0, wnids[0], names[0])
    + (3, 2, 2 / 3, pytest.approx(at_random / 3))
    + (4, 2, 2 / 4, pytest.approx(at_random / 4)),
    ("val", 3, wnids[3], names[3], 1, 1, 1.0, 1.0, 1, 1, 1.0, 1.0),
  ]
  assert len(found[0]) == len(review_statistics.CEILINGS)
