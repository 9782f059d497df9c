"""Counts and outcomes of a pass to named measurements; host, float64."""

from collections.abc import Mapping

import numpy as np

from imgbench import errors
from imgbench.metrics import checks
from imgbench.metrics import confusion
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import intervals
from imgbench.metrics import measurement
from imgbench.metrics import multilabel as multilabel_lib
from imgbench.metrics import outcomes as outcomes_lib

ALL = "all"

_RULES = "(ties go to the lowest class, scores not finite are wrong)"
_RATES = {
  "precision": "right predictions of a class over its predictions",
  "recall": "right predictions of a class over its examples",
  "f1": "twice the right predictions of a class over its predictions plus its"
  " examples",
}
_MEANS = {
  "macro": ", plain mean over classes",
  "weighted": ", mean over classes weighted by their numbers of examples",
  "micro": ", sums over all classes divided once",
}


def summarize(
  counts: counts_lib.Counts,
  outcomes: outcomes_lib.Outcomes,
  labels: np.ndarray,
  *,
  subsets: Mapping[str, np.ndarray],
  multilabel: bool = False,
  is_problematic: np.ndarray | None = None,
  alpha: float = 0.05,
  protocol: str = "",
) -> dict[tuple[str, str], measurement.Measurement]:
  """Returns (subset, metric) -> measurement; "all" first, then the subsets.

  Args:
    counts: of all N examples, NumPy arrays [K].
    outcomes: of the same, NumPy arrays [N].
    labels: integer [N] in [0, K).
    subsets: name -> bool [K], a mask over original classes.
    multilabel: whether to add the multi-label accuracies.
    is_problematic: bool [N]; needed for `multilabel`, and checked against the
      counts.
    alpha: intervals cover 1 - alpha.
    protocol: how predictions were made, if not by one plain forward pass;
      said in every definition.

  Raises:
    InputError: wrong shapes, labels outside, counts of other examples, a
      subset called "all".
  """
  labels = np.asarray(labels)
  num_classes = len(counts.count)
  _check(counts, outcomes, labels, subsets)
  _check_reviews(counts, labels, multilabel, is_problematic)
  measure = _Measure(alpha, f"; {protocol}" if protocol else "")
  everything = np.ones(num_classes, bool)
  result = {}
  for subset, mask in {ALL: everything, **subsets}.items():
    rows = _of_subset(measure, counts, outcomes, labels, mask, multilabel)
    if subset == ALL:
      matrix = confusion.confusion_matrix(
        labels, outcomes.top5[:, 0], num_classes
      )
      rows |= _per_class_means(
        measure, confusion.per_class(matrix, counts.count)
      )
    result |= {(subset, metric): value for metric, value in rows.items()}
  return result


class _Measure:
  """Makes measurements that share alpha and a text about the protocol."""

  def __init__(self, alpha: float, suffix: str):
    self._alpha = alpha
    self._suffix = suffix

  def value(
    self,
    n: int,
    value: float,
    definition: str,
    *,
    correct: int | None = None,
    interval: tuple[float, float, str] | None = None,
  ) -> measurement.Measurement:
    low, high, method = interval or (None, None, None)
    return measurement.Measurement(
      n=int(n),
      correct=None if correct is None else int(correct),
      value=float(value),
      ci_low=None if low is None else float(low),
      ci_high=None if high is None else float(high),
      ci_method=method,
      definition=definition + self._suffix,
    )

  def undefined(self, n: int, definition: str, why: str):
    text = f"{definition}; undefined: {why}{self._suffix}"
    return measurement.Measurement(int(n), None, None, None, None, None, text)

  def proportion(self, correct: int, n: int, definition: str):
    if n == 0:
      return self.undefined(0, definition, "no example")
    low, high = intervals.clopper_pearson(correct, n, self._alpha)
    return self.value(
      n,
      correct / n,
      definition,
      correct=correct,
      interval=(low, high, intervals.CLOPPER_PEARSON),
    )

  def class_mean(self, hits: np.ndarray, count: np.ndarray, definition: str):
    absent = int((count == 0).sum())
    n = int(count.sum())
    if absent or not len(count):
      why = f"{absent} of {len(count)} classes have no example"
      return self.undefined(n, definition, why)
    return self.value(
      n,
      np.mean(hits / count),
      definition,
      interval=intervals.class_mean(hits, count, self._alpha),
    )

  def mean(self, values: np.ndarray, definition: str, missing: str):
    if not len(values):
      return self.undefined(0, definition, "no such example")
    if not np.isfinite(values).all():
      return self.undefined(len(values), definition, missing)
    low, high = intervals.normal(values, self._alpha)
    interval = (low, high, intervals.NORMAL) if len(values) > 1 else None
    return self.value(
      len(values), np.mean(values), definition, interval=interval
    )


