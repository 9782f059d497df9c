"""Tests of public prediction files: everything suspicious is refused."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.papers import records
from imgbench.papers.readers import predictions
from tests.papers import clones


@pytest.fixture
def dataset(tmp_path):
  return clones.dataset(tmp_path)


def read(folder, dataset, array):
  path = folder / "model.npy"
  np.save(path, array)
  return predictions.read_ranking(path, dataset, "model")


def good(dataset):
  return clones.ranking_of(dataset.labels.astype(np.int64), 0.7)


@pytest.mark.parametrize("dtype", [np.int64, np.int16, np.uint16, ">i4"])
def test_ranking_is_the_file(tmp_path, dataset, dtype):
  ranking = good(dataset)
  found = read(tmp_path, dataset, ranking.astype(dtype))
  np.testing.assert_array_equal(found.ranking, ranking)
  assert found.ranking.dtype == np.int16
  assert (found.model, found.dataset) == ("model", dataset.name)


def test_column_order_of_the_file_does_not_matter(tmp_path, dataset):
  ranking = good(dataset)
  found = read(tmp_path, dataset, np.asfortranarray(ranking))
  np.testing.assert_array_equal(found.ranking, ranking)


def changed(row, column, value):
  def change(ranking):
    ranking[row, column] = value
    return ranking

  return change


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda r: r[:-1], "expected 20 rows, .* got 19 .int64 .19, 5."),
    (lambda r: np.concatenate([r, r]), "expected 20 rows, .* got 40"),
    (lambda r: r.T, "expected 20 rows, .* got 5"),
    (changed(3, 2, 1000), r"\[0, 1000\), got 1000 in row 3, column 2"),
    (changed(19, 4, -1), r"\[0, 1000\), got -1 in row 19, column 4"),
    (changed(0, 0, 2**40), rf"\[0, 1000\), got {2**40} in row 0"),
    (changed(0, 0, 65536), r"\[0, 1000\), got 65536 in row 0"),
    (lambda r: changed(7, 4, r[7, 0])(r), "different classes, got .* in row 7"),
    (lambda r: r.astype(float), r"integers \[N, k\], got float64 \[20, 5\]"),
    (lambda r: r.astype(np.float16), "integers .*, got float16"),
    (lambda r: r[:, :1] > 5, "integers .*, got bool"),
    (lambda r: r.astype(str), "integers .*, got <U"),
    (lambda r: r.astype("m8[s]"), "integers .*, got timedelta64"),
    (lambda r: r.astype("M8[s]"), "integers .*, got datetime64"),
    (lambda r: r[:, 0], r"integers \[N, k\].*, got int64 \[20\]"),
    (lambda r: r[:, :, None], r"got int64 \[20, 5, 1\]"),
    (lambda r: r[:, :0], r"k from 1 to 1000, got int64 \[20, 0\]"),
    (lambda r: r[0, 0], r"got int64 \[\]"),
    (lambda r: r.astype(object), "an array of numbers, got ValueError"),
  ],
)
def test_other_arrays_are_refused(tmp_path, dataset, change, message):
  array = np.array(change(good(dataset)))
  with pytest.raises(errors.InputError, match=message) as raised:
    read(tmp_path, dataset, array)
  assert str(tmp_path / "model.npy") in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"not an array", "torn"])
def test_damaged_files_are_refused(tmp_path, dataset, content):
  path = tmp_path / "model.npy"
  np.save(path, good(dataset))
  path.write_bytes(path.read_bytes()[:-8] if content == "torn" else content)
  with pytest.raises(errors.InputError, match=r"model.npy: expected an .npy"):
    predictions.read_ranking(path, dataset, "model")


@pytest.mark.parametrize("mmap", [False, True])
def test_bytes_behind_the_array_are_refused(tmp_path, dataset, mmap):
  path = tmp_path / "model.npy"
  np.save(path, good(dataset))
  np.testing.assert_array_equal(
    predictions.read_array(path, mmap), good(dataset)
  )
  path.write_bytes(path.read_bytes() + b"behind")
  with pytest.raises(
    errors.InputError, match=r"the array int64 \[20, 5\], got 6 bytes more"
  ):
    predictions.read_array(path, mmap)


def of(dataset, ranking):
  ranking = np.asarray(ranking, np.int16)
  return records.Predictions("model", dataset.name, ranking, dataset.path)


@pytest.mark.parametrize("accuracy", [0.0, 0.001, 0.02, 0.6, 0.9])
def test_worst_first_is_noticed_and_nothing_else_is(tmp_path, accuracy):
  dataset = clones.dataset(tmp_path, count=5000)
  labels = dataset.labels.astype(np.int64)
  ranking = clones.ranking_of(labels, accuracy)
  if accuracy < 0.6:  # A model that guesses: the label at no place.
    wrong = (labels[:, None] + np.arange(1, 6)) % 1000
    at_first = ranking[:, :1] == labels[:, None]
    ranking = np.where(at_first, ranking, wrong)
  straight = of(dataset, ranking)
  assert not predictions.seems_reversed(straight, dataset)
  turned = of(dataset, ranking[:, ::-1])
  assert predictions.seems_reversed(turned, dataset) == (accuracy >= 0.02)
  np.testing.assert_array_equal(
    predictions.reversed_columns(turned).ranking, straight.ranking
  )


def test_a_poor_model_is_not_taken_for_one_that_is_worst_first(tmp_path):
  # Right first for 12 % of the images, at each other place for 22 %.
  dataset = clones.dataset(tmp_path, count=5000)
  ranking = clones.ranking_of(dataset.labels.astype(np.int64), 0.12)
  assert not predictions.seems_reversed(of(dataset, ranking), dataset)


def test_one_column_has_no_order(tmp_path, dataset):
  for column in (dataset.labels, (dataset.labels + 1) % 1000):
    found = of(dataset, column[:, None])
    assert not predictions.seems_reversed(found, dataset)
    assert predictions.end_hits(found, dataset)[1] == 0


def test_rows_that_lack_classes_are_not_turned(dataset):
  ranking = np.stack([dataset.labels, np.full(len(dataset), -1)], axis=1)
  found = of(dataset, ranking)
  assert not predictions.seems_reversed(found, dataset)
  with pytest.raises(errors.InputError, match="a class in every column"):
    predictions.reversed_columns(found)
