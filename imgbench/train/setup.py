"""From a config to the parts of a run; everything is checked here first."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools

from absl import logging
import jax
import jax.numpy as jnp
import ml_collections
import optax

from imgbench import config_utils
from imgbench import data
from imgbench import errors
from imgbench import losses
from imgbench import models
from imgbench import optim
from imgbench import parallel
from imgbench import registry
from imgbench.data import device
from imgbench.data import mixing
from imgbench.data import order
from imgbench.data import preprocess
from imgbench.data import source
from imgbench.evaluators import base as evaluators_base
from imgbench.metrics import diagnostics
from imgbench.metrics import multilabel
from imgbench.models import base as models_base
from imgbench.train import evaluation
from imgbench.train import feeds
from imgbench.train import inputs
from imgbench.train import state as state_lib
from imgbench.train import step as step_lib

# Section -> its keys; None: no section, or checked by what it is given to.
SECTIONS = {
  "seed": None,
  "global_batch_size": None,
  "data": ("name", "train_split", "data_dir", "options"),
  "model": None,
  "augment": None,
  "input": None,
  "ema": ("decay",),
  "loss": ("name", "label_smoothing"),
  "optim": None,
  "schedule": None,
  "steps": ("total", "per_dispatch"),
  "logging": ("every", "tensorboard", "report"),
  "evaluation": evaluation.KEYS,
  "checkpoint": ("every", "keep", "best", "asynchronous", "init_from"),
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
LOSSES = {
  "softmax": losses.softmax_cross_entropy,
  "sigmoid": losses.sigmoid_cross_entropy,
}
_MIXING = {"mixup": 0.0, "cutmix": 0.0, "switch": 0.5}
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
    trained_shares: by alias, the share of a split that is trained on.
    feed: what the steps are fed, by step.
    train_data: the training split on the devices; None where it is streamed.
    state: at step 0, on the devices.
    num_params: numbers that are trained.
    sample: (images uint8 [N, H, W, C], index int32 [B], epoch int32 [B], key)
      -> augmented, normalised images [B, H, W, C].
    train_step: see `step.build_train_step`.
    device_step: see `step.build_device_step`.
    steps_per_dispatch: at least 1.
    schedule: learning rate by steps done.
    evaluators: by alias, in the order of the config.
    plan: of the evaluations.
    thresholds: of the warnings.
    periods: when what is due.
    global_batch_size: B.
  """

  strategy: parallel.JitStrategy
  info: source.Info
  trained_shares: Mapping[str, float]
  feed: feeds.Feed
  train_data: device.DeviceExamples | None
  state: state_lib.TrainState
  num_params: int
  sample: Callable
  train_step: step_lib.TrainStep
  device_step: Callable
  steps_per_dispatch: int
  schedule: optax.Schedule
  evaluators: Mapping[str, evaluators_base.Evaluator]
  plan: evaluation.Plan
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
  thresholds = evaluation.thresholds(config)
  evaluation_plan = evaluation.plan(config, info, build_source)
  feed, image_shape = _feed(config, train_source)
  model = _model(config, info, image_shape, strategy)
  normalize = _normalizer(config, image_shape, model.dtype)
  sample = _sampler(config, info, image_shape, normalize)
  mix = _mixer(config)

  train_data, train_ids = None, None
  if not info.streamed:
    examples = load(train_source)
    train_data = strategy.replicate(device.from_examples(examples))
    train_ids = examples.image_id
  init_key, step_key = jax.random.split(jax.random.key(config.seed))
  create = functools.partial(
    state_lib.TrainState.create, tx=tx, with_ema=bool(config.ema.decay)
  )
  state = strategy.jit(lambda key: create(model.init(key)))(init_key)
  if model.prepare is not None:
    images = normalize(_first_images(feed, train_data))
    variables = strategy.jit(model.prepare)(state.variables, images)
    state = strategy.replicate(create(variables))
  train_step = step_lib.build_train_step(
    model,
    tx,
    label_smoothing=config.loss.label_smoothing,
    ema_decay=config.ema.decay,
    loss_of=LOSSES[_loss_name(config)],
  )
  built = evaluation.build(
    evaluation_plan, config, strategy, model.apply, normalize, load
  )
  return Parts(
    strategy=strategy,
    info=info,
    trained_shares=evaluation.trained_shares(
      evaluation_plan, built, train_source, train_ids
    ),
    feed=feed,
    train_data=train_data,
    state=state,
    num_params=models_base.num_params(state.variables),
    sample=sample,
    train_step=train_step,
    device_step=step_lib.build_device_step(train_step, sample, step_key, mix),
    steps_per_dispatch=_steps_per_dispatch(config, strategy, info),
    schedule=schedule,
    evaluators=built,
    plan=evaluation_plan,
    thresholds=thresholds,
    periods=periods,
    global_batch_size=config.global_batch_size,
  )


