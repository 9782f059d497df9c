"""One step body, pure; compiled in `train.stepper` through a strategy."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from imgbench import errors
from imgbench import losses
from imgbench import optim
from imgbench import parallel
from imgbench.data import device
from imgbench.models import base
from imgbench.train import state as state_lib

Batch = dict[str, jax.Array]
TrainStep = Callable[
  [state_lib.TrainState, Batch], tuple[state_lib.TrainState, jax.Array]
]


@dataclasses.dataclass(frozen=True)
class StepLayout:
  """Distribution of a step over devices and parts of its batch.

  Attributes:
    view: of the strategy that compiles the step.
    microbatches: parts of the batch that are computed one after the other,
      their gradients averaged, so that a larger batch fits into memory.
    unrolled: whether the loop over the parts is unrolled, for XLA:CPU, where
      gradients of convolutions are 30 times slower in a loop.
  """

  view: parallel.View = parallel.WHOLE
  microbatches: int = 1
  unrolled: bool = False


ALONE = StepLayout()


def build_train_step(
  model: base.Model,
  tx: optax.GradientTransformation,
  loss: losses.Loss,
  ema_decay: float = 0.0,
  layout: StepLayout = ALONE,
  key: jax.Array | None = None,
) -> TrainStep:
  """Returns (state, batch) -> (state, loss), the update of one step.

  The batch holds "image", [B, H, W, C] in the model's dtype and normalized,
  and "label", int32 [B]; where images are mixed also "second", int32 [B], and
  "weight" of the first label, float32 [B]. The loss is float32, the mean over
  the global batch; rows and loss are those of `layout.view`. Top-1 hits are
  counted where the loss has classes.

  The moving average of the variables, where the state has one, follows them
  with `ema_decay`, and with min(ema_decay, (1 + step) / (10 + step)) in the
  first steps, so that the initial values soon have no weight.

  A model that needs a key gets `key`, folded with the steps done and, where
  they are separate, with the part of the batch and the device.
  """
  view = layout.view

  def loss_fn(params, model_state, batch, key):
    variables = {"params": params, **model_state}
    outputs, model_state = model.apply(variables, batch["image"], True, key)
    with jax.named_scope("loss"):
      per_example = loss(outputs, batch)
      hits = jnp.zeros((), bool)
      if loss.predicts_classes:
        hits = jnp.argmax(outputs, axis=-1) == batch["label"]
    return per_example.mean(), (jnp.sum(hits, dtype=jnp.int32), model_state)

  gradient = jax.value_and_grad(loss_fn, has_aux=True)

  def train_step(state, batch):
    step_key = None
    if model.needs_key and key is not None:
      step_key = view.own_key(jax.random.fold_in(key, state.step))
    (mean_loss, grads, hits), model_state = _over_parts(
      gradient, state, batch, layout, step_key
    )
    _check_state(state.model_state, model_state)
    mean_loss, grads, model_state = _agree(view, mean_loss, grads, model_state)
    hits = view.sum(hits)
    with jax.named_scope("optimizer"):
      updates, opt_state = tx.update(grads, state.opt_state, state.params)
      params = optax.apply_updates(state.params, updates)
      grad_norm = optim.global_norm(grads)
    size = view.global_size(batch["label"].shape[0])
    window = state_lib.Window(
      loss_sum=state.window.loss_sum + mean_loss,
      grad_norm_sum=state.window.grad_norm_sum + grad_norm,
      top1_hits=state.window.top1_hits + hits,
      examples=state.window.examples + size,
      steps=state.window.steps + 1,
    )
    step = state.step + 1
    # Gradients that overflow spoil the parameters before the loss shows it.
    finite = jnp.isfinite(mean_loss) & jnp.isfinite(grad_norm)
    newly_bad = ~finite & (state.bad_step == 0)
    bad_step = jnp.where(newly_bad, step, state.bad_step)
    state = dataclasses.replace(
      state,
      step=step,
      params=params,
      model_state=model_state,
      opt_state=opt_state,
      window=window,
      bad_step=bad_step,
      last_finite_loss=jnp.where(
        bad_step > 0, state.last_finite_loss, mean_loss
      ),
    )
    return _update_ema(state, ema_decay), mean_loss

  return train_step


def _check_state(before: Any, after: Any) -> None:
  """Raises InputError unless a step keeps shapes and dtypes of a state."""
  shapes = [
    {
      jax.tree_util.keystr(path): f"{jnp.result_type(x)} {list(jnp.shape(x))}"
      for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]
    }
    for tree in (before, after)
  ]
  for name in sorted(shapes[0] | shapes[1]):
    expected, given = (found.get(name, "none") for found in shapes)
    errors.check(
      expected == given, f"state {name} after a training step", expected, given
    )


def _agree(
  view: parallel.View, loss: jax.Array, grads: Any, model_state: Any
) -> tuple[jax.Array, Any, Any]:
  """Returns means over devices of loss, gradients and a model's state.

  Of arrays of a state that are no floats, such as counters, the largest is
  taken; frozen ones have not changed.
  """
  paths, treedef = jax.tree_util.tree_flatten_with_path(model_state)
  leaves = [leaf for _, leaf in paths]
  floats: list[int] = []
  others: list[int] = []
  for i, (path, leaf) in enumerate(paths):
    if path[0].key != base.FROZEN:
      is_float = jnp.issubdtype(leaf.dtype, jnp.inexact)
      (floats if is_float else others).append(i)
  loss, grads, means = view.mean((loss, grads, [leaves[i] for i in floats]))
  largest = view.max([leaves[i] for i in others])
  for i, leaf in zip(floats + others, means + largest, strict=True):
    leaves[i] = leaf
  return loss, grads, jax.tree.unflatten(treedef, leaves)


def _over_parts(gradient, state, batch, layout: StepLayout, key):
  """Returns (loss, gradients, hits) of the rows seen, and the model's state.

  BatchNorm normalises each part on its own, and its running statistics go
  through the parts one after the other.
  """
  if layout.microbatches == 1:
    (loss, (hits, model_state)), grads = gradient(
      state.params, state.model_state, batch, key
    )
    return (loss, grads, hits), model_state

  keys = None if key is None else jax.random.split(key, layout.microbatches)

  def add(carry, part):
    sums, model_state = carry
    (loss, (hits, model_state)), grads = gradient(
      state.params, model_state, *part
    )
    sums = jax.tree.map(jnp.add, sums, (loss, grads, hits))
    return (sums, model_state), None

  zeros = (
    jnp.zeros((), jnp.float32),
    jax.tree.map(jnp.zeros_like, state.params),
    jnp.zeros((), jnp.int32),
  )
  ((loss, grads, hits), model_state), _ = jax.lax.scan(
    add,
    (zeros, state.model_state),
    (layout.view.split(batch, layout.microbatches), keys),
    unroll=layout.microbatches if layout.unrolled else 1,
  )
  mean = lambda x: x / layout.microbatches
  return (mean(loss), jax.tree.map(mean, grads), hits), model_state


def _update_ema(
  state: state_lib.TrainState, decay: float
) -> state_lib.TrainState:
  """Returns the state with its moving average one step on.

  It holds the last values of what are no floats.
  """
  if state.ema is None:
    return state
  step = state.step.astype(jnp.float32)
  rate = jnp.minimum(jnp.float32(decay), (1 + step) / (10 + step))
  return dataclasses.replace(
    state,
    ema=jax.tree.map(
      lambda a, x: (
        (a + (1 - rate) * (x - a)).astype(a.dtype)
        if jnp.issubdtype(a.dtype, jnp.inexact)
        else x
      ),
      state.ema,
      state.variables,
    ),
  )


def build_device_step(
  train_step: TrainStep,
  sample: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array],
  key: jax.Array,
  mix: Callable | None = None,
) -> Callable[..., tuple[state_lib.TrainState, jax.Array]]:
  """Returns (state, data, order) -> (state, loss) for data on the device.

  Args:
    train_step: see `build_train_step`.
    sample: (images uint8 [N, H, W, C], index [B], epoch [B], key) -> augmented
      and normalised images [B, H, W, C]. For data that are fed, images are
      those of the batch.
    key: folded with the step, so that any step can be computed again.
    mix: (images, labels, key) -> (images, `mixing.MixedLabels`), or None.

  Returns:
    The step; `order` holds "index" and "epoch", int32 [B], of the examples,
    and where `data` is None their "image" and "label", see `feeds`.
  """

  def device_step(
    state: state_lib.TrainState,
    data: device.DeviceExamples | None,
    order: Batch,
  ):
    step_key = jax.random.fold_in(key, state.step)
    if data is None:
      images, label = order["image"], order["label"]
    else:
      images, label = data.image, data.label[order["index"]]
    image = sample(images, order["index"], order["epoch"], step_key)
    batch = {"image": image, "label": label}
    if mix is not None:
      # No epoch that `sample` folds in comes this far.
      mix_key = jax.random.fold_in(step_key, 0xFFFFFFFF)
      image, labels = mix(image, label, mix_key)
      batch = {
        "image": image,
        "label": labels.first,
        "second": labels.second,
        "weight": labels.weight,
      }
    return train_step(state, batch)

  return device_step


def scan_steps(device_step: Callable) -> Callable:
  """Returns (state, data, orders) -> (state, losses [S]): S steps in one.

  The arrays of `orders` are int32 [S, B], see `build_device_step`.
  """

  def steps(state: Any, data: Any, orders: Batch):
    return jax.lax.scan(
      lambda carry, order: device_step(carry, data, order), state, orders
    )

  return steps
