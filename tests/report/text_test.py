"""Numbers and names as people read them."""

import pytest

from imgbench.report import text


@pytest.mark.parametrize(
  "seconds, words",
  [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (11100, "3 h 5 min")],
)
def test_duration(seconds, words):
  assert text.duration(seconds) == words


@pytest.mark.parametrize(
  "metric, label",
  [
    ("top1_accuracy", "top-1 accuracy"),
    ("multilabel_accuracy.lenient_mean", "multi-label accuracy (lenient mean)"),
    ("nll", "negative log-likelihood"),
    ("weighted_f1", "weighted F1"),
  ],
)
def test_metric_label(metric, label):
  assert text.metric_label(metric) == label


def test_only_rates_become_percent():
  assert text.number("top1_accuracy", 0.12346) == "12.35"
  assert text.number("nll", 0.12346) == "0.1235"
  assert text.number("ece", 0.12346) == "0.1235"
  assert text.number("non_finite", 1234.0) == "1,234"
  assert text.number("macro_f1", None) == "undefined"


def test_short_names_stay_on_one_line():
  assert text.short("a\n b", 9) == "a b"
  assert text.short("abcdefgh", 5) == "abcd…"


def test_escape():
  assert text.escape("<a>&\"'\x00\n") == "&lt;a&gt;&amp;&quot;&#x27;  "
