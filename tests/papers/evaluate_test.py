"""Tests of predictions to rows: by hand, in threads, of few classes."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import real
from imgbench.metrics import intervals
from imgbench.metrics import summary
from imgbench.papers import evaluate
from imgbench.papers import records
from tests import raising

LABELS = np.array([0, 0, 1, 2], np.int32)
# The label is at place 0, 1, 0 and nowhere.
RANKING = np.array([[0, 1, 2], [3, 0, 1], [1, 0, 3], [3, 1, 0]], np.int16)
SUBSETS = {"even": np.array([True, False, True, False])}


def dataset(name="x"):
  return records.Dataset(
    name=name,
    image_ids=np.array(["a", "b", "c", "d"]),
    labels=LABELS,
    class_names=tuple("klmn"),
    subsets=SUBSETS,
    path=f"{name}.json",
  )


def predictions(ranking=RANKING, model="a", dataset="x"):
  return records.RankedPredictions(model, dataset, ranking, f"{model}.npy")


def real_labels(*sets):
  codes, left_out = real.label_codes([np.array(s, int) for s in sets], 4)
  return records.LabelSets(summary.REAL, codes, left_out, None, "real.json")


def numbers(measurements):
  return {key[2:]: (m.correct, m.n) for key, m in measurements.items()}


def test_rows_by_hand():
  evaluator = evaluate.RankingEvaluator(dataset(), ks=(1, 3))
  result = evaluator(predictions())
  assert numbers(result.measurements) == {
    ("all", "top1_accuracy"): (2, 4),
    ("all", "top3_accuracy"): (3, 4),
    ("even", "top1_accuracy"): (1, 3),
    ("even", "top3_accuracy"): (2, 3),
  }
  key, first = next(iter(result.measurements.items()))
  assert key[:2] == ("a", "x")
  bounds = (first.ci_low, first.ci_high)
  np.testing.assert_allclose(bounds, intervals.clopper_pearson(2, 4))
  assert result.outcomes.label_rank.tolist()[:3] == [0, 1, 0]
  assert evaluator(predictions()).measurements == result.measurements


def test_real_labels_by_hand():
  sets = real_labels([1], [3, 0], [], [2])
  evaluator = evaluate.RankingEvaluator(dataset(), sets, ks=(1,))
  assert numbers(evaluator(predictions()).measurements) == {
    ("all", "top1_accuracy"): (2, 4),
    ("all", "real_accuracy"): (1, 3),
    ("all", "real_accuracy.class_mean"): (None, 3),
    ("even", "top1_accuracy"): (1, 3),
    ("even", "real_accuracy"): (1, 3),
    ("even", "real_accuracy.class_mean"): (None, 3),
  }
  values = {
    subset: m.value
    for (_, _, subset, metric), m in evaluator(
      predictions()
    ).measurements.items()
    if metric == "real_accuracy.class_mean"
  }
  # Class 1 has no image left; of classes 0 and 2 are 1 of 2 and 0 of 1 right.
  assert values == {"all": None, "even": 0.25}


def test_predictions_of_few_classes_leave_values_undefined():
  narrow = predictions(RANKING[:, :1])
  sets = real_labels([1], [3, 0], [1], [2])
  found = evaluate.RankingEvaluator(dataset(), sets)(narrow).measurements
  for (_, _, subset, metric), m in found.items():
    wanted = metric in ("top5_accuracy", "real_top5_accuracy")
    assert ("fewer than 5" in m.definition) == wanted
    assert wanted == (m.value is None) or subset == "all"


def test_all_results_whatever_the_threads():
  datasets = {name: dataset(name) for name in "xy"}
  given = {
    name: [
      predictions(np.roll(RANKING, shift, axis=1), str(shift), name)
      for shift in range(3)
    ]
    for name in datasets
  }
  sets = {"y": real_labels([1], [3], [1], [2])}
  found = evaluate.evaluate_all(datasets, given, sets)
  wanted = [
    evaluate.RankingEvaluator(datasets[name], sets.get(name))(p).measurements
    for name, of_set in given.items()
    for p in of_set
  ]
  assert found == wanted
  keys = [key for part in found for key in part]
  assert {key[1] for key in keys if "real" in key[3]} == {"y"}


def test_what_does_not_fit_is_refused():
  evaluator = evaluate.RankingEvaluator(dataset())
  for given, shown in (
    (predictions(dataset="y"), "4 predictions of y"),
    (predictions(RANKING[:3]), "3 predictions of x"),
  ):
    check = raising.about("a.npy", given=shown)
    with pytest.raises(errors.InputError, check=check):
      evaluator(given)
  for given in (predictions(RANKING + 1), predictions(RANKING * 0)):
    with pytest.raises(errors.InputError, match=r"^a\.npy: "):
      evaluator(given)
  check = raising.about("real.json", expected="label sets [4, 4] for x")
  with pytest.raises(errors.InputError, check=check):
    evaluate.RankingEvaluator(dataset(), real_labels([1]))
