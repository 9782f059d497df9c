"""Rows of tables for tests, of given numbers of hits."""

from imgbench.metrics import measurement
from imgbench.tables import frame

MEASURE = measurement.Measurer(0.05)


def value(correct, n=100):
  """A plain proportion."""
  return MEASURE.proportion(correct, n, "share of examples")


def row(model, dataset, correct, n=100, metric="top1_accuracy", subset="all"):
  """Measurements of one plain proportion."""
  return {(model, dataset, subset, metric): value(correct, n)}


def undefined(model, dataset, metric="top1_accuracy", subset="all"):
  """Measurements of one without a value."""
  return {
    (model, dataset, subset, metric): MEASURE.undefined(
      0, "share of examples", "no example"
    )
  }


def of(*more, **datasets):
  """Frame of {data set: {model: hits of 100}} and of other measurements."""
  return frame.from_measurements(
    *(
      row(model, dataset, correct)
      for dataset, models in datasets.items()
      for model, correct in models.items()
    ),
    *more,
  )
