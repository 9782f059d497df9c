"""Tests of the measurements of a pass."""

import json
import math

import jax
import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import real
from imgbench.metrics import confusion
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import intervals
from imgbench.metrics import multilabel
from imgbench.metrics import outcomes as outcomes_lib
from imgbench.metrics import specs
from imgbench.metrics import summary
from tests import raising
from tests.metrics import confusion_test
from tests.metrics import twins

K = 8
SUBSETS = {"low": np.arange(K) < 3, "high": np.arange(K) >= 3}


@jax.jit
def evaluate(logits, labels, codes=None, problematic=None):
  outcomes = outcomes_lib.outcomes(logits, labels, codes)
  counts = counts_lib.update(
    counts_lib.empty(logits.shape[1], ks=(1, 3, 5), set_ks=(1, 5)),
    outcomes,
    labels,
    np.ones(len(labels), bool),
    left_out=problematic,
    in_imagenet_m=None if problematic is None else labels == 2,
  )
  return counts, outcomes


def summarize(logits, labels, codes=None, problematic=None, **options):
  counts, outcomes = jax.device_get(
    evaluate(logits, labels, codes, problematic)
  )
  options = {"subsets": {}, "left_out": problematic, **options}
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
  logits, *rest = draw()
  probs = np.asarray(outcomes_lib.probabilities(logits))
  result = summarize(
    logits, *rest, subsets=SUBSETS, label_set="reviewed", probs=probs
  )
  every = [
    "top1_accuracy",
    "top3_accuracy",
    "top5_accuracy",
    "top1_accuracy.class_mean",
  ]
  for name in multilabel.DEFINITIONS:
    metric = f"multilabel_accuracy.{name}"
    every += [metric, f"{metric}.unreviewed"]
    every += [f"{metric}.bound_low", f"{metric}.bound_high"]
  every += ["nll", "brier", "ece", "ece.equal_mass", "non_finite"]
  means = [
    f"{mean}_{rate}"
    for mean in ("macro", "weighted", "micro")
    for rate in ("precision", "recall", "f1")
  ]
  means = [*specs.SCALING, "non_finite", *means]
  means += ["balanced_accuracy", "cohen_kappa"]
  means += ["macro_average_precision", "macro_roc_auc", "classwise_ece"]
  assert [m for s, m in result if s == "all"] == every[:-1] + means
  assert [m for s, m in result if s == "low"] == every
  assert list(dict.fromkeys(s for s, _ in result)) == ["all", "low", "high"]


def test_real_accuracies_by_hand():
  # Sets {0}, {1, 2}, {} and {3}; predictions 0, 2, 1 and 7, then 3.
  sets = [np.array(s, int) for s in ([0], [1, 2], [], [3])]
  codes, left_out = real.label_codes(sets, K)
  logits = np.zeros((4, K), np.float32)
  logits[np.arange(4), [0, 2, 1, 7]] = 2.0
  logits[3, 3] = 1.0
  labels = np.array([0, 1, 1, 3], np.int32)
  result = summarize(logits, labels, codes, left_out, label_set="real")
  plain = result["all", "real_accuracy"]
  assert (plain.correct, plain.n) == (2, 3)
  top5 = result["all", "real_top5_accuracy"]
  assert (top5.correct, top5.n) == (3, 3)
  by_class = result["all", "real_accuracy.class_mean"]
  assert by_class.value is None and "5 of 8" in by_class.definition
  assert not any("multilabel" in metric for _, metric in result)
  half = {"half": np.arange(K) < 2}
  result = summarize(
    logits, labels, codes, left_out, label_set="real", subsets=half
  )
  assert result["half", "real_accuracy.class_mean"].value == 1.0
  assert result["half", "real_accuracy.class_mean"].correct is None


def test_bounds_move_every_unreviewed_prediction():
  result = summarize(*draw(), subsets=SUBSETS, label_set="reviewed")
  for name, definition in multilabel.DEFINITIONS.items():
    for subset in ("all", "high"):

      def of(suffix, s=subset, n=name):
        return result[s, f"multilabel_accuracy.{n}{suffix}"]

      assert of(".bound_low").value == of("").value
      if of("").value is None:
        continue
      share = of(".unreviewed").value
      assert 0.1 < share < 0.5
      assert math.isclose(of(".bound_high").value, of("").value + share)
      if not definition.class_mean:
        assert of(".bound_high").correct == (
          of("").correct + of(".unreviewed").correct
        )


