"""Wide ResNets against the paper's block written down a second time."""

import jax
import jax.numpy as jnp
import numpy as np

from imgbench import models


def convolve(x, kernel, stride=1):
  """Padded by half the kernel on both sides; by XLA's own convolution."""
  padding = ((len(kernel) - 1) // 2,) * 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    (padding, padding),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def twin(variables, x):
  """WRN-10-1 in evaluation, block by block."""
  params, running = variables["params"], variables["batch_stats"]

  def activate(x, p, stats):
    scaled = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    return np.maximum(scaled * p["scale"] + p["bias"], 0)

  x = convolve(x, params["stem_conv"]["kernel"])
  for stage, stride in ((1, 1), (2, 2), (3, 2)):
    p, stats = (tree[f"stage{stage}_block1"] for tree in (params, running))
    y = activate(x, p["norm1"], stats["norm1"])
    # The first stage of WRN-10-1 keeps the stem's width and resolution.
    if stage > 1:
      x = convolve(y, p["shortcut_conv"]["kernel"], stride)
    y = convolve(y, p["conv1"]["kernel"], stride)
    y = activate(y, p["norm2"], stats["norm2"])
    x = x + convolve(y, p["conv2"]["kernel"])
  x = activate(x, params["norm"], running["norm"]).mean(axis=(1, 2))
  head = params["head"]["dense"]
  return x @ head["kernel"] + head["bias"]


def test_it_is_the_paper_s():
  model = models.build_model(
    "wide_resnet28_10",
    num_classes=5,
    image_shape=(8, 8, 3),
    dtype=jnp.float32,
    depth=10,
    width=1,
  )
  rng = np.random.default_rng(0)

  def fill(path, leaf):
    if path[-1].key in ("var", "scale"):
      return rng.uniform(0.5, 2.0, leaf.shape).astype(np.float32)
    scale = np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else 0.3
    return rng.normal(scale=scale, size=leaf.shape).astype(np.float32)

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  variables = jax.tree_util.tree_map_with_path(fill, shapes)
  images = rng.normal(size=(3, 8, 8, 3)).astype(np.float32)
  got, _ = jax.jit(model.apply, static_argnums=2)(variables, images, False)
  with jax.numpy_rank_promotion("allow"):
    expected = twin(variables, images)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
