"""Tests of the checks of arguments."""

import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import checks
from tests import raising


def test_right_arguments_pass():
  checks.shape("x", np.zeros((2, 3)), ("B", 3))
  checks.shape("x", 1.0, ())
  checks.kind("x", jnp.zeros(2, jnp.bfloat16), jnp.floating, "floating")
  checks.labels_in_range("x", np.array([0, 4]), 5)
  checks.labels_in_range("x", np.array([], int), 5)
  checks.at_least("x", np.array([3, 2]), np.array([3, 1]), "y")


@pytest.mark.parametrize(
  "call, setting, given",
  [
    (lambda: checks.shape("x", np.zeros((2, 3)), ("B", 4)), "x", [2, 3]),
    (lambda: checks.shape("x", np.zeros(2), ("B", "K")), "x", [2]),
    (
      lambda: checks.kind("x", np.zeros(2), np.integer, "an integer type"),
      "x",
      "float64",
    ),
    (lambda: checks.labels_in_range("x", np.array([1, -2, 9]), 5), "x[1]", -2),
    (
      lambda: checks.at_least("x", np.array([3, 0]), np.array([3, 1]), "y"),
      "x[1]",
      0,
    ),
  ],
)
def test_wrong_arguments_are_named(call, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    call()
