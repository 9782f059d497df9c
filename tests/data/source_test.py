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


def test_fault_01_a_skipped_example_is_replaced_for_training():
  examples = source.Examples(
    image=np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1),
    label=np.array([1, 3, 4], np.int32),
    image_id=np.array(["b", "d", "e"]),
    place=np.array([1, 3, 4]),
  )
  filled = examples.fill(6)
  assert filled.label.tolist() == [1, 1, 1, 3, 4, 4]
  assert filled.image.ravel().tolist() == [0, 0, 0, 1, 2, 2]
  assert filled.label_codes is None


def test_fault_01_the_bound_holds_again_after_an_error():
  bad = source.BadExamples("input", "skip", 1)
  bad.add(7, "seven", ValueError())
  bad.add(7, "seven", ValueError())
  for _ in range(2):
    with pytest.raises(errors.InputError, check=raising.about("eight")):
      bad.add(8, "eight", ValueError())
