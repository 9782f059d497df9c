"""Tests of mixup and cutmix: twins, shares, shardings, compiled programs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from imgbench import errors
from imgbench import losses
from imgbench import parallel
from imgbench.data import mixing
from tests import raising

B, H, W = 64, 9, 14
SETTINGS = (
  dict(mixup=0.2),
  dict(cutmix=1.0),
  dict(mixup=0.8, cutmix=1.0, switch=0.5),
)


def make_batch(batch=B, dtype=jnp.float32):
  images = jax.random.normal(jax.random.key(7), (batch, H, W, 3), dtype)
  return images, jnp.arange(batch, dtype=jnp.int32)


@functools.cache
def compiled(**settings):
  return jax.jit(functools.partial(mixing.mix, **settings))


def draw(images, labels, seed=0, **settings):
  images, mixed = compiled(**settings)(images, labels, jax.random.key(seed))
  return np.asarray(images), jax.tree.map(np.asarray, mixed)


def own_weight(mixed, labels):
  """Returns the weight of each image itself; all labels are different."""
  return np.where(mixed.first == labels, mixed.weight, 1 - mixed.weight)


def twin(images, labels, seed, mixup, cutmix, switch=0.5):
  """Mixes by the definition, one image after the other, in float64."""
  kind_key, share_key, box_key = jax.random.split(jax.random.key(seed), 3)
  uniform = np.asarray(jax.random.uniform(share_key, (B,)), np.float64)
  takes_cutmix = bool(cutmix)
  if mixup and cutmix:
    takes_cutmix = bool(jax.random.bernoulli(kind_key, switch))
  a = cutmix if takes_cutmix else mixup
  shares = scipy.stats.beta.ppf(uniform, a, a)
  centres = [
    np.asarray(jax.random.randint(key, (B,), 0, length))
    for key, length in zip(jax.random.split(box_key), (H, W), strict=True)
  ]
  images = np.asarray(images, np.float64)
  mixed, weights = images.copy(), []
  for i, share in enumerate(shares):
    if not takes_cutmix:
      mixed[i] = share * images[i] + (1 - share) * images[i - 1]
      weights.append(share)
      continue
    borders = []
    for centre, length in ((centres[0][i], H), (centres[1][i], W)):
      count = int(np.sqrt(np.float32(1 - share)) * np.float32(length))
      start = centre - count // 2
      borders += [max(start, 0), min(start + count, length)]
    top, bottom, left, right = borders
    mixed[i, top:bottom, left:right] = images[i - 1, top:bottom, left:right]
    weights.append(1 - (bottom - top) * (right - left) / (H * W))
  return mixed, np.array(weights)


@pytest.mark.parametrize(
  ("mixup", "cutmix"), [(0.2, 0.0), (1.0, 0.0), (0.0, 1.0), (0.4, 0.8)]
)
def test_agrees_with_numpy(mixup, cutmix):
  images, labels = make_batch()
  for seed in range(4):
    got, mixed = draw(images, labels, seed, mixup=mixup, cutmix=cutmix)
    expected, weights = twin(images, labels, seed, mixup, cutmix)
    # The table of quantiles is good to 1e-5.
    np.testing.assert_allclose(got, expected, atol=1e-4)
    np.testing.assert_allclose(own_weight(mixed, labels), weights, atol=2e-5)
    assert {mixed.first.dtype, mixed.second.dtype} == {np.dtype(np.int32)}
    assert mixed.weight.dtype == np.float32


def test_heavier_labels_come_first():
  images, labels = make_batch()
  for settings in SETTINGS:
    _, mixed = draw(images, labels, **settings)
    pairs = np.stack([mixed.first, mixed.second], axis=1)
    neighbours = np.stack([labels, np.roll(labels, 1)], axis=1)
    np.testing.assert_array_equal(np.sort(pairs), np.sort(neighbours))
    assert (mixed.weight >= 0.5).all() and (mixed.weight <= 1).all()
    # Either label comes first somewhere.
    assert 0 < (mixed.first == labels).mean() < 1


def test_cutmix_labels_weigh_what_is_seen():
  # Image i is i everywhere, so that pixels can be counted.
  labels = jnp.arange(B, dtype=jnp.int32)
  images = jnp.broadcast_to(
    labels[:, None, None, None].astype(jnp.float32), (B, H, W, 3)
  )
  boxes = 0
  for seed in range(5):
    got, mixed = draw(images, labels, seed, cutmix=1.0)
    own = got == np.asarray(labels)[:, None, None, None]
    neighbour = got == np.roll(labels, 1)[:, None, None, None]
    assert (own ^ neighbour).all()
    share = own.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(own_weight(mixed, labels), share, atol=1e-6)
    for box in neighbour[..., 0]:
      rows, cols = box.any(axis=1), box.any(axis=0)
      np.testing.assert_array_equal(box, rows[:, None] & cols[None])
      assert abs(np.diff(rows.astype(int), append=0)).sum() <= 2
      boxes += 0 < box.sum() < H * W
  assert boxes > 3 * B


def test_boxes_by_hand():
  # A quarter of the area: half of each side.
  key = jax.random.key(3)
  outside, share = mixing._draw_boxes(key, jnp.full(500, 0.25), (8, 12))
  boxes = ~np.asarray(outside)
  rows, cols = boxes.any(axis=2).sum(axis=1), boxes.any(axis=1).sum(axis=1)
  # A side of 4 around any of 8 pixels: 2 to 4 rows are inside.
  assert set(rows) == {2, 3, 4} and set(cols) == {3, 4, 5, 6}
  np.testing.assert_allclose(share, 1 - rows * cols / 96, rtol=1e-6)
  # Every pixel is covered by some box.
  assert boxes.any(axis=0).all()
  everything = mixing._draw_boxes(key, jnp.zeros(3), (8, 12))
  assert everything[0].all() and (everything[1] == 1).all()


@pytest.mark.parametrize("a", [0.1, 0.2, 1.0, 3.0])
def test_shares_are_from_the_beta_distribution(a):
  uniform = (jnp.arange(20_000) + 0.5) / 20_000
  got = np.asarray(mixing.beta_quantile(uniform, a))
  assert (np.diff(got) >= 0).all()
  # At most one cell of the table off, and much less in the middle.
  quantile = lambda p: scipy.stats.beta.ppf(np.clip(p, 0, 1), a, a)
  exact = np.asarray(uniform, np.float64)
  assert (got >= quantile(exact - 1 / mixing.CELLS) - 1e-6).all()
  assert (got <= quantile(exact + 1 / mixing.CELLS) + 1e-6).all()
  middle = abs(exact - 0.5) < 0.45
  np.testing.assert_allclose(got[middle], quantile(exact[middle]), atol=2e-5)


def test_quantiles_by_hand():
  uniform = jnp.array([0.0, 0.25, 0.5, 0.75])
  # Beta(1/2, 1/2) is the arcsine law.
  expected = np.sin(np.pi / 2 * np.asarray(uniform)) ** 2
  got = mixing.beta_quantile(uniform, 0.5)
  np.testing.assert_allclose(got, expected, atol=1e-6)
  np.testing.assert_array_equal(mixing.beta_quantile(uniform, 1.0), uniform)


def test_each_batch_uses_one_kind_with_the_given_probability():
  images, labels = make_batch()
  settings = dict(mixup=1.0, cutmix=1.0)

  def is_cutmix(seed, switch):
    got, _ = draw(images, labels, seed, **settings, switch=switch)
    neighbour = np.roll(images, 1, axis=0)
    pasted = ((got == images) | (got == neighbour)).all(axis=(1, 2, 3))
    # A share near 0 or 1 rounds to one image alone.
    assert pasted.all() or pasted.mean() < 0.2
    return pasted.all()

  kinds = [is_cutmix(seed, 0.3) for seed in range(100)]
  # Four standard deviations of 100 draws.
  assert abs(np.mean(kinds) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 100)
  assert not any(is_cutmix(seed, 0.0) for seed in range(10))
  assert all(is_cutmix(seed, 1.0) for seed in range(10))


def test_depends_on_the_key_alone():
  images, labels = make_batch()
  for settings in SETTINGS:
    one = draw(images, labels, 1, **settings)
    jax.tree.map(
      np.testing.assert_array_equal, one, draw(images, labels, 1, **settings)
    )
    assert (draw(images, labels, 2, **settings)[0] != one[0]).any()


@pytest.mark.parametrize("settings", SETTINGS)
def test_sharded_batches_are_equal_and_move_one_image_each(settings):
  images, labels = make_batch()
  results = []
  for devices in (1, 8):
    strategy = parallel.create_strategy("jit", devices)
    arguments = (*strategy.shard_batch((images, labels)), jax.random.key(3))
    function = functools.partial(mixing.mix, **settings)
    program = strategy.jit(function, out=strategy.batch).lower(*arguments)
    program = program.compile()
    results.append(program(*arguments))
  # The two programs may round the weighted mean differently.
  np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6, atol=1e-6)
  jax.tree.map(np.testing.assert_array_equal, results[0][1], results[1][1])
  assert len(results[1][0].sharding.device_set) == 8
  lines = program.as_text().splitlines()
  moved = [
    line for line in lines if f",{H},{W},3]" in line and "-permute(" in line
  ]
  assert moved and all(f"= f32[1,{H},{W},3]" in line for line in moved)
  gathers = [line for line in lines if "all-gather(" in line]
  assert not any(f"{H},{W}" in line for line in gathers)


def test_off_adds_nothing_to_a_step():
  images, labels = make_batch()
  key = jax.random.key(0)
  same, mixed = mixing.mix(images, labels, key)
  assert same is images and mixed.first is labels
  assert mixed.second is None and mixed.weight is None

  def loss(images, labels, key, mix):
    label, other = labels, {}
    if mix:
      images, mixed = mixing.mix(images, labels, key, mixup=0.0, cutmix=0.0)
      label = mixed.first
      other = dict(second=mixed.second, weight=mixed.weight)
    logits = images.reshape(B, -1)
    return losses.softmax_cross_entropy(logits, label, 0.1, **other).mean()

  with_it, without = (
    str(jax.make_jaxpr(functools.partial(loss, mix=mix))(images, labels, key))
    for mix in (True, False)
  )
  assert with_it == without


def test_one_trace_for_all_steps():
  images, labels = make_batch()
  traces = []

  @jax.jit
  def step(images, labels, key):
    traces.append(1)
    return mixing.mix(images, labels, key, mixup=0.2, cutmix=1.0)

  for number in range(3):
    step(images, labels, jax.random.fold_in(jax.random.key(0), number))
  assert len(traces) == 1


def test_half_precision_stays():
  images, labels = make_batch(dtype=jnp.bfloat16)
  for settings in SETTINGS:
    got, mixed = draw(images, labels, **settings)
    assert got.dtype == jnp.bfloat16 and mixed.weight.dtype == np.float32


def test_one_image_is_its_own_neighbour():
  images, labels = make_batch(batch=1)
  for settings in SETTINGS:
    got, mixed = draw(images, labels, **settings)
    np.testing.assert_allclose(got, images, atol=1e-6)
    assert mixed.first == mixed.second == labels


@pytest.mark.parametrize(
  ("setting", "value"),
  [("mixup", -0.1), ("cutmix", np.inf), ("cutmix", np.nan), ("switch", 1.1)],
)
def test_bad_settings(setting, value):
  images, labels = make_batch()
  about = raising.about(setting, given=value)
  with pytest.raises(errors.InputError, check=about):
    mixing.mix(images, labels, jax.random.key(0), **{setting: value})


@pytest.mark.parametrize(
  ("images", "labels"),
  [
    (jnp.zeros((2, 4, 4, 3), jnp.uint8), jnp.zeros(2, jnp.int32)),
    (jnp.zeros((2, 4, 4)), jnp.zeros(2, jnp.int32)),
    (jnp.zeros((2, 4, 4, 3)), jnp.zeros(3, jnp.int32)),
    (jnp.zeros((2, 4, 4, 3)), jnp.zeros(2)),
  ],
)
def test_wrong_shapes_and_types_are_refused(images, labels):
  with pytest.raises(AssertionError):
    mixing.mix(images, labels, jax.random.key(0), mixup=0.2)
