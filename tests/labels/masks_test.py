"""Tests of class masks from files."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import classes
from imgbench.labels import masks

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


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("cat\n6\n", r":2: expected a class index in \[0, 6\), got 6"),
    ("-1\n", r":1: expected a class index in \[0, 6\), got -1"),
    ("# no\ndgo\n", r":2: .* got 'dgo'; did you mean dog"),
    ("Cat\n", "got 'Cat'; did you mean cat"),
    ("1.0\n", "got '1.0'"),
    ("9" * 5000, "below 6 or a class name"),
    ("zebra\n", "got 'zebra'; known: C# book, cat"),
    ("crane\n", ":1: 'crane' means classes 2 and 3; give an index"),
    ("dog\ncat\n1\n", r":3: class 1 \('1'\) stands on line 1 already"),
    ("n00000001\n\ndog\n", r":3: class 1 \('dog'\) stands on line 1"),
    ("", "at least one class, got none"),
    ("# nothing\n\n", "at least one class, got none"),
    (b"\xff\xfe\x00", "expected UTF-8 text"),
  ],
)
def test_bad_text_is_refused(tmp_path, text, message):
  with pytest.raises(errors.InputError, match=message):
    read_text(tmp_path, text)


def test_a_name_that_is_the_index_of_another_class(tmp_path):
  """Digits are named so; only a name that is not its own index is unclear."""
  digits = ("0", "1", "2")
  assert read_text(tmp_path, "2", 3, digits, ()).tolist() == [
    False,
    False,
    True,
  ]
  with pytest.raises(errors.InputError, match="'2' means classes 1 and 2"):
    read_text(tmp_path, "2", 3, ("0", "2", "1"), ())
  assert read_text(tmp_path, "30", 3, ("10", "20", "30"), ())[2]


def test_indices_alone_need_no_names(tmp_path):
  assert read_text(tmp_path, "1", 3, (), ()).tolist() == [False, True, False]
  with pytest.raises(errors.InputError, match="'cat'; no names are known"):
    read_text(tmp_path, "cat", 3, (), ())


def test_names_of_another_number_of_classes_are_refused(tmp_path):
  with pytest.raises(errors.InputError, match="class_names: expected 5"):
    read_text(tmp_path, "1", 5, NAMES, ())
  with pytest.raises(errors.InputError, match="wnids: expected 7"):
    read_text(tmp_path, "1", 7, (), WNIDS)


def test_imagenet_names_and_ids(tmp_path):
  table = classes.imagenet_classes()
  text = "n01440764\ngoldfish, Carassius auratus\n2\nmaillot, tank suit\n"
  mask = read_text(tmp_path, text, 1000, table.names, table.wnids)
  assert np.flatnonzero(mask).tolist() == [0, 1, 2, 639]
  with pytest.raises(errors.InputError, match="means classes 134 and 517"):
    read_text(tmp_path, "crane", 1000, table.names, table.wnids)


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
  ("array", "message"),
  [
    (np.ones(5, np.bool_), r"shape \[6\], got bool \[5\]"),
    (np.ones((6, 1), np.bool_), r"shape \[6\], got bool \[6, 1\]"),
    (np.array(3), r"shape \[n\], got int64 \[\]"),
    (np.ones((2, 2), int), r"shape \[n\], got int64 \[2, 2\]"),
    (np.ones(6), r"bool \[6\] or integer indices \[n\], got float64"),
    (np.array(["cat"]), "got <U3"),
    (
      np.array([1, 6]),
      r"position 1: expected a class index in \[0, 6\), got 6",
    ),
    (np.array([-1]), "position 0: .* got -1"),
    (np.array([1, 0, 1]), "position 2: class 1 stands there twice"),
    (np.array([0, 1, 1, 0, 0, 0]), "save a mask of 0 and 1 as bool"),
    (np.zeros(6, np.bool_), "at least one class"),
    (np.array([], int), "at least one class"),
  ],
)
def test_bad_arrays_are_refused(tmp_path, array, message):
  with pytest.raises(errors.InputError, match=message):
    read_array(tmp_path, array)


def test_pickled_arrays_are_refused(tmp_path):
  with pytest.raises(errors.InputError, match="allow_pickle=False"):
    read_array(tmp_path, np.array([0, None]), allow_pickle=True)


def test_absent_files_and_folders_are_named(tmp_path):
  for name in ("none.npy", "none.txt"):
    with pytest.raises(errors.InputError, match=name):
      masks.read_class_mask(tmp_path / name, 6)
  with pytest.raises(errors.InputError, match="directory"):
    masks.read_class_mask(tmp_path, 6)


@hypothesis.given(st.data())
@hypothesis.settings(deadline=None, max_examples=100)
def test_a_damaged_array_is_refused_or_read(tmp_path_factory, data):
  """Whatever stands in the file, no other error comes out."""
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
