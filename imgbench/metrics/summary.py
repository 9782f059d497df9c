"""Computes named measurements from counts and outcomes; host, float64."""

from collections.abc import Mapping

import jax
import numpy as np

from imgbench import errors
from imgbench.metrics import calibration
from imgbench.metrics import checks
from imgbench.metrics import confusion
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import curves
from imgbench.metrics import measurement
from imgbench.metrics import multilabel
from imgbench.metrics import outcomes as outcomes_lib
from imgbench.metrics import specs
from imgbench.metrics import temperature

ALL = "all"


# Kinds of label sets.
REVIEWED = "reviewed"  # imagenet2012_multilabel: correct, unclear, wrong
REAL = "real"  # ReaL: every label outside the set is wrong
CORRECTED = "corrected"  # label errors: the corrected label, or both
LABEL_SETS = (REVIEWED, REAL, CORRECTED)

Measurements = dict[str, measurement.Measurement]  # by metric


def summarize(
  counts: counts_lib.Counts,
  outcomes: outcomes_lib.Outcomes,
  labels: np.ndarray,
  *,
  subsets: Mapping[str, np.ndarray],
  label_set: str | None = None,
  left_out: np.ndarray | None = None,
  ranking_only: bool = False,
  with_imagenet_m: bool | None = None,
  probs: np.ndarray | None = None,
  example_values: Mapping[str, np.ndarray] | None = None,
  skipped: int | None = None,
  alpha: float = 0.05,
  protocol: str = "",
) -> dict[tuple[str, str], measurement.Measurement]:
  """Returns (subset, metric) -> measurement; "all" first, then the subsets.

  Args:
    counts: of all N examples, NumPy arrays.
    outcomes: of the same, NumPy arrays [N].
    labels: integer [N] in [0, K).
    subsets: name -> bool [K], a mask over original classes.
    label_set: one of LABEL_SETS, to add the accuracies against label sets.
    left_out: bool [N]; needed for `label_set`, and checked against the counts.
    ranking_only: whether outcomes are of rankings, without probabilities.
    with_imagenet_m: whether to add accuracies on ImageNet-M, undefined without
      an image of it; None: if there is one.
    probs: float [N, K], probabilities of all classes, to add metrics of them.
    example_values: [N] by metric, to add their means, see
      `specs.Metric.of_examples`.
    skipped: damaged examples that are not among the N, to add their number.
    alpha: intervals cover 1 - alpha.
    protocol: how predictions were made, if not by one plain forward pass;
      appended to every definition.

  Raises:
    InputError: wrong shapes, labels outside, counts of other examples, a
      subset called "all".
  """
  num_classes = counts.num_classes
  labels = checks.integers("labels", np.asarray(labels), ("N",))
  subsets = {
    name: checks.flags(f"subsets[{name!r}]", np.asarray(mask), (num_classes,))
    for name, mask in subsets.items()
  }
  if with_imagenet_m is None:
    with_imagenet_m = bool(counts.imagenet_m_count.any())
  _check(counts, outcomes, labels, subsets)
  _check_reviews(counts, labels, label_set, left_out)
  measure = measurement.Measurer(alpha, protocol)
  masks = {ALL: np.ones(num_classes, bool), **subsets}
  class_means = _class_mean_accuracies(measure, counts, masks)
  of_sets = set_accuracies(measure, counts, masks, label_set, with_imagenet_m)
  result: dict[tuple[str, str], measurement.Measurement] = {}
  for subset, mask in masks.items():
    rows = label_accuracies(measure, counts, mask)
    rows |= class_means[subset] | of_sets[subset]
    if not ranking_only:
      rows |= _probabilities(measure, outcomes, labels, mask)
      if subset == ALL:
        rows |= _temperature_scaling(measure, outcomes, labels, probs, alpha)
    for name, values in (example_values or {}).items():
      rows[name] = _mean_of_examples(measure, name, values[mask[labels]])
    rows["non_finite"] = measure.value(
      counts.count[mask].sum(),
      counts.non_finite[mask].sum(),
      specs.METRICS["non_finite"].definition,
    )
    if subset == ALL:
      if skipped is not None:
        rows["skipped"] = measure.value(
          len(labels) + skipped, skipped, specs.METRICS["skipped"].definition
        )
      table = confusion.count_by_class(labels, outcomes.top1, num_classes)
      rows |= _per_class_means(measure, table)
      if probs is not None:
        rows |= _class_rankings(measure, probs, labels, outcomes.finite)
    result |= {(subset, metric): value for metric, value in rows.items()}
  return result


def _total(column: jax.Array, mask: np.ndarray) -> int:
  return int(np.add.reduce(column[mask], dtype=np.int64))


