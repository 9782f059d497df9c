"""Plug-ins: where they are found, what they may do, and their errors."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imgbench import checkpoints
from imgbench import cli
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import losses
from imgbench import models
from imgbench import parallel
from imgbench import plugins
from imgbench import writers
from imgbench.bench import points as bench_points
from imgbench.bench import worker
from imgbench.configs import tiny
from imgbench.launch import points
from imgbench.models import base
from imgbench.train import loop
from imgbench.train import setup
from imgbench.train import state as state_lib
from imgbench.train import step as step_lib
from tests import plugin_files
from tests import raising
from tests.launch import sweeps
from tests.train import processes


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The current folder, with the plug-in `stateful`."""
  plugin_files.isolate(monkeypatch, "stateful", "broken")
  monkeypatch.chdir(tmp_path)
  return plugin_files.write(tmp_path, {"stateful": plugin_files.STATEFUL})


def read(*overrides):
  return cli.read_config("tiny", ["plugins=stateful", *overrides])


def test_what_a_plugin_registers_is_known_to_flags(folder):
  config = read("model.name=stateful", "model.width=3")
  settings = config_lib.parse(config)
  assert settings.plugins == ("stateful",)
  assert settings.recipe.model.settings == {"width": 3}
  about = raising.about("--config.model.depth")
  with pytest.raises(errors.InputError, check=about) as raised:
    read("model.name=stateful", "model.depth=3")
  assert "model.width" not in tiny.get_config().to_dict()
  assert raised.value.fix


def test_modules_are_imported_once_and_listed(folder):
  plugins.load(["stateful,stateful", "stateful"])
  plugins.load(("stateful",), [str(folder / "more")])
  loaded = plugins.list_loaded()
  assert loaded == [{"names": ["stateful"], "folders": [str(folder)]}]
  handler = worker.refuse_bad_input(lambda request: list(models.BUILDERS))
  assert "stateful" in handler({"plugins": loaded})


def test_a_module_above_the_config_file_is_found(folder, monkeypatch):
  other = folder / "elsewhere"
  other.mkdir()
  monkeypatch.chdir(other)
  path = sweeps.config_file(folder, "")
  assert cli.read_config(path, ["plugins=stateful"]).plugins == ("stateful",)


@pytest.mark.parametrize(
  ("code", "fix"),
  [
    (None, "ModuleNotFoundError"),
    ("import absent_library", "ModuleNotFoundError"),
    ("x = 1\nraise KeyError('k')", "line 2"),
    ("x = (", "SyntaxError"),
    ("import sys\nsys.exit(3)", "SystemExit"),
  ],
)
def test_a_module_that_cannot_be_imported_is_named(folder, code, fix):
  if code is not None:
    plugin_files.write(folder, {"broken": code})
  about = raising.about("plugins", given="'broken'")
  with pytest.raises(errors.InputError, check=about) as raised:
    cli.read_config("tiny", ["plugins=broken"])
  assert fix in raised.value.fix
  config = tiny.get_config()
  config.plugins = ("broken",)
  with pytest.raises(errors.InputError, check=about):
    config_lib.parse(config)


@pytest.mark.parametrize("value", ["stateful", 3, None])
def test_plugins_are_a_tuple(value):
  config = config_utils.to_dict(tiny.get_config()) | {"plugins": value}
  with pytest.raises(
    errors.InputError, check=raising.about("plugins", given=repr(value))
  ):
    config_lib.parse(config)


@pytest.mark.parametrize("text", ["two words", "(1,"])
def test_a_flag_that_is_no_tuple_is_named(text):
  about = raising.about("--config.plugins", given=text)
  with pytest.raises(errors.InputError, check=about):
    cli.read_config("tiny", [f"plugins={text}"])


def test_a_config_without_plugins_has_none_and_stays_the_same():
  new = config_utils.to_dict(tiny.get_config())
  assert new.pop("plugins") == []
  with_key = {**new, "plugins": []}
  assert config_lib.parse(new) == config_lib.parse(with_key)
  assert config_utils.hash_dict(new) == config_utils.hash_dict(with_key)
  other = {**new, "plugins": ["stateful"]}
  assert config_utils.hash_dict(new) != config_utils.hash_dict(other)
  assert not config_utils.frozen_differences(new, other)