def _feed(config, train_source) -> tuple[feeds.Feed, tuple[int, int, int]]:
  """Returns what feeds the steps, and the shape of the model's images."""
  info = train_source.info
  examples = order.ExampleOrder(info.num_examples, config.seed)
  batch = config.global_batch_size
  if not info.streamed:
    if config.input:
      raise errors.InputError(
        f"config section input: expected none for {info.key}, whose images"
        f" have one size, got {sorted(config.input)}; see section augment"
      )
    return feeds.ResidentFeed(examples, batch), info.image_shape
  decoded, size = inputs.train_pipeline(config.input, train_source, config.seed)
  shape = (size, size, info.image_shape[-1])
  return feeds.StreamedFeed(examples, batch, decoded, shape), shape


def _first_images(feed, train_data) -> jax.Array:
  """Returns images uint8 [N, H, W, C] of the training split."""
  if train_data is not None:
    return train_data.image[:PREPARE_EXAMPLES]
  images = feed.at(0, 1)["image"]
  feed.close()
  return jnp.asarray(images)


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
  if _loss_name(config) not in LOSSES:
    raise errors.InputError(
      f"loss.name: expected one of {', '.join(LOSSES)}, got"
      f" {config.loss.name!r}"
    )
  if not 0 <= config.ema.decay < 1:
    raise errors.InputError(
      f"ema.decay: expected a number in [0, 1), 0 for none, got"
      f" {config.ema.decay}"
    )
  if config.checkpoint.keep < 1:
    raise errors.InputError(
      f"checkpoint.keep: expected >= 1, got {config.checkpoint.keep}"
    )
  best = config.checkpoint.best
  alias, _, metric = best.partition("/")
  known = list(config.evaluation.sets)
  if config.ema.decay:
    known += [name + evaluation.EMA for name in known]
  if best and (alias not in known or metric not in BEST_METRICS):
    raise errors.InputError(
      "checkpoint.best: expected a metric of one of the evaluation sets"
      f" ({', '.join(known) or 'none'}), such as"
      f" val/top1_accuracy (also {', '.join(BEST_METRICS[1:])}), got {best!r}"
    )


def _loss_name(config) -> str:
  return config.loss.get("name", "softmax")


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
      alias + suffix: every(
        entry.get("every", config.evaluation.every),
        f"evaluation.sets.{alias}.every",
      )
      for alias, entry in config.evaluation.sets.items()
      for suffix in (("", evaluation.EMA) if config.ema.decay else ("",))
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


def _model(config, info, image_shape, strategy) -> models_base.Model:
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
      image_shape=image_shape,
      dtype=dtypes[name],
      **section,
    )


def _normalizer(config, image_shape, dtype):
  mean, std = tuple(config.augment.mean), tuple(config.augment.std)
  channels = image_shape[-1]
  if len(mean) != channels or len(std) != channels or min(std) <= 0:
    raise errors.InputError(
      f"augment.mean and augment.std: expected {channels} numbers each, std"
      f" above 0, got {mean} and {std}"
    )
  return lambda images: preprocess.normalize(images, mean, std, dtype)


def _sampler(config, info, image_shape, normalize):
  section = config_utils.arguments(config.augment)
  settings = {
    k: v for k, v in section.items() if k not in ("mean", "std", *_MIXING)
  }

  def sample(images, index, epoch, key):
    drawn = registry.call(
      "augment",
      preprocess.sample,
      images=images,
      index=index,
      epoch=epoch,
      step_key=key,
      whole_batch=info.streamed,
      **settings,
    )
    return normalize(drawn)

  numbers = jax.ShapeDtypeStruct((config.global_batch_size,), jnp.int32)
  count = config.global_batch_size if info.streamed else info.num_examples
  images = jax.ShapeDtypeStruct((count, *image_shape), jnp.uint8)
  with config_utils.errors_name("augment"):
    jax.eval_shape(sample, images, numbers, numbers, jax.random.key(0))
  return sample


def _mixer(config):
  """Returns the mixing of images of section augment, None if it is off."""
  settings = {n: config.augment.get(n, off) for n, off in _MIXING.items()}
  with config_utils.errors_name("augment"):
    mixing.check_settings(*settings.values())
  if not settings["mixup"] and not settings["cutmix"]:
    return None
  return functools.partial(mixing.mix, **settings)


def _steps_per_dispatch(config, strategy, info) -> int:
  wanted = config.steps.per_dispatch
  if wanted < 0:
    raise errors.InputError(
      f"steps.per_dispatch: expected 0 (choose) or more, got {wanted}"
    )
  if wanted:
    return wanted
  # Gradients of convolutions inside a scan are 30 times slower on XLA:CPU.
  # Images of many steps at once would only fill memory.
  if strategy.platform == "cpu" or info.streamed:
    return 1
  return STEPS_PER_DISPATCH