def label_accuracies(
  measure: measurement.Measurer, counts: counts_lib.Counts, mask: np.ndarray
) -> Measurements:
  """Returns the top-k accuracies on the classes of a mask, bool [K]."""
  n = _total(counts.count, mask)
  rows = {}
  for k in counts.ks:
    # Top-K accuracy over K classes is always 1 if scores are finite.
    if k == 1 or k < counts.num_classes:
      hits = counts.top_hits(k)
      text = specs.top_k_accuracy(k).definition
      rows[f"top{k}_accuracy"] = measure.proportion(_total(hits, mask), n, text)
  return rows


def _class_mean_accuracies(measure, counts, masks):
  if 1 not in counts.ks:
    return {subset: {} for subset in masks}
  values = measure.class_means(
    counts.top_hits(1),
    counts.count,
    masks,
    specs.METRICS["top1_accuracy.class_mean"].definition,
  )
  return {s: {"top1_accuracy.class_mean": m} for s, m in values.items()}


def set_accuracies(
  measure: measurement.Measurer,
  counts: counts_lib.Counts,
  masks: Mapping[str, np.ndarray],
  label_set: str | None,
  with_imagenet_m: bool,
) -> dict[str, Measurements]:
  """Returns the accuracies against label sets, by subset of classes.

  Args:
    measure: makes the measurements.
    counts: of all examples, NumPy arrays.
    masks: subset -> bool [K]; one call for all subsets shares the bootstrap.
    label_set: see `summarize`.
    with_imagenet_m: see `summarize`; not None.
  """
  if label_set == REAL:
    wanted = multilabel.REAL_DEFINITIONS
    if outcomes_lib.TOP not in counts.set_ks:
      wanted = {m: d for m, d in wanted.items() if "top5" not in m}
  elif label_set == CORRECTED:
    wanted = multilabel.CORRECTED_DEFINITIONS
  elif label_set == REVIEWED:
    wanted = {
      f"multilabel_accuracy.{name}": definition
      for name, definition in multilabel.DEFINITIONS.items()
      if name != "imagenet_m" or with_imagenet_m
    }
  else:
    wanted = {}
  rows: dict[str, Measurements] = {subset: {} for subset in masks}
  for metric, definition in wanted.items():
    made = _set_accuracy(measure, counts, masks, metric, definition)
    for name, by_subset in made.items():
      for subset, value in by_subset.items():
        rows[subset][name] = value
  return rows


def _set_accuracy(measure, counts, masks, metric, definition):
  """Returns metric -> subset -> measurement of one accuracy and its bounds."""
  count = definition.count(counts)
  totals = {subset: _total(count, mask) for subset, mask in masks.items()}
  text = specs.METRICS[metric].definition

  def aggregate(hits, text):
    if definition.class_mean:
      return measure.class_means(hits, count, masks, text)
    return {
      subset: measure.proportion(_total(hits, mask), totals[subset], text)
      for subset, mask in masks.items()
    }

  hits = definition.hits(counts)
  rows = {metric: aggregate(hits, text)}
  if definition.unreviewed is None:
    return rows
  unreviewed = definition.unreviewed(counts)
  low = "all top-1 predictions that nobody has reviewed counted as wrong"
  high = low.replace("wrong", "right")
  images = text.rpartition("whose ")[0]
  share = f"{images}whose top-1 prediction nobody has reviewed"
  rows[f"{metric}.unreviewed"] = aggregate(unreviewed, share)
  rows[f"{metric}.bound_low"] = {
    subset: measure.redefined(value, f"{text}; {low}")
    for subset, value in rows[metric].items()
  }
  rows[f"{metric}.bound_high"] = aggregate(hits + unreviewed, f"{text}; {high}")
  return rows


def _probabilities(measure, outcomes, labels, mask):
  """Returns means over examples with finite scores, and calibration errors."""
  here = mask[labels] & outcomes.finite
  nll = outcomes.nll[here].astype(np.float64)
  rows = {
    "nll": measure.mean(
      nll,
      specs.METRICS["nll"].definition,
      "a label has probability 0",
    ),
    "brier": measure.mean(
      outcomes.brier[here].astype(np.float64),
      specs.METRICS["brier"].definition,
      "a score is not finite",
    ),
  }
  hit = outcomes.top1[here] == labels[here]
  confidence = outcomes.top5_prob[here, 0]
  for metric, binning in specs.BINNINGS.items():
    text = specs.METRICS[metric].definition
    bins = calibration.reliability(confidence, hit, binning=binning)
    rows[metric] = measure.calibration_error(bins, text)
  return rows


