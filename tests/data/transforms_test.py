"""Tests of crops for training and evaluation."""

import io
import math
import pickle

import hypothesis
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest
from scipy import stats

from imgbench import errors
from imgbench.data import decode
from imgbench.data import randaugment
from imgbench.data import transforms
from tests import raising
from tests.data import encoded_images

PHOTO = encoded_images.photo(150, 200)
JPEG = encoded_images.encode(PHOTO)


def _apply(transform, seed=None, name="auto"):
  out = np.zeros((transform.size, transform.size, 3), np.uint8)
  rng = None if seed is None else np.random.default_rng(seed)
  transform(decode.build_decoder(name, exact=True), JPEG, out, rng)
  return out


@hypothesis.settings(deadline=None)
@hypothesis.given(
  st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**32)
)
def test_random_box_is_inside_and_as_asked(height, width, seed):
  crop = transforms.InceptionCrop(8, area=(0.1, 0.9), ratio=(0.5, 2.0))
  top, left, rows, columns = crop.box(
    height, width, np.random.default_rng(seed)
  )
  assert 0 <= top <= top + rows <= height and rows > 0
  assert 0 <= left <= left + columns <= width and columns > 0
  fallback = crop._fallback(height, width)
  if (top, left, rows, columns) != fallback:
    # Sides are rounded by at most half a pixel each.
    assert (rows - 0.5) * (columns - 0.5) <= 0.9 * height * width + 1e-6
    assert (rows + 0.5) * (columns + 0.5) >= 0.1 * height * width - 1e-6
    assert (columns - 0.5) / (rows + 0.5) <= 2.0 + 1e-6
    assert (columns + 0.5) / max(rows - 0.5, 1e-9) >= 0.5 - 1e-6


def test_fallback_is_the_largest_centred_box():
  crop = transforms.InceptionCrop(8, area=(1.0, 1.0))
  box = lambda h, w: crop.box(h, w, np.random.default_rng(0))
  assert box(100, 1000) == (0, 433, 100, 133)  # 4/3 of the height
  assert box(1000, 100) == (433, 0, 133, 100)
  assert crop._fallback(100, 110) == (0, 0, 100, 110)
  assert crop._fallback(1, 3000) == (0, 1499, 1, 1)


def test_areas_and_places_are_uniform():
  """All squares fit into a square, so nothing is drawn again."""
  crop = transforms.InceptionCrop(8, area=(0.2, 1.0), ratio=(1.0, 1.0))
  rng = np.random.default_rng(3)
  boxes = np.array([crop.box(5000, 5000, rng) for _ in range(3000)])
  area = boxes[:, 2] * boxes[:, 3] / 5000**2
  assert stats.kstest(area, stats.uniform(0.2, 0.8).cdf).pvalue > 0.01
  for place in boxes[:, :2].T:
    share = (place + 0.5) / (5001 - boxes[:, 2])
    assert stats.kstest(share, "uniform").pvalue > 0.01


def test_logarithms_of_ratios_are_uniform():
  """Parts this small fit in any shape."""
  crop = transforms.InceptionCrop(8, area=(0.1, 0.3))
  rng = np.random.default_rng(4)
  boxes = np.array([crop.box(5000, 5000, rng) for _ in range(3000)])
  logs = np.log(boxes[:, 3] / boxes[:, 2])
  edge = math.log(4 / 3)
  assert stats.kstest(logs, stats.uniform(-edge, 2 * edge).cdf).pvalue > 0.01


def test_crop_is_that_of_its_box():
  crop = transforms.InceptionCrop(32)
  box = crop.box(150, 200, np.random.default_rng(5))
  expected = encoded_images.resized(
    Image.open(io.BytesIO(JPEG)), box, 32, "bilinear"
  )
  most, mean = encoded_images.far_apart(_apply(crop, 5), expected)
  assert most <= 2 and mean < 0.05


def test_a_crop_depends_on_its_generator_alone():
  crop = transforms.InceptionCrop(32)
  alone = _apply(crop, (1, 2, 3))
  _apply(crop, (1, 2, 4))
  np.testing.assert_array_equal(_apply(crop, (1, 2, 3)), alone)
  assert (_apply(crop, (1, 2, 4)) != alone).any()


