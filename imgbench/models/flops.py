"""Parameters and multiply-adds of a model, counted in its jaxpr.

A multiply-add (MAC) is two FLOPs; the tables of torchvision and timm list MACs
under the name FLOPs. Convolutions and matrix products count; norms,
activations, biases and pooling do not. Padding counts like pixels, as in those
tables.
"""

from collections.abc import Callable
import dataclasses
import math

import jax
from jax.extend import core
from jax.extend.core import primitives

from imgbench import errors
from imgbench.models import base
from imgbench.models import layers

FLOPS_PER_MAC = 2
# Forward, and backward for the inputs and for the weights of each layer. The
# first layer needs no input gradient; that is below 3% in every model.
TRAINING_PASSES = 3

# Primitives that run their jaxpr once.
_CALLS = (
  primitives.jit_p,
  primitives.remat_p,
  primitives.custom_jvp_call_p,
  primitives.custom_vjp_call_p,
)
# Name prefixes of primitives whose jaxpr combines two numbers.
_COMBINERS = ("reduce", "scatter", "select_and_")


@dataclasses.dataclass(frozen=True)
class Cost:
  """Size of a model, and cost of a forward pass of one image.

  Attributes:
    params: trained parameters.
    macs: multiply-adds.
  """

  params: int
  macs: int

  @property
  def training_flops(self) -> int:
    """FLOPs of one image in a training step."""
    return FLOPS_PER_MAC * TRAINING_PASSES * self.macs

  @property
  def forward_flops(self) -> int:
    """FLOPs of one image in a forward pass."""
    return FLOPS_PER_MAC * self.macs


def count_cost(model: base.Model, image_shape: tuple[int, int, int]) -> Cost:
  """Returns the cost of a model, by tracing only.

  Args:
    model: counted by its definition, so that all platforms agree.
    image_shape: (H, W, C) that the model was built for.

  Raises:
    InputError: see `count_macs`.
  """
  program, variables = trace(model, image_shape)
  return Cost(base.num_params(variables), _count(program))


def trace(
  model: base.Model, image_shape: tuple[int, int, int]
) -> tuple[core.Jaxpr, base.Variables]:
  """Returns the forward pass of one image, and the shapes of the variables.

  Args:
    model: see `count_cost`.
    image_shape: (H, W, C).
  """
  model = model.definition() if model.definition else model
  variables = jax.eval_shape(lambda: model.init(jax.random.key(0)))
  images = jax.ShapeDtypeStruct((1, *image_shape), model.dtype)
  forward = lambda variables, images: model.apply(variables, images, False)
  return jax.make_jaxpr(forward)(variables, images).jaxpr, variables


def count_macs(function: Callable, *args) -> int:
  """Returns the multiply-adds of `function(*args)`.

  The body of a scan counts as often as it runs; of a platform-dependent choice
  the default counts. A convolution of `layers` counts as a convolution even if
  it is computed as a matrix product.

  Args:
    function: traceable by JAX.
    *args: arrays, or their shapes and dtypes.

  Raises:
    InputError: data-dependent control flow such as a while loop.
  """
  return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
  return sum(map(count_equation, jaxpr.eqns))


def count_equation(equation: core.JaxprEqn) -> int:
  """Returns the multiply-adds of an equation and the programs in it."""
  own = count_product(equation)
  if own is not None:
    return own
  times, programs = find_programs(equation)
  return times * sum(map(_count, programs))


def count_product(equation: core.JaxprEqn) -> int | None:
  """Returns the multiply-adds of a product or convolution, None for others."""
  primitive, params = equation.primitive, equation.params
  if primitive is primitives.dot_general_p:
    (contracted, _), _ = params["dimension_numbers"]
    return _count_products(equation, 0, contracted)
  if primitive is primitives.conv_general_dilated_p:
    # All axes of the kernel except output channels. Its input channels are
    # those of one group.
    summed = params["dimension_numbers"].rhs_spec[1:]
    return _count_products(equation, 1, summed)
  if is_convolution(equation):
    return _count_products(equation, -1, (0, 1, 2))
  return None


def is_convolution(equation: core.JaxprEqn) -> bool:
  """Returns whether an equation is a convolution of `layers`."""
  if equation.primitive is not primitives.custom_vjp_call_p:
    return False
  (program,) = core.jaxprs_in_params(equation.params)
  return program.debug_info.func_name == layers.CONVOLUTION


def find_programs(equation: core.JaxprEqn) -> tuple[int, list[core.Jaxpr]]:
  """Returns how often an equation runs which programs; none: (1, []).

  Raises:
    InputError: see `count_macs`.
  """
  primitive, params = equation.primitive, equation.params
  programs = list(core.jaxprs_in_params(params))
  if primitive is primitives.scan_p:
    return params["length"], programs[:1]
  if primitive is primitives.cond_p:
    platforms = params.get("branches_platforms") or ()
    if None in platforms:
      return 1, [programs[platforms.index(None)]]
  if primitive in _CALLS:
    return 1, programs
  if programs and not primitive.name.startswith(_COMBINERS):
    expected = "matrix products, convolutions and scans"
    raise errors.InputError("FLOPs", expected, repr(primitive.name))
  return 1, []


def _count_products(equation, operand: int, axes) -> int:
  """Returns the output's size times the length of the summed axes."""
  shape = equation.invars[operand].aval.shape
  size = equation.outvars[0].aval.size
  return size * math.prod(shape[axis] for axis in axes)
