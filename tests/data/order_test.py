"""Tests of the order of training examples."""

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from imgbench import errors
from imgbench.data import order
from imgbench.parallel import processes as processes_lib


@pytest.mark.smoke
def test_every_epoch_holds_every_example_once():
  stream = order.ExampleOrder(10, seed=3)
  batches = [stream.take(start, 4) for start in range(0, 30, 4)]
  index = np.concatenate([b["index"] for b in batches])[:30].reshape(3, 10)
  epoch = np.concatenate([b["epoch"] for b in batches])[:30].reshape(3, 10)
  for number in range(3):
    np.testing.assert_array_equal(np.sort(index[number]), np.arange(10))
    np.testing.assert_array_equal(epoch[number], number)
  assert not np.array_equal(index[0], index[1])


@settings(max_examples=30, deadline=None)
@given(
  start=st.integers(0, 10**6),
  first=st.integers(0, 50),
  second=st.integers(0, 50),
)
def test_a_part_does_not_depend_on_its_start(start, first, second):
  whole = order.ExampleOrder(17, seed=1).take(start, first + second)
  tail = order.ExampleOrder(17, seed=1).take(start + first, second)
  np.testing.assert_array_equal(whole["index"][first:], tail["index"])
  np.testing.assert_array_equal(whole["epoch"][first:], tail["epoch"])


def test_balanced_classes_share_an_epoch():
  # Class 2 has no example, class 3 has one, which occurs 4 times in an epoch.
  labels = np.array([0] * 9 + [1] * 2 + [3])
  stream = order.ExampleOrder(12, seed=1, labels=lambda: labels)
  found = stream.take(0, 36)
  index, epoch = (found[name].reshape(3, 12) for name in ("index", "epoch"))
  for row in index:
    np.testing.assert_array_equal(np.bincount(labels[row]), [4, 4, 0, 4])
    # No example of a class is repeated before the others have occurred.
    assert len(set(row[labels[row] == 0])) == 4
    np.testing.assert_array_equal(np.bincount(row, minlength=12)[9:], [2, 2, 4])
  # Each time an example has another number, for other random numbers, which
  # turns from even to odd from one epoch to the next.
  assert len(set(zip(index.ravel(), epoch.ravel(), strict=True))) == 36
  odd = [
    set((numbers[labels[row] == 0] % 2).tolist())
    for row, numbers in zip(index, epoch, strict=True)
  ]
  assert odd == [{0}, {1}, {0}]
  for start, count in ((5, 9), (11, 2), (30, 6)):
    part = order.ExampleOrder(12, seed=1, labels=lambda: labels)
    for name, array in part.take(start, count).items():
      assert array.dtype == np.int32
      np.testing.assert_array_equal(array, found[name][start : start + count])


@settings(max_examples=30, deadline=None)
@given(
  counts=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
  seed=st.integers(0, 99),
)
def test_any_classes_are_balanced_within_one_example(counts, seed):
  labels = np.repeat(np.arange(len(counts)), counts)
  stream = order.ExampleOrder(len(labels), seed, lambda: labels)
  found = stream.take(0, 2 * len(labels))
  pairs = set(zip(*(found[name].tolist() for name in found), strict=True))
  assert len(pairs) == 2 * len(labels)
  for epoch in found["index"].reshape(2, -1):
    drawn = np.bincount(labels[epoch], minlength=len(counts))
    drawn = drawn[np.array(counts) > 0]
    assert drawn.max() - drawn.min() <= 1


def test_seeds_give_other_orders():
  one = order.ExampleOrder(100, seed=1).take(0, 100)["index"]
  two = order.ExampleOrder(100, seed=2).take(0, 100)["index"]
  assert not np.array_equal(one, two)


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_shares_of_processes_are_the_same_stream_together(processes):
  examples = order.ExampleOrder(50, seed=1)
  for step in range(9):  # over the end of an epoch
    whole = examples.take(step * 16, 16)["index"]
    parts = [
      whole[processes_lib.share(16, process, processes)]
      for process in range(processes)
    ]
    assert {len(part) for part in parts} == {16 // processes}
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("process, processes", [(0, 3), (2, 2), (-1, 2)])
def test_shares_that_do_not_fit_are_refused(process, processes):
  with pytest.raises(errors.InputError, match="global_batch_size"):
    processes_lib.share(16, process, processes)
