"""Tests of the list of a config's keys."""

import pytest

from imgbench import cli
from imgbench import config_utils
from imgbench import configs
from imgbench import losses
from imgbench import show_config


@pytest.mark.parametrize("name", sorted(configs.list_files()))
def test_all_keys_of_shipped_configs_are_listed(name):
  config = config_utils.to_dict(cli.read_config(name))
  keys = show_config.list_keys(config)
  listed = {key: value for key, value, _ in keys}
  assert listed.items() >= config_utils.flatten(config).items()
  if "steps" in config:  # That of the benchmarks has comments in its file.
    assert [key for key, _, meaning in keys if not meaning] == []


def test_keys_that_flags_may_set_are_listed_with_their_meaning():
  overrides = ["optim.name=adamw", "optim.weight_decay=0.5"]
  config = config_utils.to_dict(cli.read_config("scenes", overrides))
  listed = {key: rest for key, *rest in show_config.list_keys(config)}
  assert listed["optim.weight_decay"][0] == 0.5
  assert listed["optim.name"][0] == "adamw"
  value, meaning = listed["evaluation.alpha"]
  assert value == 0.05 and "1 - alpha" in meaning
  assert "steps" in listed["steps.per_dispatch"][1]
  assert listed["input.most_bad"][0] == 100  # Not set by the file.


def test_meanings_are_those_of_a_docstring():
  def build(size, scale, shift):
    """Builds it.

    Args:
      size: of a side,
        in pixels.
      scale, shift: of values.

    Returns:
      other: text.
    """

  assert show_config.list_meanings(build) == {
    "size": "of a side, in pixels.",
    "scale": "of values.",
    "shift": "of values.",
  }
  assert show_config.list_meanings(losses.Loss)
