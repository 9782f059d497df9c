"""Tests of section init: what a run starts with, what is frozen."""

import json
import shutil

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from imgbench import checkpoints
from imgbench import cli
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import models
from imgbench.configs import tiny
from imgbench.train import freezing
from imgbench.train import loop
from imgbench.train import setup
from imgbench.train import start
from imgbench.weights import maps
from tests import raising
from tests.weights import weights_test

PROBE = ("(?!head/).*",)


def make_config(source, steps=4, **section):
  config = tiny.get_config()
  config.logging.report = False
  config.evaluation.sets = dict(val=dict(split="validation"))
  config.steps.total = f"{steps} steps"
  config.checkpoint.update(every="2 steps", best="")
  config.init = dict(source=str(source), **section)
  return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Returns a run on images of some classes; tests only read it."""
  folder = tmp_path_factory.mktemp("source") / "run"
  config = make_config("")
  config.ema.decay = 0.5
  config.data.options.only = "object"
  loop.train_and_evaluate(config, str(folder))
  return folder


def flatten(variables) -> dict[str, np.ndarray]:
  flat = traverse_util.flatten_dict(variables, sep="/")
  return {name: np.asarray(leaf) for name, leaf in flat.items()}


def read_state(folder, step=None):
  name = f"{folder}@{step}" if step else str(folder)
  _, compute, _ = start.open_run(name, "RUN")
  state, _ = checkpoints.restore_other(name, compute.state_shapes())
  return state


def prepare(config):
  group = loop.processes.ALONE if config.init.source else None
  return setup.prepare(config_lib.parse(config), None, group)


def find_shapes(model: str, classes: int, size=32, **settings):
  built = models.build_model(
    model,
    num_classes=classes,
    image_shape=(size, size, 3),
    dtype=jnp.float32,
    **settings,
  )
  return jax.eval_shape(built.init, jax.random.key(0))


def test_a_run_starts_at_step_0_with_a_fresh_optimizer(trained):
  """From the moving average, also if the other run is finished."""
  config = make_config(trained)
  state = prepare(config).state
  other = read_state(trained)
  assert (int(state.step), int(other.step)) == (0, 4)
  found, wanted = flatten(state.variables), flatten(other.ema)
  assert found.keys() == wanted.keys()
  for name, leaf in found.items():
    np.testing.assert_array_equal(leaf, wanted[name], name)
  for leaf in jax.tree.leaves(state.opt_state):
    assert not np.any(leaf)
  config.init.source = f"{trained}@2"
  at_2 = flatten(prepare(config).state.params)
  earlier = flatten(read_state(trained, 2).ema["params"])
  np.testing.assert_array_equal(at_2["stem/kernel"], earlier["stem/kernel"])
  assert np.any(at_2["stem/kernel"] != found["params/stem/kernel"])


def test_skip_and_map_change_what_is_taken(trained):
  fresh = flatten(prepare(make_config("")).state.params)
  state = prepare(make_config(trained, skip=("head/.*",))).state
  other = flatten(read_state(trained).ema["params"])
  found = flatten(state.params)
  for name, leaf in found.items():
    taken = fresh if name.startswith("head") else other
    np.testing.assert_array_equal(leaf, taken[name], name)
  swap = (("stem/", "trunk/"), ("^trunk/", "stem/"))
  found = flatten(prepare(make_config(trained, map=swap)).state.params)
  np.testing.assert_array_equal(found["stem/kernel"], other["stem/kernel"])


def test_a_killed_run_resumes_bit_equal_without_its_source(trained, tmp_path):
  source = tmp_path / "source"
  shutil.copytree(trained, source)
  config = make_config(source, freeze=("stem/.*",), layer_decay=0.5)
  results = loop.train_and_evaluate(config, str(tmp_path / "whole"))
  last = tmp_path / "whole" / "checkpoints"
  shutil.copytree(tmp_path / "whole", tmp_path / "killed")
  shutil.rmtree(tmp_path / "killed/checkpoints/4")
  for name in ("results.json", "status.json"):
    (tmp_path / "killed" / name).unlink()
  shutil.rmtree(source)
  again = loop.train_and_evaluate(config, str(tmp_path / "killed"))
  assert again == results and last.exists()
  states = [read_state(tmp_path / name) for name in ("whole", "killed")]
  jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.parametrize("freeze", [(), PROBE])
def test_statistics_move_in_fine_tuning_and_not_in_a_probe(
  trained, tmp_path, freeze
):
  config = make_config(trained, freeze=freeze)
  config.optim.weight_decay = 0.5
  loop.train_and_evaluate(config, str(tmp_path))
  before = flatten(read_state(trained).ema)
  after = flatten(read_state(tmp_path).variables)
  moved = {name for name in after if np.any(after[name] != before[name])}
  head = {name for name in after if name.startswith("params/head/")}
  assert moved == (head if freeze else after.keys())
  assert any(name.startswith("batch_stats/") for name in after)


def test_statistics_alone_are_frozen(trained, tmp_path):
  config = make_config(trained, freeze=(".*/mean", ".*/var"))
  loop.train_and_evaluate(config, str(tmp_path))
  before = flatten(read_state(trained).ema)
  after = flatten(read_state(tmp_path).variables)
  moved = {name for name in after if np.any(after[name] != before[name])}
  assert moved == {name for name in after if name.startswith("params/")}


def test_a_run_with_its_export_in_it_is_a_run(trained, tmp_path):
  shutil.copytree(trained, tmp_path / "run")
  (tmp_path / "run" / "model.safetensors").write_bytes(b"")
  found = prepare(make_config(tmp_path / "run")).state.params
  wanted = read_state(trained).ema["params"]
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_kept_head_of_other_classes_is_named(trained, monkeypatch):
  training = prepare(make_config("")).training
  shapes = training.compute.state_shapes().variables
  classes = training.info.class_names
  said = []
  warn = lambda text, *rest: said.extend(text if "head" in text else ())
  monkeypatch.setattr(start.logging, "warning", warn)
  for skip, given, expected in (
    ((), classes, False),
    (("head/.*",), classes[::-1], False),
    ((), classes[::-1], True),
  ):
    recipe = config_lib.parse(make_config(trained, skip=skip)).recipe
    start.read(recipe, shapes, classes=given)
    assert bool(said) == expected


def test_a_probe_sees_the_features_of_an_evaluation(trained):
  """The loss of the first step is that of the model in inference."""
  config = make_config(trained, freeze=PROBE)
  compute = prepare(config).training.compute
  variables = read_state(trained).ema
  images = jax.random.normal(jax.random.key(1), (6, 16, 16, 3))
  logits = [compute.model.apply(variables, images, t)[0] for t in (True, False)]
  np.testing.assert_array_equal(*logits)


def test_layers_of_models_in_order():
  factors = freezing.find_factors(
    find_shapes("vit_ti16", 10, posemb="learn"), (), 0.5
  )
  expected = {"patches": 13, "posemb": 13, "block1": 12, "block10": 3}
  expected |= {"block12": 1, "norm": 0, "head": 0}
  for module, power in expected.items():
    values = jax.tree.leaves(factors[module])
    assert set(values) == {0.5**power}, module
  factors = freezing.find_factors(
    find_shapes("convnext_t", 10), ("stem.*",), 0.5
  )
  assert set(jax.tree.leaves(factors["stem"])) == {0.0}
  # What begins a stage is part of its first block: 18 blocks, one number each.
  names = ["stage1_block3", "stage2_patches", "stage2_block1", "stage2_block2"]
  found = [jax.tree.leaves(factors[name])[0] for name in names]
  assert found == [0.5**16, 0.5**15, 0.5**15, 0.5**14]


def test_the_state_of_a_scaled_optimizer_is_that_of_the_optimizer():
  params = {"a": jnp.ones(2), "head": jnp.ones(2)}
  tx = optax.sgd(1.0, momentum=0.5)
  scaled = freezing.scale(tx, {"a": 0.25, "head": 0.0})
  for _ in range(2):
    plain, state = tx.update(params, tx.init(params), params)
    found, other = scaled.update(params, scaled.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, state, other)
  np.testing.assert_array_equal(found["a"], 0.25 * plain["a"])
  assert not found["head"].any()


def read_file(path, model, shapes, **settings):
  section = {
    key: settings.pop(key) for key in ("skip", "map") if key in settings
  }
  config = make_config(path, **section)
  config.model = dict(name=model, dtype="float32", **settings)
  recipe = config_lib.parse(config).recipe
  return start.read(recipe, shapes)


def test_a_file_with_another_head_and_image_size(tmp_path):
  """A ViT of timm's names: 5 classes, 16 patches and the class token."""
  variables, arrays = weights_test.make_arrays("timm_vit")
  path = tmp_path / "vit.npz"
  np.savez(path, **{f"trunk.{k}": a for k, a in arrays.items()})
  settings = maps.MAPS["timm_vit"].settings | weights_test.SMALL
  settings |= {"num_heads": 2, "map": (("^trunk\\.", ""),)}
  own = {k: v for k, v in settings.items() if k != "map"}
  shapes = find_shapes("vit_ti16", 7, size=96, **own)
  found = read_file(path, "vit_ti16", shapes, **settings)
  old = flatten(variables)
  assert not any(name.startswith("params/head/") for name in found)
  assert found["params/posemb"].shape == (1, 37, 16)
  np.testing.assert_array_equal(
    found["params/posemb"][:, 0], old["params/posemb"][:, 0]
  )
  for name in found.keys() - {"params/posemb"}:
    np.testing.assert_array_equal(found[name], old[name], name)
  # Of equal sizes, all of it is as it was.
  shapes = find_shapes("vit_ti16", 5, size=64, **own)
  found = read_file(path, "vit_ti16", shapes, **settings)
  jax.tree.map(np.testing.assert_array_equal, found, old)
  # Other settings of the model would give other logits.
  with pytest.raises(errors.InputError) as caught:
    read_file(path, "vit_ti16", shapes, **settings | {"activation": "gelu"})
  assert caught.value.setting == "init.source: model"
  assert caught.value.given == "activation=gelu"


