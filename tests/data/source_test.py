"""Tests of the checks of every data set."""

import numpy as np
import pytest

from imgbench import data
from imgbench import errors
from imgbench.data import source
from tests import raising

INFO = source.Info(
  name="toy",
  split="test",
  num_examples=2,
  image_shape=(4, 4, 3),
  class_names=("a", "b"),
  fingerprint="0",
)


def examples(shape=(2, 4, 4, 3), labels=(0, 1), dtype=np.uint8):
  return source.Examples(
    image=np.zeros(shape, dtype),
    label=np.array(labels, np.int32),
    image_id=np.array(["x", "y"]),
  )


def test_good_examples_pass():
  good = examples()
  assert source.check_examples(good, INFO) is good
  assert INFO.key == "toy:test" and INFO.num_classes == 2


@pytest.mark.parametrize(
  ("bad", "given"),
  [
    (examples((2, 5, 4, 3)), "uint8 [2, 5, 4, 3]"),
    (examples(dtype=np.float32), "float32 [2, 4, 4, 3]"),
    (examples(labels=(0, 2)), "2 for y and 0 more"),
    (examples(labels=(-1, 5)), "-1 for x and 1 more"),
  ],
)
def test_other_examples_are_refused(bad, given):
  about = raising.about("toy:test", given=given)
  with pytest.raises(errors.InputError, check=about):
    source.check_examples(bad, INFO)


def test_build_source_refuses_unknown_options():
  with pytest.raises(errors.InputError, match="colour"):
    data.build_source("scenes", "train", colour=True)
  assert data.build_source("scenes", "v2", v2_examples=24).info.synthetic
