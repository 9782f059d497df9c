"""Every key of every config and builder can be set by a flag."""

from collections.abc import Mapping
import inspect
import typing

import pytest

from imgbench import cli
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import configs
from imgbench import data
from imgbench import errors
from imgbench import evaluators
from imgbench import losses
from imgbench import models
from imgbench import optim
from imgbench import show_config
from tests import raising

RUNS = sorted(set(configs.list_files()) - {"bench"})
REGISTRIES = {
  "model": models.BUILDERS,
  "optim": optim.OPTIMIZERS,
  "schedule": optim.SCHEDULES,
  "loss": losses.LOSSES,
  "data": data.SOURCES,
}
BUILDERS = [(s, name) for s, names in REGISTRIES.items() for name in names]
# Values that `config.parse` checks, by the end of the key.
SECTIONS = (".options", ".class_masks", "n.input", ".sets", ".warnings")
# Another builder does not take the keys of this one, and balanced batches no
# weights of classes.
ALONE = [*(f"{section}.name" for section in REGISTRIES), "loss.class_weights"]
LEGAL = {
  ".every": "7 steps",
  ".total": "7 steps",
  ".warmup": "7 steps",
  ".on_bad_example": "skip",
  "prng.impl": "rbg",
  "parallel.batch_norm": "per_device",
  "optim.name": "sgd",
  "loss.class_weights": "balanced",
  "loss.name": "sigmoid",
  "schedule.name": "constant",
  "model.name": "resnet18",
}


def find_other(key: str, value, parameter: inspect.Parameter | None):
  """Returns a legal value of a key that differs from its own."""
  if key.endswith(".type"):
    return next(name for name in evaluators.EVALUATORS if name != value)
  if key == "checkpoint.best":
    return "" if value else value
  for end, legal in LEGAL.items():
    if key.endswith(end):
      return legal
  hints = [type(value)]
  if parameter is not None:
    hints = typing.get_args(parameter.annotation) or [parameter.annotation]
  if bool in hints:
    return not value
  if isinstance(value, tuple | list):
    return tuple(reversed(value)) * 2
  for kind in (float, int):
    if kind in hints and kind is float:
      return (value or 0) / 2 + 0.015625
    if kind in hints:
      return (value or 0) + 1
  return f"{value or ''}x"


def find_parsed(settings: config_lib.Config, key: str):
  """Returns the value of a dotted key in the sections of a run."""
  section, *rest = key.split(".")
  owner = settings.recipe if hasattr(settings.recipe, section) else settings
  value = getattr(owner, section)
  for part in rest:
    if isinstance(value, Mapping):
      value = value[part]
    elif part in value.__annotations__:
      value = getattr(value, part)
    else:
      value = value.settings[part]
  return value


def list_keys(config) -> dict[str, tuple]:
  """Returns value and parameter by key, of all keys that are no sections."""
  plain = config_utils.to_dict(config)
  known = config_lib.find_known_keys(plain)
  values = dict.fromkeys(known)
  values |= {key: value for key, value, _ in show_config.list_keys(plain)}
  return {
    key: (value, known.get(key))
    for key, value in values.items()
    if not key.startswith("evaluation.shift") and not key.endswith(SECTIONS)
  }


def check_keys(name: str, *overrides: str) -> int:
  """Sets all keys of a config by flags; returns how many there are.

  Args:
    name: of a shipped config.
    *overrides: needed to parse it.
  """
  keys = list_keys(cli.read_config(name, overrides))
  wanted = {key: find_other(key, *found) for key, found in keys.items()}
  alone = {k: wanted.pop(k) for k in tuple(wanted) if k in ALONE}
  for values in (wanted, *({key: value} for key, value in alone.items())):
    # Any of the sets may not be a base set.
    flags = [*overrides, "evaluation.shift={}"]
    flags += [f"{key}={value}" for key, value in values.items()]
    settings = config_lib.parse(cli.read_config(name, flags))
    for key, value in values.items():
      found = find_parsed(settings, key)
      assert found == value and type(found) is type(value), key
  return len(keys)


@pytest.mark.parametrize("name", RUNS)
def test_every_key_of_a_shipped_config(name):
  needed = ["schedule.peak=0.5"] if name == "evaluate" else []
  assert check_keys(name, *needed) > 80


@pytest.mark.parametrize(("section", "name"), BUILDERS)
def test_every_key_of_a_builder(section, name):
  needed = [f"{section}.name={name}", "schedule.peak=0.5"]
  assert check_keys("tiny", *needed) > 80


def test_every_key_of_the_benchmark_config():
  plain = config_utils.to_dict(cli.read_config("bench"))
  keys = show_config.list_keys(plain)
  assert len(keys) > 20
  wanted = {key: find_other(key, value, None) for key, value, _ in keys}
  flags = [f"{key}={value}" for key, value in wanted.items()]
  found = cli.read_config("bench", flags)
  assert config_utils.flatten(found.to_dict()).items() >= wanted.items()


def parse(*overrides):
  return config_lib.parse(cli.read_config("tiny", overrides))


