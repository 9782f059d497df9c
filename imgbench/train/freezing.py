"""Learning rates by parameter, for fine-tuning: frozen ones and a decay."""

from collections.abc import Collection
from collections.abc import Sequence
import re
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import optax

from imgbench import errors
from imgbench import registry

# Modules without a number before and after the blocks; others are before.
_LAST = ("head", "norm", "pool", "pre_logits", "last_")


def find_factors(
  variables: Any, freeze: Sequence[str], layer_decay: float
) -> dict[str, Any]:
  """Returns factors of the learning rate as a tree like the parameters.

  Layers are stem and embeddings, each block, and the head with the norm before
  it, in the order of their numbers; layer i of L has layer_decay ** (L - i).
  What reduces the size between stages belongs to the block after it.

  Args:
    variables: of a model, arrays or their shapes.
    freeze: patterns of names such as "head/dense/kernel", whose factor is 0.
    layer_decay: in (0, 1].

  Raises:
    InputError: a pattern that matches nothing, or nothing is left to train.
  """
  leaves = traverse_util.flatten_dict(variables["params"], sep="/")
  # Statistics, too, which BatchNorm keeps.
  paths = traverse_util.flatten_dict(variables, sep="/")
  names = [path.partition("/")[2] for path in paths]
  frozen = match("init.freeze", freeze, names)
  layers = {name: _find_layer(name) for name in leaves}
  order = sorted(set(layers.values()))
  power = lambda name: len(order) - 1 - order.index(layers[name])
  rate = lambda name: 0.0 if name in frozen else layer_decay ** power(name)
  factors = {name: rate(name) for name in leaves}
  expected = "patterns that leave parameters to train"
  errors.check(any(factors.values()), "init.freeze", expected, tuple(freeze))
  return traverse_util.unflatten_dict(factors, sep="/")


def _find_layer(name: str) -> tuple[int, ...]:
  module = name.partition("/")[0]
  if numbers := re.findall(r"\d+", module):
    return (1, *map(int, numbers), *(1,) * (2 - len(numbers)))
  return (2,) if module.startswith(_LAST) else (0,)


def match(
  setting: str, patterns: Sequence[str], names: Collection[str]
) -> set[str]:
  """Returns the names that match; InputError: a pattern that matches none."""
  matched = set()
  for pattern in patterns:
    found = {name for name in names if re.fullmatch(pattern, name)}
    matched |= found
    if not found:
      near = registry.suggest_near(pattern, names)
      fix = near or f"there are {', '.join(sorted(names)[:3])}, ..."
      expected = "patterns of names that the model has"
      raise errors.InputError(setting, expected, repr(pattern), fix)
  return matched


def scale(
  tx: optax.GradientTransformation, factors: Any
) -> optax.GradientTransformation:
  """Returns an optimizer with the same state and scaled updates.

  Weight decay is scaled as well: frozen parameters keep every bit.
  """

  def update(updates, state, params=None):
    updates, state = tx.update(updates, state, params)
    scaled = jax.tree.map(
      lambda u, factor: u * factor if factor else jnp.zeros_like(u),
      updates,
      factors,
    )
    return scaled, state

  return optax.GradientTransformation(tx.init, update)
