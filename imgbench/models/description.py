"""Layers of a model with shapes, costs and receptive fields, and warnings.

A layer is a scope of operations in the model's jaxpr, such as a Flax module.
"""

import collections
from collections.abc import Sequence
import dataclasses
import math
import re

import jax
from jax.extend import core
from jax.extend.core import primitives

from imgbench.models import base
from imgbench.models import fields
from imgbench.models import flops

UNUSED = "unused parameters"
_POOL = "reduce_window"  # the start of primitives' names
_NAME = re.compile(r"[\w.-]+")


@dataclasses.dataclass
class Layer:
  """A layer; sizes and costs are those of one image.

  Attributes:
    name: path of modules and scopes, or a primitive outside of both.
    shape: of the output, without the batch; (): parameters alone.
    params: trained parameters that it is the first to use.
    macs: multiply-adds.
    field: rows and columns of the receptive field of an output, see `fields`.
  """

  name: str
  shape: tuple[int, ...] = ()
  params: int = 0
  macs: int = 0
  field: tuple[int, int] | None = None
  inputs: int = 0  # elements of its first input
  resized_by: str = ""  # the last primitive that changed their number


@dataclasses.dataclass(frozen=True)
class Description:
  """Layers in the order of computation, and warnings.

  Attributes:
    layers: those with parameters or multiply-adds, or that resize.
    warnings: layer: pixels or weights that it leaves out.
  """

  layers: list[Layer]
  warnings: list[str]


@dataclasses.dataclass(frozen=True)
class _Value:
  """A variable.

  Attributes:
    view: None if it does not depend on the image.
    leaves: indices of the variables that it was computed from without it.
    shared: whether several equations read it.
  """

  view: fields.View | None = None
  leaves: frozenset[int] = frozenset()
  shared: bool = False


def describe(
  model: base.Model, image_shape: tuple[int, int, int]
) -> Description:
  """Returns the layers of a model, by tracing only.

  Args:
    model: traced as by `flops.count_cost`, whose numbers are the sums.
    image_shape: (H, W, C) that the model was built for.

  Raises:
    InputError: see `flops.count_macs`.
  """
  program, variables = flops.trace(model, image_shape)
  leaves = jax.tree_util.tree_leaves_with_path(variables)
  walk = _Walk(
    {
      index: leaf.size
      for index, (path, leaf) in enumerate(leaves)
      if path[0].key == "params"
    }
  )
  values = [_Value(leaves=frozenset([i])) for i in range(len(leaves))]
  view = fields.view_image(image_shape)
  walk.run(program, [*values, _Value(view)], "")
  return walk.finish()