def test_centre_box_by_hand():
  crop = transforms.CentreCrop(224)
  # 375x500 becomes 256x341; (341 - 224) / 2 = 58.5 rounds to 58.
  expected = 16 * 375 / 256, 58 * 500 / 341, 224 * 375 / 256, 224 * 500 / 341
  assert crop.box(375, 500) == pytest.approx(expected)
  top, left, rows, columns = expected
  assert crop.box(500, 375) == pytest.approx((left, top, columns, rows))
  assert crop.box(256, 256) == (16, 16, 224, 224)
  # floor(288 / 0.95) = 303, (303 - 288) / 2 = 7.5 rounds to 8.
  assert transforms.CentreCrop(288, 0.95).box(303, 303) == (8, 8, 288, 288)
  assert transforms.CentreCrop(32, 1.0).box(64, 64) == (0, 0, 64, 64)


@hypothesis.given(
  st.integers(1, 5000),
  st.integers(1, 5000),
  st.integers(1, 600),
  st.floats(0.3, 1),
)
def test_centre_box_is_inside(height, width, size, fraction):
  top, left, rows, columns = transforms.CentreCrop(size, fraction).box(
    height, width
  )
  slack = 1e-9 * (height + width)
  assert min(top, left) >= 0 < min(rows, columns)
  assert top + rows <= height + slack and left + columns <= width + slack


@pytest.mark.parametrize("shape", [(150, 200), (201, 150), (90, 90)])
@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
@pytest.mark.parametrize("fraction", [0.875, 0.95, 1.0])
def test_centre_crop_is_resize_then_crop(shape, method, fraction):
  """The two steps of torchvision and timm, by Pillow, in whole pixels."""
  pixels = encoded_images.photo(*shape)
  size, (height, width) = 56, shape
  short = int(size / fraction)
  if height <= width:
    new = short, int(short * width / height)
  else:
    new = int(short * height / width), short
  kernel = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}[method]
  whole = Image.fromarray(pixels).resize(new[::-1], kernel)
  top = int(round((new[0] - size) / 2.0))
  left = int(round((new[1] - size) / 2.0))
  expected = np.asarray(whole)[top : top + size, left : left + size]
  out = np.empty((size, size, 3), np.uint8)
  transforms.CentreCrop(size, fraction, method)(
    decode.build_decoder("auto", exact=True),
    encoded_images.encode(pixels, "PNG"),
    out,
    None,
  )
  most, mean = encoded_images.far_apart(out, expected)
  assert most <= 2 and mean < 0.05


def test_augmented_is_the_crop_and_then_the_rest():
  crop = transforms.InceptionCrop(48)
  augment = randaugment.RandAugment(2, 9)
  both = transforms.Augmented(crop, augment)
  rng = np.random.default_rng(7)
  expected = np.zeros((48, 48, 3), np.uint8)
  crop(decode.build_decoder("auto", exact=True), JPEG, expected, rng)
  plain = expected.copy()
  augment(expected, rng)
  assert (plain != expected).any()
  np.testing.assert_array_equal(_apply(both, 7), expected)


@pytest.mark.parametrize(
  "transform",
  [
    transforms.InceptionCrop(32, (0.2, 1.0)),
    transforms.CentreCrop(32, 0.9, "bilinear"),
    transforms.Augmented(
      transforms.InceptionCrop(32), randaugment.RandAugment(1, 5)
    ),
  ],
  ids=lambda t: type(t).__name__,
)
def test_transforms_survive_pickling(transform):
  copy = pickle.loads(pickle.dumps(transform))
  assert copy == transform and hash(copy) == hash(transform)
  np.testing.assert_array_equal(_apply(copy, 1), _apply(transform, 1))


@pytest.mark.parametrize(
  "kind, setting, value, expected",
  [
    (transforms.InceptionCrop, "size", 0, "at least 1"),
    (transforms.InceptionCrop, "area", (0.0, 1.0), None),
    (transforms.InceptionCrop, "area", (0.5, 1.1), None),
    (transforms.InceptionCrop, "ratio", (2, 1), None),
    (transforms.InceptionCrop, "method", "area", "one of bilinear, bicubic"),
    (transforms.CentreCrop, "crop_fraction", 87.5, None),
    (transforms.CentreCrop, "crop_fraction", 0.0, None),
  ],
)
def test_bad_settings(kind, setting, value, expected):
  about = raising.about(setting, expected=expected)
  with pytest.raises(errors.InputError, check=about):
    kind(**({"size": 8} | {setting: value}))
