"""Optimizers and learning-rate schedules by name."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import inspect
import typing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from imgbench import errors
from imgbench import registry

SCHEDULES: registry.Registry[Callable[..., optax.Schedule]] = registry.Registry(
  "schedule"
)


class Optimizers(
  registry.Registry[Callable[..., optax.GradientTransformation]]
):
  """Registered optimizers, and those of optax as "optax.NAME"."""

  def list_known(self) -> list[str]:
    """See `registry.Registry`."""
    return [*self, *filter(_find_in_optax, map("optax.{}".format, dir(optax)))]

  def __getitem__(self, name: str):
    function = _find_in_optax(name)
    if function is None:
      return super().__getitem__(name)
    return _adapt(name, function)


OPTIMIZERS = Optimizers("optimizer")
NS_DTYPES = ("auto", "float32", "bfloat16")
SMALL = 4096
_NS_COEFFS = (3.4445, -4.7750, 2.0315)  # optax's, see `muon`


@dataclasses.dataclass(frozen=True)
class Schedule:
  """A learning rate as a function of the steps done so far.

  Attributes:
    function: steps (int or array) -> float32.
    peak: the highest value.
  """

  function: Callable[[Any], jax.Array]
  peak: float

  def __call__(self, count: Any) -> jax.Array:
    return self.function(count)


def build_schedule(
  name: str, *, peak: float, total_steps: int, **settings
) -> Schedule:
  """Returns a schedule by name.

  Args:
    name: one of SCHEDULES.
    peak: highest value, > 0.
    total_steps: length of the run, >= 1.
    **settings: of the schedule, see its function.

  Raises:
    InputError: unknown name or setting, or a value out of range.
  """
  errors.check(peak > 0, "peak", "more than 0", peak)
  errors.check(total_steps >= 1, "total_steps", "at least 1", total_steps)
  function = SCHEDULES.build(
    name, peak=peak, total_steps=total_steps, **settings
  )
  return Schedule(function, peak)


@SCHEDULES.register("constant")
def constant(
  *, peak: float, total_steps: int, warmup_steps: int = 0
) -> optax.Schedule:
  """Rises from 0 to `peak` in `warmup_steps`, then stays constant.

  Args:
    peak: highest value.
    total_steps: of the run.
    warmup_steps: of these.
  """
  _check_warmup(warmup_steps, total_steps)
  return _interpolated([(0, 0.0), (warmup_steps, peak), (total_steps, peak)])


@SCHEDULES.register("warmup_cosine")
def warmup_cosine(
  *, peak: float, total_steps: int, warmup_steps: int = 0, end: float = 0.0
) -> optax.Schedule:
  """Rises from 0 to `peak` in `warmup_steps`, then half a cosine to `end`.

  Args:
    peak: highest value.
    total_steps: of the run.
    warmup_steps: of these.
    end: value at the end, 0 to `peak`.

  Source: Loshchilov and Hutter 2017 (arXiv:1608.03983), without restarts.
  """
  _check_warmup(warmup_steps, total_steps)
  errors.check(0 <= end <= peak, "end", f"0 to {peak}", end)

  def schedule(count):
    count = jnp.asarray(count, jnp.float32)
    done = (count - warmup_steps) / max(1, total_steps - warmup_steps)
    cosine = (1 + jnp.cos(jnp.pi * jnp.clip(done, 0.0, 1.0))) / 2
    decayed = end + (peak - end) * cosine
    return jnp.where(
      count < warmup_steps, peak * count / max(1, warmup_steps), decayed
    )

  return schedule


@SCHEDULES.register("piecewise_linear")
def piecewise_linear(
  *,
  peak: float,
  total_steps: int,
  warmup_steps: int = 0,
  end: float = 0.0,
  points: Sequence[Sequence[float]] = (),
) -> optax.Schedule:
  """Interpolates linearly between points.

  Args:
    peak: highest value.
    total_steps: length of the run.
    warmup_steps: steps from 0 to `peak`; not with `points`.
    end: value at the end; not with `points`.
    points: pairs (share of the run, share of `peak`), both in [0, 1], the first
      component increasing. Constant before the first and after the last.
  """
  if not len(points):
    _check_warmup(warmup_steps, total_steps)
    errors.check(0 <= end <= peak, "end", f"0 to {peak}", end)
    return _interpolated([(0, 0.0), (warmup_steps, peak), (total_steps, end)])
  if warmup_steps or end:
    setting = "warmup_steps" if warmup_steps else "end"
    given, fix = warmup_steps or end, "write it as a point"
    raise errors.InputError(setting, "0 with points", given, fix)
  at = [point[0] for point in points]
  in_range = all(0 <= x <= 1 for point in points for x in point)
  rising = all(a < b for a, b in zip(at, at[1:], strict=False))
  errors.check(in_range and rising, "points", "rising shares in [0, 1]", points)
  return _interpolated([(a * total_steps, b * peak) for a, b in points])


def build_optimizer(
  name: str, *, schedule: Schedule, clip_norm: float = 0.0, **settings
) -> optax.GradientTransformation:
  """Returns an optimizer by name.

  Args:
    name: one of OPTIMIZERS.
    schedule: of `build_schedule`.
    clip_norm: gradients with a larger global norm are scaled down to it; 0
      disables clipping.
    **settings: of the optimizer, see its function.

  Raises:
    InputError: unknown name or setting, or a value out of range.
  """
  errors.check(clip_norm >= 0, "clip_norm", "at least 0", clip_norm)
  tx = OPTIMIZERS.build(name, schedule=schedule, **settings)
  if not clip_norm:
    return tx
  return optax.chain(_clip_by_global_norm(clip_norm), tx)


@OPTIMIZERS.register("sgd")
def sgd(
  *,
  schedule: optax.Schedule,
  momentum: float = 0.9,
  nesterov: bool = True,
  weight_decay: float = 0.0,
) -> optax.GradientTransformation:
  """Gradient descent with momentum.

  Args:
    schedule: learning rate.
    momentum: in [0, 1).
    nesterov: whether the momentum is Nesterov's.
    weight_decay: this * kernel is added to the gradient before the momentum, as
      in classic recipes (L2 regularization).
  """
  _check_share(momentum, "momentum")
  errors.check(weight_decay >= 0, "weight_decay", "at least 0", weight_decay)
  return optax.chain(
    optax.add_decayed_weights(weight_decay, mask=decay_mask),
    optax.trace(decay=momentum, nesterov=nesterov),
    optax.scale_by_learning_rate(schedule),
  )


@OPTIMIZERS.register("adamw")
def adamw(
  *,
  schedule: Schedule,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  independent_decay: bool = False,
) -> optax.GradientTransformation:
  """Adam with decoupled weight decay.

  Args:
    schedule: learning rate.
    b1: decay rate of the mean of gradients, in [0, 1).
    b2: decay rate of the mean of squared gradients.
    eps: added to the root of the mean square.
    weight_decay: learning rate * this * kernel is subtracted at each step, as
      in PyTorch and optax.
    independent_decay: whether to subtract learning rate / peak * `weight_decay`
      * kernel instead, independent of the peak, as in the source and in
      big_vision. 1e-4 at a peak of 1e-3 equals 0.1 without it.

  Source: Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2.
  """
  _check_share(b1, "b1")
  _check_share(b2, "b2")
  errors.check(eps > 0, "eps", "more than 0", eps)
  errors.check(weight_decay >= 0, "weight_decay", "at least 0", weight_decay)
  if independent_decay:
    weight_decay = weight_decay / schedule.peak
  return optax.adamw(
    schedule, b1, b2, eps, weight_decay=weight_decay, mask=decay_mask
  )


@OPTIMIZERS.register("muon")
def muon(
  *,
  schedule: Schedule,
  momentum: float = 0.95,
  nesterov: bool = True,
  ns_steps: int = 5,
  ns_dtype: str = "auto",
  weight_decay: float = 0.0,
  normalize_kernels: bool = False,
  other_ratio: float = 1.0,
  other_momentum: float = 0.85,
  other_weight_decay: float = 0.0,
) -> optax.GradientTransformation:
  """Muon for hidden kernels, Nesterov SGD for all other parameters.

  A convolution kernel [k, k, C, F] is treated as a matrix [k * k * C, F]. The
  head and all parameters other than kernels use SGD.

  Args:
    schedule: learning rate.
    momentum: of Muon, in [0, 1).
    nesterov: of Muon.
    ns_steps: Newton-Schulz iterations, >= 1.
    ns_dtype: dtype of these iterations, "float32", "bfloat16" or "auto", which
      is float32 on CPUs and bfloat16 elsewhere. In float32 CPUs iterate on each
      matrix alone; otherwise matrices are batched, padded with zeros. Both
      dtypes reach the same accuracy within the spread of seeds:
      configs/cifar10_fast.py 78.6% and 78.9%, 5 seeds with standard deviations
      of 0.5 and 0.3 points.
    weight_decay: learning rate * this * kernel is subtracted at each step.
    normalize_kernels: whether to scale each kernel to the Frobenius norm
      sqrt(F) before its update; only for kernels followed by a norm.
    other_ratio: SGD's learning rate over Muon's.
    other_momentum: of SGD.
    other_weight_decay: of SGD, for the head's kernel.

  Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural
    networks", 2024.
  """
  _check_share(momentum, "momentum")
  errors.check(ns_steps >= 1, "ns_steps", "at least 1", ns_steps)
  errors.check(weight_decay >= 0, "weight_decay", "at least 0", weight_decay)
  errors.check(other_ratio >= 0, "other_ratio", "at least 0", other_ratio)
  names = f"one of {', '.join(NS_DTYPES)}"
  errors.check(ns_dtype in NS_DTYPES, "ns_dtype", names, repr(ns_dtype))

  def partition(rate):
    hidden = [
      _scale_by_muon(ns_steps, ns_dtype, beta=momentum, nesterov=nesterov),
      optax.stateless(lambda updates, _: jax.tree.map(_scale_wide, updates)),
      optax.add_decayed_weights(weight_decay),
      optax.scale_by_learning_rate(rate),
    ]
    if normalize_kernels:
      hidden.append(_normalize_before_update())
    other = sgd(
      schedule=lambda count: other_ratio * rate(count),
      momentum=other_momentum,
      weight_decay=other_weight_decay,
    )
    return optax.partition(
      {"hidden": optax.chain(*hidden), "other": other}, _muon_labels
    )

  def update(updates, state, params=None):
    # Both parts count the same steps, so the schedule is evaluated once.
    rate = schedule(state.inner_states["hidden"].inner_state[0].count)
    return partition(lambda _: rate).update(updates, state, params)

  return optax.GradientTransformation(partition(schedule).init, update)


# Arguments of optax's optimizers that get `decay_mask`.
_DECAY_MASKS = ("mask", "weight_decay_mask")
# Functions of optax that are no optimizers of gradients and parameters:
# schedule-free ones evaluate other parameters than they train, and private ones
# need the gradient of each example.
_REFUSED = ("scale_by", "schedule_free", "dpsgd")
_PLAIN = (bool, int, float, str, tuple, type(None))


def _find_in_optax(name: str) -> Callable | None:
  """Returns the function of "optax.NAME" that takes a learning rate, or None.

  NAME may have a module before it: "optax.contrib.prodigy".
  """
  first, *path = name.split(".")
  if first != "optax" or not path or any(x.startswith("_") for x in path):
    return None
  found = optax
  for part in path:
    found = getattr(found, part, None)
  if not inspect.isfunction(found) or path[-1].startswith(_REFUSED):
    return None
  takes_rate = "learning_rate" in inspect.signature(found).parameters
  return found if takes_rate else None


def _adapt(
  name: str, function: Callable
) -> Callable[..., optax.GradientTransformation]:
  """Returns a builder of an optimizer of optax.

  Its settings are the arguments whose defaults are numbers, text or None. The
  learning rate is the schedule, and decayed weights are those of `decay_mask`.
  """
  known = inspect.signature(function).parameters

  def build(*, schedule: Schedule, **settings) -> optax.GradientTransformation:
    masks = {key: decay_mask for key in _DECAY_MASKS if key in known}
    try:
      tx = function(learning_rate=schedule, **masks, **settings)
      params = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
      jax.eval_shape(lambda p: tx.update(p, tx.init(p), p), params)
    except Exception as error:  # Of many kinds, for settings too.
      expected = "an optimizer that needs gradients and parameters only, with"
      expected += " settings that it takes"
      reason = errors.describe(error)
      raise errors.InputError("name", expected, repr(name), reason) from error
    return tx

  settings = [_adapt_parameter(p) for p in known.values() if _is_setting(p)]
  schedule = inspect.Parameter("schedule", inspect.Parameter.KEYWORD_ONLY)
  signature = inspect.Signature([schedule, *settings])
  build.__signature__ = signature  # type: ignore[attr-defined]
  build.__doc__ = inspect.getdoc(function)
  return build


def _is_setting(parameter: inspect.Parameter) -> bool:
  hidden = ("learning_rate", *_DECAY_MASKS)
  plain = parameter.default is parameter.empty
  plain |= isinstance(parameter.default, _PLAIN)
  return plain and parameter.name not in hidden


def _adapt_parameter(parameter: inspect.Parameter) -> inspect.Parameter:
  """Returns a keyword of one type, where optax allows arrays too."""
  default, hint = parameter.default, parameter.annotation
  kinds = [k for k in (float, int) if k in (hint, *typing.get_args(hint))]
  kinds += [str] * parameter.name.endswith("dtype")
  kind = parameter.empty
  if isinstance(default, bool | int | float | str):
    kind = type(default)
  elif kinds:
    kind = kinds[0] | None if default is None else kinds[0]
  return parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=kind)


def decay_mask(params: Any) -> Any:
  """Returns true for kernels, false for biases, scales and embeddings."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: _names(path)[-1] == "kernel", params
  )