def _temperature_scaling(measure, outcomes, labels, probs, alpha):
  """Returns the temperature, and scores before and after on the other half."""
  nll, finite = np.asarray(outcomes.nll), np.asarray(outcomes.finite)
  found, n = None, int(finite.sum())
  if probs is None:
    why = "the probabilities of all classes are not kept (`probabilities=True`)"
  elif not np.isfinite(nll[finite]).all():
    why = "a label has probability 0"
  else:
    why = "a half is empty, or no T from 0.1 to 10 has the highest likelihood"
    hit = np.asarray(outcomes.top1) == labels
    found = temperature.scale(probs, nll, hit, finite, alpha)
  rows = {}
  for name in specs.SCALING:
    text, after = specs.METRICS[name].definition, name.endswith(".scaled")
    if found is None:
      rows[name] = measure.undefined(n, text, why)
    elif name.startswith("nll"):
      rows[name] = measure.mean(found.nll[after], text, "it is not finite")
    elif name.startswith("ece"):
      rows[name] = measure.calibration_error(found.bins[after], text)
    else:
      rows[name] = measure.value(
        n - len(found.nll[0]), found.value, text, interval=found.interval
      )
  return rows


def _mean_of_examples(
  measure: measurement.Measurer, name: str, values: np.ndarray
) -> measurement.Measurement:
  """Returns the mean of a metric's values; a proportion if they are bool."""
  text = specs.METRICS[name].definition
  if values.dtype == bool:
    return measure.proportion(int(values.sum()), len(values), text)
  missing = "the value of an example is not finite"
  return measure.mean(values.astype(np.float64), text, missing)


def _class_rankings(measure, probs, labels, finite):
  """Returns class means of ranking and calibration metrics."""
  n = int(finite.sum())
  if not n:
    return {}
  ranking = curves.ranking_by_class(probs, labels, finite)
  calibrated = calibration.classwise_ece(probs, labels, mask=finite)
  by_class = {
    "macro_average_precision": ranking.average_precision,
    "macro_roc_auc": ranking.roc_auc,
    "classwise_ece": calibrated.per_class,
  }
  rows = {}
  for name, values in by_class.items():
    defined = values[~np.isnan(values)]
    text = (
      f"mean over {len(defined)} of {len(values)} classes of the"
      f" {specs.METRICS[name].definition} of the class's probability, class"
      " against rest, over examples with finite scores"
    )
    rows[name] = (
      measure.value(n, defined.mean(), text)
      if defined.size
      else measure.undefined(n, text, "no class has examples and others")
    )
  return rows


def _per_class_means(measure, table: confusion.PerClass):
  values = confusion.means(table)
  n, correct = table.n.sum(), table.correct.sum()
  # Other means are not shares of independent examples, so have no interval.
  wholes = {
    "micro_precision": table.predicted.sum(),
    "micro_recall": n,
    "weighted_recall": n,
  }
  present = table.n > 0
  rows = {}
  for mean in specs.MEANS:
    for rate in specs.RATES:
      name = f"{mean}_{rate}"
      text = specs.METRICS[name].definition
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
  rows["balanced_accuracy"] = rows["macro_recall"]
  kappa = confusion.cohen_kappa(table)
  text = specs.METRICS["cohen_kappa"].definition
  rows["cohen_kappa"] = (
    measure.undefined(n, text, "agreement by chance is certain")
    if np.isnan(kappa)
    else measure.value(n, kappa, text)
  )
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
  num_classes = counts.num_classes
  checks.labels_in_range("labels", labels, num_classes)
  checks.shape("outcomes.top1", outcomes.top1, labels.shape)
  if int(counts.outside):
    expected = f"labels in [0, {num_classes})"
    raise errors.InputError("counts.outside", expected, counts.outside)
  count = np.bincount(labels, minlength=num_classes)
  _check_total("counts.count", counts.count, count)
  if 1 in counts.ks:
    table = confusion.count_by_class(labels, outcomes.top1, num_classes)
    _check_total("outcomes.top1", table.correct, counts.top_hits(1))
  finite = np.sum(counts.count) - np.sum(counts.non_finite)
  _check_total("outcomes.finite", np.sum(outcomes.finite), finite)
  if ALL in subsets:
    raise errors.InputError("subsets", f"names other than {ALL!r}", repr(ALL))


def _check_total(name: str, given, counted) -> None:
  """Raises InputError unless numbers, by class or in all, are those counted."""
  if not np.array_equal(given, counted):
    expected = f"those of the same examples, {np.sum(counted)} in all"
    raise errors.InputError(name, expected, np.sum(given))


def _check_reviews(counts, labels, label_set, left_out) -> None:
  if label_set not in (None, *LABEL_SETS):
    expected = f"one of {LABEL_SETS} or None"
    raise errors.InputError("label_set", expected, repr(label_set))
  if left_out is not None:
    left_out = checks.flags("left_out", np.asarray(left_out), labels.shape)
    reviewed = np.bincount(labels[~left_out], minlength=counts.num_classes)
    _check_total("left_out", reviewed, counts.reviewed_count)
  elif label_set:
    raise errors.InputError("left_out", f"bool [N] for {label_set!r}", "None")
