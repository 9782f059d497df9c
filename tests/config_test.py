"""Tests of the config: what flags may set, and what old runs count as equal."""

import json

from absl import flags
import pytest

from imgbench import cli
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import typed
from imgbench.configs import tiny
from imgbench.parallel import determinism
from tests import raising
from tests.train import processes

TINY = "configs/tiny.py"


def read(*overrides):
  return cli.read_config(TINY, overrides)


def test_sections_have_the_values_of_the_config():
  settings = config_lib.parse(tiny.get_config())
  assert settings.recipe.model == config_lib.ModelSection(
    name="cnn", dtype="float32", settings={"widths": (8,), "stem_size": 3}
  )
  assert settings.recipe.schedule.warmup == "2 steps"
  assert settings.steps == config_lib.StepsSection(
    total="16 steps", per_dispatch=0
  )
  val = settings.evaluation.sets["val"]
  assert (val.name, val.every, val.type) == ("scenes", "8 steps", "multilabel")
  assert val.options == settings.data.options


@pytest.mark.parametrize(
  ("override", "value"),
  [
    ("optim.b1=0.8", 0.8),
    ("optim.clip_norm=1", 1.0),
    ("optim.independent_decay=true", True),
    ("model.stem_stride=2", 2),
    ("schedule.end=0.1", 0.1),
    ("augment.cutout_value=0", 0),
    ("data.options.seed=3", 3),
    ("evaluation.warnings.recall_gap=0.5", 0.5),
    ("evaluation.sets.v2.restrict_classes=true", True),
    ("evaluation.sets.val.every=4 steps", "4 steps"),
    ("evaluation.shift.base=val", "val"),
    ("evaluation.sets.v2.data_dir=there", "there"),
    ("evaluation.shift.sets=('v2',)", ("v2",)),
    ("logging.writers=('tensorboard',)", ("tensorboard",)),
  ],
)
def test_flags_set_keys_that_the_file_lacks(override, value):
  config = read(override)
  key = override.partition("=")[0]
  flat = config_utils.flatten(config.to_dict())
  assert flat[key] == value and type(flat[key]) is type(value)
  plain = config_utils.flatten(config_utils.to_dict(tiny.get_config()))
  assert flat.keys() - plain.keys() <= {key}
  assert config.is_locked


def test_options_of_a_prepared_set_can_be_given():
  config = read("data.name=cifar10", "data.options.version=3.0.2")
  assert config.data.options.version == "3.0.2"


def test_a_whole_section_can_be_given():
  assert read("data.options={'seed': 3}").data.options.to_dict() == {"seed": 3}


def test_another_optimizer_takes_its_own_settings():
  config = read(
    "optim.name=sgd", "optim.momentum=0.5", "optim.weight_decay=0.1"
  )
  assert config.optim.to_dict() == {
    "name": "sgd",
    "momentum": 0.5,
    "weight_decay": 0.1,
  }
  assert config_lib.parse(config).recipe.optim.settings["momentum"] == 0.5


@pytest.mark.parametrize(
  ("name", "setting", "text", "value"),
  [
    ("optax.lion", "b1", "1", 1.0),
    ("optax.sgd", "momentum", "0.5", 0.5),
    ("optax.adam", "mu_dtype", "bfloat16", "bfloat16"),
    ("optax.contrib.muon", "ns_steps", "3", 3),
  ],
)
def test_flags_set_keywords_of_optax(name, setting, text, value):
  config = read(f"optim.name={name}", f"optim.{setting}={text}")
  found = config_lib.parse(config).recipe.optim
  assert found.name == name and found.settings[setting] == value
  assert type(found.settings[setting]) is type(value)


