"""Tests of what a config file defines, and of the names of its units."""

import hypothesis
from hypothesis import strategies as st
import pytest

from imgbench import errors
from imgbench.launch import hyper
from imgbench.launch import points
from tests.launch import sweeps

FUNCTIONS = """
def get_hyper(hyper):
  return hyper.sweep("seed", range(2))


def get_hyper_rates(hyper):
  return hyper.sweep("schedule.peak", [0.1, 0.2])


def get_hyper_broken(hyper):
  return [hyper.seed]


def get_hyper_refused(hyper):
  return hyper.zipit([hyper.sweep("a", [1]), []])


def get_hyper_empty(hyper):
  return []
"""


@pytest.mark.parametrize(
  "sweep, expected",
  [
    ("", [{"seed": 0}, {"seed": 1}]),
    ("rates", [{"schedule.peak": 0.1}, {"schedule.peak": 0.2}]),
  ],
)
def test_points_are_those_of_the_config_file(tmp_path, sweep, expected):
  config = sweeps.config_file(tmp_path, FUNCTIONS)
  assert points.load(config, sweep) == expected
  assert points.load(f"{config}:option", sweep) == expected


@pytest.mark.parametrize(
  "sweep, message",
  [
    ("rate", "no get_hyper_rate.*did you mean rates"),
    ("broken", "get_hyper_broken: AttributeError: .*seed"),
    ("refused", r"get_hyper_refused: zipit: .*\[1, 0\]"),
    ("empty", "get_hyper_empty: expected a list of points"),
  ],
)
def test_what_a_config_file_does_not_define(tmp_path, sweep, message):
  config = sweeps.config_file(tmp_path, FUNCTIONS)
  with pytest.raises(errors.InputError, match=message):
    points.load(config, sweep)


def test_config_files_without_or_with_named_sweeps_only(tmp_path):
  config = sweeps.config_file(tmp_path, "")
  with pytest.raises(errors.InputError, match="no get_hyper.*no other sweep"):
    points.load(config)
  config = sweeps.config_file(tmp_path, FUNCTIONS.replace("er(", "er_one("))
  with pytest.raises(errors.InputError, match="expected .*--sweep=one or"):
    points.load(config)


@pytest.mark.parametrize("name", ["tiny", "scenes", "cifar10_fast"])
def test_sweeps_of_our_configs_fit_them(name, tmp_path):
  config = str(sweeps.ROOT / "configs" / f"{name}.py")
  named = {"scenes": ["random"], "cifar10_fast": ["seeds"]}
  for sweep in ["", *named.get(name, [])]:
    found = points.load(config, sweep)
    assert len(points.build(config, found, tmp_path).units) == len(found)


@pytest.mark.parametrize(
  "point, message",
  [
    ({"schedule.peek": 1.0}, "schedule.peek: unknown .*mean schedule.peak"),
    ({"peak": 1.0}, "peak: unknown config key; did you mean schedule.peak"),
    ({"seed": 1.5}, "seed=1.5"),
    ({"seed": "a"}, "seed=a"),
    ({"seed": True}, "seed=True"),
    ({"schedule.peak": "high"}, "schedule.peak=high"),
    ({"checkpoint.asynchronous": 1}, "value of type bool"),
    ({"steps.total": None}, "value of type str"),
    ({"steps.total": 5}, "value of type str"),
    ({"model.widths": 8}, "value of type tuple"),
  ],
)
def test_a_point_that_the_config_does_not_take(tmp_path, point, message):
  with pytest.raises(errors.InputError, match=f"point 2 of 2: .*{message}"):
    points.build(sweeps.TINY, [{}, point], tmp_path)


def test_two_points_of_one_name(tmp_path):
  rates = [{"schedule.peak": value} for value in (1, 0.1, 1.0)]
  with pytest.raises(errors.InputError, match="3 of 3 .* schedule.peak=1.0"):
    points.build(sweeps.TINY, rates, tmp_path)
  texts = [{"steps.total": value} for value in ("8 steps", "8_steps")]
  with pytest.raises(errors.InputError, match="steps.total=8_steps"):
    points.build(sweeps.TINY, texts, tmp_path)
  letters = [{"model.name": value} for value in ("CNN", "cnn")]
  with pytest.raises(errors.InputError, match="model.name=cnn"):
    points.build(sweeps.TINY, letters, tmp_path)


def test_a_key_is_swept_or_overridden(tmp_path):
  with pytest.raises(errors.InputError, match="seed: the sweep sets this key"):
    sweeps.make(tmp_path, [1], overrides={"seed": 2})
  with pytest.raises(
    errors.InputError, match="of all points: .*seeds: unknown"
  ):
    sweeps.make(tmp_path, [1], overrides={"seeds": 2})


def test_whole_sections_are_values_too(tmp_path):
  models = [dict(name="cnn", widths=(8,)), dict(name="vit_ti16")]
  sweep = sweeps.make(tmp_path, models, key="model")
  assert [unit.name for unit in sweep.units] == [
    "model=name=cnn+widths=8",
    "model=name=vit_ti16",
  ]


@pytest.mark.parametrize(
  "overrides, name",
  [
    ({}, "default"),
    ({"seed": 0, "schedule.peak": 1e-05}, "schedule.peak=1e-05,seed=0"),
    ({"steps.total": "2 epochs"}, "steps.total=2_epochs"),
    ({"a": (1, (2, 3)), "b": None, "c": True}, "a=1+2+3,b=None,c=True"),
    ({"augment.pad": -1}, "augment.pad=-1"),
    ({"data.data_dir": "/data"}, "data.data_dir=_data-5f1a942c"),
  ],
)
def test_names_are_those_of_other_versions(overrides, name):
  """A sweep goes on where an older version began it."""
  assert points.unit_name(overrides) == name


values = st.one_of(st.integers(), st.floats(), st.booleans(), st.text())


@hypothesis.given(st.dictionaries(st.text(), values, max_size=8))
def test_names_are_safe_and_do_not_hang_on_the_order(overrides):
  name = points.unit_name(overrides)
  assert 0 < len(name) <= 120 and name.isascii()
  assert name not in (".", "..") and not set(name) & set("/\\: \n\0\"'$*?")
  turned = dict(reversed(overrides.items()))
  assert points.unit_name(turned) == name


def test_long_names_stay_apart(tmp_path):
  names = ["x" * 200 + end for end in "ab"]
  sweep = sweeps.make(tmp_path, names, key="data.data_dir")
  assert len({unit.name for unit in sweep.units}) == 2


def test_every_point_is_named_by_the_values_it_has(tmp_path):
  rates = hyper.Hyper().sweep("schedule.peak", [1])
  (unit,) = points.build(sweeps.TINY, rates, tmp_path).units
  assert unit.overrides == {"schedule.peak": 1.0}
  assert unit.workdir.name == unit.name == "schedule.peak=1.0"
