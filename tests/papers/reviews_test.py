"""Tests of reviewed labels: reading, counted images, unknown values."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.metrics import measurement
from imgbench.papers import records
from imgbench.papers.readers import datasets
from imgbench.papers.readers import reviews
from tests import raising
from tests.papers import human_files


def _dataset(image_ids, labels):
  return records.Dataset(
    name=datasets.VALIDATION,
    image_ids=np.array(image_ids),
    labels=np.array(labels, np.int32),
    class_names=classes.short_names(),
    subsets={},
    path=None,
  )


def test_read(tmp_path):
  path = human_files.write_json(tmp_path / "h.json")
  found = reviews.read(path)
  assert found.path == path and found.tells_states
  assert found.labels[human_files.VALIDATION[0]] == {
    "wrong": (153,),
    "unclear": (152,),
    "correct": (151,),
  }
  assert len(found.labels) == 16
  assert found.problematic == {
    human_files.VALIDATION[6],
    human_files.VERSION_2[6],
  }
  assert found.imagenet_m == {
    human_files.VALIDATION[0],
    human_files.VALIDATION[3],
  }
  assert found.notes == ()


@pytest.mark.parametrize(
  ("value", "reason"),
  [
    ("a drawing ", "a drawing"),
    ({"why": "no label", "by": None}, "no label"),
    (["edited", "no label"], "edited, no label"),
    ({"drawing": True, "edited": False}, "drawing"),
    *((value, None) for value in ({}, [], "", None, True)),
  ],
)
def test_reasons_of_problematic_images(tmp_path, value, reason):
  content = human_files.json_content()
  image = human_files.VALIDATION[6]
  content["problematic_images"] = {image: value}
  found = reviews.read(human_files.write_json(tmp_path / "h.json", content))
  assert found.problematic == {image}
  assert found.reasons == ({image: reason} if reason else {})


def test_absent_states_mean_none(tmp_path):
  content = human_files.json_content()
  image = human_files.VALIDATION[0]
  content["initial_annots"][image] = {"correct": [human_files.wnid(1)], "x": 5}
  content["initial_annots"][human_files.VALIDATION[1]] = {}
  found = reviews.read(human_files.write_json(tmp_path / "h.json", content))
  assert found.labels[image] == {"correct": (1,)}
  assert found.labels[human_files.VALIDATION[1]] == {}


def test_label_in_two_states_counts_in_the_better(tmp_path):
  """Three images of the real file have such labels, see IMAGENET.md."""
  content = human_files.json_content()
  image = human_files.VALIDATION[0]
  one, two = human_files.wnid(1), human_files.wnid(2)
  content["initial_annots"][image] = {
    "correct": [one],
    "unclear": [one, two, two],
    "wrong": [two],
  }
  found = reviews.read(human_files.write_json(tmp_path / "h.json", content))
  assert "initial_annots: 1 images" in found.notes[0]
  codes = reviews.build_codes(found.labels, [image], 1000)
  assert codes[0, 1] == annotations.CORRECT
  assert codes[0, 2] == annotations.UNCLEAR
  assert (codes[0] == annotations.UNREVIEWED).sum() == 998


@pytest.mark.parametrize(
  ("change", "setting", "given"),
  [
    (lambda c: c.pop("imagenet_m"), "", "no imagenet_m"),
    (lambda c: c.update(initial_annots=[]), ": initial_annots", "list"),
    (
      lambda c: c.update(problematic_images=["a"]),
      ": problematic_images",
      "list",
    ),
    (lambda c: c.update(imagenet_m={}), ": imagenet_m", "dict"),
    (
      lambda c: c["imagenet_m"].append("nobody"),
      ": imagenet_m",
      "1 others, e.g. 'nobody'",
    ),
    (
      lambda c: c["imagenet_m"].append(human_files.VALIDATION[0]),
      ": imagenet_m",
      "3 entries for 2 images",
    ),
    (
      lambda c: c["initial_annots"].update(x=["n01440764"]),
      ": initial_annots['x']",
      "list",
    ),
    (
      lambda c: c["initial_annots"].update(x={"wrong": "n01440764"}),
      ": initial_annots['x']['wrong']",
      "str",
    ),
    (
      lambda c: c["initial_annots"].update(x={"wrong": ["tench"]}),
      ": initial_annots['x']['wrong']: wnid",
      "'tench'",
    ),
    (
      lambda c: c["initial_annots"].update(x={"wrong": [[1]]}),
      ": initial_annots['x']['wrong']",
      "list",
    ),
    (
      lambda c: c["initial_annots"].update(x={"wrong": [7]}),
      ": initial_annots['x']['wrong']",
      "int",
    ),
  ],
)
def test_other_structures_are_refused(tmp_path, change, setting, given):
  content = human_files.json_content()
  change(content)
  path = human_files.write_json(tmp_path / "h.json", content)
  check = raising.about(f"{path}{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    reviews.read(path)


def test_an_image_twice_is_refused(tmp_path):
  path = tmp_path / "h.json"
  path.write_text(
    '{"initial_annots": {"a": {}, "a": {}}, "problematic_images": {},'
    ' "imagenet_m": []}'
  )
  check = raising.about(f"{path}, 'a'")
  with pytest.raises(errors.InputError, check=check):
    reviews.read(path)
  path.write_text("[1]")
  check = raising.about(str(path), given="list")
  with pytest.raises(errors.InputError, check=check):
    reviews.read(path)


def test_reviewed_leaves_out_problematic_and_unknown_images(tmp_path):
  found = reviews.read(human_files.write_json(tmp_path / "h.json"))
  ids = ["other", *human_files.VALIDATION[::-1]]
  part = reviews.select_reviewed(
    _dataset(ids, [5, *human_files.CLASSES[::-1]]), found
  )
  np.testing.assert_array_equal(part.rows, [2, 3, 4, 5, 6, 7])
  assert part.dataset.image_ids.tolist() == ids[2:]
  np.testing.assert_array_equal(
    part.dataset.labels, [702, 701, 700, 10, 160, 151]
  )
  np.testing.assert_array_equal(
    part.label_sets.in_imagenet_m, [False, False, True, False, False, True]
  )
  assert not part.label_sets.left_out.any()
  codes = part.label_sets.codes
  assert codes.shape == (6, 1000) and codes.dtype == np.int8
  np.testing.assert_array_equal(codes[3, 9:14], [0, 3, 2, 1, 0])
  predictions = records.RankedPredictions(
    "m", datasets.VALIDATION, np.arange(8, dtype=np.int16)[:, None], None
  )
  np.testing.assert_array_equal(
    part.cut(predictions).ranking[:, 0], [2, 3, 4, 5, 6, 7]
  )
  assert reviews.select_reviewed(_dataset(["other"], [5]), found) is None


def test_lists(tmp_path):
  path = tmp_path / "lists.json"
  path.write_text(json.dumps({"a": [3, 1, 3], "b": [], "c": [2]}))
  found = reviews.read_lists(path)
  assert found.labels == {
    "a": {"unclear": (1, 3)},
    "b": {"unclear": ()},
    "c": {"unclear": (2,)},
  }
  assert found.problematic == {"b"} and found.imagenet_m is None
  assert "lists.json: 1 images" in found.notes[0]
  assert reviews.choose_metric(found) == "multilabel_accuracy.lenient_mean"


def test_what_lists_do_not_tell_is_undefined(tmp_path):
  path = tmp_path / "lists.json"
  path.write_text(json.dumps({"a": [1]}))
  lists = reviews.read_lists(path)
  full = reviews.read(human_files.write_json(tmp_path / "h.json"))
  value = measurement.Measurer(0.05).proportion(1, 2, "text")
  metrics = ["top1_accuracy", "real_accuracy.class_mean"] + [
    f"multilabel_accuracy.{name}{quantity}"
    for name in ("icml2020", "tfds", "imagenet_m", "lenient_mean")
    for quantity in ("", ".unreviewed", ".bound_low", ".bound_high")
  ]
  given = {("m", "d", "all", metric): value for metric in metrics}
  assert reviews.drop_unknown(given, full) == given
  found = {key[-1]: m for key, m in reviews.drop_unknown(given, lists).items()}
  assert {m for m, entry in found.items() if entry.value is not None} == {
    "top1_accuracy",
    "real_accuracy.class_mean",
    *(
      f"multilabel_accuracy.{name}{quantity}"
      for name in ("tfds", "lenient_mean")
      for quantity in ("", ".bound_low")
    ),
  }
  for metric, why in (
    ("icml2020", "correct labels from unclear"),
    ("icml2020.bound_low", "correct labels from unclear"),
    ("imagenet_m", "ImageNet-M"),
    ("tfds.unreviewed", "unreviewed"),
  ):
    entry = found[f"multilabel_accuracy.{metric}"]
    assert why in entry.definition and entry.n == 2
  assert reviews.choose_metric(full) == "multilabel_accuracy.icml2020"
