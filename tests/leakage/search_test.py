"""Tests of the search for copies, on random images."""

import io

import numpy as np
from PIL import Image
import pytest

from imgbench import errors
from imgbench.leakage import search
from tests import raising


@pytest.fixture(scope="module")
def train():
  """Returns 240 images with coarse and fine structure."""
  rng = np.random.default_rng(0)
  images = []
  for _ in range(240):
    coarse, fine = (
      Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).resize(
        (32, 32), Image.Resampling.BICUBIC
      )
      for side in (5, 14)
    )
    images.append(0.6 * np.asarray(coarse) + 0.4 * np.asarray(fine))
  return np.rint(images).astype(np.uint8)


def recompress(image):
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, "JPEG", quality=50)
  return np.asarray(Image.open(buffer))


def crop(image):
  part = Image.fromarray(image[3:31, 1:29])
  return np.asarray(part.resize((32, 32), Image.Resampling.BICUBIC))


CHANGES = {
  "mirrored": lambda image: image[:, ::-1],
  "recompressed": recompress,
  "cropped": crop,
  "brightened": lambda image: np.minimum(image * 1.3, 255).astype(np.uint8),
}


@pytest.mark.parametrize("name", CHANGES)
def test_planted_copies_are_found_and_others_are_not(train, name):
  sources = np.arange(0, 60, 3)
  # As many images that have no copy.
  test = np.concatenate(
    [[CHANGES[name](image) for image in train[sources]], train[200:220]]
  )
  found = search.find_near(test, train[:200])
  assert set(zip(found.test.tolist(), found.train.tolist(), strict=True)) == {
    (i, 3 * i) for i in range(20)
  }
  assert (np.diff(found.similarity) <= 0).all()
  assert (found.similarity >= search.SIMILARITY).all()
  if name != "recompressed":
    assert set(found.mirrored.tolist()) == {name == "mirrored"}
  wanted = 28 / 32 if name == "cropped" else 1
  np.testing.assert_allclose(found.scale, wanted, atol=0.03)


def test_exact_copies(train):
  test = train[[5, 7, 5]].copy()
  test[1, 0, 0, 0] ^= 1
  found = search.find_exact(search.digest(test), search.digest(train))
  assert found.test.tolist() == [0, 2] and found.train.tolist() == [5, 5]
  assert found.similarity.tolist() == [1, 1]
  # Equal bytes of another shape are another image.
  flat = train.reshape(len(train), 16, 64, 3)
  assert not set(search.digest(flat)) & set(search.digest(train))
  constant = search.digest(np.zeros((9, 2, 2, 3), np.uint8))
  assert len(search.find_exact(constant[:1], constant)) == search.MOST


def test_flat_images_are_no_near_duplicates():
  flat = np.full((3, 32, 32, 3), 200, np.uint8)
  assert len(search.find_near(flat, flat)) == 0


def test_few_images_and_those_of_the_last_block(train):
  for count in (1, 109):
    last = train[count - 1 : count]
    found = search.find_near(last, train[:count])
    assert found.train.tolist()[:1] == [count - 1]
    assert found.similarity[0] == pytest.approx(1, abs=1e-3)


def test_thumbnails_are_means_of_areas():
  images = np.arange(2 * 64 * 96 * 1, dtype=np.uint32).reshape(2, 64, 96, 1)
  images = (images % 251).astype(np.uint8)
  small = search.shrink(images)
  mean = images.reshape(2, 32, 2, 32, 3).mean((2, 4))
  np.testing.assert_allclose(small[..., 0], mean, atol=0.51)
  assert (small[..., 0] == small[..., 2]).all()
  same = np.zeros((1, 32, 32, 3), np.uint8)
  assert search.shrink(same) is same


def test_bad_input_is_refused(train):
  bad = raising.about("test", given=[0, 32, 32, 3])
  with pytest.raises(errors.InputError, check=bad):
    search.find_near(train[:0], train)
  with pytest.raises(errors.InputError, check=raising.about("least", given=2)):
    search.find_near(train, train, 2)
