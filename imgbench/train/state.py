"""The state of a run: everything that a step reads and writes."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

Params = dict[str, Any]


@flax.struct.dataclass
class Window:
  """Sums since the last logged step.

  They are part of the state, so that a run that was stopped between two logged
  steps logs the same numbers when it resumes.

  Attributes:
    loss_sum: float32, sum over steps of the mean loss of a batch.
    grad_norm_sum: float32, sum of the global norms of the gradients.
    top1_hits: int32.
    examples: int32.
    steps: int32.
  """

  loss_sum: jax.Array
  grad_norm_sum: jax.Array
  top1_hits: jax.Array
  examples: jax.Array
  steps: jax.Array

  @classmethod
  def empty(cls) -> "Window":
    """Returns sums over no steps."""
    zero_f = lambda: jnp.zeros((), jnp.float32)
    zero_i = lambda: jnp.zeros((), jnp.int32)
    return cls(zero_f(), zero_f(), zero_i(), zero_i(), zero_i())


@flax.struct.dataclass
class TrainState:
  """The model's part of a checkpoint; replaced, never edited.

  Attributes:
    step: int32, steps done.
    params: trained parameters, float32.
    model_state: other collections of the model, e.g. "batch_stats".
    opt_state: of the optimizer.
    window: see `Window`.
    bad_step: int32, the first step whose loss or gradients are not finite; 0
      if there is none.
    last_finite_loss: float32, the loss of the step before that one; 0 at step 0
      (NaN would end a run with JAX_DEBUG_NANS).
    ema: exponential moving average of `variables`, or None.
  """

  step: jax.Array
  params: Params
  model_state: dict[str, Any]
  opt_state: optax.OptState
  window: Window
  bad_step: jax.Array
  last_finite_loss: jax.Array
  ema: dict[str, Any] | None = None

  @classmethod
  def create(
    cls,
    variables: dict[str, Any],
    tx: optax.GradientTransformation,
    with_ema: bool = False,
  ) -> "TrainState":
    """Returns a state at step 0 from a model's variables."""
    model_state = {k: v for k, v in variables.items() if k != "params"}
    return cls(
      step=jnp.zeros((), jnp.int32),
      params=variables["params"],
      model_state=model_state,
      opt_state=tx.init(variables["params"]),
      window=Window.empty(),
      bad_step=jnp.zeros((), jnp.int32),
      last_finite_loss=jnp.zeros((), jnp.float32),
      # Copies: a buffer must not be donated twice.
      ema=jax.tree.map(jnp.array, variables) if with_ema else None,
    )

  @property
  def variables(self) -> dict[str, Any]:
    """Returns the variables for the model's `apply`."""
    return {"params": self.params, **self.model_state}
