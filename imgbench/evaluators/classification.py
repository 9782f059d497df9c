"""Single-label and multi-label evaluation of a split that is on the device."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from imgbench import errors
from imgbench import parallel
from imgbench.data import device
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.metrics import summary

# Kept without being asked, float32 [N, K]: 32 MiB. CIFAR-100's test set has a
# million, ImageNet's validation set 50.
MOST_PROBABILITIES = 2**23


class ClassificationEvaluator:
  """Top-k, per-class means and subsets against the original label.

  Args:
    examples: the split, in host memory.
    info: of the split.
    compiled_pass: shared by all evaluators of a run.
    strategy: where the split goes.
    protocol: said in every definition, e.g. how predictions are averaged.
    alpha: intervals cover 1 - alpha.
    class_masks: more subsets of classes, name -> bool [K].
    probabilities: whether to keep the probabilities of all classes, which
      curves of single classes need; None: where they are small.
  """

  label_set: str | None = None

  def __init__(
    self,
    examples: source.Examples,
    info: source.Info,
    *,
    compiled_pass: base.CompiledPass,
    strategy: parallel.JitStrategy,
    protocol: str = "",
    alpha: float = 0.05,
    class_masks: Mapping[str, np.ndarray] | None = None,
    probabilities: bool | None = None,
  ):
    self.examples = examples
    self.info = info
    self._pass = compiled_pass
    self._protocol = protocol
    self._alpha = alpha
    self._subsets = {**info.subsets, **(class_masks or {})}
    if probabilities is None:
      probabilities = info.num_examples * info.num_classes <= MOST_PROBABILITIES
    self._keep_probs = probabilities
    self._data = strategy.replicate(device.from_examples(examples))

  def run(
    self,
    variables: Mapping[str, Any],
    should_stop: Callable[[], bool] = lambda: False,
  ) -> base.Evaluation:
    """See `base.Evaluator`."""
    counts, outcomes, probs = self._pass(
      variables, self._data, should_stop, self._keep_probs
    )
    measurements = summary.summarize(
      counts,
      outcomes,
      self.examples.label,
      subsets=self._subsets,
      label_set=self.label_set,
      left_out=self.examples.is_problematic,
      probs=probs,
      alpha=self._alpha,
      protocol=self._protocol,
    )
    return base.Evaluation(
      self.info, measurements, outcomes, counts, probs, self._alpha
    )


class MultilabelEvaluator(ClassificationEvaluator):
  """Adds multi-label accuracy; the split must have reviewed label sets."""

  label_set = summary.REVIEWED

  def __init__(self, examples: source.Examples, info: source.Info, **arguments):
    if not info.multilabel:
      raise errors.InputError(
        f"{info.key} has no reviewed label sets (correct_multi_labels, ...);"
        ' evaluate it with type "classification"'
      )
    super().__init__(examples, info, **arguments)
