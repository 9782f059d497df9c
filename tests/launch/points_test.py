"""Tests of the points of a config file and the names of its units."""

import hypothesis
from hypothesis import strategies as st
import pytest

from imgbench import errors
from imgbench.launch import hyper
from imgbench.launch import points
from tests import raising
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
  ("key", "value"),
  [
    ("model.name", "cnm"),
    ("optim.name", "adamm"),
    ("seed", -1),
    ("global_batch_size", 0),
    ("steps.total", "2 weeks"),
    ("optim.weight_decay", float("inf")),
  ],
)
def test_fault_19_points_are_checked_as_their_runs_would_be(
  tmp_path, key, value
):
  about = raising.about(f"point 1 of 1: {key}")
  with pytest.raises(errors.InputError, check=about):
    sweeps.make(tmp_path, [value], key)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "sweep, place, given",
  [
    ("broken", "", None),
    ("refused", ": zipit", "[1, 0]"),
    ("empty", "", "none"),
  ],
)
def test_functions_that_fail_or_return_nothing(tmp_path, sweep, place, given):
  config = sweeps.config_file(tmp_path, FUNCTIONS)
  check = raising.about(f"{config}: get_hyper_{sweep}{place}", given=given)
  with pytest.raises(errors.InputError, check=check):
    points.load(config, sweep)


def test_an_unknown_sweep_is_answered_with_near_names(tmp_path):
  config = sweeps.config_file(tmp_path, FUNCTIONS)
  check = raising.about("--sweep", given="rate")
  with pytest.raises(errors.InputError, check=check) as error:
    points.load(config, "rate")
  assert "rates" in error.value.fix


def test_config_files_without_or_with_named_sweeps_only(tmp_path):
  config = sweeps.config_file(tmp_path, "")
  check = raising.about("--sweep", given="none")
  with pytest.raises(errors.InputError, check=check):
    points.load(config)
  config = sweeps.config_file(tmp_path, FUNCTIONS.replace("er(", "er_one("))
  with pytest.raises(errors.InputError, check=check) as error:
    points.load(config)
  assert "one" in error.value.fix.replace(",", "").split()


@pytest.mark.parametrize("name", ["tiny", "scenes", "cifar10_fast"])
def test_sweeps_of_our_configs_are_valid(name, tmp_path):
  config = str(sweeps.ROOT / "configs" / f"{name}.py")
  named = {"scenes": ["random"], "cifar10_fast": ["seeds"]}
  for sweep in ["", *named.get(name, [])]:
    found = points.load(config, sweep)
    assert len(points.build(config, found, tmp_path).units) == len(found)


@pytest.mark.parametrize(
  ("key", "value", "near"),
  [
    ("schedule.peek", 1.0, "schedule.peak"),
    ("peak", 1.0, "schedule.peak"),
    ("seed", 1.5, ""),
    ("seed", "a", ""),
    ("seed", True, ""),
    ("schedule.peak", "high", ""),
  ],
)
def test_a_point_that_the_config_refuses(tmp_path, key, value, near):
  about = raising.about(f"point 2 of 2: --config.{key}", given=value)
  with pytest.raises(errors.InputError, check=about) as raised:
    points.build(sweeps.TINY, [{}, {key: value}], tmp_path)
  assert near in raised.value.fix


@pytest.mark.parametrize(
  "key, value, kind",
  [
    ("checkpoint.asynchronous", 1, "bool"),
    ("steps.total", None, "str"),
    ("steps.total", 5, "str"),
    ("model.widths", 8, "tuple"),
  ],
)
def test_a_value_that_a_command_line_changes(tmp_path, key, value, kind):
  check = raising.about(f"point 2 of 2: {key}", given=value)
  with pytest.raises(errors.InputError, check=check) as error:
    points.build(sweeps.TINY, [{}, {key: value}], tmp_path)
  assert error.value.expected.endswith(kind)


@pytest.mark.parametrize(
  "key, values, name",
  [
    ("schedule.peak", (1, 0.1, 1.0), "schedule.peak=1.0"),
    ("steps.total", ("8 steps", "8_steps"), "steps.total=8_steps"),
    ("data.data_dir", ("D", "d"), "data.data_dir=d"),
  ],
)
def test_two_points_of_one_name(tmp_path, key, values, name):
  n = len(values)
  check = raising.about(f"point {n} of {n}")
  with pytest.raises(errors.InputError, check=check) as error:
    points.build(sweeps.TINY, [{key: value} for value in values], tmp_path)
  assert name in error.value.given


def test_a_key_is_swept_or_overridden(tmp_path):
  check = raising.about("--config.seed", given=2)
  with pytest.raises(errors.InputError, check=check):
    sweeps.make(tmp_path, [1], overrides={"seed": 2})
  with pytest.raises(errors.InputError, match="seeds"):
    sweeps.make(tmp_path, [1], overrides={"seeds": 2})


def test_sets_that_flags_change_are_those_of_all_points(tmp_path):
  key = "evaluation.sets"
  overrides = {f"{key}.v2": "", f"{key}.val.probabilities": None}
  overrides |= {f"{key}.new.split": "train[:8]"}
  sweep = sweeps.make(tmp_path, [1], overrides=overrides)
  command = sweep.command(sweep.units[0])
  assert {f"--config.{k}={v}" for k, v in overrides.items()} <= set(command)
  found = sweep.base["evaluation"]["sets"]
  assert (found["v2"], found["new"]) == ("", {"split": "train[:8]"})


def test_whole_sections_are_values_too(tmp_path):
  models = [dict(name="cnn", widths=(8,)), dict(name="vit_ti16")]
  models = [model | dict(dtype="auto") for model in models]
  sweep = sweeps.make(tmp_path, models, key="model")
  assert [unit.name for unit in sweep.units] == [
    "model=dtype=auto+name=cnn+widths=8",
    "model=dtype=auto+name=vit_ti16",
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
def test_names_are_the_same_in_all_versions(overrides, name):
  """So that a sweep of an older version can be resumed."""
  assert points.name_unit(overrides) == name


values = st.one_of(st.integers(), st.floats(), st.booleans(), st.text())


@hypothesis.given(st.dictionaries(st.text(), values, max_size=8))
def test_names_are_safe_and_do_not_depend_on_the_order(overrides):
  name = points.name_unit(overrides)
  assert 0 < len(name) <= 120 and name.isascii()
  assert name not in (".", "..") and not set(name) & set("/\\: \n\0\"'$*?")
  turned = dict(reversed(overrides.items()))
  assert points.name_unit(turned) == name


def test_long_names_differ(tmp_path):
  names = ["x" * 200 + end for end in "ab"]
  sweep = sweeps.make(tmp_path, names, key="data.data_dir")
  assert len({unit.name for unit in sweep.units}) == 2


def test_every_point_is_named_by_the_values_it_has(tmp_path):
  rates = hyper.Hyper().sweep("schedule.peak", [1])
  (unit,) = points.build(sweeps.TINY, rates, tmp_path).units
  assert unit.overrides == {"schedule.peak": 1.0}
  assert unit.workdir.name == unit.name == "schedule.peak=1.0"
