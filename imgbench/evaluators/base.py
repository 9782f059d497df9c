"""What every evaluator shares: the protocol, the compiled step, the pass."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
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
  """

  info: source.Info
  measurements: Mapping[MetricKey, measurement.Measurement]
  outcomes: outcomes_lib.Outcomes
  counts: counts_lib.Counts


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
  """

  def __init__(
    self,
    predict_fn: PredictFn,
    strategy: parallel.JitStrategy,
    batch_size: int,
    num_classes: int,
  ):
    if batch_size < 1:
      raise errors.InputError(
        f"evaluation.batch_size: expected at least 1, got {batch_size}"
      )
    self._batch_size = strategy.round_up(batch_size)
    self._num_classes = num_classes
    self._strategy = strategy

    def gather(data, start):
      return device.eval_batch(data, start, self._batch_size)

    def eval_step(variables, batch, mask, counts):
      logits = predict_fn(variables, batch.image)
      outcomes = outcomes_lib.outcomes(logits, batch.label, batch.label_codes)
      new = counts_lib.from_outcomes(
        outcomes,
        batch.label,
        mask,
        num_classes=num_classes,
        is_problematic=batch.is_problematic,
      )
      return counts_lib.merge(counts, new), outcomes

    self._gather = strategy.jit(gather, out=strategy.batch)
    self._eval_step = strategy.jit(
      eval_step, out=(strategy.replicated, strategy.batch), donate=(3,)
    )

  def __call__(
    self,
    variables: Mapping[str, Any],
    data: device.DeviceExamples,
    should_stop: Callable[[], bool],
  ) -> tuple[counts_lib.Counts, outcomes_lib.Outcomes]:
    """Returns counts [K] and outcomes [N] as NumPy arrays."""
    counts = self._strategy.replicate(counts_lib.empty(self._num_classes))
    batches = []
    for start in range(0, data.num_examples, self._batch_size):
      if should_stop():
        raise EvaluationStopped
      batch, mask = self._gather(data, jnp.int32(start))
      counts, outcomes = self._eval_step(variables, batch, mask, counts)
      batches.append(outcomes)
    counts, batches = jax.device_get((counts, batches))
    outcomes = jax.tree.map(
      lambda *parts: np.concatenate(parts)[: data.num_examples], *batches
    )
    seen = int(counts.count.sum())
    if seen != data.num_examples:
      raise RuntimeError(f"counted {seen} of {data.num_examples} examples")
    return counts, outcomes
