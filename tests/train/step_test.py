"""Tests of what a training step gives models that draw."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imgbench import errors
from imgbench import losses
from imgbench import models
from imgbench import parallel
from imgbench.train import state as state_lib
from imgbench.train import step as step_lib

BATCH = 4


def build_model(**settings):
  return models.build_model(
    "mlp_mixer_b16",
    num_classes=5,
    image_shape=(8, 8, 3),
    dtype=jnp.float32,
    **dict(width=8, depth=2, token_hidden=4, channel_hidden=8, patch_size=4),
    **settings,
  )


def make_batch(rows=BATCH):
  # The same image again and again: only what is dropped tells rows apart.
  image = jax.random.normal(jax.random.key(1), (1, 8, 8, 3))
  return {
    "image": jnp.repeat(image, rows, axis=0),
    "label": jnp.zeros(rows, jnp.int32),
  }


def create_variables(model):
  return jax.jit(model.init)(jax.random.key(0))


def run(model, *, key=None, step=0, strategy=None, microbatches=1, loss=None):
  """Returns (parameters, loss) after one step of plain gradient descent."""
  strategy = strategy or parallel.create_strategy("jit", 1)
  tx = optax.sgd(1.0)
  body = step_lib.build_train_step(
    model,
    tx,
    loss or losses.LOSSES.build("softmax"),
    layout=step_lib.StepLayout(strategy.view, microbatches, unrolled=True),
    key=key,
  )
  state = state_lib.TrainState.create(create_variables(model), tx)
  state = strategy.replicate(state.replace(step=jnp.int32(step)))
  compiled = strategy.spread(
    body,
    (parallel.STATE, parallel.BATCH),
    (parallel.STATE, parallel.REPLICATED),
    state=state,
  )
  batch = jax.tree.map(np.asarray, make_batch())
  state, loss = compiled(state, strategy.shard_batch(batch))
  return jax.device_get(state.params), float(loss)


@pytest.mark.parametrize(
  ("strategy", "microbatches"), [("jit", 1), ("pmap", 1), ("jit", 2)]
)
def test_weights_of_classes_are_the_same_on_devices(strategy, microbatches):
  model = build_model(zero_head=False)
  plain = losses.LOSSES.build("softmax")
  weighted = losses.weight_classes(plain, np.array([2.5, 1, 1, 1, 1]))
  params, loss = run(model, loss=weighted)
  # All images have the label 0.
  assert loss == pytest.approx(2.5 * run(model, loss=plain)[1], rel=1e-6)
  devices = parallel.create_strategy(strategy, 2)
  spread, other = run(
    model, loss=weighted, strategy=devices, microbatches=microbatches
  )
  assert other == pytest.approx(loss, rel=1e-6)
  for a, b in zip(*map(jax.tree.leaves, (params, spread)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


def same(one, other):
  equal = jax.tree.map(np.array_equal, one, other)
  return all(jax.tree.leaves(equal))


def test_a_model_that_draws_follows_the_key_and_the_step():
  model = build_model(drop_path=0.5, zero_head=False)
  params, loss = run(model, key=jax.random.key(0), step=3)
  again, same_loss = run(model, key=jax.random.key(0), step=3)
  assert same(params, again) and loss == same_loss
  assert loss != run(model, key=jax.random.key(0), step=4)[1]
  assert loss != run(model, key=jax.random.key(1), step=3)[1]
  with pytest.raises(errors.InputError, match="drop_path"):
    run(model)


def test_a_model_that_does_not_draw_needs_no_key():
  model = build_model()
  params, loss = run(model)
  with_key, same_loss = run(model, key=jax.random.key(0))
  assert same(params, with_key) and loss == same_loss


def losses_of_one_image(model):
  """Result with dropping: two branches are skipped or not."""
  variables = create_variables(model)
  logits, _ = jax.jit(
    lambda key: model.apply(variables, make_batch(64)["image"], True, key)
  )(jax.random.key(5))
  found = losses.softmax_cross_entropy(logits, jnp.zeros(64, jnp.int32))
  found = np.unique(np.round(found, 4))
  assert len(found) == 4
  return found


@pytest.mark.parametrize(
  ("strategy", "devices", "microbatches"), [("jit", 1, 4), ("pmap", 4, 1)]
)
def test_parts_and_devices_draw_for_themselves(strategy, devices, microbatches):
  # One row each: if all drew the same, the mean loss were that of one row.
  model = build_model(drop_path=0.5, zero_head=False)
  _, loss = run(
    model,
    key=jax.random.key(0),
    strategy=parallel.create_strategy(strategy, devices),
    microbatches=microbatches,
  )
  assert abs(losses_of_one_image(model) - loss).min() > 1e-3


def test_devices_of_jit_draw_what_one_draws():
  model = build_model(drop_path=0.5, zero_head=False)
  results = [
    run(
      model,
      key=jax.random.key(0),
      strategy=parallel.create_strategy("jit", devices),
    )
    for devices in (1, 4)
  ]
  np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-6)