def test_a_benchmark_takes_a_plugin_and_its_rows_do_not_name_it(folder):
  overrides = ["plugins=stateful", "models=stateful", "frameworks=imgbench"]
  config = cli.read_config("bench", overrides)
  assert bench_points.check(config)["models"] == ["stateful"]
  assert "plugins" not in bench_points.select_method(config)


def test_points_of_a_sweep_are_checked_with_the_plugin(folder):
  sweep = points.build(
    "tiny",
    [{"model.width": 2}, {"model.width": 3}],
    folder / "sweep",
    overrides={"plugins": ("stateful",), "model.name": "stateful"},
  )
  line = " ".join(sweep.command(sweep.units[1]))
  assert "--config.plugins=('stateful',)" in line
  assert "--config.model.width=3" in line


@pytest.mark.parametrize("names", [("absent",), ("jsonl",)])
def test_writers_are_those_of_plugins(names):
  config = tiny.get_config()
  config.logging.writers = names
  about = raising.about("logging.writers", given=repr(names[0]))
  with pytest.raises(errors.InputError, check=about):
    config_lib.parse(config)
  assert set(writers.OWN) <= set(writers.WRITERS)


# State of models.


def take_step(model, strategy, microbatches=1, steps=3, ema_decay=0.0):
  """Returns the state after some steps on images of different brightness."""
  tx = optax.sgd(0.0)
  body = step_lib.build_train_step(
    model,
    tx,
    losses.LOSSES.build("softmax"),
    ema_decay=ema_decay,
    layout=step_lib.StepLayout(strategy.view, microbatches, unrolled=True),
  )
  variables = jax.jit(model.init)(jax.random.key(0))
  state = state_lib.TrainState.create(variables, tx, bool(ema_decay))
  state = strategy.replicate(state)
  compiled = strategy.spread(
    body,
    (parallel.STATE, parallel.BATCH),
    (parallel.STATE, parallel.REPLICATED),
    state=state,
    donate=(0,),
  )
  image = np.broadcast_to(
    np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1), (8, 4, 4, 3)
  )
  batch = {"image": image, "label": np.zeros(8, np.int32)}
  for _ in range(steps):
    state, _ = compiled(state, strategy.shard_batch(batch))
  return jax.device_get(state)


def build_stateful():
  plugins.load(["stateful"])
  return models.build_model(
    "stateful", num_classes=5, image_shape=(4, 4, 3), dtype=jnp.float32
  )


@pytest.mark.parametrize("name", ["jit", "pmap"])
def test_state_of_any_kind_is_trained_on_devices(folder, name):
  strategy = parallel.create_strategy(name, 4)
  state = take_step(build_stateful(), strategy, ema_decay=0.5)
  found = state.model_state
  # Images have a mean of 3.5; half of the rest is added at each step.
  np.testing.assert_allclose(found["means"]["pixel"], 3.5 * 7 / 8, rtol=1e-6)
  assert found["counters"]["steps"] == 3
  assert found["counters"]["steps"].dtype == np.int32
  np.testing.assert_array_equal(found["frozen"]["shift"], np.ones(3))
  assert state.ema["counters"]["steps"] == 3
  assert 0 < state.ema["means"]["pixel"] < found["means"]["pixel"]


def test_a_model_with_other_logits_is_refused(folder, monkeypatch):
  config = read("model.name=stateful")
  other = build_stateful()  # Of five classes.
  monkeypatch.setattr(models, "build_model", lambda *args, **kwargs: other)
  with pytest.raises(errors.InputError, check=raising.about("model.name")):
    loop.train_and_evaluate(config, str(folder / "run"))


def test_state_follows_the_parts_of_a_batch(folder):
  strategy = parallel.create_strategy("jit", 1)
  state = take_step(build_stateful(), strategy, microbatches=2, steps=1)
  assert state.model_state["counters"]["steps"] == 2
  # Means of the halves are 1.5 and 5.5.
  mean = state.model_state["means"]["pixel"]
  assert mean == 0.25 * 1.5 + 0.5 * 5.5


