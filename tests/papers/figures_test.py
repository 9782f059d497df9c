"""Tests of scatter plots; how they look was judged by eye."""

import itertools

from matplotlib import text as mpl_text
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
    assert figure.axes[2].get_xlabel() == f"Top-1 accuracy on {title} (%)"


def test_both_scales():
  figure = scatters.draw_both_scales(*ARGS)(themes.LIGHT)
  plain, probit, *below = figure.axes
  assert plain.get_title() == "Plain scale"
  assert below[0].get_xlabel() == "Top-1 accuracy on x (%)"
  diagonal, fit, _, *groups = legend(figure)
  assert diagonal == "y = x" and fit == fits.name_fit(without=True)
  assert groups == [scatters.NETWORKS, scatters.FISHER, scatters.OWN]
  names = {text.get_text() for text in plain.texts}
  # Yours and the best five.
  assert names >= {"mine", "b", "c", "d", "fv_4k"}
  low, high = probit.get_xlim()
  names = [t.get_text() for t in below[1].get_xticklabels()]
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


def line_of_ten(*values, far=()):
  """Returns a study of models on y = x - 0.1 in percent, and others."""
  xs = dict(enumerate(range(70, 80))) | {f"far{v}": v for v in far}
  ys = {model: x - 10 for model, x in xs.items()} | dict(values)
  named = lambda found: {f"model{k}": v for k, v in found.items()}
  return study.Study(
    rows.of(x=named(xs), y=named(ys)),
    [("x", "y")],
    study.pair_same([TOP1]),
    frozenset(f"model{key}" for key, _ in values),
  )


def test_residuals_are_distances_from_the_fit_in_points():
  found = line_of_ten((3, 65))
  figure = scatters.draw_both_scales(found, *ARGS[1:])(themes.LIGHT)
  plain, _, below, _ = figure.axes
  public, own = below.containers
  x, distances = own[0].get_xydata().T
  np.testing.assert_allclose([x[0], distances[0]], [73, 65 - 63])
  np.testing.assert_allclose(public[0].get_ydata(), np.zeros(9), atol=1e-9)
  assert below.get_xlim() == plain.get_xlim()
  low, high = below.get_ylim()
  # The upper end of the interval of 65 of 100 is 9.3 points above.
  assert low < 0 < 2 + 9.3 < high < 14
  # The band is around 0.
  band = below.collections[-1].get_paths()[0].vertices
  assert np.abs(band[:, 1]).max() < 1e-6


def test_axes_are_fitted_to_the_models_that_are_not_far_below():
  found = line_of_ten(far=(20, 35, 95))
  points = scatters.find_points(found, *ARGS[1:])
  kept = {p.name for p in figures.keep_near(points)}
  assert {p.name for p in points} - kept == {"modelfar20", "modelfar35"}
  figure = scatters.draw_both_scales(found, *ARGS[1:])(themes.LIGHT)
  plain = figure.axes[0]
  low, high = plain.get_xlim()
  # The interval of 70 of 100 is from 60 to 79.
  assert 55 < low < 70 and 95 < high < 102
  assert "2 of 13 " in plain.texts[0].get_text()
  # Your model is shown however far it is.
  yours = scatters.find_points(line_of_ten(("far20", 10), far=(20,)), *ARGS[1:])
  assert figures.keep_near(yours) == yours
  assert figures.keep_near([]) == []


def test_names_of_the_best_models_do_not_overlap():
  close = {f"a_long_name_of_model_{i}": 80 + 0.1 * i for i in range(5)}
  others = {f"other{i}": 60 + i for i in range(20)}
  found = study.Study(
    rows.of(
      x=close | others, y={m: v - 10 for m, v in (close | others).items()}
    ),
    [("x", "y")],
    study.pair_same([TOP1]),
    frozenset(),
  )
  figure = scatters.draw_both_scales(found, *ARGS[1:])(themes.LIGHT)
  figure.draw_without_rendering()
  for axes in figure.axes[:2]:
    names = [text for text in axes.texts if text.get_text() in close]
    assert len(names) == 5
    boxes = [mpl_text.Text.get_window_extent(name) for name in names]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    inside = axes.get_window_extent().padded(2)
    assert all(inside.x0 < b.x0 and b.x1 < inside.x1 for b in boxes)


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
  points = scatters.find_points(*ARGS)
  draw = figures.scatter([figures.Panel("p", "x", "y", points)])
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
