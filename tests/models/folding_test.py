"""Tests that BatchNorm folded into convolutions gives the same logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench.models import layers
from tests.models import models_test

# name -> settings, and the norms that stay: those before an activation.
CASES = {
  "cnn": ({}, set()),
  "whitened": ({}, set()),
  "resnet18": ({}, set()),
  "resnet50": ({}, set()),
  "wide_resnet28_10": (dict(depth=16, width=2), {"norm1", "norm"}),
  "efficientnet_b0": ({}, set()),
}


def make_variables(model):
  """Variables whose norms shift and scale, some by less than zero."""
  variables = jax.jit(model.init)(jax.random.key(0))
  rng = np.random.default_rng(0)
  drawn = {
    "mean": lambda n: rng.normal(0, 0.5, n),
    "var": lambda n: rng.uniform(0.3, 3, n),
    "scale": lambda n: rng.uniform(0.5, 2, n) * rng.choice([-1, 1], n),
    "bias": lambda n: rng.normal(0, 0.5, n),
  }

  def draw(path, x):
    make = drawn.get(path[-1].key) if "norm" in path[-2].key else None
    return jnp.asarray(make(x.shape), jnp.float32) if make else x

  return jax.tree_util.tree_map_with_path(draw, variables)


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_norms(name):
  settings, kept = CASES[name]
  model = models_test.build(name, size=32, **settings)
  variables = make_variables(model)
  folded = jax.jit(model.fold)(variables)
  stats = jax.tree_util.tree_leaves_with_path(folded["batch_stats"])
  assert {path[-2].key for path, _ in stats} == kept
  images = models_test.make_images(size=32)
  apply = jax.jit(lambda v, x: model.apply(v, x, False)[0])
  expected, got = apply(variables, images), apply(folded, images)
  assert abs(expected).max() > 0.1
  # float32: 1e-5 of the largest logit, which is the size of what is summed.
  np.testing.assert_allclose(
    got, expected, rtol=0, atol=1e-5 * abs(expected).max()
  )


def test_every_model_with_statistics_can_be_folded():
  for name in models_test.TINY:
    model = models_test.build(name, size=32)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert (model.fold is not None) == ("batch_stats" in shapes), name
    assert (name in CASES) == ("batch_stats" in shapes), name


def test_folded_variables_are_refused_in_training():
  model = models_test.build("cnn")
  folded = model.fold(make_variables(model))
  assert set(folded["params"]["stem_norm"]) == {layers.SHIFT}
  with pytest.raises(Exception, match="stem_norm"):
    model.apply(folded, models_test.make_images(), True)
