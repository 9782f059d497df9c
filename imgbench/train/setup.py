"""From a config to the parts of a run; everything is checked here first."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses

from absl import logging
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from imgbench import config_utils
from imgbench import data
from imgbench import errors
from imgbench import models
from imgbench import optim
from imgbench import parallel
from imgbench import registry
from imgbench.data import device
from imgbench.data import order
from imgbench.data import preprocess
from imgbench.data import source
from imgbench.evaluators import base as evaluators_base
from imgbench.metrics import diagnostics
from imgbench.metrics import multilabel
from imgbench.models import base as models_base
from imgbench.train import evaluation
from imgbench.train import state as state_lib
from imgbench.train import step as step_lib

# Section -> its keys; None: no section, or checked by what it is given to.
SECTIONS = {
  "seed": None,
  "global_batch_size": None,
  "data": ("name", "train_split", "data_dir", "options"),
  "model": None,
  "augment": None,
  "loss": ("label_smoothing",),
  "optim": None,
  "schedule": None,
  "steps": ("total", "per_dispatch"),
  "logging": ("every", "tensorboard", "report"),
  "evaluation": evaluation.KEYS,
  "checkpoint": ("every", "keep", "best", "asynchronous"),
  "parallel": None,
}
# What a best checkpoint can be chosen by: higher is better.
BEST_METRICS = (
  "top1_accuracy",
  "top5_accuracy",
  "macro_recall",
  "macro_f1",
  *(f"multilabel_accuracy.{name}" for name in multilabel.DEFINITIONS),
)
# Patches of this many training images set what a model takes from data.
PREPARE_EXAMPLES = 5000
STEPS_PER_DISPATCH = 16


@dataclasses.dataclass(frozen=True)
class Periods:
  """Durations of the config as steps; 0 is never."""

  total: int
  logging: int
  checkpoint: int
  evaluation: Mapping[str, int]  # by alias


@dataclasses.dataclass(frozen=True)
class Parts:
  """What the loop needs; see `build`.

  Attributes:
    strategy: devices and shardings.
    info: of the training split.
    train_ids: str [N], image ids of the training split.
    order: of the training examples.
    train_data: the training split on the devices.
    state: at step 0, on the devices.
    num_params: numbers that are trained.
    sample: (images uint8 [N, H, W, C], index int32 [B], epoch int32 [B], key)
      -> augmented, normalised images [B, H, W, C].
    train_step: see `step.build_train_step`.
    device_step: see `step.build_device_step`.
    steps_per_dispatch: at least 1.
    schedule: learning rate by steps done.
    evaluators: by alias, in the order of the config.
    thresholds: of the warnings.
    periods: when what is due.
    global_batch_size: B.
  """

  strategy: parallel.JitStrategy
  info: source.Info
  train_ids: np.ndarray
  order: order.ExampleOrder
  train_data: device.DeviceExamples
  state: state_lib.TrainState
  num_params: int
  sample: Callable
  train_step: step_lib.TrainStep
  device_step: Callable
  steps_per_dispatch: int
  schedule: optax.Schedule
  evaluators: Mapping[str, evaluators_base.Evaluator]
  thresholds: diagnostics.Thresholds
  periods: Periods
  global_batch_size: int


def build(config: ml_collections.ConfigDict) -> Parts:
  """Returns the parts of a run at step 0.

  Cheap checks come first, then the data, then the devices' work.

  Args:
    config: as `configs.common.base_config`, filled.

  Raises:
    InputError: whatever in the config or the data does not fit.
  """
  config_utils.check_sections(config, SECTIONS)
  strategy = registry.call(
    "config section parallel",
    parallel.create_strategy,
    **config_utils.arguments(config.parallel),
  )
  strategy.check_batch_size(config.global_batch_size, "global_batch_size")
  _check_values(config)
  train_source = build_source(config.data, split=config.data.train_split)
  info = train_source.info
  periods = _periods(config, info.num_examples)
  schedule, tx = _optimizer(config, info.num_examples, periods.total)
  model = _model(config, info, strategy)
  normalize = _normalizer(config, info, model.dtype)
  sample = _sampler(config, info, normalize)
  thresholds = evaluation.thresholds(config)
  evaluation_plan = evaluation.plan(config, info, build_source)

  examples = load(train_source)
  train_data = strategy.replicate(device.from_examples(examples))
  init_key, step_key = jax.random.split(jax.random.key(config.seed))
  state = strategy.jit(
    lambda key: state_lib.TrainState.create(model.init(key), tx)
  )(init_key)
  if model.prepare is not None:
    images = normalize(train_data.image[:PREPARE_EXAMPLES])
    variables = strategy.jit(model.prepare)(state.variables, images)
    state = strategy.replicate(state_lib.TrainState.create(variables, tx))
  train_step = step_lib.build_train_step(
    model, tx, label_smoothing=config.loss.label_smoothing
  )
  return Parts(
    strategy=strategy,
    info=info,
    train_ids=examples.image_id,
    order=order.ExampleOrder(info.num_examples, config.seed),
    train_data=train_data,
    state=state,
    num_params=models_base.num_params(state.variables),
    sample=sample,
    train_step=train_step,
    device_step=step_lib.build_device_step(train_step, sample, step_key),
    steps_per_dispatch=_steps_per_dispatch(config, strategy),
    schedule=schedule,
    evaluators=evaluation.build(
      evaluation_plan, config, strategy, model.apply, normalize, load
    ),
    thresholds=thresholds,
    periods=periods,
    global_batch_size=config.global_batch_size,
  )


def load(split: source.Source) -> source.Examples:
  """Returns all examples of a split, and says so in the log."""
  info = split.info
  logging.info("reading %s: %d examples", info.key, info.num_examples)
  return split.load()


def _check_values(config) -> None:
  smoothing = config.loss.label_smoothing
  if not 0 <= smoothing < 1:
    raise errors.InputError(
      f"loss.label_smoothing: expected a number in [0, 1), got {smoothing}"
    )
  if config.checkpoint.keep < 1:
    raise errors.InputError(
      f"checkpoint.keep: expected >= 1, got {config.checkpoint.keep}"
    )
  best = config.checkpoint.best
  alias, _, metric = best.partition("/")
  if best and (
    alias not in config.evaluation.sets or metric not in BEST_METRICS
  ):
    raise errors.InputError(
      "checkpoint.best: expected a metric of one of the evaluation sets"
      f" ({', '.join(config.evaluation.sets) or 'none'}), such as"
      f" val/top1_accuracy (also {', '.join(BEST_METRICS[1:])}), got {best!r}"
    )


def build_source(section, split: str) -> source.Source:
  """Returns the split that a data section describes."""
  return data.build_source(
    section.name,
    split,
    section.data_dir,
    **config_utils.arguments(section.options),
  )


def _periods(config, num_examples: int) -> Periods:
  batch = config.global_batch_size
  calendar = config_utils.Durations(num_examples, batch)
  total = calendar.steps(config.steps.total, "steps.total")
  if total < 1:
    raise errors.InputError(
      f"steps.total: expected at least one step, got {config.steps.total!r}"
    )
  calendar = config_utils.Durations(num_examples, batch, total)
  every = lambda text, key: calendar.steps(text, key)
  return Periods(
    total=total,
    logging=every(config.logging.every, "logging.every"),
    checkpoint=every(config.checkpoint.every, "checkpoint.every"),
    evaluation={
      alias: every(
        entry.get("every", config.evaluation.every),
        f"evaluation.sets.{alias}.every",
      )
      for alias, entry in config.evaluation.sets.items()
    },
  )


def _optimizer(config, num_examples: int, total_steps: int):
  section = config_utils.arguments(config.schedule)
  calendar = config_utils.Durations(
    num_examples, config.global_batch_size, total_steps
  )
  if "warmup" in section:
    section["warmup_steps"] = calendar.steps(
      section.pop("warmup"), "schedule.warmup"
    )
  with config_utils.errors_name("schedule"):
    schedule = optim.build_schedule(total_steps=total_steps, **section)
  with config_utils.errors_name("optim"):
    tx = optim.build_optimizer(
      schedule=schedule, **config_utils.arguments(config.optim)
    )
  return schedule, tx


def _model(config, info, strategy) -> models_base.Model:
  section = config_utils.arguments(config.model)
  dtypes = {
    "auto": jnp.float32 if strategy.platform == "cpu" else jnp.bfloat16,
    "float32": jnp.float32,
    "bfloat16": jnp.bfloat16,
  }
  name = section.pop("dtype")
  if name not in dtypes:
    raise errors.InputError(
      f"model.dtype: expected one of {sorted(dtypes)}, got {name!r}"
    )
  with config_utils.errors_name("model"):
    return models.build_model(
      num_classes=info.num_classes,
      image_shape=info.image_shape,
      dtype=dtypes[name],
      **section,
    )


def _normalizer(config, info, dtype):
  mean, std = tuple(config.augment.mean), tuple(config.augment.std)
  channels = info.image_shape[-1]
  if len(mean) != channels or len(std) != channels or min(std) <= 0:
    raise errors.InputError(
      f"augment.mean and augment.std: expected {channels} numbers each, std"
      f" above 0, got {mean} and {std}"
    )
  return lambda images: preprocess.normalize(images, mean, std, dtype)


def _sampler(config, info, normalize):
  section = config_utils.arguments(config.augment)
  settings = {k: v for k, v in section.items() if k not in ("mean", "std")}

  def sample(images, index, epoch, key):
    drawn = registry.call(
      "augment",
      preprocess.sample,
      images=images,
      index=index,
      epoch=epoch,
      step_key=key,
      **settings,
    )
    return normalize(drawn)

  numbers = jax.ShapeDtypeStruct((config.global_batch_size,), jnp.int32)
  images = jax.ShapeDtypeStruct(
    (info.num_examples, *info.image_shape), jnp.uint8
  )
  with config_utils.errors_name("augment"):
    jax.eval_shape(sample, images, numbers, numbers, jax.random.key(0))
  return sample


def _steps_per_dispatch(config, strategy) -> int:
  wanted = config.steps.per_dispatch
  if wanted < 0:
    raise errors.InputError(
      f"steps.per_dispatch: expected 0 (choose) or more, got {wanted}"
    )
  if wanted:
    return wanted
  # Gradients of convolutions inside a scan are 30 times slower on XLA:CPU.
  return 1 if strategy.platform == "cpu" else STEPS_PER_DISPATCH
