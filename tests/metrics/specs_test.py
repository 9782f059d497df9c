"""Tests of the registry of metrics."""

import pytest

from imgbench.metrics import multilabel
from imgbench.metrics import specs


@pytest.mark.parametrize(
  "metric, label",
  [
    ("top1_accuracy", "top-1 accuracy"),
    ("multilabel_accuracy.lenient_mean", "multi-label accuracy (lenient mean)"),
    ("nll", "negative log-likelihood"),
    ("weighted_f1", "weighted F1"),
    ("multilabel_accuracy.imagenet_m", "multi-label accuracy (ImageNet-M)"),
    ("real_top5_accuracy", "ReaL top-5 accuracy"),
    ("ece.equal_mass", "expected calibration error (equal mass)"),
    ("classwise_ece", "class-wise expected calibration error"),
    ("brier", "Brier score"),
    ("cohen_kappa", "Cohen's kappa"),
    ("macro_roc_auc", "macro ROC AUC"),
  ],
)
def test_labels(metric, label):
  assert specs.describe(metric).label == label


def test_accuracies_and_those_worth_a_chart():
  for metric in (
    "top1_accuracy",
    "multilabel_accuracy.lenient_mean",
    "real_accuracy",
    "real_top5_accuracy",
  ):
    found = specs.describe(metric)
    assert found.accuracy and found.headline
  for metric in ("top1_accuracy.class_mean", "real_accuracy.class_mean"):
    assert (
      specs.describe(metric).accuracy and not specs.describe(metric).headline
    )
  for metric in (
    "balanced_accuracy",
    "multilabel_accuracy.tfds.unreviewed",
    "multilabel_accuracy.tfds.bound_high",
    "macro_recall",
    "ece",
    "top1_accuracy.drop",
    "top1_accuracy.base",
    "top1_accuracy.class_mean.drop",
    "multilabel_accuracy.tfds.base",
  ):
    assert (
      not specs.describe(metric).accuracy
      and not specs.describe(metric).headline
    )


def test_accuracies_against_label_sets():
  assert specs.describe("multilabel_accuracy.tfds").label_set
  assert specs.describe("real_accuracy").label_set
  assert not specs.describe("multilabel_accuracy.tfds.drop").label_set
  assert not specs.describe("top1_accuracy").label_set


@pytest.mark.parametrize(
  "metric, unit, better",
  [
    ("top1_accuracy", specs.RATE, specs.HIGHER),
    ("top3_accuracy", specs.RATE, specs.HIGHER),
    ("top1_accuracy.class_mean.drop", specs.POINTS, specs.LOWER),
    ("ece.equal_mass", specs.NUMBER, specs.LOWER),
    ("nll", specs.NUMBER, specs.LOWER),
    ("macro_f1", specs.RATE, specs.HIGHER),
    ("macro_roc_auc", specs.NUMBER, specs.HIGHER),
    ("non_finite", specs.COUNT, specs.LOWER),
    # No percent are guessed from a name.
    ("x_error_y", specs.NUMBER, specs.HIGHER),
  ],
)
def test_units_and_directions(metric, unit, better):
  found = specs.describe(metric)
  assert (found.unit, found.better) == (unit, better)


def test_names_are_registered_once():
  with pytest.raises(ValueError):
    specs.METRICS.register("nll", specs.METRICS["nll"])


def test_accuracies_of_label_sets_are_those_that_are_computed():
  of_sets = {n: m for n, m in specs.METRICS.items() if m.label_set}
  reviewed = {f"multilabel_accuracy.{n}" for n in multilabel.DEFINITIONS}
  assert set(of_sets) == reviewed | set(multilabel.REAL_DEFINITIONS)
  texts = [metric.definition for metric in of_sets.values()]
  assert len(set(texts)) == len(texts)
  assert all("\n" not in text and "whose" in text for text in texts[:5])


def test_every_metric_has_a_label_and_a_definition():
  for name, metric in specs.METRICS.items():
    assert metric.label and metric.definition, name
    assert metric.better in (specs.HIGHER, specs.LOWER)
