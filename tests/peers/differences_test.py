"""Documents where other libraries differ: ties, NaN, empty classes.

Each test runs a library at the version of requirements/peers.txt, and imgbench
on the same input. A failure with a later version means that the library has
changed, not that imgbench is wrong.
"""

import logging
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench.metrics import calibration
from imgbench.metrics import confusion
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import curves
from imgbench.metrics import outcomes as outcomes_lib

pytestmark = [
  pytest.mark.peers,
  # The libraries' own warnings.
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

INF, NAN = math.inf, math.nan

outcomes_of = jax.jit(outcomes_lib.outcomes)


@pytest.fixture(name="torch")
def torch_module():
  return pytest.importorskip("torch")


@pytest.fixture(name="sk")
def scikit_learn():
  return pytest.importorskip("sklearn.metrics")


@pytest.fixture(name="tm")
def torchmetrics():
  return pytest.importorskip("torchmetrics.functional.classification")


@pytest.fixture(name="te")
def torcheval():
  return pytest.importorskip("torcheval.metrics.functional")


def ours(logits, labels, k):
  """Top-k accuracy of imgbench."""
  rank = outcomes_of(np.float32(logits), np.array(labels)).label_rank
  return float(np.mean(np.asarray(rank) < min(k, np.shape(logits)[1])))


@jax.jit
def count_in(counts, logits, labels):
  """The counts of imgbench with a batch added."""
  outcomes = outcomes_lib.outcomes(logits, labels)
  return counts_lib.update(
    counts, outcomes, labels, jnp.ones(len(labels), bool)
  )


def tensors(torch, *arrays):
  return [torch.from_numpy(np.asarray(array)) for array in arrays]


# Four examples of six classes, all scores equal.
TIED = np.zeros((4, 6), np.float32)
TIED_LABELS = np.arange(4)


def test_ties_imgbench_takes_the_lowest_class():
  got = [ours(TIED, TIED_LABELS, k) for k in range(1, 7)]
  assert got == [0.25, 0.5, 0.75, 1, 1, 1]


def test_ties_torch_topk_takes_any_and_argmax_the_lowest(torch):
  """So topk(...)[:, 0] is another top-1 prediction than argmax."""
  (logits,) = tensors(torch, TIED)
  assert logits.argmax(dim=1).tolist() == [0, 0, 0, 0]
  for num_classes in (6, 20, 100, 1000):
    order = torch.topk(torch.zeros(1, num_classes), 5).indices[0].tolist()
    assert order != [0, 1, 2, 3, 4]


def test_ties_torchmetrics_falls_between_the_two(torch, tm):
  """top_k=1 is by argmax, above it by topk: not 0.5 and 0.75 here."""
  logits, labels = tensors(torch, TIED, TIED_LABELS)
  got = [
    float(tm.multiclass_accuracy(logits, labels, 6, average="micro", top_k=k))
    for k in (1, 2, 3, 6)
  ]
  assert got[0] == 0.25 and got[3] == 1
  assert (got[1], got[2]) != (0.5, 0.75)


def test_ties_torcheval_takes_the_label(torch, te):
  """Above k=1 only scores above the label's count: constant scores hit all."""
  logits, labels = tensors(torch, TIED, TIED_LABELS)
  got = [float(te.multiclass_accuracy(logits, labels, k=k)) for k in (1, 2)]
  assert got == [0.25, 1]


@pytest.mark.filterwarnings("ignore:.*perfect score")
def test_ties_scikit_learn_takes_the_highest_class(sk):
  got = [
    sk.top_k_accuracy_score(TIED_LABELS, TIED, k=k, labels=range(6))
    for k in (1, 2, 3, 6)
  ]
  assert got == [0, 0, 0.25, 1]


def test_nan_imgbench_is_wrong_at_every_k():
  logits = np.full((4, 6), NAN)
  assert [ours(logits, TIED_LABELS, k) for k in (1, 2, 5, 6)] == [0] * 4
  counts = count_in(counts_lib.empty(6), np.float32(logits), TIED_LABELS)
  assert int(counts.non_finite.sum()) == 4


def test_nan_torcheval_gives_a_broken_model_100_percent(torch, te):
  """Nothing is greater than NaN."""
  logits, labels = tensors(torch, np.full((4, 6), NAN), TIED_LABELS)
  got = [float(te.multiclass_accuracy(logits, labels, k=k)) for k in (1, 2, 5)]
  assert got == [0.25, 1, 1]


def test_nan_torch_and_numpy_predict_it(torch, tm):
  """One NaN in a row is the highest score: here it hits."""
  row = np.array([[3, 2, NAN, 1]], np.float32)
  assert row.argmax() == 2
  logits, label = tensors(torch, row, [2])
  assert (
    logits.argmax(dim=1).item() == torch.topk(logits, 1).indices.item() == 2
  )
  for k in (1, 2):
    got = tm.multiclass_accuracy(logits, label, 4, average="micro", top_k=k)
    assert float(got) == 1
    assert ours(row, [2], k) == 0


def test_inf_peers_predict_it(torch, tm, te):
  row = np.array([[3, 2, INF, 1]], np.float32)
  logits, label = tensors(torch, row, [2])
  assert float(tm.multiclass_accuracy(logits, label, 4, average="micro")) == 1
  assert float(te.multiclass_accuracy(logits, label, k=2)) == 1
  assert ours(row, [2], 1) == ours(row, [2], 2) == 0


def test_minus_inf_peers_let_a_masked_class_hit(torch, tm, te):
  """Classes masked out with -inf fill the first k; imgbench never hits one."""
  row = np.array([[1, -INF, -INF]], np.float32)
  logits, label = tensors(torch, row, [2])
  hits = [tm.multiclass_accuracy(logits, label, 3, average="micro", top_k=3)]
  hits += [te.multiclass_accuracy(logits, label, k=2)]
  assert [float(hit) for hit in hits] == [1, 1]
  assert ours(row, [2], 2) == ours(row, [2], 3) == 0


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_not_finite_scikit_learn_refuses(sk, bad):
  logits = np.eye(4)
  logits[0, 1] = bad
  with pytest.raises(ValueError, match="NaN" if bad != bad else "infinity"):
    sk.top_k_accuracy_score(range(4), logits, k=2, labels=range(4))
  assert ours(logits, range(4), 2) == (1 if bad == -INF else 0.75)


def test_nan_one_row_makes_the_mean_loss_of_torch_nan(torch):
  logits = np.array([[2, 1], [NAN, 1], [0, 1]], np.float32)
  labels = np.array([0, 0, 1])
  loss = torch.nn.functional.cross_entropy(*tensors(torch, logits, labels))
  assert math.isnan(loss)
  outcomes = jax.device_get(outcomes_of(logits, labels))
  # The rows that are finite keep their value, and the number of others is said.
  assert outcomes.finite.tolist() == [True, False, True]
  expected = math.log1p(math.exp(-1))
  np.testing.assert_allclose(outcomes.nll[[0, 2]], expected, rtol=1e-6)


def test_a_label_of_probability_0_is_clipped_by_scikit_learn(sk):
  probs, labels = np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([0, 1])
  eps = np.finfo(np.float64).eps
  assert sk.log_loss(labels, probs) == pytest.approx(-math.log(eps) / 2)
  assert calibration.nll(probs, labels) == INF


def test_top_k_torchmetrics_issue_2417_is_mended(torch, tm):
  """Macro accuracy fell as k grew; at 1.9.0 it does not, as in imgbench."""
  logits = np.array([[0.9, 0.1, 0.0]] * 3, np.float32)
  labels = np.array([0, 0, 2])
  given = tensors(torch, logits, labels)
  macro = lambda k: tm.multiclass_accuracy(*given, 3, average="macro", top_k=k)
  got = [float(macro(k)) for k in (1, 2, 3)]
  # Up to 1.3.1 the second was 1/3: the class without examples came in.
  assert got == [0.5, 0.5, 1]
  assert [class_mean(logits, labels, k) for k in (1, 2, 3)] == got


def test_top_k_macro_of_torchmetrics_changes_its_classes(torch, tm):
  """A class that is predicted but has no example counts at k=1 alone.

  With the same hits at k = 1 and 2 its macro accuracy is 1/3 and 1/2.
  """
  logits = np.array([[3, 2, 1], [1, 0, 3]], np.float32)
  labels = np.array([0, 1])
  given = tensors(torch, logits, labels)
  macro = lambda k: tm.multiclass_accuracy(*given, 3, average="macro", top_k=k)
  assert [float(macro(k)) for k in (1, 2)] == [pytest.approx(1 / 3), 0.5]
  assert class_mean(logits, labels, 1) == class_mean(logits, labels, 2) == 0.5


def class_mean(logits, labels, k):
  """Mean of top-k accuracy over the classes that have examples."""
  state = counts_lib.empty(logits.shape[1], ks=(k,))
  counts = count_in(state, logits, labels)
  count, hits = np.asarray(counts.count), np.asarray(counts.top_hits(k))
  return float(np.mean(hits[count > 0] / count[count > 0]))


# Class 1 is never predicted, class 2 has no example, class 3 has neither.
LABELS, PREDICTED = np.array([0, 1]), np.array([0, 2])


def test_undefined_imgbench_says_so():
  table = confusion.count_by_class(LABELS, PREDICTED, 4)
  np.testing.assert_array_equal(table.precision, [1, NAN, NAN, NAN])
  np.testing.assert_array_equal(table.recall, [1, 0, NAN, NAN])
  means = confusion.means(table)
  assert (means["macro_precision"], means["macro_recall"]) == (1, 0.5)


def test_undefined_scikit_learn_counts_0(sk):
  options = dict(average="macro", labels=range(4))
  with pytest.warns(UserWarning, match="ill-defined"):
    assert sk.precision_score(LABELS, PREDICTED, **options) == 0.25
  with pytest.warns(UserWarning, match="ill-defined"):
    assert sk.recall_score(LABELS, PREDICTED, **options) == 0.25


def test_undefined_torchmetrics_counts_0_silently(torch, tm):
  """Its means are over classes with an example or a prediction."""
  given = tensors(torch, PREDICTED, LABELS)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    precision = tm.multiclass_precision(*given, 4, average=None)
    recall = tm.multiclass_recall(*given, 4, average=None)
    means = [
      tm.multiclass_precision(*given, 4),
      tm.multiclass_recall(*given, 4),
    ]
  assert precision.tolist() == recall.tolist() == [1, 0, 0, 0]
  assert [float(mean) for mean in means] == pytest.approx([1 / 3, 1 / 3])


def test_undefined_torcheval_counts_0_and_logs(torch, te, caplog):
  given = tensors(torch, PREDICTED, LABELS)
  with caplog.at_level(logging.WARNING):
    recall = te.multiclass_recall(*given, num_classes=4, average=None)
  assert recall.tolist() == [1, 0, 0, 0]
  assert "converted to zero" in caplog.text


def test_undefined_areas_of_a_class_without_examples(torch, sk, tm, te):
  scores, positive = np.array([0.1, 0.5, 0.7, 0.9]), np.zeros(4, bool)
  assert math.isnan(curves.average_precision(scores, positive))
  assert math.isnan(curves.roc_auc(scores, positive))
  assert np.isnan(curves.roc_curve(scores, positive).recall).all()
  given = tensors(torch, scores, positive.astype(np.int64))
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    assert sk.average_precision_score(positive, scores) == 0
    assert math.isnan(sk.roc_auc_score(positive, scores))
    # Recall 1 of nothing.
    recall = sk.precision_recall_curve(positive, scores)[1]
    assert recall.tolist() == [1, 1, 1, 1, 0]
    assert float(tm.binary_average_precision(*given)) == 0
    assert float(tm.binary_auroc(*given)) == 0
    assert float(te.binary_auprc(*given)) == 0
    assert float(te.binary_auroc(*given)) == 0.5


def test_accuracy_of_torchmetrics_is_a_mean_over_classes_by_default(torch, tm):
  labels, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
  given = tensors(torch, predicted, labels)
  assert float(tm.multiclass_accuracy(*given, 2)) == 0.5
  assert float(tm.multiclass_accuracy(*given, 2, average="micro")) == 0.75


def test_bins_of_torchmetrics_are_closed_on_the_left(torch, tm):
  """[0.5, 1) holds both of a hit at 0.5 and a miss at 0.6."""
  probs = np.array([[0.5, 0.5], [0.4, 0.6]])
  hit = np.array([True, False])
  theirs = tm.multiclass_calibration_error(
    *tensors(torch, probs, [0, 0]), 2, n_bins=2, norm="l1"
  )
  assert float(theirs) == pytest.approx(0.05)
  bins = calibration.reliability(probs.max(axis=1), hit, 2)
  assert bins.count.tolist() == [1, 1]
  assert calibration.ece(bins) == pytest.approx((0.5 + 0.6) / 2)


def test_certainty_is_a_bin_of_its_own_in_torchmetrics(torch, tm):
  """A hit at 0.95 and a miss at 1 are in one of imgbench's ten bins."""
  probs = np.array([[0.95, 0.05], [0.0, 1.0]])
  theirs = tm.multiclass_calibration_error(
    *tensors(torch, probs, [0, 0]), 2, n_bins=10, norm="l1"
  )
  assert float(theirs) == pytest.approx((0.05 + 1) / 2)
  bins = calibration.reliability(probs.max(axis=1), np.array([True, False]), 10)
  assert calibration.ece(bins) == pytest.approx(0.975 - 0.5)


def test_brier_score_of_two_classes_is_halved_by_scikit_learn(sk):
  labels, of_one = np.array([0, 1, 1]), np.array([0.2, 0.7, 0.4])
  probs = np.stack([1 - of_one, of_one], axis=1)
  half = sk.brier_score_loss(labels, of_one)
  assert calibration.brier(probs, labels) == pytest.approx(2 * half)
  whole = sk.brier_score_loss(labels, probs, scale_by_half=False)
  assert calibration.brier(probs, labels) == pytest.approx(whole)


def test_torcheval_stops_counting_at_16_million_hits(torch):
  """Its top-k hits are summed in float32; imgbench counts in int32."""
  metrics = pytest.importorskip("torcheval.metrics")
  metric = metrics.MulticlassAccuracy(k=2)
  full = torch.tensor(2.0**24)
  metric.load_state_dict({"num_correct": full, "num_total": full})
  for _ in range(10):
    metric.update(torch.tensor([[0.9, 0.1, 0.0]]), torch.tensor([0]))
  assert float(metric.num_correct) == 2**24
  # Set to that many hits of class 0, the counts of imgbench go on.
  counts = counts_lib.empty(3, ks=(2,))
  counts = counts.replace(table=counts.table.at[0].set(2**24))
  logits, labels = np.array([[0.9, 0.1, 0]], np.float32), np.array([0])
  for _ in range(10):
    counts = count_in(counts, logits, labels)
  assert int(counts.top_hits(2)[0]) == 2**24 + 10
