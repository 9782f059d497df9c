"""Tests that a step means the same however it is spread over devices."""

import functools

import jax
import numpy as np
import pytest

from imgbench import config as config_lib
from imgbench import errors
from imgbench.configs import tiny
from imgbench.data import device
from imgbench.data import order
from imgbench.data import source
from imgbench.train import compute as compute_lib
from imgbench.train import feeds
from imgbench.train import setup
from tests import raising

IMAGES, BATCH, STEPS = 48, 16, 4
INFO = source.Info(
  name="made",
  split="train",
  num_examples=IMAGES,
  image_shape=(12, 12, 3),
  class_names=tuple("abcde"),
  fingerprint="",
)
# Sums over devices are taken in another order; Adam divides small numbers.
CLOSE = {"rtol": 2e-4, "atol": 2e-5}


def config_of(mixed=True, model=None, **settings):
  config = tiny.get_config()
  config.global_batch_size = BATCH
  config.model = model or dict(
    name="cnn", dtype="float32", widths=(16, 64), stem_size=3
  )
  config.augment.update(mixup=0.2 * mixed, cutmix=1.0 * mixed)
  config.ema.decay = 0.9
  config.parallel.update(devices=8)
  config.parallel.update(settings)
  return config


def build(config, strategy=None):
  """Returns the compute of a config, on the devices of a strategy if given."""
  settings = config_lib.parse(config)
  layout = setup.open_devices(settings)
  if strategy is not None:
    layout = compute_lib.build_layout(strategy, BATCH)
  recipe = settings.recipe
  return compute_lib.build(recipe, layout, INFO, INFO.image_shape, STEPS)


@functools.cache
def _data():
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (IMAGES, 12, 12, 3), np.uint8)
  return device.DeviceExamples(image, rng.integers(0, 5, IMAGES, np.int32))


def train(config, steps_per_call=1):
  """The state after some steps, and the losses on the way."""
  compute = build(config)
  state, losses = compute.init_state(), []
  _, advance = compile_step(compute, state, steps_per_call)
  for number in range(0, STEPS, steps_per_call):
    state, loss = advance(state, number)
    losses.append(np.asarray(loss))
  return state, np.array(losses).ravel()


def compile_step(compute, state, steps_per_call=1):
  """Returns the compiled step, and (state, step, data) -> (state, losses).

  The data, host arrays, are those of `_data` where none are given.
  """
  strategy = compute.strategy
  made = strategy.replicate(_data())
  own = strategy.own_rows(BATCH)
  feed = feeds.ResidentFeed(order.ExampleOrder(IMAGES, 1), BATCH, own)

  def fed(step):
    arrays = feed.batch_at(step, steps_per_call)
    if steps_per_call == 1:
      return strategy.shard_batch(arrays)
    arrays = {k: v.reshape(steps_per_call, -1) for k, v in arrays.items()}
    return strategy.shard_batches(arrays)

  compiled = compute.lower(state, made, fed(0), steps_per_call).compile()

  def advance(state, step, data=None):
    data = made if data is None else strategy.replicate(data)
    return compiled(state, data, fed(step))

  return compiled, advance


@functools.cache
def alone():
  return jax.device_get(train(config_of(devices=1)))


def assert_same(found, expected):
  (state, losses), (expected_state, expected_losses) = found, expected
  np.testing.assert_allclose(losses, expected_losses, **CLOSE)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, **CLOSE),
    jax.device_get(state),
    jax.device_get(expected_state),
  )


@pytest.mark.parametrize(
  "settings",
  [
    dict(),
    dict(strategy="pmap"),
    dict(fsdp=2),
    dict(fsdp=8),
    dict(devices=4, strategy="pmap"),
  ],
  ids=str,
)
def test_training_is_that_of_one_device(settings):
  """With mixed images, BatchNorm over the global batch and an average."""
  assert_same(train(config_of(**settings)), alone())


@pytest.mark.parametrize(
  "settings",
  [
    dict(fsdp=8),
    pytest.param(dict(strategy="pmap"), marks=pytest.mark.slow),
  ],
)
def test_muon_in_batches_is_that_of_one_device(settings):
  """Matrices that are cut over devices are padded and stacked all the same."""

  def losses(**settings):
    config = config_of(mixed=False, **settings)
    config.optim = dict(name="muon", ns_dtype="bfloat16")
    return train(config)[1]

  expected = losses(devices=1)
  assert expected[-1] < expected[0]
  # bfloat16 rounds sums that were taken in another order to other numbers.
  np.testing.assert_allclose(losses(**settings), expected, rtol=5e-3)


def test_statistics_per_device_are_the_same_under_both():
  found = train(config_of(devices=4, batch_norm="per_device"))
  other = config_of(devices=4, batch_norm="per_device", strategy="pmap")
  assert_same(train(other), found)
  # And not those of the whole batch.
  assert abs(found[1][-1] - alone()[1][-1]) > 1e-3


def test_microbatches_have_statistics_of_their_own_under_both():
  found = train(config_of(devices=2, microbatches=2))
  other = config_of(devices=2, microbatches=2, strategy="pmap")
  assert_same(train(other), found)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [dict(devices=1), dict(fsdp=2)], ids=str)
def test_without_batch_norm_microbatches_are_the_large_batch(settings):
  vit = dict(
    name="vit_ti16",
    dtype="float32",
    patch_size=6,
    width=64,
    depth=2,
    num_heads=2,
    zero_head=False,
  )
  whole = train(use_sgd(config_of(model=vit, devices=1)))
  parts = config_of(model=vit, **{"microbatches": 2, **settings})
  assert_same(train(use_sgd(parts)), whole)


def use_sgd(config):
  """Returns the config with SGD.

  Where gradients are near 0, Adam makes rounding errors into steps.
  """
  config.optim = dict(name="sgd", momentum=0.9, weight_decay=1e-3)
  config.schedule.peak = 0.05
  return config


def test_several_steps_in_one_call():
  found = train(config_of(devices=4, strategy="pmap"), steps_per_call=2)
  assert_same(found, alone())


def test_a_state_is_cut_where_it_is_large():
  state = build(config_of(fsdp=4)).init_state()
  kernel = state.params["stage2_conv1"]["kernel"]
  assert kernel.shape == (3, 3, 16, 64)
  assert kernel.addressable_shards[0].data.shape == (3, 3, 16, 16)
  moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim == 4]
  cut = [x.sharding for x in moments if x.shape == kernel.shape]
  assert cut == [kernel.sharding] * 2
  bias = state.params["stage2_norm1"]["bias"]
  assert bias.addressable_shards[0].data.shape == (64,)


@pytest.mark.parametrize(
  ("settings", "setting", "given"),
  [
    (dict(strategy="pmap", fsdp=2), "parallel.fsdp", 2),
    (dict(fsdp=3), "parallel.fsdp", 3),
    (dict(microbatches=3), "parallel.microbatches", 3),
    (dict(batch_norm="local"), "parallel.batch_norm", "'local'"),
    (dict(strategy="vmap"), "parallel.strategy", "'vmap'"),
  ],
)
def test_settings_that_do_not_fit_are_refused(settings, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    build(config_of(**settings))
