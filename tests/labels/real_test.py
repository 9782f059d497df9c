"""Tests of ReaL label sets and of label lists by file name."""

import collections
import json

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import annotations
from imgbench.labels import real
from tests import raising
from tests.data import shared_files

WRONG, CORRECT = annotations.WRONG, annotations.CORRECT

label_sets = st.lists(st.lists(st.integers(0, 6)), max_size=8)


def write(tmp_path, value):
  path = tmp_path / "labels.json"
  path.write_text(value if isinstance(value, str) else json.dumps(value))
  return path


def as_lists(sets):
  return [labels.tolist() for labels in sets]


def test_read_by_hand(tmp_path):
  path = write(tmp_path, [[3, 1], [], [2, 2, 0], [4]])
  sets = real.read(path, num_images=4, num_classes=5)
  assert as_lists(sets) == [[1, 3], [], [0, 2], [4]]
  assert all(labels.dtype == np.int32 for labels in sets)


@pytest.mark.parametrize(
  ("value", "place", "given"),
  [
    ([[1]], "", "a list of 1"),
    ({"a": [1]}, "", "a dict of 1"),
    (None, "", None),
    ([[1], 2], ", element 1", 2),
    ([[1], [5]], ", element 1", 5),
    ([[-1], []], ", element 0", -1),
    ([[1], [1.0]], ", element 1", 1.0),
    ([[True], []], ", element 0", True),
    ([["1"], []], ", element 0", "'1'"),
    ([[[1]], []], ", element 0", "a list of 1"),
    ("[[1], ", "", None),
    ("[" * 100_000, "", None),
  ],
)
def test_other_files_are_refused(tmp_path, value, place, given):
  path = write(tmp_path, value)
  check = raising.about(f"{path}{place}", given=given)
  with pytest.raises(errors.InputError, check=check):
    real.read(path, num_images=2, num_classes=5)


def test_an_absent_file_is_named(tmp_path):
  path = tmp_path / "none.json"
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    real.read(path)


def test_codes_by_hand():
  codes, left_out = real.label_codes([np.array([0, 2]), np.array([], int)], 3)
  assert codes.dtype == np.int8 and left_out.dtype == np.bool_
  assert codes.tolist() == [[CORRECT, WRONG, CORRECT], [WRONG, WRONG, WRONG]]
  assert left_out.tolist() == [False, True]


@pytest.mark.parametrize("label", [-1, 3])
def test_codes_of_labels_outside_the_classes_are_refused(label):
  sets = [np.array([], int), np.array([0, label])]
  check = raising.about("sets[1]", given=label)
  with pytest.raises(errors.InputError, check=check):
    real.label_codes(sets, 3)


@hypothesis.given(label_sets)
@hypothesis.settings(deadline=None)
def test_codes_equal_those_of_single_labels(lists):
  sets = [np.array(labels, np.int64) for labels in lists]
  codes, left_out = real.label_codes(sets, 7)
  assert codes.shape == (len(lists), 7) and left_out.shape == (len(lists),)
  for row, labels, empty in zip(codes, lists, left_out, strict=True):
    expected = [CORRECT if k in labels else WRONG for k in range(7)]
    assert row.tolist() == expected
    assert empty == (not labels)


def test_label_lists_by_hand(tmp_path):
  path = write(tmp_path, {"b": [4, 1, 4], "a": [], "c": [0]})
  lists = real.read_label_lists(path, num_classes=5)
  assert list(lists) == ["b", "a", "c"]
  assert as_lists(lists.values()) == [[1, 4], [], [0]]


@pytest.mark.parametrize(
  ("value", "place", "given"),
  [
    ([[1]], "", "a list of 1"),
    ({"a": [5]}, ", 'a'", 5),
    ({"a": 1}, ", 'a'", 1),
    ('{"a": [1], "a": [2]}', ", 'a'", "several"),
  ],
)
def test_other_label_lists_are_refused(tmp_path, value, place, given):
  path = write(tmp_path, value)
  check = raising.about(f"{path}{place}", given=given)
  with pytest.raises(errors.InputError, check=check):
    real.read_label_lists(path, num_classes=5)


def test_image_numbers():
  assert real.image_number("ILSVRC2012_val_00000001.JPEG") == 1
  assert real.image_number("ILSVRC2012_val_00050000.JPEG") == 50_000


@pytest.mark.parametrize(
  "name",
  [
    "ILSVRC2012_val_00000000.JPEG",
    "ILSVRC2012_val_00050001.JPEG",
    "ILSVRC2012_val_1.JPEG",
    "ILSVRC2012_val_00000001.jpeg",
    "ILSVRC2012_val_00000001.JPEG\n",
    "val/ILSVRC2012_val_00000001.JPEG",
    "ILSVRC2012_test_00000001.JPEG",
    "",
  ],
)
def test_other_file_names_are_refused(name):
  check = raising.about("file_name", given=repr(name))
  with pytest.raises(errors.InputError, check=check):
    real.image_number(name)


@pytest.fixture(scope="module")
def published():
  path = shared_files.shared_path("data", "reassessed-imagenet", "real.json")
  return real.read(path)


def test_sizes_of_the_published_sets(published):
  sizes = collections.Counter(map(len, published))
  assert sizes == {
    0: 3163,
    1: 39394,
    2: 5408,
    3: 1319,
    4: 411,
    5: 161,
    6: 88,
    7: 41,
    8: 13,
    9: 2,
  }


def test_codes_of_the_published_sets(published):
  codes, left_out = real.label_codes(published, real.NUM_CLASSES)
  assert (~left_out).sum() == 46_837
  per_image = (codes == CORRECT).sum(axis=1)
  assert np.array_equal(per_image, [len(labels) for labels in published])
  assert np.all((codes == CORRECT) | (codes == WRONG))


def test_published_sets_are_at_image_number_minus_one(published):
  """Shifted by one image, the sets no longer contain the original labels."""
  path = shared_files.shared_path("data", "imagenet", "labels_val.npy")
  labels = np.load(path)

  def share_with_label(shift):
    pairs = zip(np.roll(labels, shift), published, strict=True)
    return sum(label in found for label, found in pairs) / len(labels)

  assert share_with_label(0) > 0.8
  assert share_with_label(1) < 0.01 and share_with_label(-1) < 0.01


def test_published_label_lists():
  folder = shared_files.shared_path("data", "imagenet")
  lists = real.read_label_lists(folder / "eth_multilabel_3937.json")
  assert len(lists) == 3937
  sizes = collections.Counter(len(labels) for labels in lists.values())
  # Three lists have a class twice; none of them has only one label.
  assert sizes[0] == 0 and sizes[1] == 1998
  numbers = np.array([real.image_number(name) for name in lists])
  originals = np.load(folder / "labels_val.npy")[numbers - 1]
  codes, left_out = real.label_codes(list(lists.values()), real.NUM_CLASSES)
  assert not left_out.any()
  assert np.all(codes[np.arange(3937), originals] == CORRECT)
  subset = set(np.load(folder / "val20k_image_id.npy").tolist())
  assert set(numbers.tolist()) <= subset
