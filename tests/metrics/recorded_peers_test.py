"""Tests against recorded values of other libraries, see tests/peers/values.

The problem consists of integers, equal in every version of NumPy. Tests that
need the libraries check the record: `make test-peers`.
"""

import functools

import numpy as np
import pytest

from tests.peers import problems
from tests.peers import values

RECORDED = [
  (library, name)
  for library in values.LIBRARIES
  for name in values.read_record(library)[1]
]


@functools.cache
def ours():
  return values.imgbench(problems.integers())


def test_problem_is_the_recorded_one():
  problem = problems.integers()
  assert problem.scores.shape == problem.probs.shape == (240, 7)
  scores = [1.625, 3.0, 4.375, 5.75, 7.125, 8.5, 9.875]
  assert problem.scores[1].tolist() == scores
  assert problem.labels[:8].tolist() == [6, 6, 4, 4, 0, 4, 3, 3]
  assert problem.labels.sum() == 768


@pytest.mark.parametrize("library, name", RECORDED)
def test_value_is_that_of_the_library(library, name):
  version, record = values.read_record(library)
  tolerance = values.LIBRARIES[library].tolerance
  np.testing.assert_allclose(
    ours()[name],
    record[name],
    rtol=tolerance,
    atol=tolerance,
    err_msg=f"{name} of {library} {version}",
  )


def test_every_number_is_compared_with_a_library():
  assert {name for _, name in RECORDED} == set(ours())