def global_norm(tree: Any) -> jax.Array:
  """Returns the norm of all leaves together.

  On NVIDIA GPUs small leaves are concatenated first, so that one kernel sums
  their squares instead of one or two each. Elsewhere it is optax.tree.norm.
  """
  return jax.lax.platform_dependent(
    tree, cuda=_joined_norm, default=optax.tree.norm
  )


def _joined_norm(tree: Any) -> jax.Array:
  leaves = jax.tree.leaves(tree)
  # Larger ones may be sharded.
  small = [leaf.reshape(-1) for leaf in leaves if leaf.size < SMALL]
  rest = [leaf for leaf in leaves if leaf.size >= SMALL]
  joined = [jnp.concatenate(small)] if small else []
  return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in joined + rest))


def _clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
  """optax.clip_by_global_norm with `global_norm`."""

  def update(updates, _):
    norm = global_norm(updates)
    return jax.tree.map(
      lambda g: jax.lax.select(norm < max_norm, g, g / norm * max_norm), updates
    )

  return optax.stateless(update)


def _muon_labels(params: Any) -> Any:
  def label(path, leaf):
    names = _names(path)
    hidden = names[-1] == "kernel" and "head" not in names and leaf.ndim >= 2
    return "hidden" if hidden else "other"

  return jax.tree_util.tree_map_with_path(label, params)


