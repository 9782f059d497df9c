"""Tests of the measurements of a pass."""

import json
import math

import jax
import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import confusion
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import intervals
from imgbench.metrics import outcomes as outcomes_lib
from imgbench.metrics import summary
from tests.metrics import confusion_test
from tests.metrics import twins

K = 8
SUBSETS = {"low": np.arange(K) < 3, "high": np.arange(K) >= 3}


@jax.jit
def evaluate(logits, labels, codes=None, problematic=None):
  outcomes = outcomes_lib.outcomes(logits, labels, codes)
  counts = counts_lib.from_outcomes(
    outcomes,
    labels,
    np.ones(len(labels), bool),
    num_classes=logits.shape[1],
    is_problematic=problematic,
  )
  return counts, outcomes


def summarize(logits, labels, codes=None, problematic=None, **options):
  counts, outcomes = jax.device_get(
    evaluate(logits, labels, codes, problematic)
  )
  options = {"subsets": {}, "is_problematic": problematic, **options}
  return summary.summarize(counts, outcomes, labels, **options)


def draw(size=400, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, K, size).astype(np.int32)
  logits = rng.normal(size=(size, K)).astype(np.float32)
  logits[np.arange(size), labels] += 1.5
  logits[rng.random(size) < 0.02, 0] = np.nan
  codes = rng.integers(0, 4, (size, K)).astype(np.int8)
  return logits, labels, codes, rng.random(size) < 0.1


def of_matrix(matrix):
  """Summary of one-hot logits that give a confusion matrix."""
  labels, predicted = confusion_test.examples(matrix)
  logits = np.eye(len(matrix), dtype=np.float32)[predicted]
  return summarize(logits, labels.astype(np.int32))


def test_names_of_all_metrics():
  result = summarize(*draw(), subsets=SUBSETS, multilabel=True)
  every = [
    "top1_accuracy",
    "top5_accuracy",
    "multilabel_accuracy.tfds",
    "multilabel_accuracy.lenient_mean",
    "nll",
    "non_finite",
  ]
  means = [
    f"{mean}_{rate}"
    for mean in ("macro", "weighted", "micro")
    for rate in ("precision", "recall", "f1")
  ]
  assert [m for s, m in result if s == "all"] == every + means
  assert [m for s, m in result if s == "low"] == every
  assert list(dict.fromkeys(s for s, _ in result)) == ["all", "low", "high"]


def test_ten_classes_by_hand():
  result = of_matrix(confusion_test.ten_classes())
  top1 = result["all", "top1_accuracy"]
  assert (top1.correct, top1.n, top1.value) == (488, 500, 0.976)
  low, high = intervals.clopper_pearson(488, 500)
  assert (top1.ci_low, top1.ci_high) == (low, high)
  assert top1.ci_method == "clopper_pearson"
  assert math.isclose(result["all", "macro_recall"].value, 0.976)
  assert result["all", "macro_recall"].ci_method == "stratified_bootstrap"


def test_three_classes_by_hand():
  result = of_matrix(confusion_test.CAT_DOG_RABBIT)
  assert result["all", "top1_accuracy"].value == 0.9
  # Five of three classes is no question to ask.
  assert ("all", "top5_accuracy") not in result
  assert result["all", "micro_f1"].value == 0.9
  assert result["all", "weighted_recall"].correct == 135


def test_every_number_against_plain_python():
  logits, labels, codes, problematic = draw()
  result = summarize(
    logits, labels, codes, problematic, subsets=SUBSETS, multilabel=True
  )
  for subset, mask in {"all": np.ones(K, bool), **SUBSETS}.items():
    rows = [i for i in range(len(labels)) if mask[labels[i]]]
    first = {i: twins.top(logits[i], 5) for i in rows}
    top1 = result[subset, "top1_accuracy"]
    assert top1.n == len(rows)
    assert top1.correct == sum(first[i][0] == labels[i] for i in rows)
    assert top1.value == top1.correct / top1.n
    top5 = result[subset, "top5_accuracy"]
    assert top5.correct == sum(labels[i] in first[i] for i in rows)
    finite = [i for i in rows if twins.is_finite(logits[i])]
    nll = result[subset, "nll"]
    assert nll.n == len(finite)
    expected = np.mean([twins.nll(logits[i], labels[i]) for i in finite])
    np.testing.assert_allclose(nll.value, expected, rtol=1e-6)
    assert nll.ci_low < nll.value < nll.ci_high
    broken = result[subset, "non_finite"]
    assert (broken.n, broken.value) == (len(rows), len(rows) - len(finite))
    good = [i for i in rows if not problematic[i]]
    hit = {
      i: first[i][0] >= 0 and codes[i, first[i][0]] in (2, 3) for i in good
    }
    plain = result[subset, "multilabel_accuracy.lenient_mean"]
    assert (plain.correct, plain.n) == (sum(hit.values()), len(good))
    by_class = [
      np.mean([hit[i] for i in good if labels[i] == c])
      for c in np.flatnonzero(mask)
    ]
    tfds = result[subset, "multilabel_accuracy.tfds"]
    np.testing.assert_allclose(tfds.value, np.mean(by_class), rtol=1e-14)
    assert tfds.n == len(good) and tfds.correct is None


