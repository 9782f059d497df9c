"""Tests that other libraries agree with imgbench where definitions do.

They compare `values` on random predictions without ties, and results other than
single numbers: curves, bins, wanted recalls, classes left out.
"""

from importlib import metadata
import warnings

import numpy as np
import pytest

from imgbench.metrics import calibration
from imgbench.metrics import confusion
from imgbench.metrics import curves
from tests.peers import problems
from tests.peers import values

pytestmark = [
  pytest.mark.peers,
  # The libraries' own warnings.
  pytest.mark.filterwarnings("ignore:.*torch:DeprecationWarning"),
  pytest.mark.filterwarnings("ignore:.*torch.scatter:UserWarning"),
]

# Float64 on both sides, in another order.
CLOSE = dict(rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", values.LIBRARIES)
def test_library_agrees(name, seed):
  library = values.LIBRARIES[name]
  pytest.importorskip(library.module)
  problem = problems.random(seed)
  ours = values.imgbench(problem)
  assert not values.disagreements(library(problem), ours, library.tolerance)


@pytest.mark.parametrize("name", values.LIBRARIES)
def test_record_is_up_to_date(name):
  library = values.LIBRARIES[name]
  pytest.importorskip(library.module)
  version, record = values.read_record(name)
  now = library(problems.integers())
  assert set(now) == set(record)
  # Other builds may sum in another order.
  tolerance = max(library.tolerance, 1e-12)
  assert not values.disagreements(now, record, tolerance), (
    f"recorded with {version}, now {metadata.version(library.package)}; if"
    " the library is right, record again: python -m tests.peers.values"
  )


def binary():
  """Scores with ties among 11 values, and which examples are positive."""
  i = np.arange(200)
  return (i * 7 % 11) / 11, (i * i + i // 7) % 4 == 0


def test_precision_recall_curve_of_scikit_learn():
  metrics = pytest.importorskip("sklearn.metrics")
  scores, positive = binary()
  curve = curves.precision_recall_curve(scores, positive)
  precision, recall, thresholds = metrics.precision_recall_curve(
    positive, scores
  )
  # It has the lowest threshold first, and a last point without a threshold.
  np.testing.assert_array_equal(thresholds[::-1], curve.thresholds)
  np.testing.assert_allclose(precision[-2::-1], curve.precision, **CLOSE)
  np.testing.assert_allclose(recall[-2::-1], curve.recall, **CLOSE)
  assert (precision[-1], recall[-1]) == (1, 0)


def test_roc_curve_of_scikit_learn():
  metrics = pytest.importorskip("sklearn.metrics")
  scores, positive = binary()
  curve = curves.roc_curve(scores, positive)
  false_rate, true_rate, thresholds = metrics.roc_curve(
    positive, scores, drop_intermediate=False
  )
  np.testing.assert_array_equal(thresholds, curve.thresholds)
  np.testing.assert_allclose(false_rate, curve.false_positive_rate, **CLOSE)
  np.testing.assert_allclose(true_rate, curve.recall, **CLOSE)


def test_precision_recall_curve_of_torchmetrics():
  torch = pytest.importorskip("torch")
  torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
  scores, positive = binary()
  curve = curves.precision_recall_curve(scores, positive)
  precision, recall, thresholds = torchmetrics.binary_precision_recall_curve(
    torch.from_numpy(scores), torch.from_numpy(positive).long()
  )
  np.testing.assert_array_equal(thresholds.numpy()[::-1], curve.thresholds)
  for ours, theirs in ((curve.precision, precision), (curve.recall, recall)):
    np.testing.assert_allclose(theirs.numpy()[-2::-1], ours, rtol=1e-6)


@pytest.mark.parametrize("wanted", [0.26, 0.3, 0.5, 0.9])
def test_recall_at_a_wanted_precision_of_torchmetrics(wanted):
  torch = pytest.importorskip("torch")
  torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
  scores, positive = binary()
  recall, _ = torchmetrics.binary_recall_at_fixed_precision(
    torch.from_numpy(scores), torch.from_numpy(positive).long(), wanted
  )
  point = curves.threshold_for_precision(scores, positive, wanted)
  # Where no threshold reaches the precision it says 0.0, imgbench None.
  assert float(recall) == pytest.approx(point.recall if point else 0, rel=1e-6)
  assert (point is None) == (wanted >= 0.5)


@pytest.mark.parametrize(
  "strategy, binning",
  [
    ("uniform", calibration.EQUAL_WIDTH),
    ("quantile", calibration.EQUAL_MASS),
  ],
)
def test_bins_of_scikit_learn(strategy, binning):
  peer = pytest.importorskip("sklearn.calibration")
  problem = problems.random(0, size=450)
  confidence = problem.probs.max(axis=1)
  hit = problem.predicted == problem.labels
  accuracy, mean_confidence = peer.calibration_curve(
    hit, confidence, n_bins=15, strategy=strategy
  )
  bins = calibration.reliability(confidence, hit, 15, binning)
  # It leaves empty bins out.
  there = bins.count > 0
  np.testing.assert_allclose(accuracy, bins.accuracy[there], **CLOSE)
  np.testing.assert_allclose(mean_confidence, bins.confidence[there], **CLOSE)
  if binning == calibration.EQUAL_MASS:
    assert bins.count.tolist() == [30] * 15


def test_scikit_learn_can_leave_undefined_rates_out():
  """zero_division=nan, which is not its default, is imgbench's rule."""
  metrics = pytest.importorskip("sklearn.metrics")
  # Class 2 is never predicted.
  labels, predicted = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 1])
  table = confusion.count_by_class(labels, predicted, 3)
  means = confusion.means(table)
  for name in values.RATES:
    function = getattr(metrics, f"{name}_score")
    options = dict(zero_division=np.nan)
    theirs = function(labels, predicted, average=None, **options)
    np.testing.assert_allclose(theirs, getattr(table, name), **CLOSE)
    for mean in values.MEANS:
      theirs = function(labels, predicted, average=mean, **options)
      assert theirs == pytest.approx(means[f"{mean}_{name}"], rel=1e-12)


def test_classes_without_examples_are_in_no_mean_of_recalls():
  """So is it for imgbench, scikit-learn and torcheval's accuracy."""
  metrics = pytest.importorskip("sklearn.metrics")
  torch = pytest.importorskip("torch")
  torcheval = pytest.importorskip("torcheval.metrics.functional")
  # Class 2 is predicted but has no example, class 3 has neither.
  labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
  table = confusion.count_by_class(labels, predicted, 4)
  assert confusion.means(table)["macro_recall"] == 0.75
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    assert metrics.balanced_accuracy_score(labels, predicted) == 0.75
  tensors = torch.from_numpy(predicted), torch.from_numpy(labels)

  def accuracy(average):
    return torcheval.multiclass_accuracy(
      *tensors, num_classes=4, average=average
    )

  assert float(accuracy("macro")) == 0.75
  np.testing.assert_array_equal(accuracy(None).numpy(), table.recall)


def test_examples_without_a_prediction_are_another_answer_for_kappa():
  metrics = pytest.importorskip("sklearn.metrics")
  labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
  predicted = np.array([0, 0, -1, 1, -1, 2, 0, 2])
  table = confusion.count_by_class(labels, predicted, 3)
  theirs = metrics.cohen_kappa_score(labels, predicted)
  assert theirs == pytest.approx(confusion.cohen_kappa(table), rel=1e-12)
