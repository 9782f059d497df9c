"""Numbers and names as people read them. Rates become percent here only."""

import html
import re

from imgbench.report import inputs

UNDEFINED = "undefined"
_RATE = re.compile(r"accuracy|precision|recall|f1|error")
_WORDS = {
  "non": "not",
  "nll": "negative log-likelihood",
  "ece": "expected calibration error",
  "top1": "top-1",
  "top5": "top-5",
  "multilabel": "multi-label",
  "f1": "F1",
}
_COUNTS = ("non_finite",)  # metrics that are whole numbers
# What comes first in a table; the others follow as the file has them.
_FIRST = ("top1_accuracy", "top5_accuracy")


def is_rate(metric: str) -> bool:
  """Whether a metric is a fraction in [0, 1] that is shown in percent."""
  return bool(_RATE.search(metric)) and metric.partition(".")[0] != "ece"


def is_accuracy(metric: str) -> bool:
  return "accuracy" in metric


def metric_label(metric: str) -> str:
  """ "multilabel_accuracy.tfds" becomes "multi-label accuracy (tfds)"."""
  base, _, variant = metric.partition(".")
  label = " ".join(_WORDS.get(word, word) for word in base.split("_"))
  return f"{label} ({variant.replace('_', ' ')})" if variant else label


def metric_order(metric: str) -> tuple[int, int]:
  """Sort key: accuracies before others, top-1 before all."""
  rank = _FIRST.index(metric) if metric in _FIRST else len(_FIRST)
  return (0 if is_accuracy(metric) else 1, rank)


def number(metric: str, value: float | None) -> str:
  """A value of a metric: percent without the sign for rates."""
  if value is None:
    return UNDEFINED
  if metric in _COUNTS:
    return f"{value:,.0f}"
  return f"{100 * value:.2f}" if is_rate(metric) else f"{value:.4f}"


def unit(metric: str) -> str:
  return "%" if is_rate(metric) else ""


def value(row: inputs.Row) -> str:
  """E.g. "93.12%"; "undefined" where there is no value."""
  text = number(row.metric, row.value)
  return text if row.value is None else text + unit(row.metric)


def has_interval(row: inputs.Row) -> bool:
  return row.ci_low is not None and row.ci_high is not None


def interval(row: inputs.Row, separator: str = " – ") -> str:
  """E.g. "92.61 – 93.60"; empty where there is none."""
  if not has_interval(row):
    return ""
  return separator.join(
    number(row.metric, bound) for bound in (row.ci_low, row.ci_high)
  )


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
