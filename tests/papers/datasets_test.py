"""Tests of reading lists of images: order, classes, and what is refused."""

import json

import numpy as np
import pytest

from experiments.benchmarks.paper_scripts import clone
from imgbench import errors
from imgbench.labels import classes
from imgbench.papers.readers import datasets
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


def test_subsets_stand_in_the_order_of_the_tables(tmp_path):
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
  ("content", "message"),
  [
    ("{", "expected a JSON file"),
    ("[]", "image_filenames is a list .*got a list of 0"),
    ('{"images": []}', "got an object with the keys images"),
    ('{"image_filenames": []}', "got a list of 0"),
    ('{"image_filenames": {"a": "n01440764"}}', "got a dict of 1"),
    (
      '{"image_filenames": [["a", "n01440764"], ["b"]]}',
      r"image_filenames\[1\]: expected \[image id, WordNet id\], got \['b'\]",
    ),
    ('{"image_filenames": [[7, "n01440764"]]}', r"\[0\]: .*got \[7, 'n014"),
    (
      '{"image_filenames": [["a", "n01440764"], ["b", "n00000001"]]}',
      r"image_filenames\[1\]: expected the WordNet id .*'n00000001'",
    ),
    (
      '{"image_filenames": [["a", "n01440764"], ["b", "n01440764"],'
      ' ["a", "n01440764"]]}',
      "every image once, got a 2 times .3 entries, 2 images",
    ),
  ],
)
def test_other_files_are_refused(tmp_path, content, message):
  path = tmp_path / "x.json"
  path.write_text(content)
  with pytest.raises(errors.InputError, match=message) as raised:
    datasets.read(path)
  assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(errors.InputError, match="absent.json: expected a JSON"):
    datasets.read(tmp_path / "absent.json")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda table: table[:-1], "expected a list of 1000 classes, got a list"),
    (lambda table: {"a": 1}, "expected a list of 1000 classes, got an object"),
    (
      lambda table: [table[1], table[0], *table[2:]],
      "element 0: expected cid 0 and wnid n01440764, got cid 1 and wnid n01443",
    ),
    (
      lambda table: [*table[:-1], {**table[-1], "cid": "999"}],
      "element 999: expected cid 999",
    ),
    (lambda table: [*table[:-1], 5], "element 999: .*got cid None"),
  ],
)
def test_classes_in_another_order_are_refused(tmp_path, change, message):
  clone.write_class_info(tmp_path)
  path = tmp_path / clones.PLACES["class_info"]
  datasets.check_class_info(path)
  clones.change_json(path, change)
  with pytest.raises(errors.InputError, match=message):
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