def _scale_by_muon(
  ns_steps: int, ns_dtype: str, **settings
) -> optax.GradientTransformation:
  """optax's scale_by_muon, with matrices batched except on CPUs.

  CPUs multiply a batch of matrices more slowly than one after the other.
  """
  build = functools.partial(
    optax.contrib.scale_by_muon,
    weight_dimension_numbers=_matrix_axes,
    **settings,
  )
  alone = build(ns_steps=ns_steps)
  # Zero iterations, no norm: the momentum alone.
  momentum = build(ns_steps=0, preconditioning="schatten")
  dtype = jnp.float32 if ns_dtype == "float32" else jnp.bfloat16

  def batched(updates, state):
    updates, state = momentum.update(updates, state)
    leaves, treedef = jax.tree.flatten(updates)
    leaves = _orthogonalize(leaves, ns_steps, dtype)
    return jax.tree.unflatten(treedef, leaves), state

  def update(updates, state, params=None):
    del params
    if ns_dtype == "bfloat16":
      return batched(updates, state)
    return jax.lax.platform_dependent(
      updates, state, cpu=alone.update, default=batched
    )

  return optax.GradientTransformation(alone.init, update)


def _orthogonalize(
  kernels: Sequence[jax.Array], steps: int, dtype: jnp.dtype
) -> list[jax.Array]:
  """Runs Newton-Schulz iterations on kernels as matrices [inputs, outputs].

  Zero rows and columns stay zero and change no other number, so matrices of
  different shapes are padded to one shape.
  """
  matrices = [kernel.reshape(-1, kernel.shape[-1]) for kernel in kernels]
  tall = [m.T if m.shape[0] < m.shape[1] else m for m in matrices]
  done = list(kernels)
  for group in _groups([m.shape for m in tall]):
    shape = np.max([tall[i].shape for i in group], axis=0)
    padded = [
      jnp.pad(
        tall[i].astype(dtype),
        [(0, n - k) for n, k in zip(shape, tall[i].shape, strict=True)],
      )
      for i in group
    ]
    x = _newton_schulz(jnp.stack(padded), steps)
    for one, i in zip(x, group, strict=True):
      one = one[: tall[i].shape[0], : tall[i].shape[1]]
      one = one if tall[i] is matrices[i] else one.T
      done[i] = one.reshape(kernels[i].shape).astype(kernels[i].dtype)
  return done


