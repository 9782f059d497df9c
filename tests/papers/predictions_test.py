"""Tests of reading public prediction files, good and bad ones."""

import dataclasses

import numpy as np
import pytest

from imgbench import errors
from imgbench.papers import records
from imgbench.papers.readers import predictions
from tests import raising
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
  ("change", "setting", "given"),
  [
    (lambda r: r[:-1], "", "int64 [19, 5]"),
    (lambda r: np.concatenate([r, r]), "", "int64 [40, 5]"),
    (lambda r: r.T, "", "int64 [5, 20]"),
    (changed(3, 2, 1000), ", row 3, column 2 (both from 0)", 1000),
    (changed(19, 4, -1), ", row 19, column 4 (both from 0)", -1),
    (changed(0, 0, 2**40), ", row 0, column 0 (both from 0)", 2**40),
    (changed(0, 0, 65536), ", row 0, column 0 (both from 0)", 65536),
    (lambda r: r.astype(float), "", "float64 [20, 5]"),
    (lambda r: r.astype(np.float16), "", "float16 [20, 5]"),
    (lambda r: r[:, :1] > 5, "", "bool [20, 1]"),
    (lambda r: r.astype("U3"), "", "<U3 [20, 5]"),
    (lambda r: r.astype("m8[s]"), "", "timedelta64[s] [20, 5]"),
    (lambda r: r.astype("M8[s]"), "", "datetime64[s] [20, 5]"),
    (lambda r: r[:, 0], "", "int64 [20]"),
    (lambda r: r[:, :, None], "", "int64 [20, 5, 1]"),
    (lambda r: r[:, :0], "", "int64 [20, 0]"),
    (lambda r: r[0, 0], "", "int64 []"),
    (lambda r: r.astype(object), "", None),
  ],
)
def test_other_arrays_are_refused(tmp_path, dataset, change, setting, given):
  array = np.array(change(good(dataset)))
  check = raising.about(f"{tmp_path / 'model.npy'}{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    read(tmp_path, dataset, array)


def test_a_class_twice_in_a_row_is_refused(tmp_path, dataset):
  ranking = good(dataset)
  ranking[7, 4] = ranking[7, 0]
  check = raising.about(f"{tmp_path / 'model.npy'}: ranking[7]")
  with pytest.raises(errors.InputError, check=check):
    read(tmp_path, dataset, ranking)


@pytest.mark.parametrize("content", [b"", b"not an array", "torn"])
def test_damaged_files_are_refused(tmp_path, dataset, content):
  path = tmp_path / "model.npy"
  np.save(path, good(dataset))
  path.write_bytes(path.read_bytes()[:-8] if content == "torn" else content)
  check = raising.about(str(path))
  with pytest.raises(errors.InputError, match=r"\.npy file", check=check):
    predictions.read_ranking(path, dataset, "model")


@pytest.mark.parametrize("mmap", [False, True])
def test_bytes_after_the_array_are_refused(tmp_path, dataset, mmap):
  path = tmp_path / "model.npy"
  np.save(path, good(dataset))
  np.testing.assert_array_equal(
    predictions.read_array(path, mmap), good(dataset)
  )
  path.write_bytes(path.read_bytes() + b"behind")
  check = raising.about(str(path), given="6 bytes more")
  with pytest.raises(errors.InputError, check=check):
    predictions.read_array(path, mmap)


def make(dataset, ranking):
  ranking = np.asarray(ranking, np.int16)
  return records.RankedPredictions("model", dataset.name, ranking, dataset.path)


@pytest.mark.parametrize("accuracy", [0.0, 0.001, 0.02, 0.6, 0.9])
def test_worst_first_is_noticed_and_nothing_else_is(tmp_path, accuracy):
  dataset = clones.dataset(tmp_path, count=5000)
  labels = dataset.labels.astype(np.int64)
  ranking = clones.ranking_of(labels, accuracy)
  if accuracy < 0.6:  # A model that guesses: the label at no place.
    wrong = (labels[:, None] + np.arange(1, 6)) % 1000
    at_first = ranking[:, :1] == labels[:, None]
    ranking = np.where(at_first, ranking, wrong)
  straight = make(dataset, ranking)
  assert not predictions.seems_reversed(straight, dataset)
  turned = make(dataset, ranking[:, ::-1])
  assert predictions.seems_reversed(turned, dataset) == (accuracy >= 0.02)
  np.testing.assert_array_equal(
    predictions.reverse_columns(turned).ranking, straight.ranking
  )


def test_a_poor_model_is_not_taken_for_one_that_is_worst_first(tmp_path):
  # Right first for 12 % of the images, at each other place for 22 %.
  dataset = clones.dataset(tmp_path, count=5000)
  ranking = clones.ranking_of(dataset.labels.astype(np.int64), 0.12)
  assert not predictions.seems_reversed(make(dataset, ranking), dataset)


def test_one_column_has_no_order(tmp_path, dataset):
  for column in (dataset.labels, (dataset.labels + 1) % 1000):
    found = make(dataset, column[:, None])
    assert not predictions.seems_reversed(found, dataset)
    assert predictions.count_end_hits(found, dataset)[1] == 0


def test_rows_that_lack_classes_are_not_turned(dataset):
  ranking = np.stack([dataset.labels, np.full(len(dataset), -1)], axis=1)
  found = make(dataset, ranking)
  assert not predictions.seems_reversed(found, dataset)
  check = raising.about(str(found.path), given=-1)
  with pytest.raises(errors.InputError, check=check):
    predictions.reverse_columns(found)


def number_as_text(ranking, inverse=False):
  """Returns classes as ImageFolder numbers folders '0', '1', '10', ..."""
  names = sorted(map(str, range(1000)))
  places = np.array([names.index(str(c)) for c in range(1000)])
  return (np.argsort(places) if inverse else places)[ranking]


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("accuracy", [0.08, 0.3, 0.8])
def test_fault_20_classes_in_the_order_of_their_texts(
  tmp_path, accuracy, inverse
):
  dataset = clones.dataset(tmp_path, count=5000)
  good = make(
    dataset, clones.ranking_of(dataset.labels.astype(np.int64), accuracy)
  )
  hits, _ = predictions.count_end_hits(good, dataset)
  assert predictions.find_numbering(good, dataset) is None
  turned = make(dataset, number_as_text(good.ranking, inverse))
  renumber, right = predictions.find_numbering(turned, dataset)
  assert right == hits
  # What the note says to do makes them right.
  expression = compile(renumber, "note", "eval")
  fixed = {c: eval(expression, {"c": c}) for c in range(1000)}
  assert [fixed[c] for c in turned.ranking[:9].ravel().tolist()] == (
    good.ranking[:9].ravel().tolist()
  )


@pytest.mark.parametrize("seed", range(8))
def test_fault_20_other_predictions_are_not_renumbered(tmp_path, seed):
  rng = np.random.default_rng(seed)
  dataset = clones.dataset(tmp_path, count=5000, seed=seed)
  labels = dataset.labels.astype(np.int64)
  good = clones.ranking_of(labels, rng.random(), seed)
  skewed = rng.zipf(1.3, len(labels)) % 1000  # A few classes for most images.
  for ranking in (
    good,
    rng.permutation(good),
    rng.integers(0, 1000, (len(labels), 1)),
    skewed[:, None],
    np.full((len(labels), 1), rng.integers(1000)),
    rng.permutation(1000)[good],
    (good + rng.integers(1, 1000)) % 1000,
    np.full((len(labels), 1), -1),
  ):
    assert predictions.find_numbering(make(dataset, ranking), dataset) is None
  # A class that is predicted for all, of a set that has few others.
  rare = dataclasses.replace(
    dataset, labels=np.where(labels < 900, 10, labels).astype(np.int32)
  )
  always = number_as_text(np.full((len(labels), 1), 10))
  assert predictions.find_numbering(make(rare, always), rare) is None


def test_fault_20_ten_classes_have_one_numbering(tmp_path):
  dataset = clones.dataset(tmp_path, count=5000)
  ten = dataclasses.replace(
    dataset,
    labels=dataset.labels % 10,
    class_names=tuple("abcdefghij"),
    subsets={},
  )
  for shift in range(10):
    ranking = (ten.labels[:, None] + shift) % 10
    assert predictions.find_numbering(make(ten, ranking), ten) is None