def test_flags_without_a_value_and_from_files(tmp_path):
  file = tmp_path / "flags"
  file.write_text("--config.optim.clip_norm=2.0\n")
  values = flags.FlagValues()
  argv = ["", f"--config={TINY}", f"--flagfile={file}"]
  argv = cli.read_flag_files([*argv, "--noconfig.optim.independent_decay"])
  cli.define_config_flag(values, argv)
  values(argv)
  assert values.config.optim.clip_norm == 2.0
  assert values.config.optim.independent_decay is False


def test_an_override_needs_a_value():
  with pytest.raises(errors.InputError, check=raising.about("override")):
    read("optim.b1")


def test_the_wrong_value_is_named_beside_another_optimizer():
  about = raising.about("--config.seed", given="x")
  with pytest.raises(errors.InputError, check=about):
    read("optim.name=sgd", "optim.momentum=0.9", "seed=x")


def test_another_model_leaves_out_settings_that_it_does_not_take():
  config = read("model.name=resnet18")
  assert config.model.to_dict() == {"name": "resnet18", "dtype": "float32"}


@pytest.mark.parametrize(
  ("override", "near"),
  [("optim.b3=0.8", "optim.b1"), ("model.widht=2", "model.widths")],
)
def test_unknown_keys_get_near_names(override, near):
  key, _, value = override.partition("=")
  about = raising.about(f"--config.{key}", given=value)
  with pytest.raises(errors.InputError, check=about) as raised:
    read(override)
  assert near in raised.value.fix


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("steps.total", 16),
    ("logging.report", "yes"),
    ("checkpoint.keep", 0),
    ("parallel.devices", 1.5),
    ("ema.decay", "much"),
    ("evaluation.sets.val.probabilities", 1),
    ("evaluation.sets.val", None),
    ("evaluation.sets", None),
    ("evaluation.batch_size", 0),
    ("model", None),
    ("deterministic", 1),
  ],
)
def test_values_of_another_type_are_refused(key, value):
  plain = config_utils.to_dict(tiny.get_config())
  section = plain
  *path, name = key.split(".")
  for part in path:
    section = section[part]
  section[name] = value
  with pytest.raises(errors.InputError, check=raising.about(key)) as raised:
    config_lib.parse(plain)
  assert str(value) in str(raised.value.given)


@pytest.mark.parametrize(
  "key", ["seed", "deterministic", "evaluation.sets", "steps.total"]
)
def test_missing_keys_are_refused(key):
  plain = config_utils.to_dict(tiny.get_config())
  section, _, name = key.rpartition(".")
  del (plain[section] if section else plain)[name]
  with pytest.raises(errors.InputError, check=raising.about(key)):
    config_lib.parse(plain)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63])
def test_fault_04_seeds_that_share_keys_are_refused(seed):
  config = tiny.get_config()
  config.seed = seed
  about = raising.about("seed", given=seed)
  with pytest.raises(errors.InputError, check=about):
    config_lib.parse(config)


def test_fault_04_the_largest_seed_is_taken():
  config = tiny.get_config()
  config.seed = 2**32 - 1
  assert config_lib.parse(config).recipe.seed == 2**32 - 1


def test_settings_is_no_key():
  config = tiny.get_config()
  config.augment.settings = dict(pad=1)
  parsed = config_lib.parse(config).recipe.augment
  assert "settings" in parsed.settings  # Which its function refuses.


def test_absent_keys_count_as_their_defaults():
  old = json.loads(json.dumps(config_utils.to_dict(tiny.get_config())))
  same = json.loads(json.dumps(old))
  same["optim"]["b1"] = 0.9
  same["model"]["stem_stride"] = config_lib.find_defaults(old)[
    "model.stem_stride"
  ]
  del same["loss"]["name"]
  compare = config_utils.frozen_differences
  assert compare(old, same, config_lib.find_defaults) == []
  same["optim"]["b1"] = 0.8
  found = compare(old, same, config_lib.find_defaults)
  assert len(found) == 1 and found[0].startswith("optim.b1: 0.9")


