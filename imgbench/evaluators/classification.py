"""Single-label and multi-label evaluation of a split that is on the device."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from imgbench import errors
from imgbench import parallel
from imgbench.data import device
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.metrics import summary


class ClassificationEvaluator:
  """Top-k, per-class means and subsets against the original label.

  Args:
    examples: the split, in host memory.
    info: of the split.
    compiled_pass: shared by all evaluators of a run.
    strategy: where the split goes.
    protocol: said in every definition, e.g. how predictions are averaged.
    alpha: intervals cover 1 - alpha.
  """

  multilabel = False

  def __init__(
    self,
    examples: source.Examples,
    info: source.Info,
    *,
    compiled_pass: base.CompiledPass,
    strategy: parallel.JitStrategy,
    protocol: str = "",
    alpha: float = 0.05,
  ):
    self.examples = examples
    self.info = info
    self._pass = compiled_pass
    self._protocol = protocol
    self._alpha = alpha
    self._data = strategy.replicate(device.from_examples(examples))

  def run(
    self,
    variables: Mapping[str, Any],
    should_stop: Callable[[], bool] = lambda: False,
  ) -> base.Evaluation:
    """See `base.Evaluator`."""
    counts, outcomes = self._pass(variables, self._data, should_stop)
    measurements = summary.summarize(
      counts,
      outcomes,
      self.examples.label,
      subsets=self.info.subsets,
      multilabel=self.multilabel,
      is_problematic=self.examples.is_problematic,
      alpha=self._alpha,
      protocol=self._protocol,
    )
    return base.Evaluation(self.info, measurements, outcomes, counts)


class MultilabelEvaluator(ClassificationEvaluator):
  """Adds multi-label accuracy; the split must have reviewed label sets."""

  multilabel = True

  def __init__(self, examples: source.Examples, info: source.Info, **arguments):
    if not info.multilabel:
      raise errors.InputError(
        f"{info.key} has no reviewed label sets (correct_multi_labels, ...);"
        ' evaluate it with type "classification"'
      )
    super().__init__(examples, info, **arguments)