@pytest.mark.parametrize(
  ("update", "setting"),
  [
    (lambda s: {}, "state ['counters']['steps'] after a training step"),
    (
      lambda s: {**s, "more": {"x": jnp.zeros(2)}},
      "state ['more']['x'] after a training step",
    ),
    (
      lambda s: {**s, "means": {"pixel": jnp.int32(1)}},
      "state ['means']['pixel'] after a training step",
    ),
  ],
)
def test_state_of_another_form_is_refused(folder, update, setting):
  model = build_stateful()

  def apply(*args, **kwargs):
    logits, state = model.apply(*args, **kwargs)
    return logits, update(state)

  strategy = parallel.create_strategy("jit", 1)
  with pytest.raises(errors.InputError, check=raising.about(setting)):
    take_step(dataclasses.replace(model, apply=apply), strategy)


def test_a_resumed_run_has_the_state_of_an_unbroken_one(folder):
  config = read("model.name=stateful", "schedule.name=constant")
  with config.unlocked():
    config.ema.decay, config.evaluation.sets = 0.5, {}
    config.checkpoint.best, config.logging.report = "", False

  def train(name, steps):
    config.steps.total = f"{steps} steps"
    loop.train_and_evaluate(config, str(folder / name))

  for name, parts in (("whole", (9,)), ("broken", (6, 9))):
    for steps in parts:
      train(name, steps)
  like = setup.prepare(config_lib.parse(config)).state
  whole, broken = (
    checkpoints.restore_other(str(folder / name), like)[0]
    for name in ("whole", "broken")
  )
  assert broken.model_state["counters"]["steps"] == 9
  jax.tree.map(np.testing.assert_array_equal, whole, broken)
  records = [processes.read_metrics(folder / n) for n in ("whole", "broken")]
  assert records[0] == records[1]


# NNX.


def test_nnx_modules_draw_by_key_and_keep_statistics():
  from flax import nnx

  from imgbench.models import nnx_module

  class Net(nnx.Module):
    def __init__(self, rngs):
      self.norm = nnx.BatchNorm(3, rngs=rngs)
      self.dropout = nnx.Dropout(0.5, rngs=rngs)
      self.heads = nnx.List([nnx.Linear(3, 5, rngs=rngs)])

    def __call__(self, images):
      return self.heads[0](self.dropout(self.norm(images).mean(axis=(1, 2))))

  model = nnx_module.from_nnx(Net, jnp.float32, needs_key=True)
  variables = model.init(jax.random.key(0))
  assert {"kernel", "bias"} == set(variables["params"]["heads"]["0"])
  assert base.num_params(variables) == 2 * 3 + 3 * 5 + 5
  images = jax.random.normal(jax.random.key(1), (4, 2, 2, 3)) + 2
  apply = jax.jit(model.apply, static_argnums=2)
  first, state = apply(variables, images, True, jax.random.key(2))
  again, _ = apply(variables, images, True, jax.random.key(2))
  other, _ = apply(variables, images, True, jax.random.key(3))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 0
  np.testing.assert_allclose(
    state["BatchStat"]["norm"]["mean"],
    0.01 * images.mean(axis=(0, 1, 2)),
    rtol=1e-3,  # Momentum in float32.
  )
  evaluated, same = apply(variables, images, False)
  assert jax.tree.all(
    jax.tree.map(np.array_equal, same, {"BatchStat": variables["BatchStat"]})
  )
  kernel = variables["params"]["heads"]["0"]["kernel"]
  # Statistics at the start: mean 0, variance 1.
  expected = images.mean(axis=(1, 2)) @ kernel
  np.testing.assert_allclose(evaluated, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_sweep_trains_a_model_of_a_plugin(folder):
  config = sweeps.config_file(
    folder, "def get_hyper(hyper):\n  return hyper.sweep('model.width', [2])\n"
  )
  done = sweeps.launch(
    folder / "sweep",
    "--config.plugins=stateful",
    "--config.model.name=stateful",
    "--config.logging.report=False",
    config=config,
  )
  assert done.returncode == 0, done.stderr
  (path,) = (folder / "sweep").glob("*/results.json")
  assert "stateful" not in sys.modules
  assert processes.read_json(path.parent, "config.json")["model"]["width"] == 2