@pytest.mark.parametrize("section", ["big_vision_map", "big_vision_gap"])
def test_a_big_vision_file_is_used_whole(tmp_path, section):
  arrays = weights_test.make_big_vision(16, 2, 2, section)
  np.savez(tmp_path / "vit.npz", **arrays)
  settings = maps.MAPS[section].settings | weights_test.SMALL
  settings |= {"num_heads": 2}
  shapes = find_shapes("vit_ti16", 5, size=64, **settings)
  found = read_file(tmp_path / "vit.npz", "vit_ti16", shapes, **settings)
  assert found.keys() == flatten(jax.tree.map(lambda x: 0, shapes)).keys()
  total = sum(array.size for array in arrays.values())
  assert sum(leaf.size for leaf in found.values()) == total


def test_positions_keep_constants_and_follow_a_ramp():
  flat = np.full((1, 17, 3), 0.3, np.float32)
  np.testing.assert_allclose(start.resample(flat, 50, 1), 0.3, rtol=1e-6)
  assert start.resample(flat, 17, 1) is flat and start.resample(flat, 7) is flat
  ramp = np.repeat(np.arange(8.0)[:, None], 8, axis=1).reshape(1, 64, 1)
  found = start.resample(ramp.astype(np.float32), 256).reshape(16, 16)
  np.testing.assert_allclose(found, found[:, :1].repeat(16, axis=1), atol=1e-5)
  inner = np.arange(16) / 2 - 0.25
  np.testing.assert_allclose(found[4:-4, 0], inner[4:-4], atol=1e-4)