def test_fault_04_a_config_without_the_section_has_the_defaults():
  config = tiny.get_config()
  del config.prng
  recipe = config_lib.parse(config).recipe
  assert recipe == config_lib.parse(tiny.get_config()).recipe
  assert recipe.prng == determinism.Prng("threefry2x32", True)
  config_lib.extend(config, {"prng.impl": "rbg"})
  config.prng.impl = "rbg"
  assert config_lib.parse(config).recipe.prng == determinism.Prng("rbg", True)


@pytest.mark.parametrize(
  ("key", "value"), [("prng.impl", "threefry"), ("prng.partitionable", 1)]
)
def test_fault_04_unknown_keys_are_refused(key, value):
  config = tiny.get_config()
  config.prng = {key.partition(".")[2]: value}
  about = raising.about(key, given=typed.show(value))
  with pytest.raises(errors.InputError, check=about):
    config_lib.parse(config)


def test_fault_04_the_defaults_are_those_of_jax():
  program = (
    "import jax; print(jax.config.jax_default_prng_impl,"
    " jax.config.jax_threefry_partitionable)"
  )
  assert processes.run_python("-c", program).stdout.split() == [
    determinism.Prng.impl,
    str(determinism.Prng.partitionable),
  ]


@pytest.mark.parametrize(
  ("key", "text"),
  [
    ("optim.weight_decay", "inf"),
    ("optim.weight_decay", "nan"),
    ("schedule.peak", "-inf"),
    ("augment.mean", "(0.5, 1e999, 0.5)"),
    ("evaluation.alpha", "nan"),
    ("ema.decay", "nan"),
  ],
)
def test_fault_17_numbers_are_finite(key, text):
  config = read(f"{key}={text}")
  with pytest.raises(errors.InputError, check=raising.about(key)):
    config_lib.parse(config)


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("model.widths", "abc"),
    ("model.widths", (8, "a")),
    ("model.widths", 3),
    ("model.stem_size", 2.5),
    ("model.stem_size", True),
    ("optim.weight_decay", "much"),
    ("schedule.peak", None),
    ("loss.label_smoothing", "0.1"),
    ("augment.pad", 1.5),
  ],
)
def test_fault_17_settings_have_the_types_of_their_builder(key, value):
  config = tiny.get_config()
  section, name = key.split(".")
  with config.ignore_type():
    config[section][name] = value
  with pytest.raises(errors.InputError, check=raising.about(key)):
    config_lib.parse(config)


@pytest.mark.parametrize(
  "key",
  ["steps.total", "schedule.warmup", "evaluation.every", "logging.every"],
)
@pytest.mark.parametrize(
  "text", ["1e18 steps", "1e99 epochs", f"{10**400} steps", "2 weeks"]
)
def test_fault_17_durations_fit(key, text):
  with pytest.raises(errors.InputError, check=raising.about(key)):
    config_lib.parse(read(f"{key}={text}"))


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("global_batch_size", 0),
    ("global_batch_size", 2**31),
    ("evaluation.batch_size", 0),
    ("evaluation.batch_size", 2**31),
    ("steps.per_dispatch", -1),
    ("steps.per_dispatch", 2**31),
    ("model.name", "cnm"),
    ("optim.name", "adamm"),
    ("schedule.name", "cosine"),
    ("loss.name", "hinge"),
  ],
)
def test_fault_19_what_needs_no_data_is_checked_first(key, value):
  with pytest.raises(errors.InputError, check=raising.about(key)):
    config_lib.parse(read(f"{key}={value}"))


def test_fault_19_settings_of_builders_are_checked_first():
  config = tiny.get_config()
  config.optim.momentum = 0.9
  about = raising.about("optim.momentum")
  with pytest.raises(errors.InputError, check=about):
    config_lib.parse(config)
  config = tiny.get_config()
  del config.schedule.peak
  about = raising.about("schedule.peak", given="none")
  with pytest.raises(errors.InputError, check=about):
    config_lib.parse(config)
