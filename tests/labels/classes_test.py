"""Tests of the table of ImageNet classes."""

import csv
import subprocess
import sys

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import classes
from tests import raising
from tests.data import shared_files
from tests.train import processes

COUNTS = {
  "dog": 118,
  "organism": 410,
  "object": 590,
  "organism_not_dog": 292,
  "not_dog": 882,
}


def shared_rows(name):
  path = shared_files.shared_path("data", "imagenet", name)
  with path.open(newline="", encoding="utf-8") as file:
    return list(csv.DictReader(file))


def test_shapes_and_order():
  table = classes.imagenet_classes()
  assert len(table.wnids) == len(table.names) == 1000
  assert list(table.wnids) == sorted(set(table.wnids))
  assert (table.wnids[0], table.names[0]) == ("n01440764", "tench, Tinca tinca")
  assert table.wnids[999] == "n15075141"
  for array in (table.is_organism, table.is_dog):
    assert array.shape == (1000,) and array.dtype == np.bool_
  assert classes.imagenet_classes() is table


def test_subset_counts():
  subsets = classes.subsets()
  assert {name: mask.sum() for name, mask in subsets.items()} == COUNTS


def test_subsets_have_the_right_classes():
  subsets = classes.subsets()
  assert np.flatnonzero(subsets["dog"]).tolist() == list(range(151, 269))
  assert np.array_equal(subsets["object"], ~subsets["organism"])
  assert np.array_equal(
    subsets["organism_not_dog"], subsets["organism"] & subsets["not_dog"]
  )
  # Animals end at 397; the rest are persons, plants and fungi.
  others = np.flatnonzero(subsets["organism"])[398:]
  assert others.tolist() == [981, 982, 983, 985, 986, *range(991, 998)]
  assert not subsets["dog"][269:276].any()  # Wolves, coyote, dingo, dhole.


def test_arrays_cannot_be_changed():
  table = classes.imagenet_classes()
  for array in (table.is_dog, table.is_organism, *classes.subsets().values()):
    with pytest.raises(ValueError, match="read-only"):
      array[0] = True


def test_a_caller_cannot_add_a_subset():
  classes.subsets()["cat"] = np.zeros(1000, np.bool_)
  assert set(classes.subsets()) == set(COUNTS)


def test_short_names_are_unique_in_any_case():
  names = classes.short_names()
  assert len({name.casefold() for name in names}) == 1000
  assert names[0] == "tench"
  assert names[134] == "crane (n02012849)"
  assert names[517] == "crane (n03126707)"
  assert names[638] == "maillot (n03710637)"
  assert names[639] == "maillot (tank suit)"
  assert names[264] == "Cardigan (Cardigan Welsh corgi)"
  assert names[474] == "cardigan (n02963159)"
  changed = [i for i, name in enumerate(names) if name.endswith(")")]
  assert changed == [134, 264, 474, 517, 638, 639]


def test_index_of_every_id():
  wnids = classes.imagenet_classes().wnids
  assert [classes.index_of(wnid) for wnid in wnids] == list(range(1000))


@pytest.mark.parametrize("wnid", ["n00004475", "tench", "", "N01440764"])
def test_an_unknown_id_is_refused(wnid):
  check = raising.about("wnid", given=repr(wnid))
  with pytest.raises(errors.InputError, check=check):
    classes.index_of(wnid)


def test_import_reads_nothing():
  code = (
    "from imgbench.labels import classes\n"
    "assert classes.imagenet_classes.cache_info().currsize == 0"
  )
  environment = processes.environment()
  subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_names_of_the_public_metadata():
  table = classes.imagenet_classes()
  rows = shared_rows("class_info.csv")
  assert [row["wnid"] for row in rows] == list(table.wnids)
  assert [row["name"] for row in rows] == list(table.names)


def test_subsets_class_by_class():
  rows = shared_rows("class_subsets.csv")
  subsets = classes.subsets()
  for column, name in (
    ("is_dog", "dog"),
    ("is_organism", "organism"),
    ("is_object", "object"),
  ):
    expected = [row[column] == "1" for row in rows]
    assert subsets[name].tolist() == expected, name