@pytest.mark.parametrize(
  ("change", "setting"),
  [
    ({"source": "{run}@3"}, "init.source"),
    ({"source": "{tmp}"}, "init.source"),
    ({"source": "{tmp}/absent.pth"}, "init.source"),
    ({"source": "{tmp}/cut.npz"}, "init.source: {tmp}/cut.npz"),
    ({"source": "{tmp}/resnet.npz"}, "init.source: weights"),
    ({"map": (("^stem", "trunk"),)}, "init.source: weights"),
    ({"skip": ("haed/.*",)}, "init.skip"),
    ({"freeze": ("haed/.*",)}, "init.freeze"),
    ({"freeze": (".*",)}, "init.freeze"),
    ({"freeze": ("(",)}, "init.skip, map, freeze"),
    ({"map": (("a",),)}, "init.skip, map, freeze"),
    ({"map": (("a", "\\1"),)}, "init.skip, map, freeze"),
    ({"map": (("a", "\\g<b>"),)}, "init.skip, map, freeze"),
    ({"layer_decay": 0.0}, "init.layer_decay"),
    ({"source": "", "train": False}, "init.source"),
    ({"steps": 0}, "steps.total"),
    ({"train": False, "steps": 5}, "steps.total"),
    ({"sorce": "x"}, "init.sorce"),
  ],
)
def test_bad_input_is_one_line_before_data_are_read(
  trained, tmp_path, monkeypatch, change, setting
):
  if setting != "steps.total":  # The other run's step is read last.
    monkeypatch.setattr(setup, "load", None)
  (tmp_path / "cut.npz").write_bytes(b"PK\3\4")
  _, arrays = weights_test.make_arrays("resnet")
  del arrays["fc.weight"]
  np.savez(tmp_path / "resnet.npz", **arrays)
  change = {"source": str(trained), **change}
  change["source"] = change["source"].format(run=trained, tmp=tmp_path)
  config = make_config(**change)
  config.ema.decay = 0.5  # A state like that of the other run.
  if "resnet" in change["source"]:
    config.model = dict(name="resnet50", dtype="float32", width=4)
  about = raising.about(setting.format(tmp=tmp_path))
  with pytest.raises(errors.InputError, check=about) as caught:
    loop.train_and_evaluate(config, str(tmp_path / "new"))
  assert "\n" not in str(caught.value)
  if "resnet" in change["source"]:
    assert caught.value.given.startswith("1 missing: fc.weight")
  if "map" in change and "weights" in setting:
    # Nearest names first.
    assert "params/stem/kernel (did you mean" in caught.value.given


