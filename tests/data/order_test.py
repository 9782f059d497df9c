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
