"""What runs on the devices, made of a config before any data are read."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from imgbench import config_utils
from imgbench import errors
from imgbench import losses
from imgbench import models
from imgbench import optim
from imgbench import parallel
from imgbench import registry
from imgbench.data import mixing
from imgbench.data import preprocess
from imgbench.data import source
from imgbench.models import base as models_base
from imgbench.models import layers
from imgbench.train import state as state_lib
from imgbench.train import step as step_lib

GLOBAL, PER_DEVICE = "global", "per_device"  # statistics of BatchNorm
_MIXING = {"mixup": 0.0, "cutmix": 0.0, "switch": 0.5}


class Parallelism(NamedTuple):
  """Section parallel of a config.

  Attributes:
    strategy: devices and shardings.
    spread: of a step.
    statistics: of BatchNorm.
  """

  strategy: parallel.Strategy
  spread: step_lib.Spread
  statistics: layers.BatchStatistics


@dataclasses.dataclass(frozen=True)
class Compute:
  """See the module.

  Attributes:
    strategy: devices and shardings.
    model: behind pure functions.
    schedule: learning rate by steps done.
    normalize: uint8 [..., H, W, C] -> what the model takes.
    sample: (images uint8 [N, H, W, C], index int32 [B], epoch int32 [B], key)
      -> augmented, normalised images [B, H, W, C].
    train_step: see `step.build_train_step`.
    device_step: see `step.build_device_step`.
    create_state: variables -> state at step 0; pure.
    init_key: of the model's variables.
  """

  strategy: parallel.Strategy
  model: models_base.Model
  schedule: optax.Schedule
  normalize: Callable
  sample: Callable
  train_step: step_lib.TrainStep
  device_step: Callable
  create_state: Callable[[dict[str, Any]], state_lib.TrainState]
  init_key: jax.Array

  def _begin(self, key: jax.Array) -> state_lib.TrainState:
    return self.create_state(self.model.init(key))

  def state_shapes(self) -> state_lib.TrainState:
    """Shapes and types of a state, with the shardings that it gets."""
    return self._placed(jax.eval_shape(self._begin, self.init_key))

  def variable_shapes(self, fold: Callable) -> dict[str, Any]:
    """The same for what `fold` or `fold_for_evaluation` returns."""
    return self._placed(jax.eval_shape(fold, self.state_shapes().variables))

  def _placed(self, shapes):
    return jax.tree.map(
      lambda x, sharding: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=sharding
      ),
      shapes,
      self.strategy.state_sharding(shapes),
    )

  def fold(self, variables: dict[str, Any]) -> dict[str, Any]:
    """Returns variables for inference, on the devices: see `Model.fold`."""
    fold = self.model.fold
    if fold is None:
      return variables
    shapes = jax.eval_shape(fold, variables)
    sharding = self.strategy.state_sharding(shapes)
    return self.strategy.jit(fold, out=sharding)(variables)

  def fold_for_evaluation(self, variables: dict[str, Any]) -> dict[str, Any]:
    """Returns variables for an evaluation: not folded on CPUs.

    Folding changes the last bits of logits, and CPUs are the reference.
    """
    if self.strategy.platform == "cpu":
      return variables
    return self.fold(variables)

  def begin(self) -> state_lib.TrainState:
    """A state at step 0, on the devices."""
    return self._compiled(self._begin)(self.init_key)

  def prepare(
    self, state: state_lib.TrainState, images: jax.Array
  ) -> state_lib.TrainState:
    """The same for a model that takes something from uint8 [N, H, W, C]."""
    begin = lambda variables, images: self.create_state(
      self.model.prepare(variables, self.normalize(images))
    )
    return self._compiled(begin)(state.variables, images)

  def lower(
    self, state: Any, data: Any, fed: Any, steps: int = 1
  ) -> jax.stages.Lowered:
    """Lowers (state, data, fed) -> (state, loss or losses [S]).

    Args:
      state: arrays or their shapes; its memory is reused.
      data: the training split on the devices, or None.
      fed: what `feeds` gives, on the devices: a batch, or those of S steps.
      steps: S, in one call.
    """
    body, batch = self.device_step, parallel.BATCH
    if steps > 1:
      body, batch = step_lib.scan_steps(body), parallel.BATCHES
    return self.strategy.spread(
      body,
      (parallel.STATE, parallel.REPLICATED, batch),
      (parallel.STATE, parallel.REPLICATED),
      state=state,
      donate=(0,),
    ).lower(state, data, fed)

  def _compiled(self, begin: Callable) -> Callable:
    sharding = self.strategy.state_sharding(self.state_shapes())
    return self.strategy.jit(begin, out=sharding)


def parallelism(config: ml_collections.ConfigDict) -> Parallelism:
  """Reads section parallel. Raises InputError for what does not fit."""
  section = config_utils.arguments(config.parallel)
  batch_norm = section.pop("batch_norm", GLOBAL)
  microbatches = section.pop("microbatches", 1)
  strategy = registry.call(
    "config section parallel", parallel.create_strategy, **section
  )
  return spread_over(config, strategy, batch_norm, microbatches)


def spread_over(
  config: ml_collections.ConfigDict,
  strategy: parallel.Strategy,
  batch_norm: str = GLOBAL,
  microbatches: int = 1,
) -> Parallelism:
  """Returns how steps of a config are spread with a strategy.

  Args:
    config: of the global batch.
    strategy: devices and shardings, also of devices that are not here.
    batch_norm: GLOBAL or PER_DEVICE.
    microbatches: parts of a batch, see `step.Spread`.

  Raises:
    InputError: numbers that do not divide each other, unknown `batch_norm`.
  """
  batch = config.global_batch_size
  strategy.check_batch_size(batch, "global_batch_size")
  if batch_norm not in (GLOBAL, PER_DEVICE):
    raise errors.InputError(
      f"parallel.batch_norm: expected {GLOBAL} or {PER_DEVICE}, got"
      f" {batch_norm!r}"
    )
  rows = batch // strategy.num_devices
  if microbatches < 1 or rows % microbatches:
    raise errors.InputError(
      f"parallel.microbatches: expected a divisor of the {rows} images that"
      f" each of {strategy.num_devices} devices gets of a batch, got"
      f" {microbatches}"
    )
  view = strategy.view
  statistics = layers.BatchStatistics(axis_name=view.axis_name)
  if batch_norm == PER_DEVICE:
    statistics = layers.BatchStatistics(groups=view.statistics_groups)
  spread = step_lib.Spread(view, microbatches, strategy.platform == "cpu")
  return Parallelism(strategy, spread, statistics)


def build(
  config: ml_collections.ConfigDict,
  spread: Parallelism,
  info: source.Info,
  image_shape: tuple[int, int, int],
  total_steps: int,
) -> Compute:
  """Returns what runs on the devices; nothing is computed yet.

  Args:
    config: of the run.
    spread: see `parallelism`.
    info: of the training split.
    image_shape: (H, W, C) of the model's images.
    total_steps: of the run.

  Raises:
    InputError: whatever in the config does not fit.
  """
  schedule, tx = _optimizer(config, info.num_examples, total_steps)
  view = spread.strategy.view
  model = _of_whole(_model(config, info, image_shape, spread), view)
  normalize = _normalizer(config, image_shape, model.dtype)
  sample = _sampler(config, info, image_shape, normalize)
  mix = _mixer(config, view)
  init_key, step_key = jax.random.split(jax.random.key(config.seed))
  train_step = step_lib.build_train_step(
    model,
    tx,
    label_smoothing=config.loss.label_smoothing,
    ema_decay=config.ema.decay,
    loss_of=losses.LOSSES[loss_name(config)],
    spread=spread.spread,
    # No number of a step, which `device_step` folds in, comes this far.
    key=jax.random.fold_in(step_key, 0xFFFFFFFF),
  )
  return Compute(
    strategy=spread.strategy,
    model=model,
    schedule=schedule,
    normalize=normalize,
    sample=sample,
    train_step=train_step,
    device_step=step_lib.build_device_step(train_step, sample, step_key, mix),
    create_state=functools.partial(
      state_lib.TrainState.create, tx=tx, with_ema=bool(config.ema.decay)
    ),
    init_key=init_key,
  )


def loss_name(config: ml_collections.ConfigDict) -> str:
  """One of losses.LOSSES, if the config is right."""
  return config.loss.get("name", "softmax")


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


def model_dtype(name: str, platform: str) -> jnp.dtype:
  """Returns the dtype that a model computes in.

  Args:
    name: model.dtype of a config: "float32", "bfloat16" or "auto", which is
      float32 on CPUs and bfloat16 elsewhere.
    platform: of the devices, "cpu", "gpu" or "tpu".

  Raises:
    InputError: another name.
  """
  dtypes = {
    "auto": jnp.float32 if platform == "cpu" else jnp.bfloat16,
    "float32": jnp.float32,
    "bfloat16": jnp.bfloat16,
  }
  if name not in dtypes:
    raise errors.InputError(
      f"model.dtype: expected one of {sorted(dtypes)}, got {name!r}"
    )
  return jnp.dtype(dtypes[name])


def _model(config, info, image_shape, spread) -> models_base.Model:
  section = config_utils.arguments(config.model)
  dtype = model_dtype(section.pop("dtype"), spread.strategy.platform)
  with config_utils.errors_name("model"):
    return models.build_model(
      num_classes=info.num_classes,
      image_shape=image_shape,
      dtype=dtype,
      statistics=spread.statistics,
      **section,
    )


def _of_whole(model, view: parallel.View) -> models_base.Model:
  """Lets a model compute with whole variables, wherever they lie."""

  def apply(variables, *args, **kwargs):
    logits, state = model.apply(view.whole(variables), *args, **kwargs)
    return logits, state

  return dataclasses.replace(model, apply=apply)


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


def _mixer(config, view: parallel.View):
  """Returns the mixing of images of section augment, None if it is off."""
  settings = {n: config.augment.get(n, off) for n, off in _MIXING.items()}
  with config_utils.errors_name("augment"):
    mixing.check_settings(*settings.values())
  if not settings["mixup"] and not settings["cutmix"]:
    return None
  return functools.partial(mixing.mix, view=view, **settings)
