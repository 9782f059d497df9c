"""Tests of ReaL label sets in the order of a data set."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import annotations
from imgbench.metrics import summary
from imgbench.papers import records
from imgbench.papers.readers import real_sets
from tests import raising


def dataset(ids, name="val"):
  return records.Dataset(
    name=name,
    image_ids=np.array(ids),
    labels=np.zeros(len(ids), np.int32),
    class_names=tuple(map(str, range(1000))),
    subsets={},
    path=f"{name}.json",
  )


@pytest.fixture(name="path", scope="module")
def path_of_sets(tmp_path_factory):
  path = tmp_path_factory.mktemp("real") / "real.json"
  sets = [[5]] * 50_000
  sets[0], sets[1], sets[49_999] = [], [1, 2], [999]
  path.write_text(json.dumps(sets))
  return path


def test_rows_follow_the_data_set(path):
  name = "ILSVRC2012_val_{:08}.JPEG".format
  val = dataset([name(50_000), name(1), name(2), name(3)])
  found = real_sets.read(path, {"val": val})["val"]
  assert found.kind == summary.REAL and found.path == path
  assert found.in_imagenet_m is None
  inside = [np.flatnonzero(row == annotations.CORRECT) for row in found.codes]
  assert [row.tolist() for row in inside] == [[999], [], [1, 2], [5]]
  assert found.left_out.tolist() == [False, True, False, False]
  assert "val: 1 of 4 " in real_sets.note(val, found)


def test_images_of_another_set_are_refused(path):
  check = raising.about("val.json: file_name", given="'abc'")
  with pytest.raises(errors.InputError, check=check):
    real_sets.read(path, {"val": dataset(["abc"])})
