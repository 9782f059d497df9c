"""Tests of class masks from files."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import classes
from imgbench.labels import masks
from tests import raising

NAMES = ("cat", "dog", "crane", "crane", "sea slug, nudibranch", "C# book")
WNIDS = tuple(f"n0000000{i}" for i in range(6))


def read_text(tmp_path, text, num_classes=6, names=NAMES, wnids=WNIDS, end=""):
  path = tmp_path / f"mask.{end or 'txt'}"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return masks.read_class_mask(path, num_classes, names, wnids)


def read_array(tmp_path, array, num_classes=6, **options):
  path = tmp_path / "mask.npy"
  np.save(path, array, **options)
  return masks.read_class_mask(path, num_classes)


@pytest.mark.parametrize("end", ["txt", "csv", "list"])
@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("0\n2\n", [0, 2]),
    ("cat\nn00000003", [0, 3]),
    ("# pets\n\n  dog  # good\n\t\r\n0 #\r\n", [0, 1]),
    ("\ufeffcat\n", [0]),
    ("sea slug, nudibranch\n", [4]),
    ("C# book\n", [5]),
    ("005\n+1\n", [1, 5]),
    ("5\n4\n3\n2\n1\n0\n", [0, 1, 2, 3, 4, 5]),
  ],
)
def test_text_by_hand(tmp_path, text, expected, end):
  mask = read_text(tmp_path, text, end=end)
  assert mask.shape == (6,) and mask.dtype == np.bool_
  assert np.flatnonzero(mask).tolist() == expected


def about(tmp_path, place="", given=None, file="mask.txt"):
  """Returns a check that an error is about a place in a file."""
  return raising.about(f"{tmp_path / file}{place}", given=given)


@pytest.mark.parametrize(
  ("text", "place", "given"),
  [
    ("cat\n6\n", ", line 2", 6),
    ("-1\n", ", line 1", -1),
    ("1.0\n", ", line 1", "'1.0'"),
    ("9" * 5000, ", line 1", repr("9" * 5000)),
    ("dog\ncat\n1\n", ", line 3", "'1'"),
    ("n00000001\n\ndog\n", ", line 3", "'dog'"),
    ("", "", "none"),
    ("# nothing\n\n", "", "none"),
    (b"\xff\xfe\x00", "", None),
  ],
)
def test_bad_text_is_refused(tmp_path, text, place, given):
  check = about(tmp_path, place, given)
  with pytest.raises(errors.InputError, check=check):
    read_text(tmp_path, text)


@pytest.mark.parametrize(
  ("text", "line", "near"),
  [
    ("# no\ndgo\n", 2, "dog"),
    ("Cat\n", 1, "cat"),
    ("zebra\n", 1, "C# book, cat"),
  ],
)
def test_unknown_names_are_answered_with_near_ones(tmp_path, text, line, near):
  check = about(tmp_path, f", line {line}", repr(text.split("\n")[-2]))
  with pytest.raises(errors.InputError, check=check) as error:
    read_text(tmp_path, text)
  assert near in error.value.fix


def test_a_name_of_two_classes_is_refused(tmp_path):
  check = about(tmp_path, ", line 1")
  with pytest.raises(errors.InputError, check=check) as error:
    read_text(tmp_path, "crane\n")
  assert "2 and 3" in error.value.given


def test_a_name_that_is_the_index_of_another_class(tmp_path):
  """A name that is its own index, as of digits, is not ambiguous."""
  digits = ("0", "1", "2")
  assert read_text(tmp_path, "2", 3, digits, ()).tolist() == [
    False,
    False,
    True,
  ]
  check = about(tmp_path, ", line 1")
  with pytest.raises(errors.InputError, check=check) as error:
    read_text(tmp_path, "2", 3, ("0", "2", "1"), ())
  assert "1 and 2" in error.value.given
  assert read_text(tmp_path, "30", 3, ("10", "20", "30"), ())[2]


def test_indices_alone_need_no_names(tmp_path):
  assert read_text(tmp_path, "1", 3, (), ()).tolist() == [False, True, False]
  check = about(tmp_path, ", line 1", "'cat'")
  with pytest.raises(errors.InputError, check=check):
    read_text(tmp_path, "cat", 3, (), ())


def test_names_of_another_number_of_classes_are_refused(tmp_path):
  check = raising.about("class_names", given=6)
  with pytest.raises(errors.InputError, check=check):
    read_text(tmp_path, "1", 5, NAMES, ())
  check = raising.about("wnids", given=6)
  with pytest.raises(errors.InputError, check=check):
    read_text(tmp_path, "1", 7, (), WNIDS)


def test_imagenet_names_and_ids(tmp_path):
  table = classes.imagenet_classes()
  text = "n01440764\ngoldfish, Carassius auratus\n2\nmaillot, tank suit\n"
  mask = read_text(tmp_path, text, 1000, table.names, table.wnids)
  assert np.flatnonzero(mask).tolist() == [0, 1, 2, 639]
  with pytest.raises(errors.InputError) as error:
    read_text(tmp_path, "crane", 1000, table.names, table.wnids)
  assert "134 and 517" in error.value.given


def test_an_error_stays_short_among_a_thousand_names(tmp_path):
  table = classes.imagenet_classes()
  with pytest.raises(errors.InputError) as error:
    read_text(tmp_path, "@@@@", 1000, table.names, table.wnids)
  assert len(str(error.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
  "array",
  [
    np.array([True, False, True, False, False, False]),
    np.array([2, 0]),
    np.array([0, 2], np.uint8),
    np.array([0, 2], ">i4"),
  ],
)
def test_arrays_by_hand(tmp_path, array):
  mask = read_array(tmp_path, array)
  assert mask.shape == (6,) and mask.dtype == np.bool_
  assert np.flatnonzero(mask).tolist() == [0, 2]


@pytest.mark.parametrize(
  ("array", "place", "given"),
  [
    (np.ones(5, np.bool_), "", "bool [5]"),
    (np.ones((6, 1), np.bool_), "", "bool [6, 1]"),
    (np.array(3), "", "int64 []"),
    (np.ones((2, 2), int), "", "int64 [2, 2]"),
    (np.ones(6), "", "float64 [6]"),
    (np.array(["cat"]), "", "<U3 [1]"),
    (np.array([1, 6]), ", position 1", 6),
    (np.array([-1]), ", position 0", -1),
    (np.array([1, 0, 1]), ", position 2", 1),
    (np.array([0, 1, 1, 0, 0, 0]), ", position 2", 1),
    (np.zeros(6, np.bool_), "", "none"),
    (np.array([], int), "", "none"),
  ],
)
def test_bad_arrays_are_refused(tmp_path, array, place, given):
  check = about(tmp_path, place, given, "mask.npy")
  with pytest.raises(errors.InputError, check=check):
    read_array(tmp_path, array)


def test_pickled_arrays_are_refused(tmp_path):
  with pytest.raises(errors.InputError, match="allow_pickle=False"):
    read_array(tmp_path, np.array([0, None]), allow_pickle=True)


def test_absent_files_and_folders_are_named(tmp_path):
  for name in ("none.npy", "none.txt", ""):
    check = about(tmp_path, file=name)
    with pytest.raises(errors.InputError, check=check):
      masks.read_class_mask(tmp_path / name, 6)


@hypothesis.given(st.data())
@hypothesis.settings(deadline=None, max_examples=100)
def test_a_damaged_array_is_refused_or_read(tmp_path_factory, data):
  """Whatever is in the file, there is no other error."""
  folder = tmp_path_factory.mktemp("npy")
  np.save(folder / "mask.npy", np.array([0, 2]))
  content = bytearray((folder / "mask.npy").read_bytes())
  at = data.draw(st.integers(0, len(content) - 1))
  if data.draw(st.booleans()):
    content[at] = data.draw(st.integers(0, 255))
  else:
    del content[at:]
  (folder / "mask.npy").write_bytes(content)
  try:
    mask = masks.read_class_mask(folder / "mask.npy", 6)
  except errors.InputError:
    return
  assert mask.shape == (6,) and mask.any()


@hypothesis.given(st.sets(st.integers(0, 999), min_size=1), st.data())
@hypothesis.settings(deadline=None, max_examples=20)
def test_every_way_to_write_a_mask_reads_the_same(
  tmp_path_factory, indices, data
):
  table = classes.imagenet_classes()
  folder = tmp_path_factory.mktemp("mask")
  order = data.draw(st.permutations(sorted(indices)))
  expected = np.isin(np.arange(1000), order)
  texts = {
    "index": order,
    "wnid": [table.wnids[i] for i in order],
  }
  for name, lines in texts.items():
    (folder / name).write_text("\n".join(map(str, lines)))
  np.save(folder / "indices.npy", np.array(order))
  np.save(folder / "mask.npy", expected)
  for name in (*texts, "indices.npy", "mask.npy"):
    mask = masks.read_class_mask(folder / name, 1000, table.names, table.wnids)
    assert np.array_equal(mask, expected), name
