"""Tests of resizing against Pillow."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import PIL
from PIL import Image
import pytest

from imgbench.data import resample
from tests.data import encoded_images

PHOTO = encoded_images.photo(231, 300)
CHECKS = np.random.default_rng(0).integers(0, 2, (231, 300, 3), np.uint8) * 255


def _resize(pixels, box, size, method):
  out = np.empty((size, size, 3), np.uint8)
  resample.resize(pixels, box, out, method)
  return out


@pytest.mark.parametrize("pixels", [PHOTO, CHECKS], ids=["photo", "checks"])
@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.data())
def test_as_pillow(pixels, data):
  """Coefficients have 16 bits: a value may round differently in each pass.

  Few values do, but up to one in seven where whole pixels put them on ties.
  """
  unit = st.floats(0, 1)
  height, width = pixels.shape[:2]
  rows = 16 + data.draw(unit) * (height - 16)
  columns = 16 + data.draw(unit) * (width - 16)
  top = data.draw(unit) * (height - rows)
  left = data.draw(unit) * (width - columns)
  size = data.draw(st.integers(1, 80))
  method = data.draw(st.sampled_from(resample.METHODS))
  hypothesis.assume(top + rows <= height and left + columns <= width)
  box = top, left, rows, columns
  expected = encoded_images.resized(pixels, box, size, method)
  most, mean = encoded_images.far_apart(
    _resize(pixels, box, size, method), expected
  )
  assert most <= 2
  assert size < 16 or mean <= 0.2
  out = np.empty((size, size, 3), np.uint8)
  resample.resize_image(Image.fromarray(pixels), box, out, method)
  most, mean = encoded_images.far_apart(out, expected)
  assert most <= 2  # the box is in 32 bits there
  assert size < 16 or mean <= 0.2


@pytest.mark.parametrize("method", resample.METHODS)
def test_nothing_to_do_changes_nothing(method):
  box = 7, 20, 64, 64
  np.testing.assert_array_equal(
    _resize(PHOTO, box, 64, method), PHOTO[7:71, 20:84]
  )


@pytest.mark.parametrize("method", resample.METHODS)
def test_pixels_around_the_crop_count(method):
  """As if all had been resized and then cropped."""
  whole = Image.fromarray(PHOTO).resize(
    (100, 77), {"bilinear": 2, "bicubic": 3}[method]
  )
  got = _resize(PHOTO, (30, 60, 96, 96), 32, method)
  most, mean = encoded_images.far_apart(got, np.asarray(whole)[10:42, 20:52])
  assert most <= 2 and mean < 0.05


@hypothesis.given(st.integers(2, 4000), st.integers(1, 300))
def test_a_crop_to_the_far_edge_is_inside(limit, size):
  """Though its end may be beyond it by a rounding error."""
  step = limit / size
  pixels = np.zeros((3, limit, 3), np.uint8)
  for left in (step * (size // 3), limit / 3):
    _resize(pixels, (0, left, 3, limit - left), 4, "bilinear")


def test_without_the_package_pillow_does_it(monkeypatch):
  box = 30.5, 60.25, 96, 110
  assert resample.version().startswith("cykooz-resizer 4")
  monkeypatch.setattr(resample, "_HAS_LIBRARY", False)
  assert resample.version() == f"resized by pillow {PIL.__version__}"
  expected = encoded_images.resized(PHOTO, box, 40, "bicubic")
  got = _resize(PHOTO, box, 40, "bicubic")
  most, mean = encoded_images.far_apart(got, expected)
  assert most <= 1 and mean < 0.01


def test_antialiased():
  """Stripes of one pixel become grey, not stripes of another width."""
  stripes = np.zeros((90, 90, 3), np.uint8)
  stripes[:, ::2] = 255
  got = _resize(stripes, (0, 0, 90, 90), 32, "bilinear").astype(int)
  assert np.abs(got[:, 2:-2] - 127).max() < 30