class _Walk:
  """Follows the image through a jaxpr.

  Args:
    params: leaf -> number of trained parameters.
  """

  def __init__(self, params: dict[int, int]):
    self._unused = dict(params)
    self._layers: list[Layer] = []
    self._named: dict[str, Layer] = {}
    self._warnings: list[tuple[Layer, str]] = []
    self._convolved = False

  def run(
    self, program: core.Jaxpr, values: Sequence[_Value], scope: str
  ) -> list[_Value]:
    """Returns the outputs of a program, from its inputs."""
    read = [v for equation in program.eqns for v in equation.invars]
    is_variable = lambda v: not isinstance(v, core.Literal)
    uses = collections.Counter(filter(is_variable, [*read, *program.outvars]))
    known = dict(zip(program.invars, values, strict=True))

    def look_up(variable) -> _Value:
      value = known.get(variable) if is_variable(variable) else None
      if value is None:
        return _Value()
      shared = value.shared or uses[variable] > 1
      return dataclasses.replace(value, shared=shared)

    for equation in program.eqns:
      inputs = list(map(look_up, equation.invars))
      outputs = self._follow(equation, inputs, _join_scopes(scope, equation))
      known.update(zip(equation.outvars, outputs, strict=True))
    return list(map(look_up, program.outvars))

  def _follow(self, equation, inputs, scope: str) -> list[_Value]:
    leaves = frozenset[int]().union(*(value.leaves for value in inputs))
    views = [value.view for value in inputs]
    if not any(views):
      macs = flops.count_equation(equation)
      if macs:
        self._find_layer(scope).macs += macs
      return [_Value(leaves=leaves)] * len(equation.outvars)
    whole = equation.primitive is primitives.scan_p
    if not whole and flops.count_product(equation) is None:
      _, programs = flops.find_programs(equation)
      for program in programs:  # At most one.
        operands = inputs[len(inputs) - len(program.invars) :]
        return self.run(program, operands, scope)
    name = equation.primitive.name
    layer = self._find_layer(f"{scope}/scan" if whole else scope)
    if name.startswith(_POOL) and layer.resized_by.startswith(_POOL):
      layer = Layer(scope)
      self._layers.append(layer)
    layer.macs += flops.count_equation(equation)
    layer.params += sum(self._unused.pop(leaf, 0) for leaf in leaves)
    if layer.name and (layer.params or layer.macs):
      self._named[layer.name] = layer
    first = next(i for i, view in enumerate(views) if view)
    self._warn(equation, inputs[first], layer)
    outputs = fields.propagate(equation, views)
    size = equation.invars[first].aval.size
    layer.inputs = layer.inputs or size
    if equation.outvars[0].aval.size != size:
      layer.resized_by = name
    if layer.params or layer.macs or not layer.shape or name != "reshape":
      layer.shape = equation.outvars[0].aval.shape[1:]
    layer.field = outputs[0].field
    return list(map(_Value, outputs))

  def _find_layer(self, scope: str) -> Layer:
    """Returns the layer of a scope; without parameters, only the last one."""
    layer = self._named.get(scope)
    if layer is None and self._layers and self._layers[-1].name == scope:
      layer = self._layers[-1]
    if layer is None:
      layer = Layer(scope)
      self._layers.append(layer)
    return layer

  def _warn(self, equation, value: _Value, layer: Layer) -> None:
    """Adds warnings about the windows of an equation."""
    convolves = flops.count_product(equation) is not None
    assert value.view is not None
    shape, tables = equation.invars[0].aval.shape, value.view.tables
    windows = {
      axis: window
      for axis, window in fields.find_windows(equation).items()
      if convolves or tables[axis].any()
    }
    if not windows or equation.primitive.name == "pad":
      return
    add = lambda text: self._warnings.append((layer, text))
    sides = [shape[axis] for axis in windows]
    read = [w.count_read(shape[axis]) for axis, w in windows.items()]
    if read != sides and not value.shared:
      apart = [w for w in windows.values() if w.stride > w.size]
      why = [f"stride {w.stride} exceeds window {w.size}: " for w in apart[:1]]
      add(
        f"{''.join(why)}reads {math.prod(read)} of {math.prod(sides)} positions"
        f" of its {format_sides(sides)} input"
      )
    if not convolves:
      return
    sizes = [window.size for window in windows.values()]
    overlap = any(w.stride < w.size for w in windows.values())
    if not self._convolved and overlap and any(n % 2 == 0 for n in sizes):
      add(f"even {format_sides(sizes)} kernel of the stem has no center pixel")
    self._convolved = True
    used = math.prod(map(min, sizes, sides))
    single = all(window.count == 1 for window in windows.values())
    if single and used < math.prod(sizes):
      add(f"map of 1x1, {used} of {math.prod(sizes)} kernel positions see data")

  def finish(self) -> Description:
    """Returns the layers and warnings of all that was run."""
    roots = {layer.name.partition("/")[0] for layer in self._layers} - {""}
    kept = [
      layer
      for layer in self._layers
      if layer.params or layer.macs or layer.inputs != math.prod(layer.shape)
    ]
    for layer in self._layers:
      if len(roots) == 1:  # The class of the model.
        layer.name = layer.name.partition("/")[2]
      layer.name = layer.name.strip("/") or layer.resized_by or "model"
    unused = sum(self._unused.values())
    names = collections.defaultdict(list)
    for layer, text in self._warnings:
      names[text].append(layer.name)
    return Description(
      kept + [Layer(UNUSED, params=unused)] * bool(unused),
      [f"{', '.join(found)}: {text}" for text, found in names.items()],
    )


def _join_scopes(scope: str, equation: core.JaxprEqn) -> str:
  """Returns the path of an equation, without methods around modules."""
  names = str(equation.source_info.name_stack).split("/")
  plain = list(filter(_NAME.fullmatch, names))
  kept = [n for n in plain if "." not in n or n is plain[-1]]
  kept = [n.rpartition(".")[2].strip("_") for n in kept]
  return "/".join(filter(None, [scope, *kept]))


def format_sides(sides: Sequence[int]) -> str:
  """Returns e.g. "3x3"."""
  return "x".join(map(str, sides))