def _newton_schulz(x: jax.Array, steps: int) -> jax.Array:
  """Brings the singular values of [N, rows, columns] close to 1."""
  wide = lambda x: x.astype(jnp.float32)
  norm = jnp.linalg.norm(wide(x), axis=(1, 2), keepdims=True)
  x = (x / (norm + 1e-8)).astype(x.dtype)
  eye = jnp.eye(x.shape[-1])[None]
  for _ in range(steps):
    a = x.mT @ x
    c = zip(_NS_COEFFS, (eye, wide(a), wide(a @ a)), strict=True)
    # With the identity inside, an iteration is three products and one more
    # kernel.
    x = x @ sum(factor * power for factor, power in c).astype(x.dtype)
  return x


def _groups(shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
  """Groups indices of shapes so that padding at most doubles the FLOPs."""
  cost = lambda rows, columns: columns**2 * (2 * rows + columns)
  groups: list[list[int]] = []
  for i in sorted(range(len(shapes)), key=lambda i: -cost(*shapes[i])):
    group = [shapes[k] for k in [*(groups[-1] if groups else ()), i]]
    padded = len(group) * cost(*np.max(group, axis=0))
    if groups and padded <= 2 * sum(cost(*shape) for shape in group):
      groups[-1].append(i)
    else:
      groups.append([i])
  return groups


def _matrix_axes(params: Any) -> Any:
  """Declares the last axis the output of a matrix, all others its input."""
  return jax.tree.map(
    lambda leaf: optax.contrib.MuonDimensionNumbers(
      reduction_axis=tuple(range(leaf.ndim - 1)), output_axis=leaf.ndim - 1
    ),
    params,
  )


def _scale_wide(update: jax.Array) -> jax.Array:
  """Scales up the update of a matrix with more outputs than inputs."""
  outputs = update.shape[-1]
  inputs = update.size // outputs
  return max(1.0, outputs / inputs) ** 0.5 * update


def _normalize_before_update() -> optax.GradientTransformation:
  """Adds to each update the step that scales its kernel to norm sqrt(F)."""

  def update(updates, params):
    def one(step, kernel):
      norm = jnp.linalg.norm(kernel.reshape(-1))
      target = jnp.sqrt(jnp.asarray(kernel.shape[-1], kernel.dtype))
      return step + (target / (norm + 1e-12) - 1.0) * kernel

    return jax.tree.map(one, updates, params)

  return optax.stateless(update)


def _names(path) -> list[str]:
  return [str(getattr(part, "key", part)) for part in path]


def _interpolated(points: Sequence[tuple[float, float]]) -> optax.Schedule:
  """Interpolates with the arithmetic of jnp.interp but without its loop.

  The loop searches for the segment; on a GPU it costs a dozen launches and
  breaks CUDA graphs. Selections fuse into the kernels that use the value.
  """
  # Of two points at the same step the later one counts.
  last = dict(points)
  at = np.array(list(last.keys()), np.float32)
  values = np.array(list(last.values()), np.float32)
  pieces = list(zip(at, np.diff(at), values, np.diff(values), strict=False))

  @jax.jit
  def schedule(count):
    count = jnp.asarray(count, jnp.float32)
    # Also prevents XLA from dividing by a constant, which rounds differently.
    start, width, low, rise = at[0], np.float32(1), values[0], np.float32(0)
    for piece in pieces:
      start, width, low, rise = (
        jnp.where(count >= piece[0], new, old)
        for new, old in zip(piece, (start, width, low, rise), strict=True)
      )
    line = low + (count - start) / width * rise
    return jnp.where(count > at[-1], values[-1], line)

  return schedule


def _check_share(value: float, key: str) -> None:
  errors.check(0 <= value < 1, key, "a number in [0, 1)", value)


def _check_warmup(warmup_steps: int, total_steps: int) -> None:
  errors.check(
    0 <= warmup_steps <= total_steps,
    "warmup_steps",
    f"0 to {total_steps} (all steps)",
    warmup_steps,
  )
