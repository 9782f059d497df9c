"""Rows of tables for tests, of given numbers of hits."""

from imgbench.metrics import measurement
from imgbench.papers import records

MEASURE = measurement.Measurer(0.05)


def row(model, dataset, correct, n=100, metric="top1_accuracy", subset="all"):
  """A row of a plain proportion."""
  value = MEASURE.proportion(correct, n, "share of examples")
  return records.Row(model, dataset, subset, metric, value)


def undefined(model, dataset, metric="top1_accuracy", subset="all"):
  """A row without a value."""
  value = MEASURE.undefined(0, "share of examples", "no example")
  return records.Row(model, dataset, subset, metric, value)


def of(**datasets):
  """Rows of {data set: {model: hits of 100}}."""
  return [
    row(model, dataset, correct)
    for dataset, models in datasets.items()
    for model, correct in models.items()
  ]