def _of_subset(measure, counts, outcomes, labels, mask, multilabel):
  total = lambda field: int(np.sum(field[mask], dtype=np.int64))
  n = total(counts.count)
  rows = {
    "top1_accuracy": measure.proportion(
      total(counts.top1_hits),
      n,
      f"share of examples whose label has the highest score {_RULES}",
    )
  }
  if len(counts.count) > outcomes_lib.TOP:
    rows["top5_accuracy"] = measure.proportion(
      total(counts.top5_hits),
      n,
      "share of examples whose label is among the five highest scores"
      f" {_RULES}",
    )
  for name, definition in multilabel_lib.DEFINITIONS.items():
    if not multilabel:
      break
    hits, count = definition.hits(counts), definition.count(counts)
    rows[f"multilabel_accuracy.{name}"] = (
      measure.class_mean(hits[mask], count[mask], definition.text)
      if definition.class_mean
      else measure.proportion(total(hits), total(count), definition.text)
    )
  nll = outcomes.nll[mask[labels] & outcomes.finite]
  rows["nll"] = measure.mean(
    nll.astype(np.float64),
    "mean negative natural logarithm of the label's probability over examples"
    " with finite scores",
    "a label has probability 0",
  )
  rows["non_finite"] = measure.value(
    n,
    total(counts.non_finite),
    "number of examples whose scores are not finite",
  )
  return rows


def _per_class_means(measure, table: confusion.PerClass):
  values = confusion.means(table)
  n, correct = table.n.sum(), table.correct.sum()
  # The other means are no share of independent examples: no interval.
  wholes = {
    "micro_precision": table.predicted.sum(),
    "micro_recall": n,
    "weighted_recall": n,
  }
  present = table.n > 0
  rows = {}
  for mean, mean_text in _MEANS.items():
    for rate, rate_text in _RATES.items():
      name = f"{mean}_{rate}"
      text = rate_text + mean_text
      if mean != "micro":
        text += _left_out(getattr(table, rate), table.n)
      if np.isnan(values[name]):
        rows[name] = measure.undefined(n, text, "no example or no prediction")
      elif name in wholes:
        rows[name] = measure.proportion(correct, wholes[name], text)
      elif name == "macro_recall":
        rows[name] = measure.class_mean(
          table.correct[present], table.n[present], text
        )
      else:
        rows[name] = measure.value(n, values[name], text)
  return rows


def _left_out(rates: np.ndarray, n: np.ndarray) -> str:
  absent = int((n == 0).sum())
  unpredicted = int(np.isnan(rates[n > 0]).sum())
  parts = []
  if absent:
    parts.append(f"{absent} without examples")
  if unpredicted:
    parts.append(f"{unpredicted} never predicted")
  if not parts:
    return ""
  return f", left out of {len(n)} classes: {' and '.join(parts)}"


def _check(counts, outcomes, labels, subsets) -> None:
  num_classes = len(counts.count)
  checks.shape("labels", labels, ("N",))
  checks.labels_in_range("labels", labels, num_classes)
  checks.shape("outcomes.top5", outcomes.top5, (len(labels), outcomes_lib.TOP))
  if not np.array_equal(
    counts.count, np.bincount(labels, minlength=num_classes)
  ):
    raise errors.InputError(
      f"counts: expected those of the {len(labels)} labels, got"
      f" {int(np.sum(counts.count))} examples or other classes"
    )
  for name, mask in subsets.items():
    if name == ALL:
      raise errors.InputError('subsets: "all" stands for every class already')
    checks.shape(f"subsets[{name!r}]", mask, (num_classes,))
    checks.kind(f"subsets[{name!r}]", mask, np.bool_, "bool")


def _check_reviews(counts, labels, multilabel, is_problematic) -> None:
  if is_problematic is not None:
    checks.shape("is_problematic", is_problematic, labels.shape)
    reviewed = np.bincount(
      labels[~np.asarray(is_problematic)], minlength=len(counts.count)
    )
    if not np.array_equal(counts.reviewed_count, reviewed):
      raise errors.InputError(
        "is_problematic: expected the flags that the counts were made with,"
        f" got {reviewed.sum()} good images, counted"
        f" {int(np.sum(counts.reviewed_count))}"
      )
  elif multilabel:
    raise errors.InputError(
      "is_problematic: expected bool [N] for multi-label accuracy, got None"
    )
