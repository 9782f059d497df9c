"""Tests of linear fits of models."""

import json

import numpy as np
import pytest
from scipy import stats

from imgbench import errors
from imgbench.papers import fits
from imgbench.papers import program
from imgbench.tables import formats
from tests import raising
from tests.papers import rows

TOP1 = ("top1_accuracy", "top1_accuracy")


@pytest.mark.parametrize("scale", fits.SCALES)
def test_a_line_is_found_again(scale):
  x = np.linspace(0.3, 0.9, 7)
  y = fits.from_scale(0.9 * fits.to_scale(x, scale) - 0.1, scale)
  fit = fits.fit(x, y, scale)
  np.testing.assert_allclose((fit.slope, fit.intercept, fit.r), (0.9, -0.1, 1))
  np.testing.assert_allclose(fit.predict(x), y)
  np.testing.assert_allclose(fit.slope_bounds, 0.9)
  low, high = fit.band([0.5, 0.6])
  np.testing.assert_allclose(low, high)
  np.testing.assert_allclose(low, fit.predict([0.5, 0.6]))


@pytest.mark.parametrize("scale", fits.SCALES)
def test_twin_of_scipy(scale):
  rng = np.random.default_rng(0)
  x = rng.uniform(0.4, 0.9, 30)
  y = np.clip(1.1 * x - 0.2 + 0.03 * rng.standard_normal(30), 0.05, 0.95)
  fit = fits.fit(x, y, scale)
  to = stats.norm.ppf if scale == fits.PROBIT else np.asarray
  wanted = stats.linregress(to(x), to(y))
  np.testing.assert_allclose(
    (fit.slope, fit.intercept, fit.r),
    (wanted.slope, wanted.intercept, wanted.rvalue),
  )
  low, high = fit.slope_bounds
  # Percentiles of 1,000 resamples; the half width is near 2 standard errors.
  np.testing.assert_allclose((high - low) / 3.92, wanted.stderr, rtol=0.35)
  assert low < fit.slope < high
  band_low, band_high = fit.band([0.5, 0.7])
  assert np.all(band_low < fit.predict([0.5, 0.7]))
  assert np.all(band_high > fit.predict([0.5, 0.7]))
  again = fits.fit(x, y, scale)
  np.testing.assert_array_equal(again.draws, fit.draws)
  assert np.any(fits.fit(x, y, scale, seed=1).draws != fit.draws)


def test_few_models_have_no_interval():
  fit = fits.fit([0.5, 0.6], [0.4, 0.6])
  np.testing.assert_allclose((fit.slope, fit.intercept), (2, -0.6))
  assert fit.slope_bounds == fit.intercept_bounds == (None, None)
  with pytest.raises(ValueError, match="3 models"):
    fit.band([0.5])
  flat = fits.fit([0.5, 0.6, 0.7], [0.4, 0.4, 0.4])
  assert flat.r is None and flat.slope == 0
  # Three models: 3 of 27 resamples are of one model alone, without a line.
  few = fits.fit([0.5, 0.6, 0.7], [0.4, 0.6, 0.5])
  assert 800 < len(few.draws) < 950 and np.isfinite(few.draws).all()


@pytest.mark.parametrize(
  ("x", "y", "scale", "setting", "given"),
  [
    ([0.5], [0.5], "plain", "x and y", "shapes [1] and [1]"),
    ([0.5, 0.6], [0.5], "plain", "x and y", "shapes [2] and [1]"),
    ([0.5, 1.1], [0.5, 0.6], "plain", "x and y", "[0.5, 1.1, 0.5, 0.6]"),
    ([0.5, np.nan], [0.5, 0.6], "plain", "x and y", "[0.5, nan, 0.5, 0.6]"),
    ([0.5, 1.0], [0.5, 0.6], "probit", "x and y", "[0.5, 1.0, 0.5, 0.6]"),
    ([0.5, 0.5], [0.5, 0.6], "plain", "x", "all the same"),
    ([0.5, 0.6], [0.5, 0.6], "logit", "scale", "'logit'"),
  ],
)
def test_bad_fits_are_refused(x, y, scale, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    fits.fit(x, y, scale)


def test_lines_of_rows(tmp_path):
  found = rows.of(
    *(
      rows.row(model, dataset, 100, subset="dog")
      for dataset in "xy"
      for model in "bc"
    ),
    x={"fv_4k": 30, "b": 50, "c": 60, "d": 70, "mine": 10},
    y={"fv_4k": 25, "b": 40, "c": 50, "d": 60, "mine": 90},
  )
  lines = fits.fit_lines(found, [("x", "y")], [TOP1], frozenset({"mine"}))
  assert [(s.subset, s.scale, s.models, s.n) for s in lines] == [
    ("all", "plain", "all", 4),
    ("all", "plain", "without_fisher_vectors", 3),
    ("all", "probit", "all", 4),
    ("all", "probit", "without_fisher_vectors", 3),
    ("dog", "plain", "all", 2),
    ("dog", "probit", "all", 2),
  ]
  np.testing.assert_allclose(lines[1].fit.slope, 1)
  np.testing.assert_allclose(lines[1].fit.intercept, -0.1)
  assert lines[4].fit is None and lines[4].cells()[-7:] == (None,) * 7
  assert all(len(line.cells()) == len(fits.COLUMNS) for line in lines)
  axes = ("x", TOP1[0]), ("y", TOP1[0])
  best = fits.find_line(lines, *axes, subset="all", scale="plain")
  assert best.models == fits.WITHOUT_FISHER
  assert fits.find_line(lines, *axes, subset="cat", scale="plain") is None
  assert fits.find_line(lines, *axes[::-1], subset="all", scale="plain") is None
  output = program.Output(tmp_path)
  fits.write(output, lines)
  output.close()
  manifest = json.loads((tmp_path / program.MANIFEST).read_text())
  plain, probit = (
    manifest["undefined"][
      f"fit of y/dog/top1_accuracy on x/dog/top1_accuracy, {scale}, all"
    ]
    for scale in fits.SCALES
  )
  assert "all the same" in plain and "(0, 1)" in probit
  grid = fits.grid(lines, {"x": "val"}, "Lines")
  assert grid.cells[1][0] == "y on val"
  assert grid.cells[1][-2].startswith("-10.0 [")
  assert grid.cells[4][-3:] == [formats.UNDEFINED] * 3
