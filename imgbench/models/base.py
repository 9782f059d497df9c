"""The boundary of every model: pure functions over plain dicts."""

from collections.abc import Callable
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from imgbench import errors

Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Model:
  """A classifier behind pure functions.

  Attributes:
    init: key -> variables, a dict of collections: "params" is trained, others
      ("batch_stats", "frozen") are the model's state. All leaves are float32.
    apply: (variables, images [B, H, W, C], train) -> (logits float32 [B, K],
      state), where state is every collection but "params". It differs from
      what came in only if `train`. Images are normalised, in `dtype`.
    dtype: what the model computes in; parameters and statistics stay float32.
    prepare: None, or (variables, images float [N, H, W, C]) -> variables, to
      be called once before training with normalised training images.
  """

  init: Callable[[jax.Array], Variables]
  apply: Callable[
    [Variables, jax.Array, bool], tuple[jax.Array, dict[str, Any]]
  ]
  dtype: Any
  prepare: Callable[[Variables, jax.Array], Variables] | None = None


def from_module(
  module: nn.Module,
  image_shape: tuple[int, int, int],
  dtype: Any,
  prepare: Callable[[Variables, jax.Array], Variables] | None = None,
) -> Model:
  """Returns a Model around a Flax module.

  Args:
    module: called as module(images, train=bool), returns logits.
    image_shape: (H, W, C).
    dtype: of the images that `module` is called with.
    prepare: see `Model`.
  """

  def init(key: jax.Array) -> Variables:
    images = jnp.zeros((1, *image_shape), dtype)
    return dict(module.init(key, images, train=False))

  def apply(variables: Variables, images: jax.Array, train: bool):
    state = {k: v for k, v in variables.items() if k != "params"}
    if not train:
      logits = module.apply(variables, images, train=False)
      return logits.astype(jnp.float32), state
    logits, updated = module.apply(
      variables, images, train=True, mutable=["batch_stats"]
    )
    return logits.astype(jnp.float32), {**state, **updated}

  return Model(init=init, apply=apply, dtype=dtype, prepare=prepare)


def num_params(variables: Variables) -> int:
  """Returns how many numbers are trained."""
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def check_image_size(
  name: str, image_shape: tuple[int, int, int], smallest: int
) -> None:
  """Raises InputError if images are too small for the model's strides."""
  if min(image_shape[:2]) < smallest:
    raise errors.InputError(
      f"model {name!r}: expected images of at least {smallest}x{smallest}"
      f" pixels, got {image_shape[0]}x{image_shape[1]}"
    )
