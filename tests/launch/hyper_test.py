"""Tests of the points of a sweep, with hand-written lists."""

import math

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from imgbench import errors
from imgbench.launch import hyper as hyper_lib
from tests import raising

hyper = hyper_lib.Hyper()


def test_lists_are_combined():
  rates = hyper.sweep("rate", [0.1, 0.2])
  seeds = hyper.sweep("seed", range(2))
  assert rates == [{"rate": 0.1}, {"rate": 0.2}]
  assert hyper.product([rates, seeds, hyper.fixed("ema.decay", 0.9)]) == [
    {"rate": 0.1, "seed": 0, "ema.decay": 0.9},
    {"rate": 0.1, "seed": 1, "ema.decay": 0.9},
    {"rate": 0.2, "seed": 0, "ema.decay": 0.9},
    {"rate": 0.2, "seed": 1, "ema.decay": 0.9},
  ]
  assert hyper.zipit([rates, seeds]) == [
    {"rate": 0.1, "seed": 0},
    {"rate": 0.2, "seed": 1},
  ]
  assert hyper.chainit([rates, seeds]) == [*rates, *seeds]
  assert hyper.product([]) == [{}]  # One run of the unchanged config.
  assert (
    hyper.product([rates, []]) == hyper.zipit([]) == hyper.chainit([]) == []
  )


def test_combined_points_are_copies():
  rates = hyper.sweep("rate", [0.1])
  for points in (hyper.chainit([rates]), hyper.product([rates])):
    points[0]["rate"] = 9.0
  assert rates == [{"rate": 0.1}]


def test_values_are_plain():
  points = hyper.sweep("rate", np.logspace(-2, -1, 2))
  assert [type(point["rate"]) for point in points] == [float, float]
  (point,) = hyper.sweep("widths", [[np.int64(8), [16]]])
  assert point == {"widths": (8, (16,))}
  assert type(point["widths"][0]) is int


@pytest.mark.parametrize(
  "make, setting, given",
  [
    (lambda: hyper.sweep("name", "cnn"), "name", "'cnn'"),
    (lambda: hyper.sweep("", [1]), "key", "''"),
    (lambda: hyper.zipit([[{"a": 1}], []]), "zipit", "[1, 0]"),
    (lambda: hyper.product([[{"a": 1}], [{"a": 2}]]), "a", "1 and 2"),
    (lambda: hyper.zipit([[{"a": 1}], [{"a": 1}]]), "a", "1 and 1"),
    (lambda: hyper.sample("a", 1), "a", 0),
    (lambda: hyper.sample("a", 1, uniform=(0, 1), choice=[1]), "a", 2),
    (lambda: hyper.sample("a", 1, uniform=(1, 1)), "a", (1, 1)),
    (lambda: hyper.sample("a", 1, uniform=(1, 2, 3)), "a", (1, 2, 3)),
    (lambda: hyper.sample("a", 1, log_uniform=(0, 1)), "a: log_uniform", None),
    (lambda: hyper.sample("a", 1, choice=[]), "a: choice", "none"),
  ],
)
def test_bad_arguments_are_refused(make, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    make()


def test_samples_are_the_same_on_all_machines():
  """Values of the first version, because names of runs contain them."""
  rates = hyper.sample("schedule.peak", 3, log_uniform=(0.03, 1.0))
  assert [point["schedule.peak"] for point in rates] == [
    0.3438,
    0.4396,
    0.3886,
  ]


def test_samples_only_grow_with_their_number():
  few = hyper.sample("rate", 5, uniform=(0, 1))
  assert hyper.sample("rate", 9, uniform=(0, 1))[:5] == few
  assert hyper.sample("rate", 5, uniform=(0, 1), seed=1) != few


def test_samples_of_keys_are_independent():
  n = 2000
  values = lambda key: np.array(
    [point[key] for point in hyper.sample(key, n, uniform=(0, 1))]
  )
  correlation = np.corrcoef(values("a"), values("b"))[0, 1]
  # For independent samples, its standard deviation is 1 / sqrt(n).
  assert abs(correlation) < 4 / math.sqrt(n)


def test_samples_have_the_requested_distribution():
  n = 4000
  tolerance = 4 * math.sqrt(0.25 / n)  # 4 standard deviations
  take = lambda **kind: [p["a"] for p in hyper.sample("a", n, **kind)]
  uniform = np.array(take(uniform=(-1, 3)))
  assert np.mean(uniform < 1) == pytest.approx(0.5, abs=tolerance)
  log_uniform = np.array(take(log_uniform=(1e-4, 1.0)))
  assert np.mean(log_uniform < 1e-2) == pytest.approx(0.5, abs=tolerance)
  choice = take(choice=["a", "b"])
  assert choice.count("a") / n == pytest.approx(0.5, abs=tolerance)


@hypothesis.given(
  st.floats(-1e6, 1e6),
  st.floats(1e-6, 1e6),
  st.integers(),
  st.text(min_size=1, max_size=5),
)
def test_samples_keep_to_their_bounds(low, width, seed, key):
  hypothesis.assume(low < low + width)
  for point in hyper.sample(key, 5, uniform=(low, low + width), seed=seed):
    assert low <= point[key] <= low + width
  for point in hyper.sample(key, 5, log_uniform=(width, 2 * width), seed=seed):
    assert width <= point[key] <= 2 * width
