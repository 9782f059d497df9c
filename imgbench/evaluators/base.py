"""What every evaluator shares: the protocol, the compiled step, the pass."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench import parallel
from imgbench.data import source
from imgbench.evaluators import splits
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import measurement
from imgbench.metrics import outcomes as outcomes_lib

# (variables, images uint8 [B, H, W, C]) -> logits float32 [B, K]
PredictFn = Callable[[Mapping[str, Any], jax.Array], jax.Array]
MetricKey = tuple[str, str]  # (subset, metric)


class EvaluationStopped(Exception):
  """The pass was given up because the run is asked to stop."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What one pass over a split gave.

  Attributes:
    info: of the split.
    measurements: (subset, metric) -> measurement.
    outcomes: per example, NumPy arrays [N].
    counts: by original class, NumPy arrays [K].
    probs: float32 [N, K] softmax of the logits, NaN in rows not finite; None
      where it was not kept.
    alpha: intervals cover 1 - alpha.
  """

  info: source.Info
  measurements: Mapping[MetricKey, measurement.Measurement]
  outcomes: outcomes_lib.Outcomes
  counts: counts_lib.Counts
  probs: np.ndarray | None = None
  alpha: float = 0.05


class Evaluator(Protocol):
  """Evaluates a model on one split."""

  info: source.Info
  examples: source.Examples
  parameters: str  # "raw", or "ema" for their moving average
  images: Callable[[np.ndarray], np.ndarray]  # indices [n] -> [n, H, W, C]

  def run(
    self,
    variables: Mapping[str, Any],
    should_stop: Callable[[], bool] = lambda: False,
  ) -> Evaluation:
    """Raises EvaluationStopped as soon as `should_stop` is true."""


class CompiledPass:
  """One pass over a split: every example exactly once.

  The step is compiled once per batch shape and shared by all splits.

  Args:
    predict_fn: the model's part.
    strategy: devices and shardings.
    batch_size: rounded up to a multiple of the devices.
    num_classes: K.
    ks: top-k hits are counted for each k.
  """

  def __init__(
    self,
    predict_fn: PredictFn,
    strategy: parallel.JitStrategy,
    batch_size: int,
    num_classes: int,
    ks: Sequence[int] = (1, outcomes_lib.TOP),
  ):
    if batch_size < 1:
      raise errors.InputError(
        f"evaluation.batch_size: expected at least 1, got {batch_size}"
      )
    self._batch_size = strategy.round_up(batch_size)
    self._strategy = strategy
    # Wrong k are refused here, before data are read.
    self._empty = lambda: counts_lib.empty(
      num_classes, ks, set_ks=(1, outcomes_lib.TOP)
    )
    self._empty()

    def eval_step(keep_probs, variables, batch, mask, allowed, counts):
      logits = predict_fn(variables, batch.image)
      if allowed is not None:
        logits = jnp.where(allowed[None, :], logits, -jnp.inf)
      outcomes = outcomes_lib.outcomes(logits, batch.label, batch.label_codes)
      counts = counts_lib.update(
        counts,
        outcomes,
        batch.label,
        mask,
        left_out=batch.left_out,
        in_imagenet_m=batch.in_imagenet_m,
      )
      probs = outcomes_lib.probabilities(logits) if keep_probs else None
      return counts, outcomes, probs

    self._eval_steps = {
      keep_probs: strategy.jit(
        functools.partial(eval_step, keep_probs),
        out=(strategy.replicated, strategy.batch, strategy.batch),
        donate=(4,),
      )
      for keep_probs in (False, True)
    }

  def __call__(
    self,
    variables: Mapping[str, Any],
    split: splits.Split,
    should_stop: Callable[[], bool],
    keep_probs: bool = False,
    allowed: np.ndarray | None = None,
  ) -> tuple[counts_lib.Counts, outcomes_lib.Outcomes, np.ndarray | None]:
    """Returns counts [K], outcomes [N] and probabilities, NumPy arrays.

    Args:
      variables: of the model.
      split: N examples.
      should_stop: asked before each batch.
      keep_probs: whether to keep the probabilities of all classes.
      allowed: bool [K], the classes that may be predicted; None: all.

    Raises:
      EvaluationStopped: as soon as `should_stop` is true.
    """
    if allowed is not None:
      allowed = self._strategy.replicate(allowed)
    counts = self._strategy.replicate(self._empty())
    eval_step = self._eval_steps[keep_probs]
    kept = []
    batches = split.batches(self._batch_size)
    try:
      for batch, mask in batches:
        if should_stop():
          raise EvaluationStopped
        counts, *of_batch = eval_step(variables, batch, mask, allowed, counts)
        kept.append(of_batch)
    finally:
      batches.close()
    counts, kept = jax.device_get((counts, kept))
    num_examples = len(split.examples)
    outcomes, probs = jax.tree.map(
      lambda *parts: np.concatenate(parts)[:num_examples], *kept
    )
    seen = int(counts.count.sum())
    if seen != num_examples:
      raise RuntimeError(
        f"counted {seen} of {num_examples} examples; {counts.outside} have"
        " a label that is no class"
      )
    return counts, outcomes, probs