def test_rankings_have_no_numbers_of_probabilities():
  logits, labels, codes, left_out = draw()
  ranking = np.array([twins.top(row, 5) for row in logits])
  outcomes = outcomes_lib.from_ranking(ranking, labels, K, codes)
  counts = counts_lib.update(
    counts_lib.empty(K, ks=(1, 3, 5), set_ks=(1, 5)),
    outcomes,
    labels,
    np.ones(len(labels), bool),
    left_out=left_out,
    in_imagenet_m=labels == 2,
  )
  got = summary.summarize(
    *jax.device_get((counts, outcomes)),
    labels,
    subsets=SUBSETS,
    label_set="reviewed",
    left_out=left_out,
    ranking_only=True,
  )
  expected = summarize(
    logits, labels, codes, left_out, subsets=SUBSETS, label_set="reviewed"
  )
  without = ("nll", "brier", "ece", "ece.equal_mass", *specs.SCALING)
  assert got == {k: v for k, v in expected.items() if k[1] not in without}


def test_outcomes_in_another_order_are_refused():
  logits, labels, _, _ = draw()
  counts, outcomes = jax.device_get(evaluate(logits, labels))
  other = np.random.default_rng(0).permutation(labels)
  with pytest.raises(
    errors.InputError, check=raising.about("outcomes.top1", given=40)
  ):
    summary.summarize(counts, outcomes, other, subsets={})


def test_imagenet_m_without_images_is_undefined_where_it_is_asked_for():
  logits, labels, codes, left_out = draw()
  labels = np.where(labels == 2, 3, labels).astype(np.int32)
  rows = [labels, codes, left_out]
  asked = summarize(logits, *rows, label_set="reviewed", with_imagenet_m=True)
  entry = asked["all", "multilabel_accuracy.imagenet_m"]
  assert entry.value is None and "undefined" in entry.definition
  unasked = summarize(logits, *rows, label_set="reviewed")
  assert ("all", "multilabel_accuracy.imagenet_m") not in unasked


def test_one_row_that_is_not_finite_among_many():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(1000, 100)).astype(np.float32)
  logits[7, 31] = np.nan
  result = summarize(logits, np.arange(1000, dtype=np.int32) % 100)
  assert result["all", "non_finite"].value == 1
  assert result["all", "nll"].n == 999


def test_probabilities_by_hand():
  # Right with 0.5 twice, wrong with 0.75 once.
  logits = np.log(np.full((3, K), 0.5 / 7)).astype(np.float32)
  logits[[0, 1], [0, 1]] = np.log(0.5)
  logits[2] = np.log(0.25 / 7)
  logits[2, 2] = np.log(0.75)
  labels = np.array([0, 1, 3], np.int32)
  result = summarize(logits, labels)
  np.testing.assert_allclose(
    result["all", "ece"].value, (2 * 0.5 + 0.75) / 3, rtol=1e-6
  )
  right = 0.25 + 7 * (0.5 / 7) ** 2
  wrong = 0.75**2 + (1 - 0.25 / 7) ** 2 + 6 * (0.25 / 7) ** 2
  np.testing.assert_allclose(
    result["all", "brier"].value, (2 * right + wrong) / 3, rtol=1e-6
  )


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
    logits, labels, codes, problematic, subsets=SUBSETS, label_set="reviewed"
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
  table = confusion.from_matrix(matrix, np.bincount(labels, minlength=K))
  for name, value in confusion.means(table).items():
    np.testing.assert_allclose(result["all", name].value, value, rtol=1e-14)
  kappa = result["all", "cohen_kappa"].value
  assert kappa == confusion.cohen_kappa(table)
  balanced = result["all", "balanced_accuracy"].value
  assert balanced == result["all", "macro_recall"].value


def test_every_accuracy_has_an_interval_that_holds_it():
  result = summarize(*draw(), subsets=SUBSETS, label_set="reviewed")
  wide = summarize(*draw(), subsets=SUBSETS, label_set="reviewed", alpha=0.001)
  for key, entry in result.items():
    if "accuracy" in key[1] and entry.value is not None:
      assert 0 <= entry.ci_low < entry.value < entry.ci_high <= 1
      assert wide[key].ci_low < entry.ci_low


def test_json_has_plain_finite_numbers():
  for entry in summarize(*draw(), label_set="reviewed").values():
    assert json.loads(json.dumps(entry.as_json(), allow_nan=False))
    assert type(entry.n) is int
    assert "\n" not in entry.definition


