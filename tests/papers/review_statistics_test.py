"""Tests of the statistics of reviewed labels."""

import json

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
