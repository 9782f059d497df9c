"""Tests of the section on reconstructed images."""

import pathlib

import numpy as np
import pytest

from imgbench.report import inputs
from imgbench.report import reconstructions


@pytest.mark.parametrize(
  ("errors", "whole"), [([0.1, 0.3, 0.2], True), ([0.1, 0.3, 0.4], False)]
)
def test_the_caption_says_where_the_highest_errors_are_not_shown(errors, whole):
  pixels = np.zeros((2, 4, 4, 1), np.uint8)
  found = inputs.Reconstructions(
    np.array(["a", "b", "c"]),
    np.array(errors, np.float32),
    shown=np.array([1, 0]),
    images=pixels,
    reconstructions=pixels,
  )
  dataset = inputs.DatasetFiles("a:test", ("x",), reconstructions=found)
  run = inputs.Run(pathlib.Path(), {}, {}, {}, (), (), (), ())
  _, gallery = reconstructions.build(run, dataset, with_figures=False)
  assert ("first images" in gallery.caption) != whole
