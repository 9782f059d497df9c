"""Evaluation of a split against original labels and against label sets."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from imgbench import errors
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import splits
from imgbench.metrics import summary

# Elements of float32 [N, K] that are kept by default: 32 MiB. CIFAR-100's test
# set has 1 million, ImageNet's validation set 50.
MOST_PROBABILITIES = 2**23

RAW, EMA = "raw", "ema"


def find_occurring(split: splits.Split) -> np.ndarray:
  """Returns bool [K], the classes that a split has examples of."""
  labels, num_classes = split.examples.label, split.info.num_classes
  return np.bincount(labels, minlength=num_classes)[:num_classes] > 0


def rename(info: source.Info, parameters: str) -> source.Info:
  """Returns the facts about a split under the name that its results have."""
  if parameters != EMA:
    return info
  return dataclasses.replace(info, name=f"{info.name}+ema")


class ClassificationEvaluator:
  """Measures top-k accuracy, per-class means and subsets on original labels.

  Args:
    split: to evaluate.
    compiled_pass: shared by all evaluators of a run.
    protocol: part of every definition, e.g. how predictions are averaged.
    alpha: intervals cover 1 - alpha.
    class_masks: more subsets of classes, name -> bool [K].
    probabilities: whether to keep the probabilities of all classes, which
      curves of single classes need; None: if they are small. Rankings have
      none.
    restrict_classes: predict only classes that occur in the split, as is usual
      for sets with some of ImageNet's classes (ImageNet-A, -R).
    compared_masks: bool [K] each; predictions restricted to these classes are
      counted too, for sets that are compared with this one.
    parameters: RAW, or EMA: their moving average, whose results are named
      `<name>+ema:<split>`.

  Raises:
    InputError: the split lacks the label sets of this type.
  """

  label_set: str | None = None
  # Builds the pass that evaluators of this class share in a run.
  pass_class = base.CompiledPass
  # Whether it evaluates images instead of logits.
  reconstructs = False

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
    compared_masks: Sequence[np.ndarray] = (),
    parameters: str = RAW,
  ):
    info = split.info
    self.check(info)
    if info.label_set == summary.CORRECTED:
      self.label_set = info.label_set
    self.examples = split.examples
    self.info = rename(info, parameters)
    self.parameters = parameters
    self.images = split.images
    self.split = split
    self.compiled_pass = compiled_pass
    self._alpha = alpha
    self._subsets = {**info.subsets, **(class_masks or {})}
    if probabilities is None:
      probabilities = info.num_examples * info.num_classes <= MOST_PROBABILITIES
    self._keep_probs = probabilities and not compiled_pass.ranked
    self._compared_masks = tuple(compared_masks)
    self._allowed = None
    clauses = [protocol] if protocol else []
    if info.synthetic:
      clauses.append(base.SYNTHETIC)
    if restrict_classes:
      self._allowed = find_occurring(split)
      clauses.append(base.describe_restriction(self._allowed))
    self._protocol = "; ".join(clauses)

  @classmethod
  def check(cls, info: source.Info) -> None:
    """Raises InputError if a split lacks the label sets of this type."""
    if cls.label_set and info.label_set != cls.label_set:
      fields = {
        summary.REVIEWED: "reviewed label sets (correct_multi_labels, ...)",
        summary.REAL: "ReaL label sets (real_label)",
      }
      expected = f"a split with {fields[cls.label_set]}"
      fix = 'use type "classification"'
      raise errors.InputError("type", expected, info.key, fix)

  def build_request(self, variables: Mapping[str, Any]) -> base.Request:
    """See `base.Evaluator`."""
    return base.Request(
      variables, self._keep_probs, self._allowed, self._compared_masks
    )

  def summarize(self, result: base.Result) -> base.Evaluation:
    """See `base.Evaluator`."""
    examples = self.examples
    if result.rows is not None:
      examples = examples.take(result.rows)
    skipped = self.info.num_examples - len(examples)
    measurements = summary.summarize(
      result.counts,
      result.outcomes,
      examples.label,
      subsets=self._subsets,
      label_set=self.label_set,
      left_out=examples.left_out,
      ranking_only=bool(self.compiled_pass.ranked),
      probs=result.probs,
      example_values=result.example_values,
      skipped=skipped if self.split.skips_bad else None,
      alpha=self._alpha,
      protocol=self._protocol,
    )
    return base.Evaluation(
      self.info,
      measurements,
      result.outcomes,
      result.counts,
      result.probs,
      self._alpha,
      allowed=self._allowed,
      restricted=result.restricted,
      rows=result.rows,
      subsets=self._subsets,
    )


class MultilabelEvaluator(ClassificationEvaluator):
  """Measures multi-label accuracy too, on reviewed label sets."""

  label_set = summary.REVIEWED


class RealEvaluator(ClassificationEvaluator):
  """Measures accuracy on ReaL's labels too."""

  label_set = summary.REAL
