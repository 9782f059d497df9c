"""Every config can be built, is complete and says how it is run."""

import importlib
import pathlib

import pytest

from imgbench import config as config_lib
from imgbench import config_utils
from imgbench.bench import points
from imgbench.configs import common
from imgbench.configs import scenes

FOLDER = pathlib.Path(common.__file__).parent
NAMES = sorted(
  path.stem
  for path in FOLDER.glob("*.py")
  if path.stem not in ("__init__", "common")
)
# Options behind the colon that a config must take.
OPTIONS = {
  "bench": ["quick", "full"],
  "cifar10_fast": ["long", "wide", "v6"],
  "cifar10_resnet18": ["v4,v6"],
  "finetune": ["probe", "folder", "folder,probe"],
}


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


@pytest.mark.parametrize("name", ["cifar10_fast", "cifar10_resnet18"])
def test_cifar_is_compared_with_its_new_versions_on_request(name):
  module = importlib.import_module(f"imgbench.configs.{name}")
  plain = config_lib.parse(module.get_config()).evaluation
  assert list(plain.sets) == ["test"] and plain.shift is None
  config = module.get_config("v4,v6")
  section = config_lib.parse(config).evaluation
  assert section.shift.base == "test" and section.shift.sets == ("v4", "v6")
  assert [entry.name for entry in section.sets.values()] == [
    *("cifar10", "cifar10_1/v4", "cifar10_1/v6"),
  ]


def test_the_demo_measures_a_drop():
  section = config_lib.parse(scenes.get_config()).evaluation
  assert (section.shift.base, section.shift.sets) == ("val", ("v2",))
