"""One step body, pure; compiled in `train.stepper` through a strategy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from imgbench import losses
from imgbench.data import device
from imgbench.models import base
from imgbench.train import state as state_lib

Batch = dict[str, jax.Array]
TrainStep = Callable[
  [state_lib.TrainState, Batch], tuple[state_lib.TrainState, jax.Array]
]


def build_train_step(
  model: base.Model,
  tx: optax.GradientTransformation,
  label_smoothing: float,
  ema_decay: float = 0.0,
  loss_of: Callable = losses.softmax_cross_entropy,
) -> TrainStep:
  """Returns (state, batch) -> (state, loss), the update of one step.

  The batch holds "image", [B, H, W, C] in the model's dtype and normalised,
  and "label", int32 [B]; where images are mixed also "second", int32 [B], and
  "weight" of the first label, float32 [B]. The loss is float32, the mean over
  the batch.

  The moving average of the variables, where the state has one, follows them
  with `ema_decay`, and with min(ema_decay, (1 + step) / (10 + step)) in the
  first steps, so that what was drawn at the start is soon forgotten.
  """

  def loss_fn(params, model_state, batch):
    variables = {"params": params, **model_state}
    logits, model_state = model.apply(variables, batch["image"], True)
    per_example = loss_of(
      logits,
      batch["label"],
      label_smoothing,
      second=batch.get("second"),
      weight=batch.get("weight"),
    )
    return per_example.mean(), (logits, model_state)

  def train_step(state, batch):
    (loss, (logits, model_state)), grads = jax.value_and_grad(
      loss_fn, has_aux=True
    )(state.params, state.model_state, batch)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    grad_norm = optax.tree.norm(grads)
    hits = jnp.sum(
      jnp.argmax(logits, axis=-1) == batch["label"], dtype=jnp.int32
    )
    window = state_lib.Window(
      loss_sum=state.window.loss_sum + loss,
      grad_norm_sum=state.window.grad_norm_sum + grad_norm,
      top1_hits=state.window.top1_hits + hits,
      examples=state.window.examples + batch["label"].shape[0],
      steps=state.window.steps + 1,
    )
    step = state.step + 1
    # Gradients that overflow spoil the parameters before the loss shows it.
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    newly_bad = ~finite & (state.bad_step == 0)
    bad_step = jnp.where(newly_bad, step, state.bad_step)
    state = state.replace(
      step=step,
      params=optax.apply_updates(state.params, updates),
      model_state=model_state,
      opt_state=opt_state,
      window=window,
      bad_step=bad_step,
      last_finite_loss=jnp.where(bad_step > 0, state.last_finite_loss, loss),
    )
    return _follow(state, ema_decay), loss

  return train_step


def _follow(state: state_lib.TrainState, decay: float) -> state_lib.TrainState:
  """Returns the state with its moving average one step on."""
  if state.ema is None:
    return state
  step = state.step.astype(jnp.float32)
  decay = jnp.minimum(jnp.float32(decay), (1 + step) / (10 + step))
  return state.replace(
    ema=jax.tree.map(
      lambda a, x: (a + (1 - decay) * (x - a)).astype(a.dtype),
      state.ema,
      state.variables,
    )
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