def test_the_old_key_names_the_new_one(trained, tmp_path):
  config = tiny.get_config()
  config.checkpoint.init_from = str(trained)
  with pytest.raises(errors.InputError) as caught:
    config_lib.parse(config)
  assert caught.value.setting == "checkpoint.init_from"
  assert "init.source" in caught.value.fix
  about = raising.about("checkpoint.init_from")
  with pytest.raises(errors.InputError, check=about):
    cli.read_config("tiny", [f"checkpoint.init_from={trained}"])
  config.checkpoint.init_from = ""  # Of an older version, not set.
  assert config_lib.parse(config).recipe.init == config_lib.Init()
  # A run of an older version.
  shutil.copytree(trained, tmp_path / "old")
  path = tmp_path / "old" / "config.json"
  plain = json.loads(path.read_text())
  del plain["init"]
  plain["checkpoint"]["init_from"] = "runs/other"
  path.write_text(json.dumps(plain))
  assert int(read_state(tmp_path / "old").step) == 4
  evaluated = cli.read_config(f"evaluate:from={tmp_path / 'old'}")
  assert not config_lib.parse(evaluated).recipe.init.train


def test_finished_runs_of_older_versions_stay_finished(trained):
  """A run without a start, and one that `imgbench evaluate` wrote."""
  evaluated = cli.read_config(f"evaluate:from={trained}")
  for config in (tiny.get_config(), evaluated):
    new = config_utils.to_dict(config)
    old = {k: v for k, v in new.items() if k != "init"}
    source = new["init"]["source"]
    old["checkpoint"] = {**new["checkpoint"], "init_from": source}
    differ = config_utils.frozen_differences
    assert not differ(old, new, config_lib.find_defaults)
    assert config_utils.hash_dict(old) == config_utils.hash_dict(new)
    other = {**new, "init": {**new["init"], "freeze": ["a"]}}
    assert config_utils.hash_dict(other) != config_utils.hash_dict(new)
    assert differ(old, other, config_lib.find_defaults)
    trains = {**new, "init": {"source": "runs/a"}}
    assert config_utils.hash_dict(trains) != config_utils.hash_dict(new)
    assert differ(old, trains, config_lib.find_defaults)


def make_paired(only: str, seed=0, source=""):
  """Returns a config of images of objects or organisms alone."""
  config = make_config(source, steps=40 if source or seed else 200)
  config.update(seed=seed, global_batch_size=48)
  config.data.options = dict(
    image_size=24,
    train_examples=1200 if seed else 4800,
    validation_examples=2400,
    only=only,
  )
  config.model = dict(name="cnn", dtype="float32", widths=(16, 32), stem_size=3)
  config.schedule.warmup = "5 steps"
  config.evaluation.batch_size = 400
  config.evaluation.every = config.checkpoint.every = "never"
  if source:
    config.init.skip = ("head/.*",)
  return config


@pytest.mark.slow
def test_fine_tuning_beats_training_from_scratch(tmp_path):
  """From a run on objects to organisms; docs/weights.md has the numbers."""
  source = tmp_path / "source"
  loop.train_and_evaluate(make_paired("object"), str(source))
  found = []
  for seed in range(1, 6):
    pair = []
    for name, start_from in (("scratch", ""), ("tuned", source)):
      config = make_paired("organism", seed, str(start_from))
      results = loop.train_and_evaluate(config, str(tmp_path / f"{name}{seed}"))
      pair.append(results["scenes:validation/all/top1_accuracy"]["value"])
    found.append(pair)
  scratch, tuned = np.array(found).T
  gains = tuned - scratch
  half = scipy.stats.t.ppf(0.975, 4) * gains.std(ddof=1) / 5**0.5
  print(scratch.mean(), tuned.mean(), gains, gains.mean(), half)
  assert gains.mean() - half > 0
