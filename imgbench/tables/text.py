"""Numbers and names as people read them. Rates become percent here only."""

import html
import re

from imgbench.tables import entries

UNDEFINED = "undefined"
_RATE = re.compile(r"accuracy|precision|recall|f1|error")
# Areas under curves and errors of probabilities, which are no shares.
_NO_RATE = re.compile(r"average_precision|roc_auc|ece|brier|kappa")
_WORDS = {
  "non": "not",
  "nll": "negative log-likelihood",
  "brier": "Brier score",
  "ece": "expected calibration error",
  "classwise": "class-wise",
  "top1": "top-1",
  "top5": "top-5",
  "multilabel": "multi-label",
  "real": "ReaL",
  "f1": "F1",
  "roc": "ROC",
  "auc": "AUC",
  "cohen": "Cohen's",
}
_COUNTS = ("non_finite",)  # metrics that are whole numbers
# What comes first in a table; the others follow as the file has them.
_FIRST = ("top1_accuracy", "top5_accuracy")
_CLASS_MEAN = "class_mean"
_DROP = "drop"
# Variants of an accuracy that say something about it.
_ABOUT = ("unreviewed", "bound_low", "bound_high", "base", _DROP)


def is_rate(metric: str) -> bool:
  """Whether a metric is a fraction in [0, 1] that is shown in percent."""
  return bool(_RATE.search(metric)) and not _NO_RATE.search(metric)


def is_accuracy(metric: str) -> bool:
  """Whether it is a share of hits, at k or against label sets.

  Balanced accuracy is none: a mean of recalls, it belongs with those.
  """
  base, _, variant = metric.partition(".")
  return (
    base.endswith("accuracy")
    and base != "balanced_accuracy"
    and variant.rpartition(".")[2] not in _ABOUT
  )


def is_of_label_set(metric: str) -> bool:
  """Whether it is an accuracy against several labels of an image."""
  return is_accuracy(metric) and metric.startswith(("multilabel_", "real_"))


def is_drop(metric: str) -> bool:
  """Whether it is a difference of accuracies, shown in percentage points."""
  return metric.rpartition(".")[2] == _DROP


def is_headline(metric: str) -> bool:
  """Whether it is an accuracy worth a chart or a glance.

  The mean over classes is none beside the accuracy that it is the mean of;
  where it is all there is, it has a name of its own.
  """
  return is_accuracy(metric) and metric.partition(".")[2] != _CLASS_MEAN


def metric_label(metric: str) -> str:
  """ "multilabel_accuracy.tfds" becomes "multi-label accuracy (tfds)"."""
  base, _, variant = metric.partition(".")
  label = _words(base)
  return f"{label} ({_words(variant)})" if variant else label


def _words(name: str) -> str:
  name = name.replace("imagenet_m", "ImageNet-M")
  return " ".join(_WORDS.get(word, word) for word in name.split("_"))


def metric_order(metric: str) -> tuple[int, int]:
  """Sort key: accuracies before others, top-1 before all."""
  rank = _FIRST.index(metric) if metric in _FIRST else len(_FIRST)
  kind = 0 if is_headline(metric) else 1 if is_accuracy(metric) else 2
  return (kind, rank)


def number(metric: str, value: float | None) -> str:
  """A value of a metric: percent without the sign for rates."""
  if value is None:
    return UNDEFINED
  if is_drop(metric):
    return f"{100 * value:z.1f}"
  if metric in _COUNTS:
    return f"{value:,.0f}"
  return f"{100 * value:.2f}" if is_rate(metric) else f"{value:.4f}"


def unit(metric: str) -> str:
  if is_drop(metric):
    return " points"
  return "%" if is_rate(metric) else ""


def value(row: entries.Row) -> str:
  """E.g. "93.12%", "11.7 points"; "undefined" where there is no value."""
  text = number(row.metric, row.value)
  return text if row.value is None else text + unit(row.metric)


def has_interval(row: entries.Row) -> bool:
  return row.ci_low is not None and row.ci_high is not None


def interval(row: entries.Row, separator: str = " – ") -> str:
  """E.g. "92.61 – 93.60"; empty where there is none."""
  if not has_interval(row):
    return ""
  return separator.join(
    number(row.metric, bound) for bound in (row.ci_low, row.ci_high)
  )


def drop(row: entries.Row) -> str:
  """E.g. "11.7 points [10.9, 12.5]"; brackets, as bounds may be negative."""
  bounds = interval(row, ", ")
  return f"{value(row)} [{bounds}]" if bounds else value(row)


def shifted(row: entries.Row) -> str:
  """The accuracy that `row.shift` compares with the base set's.

  That of the row where it has one. A mean over classes has none where the set
  lacks a class; the drop is over those that occur, and leaves it.
  """
  base, lost = row.shift.base.value, row.shift.drop.value
  if row.value is None and base is not None and lost is not None:
    return number(row.metric, base - lost) + unit(row.metric)
  return value(row)


def unreviewed(row: entries.Row) -> str:
  """E.g. "1.17% never reviewed: 96.86 to 98.03"; empty where all are.

  The bounds are those of the value: all such predictions wrong, or all right.
  """
  if row.unreviewed is None or not row.unreviewed.share:
    return ""
  share = number(row.metric, row.unreviewed.share) + unit(row.metric)
  low, high = (
    number(row.metric, bound)
    for bound in (row.unreviewed.low, row.unreviewed.high)
  )
  return f"{share} never reviewed: {low} to {high}"


def percent(fraction: float | None) -> str:
  """E.g. "93.1%"; "undefined" for None."""
  return UNDEFINED if fraction is None else f"{100 * fraction:.1f}%"


def duration(seconds: float) -> str:
  """E.g. "48 s", "1 min 54 s", "3 h 5 min"."""
  total = round(seconds)
  if total < 60:
    return f"{total} s"
  minutes, rest = divmod(total, 60)
  if minutes < 60:
    return f"{minutes} min {rest} s"
  return f"{minutes // 60} h {minutes % 60} min"


def short(name: str, limit: int = 28) -> str:
  """A name on one line of at most `limit` characters."""
  name = " ".join(name.split())
  return name if len(name) <= limit else name[: limit - 1].rstrip() + "…"


def escape(value) -> str:
  """HTML text, also for attributes; control characters become spaces."""
  clean = "".join(c if c.isprintable() else " " for c in str(value))
  return html.escape(clean, quote=True)
