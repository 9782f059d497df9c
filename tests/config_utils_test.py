"""Tests of durations, argument passing and config differences."""

import ml_collections
import pytest

from imgbench import config_utils
from imgbench import errors
from tests import raising


@pytest.mark.parametrize(
  ("text", "steps"),
  [
    ("500 steps", 500),
    ("1 step", 1),
    ("2 epochs", 20),
    ("0.5 epochs", 5),
    ("2500 examples", 25),
    ("1e3 examples", 10),
    ("10 percent", 4),
    ("10%", 4),
    ("never", 0),
    ("0 steps", 0),
    ("1 examples", 1),  # At least one step.
  ],
)
def test_durations(text, steps):
  calendar = config_utils.Durations(
    num_examples=1000, global_batch_size=100, total_steps=40
  )
  assert calendar.steps(text, "steps.total") == steps


def test_epochs_do_not_drift_when_batches_do_not_divide_them():
  calendar = config_utils.Durations(num_examples=1000, global_batch_size=300)
  assert calendar.steps("30 epochs", "steps.total") == 100


@pytest.mark.parametrize(
  "text",
  [
    "",
    "ten steps",
    "10",
    "5 minutes",
    "-1 steps",
    "1.2.3 steps",
    "1e999 steps",
  ],
)
def test_bad_durations_name_the_key(text):
  calendar = config_utils.Durations(num_examples=10, global_batch_size=1)
  with pytest.raises(errors.InputError, match="logging.every"):
    calendar.steps(text, "logging.every")


def test_percent_needs_a_total():
  calendar = config_utils.Durations(num_examples=10, global_batch_size=1)
  with pytest.raises(errors.InputError, match="steps.total"):
    calendar.steps("10 percent", "steps.total")


def test_arguments_are_plain():
  section = ml_collections.ConfigDict({"widths": [1, 2], "deep": {"a": 1}})
  assert config_utils.arguments(section) == {
    "widths": (1, 2),
    "deep": {"a": 1},
  }


def test_errors_name_the_section():
  with (
    pytest.raises(errors.InputError, check=raising.about("optim.peak")),
    config_utils.prefix_errors("optim."),
  ):
    raise errors.InputError("peak", "more than 0", -1)


def test_an_absent_key_counts_as_its_default():
  old, new = {"optim": {"name": "sgd"}}, {"optim": {"name": "sgd", "lr": 0.5}}
  assert config_utils.frozen_differences(old, new)
  for default, same in ((0.5, True), (0.1, False)):
    found = config_utils.frozen_differences(
      old, new, lambda config, default=default: {"optim.lr": default}
    )
    assert (not found) == same


def test_only_named_sections_may_change():
  old = {
    "seed": 0,
    "steps": {"total": "1 epochs"},
    "data": {"name": "scenes", "data_dir": "a"},
    "optim": {"learning_rate": 0.1},
  }
  new = {
    "seed": 0,
    "steps": {"total": "2 epochs"},
    "data": {"name": "scenes", "data_dir": "b"},
    "optim": {"learning_rate": 0.2, "momentum": 0.9},
  }
  assert config_utils.frozen_differences(old, old) == []
  parallel = {"devices": 8, "batch_norm": "per_device"}
  assert config_utils.frozen_differences(
    {"parallel": {"devices": 1, "batch_norm": "global"}}, {"parallel": parallel}
  ) == ["parallel.batch_norm: global -> per_device"]
  assert config_utils.frozen_differences(old, new) == [
    "optim.learning_rate: 0.1 -> 0.2",
    "optim.momentum: (absent) -> 0.9",
  ]
