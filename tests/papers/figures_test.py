"""Tests of scatter plots; how they look was judged by eye."""

import numpy as np
import pytest

from imgbench.papers import figures
from imgbench.papers import fits
from imgbench.papers import scatters
from imgbench.papers import study
from imgbench.papers.readers import cifar
from imgbench.papers.readers import datasets
from imgbench.tables import themes
from tests.papers import rows

TOP1 = "top1_accuracy"
FOUND = study.Study(
  rows.of(
    *(
      rows.row(model, dataset, 100 - i, subset="dog")
      for dataset in "xy"
      for i, model in enumerate("bc")
    ),
    x={"fv_4k": 30, "b": 50, "c": 60, "d": 70, "mine": 75, "alone": 5},
    y={"fv_4k": 25, "b": 40, "c": 50, "d": 60, "mine": 50},
  ),
  [("x", "y")],
  study.pair_same([TOP1]),
  frozenset({"mine"}),
)
ARGS = (FOUND, ("x", TOP1), ("y", TOP1))


def axes_of(draw):
  return draw(themes.LIGHT).axes


def legend(figure):
  return [text.get_text() for text in figure.legends[0].get_texts()]


def test_groups_and_names():
  points = scatters.find_points(*ARGS)
  assert [(p.name, p.group, p.named) for p in points] == [
    ("b", scatters.NETWORKS, False),
    ("c", scatters.NETWORKS, False),
    ("d", scatters.NETWORKS, False),
    ("fv_4k", scatters.FISHER, False),
    ("mine", scatters.OWN, True),
  ]


def test_axes_have_the_names_of_the_tables():
  for names, title in (
    ((cifar.TEST, cifar.V4), "CIFAR-10 test"),
    ((datasets.VALIDATION, datasets.TOP_IMAGES), "validation"),
  ):
    axes = [(name, TOP1) for name in names]
    found = study.Study(FOUND.rows, [], [])
    figure = scatters.draw_both_scales(found, *axes)(themes.LIGHT)
    assert figure.axes[0].get_xlabel() == f"Top-1 accuracy on {title} (%)"


def test_both_scales():
  figure = scatters.draw_both_scales(*ARGS)(themes.LIGHT)
  plain, probit = figure.axes
  assert plain.get_title() == "Plain scale"
  assert plain.get_xlabel() == "Top-1 accuracy on x (%)"
  diagonal, fit, _, *groups = legend(figure)
  assert diagonal == "y = x" and fit == fits.name_fit(without=True)
  assert groups == [scatters.NETWORKS, scatters.FISHER, scatters.OWN]
  assert "mine" in [text.get_text() for text in plain.texts]
  low, high = probit.get_xlim()
  names = [t.get_text() for t in probit.get_xticklabels()]
  places = probit.get_xticks()
  np.testing.assert_allclose(
    places, fits.to_scale(np.array(names, float) / 100, fits.PROBIT)
  )
  assert len(names) >= 4 and low < min(places) < max(places) < high


def test_points_are_at_their_numbers():
  plain = axes_of(scatters.draw_both_scales(*ARGS))[0]
  networks = next(
    c for c in plain.containers if c.get_label() == scatters.NETWORKS
  )
  np.testing.assert_allclose(
    networks[0].get_xydata(), [[50, 40], [60, 50], [70, 60]]
  )
  fit = next(
    line for line in plain.lines if line.get_label().startswith("linear fit")
  )
  x, y = fit.get_xydata().T
  np.testing.assert_allclose(y, x - 10)


def test_panels_of_subsets_and_axes_without_models():
  figure = scatters.draw_by_subset(*ARGS)(themes.LIGHT)
  titles = [axes.get_title() for axes in figure.axes]
  assert titles == ["all classes", "dog"]
  panel = figures.Panel(
    "p",
    "x",
    "y",
    [figures.Point("a", rows.value(0, 0), rows.value(30), "g")],
  )
  (axes,) = axes_of(figures.scatter([panel]))
  assert [text.get_text() for text in axes.texts] == ["no model"]


def test_ends_have_no_place_on_the_probit_scale():
  points = scatters.find_points(*ARGS, "dog")
  assert [p.name for p in points] == ["b", "c"]
  panel = figures.Panel("p", "x", "y", points, scale=fits.PROBIT)
  (axes,) = axes_of(figures.scatter([panel]))
  (drawn,) = axes.containers
  assert len(drawn[0].get_xydata()) == 1


@pytest.mark.parametrize("scale", fits.SCALES)
@pytest.mark.parametrize("low, high", [(1, 99), (55, 58), (96, 99), (33, 91)])
def test_axes_have_some_round_ticks(scale, low, high):
  points = [
    figures.Point(
      str(p),
      *[rows.value(1000 * p, 100_000)] * 2,
      group="g",
    )
    for p in (low, high)
  ]
  panel = figures.Panel("p", "x", "y", points, scale=scale)
  (axes,) = axes_of(figures.scatter([panel]))
  names = [t.get_text() for t in axes.get_yticklabels()]
  assert 4 <= len(names) <= 16
  assert all(len(name) <= 5 for name in names)


def test_the_same_bytes_in_both_forms():
  draw = scatters.draw_both_scales(*ARGS)
  for render in (themes.render, themes.render_pdf):
    assert render(draw, themes.LIGHT) == render(draw, themes.LIGHT)


@pytest.mark.parametrize("length", [3, 30, 60])
@pytest.mark.parametrize("panels", [1, 2])
def test_the_legend_is_no_wider_than_the_figure(panels, length):
  text = "linear fit of the models, with those below 70% (2 to 3 not shown)"
  points = [
    figures.Point("a", rows.value(30), rows.value(30), f"{i} {text[:length]}")
    for i in range(5)
  ]
  panel = figures.Panel("p", "x", "y", points)
  figure = figures.scatter([panel] * panels)(themes.LIGHT)
  figure.draw_without_rendering()
  legend_box = figure.legends[0].get_window_extent()
  assert legend_box.x1 <= figure.bbox.x1 + 1
