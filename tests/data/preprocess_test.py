"""Tests of augmentation and normalisation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import parallel
from imgbench.data import preprocess
from tests import raising

N, H, W, C = 40, 9, 12, 3


@pytest.fixture(scope="module")
def images():
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (N, H, W, C), dtype=np.uint8)


def draw(images, index, epoch=0, seed=0, **settings):
  index = jnp.asarray(index, jnp.int32)
  epoch = jnp.broadcast_to(jnp.asarray(epoch, jnp.int32), index.shape)
  sample = jax.jit(functools.partial(preprocess.sample, **settings))
  return np.asarray(sample(images, index, epoch, jax.random.key(seed)))


def twin(images, index, epoch, seed, pad, flip, cutout, value=127):
  """Computes the same, one image after the other, with NumPy's padding."""
  key = jax.random.key(seed)
  result = []
  for i in index:
    of_example = jax.random.fold_in(jax.random.fold_in(key, epoch), i)
    bits = np.asarray(jax.random.bits(of_example, (5,), jnp.uint32))
    top, left = (int(b) % (2 * pad + 1) for b in bits[:2])
    around = ((pad, pad), (pad, pad), (0, 0))
    image = np.pad(images[i], around, mode="reflect")
    image = image[top : top + H, left : left + W].copy()
    half = int(preprocess.hash_bit(jnp.asarray(i)))
    mirrored = {
      "none": False,
      "random": bits[2] % 2 == 1,
      "alternating": (half + epoch) % 2 == 1,
    }[flip]
    if mirrored:
      image = image[:, ::-1].copy()
    if cutout:
      row, col = int(bits[3]) % H - cutout // 2, int(bits[4]) % W - cutout // 2
      image[
        max(row, 0) : max(row + cutout, 0), max(col, 0) : max(col + cutout, 0)
      ] = value
    result.append(image)
  return np.stack(result)


@pytest.mark.parametrize("pad", [0, 2, 8])
@pytest.mark.parametrize("flip", preprocess.FLIPS)
@pytest.mark.parametrize("cutout", [0, 5])
def test_agrees_with_numpy(images, pad, flip, cutout):
  index = np.arange(N)[::-1]
  for epoch in (0, 3):
    got = draw(images, index, epoch, 1, pad=pad, flip=flip, cutout=cutout)
    assert got.dtype == np.uint8
    expected = twin(images, index, epoch, 1, pad, flip, cutout)
    np.testing.assert_array_equal(got, expected)


def test_without_augmentation_it_selects(images):
  index = [3, 3, 39, 0]
  np.testing.assert_array_equal(draw(images, index), images[index])


def test_depends_on_key_epoch_and_index_only(images):
  settings = dict(pad=3, flip="random", cutout=4)
  whole = draw(images, np.arange(N), 2, **settings)
  again = draw(images, np.arange(N), 2, **settings)
  np.testing.assert_array_equal(whole, again)
  # In another order and another batch size every example looks the same.
  some = [17, 5, 30]
  np.testing.assert_array_equal(draw(images, some, 2, **settings), whole[some])
  for other in (
    draw(images, np.arange(N), 3, **settings),
    draw(images, np.arange(N), 2, seed=1, **settings),
  ):
    differ = (other != whole).any(axis=(1, 2, 3))
    assert differ.mean() > 0.9


def test_one_batch_may_span_two_epochs(images):
  settings = dict(pad=3, flip="alternating", cutout=4)
  got = draw(images, [7, 7, 9], [0, 1, 1], **settings)
  np.testing.assert_array_equal(got[:1], draw(images, [7], 0, **settings))
  np.testing.assert_array_equal(got[1:], draw(images, [7, 9], 1, **settings))


def test_alternating_flip_shows_each_side_in_turn(images):
  index = np.arange(N)
  first = draw(images, index, 0, flip="alternating")
  second = draw(images, index, 1, flip="alternating")
  third = draw(images, index, 2, seed=5, flip="alternating")
  np.testing.assert_array_equal(first, second[:, :, ::-1])
  np.testing.assert_array_equal(first, third)


def test_random_numbers_are_even():
  index = jnp.arange(20_000, dtype=jnp.int32)
  halves = np.asarray(preprocess.hash_bit(index))
  # Six standard deviations of a fair coin, also between neighbours.
  tolerance = 6 * 0.5 / np.sqrt(len(index))
  assert abs(halves.mean() - 0.5) < tolerance
  assert abs((halves[1:] == halves[:-1]).mean() - 0.5) < tolerance
  bits = np.asarray(
    preprocess.random_bits(jax.random.key(0), index, jnp.zeros_like(index))
  )
  for column in bits.T:
    counts = np.bincount(column % 5, minlength=5)
    assert abs(counts / len(index) - 0.2).max() < tolerance


def test_sharded_batches_are_bitwise_equal(images):
  index = np.arange(N, dtype=np.int32)
  epoch = np.full(N, 4, np.int32)
  sample = functools.partial(preprocess.sample, pad=2, flip="random", cutout=3)
  results = []
  for devices in (1, 8):
    strategy = parallel.create_strategy("jit", devices)
    compiled = strategy.jit(sample, out=strategy.batch)
    results.append(
      compiled(
        strategy.replicate(images),
        strategy.shard_batch(index),
        strategy.shard_batch(epoch),
        jax.random.key(3),
      )
    )
  assert len(results[1].sharding.device_set) == 8
  np.testing.assert_array_equal(*results)


def test_one_trace_for_all_steps(images):
  traces = []

  @jax.jit
  def sample(images, index, epoch, key):
    traces.append(1)
    return preprocess.sample(images, index, epoch, key, pad=2, flip="random")

  for step in range(3):
    index = jnp.arange(4, dtype=jnp.int32) + step
    epoch = jnp.full(4, step, jnp.int32)
    sample(images, index, epoch, jax.random.fold_in(jax.random.key(0), step))
  assert len(traces) == 1


def test_normalize():
  images = jnp.array([[[[0, 51, 255]]]], jnp.uint8)
  got = preprocess.normalize(images, (0.5, 0.2, 0.0), (0.25, 1, 2), jnp.float32)
  np.testing.assert_allclose(got, [[[[-2.0, 0.0, 0.5]]]], atol=1e-6)
  half = preprocess.normalize(images, (0.5,) * 3, (0.25,) * 3, jnp.bfloat16)
  assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize(
  ("setting", "value", "expected"),
  [
    ("flip", "sideways", "one of none, random, alternating"),
    ("pad", H, "0 to 8 for images of 9x12"),
    ("pad", -1, "0 to 8 for images of 9x12"),
    ("cutout", 10, "0 to 9 for images of 9x12"),
  ],
)
def test_settings_out_of_range(images, setting, value, expected):
  about = raising.about(setting, expected=expected)
  with pytest.raises(errors.InputError, check=about):
    draw(images, [0], **{setting: value})


def test_denormalize_is_the_inverse():
  images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  images = np.repeat(images, 3, axis=-1)
  scale = ((0.5, 0.4, 0.3), (0.25, 0.2, 0.5))
  there = preprocess.normalize(images, *scale, jnp.float32)
  back = preprocess.denormalize(there, *scale)
  np.testing.assert_allclose(back, images / 255, atol=1e-6)
