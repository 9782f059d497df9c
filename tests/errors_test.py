import pickle

import pytest

from imgbench import errors
from tests import raising


def test_input_error_carries_what_its_line_says():
  error = errors.InputError("optim.lr", "a number above 0", -1, "set it to 0.1")
  assert error.setting == "optim.lr"
  assert error.expected == "a number above 0"
  assert error.given == -1
  line = "optim.lr: expected a number above 0, got -1; set it to 0.1"
  assert str(error) == line


def test_input_error_survives_a_pickle():
  error = errors.InputError("--out", "a folder", "'x'")
  copy = pickle.loads(pickle.dumps(error))
  assert str(copy) == str(error)
  assert vars(copy) == vars(error)


def test_prefix_goes_before_the_setting():
  error = errors.InputError("depth", "at least 1", 0)
  assert error.prefixed("model.").setting == "model.depth"
  nameless = errors.InputError("", "at least 1", 0)
  assert nameless.prefixed("model.").setting == "model"


def test_about_checks_each_part():
  error = errors.InputError("depth", "at least 1", 0)
  assert raising.about("depth", expected="at least 1", given=0)(error)
  for wrong in (
    raising.about("width"),
    raising.about("depth", expected="at least 2"),
    raising.about("depth", given=1),
  ):
    with pytest.raises(AssertionError):
      wrong(error)
