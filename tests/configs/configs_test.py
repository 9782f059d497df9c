"""Every config can be built, is complete and says how it is run."""

import importlib
import pathlib

import pytest

from imgbench import config as config_lib
from imgbench import config_utils
from imgbench.bench import points
from imgbench.configs import common

FOLDER = pathlib.Path(common.__file__).parent
NAMES = sorted(
  path.stem
  for path in FOLDER.glob("*.py")
  if path.stem not in ("__init__", "common")
)
# Options behind the colon that a config must take.
OPTIONS = {"bench": ["quick", "full"], "cifar10_fast": ["long", "wide"]}


@pytest.mark.smoke
@pytest.mark.parametrize("name", NAMES)
def test_config_is_complete_and_locked(name):
  module = importlib.import_module(f"imgbench.configs.{name}")
  for option in [None, *OPTIONS.get(name, [])]:
    config = module.get_config(option)
    if name == "bench":
      config_utils.check_sections(config, points.SECTIONS)
    else:
      config_lib.parse(config)
    config.lock()
    with pytest.raises(AttributeError):
      config.modle = "cnn"
  with pytest.raises(ValueError, match="no_such_option"):
    module.get_config("no_such_option")


@pytest.mark.parametrize("name", NAMES)
def test_config_opens_with_command_hardware_and_result(name):
  text = importlib.import_module(f"imgbench.configs.{name}").__doc__
  for word in ("Command:", "Hardware", "time", "Result:"):
    assert word in text, word
  assert f"--config=configs/{name}.py" in text


def test_options_are_typed():
  options = common.parse_options("long,seed=3", long=False, seed=0, rate=0.5)
  assert (options.long, options.seed, options.rate) == (True, 3, 0.5)
  assert not common.parse_options("long=false", long=True).long
  for bad in ("short", "seed", "long=maybe", "seed=x"):
    with pytest.raises(ValueError):
      common.parse_options(bad, long=False, seed=0)
