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
from imgbench.data import device
from imgbench.data import source
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

  def run(
    self,
    variables: Mapping[str, Any],
    should_stop: Callable[[], bool] = lambda: False,
  ) -> Evaluation:
    """Raises EvaluationStopped as soon as `should_stop` is true."""


class CompiledPass:
  """One pass over data on the device: every example exactly once.

  The model's part is compiled once per batch shape and shared by all splits;
  only the gather of a batch depends on the size of a split.

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

    def gather(data, start):
      return device.eval_batch(data, start, self._batch_size)

    def eval_step(keep_probs, variables, batch, mask, counts):
      logits = predict_fn(variables, batch.image)
      outcomes = outcomes_lib.outcomes(logits, batch.label, batch.label_codes)
      counts = counts_lib.update(
        counts, outcomes, batch.label, mask, left_out=batch.is_problematic
      )
      probs = outcomes_lib.probabilities(logits) if keep_probs else None
      return counts, outcomes, probs

    self._gather = strategy.jit(gather, out=strategy.batch)
    self._eval_steps = {
      keep_probs: strategy.jit(
        functools.partial(eval_step, keep_probs),
        out=(strategy.replicated, strategy.batch, strategy.batch),
        donate=(3,),
      )
      for keep_probs in (False, True)
    }

  def __call__(
    self,
    variables: Mapping[str, Any],
    data: device.DeviceExamples,
    should_stop: Callable[[], bool],
    keep_probs: bool = False,
  ) -> tuple[counts_lib.Counts, outcomes_lib.Outcomes, np.ndarray | None]:
    """Returns counts [K], outcomes [N] and probabilities, NumPy arrays."""
    counts = self._strategy.replicate(self._empty())
    eval_step = self._eval_steps[keep_probs]
    batches = []
    for start in range(0, data.num_examples, self._batch_size):
      if should_stop():
        raise EvaluationStopped
      batch, mask = self._gather(data, jnp.int32(start))
      counts, *of_batch = eval_step(variables, batch, mask, counts)
      batches.append(of_batch)
    counts, batches = jax.device_get((counts, batches))
    outcomes, probs = jax.tree.map(
      lambda *parts: np.concatenate(parts)[: data.num_examples], *batches
    )
    seen = int(counts.count.sum())
    if seen != data.num_examples:
      raise RuntimeError(
        f"counted {seen} of {data.num_examples} examples; {counts.outside} have"
        " a label that is no class"
      )
    return counts, outcomes, probs