def test_a_new_set_has_what_flags_and_the_data_section_say():
  key = "evaluation.sets.clean"
  settings = parse(
    f"{key}.split=train[:8]",
    f"{key}.options.seed=3",
    f"{key}.every=never",
    "data.options.image_size=12",
  )
  found = settings.evaluation.sets["clean"]
  assert (found.name, found.split, found.every) == (
    *("scenes", "train[:8]", "never"),
  )
  assert found.options == {**settings.data.options, "seed": 3}
  assert found.options["image_size"] == 12
  assert set(settings.evaluation.sets) == {"val", "v2", "clean"}


def test_options_of_another_data_set_are_its_own():
  key = "evaluation.sets.other"
  sets = parse(
    f"{key}.split=test",
    f"{key}.name=cifar10",
    f"{key}.options={{'version': '3.0.2'}}",
  ).evaluation.sets
  assert sets["other"].options == {"version": "3.0.2"}


def test_an_empty_text_removes_a_set():
  texts = [f"evaluation.sets.{alias}=" for alias in ("a", "v2", "real")]
  config = cli.read_config("imagenet_fake", texts)
  found = config_lib.parse(config).evaluation
  assert "a" not in found.sets and len(found.sets) == 6
  assert found.shift.sets == ("v2_threshold", "v2_top", "r")
  # It is the same config once more: of config.json, and of a sweep's points.
  plain = config_utils.to_dict(config)
  assert config_lib.parse(plain).evaluation == found
  texts = [f"evaluation.sets.{a}=" for a in ("v2", "v2_threshold", "v2_top")]
  texts += [f"evaluation.sets.{alias}=" for alias in ("a", "r")]
  found = config_lib.parse(cli.read_config("imagenet_fake", texts))
  assert found.evaluation.shift is None
  # One that a file removed can be given again.
  config.unlock()
  config_lib.extend(config, {"evaluation.sets.a.split": "test"})
  assert list(config.evaluation.sets.a) == ["split"]


@pytest.mark.parametrize(
  ("name", "alias", "setting"),
  [
    ("imagenet_fake", "val", "evaluation.shift.base"),
    ("tiny", "val", "checkpoint.best"),
    ("tiny", "absent", "--config.evaluation.sets.absent"),
  ],
)
def test_a_set_that_is_needed_or_absent_is_not_removed(name, alias, setting):
  with pytest.raises(errors.InputError, check=raising.about(setting)):
    config_lib.parse(cli.read_config(name, [f"evaluation.sets.{alias}="]))


@pytest.mark.parametrize(
  "key",
  [
    "evaluation.sets.new.every",  # Without a split it is no set.
    "evaluation.sets.v2.evry",
    "evaluation.sets.v2-b.split",
    "evaluation.class_masks.one-two",
    "evaluation.class_mask.pets",
    "evaluation.warnings.recal_gap",
    "input.sise",
    "zzz.zzz",
  ],
)
def test_unknown_keys_name_at_most_five(key):
  about = raising.about(f"--config.{key}", given="1")
  with pytest.raises(errors.InputError, check=about) as caught:
    # Keys that only flags add are not those to blame.
    parse(
      "evaluation.class_masks.pets=F", "evaluation.sets.b.split=v2", f"{key}=1"
    )
  fix = caught.value.fix
  near = [word for word in fix.rstrip("?").split() if "." in word]
  assert len(near) <= 5 and (near or not fix or "imgbench config" in fix)


def test_a_class_mask_is_a_file():
  key = "evaluation.class_masks.pets"
  assert parse(f"{key}=pets.txt").evaluation.class_masks == {"pets": "pets.txt"}


def test_values_of_a_file_get_the_types_of_their_keys(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "from imgbench.configs import tiny\n"
    "def get_config():\n  config = tiny.get_config()\n"
    "  config.ema = dict(decay=0)\n  config.model.widths = [8]\n"
    "  config.evaluation.sets.val.probabilities = None\n  return config\n"
  )
  texts = [
    *("ema.decay=0.5", "model.widths=(4, 8)"),
    "evaluation.sets.val.probabilities=true",
    "evaluation.sets.v2.probabilities=None",
  ]
  settings = config_lib.parse(cli.read_config(str(path), texts))
  assert settings.recipe.ema.decay == 0.5
  assert settings.recipe.model.settings["widths"] == (4, 8)
  sets = settings.evaluation.sets
  assert (sets["val"].probabilities, sets["v2"].probabilities) == (True, None)


@pytest.fixture
def warnings(monkeypatch):
  """Returns the warnings that reading configs logs."""
  logged = []
  config_lib._warn.cache_clear()
  monkeypatch.setattr(
    config_lib.logging,
    "warning",
    lambda text, *args: logged.append(text % args),
  )
  return logged


def test_another_optimizer_warns_of_inherited_values_once(warnings):
  for _ in range(2):
    parse("optim.name=sgd", "optim.momentum=0.5")
  (text,) = warnings
  kept = ("schedule.peak=0.01", "schedule.warmup=2 steps")
  assert all(f"{value}" in text for value in (*kept, "optim.weight_decay=0.05"))
  assert "adamw" in text and "momentum" not in text


@pytest.mark.parametrize(
  "texts",
  [("optim.name=sgd", "schedule.peak=0.1"), ("optim.name=adamw",), ("seed=1",)],
)
def test_a_chosen_learning_rate_is_no_warning(warnings, texts):
  parse(*texts)
  assert not warnings
