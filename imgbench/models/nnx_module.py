"""Models from modules of Flax NNX."""

from collections.abc import Callable
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp

from imgbench.models import base


def from_nnx(
  create: Callable[[nnx.Rngs], Any], dtype: Any, needs_key: bool = False
) -> base.Model:
  """Returns the Model of an NNX module that takes images and returns logits.

  Each `nnx.Param` is trained. Other variables are state, in a collection named
  as their type ("BatchStat"), but for streams of random numbers: these start
  from the key of a step. `Module.train` and `Module.eval` set the mode.

  Args:
    create: rngs -> module.
    dtype: of the images.
    needs_key: whether the module draws random numbers in training.
  """
  shapes = nnx.eval_shape(lambda: create(nnx.Rngs(0)))
  graph, *states = nnx.split(shapes, nnx.RngState, ...)
  streams, variables_of = map(nnx.to_flat_state, states)
  places = {path: _find_place(path, kind) for path, kind in variables_of}

  def to_variables(module: nnx.Module) -> base.Variables:
    variables: base.Variables = {"params": {}}
    for path, variable in nnx.to_flat_state(nnx.state(module)):
      if path in places:
        *parents, name = places[path]
        inner = variables
        for parent in parents:
          inner = inner.setdefault(parent, {})
        inner[name] = variable.get_value()
    return variables

  def to_module(variables: base.Variables, key: jax.Array) -> nnx.Module:
    found = []
    for path, variable in variables_of:
      value: Any = variables
      for name in places[path]:
        value = value[name]
      found.append((path, variable.replace(value)))
    for i, (path, variable) in enumerate(streams):
      shape = variable.get_value()
      value = jnp.zeros(shape.shape, shape.dtype)  # The count of a stream.
      if isinstance(variable, nnx.RngKey):
        value = jax.random.fold_in(key, i)
      found.append((path, variable.replace(value)))
    return nnx.merge(graph, nnx.from_flat_state(found))

  def apply(variables, images, train, key=None):
    # Without training no random number is drawn.
    module = to_module(variables, jax.random.key(0) if key is None else key)
    if train:
      module.train()
    else:
      module.eval()
    logits = module(images)
    updated = to_variables(module)
    del updated["params"]
    return logits.astype(jnp.float32), updated

  def init(key):
    return to_variables(create(nnx.Rngs(key)))

  return base.Model(init, apply, dtype, needs_key=needs_key)


def _find_place(path: tuple, variable: nnx.Variable) -> tuple[str, ...]:
  """Returns the collection and the names of a variable in it."""
  kind = (
    "params" if isinstance(variable, nnx.Param) else type(variable).__name__
  )
  return kind, *map(str, path)
