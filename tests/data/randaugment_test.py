"""Tests of every operation of RandAugment against Pillow."""

from collections import Counter

import numpy as np
from PIL import Image
from PIL import ImageEnhance
from PIL import ImageOps
import pytest

from imgbench import errors
from imgbench.data import randaugment
from tests import raising
from tests.data import encoded_images

FLAT = encoded_images.photo(64, 91, 1) // 5 + 90
IMAGES = {
  "photo": encoded_images.photo(64, 91),
  "odd": encoded_images.photo(65, 64, 2),
  "flat": FLAT,
  "dark": FLAT // 40,
  "constant": np.full((32, 33, 3), 77, np.uint8),
}


def _affine(image, matrix):
  return image.transform(
    image.size, Image.Transform.AFFINE, matrix, fillcolor=(128, 128, 128)
  )


def _enhance(kind):
  return lambda image, level: kind(image).enhance(1 + 0.9 * level)


# Name -> (Pillow's operation, largest difference in levels).
# Ours rounds, Pillow truncates; the grey of a colour may round differently.
REFERENCE = {
  "identity": (lambda image, level: image, 0),
  "autocontrast": (lambda image, level: ImageOps.autocontrast(image), 0),
  "equalize": (lambda image, level: ImageOps.equalize(image), 0),
  "solarize": (
    lambda image, level: ImageOps.solarize(image, 256 * (1 - level)),
    0,
  ),
  "posterize": (
    lambda image, level: ImageOps.posterize(image, 8 - round(4 * level)),
    0,
  ),
  "color": (_enhance(ImageEnhance.Color), 2),
  "contrast": (_enhance(ImageEnhance.Contrast), 1),
  "brightness": (_enhance(ImageEnhance.Brightness), 1),
  "sharpness": (_enhance(ImageEnhance.Sharpness), 2),
}
MOVES = {
  "rotate": lambda image, level: image.rotate(
    30 * level, fillcolor=(128, 128, 128)
  ),
  "shear_x": lambda image, level: _affine(image, (1, 0.3 * level, 0, 0, 1, 0)),
  "shear_y": lambda image, level: _affine(image, (1, 0, 0, 0.3 * level, 1, 0)),
  "translate_x": lambda image, level: _affine(
    image, (1, 0, round(level * 150 / 331 * image.width), 0, 1, 0)
  ),
  "translate_y": lambda image, level: _affine(
    image, (1, 0, 0, 0, 1, round(level * 150 / 331 * image.height))
  ),
}


def _apply(name, pixels, level):
  """Returns the result of an operation; checks that its input is unchanged."""
  before, out = pixels.copy(), np.zeros_like(pixels)
  got = randaugment.OPERATIONS[name][0](pixels, level, out)
  np.testing.assert_array_equal(pixels, before)
  assert got is (pixels if name == "identity" else out)
  return got


def _levels(name):
  signed = randaugment.OPERATIONS[name][1]
  return (0, 0.3, 0.55, 0.9, 1) + ((-0.3, -0.9, -1) if signed else ())


def test_the_14_of_the_paper():
  assert set(randaugment.OPERATIONS) == {*REFERENCE, *MOVES}
  assert len(randaugment.OPERATIONS) == 14


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("name", REFERENCE)
def test_values_of_pillow(name, image):
  pixels = IMAGES[image]
  reference, most = REFERENCE[name]
  for level in _levels(name):
    got = _apply(name, pixels, level)
    expected = reference(Image.fromarray(pixels), level)
    assert got.dtype == np.uint8 and got.shape == pixels.shape
    assert encoded_images.far_apart(got, expected)[0] <= most


@pytest.mark.parametrize("image", ["photo", "odd"])
@pytest.mark.parametrize("name", MOVES)
def test_places_of_pillow(name, image):
  """All but a few pixels that are halfway between two."""
  pixels = IMAGES[image]
  for level in _levels(name):
    got = _apply(name, pixels, level)
    expected = np.asarray(MOVES[name](Image.fromarray(pixels), level))
    assert (got == expected).all(-1).mean() >= 0.995


@pytest.mark.parametrize(
  "name", sorted({*REFERENCE, *MOVES} - {"autocontrast", "equalize"})
)
def test_level_0_changes_nothing(name):
  for pixels in IMAGES.values():
    np.testing.assert_array_equal(_apply(name, pixels, 0), pixels)


def test_uncovered_is_grey():
  got = _apply("translate_x", np.zeros((10, 331, 3), np.uint8), 1)
  assert (got[:, -150:] == 128).all() and (got[:, :-150] == 0).all()


def test_in_place_and_reproducible():
  batch = np.stack([IMAGES["photo"]] * 3)
  augment = randaugment.RandAugment(3, 9)
  augment(batch[1], np.random.default_rng(1))
  assert (batch[[0, 2]] == IMAGES["photo"]).all()
  assert (batch[1] != IMAGES["photo"]).any()
  again = IMAGES["photo"].copy()
  augment(again, np.random.default_rng(1))
  np.testing.assert_array_equal(batch[1], again)


def test_layers_follow_each_other():
  """By hand: the operations and signs that this generator draws."""
  pixels = expected = IMAGES["photo"]
  rng = np.random.default_rng(2)
  names = list(randaugment.OPERATIONS)
  for _ in range(4):
    name, negative = names[rng.integers(14)], rng.integers(2)
    signed = randaugment.OPERATIONS[name][1]
    expected = _apply(name, expected, -0.7 if signed and negative else 0.7)
  got = pixels.copy()
  randaugment.RandAugment(4, 7)(got, np.random.default_rng(2))
  np.testing.assert_array_equal(got, expected)


def test_draws_are_uniform_and_their_number_is_fixed():
  class Counted:
    """A generator that records its draws."""

    def __init__(self, seed):
      self.rng = np.random.default_rng(seed)
      self.drawn = []

    def integers(self, *args):
      self.drawn.append((args, int(self.rng.integers(*args))))
      return self.drawn[-1][1]

  augment = randaugment.RandAugment(2, 5)
  pixels = np.zeros((4, 4, 3), np.uint8)
  operations = Counter()
  for seed in range(1000):
    counted = Counted(seed)
    augment(pixels, counted)
    assert [args for args, _ in counted.drawn] == [(14,), (2,)] * 2
    operations.update(value for _, value in counted.drawn[::2])
  assert set(operations) == set(range(14))
  # 2000 / 14 = 143 each, with a standard deviation of 11.5.
  assert max(abs(count - 143) for count in operations.values()) < 46


def test_no_layers():
  pixels = IMAGES["photo"].copy()
  randaugment.RandAugment(0, 9)(pixels, np.random.default_rng(0))
  np.testing.assert_array_equal(pixels, IMAGES["photo"])


@pytest.mark.parametrize(
  "settings, name, given",
  [
    ((-1, 5), "randaugment_layers", -1),
    ((2, 11), "randaugment_magnitude", 11),
    ((2, -1), "randaugment_magnitude", -1),
  ],
)
def test_bad_settings(settings, name, given):
  with pytest.raises(errors.InputError, check=raising.about(name, given=given)):
    randaugment.RandAugment(*settings)
