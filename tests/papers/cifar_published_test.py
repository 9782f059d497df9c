import pytest

from imgbench.papers import cifar_published
from imgbench.papers import published
from imgbench.papers.readers import cifar

MODELS = ["a", "a_cutout16", "b"]


def key(model, dataset, field) -> published.FigureKey:
  return published.FigureKey(model, dataset, "all", "top1_accuracy", field)


OURS = {
  key("a", cifar.TEST, "value"): 0.9,
  key("b", cifar.TEST, "value"): 0.8,
  key("a_cutout16", cifar.TEST, "value"): 0.95,
  key("a", cifar.V4, "drop"): 0.1,
  key("b", cifar.V4, "drop"): 0.2,
  key("a_cutout16", cifar.V4, "drop"): None,
  key("a", cifar.V4, "error_ratio"): 2.0,
  key("b", cifar.V4, "error_ratio"): 3.0,
}


def value(model, field, models=MODELS):
  figure = published.PublishedFigure("", key(model, "", field), "1", 1, 0.1)
  found = cifar_published.combine_models([figure], OURS, models)
  return found.get(figure.key)


@pytest.mark.parametrize(
  ("model", "field", "expected"),
  [
    ("a minus b", "original_acc difference", 0.1),
    ("a_cutout16", "original_acc difference", 0.05),
    ("a|b", "lowest v4_error_ratio", 2.0),
    ("a|b", "highest v4_error_ratio", 3.0),
    ("a|b", "smallest v4_gap", 0.1),
    ("a|b", "largest v4_gap", 0.2),
    ("a|b", "count", 2),
    ("a|b|a_cutout16", "largest v4_gap", None),  # One is undefined.
    ("a|c", "largest v4_gap", None),  # One is absent.
    ("all 30", "count", None),  # There are three.
    ("a minus b", "weight difference", None),
    ("a", "original_acc difference", None),
  ],
)
def test_figures_of_several_models(model, field, expected):
  assert value(model, field) == pytest.approx(expected)


def test_all_of_them():
  models = [f"model{i}" for i in range(30)]
  assert value("all 30", "count", models) == 30
  assert value("all 30", "highest original_acc", models) is None


def test_figures_of_one_model_are_left_alone():
  figure = published.PublishedFigure(
    "", key("a", cifar.TEST, "value"), "90", 90, 0.1
  )
  assert not cifar_published.combine_models([figure], OURS, MODELS)