def test_rates_equal_those_of_the_confusion_matrix():
  logits, labels, _, _ = draw()
  result = summarize(logits, labels)
  predicted = np.array([twins.top(row, 1)[0] for row in logits])
  matrix = confusion.confusion_matrix(labels, predicted, K)
  table = confusion.per_class(matrix, np.bincount(labels, minlength=K))
  for name, value in confusion.means(table).items():
    np.testing.assert_allclose(result["all", name].value, value, rtol=1e-14)


def test_every_accuracy_has_an_interval_that_holds_it():
  result = summarize(*draw(), subsets=SUBSETS, multilabel=True)
  wide = summarize(*draw(), subsets=SUBSETS, multilabel=True, alpha=0.001)
  for key, entry in result.items():
    if "accuracy" in key[1] or key[1] == "macro_recall":
      assert 0 <= entry.ci_low < entry.value < entry.ci_high <= 1
      assert wide[key].ci_low < entry.ci_low


def test_json_has_plain_finite_numbers():
  for entry in summarize(*draw(), multilabel=True).values():
    assert json.loads(json.dumps(entry.as_json(), allow_nan=False))
    assert type(entry.n) is int
    assert "\n" not in entry.definition


def test_protocol_is_said_in_every_definition():
  result = summarize(*draw(), subsets=SUBSETS, protocol="mean of two flips")
  assert all(
    e.definition.endswith("; mean of two flips") for e in result.values()
  )


def test_subset_without_examples_is_undefined():
  logits, _, _, _ = draw()
  labels = np.zeros(len(logits), np.int32)
  problematic = np.zeros(len(logits), bool)
  codes = np.full(logits.shape, 3, np.int8)
  result = summarize(
    logits, labels, codes, problematic, subsets=SUBSETS, multilabel=True
  )
  for metric in ("top1_accuracy", "nll", "multilabel_accuracy.lenient_mean"):
    entry = result["high", metric]
    assert (entry.n, entry.value, entry.ci_low) == (0, None, None)
    assert "undefined: " in entry.definition
  # Two of the three classes are empty, which TFDS's loop refuses too.
  tfds = result["low", "multilabel_accuracy.tfds"]
  assert tfds.value is None and tfds.n == len(logits)
  assert "undefined: 2 of 3 classes" in tfds.definition
  assert result["low", "multilabel_accuracy.lenient_mean"].value is not None
  recall = result["all", "macro_recall"]
  assert recall.value == result["all", "top1_accuracy"].value
  assert "left out of 8 classes: 7 without examples" in recall.definition


def test_subset_without_classes_is_undefined():
  result = summarize(
    *draw(), subsets={"none": np.zeros(K, bool)}, multilabel=True
  )
  for (subset, metric), entry in result.items():
    if subset == "none" and metric != "non_finite":
      assert (entry.n, entry.value) == (0, None)


def test_classes_never_predicted_are_named_in_the_definition():
  result = of_matrix(np.array([[5, 0], [5, 0]]))
  precision = result["all", "macro_precision"]
  assert precision.value == 0.5
  assert "left out of 2 classes: 1 never predicted" in precision.definition
  assert result["all", "macro_recall"].value == 0.5
  assert "left out" not in result["all", "macro_recall"].definition


def test_nothing_finite():
  logits = np.full((6, K), np.nan, np.float32)
  result = summarize(logits, np.arange(6, dtype=np.int32))
  assert result["all", "top1_accuracy"].value == 0.0
  assert result["all", "top1_accuracy"].correct == 0
  assert result["all", "non_finite"].value == 6
  assert result["all", "nll"].value is None
  assert result["all", "micro_precision"].value is None
  assert result["all", "micro_recall"].value == 0.0


def test_label_of_probability_zero_has_no_mean_nll():
  logits = np.zeros((4, K), np.float32)
  logits[1, 1] = -np.inf
  entry = summarize(logits, np.arange(4, dtype=np.int32))["all", "nll"]
  assert entry.value is None and entry.n == 4
  assert "undefined: a label has probability 0" in entry.definition


@pytest.mark.parametrize(
  "options, message",
  [
    ({"subsets": {"dog": np.ones(K + 1, bool)}}, r"subsets\['dog'\]: .*\[8\]"),
    ({"subsets": {"dog": np.ones(K)}}, r"subsets\['dog'\]: expected bool"),
    ({"subsets": {"all": np.ones(K, bool)}}, 'subsets: "all"'),
    ({"is_problematic": None, "multilabel": True}, "is_problematic: .*None"),
    ({"is_problematic": np.zeros(3, bool)}, "is_problematic: .*shape"),
    ({"is_problematic": np.zeros(400, bool)}, "is_problematic: .*flags"),
    ({"alpha": 1.5}, "alpha: "),
  ],
)
def test_bad_arguments_are_named(options, message):
  with pytest.raises(errors.InputError, match=message):
    summarize(*draw(), **options)


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda y: y[:-1], "outcomes.top5: "),
    (lambda y: y + 1, "labels: expected labels in"),
    (lambda y: y[:, None], "labels: expected shape"),
    (lambda y: np.zeros_like(y), "counts: "),
  ],
)
def test_labels_of_other_examples_are_refused(change, message):
  logits, labels, _, _ = draw()
  counts, outcomes = jax.device_get(evaluate(logits, labels))
  with pytest.raises(errors.InputError, match=message):
    summary.summarize(counts, outcomes, change(labels), subsets={})
