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
    apply: (variables, images [B, H, W, C], train, key=None) -> (logits float32
      [B, K], state), where state is every collection but "params". It differs
      from what came in only if `train`. Images are normalised, in `dtype`. The
      key is that of what is dropped in training.
    dtype: what the model computes in; parameters and statistics stay float32.
    prepare: None, or (variables, images float [N, H, W, C]) -> variables, to
      be called once before training with normalised training images.
    needs_key: whether `apply` needs a key when it trains; else it is not used.
    attention: None, or () -> the form in which attention is computed in this
      process, e.g. "plain"; raises InputError where the one that was asked for
      is not possible.
    fold: None, or variables -> variables that give the same logits up to
      rounding at less cost. Only for `apply` without `train`.
  """

  init: Callable[[jax.Array], Variables]
  apply: Callable[..., tuple[jax.Array, dict[str, Any]]]
  dtype: Any
  prepare: Callable[[Variables, jax.Array], Variables] | None = None
  needs_key: bool = False
  attention: Callable[[], str] | None = None
  fold: Callable[[Variables], Variables] | None = None


def from_module(
  module: nn.Module,
  image_shape: tuple[int, int, int],
  dtype: Any,
  prepare: Callable[[Variables, jax.Array], Variables] | None = None,
  needs_key: bool = False,
  fold: Callable[[Variables], Variables] | None = None,
) -> Model:
  """Returns a Model around a Flax module.

  Args:
    module: called as module(images, train=bool), returns logits.
    image_shape: (H, W, C).
    dtype: of the images that `module` is called with.
    prepare: see `Model`.
    needs_key: see `Model`; of Flax's stream "dropout".
    fold: see `Model`.
  """

  def init(key: jax.Array) -> Variables:
    images = jnp.zeros((1, *image_shape), dtype)
    return dict(module.init(key, images, train=False))

  def apply(
    variables: Variables,
    images: jax.Array,
    train: bool,
    key: jax.Array | None = None,
  ):
    state = {k: v for k, v in variables.items() if k != "params"}
    if not train:
      logits = module.apply(variables, images, train=False)
      return logits.astype(jnp.float32), state
    if needs_key and key is None:
      raise errors.InputError(
        "dropout, drop_path: expected a training step that gives the model a"
        " PRNG key, got none; set both to 0 or pass `key`"
      )
    logits, updated = module.apply(
      variables,
      images,
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": key} if needs_key else None,
    )
    return logits.astype(jnp.float32), {**state, **updated}

  return Model(init, apply, dtype, prepare, needs_key, fold=fold)


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


def check_shares(**settings: float) -> None:
  """Raises InputError for a setting that is not in [0, 1)."""
  for name, value in settings.items():
    if not 0 <= value < 1:
      raise errors.InputError(
        f"{name}: expected a number in [0, 1), got {value}"
      )