def test_protocol_is_said_in_every_definition():
  result = summarize(*draw(), subsets=SUBSETS, protocol="two flips")
  assert all(e.definition.endswith("; two flips") for e in result.values())


def test_subset_without_examples_is_undefined():
  logits, _, _, _ = draw()
  labels = np.zeros(len(logits), np.int32)
  problematic = np.zeros(len(logits), bool)
  codes = np.full(logits.shape, 3, np.int8)
  result = summarize(
    logits, labels, codes, problematic, subsets=SUBSETS, label_set="reviewed"
  )
  for metric in ("top1_accuracy", "nll", "multilabel_accuracy.lenient_mean"):
    entry = result["high", metric]
    assert (entry.n, entry.value, entry.ci_low) == (0, None, None)
    assert "undefined: " in entry.definition
  # Two of the three classes are empty, which TFDS's loop refuses too.
  tfds = result["low", "multilabel_accuracy.tfds"]
  assert tfds.value is None and tfds.n == len(logits)
  assert "undefined: 2 of 3" in tfds.definition
  assert result["low", "multilabel_accuracy.lenient_mean"].value is not None
  recall = result["all", "macro_recall"]
  assert recall.value == result["all", "top1_accuracy"].value
  assert "8 classes: 7 without" in recall.definition


def test_subset_without_classes_is_undefined():
  result = summarize(
    *draw(), subsets={"none": np.zeros(K, bool)}, label_set="reviewed"
  )
  for (subset, metric), entry in result.items():
    if subset == "none" and metric != "non_finite":
      assert (entry.n, entry.value) == (0, None)


def test_classes_never_predicted_are_named_in_the_definition():
  result = of_matrix(np.array([[5, 0], [5, 0]]))
  precision = result["all", "macro_precision"]
  assert precision.value == 0.5
  assert "2 classes: 1 never" in precision.definition
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
  assert (
    "undefined: " in entry.definition and "probability 0" in entry.definition
  )


@pytest.mark.parametrize(
  "options, setting, given",
  [
    ({"subsets": {"dog": np.ones(K + 1, bool)}}, "subsets['dog']", [9]),
    ({"subsets": {"dog": np.full(K, 0.5)}}, "subsets['dog']", "float64"),
    ({"subsets": {"all": np.ones(K, bool)}}, "subsets", "'all'"),
    ({"left_out": None, "label_set": "real"}, "left_out", "None"),
    ({"left_out": np.zeros(3, bool)}, "left_out", [3]),
    ({"left_out": np.zeros(400, bool)}, "left_out", 400),
    ({"label_set": "imagenet"}, "label_set", "'imagenet'"),
    ({"alpha": 1.5}, "alpha", 1.5),
  ],
)
def test_bad_arguments_are_named(options, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    summarize(*draw(), **options)


@pytest.mark.parametrize(
  "change, setting, given",
  [
    (lambda y: y[:-1], "outcomes.top1", [400]),
    (lambda y: y + 1, "labels[11]", 8),
    (lambda y: y[:, None], "labels", [400, 1]),
    (lambda y: np.zeros_like(y), "counts.count", 400),
  ],
)
def test_labels_of_other_examples_are_refused(change, setting, given):
  logits, labels, _, _ = draw()
  counts, outcomes = jax.device_get(evaluate(logits, labels))
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    summary.summarize(counts, outcomes, change(labels), subsets={})


def test_temperature_scaling_or_the_reason_without_it():
  logits, labels, *_ = draw()
  probs = np.asarray(outcomes_lib.probabilities(4 * logits))
  result = summarize(4 * logits, labels, probs=probs)
  n = result["all", "nll"].n
  fitted, *judged = (result["all", name] for name in specs.SCALING)
  assert fitted.ci_low < fitted.value < fitted.ci_high
  assert {entry.n for entry in judged} == {n - fitted.n}
  before, after = (result["all", f"nll.{name}"] for name in specs.SCALED)
  assert after.value < before.value and after.ci_method == "normal"
  assert result["all", "ece.scaled"].ci_method == "bootstrap_of_bins"
  never = np.array([[0, -np.inf], [-np.inf, 0]] * 4, np.float32)
  zeros = np.zeros(8, np.int32)
  for given, reason in (
    (summarize(logits, labels), "probabilities"),
    (summarize(never, zeros, probs=np.exp(never)), "probability 0"),
  ):
    for name in specs.SCALING:
      assert given["all", name].value is None
      assert reason in given["all", name].definition
