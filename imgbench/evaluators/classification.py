"""Evaluation of a split against original labels and against label sets."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from imgbench import errors
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import splits
from imgbench.metrics import summary

# Kept without being asked, float32 [N, K]: 32 MiB. CIFAR-100's test set has a
# million, ImageNet's validation set 50.
MOST_PROBABILITIES = 2**23

RAW, EMA = "raw", "ema"


class ClassificationEvaluator:
  """Top-k, per-class means and subsets against the original label.

  Args:
    split: what is evaluated.
    compiled_pass: shared by all evaluators of a run.
    protocol: said in every definition, e.g. how predictions are averaged.
    alpha: intervals cover 1 - alpha.
    class_masks: more subsets of classes, name -> bool [K].
    probabilities: whether to keep the probabilities of all classes, which
      curves of single classes need; None: where they are small.
    restrict_classes: only classes that occur in the split may be predicted, as
      is usual for sets over some of ImageNet's classes (ImageNet-A, -R).
    parameters: RAW, or EMA for the moving average of the parameters, whose
      results go by `<name>+ema:<split>`.

  Raises:
    InputError: the split has not the label sets that are asked for.
  """

  label_set: str | None = None

  def __init__(
    self,
    split: splits.Split,
    *,
    compiled_pass: base.CompiledPass,
    protocol: str = "",
    alpha: float = 0.05,
    class_masks: Mapping[str, np.ndarray] | None = None,
    probabilities: bool | None = None,
    restrict_classes: bool = False,
    parameters: str = RAW,
  ):
    info = split.info
    self.check(info)
    self.examples = split.examples
    self.info = info
    self.parameters = parameters
    self.images = split.images
    if parameters == EMA:
      self.info = dataclasses.replace(info, name=f"{info.name}+ema")
    self._split = split
    self._pass = compiled_pass
    self._alpha = alpha
    self._subsets = {**info.subsets, **(class_masks or {})}
    if probabilities is None:
      probabilities = info.num_examples * info.num_classes <= MOST_PROBABILITIES
    self._keep_probs = probabilities
    self._allowed = None
    if restrict_classes:
      present = np.bincount(split.examples.label, minlength=info.num_classes)
      self._allowed = present > 0
      only = f"only the {self._allowed.sum()} classes of the set are predicted"
      protocol = f"{protocol}; {only}" if protocol else only
    self._protocol = protocol

  @classmethod
  def check(cls, info: source.Info) -> None:
    """Raises InputError if a split cannot be evaluated this way."""
    if cls.label_set and info.label_set != cls.label_set:
      fields = {
        summary.REVIEWED: "reviewed label sets (correct_multi_labels, ...)",
        summary.REAL: "ReaL label sets (real_label)",
      }
      raise errors.InputError(
        f"{info.key} has no {fields[cls.label_set]}; evaluate it with type"
        ' "classification"'
      )

  def run(
    self,
    variables: Mapping[str, Any],
    should_stop: Callable[[], bool] = lambda: False,
  ) -> base.Evaluation:
    """See `base.Evaluator`."""
    counts, outcomes, probs = self._pass(
      variables, self._split, should_stop, self._keep_probs, self._allowed
    )
    measurements = summary.summarize(
      counts,
      outcomes,
      self.examples.label,
      subsets=self._subsets,
      label_set=self.label_set,
      left_out=self.examples.left_out,
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


class RealEvaluator(ClassificationEvaluator):
  """Adds accuracy against ReaL's labels, which the split must have."""

  label_set = summary.REAL
