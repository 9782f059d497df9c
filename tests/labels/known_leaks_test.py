"""Tests of lists of known near duplicates."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import known_leaks
from imgbench.tables import table
from tests import raising
from tests.data import shared_files


def test_pairs_of_a_search_and_lists_of_imagenet_v2(tmp_path):
  pairs = tmp_path / "pairs.csv"
  pairs.write_text(
    "kind,test_id,train_id\nnear,a.png,x\nnear,b,y\nexact,b,z\nfeatures,c,z\n"
  )
  assert known_leaks.read(pairs) == {("", "a"), ("", "b")}
  listed = tmp_path / "near.json"
  listed.write_text(json.dumps({"0af": ["ILSVRC2012_val_00000001.JPEG"]}))
  known = known_leaks.read(listed)
  ids = np.array(["3/0af.jpeg", "0af", "ILSVRC2012_val_00000001.JPEG", "0af.x"])
  found = known_leaks.find(ids, known, "imagenet_v2")
  assert found.tolist() == [True, True, False, False]


def test_files_of_one_name_in_several_folders(tmp_path):
  path = tmp_path / "pairs.csv"
  path.write_text("test_id\nval/cat/1.png\n2.png\n")
  ids = np.array(["val/cat/1.png", "val/dog/1.png", "1.png", "val/dog/2.jpg"])
  found = known_leaks.find(ids, known_leaks.read(path), "folder")
  assert found.tolist() == [True, False, False, True]


def test_equal_ids_of_another_data_set(tmp_path):
  """CIFAR-10 and CIFAR-10.1 both have a test_00007."""
  path = tmp_path / "pairs.csv"
  path.write_text("dataset,test_id\ncifar10:test,test_00007\n")
  known, ids = known_leaks.read(path), np.array(["test_00007", "test_00008"])
  for name in ("cifar10", "cifar10+ema"):
    assert known_leaks.find(ids, known, name).tolist() == [True, False]
  assert not known_leaks.find(ids, known, "cifar10_1-v6").any()


def test_ids_are_read_as_they_are_written(tmp_path):
  path = tmp_path / "pairs.csv"
  path.write_text(table.csv_text([{"test_id": "-a.png"}, {"test_id": "@b"}]))
  assert known_leaks.read(path) == {("", "-a"), ("", "@b")}
  path.write_bytes(b"\xef\xbb\xbftest_id,kind\na,near\n")
  assert known_leaks.read(path) == {("", "a")}
  path.write_text("kind,test_id\nnear\n")
  assert known_leaks.read(path) == {("", "")}


@pytest.mark.parametrize(
  ("name", "text"),
  [
    ("a.csv", "test,train\n"),
    ("a.csv", f"test_id\n{'a' * 200_000}\n"),
    ("a.json", "[1]"),
    ("a.json", "{"),
    ("b.csv", None),
  ],
)
def test_other_files_are_refused(tmp_path, name, text):
  path = tmp_path / name
  if text is not None:
    path.write_text(text)
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    known_leaks.read(path)


def test_the_list_of_imagenet_v2():
  folder = shared_files.shared_path("data/ImageNetV2/data")
  known = known_leaks.read(folder / "metadata/near_duplicates.json")
  assert len(known) == 7386
  text = (folder / "datasets/imagenetv2-b-33.json").read_text()
  rows = json.loads(text)["image_filenames"]
  ids = np.array([image_id for image_id, _ in rows])
  assert known_leaks.find(ids, known, "imagenet_v2").sum() == 597
