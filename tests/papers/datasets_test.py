"""Tests of reading lists of images: order, classes, and refused files."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.experiments.benchmarks.paper_scripts import clone
from imgbench.labels import classes
from imgbench.papers.readers import datasets
from tests import raising
from tests.data import shared_files
from tests.papers import clones


def test_order_labels_and_names_are_the_files(tmp_path):
  path = tmp_path / "imagenetv2-b-33.json"
  images = [["b", "n15075141"], ["a", "n01440764"], ["c", "n02085620"]]
  path.write_text(json.dumps({"seed": 1, "image_filenames": images}))
  dataset = datasets.read(path)
  assert dataset.name == "imagenetv2-b-33" and dataset.path == path
  assert dataset.image_ids.tolist() == ["b", "a", "c"]
  assert dataset.labels.tolist() == [999, 0, 151]
  assert dataset.labels.dtype == np.int32
  assert len(dataset) == 3 and dataset.num_classes == 1000
  assert dataset.class_names[151] == "Chihuahua"


def test_subsets_are_in_the_order_of_the_tables(tmp_path):
  subsets = clones.dataset(tmp_path).subsets
  assert {name: int(mask.sum()) for name, mask in subsets.items()} == {
    "object": 590,
    "organism": 410,
    "dog": 118,
    "organism_not_dog": 292,
    "not_dog": 882,
  }
  assert list(subsets) == list(datasets.SUBSETS)
  assert {*datasets.SUBSETS} == {*classes.subsets()}


@pytest.mark.parametrize(
  ("content", "setting", "given"),
  [
    ("{", "", None),
    ("[]", "", "a list of 0"),
    ('{"images": []}', "", "an object with the keys images"),
    ('{"image_filenames": []}', "", "a list of 0"),
    ('{"image_filenames": {"a": "n01440764"}}', "", "a dict of 1"),
    (
      '{"image_filenames": [["a", "n01440764"], ["b"]]}',
      ": image_filenames[1]",
      "['b']",
    ),
    (
      '{"image_filenames": [[7, "n01440764"]]}',
      ": image_filenames[0]",
      "[7, 'n01440764']",
    ),
    (
      '{"image_filenames": [["a", "n01440764"], ["b", "n00000001"]]}',
      ": image_filenames[1]: wnid",
      "'n00000001'",
    ),
    (
      '{"image_filenames": [["a", "n01440764"], ["b", "n01440764"],'
      ' ["a", "n01440764"]]}',
      "",
      "a 2 times",
    ),
  ],
)
def test_other_files_are_refused(tmp_path, content, setting, given):
  path = tmp_path / "x.json"
  path.write_text(content)
  check = raising.about(f"{path}{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    datasets.read(path)


def test_a_missing_file_is_named(tmp_path):
  path = tmp_path / "absent.json"
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    datasets.read(path)


@pytest.mark.parametrize(
  ("change", "setting", "given"),
  [
    (lambda table: table[:-1], "", "a list of 999"),
    (lambda table: {"a": 1}, "", "an object with the keys a"),
    (
      lambda table: [table[1], table[0], *table[2:]],
      ", element 0",
      "cid 1 and wnid n01443537",
    ),
    (
      lambda table: [*table[:-1], {**table[-1], "cid": "999"}],
      ", element 999",
      "cid 999 and wnid n15075141",
    ),
    (
      lambda table: [*table[:-1], 5],
      ", element 999",
      "cid None and wnid None",
    ),
  ],
)
def test_classes_in_another_order_are_refused(tmp_path, change, setting, given):
  clone.write_class_info(tmp_path)
  path = tmp_path / clones.PLACES["class_info"]
  datasets.check_class_info(path)
  clones.change_json(path, change)
  check = raising.about(f"{path}{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    datasets.check_class_info(path)


def test_real_lists():
  repo = shared_files.shared_path("data", "ImageNetV2")
  datasets.check_class_info(repo / clones.PLACES["class_info"])
  rows = shared_files.shared_path("data", "imagenet")
  for name, labels in {
    datasets.VALIDATION: "rows_val_label.npy",
    datasets.MATCHED_FREQUENCY: "rows_v2_matched_frequency_label.npy",
  }.items():
    found = datasets.read(repo / clones.PLACES["dataset"].format(name))
    np.testing.assert_array_equal(found.labels, np.load(rows / labels))
