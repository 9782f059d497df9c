"""Everything that runs on the devices, built before any data are read."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
from typing import Any
from typing import NamedTuple

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from imgbench import config as config_lib
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
from imgbench.parallel import determinism
from imgbench.train import freezing
from imgbench.train import state as state_lib
from imgbench.train import step as step_lib

_MIXING = ("mixup", "cutmix", "switch")


class Layout(NamedTuple):
  """Distribution of a step.

  Attributes:
    strategy: devices and shardings.
    step: over devices and parts of the batch.
    statistics: of BatchNorm.
  """

  strategy: parallel.Strategy
  step: step_lib.StepLayout
  statistics: layers.BatchStatistics


@dataclasses.dataclass(frozen=True)
class Compute:
  """The computation of a run.

  Attributes:
    strategy: devices and shardings.
    model: pure functions.
    schedule: learning rate by number of steps done.
    loss: of outputs and batch.
    normalize: uint8 [..., H, W, C] -> input of the model.
    sample: (images uint8 [N, H, W, C], index int32 [B], epoch int32 [B], key)
      -> augmented, normalized images [B, H, W, C].
    train_step: see `step.build_train_step`.
    device_step: see `step.build_device_step`.
    create_state: variables -> state at step 0; pure.
    init_key: of the model's variables.
    prng: settings of random numbers; programs are lowered with them.
  """

  strategy: parallel.Strategy
  model: models_base.Model
  schedule: optax.Schedule
  loss: losses.Loss
  normalize: Callable
  sample: Callable
  train_step: step_lib.TrainStep
  device_step: Callable
  create_state: Callable[[dict[str, Any]], state_lib.TrainState]
  init_key: jax.Array
  prng: determinism.Prng

  def _init(self, key: jax.Array) -> state_lib.TrainState:
    return self.create_state(self.model.init(key))

  def state_shapes(self) -> state_lib.TrainState:
    """Returns shapes, dtypes and shardings of a state."""
    return self._placed(jax.eval_shape(self._init, self.init_key))

  def variable_shapes(self, fold: Callable) -> dict[str, Any]:
    """Returns those of what `fold` or `fold_for_evaluation` returns."""
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

  def init_state(self) -> state_lib.TrainState:
    """Returns a state at step 0, on the devices."""
    with self.prng.active():
      return self._compiled(self._init)(self.init_key)

  def prepare(
    self, state: state_lib.TrainState, images: jax.Array
  ) -> state_lib.TrainState:
    """Returns a state at step 0 that depends on images uint8 [N, H, W, C]."""

    def init(variables, images):
      images = self.normalize(images)
      return self.create_state(self.model.prepare(variables, images))

    with self.prng.active():
      return self._compiled(init)(state.variables, images)

  def start(
    self, state: state_lib.TrainState, leaves: Mapping[str, np.ndarray]
  ) -> state_lib.TrainState:
    """Returns a state at step 0 with other values by name, see `start`."""

    def init(variables, leaves):
      flat = traverse_util.flatten_dict(variables, sep="/")
      replaced = traverse_util.unflatten_dict({**flat, **leaves}, sep="/")
      return self.create_state(replaced)

    leaves = self.strategy.replicate(dict(leaves))
    return self._compiled(init)(state.variables, leaves)

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
    step: Any = self.strategy.spread(
      body,
      (parallel.STATE, parallel.REPLICATED, batch),
      (parallel.STATE, parallel.REPLICATED),
      state=state,
      donate=(0,),
    )
    with self.prng.active():
      return step.lower(state, data, fed)

  def _compiled(self, init: Callable) -> Callable:
    sharding = self.strategy.state_sharding(self.state_shapes())
    return self.strategy.jit(init, out=sharding)


def build_layout(
  strategy: parallel.Strategy,
  global_batch_size: int,
  batch_norm: str = config_lib.GLOBAL,
  microbatches: int = 1,
) -> Layout:
  """Returns how steps are distributed with a strategy.

  Args:
    strategy: devices and shardings, also of devices that are not here.
    global_batch_size: B.
    batch_norm: GLOBAL or PER_DEVICE.
    microbatches: parts of a batch, see `step.StepLayout`.

  Raises:
    InputError: numbers that do not divide each other.
  """
  strategy.check_batch_size(global_batch_size, "global_batch_size")
  rows = global_batch_size // strategy.num_devices
  if microbatches < 1 or rows % microbatches:
    raise errors.InputError(
      "parallel.microbatches",
      f"a divisor of the {rows} images of a batch on each of"
      f" {strategy.num_devices} devices",
      microbatches,
    )
  view = strategy.view
  statistics = layers.BatchStatistics(axis_name=view.axis_name)
  if batch_norm == config_lib.PER_DEVICE:
    statistics = layers.BatchStatistics(groups=view.statistics_groups)
  unrolled = strategy.platform == "cpu"
  step = step_lib.StepLayout(view, microbatches, unrolled)
  return Layout(strategy, step, statistics)


def build(
  recipe: config_lib.Recipe,
  layout: Layout,
  info: source.Info,
  image_shape: tuple[int, int, int],
  total_steps: int,
  labels: Callable[[], np.ndarray] | None = None,
) -> Compute:
  """Returns everything that runs on the devices; nothing is computed yet.

  Args:
    recipe: of the run.
    layout: see `build_layout`.
    info: of the training split.
    image_shape: (H, W, C) of the model's images.
    total_steps: of the run.
    labels: reads the labels of the training split, which weights of classes
      need; None: they do not count, as nothing is trained.

  Raises:
    InputError: a setting that does not fit.
  """
  schedule, tx = _build_optimizer(recipe, info.num_examples, total_steps)
  view = layout.strategy.view
  frozen = tuple(recipe.init.freeze)
  statistics = dataclasses.replace(layout.statistics, frozen=frozen)
  layout = layout._replace(statistics=statistics)
  model = _build_model(recipe.model, info, image_shape, layout)
  model, tx = _limit_training(model, tx, recipe.init)
  normalize = _build_normalize(recipe.augment, image_shape, model.dtype)
  batch_size = recipe.global_batch_size
  sample = _build_sample(
    recipe.augment.settings, info, image_shape, batch_size, normalize
  )
  with config_utils.prefix_errors("loss."):
    loss = losses.LOSSES.build(recipe.loss.name, **recipe.loss.settings)
    loss = _fit_loss(loss, recipe, model)
    if recipe.loss.class_weights:
      loss = _weight_loss(loss, recipe.loss.class_weights, info, labels)
  with recipe.prng.active():
    init_key, step_key = jax.random.split(jax.random.key(recipe.seed))
  train_step = step_lib.build_train_step(
    model,
    tx,
    loss,
    ema_decay=recipe.ema.decay,
    layout=layout.step,
    # `device_step` folds in no number of a step that is this large.
    key=jax.random.fold_in(step_key, 0xFFFFFFFF),
  )
  return Compute(
    strategy=layout.strategy,
    model=model,
    schedule=schedule,
    loss=loss,
    normalize=normalize,
    sample=sample,
    train_step=train_step,
    device_step=step_lib.build_device_step(
      train_step, sample, step_key, _build_mix(recipe.augment, view)
    ),
    create_state=functools.partial(
      state_lib.TrainState.create, tx=tx, with_ema=bool(recipe.ema.decay)
    ),
    init_key=init_key,
    prng=recipe.prng,
  )


def _build_optimizer(
  recipe: config_lib.Recipe, num_examples: int, total_steps: int
) -> tuple[optim.Schedule, optax.GradientTransformation]:
  settings = dict(recipe.schedule.settings)
  calendar = config_utils.Durations(
    num_examples, recipe.global_batch_size, total_steps
  )
  warmup = calendar.steps(recipe.schedule.warmup, "schedule.warmup")
  if warmup:
    settings["warmup_steps"] = warmup
  with config_utils.prefix_errors("schedule."):
    schedule = optim.build_schedule(
      recipe.schedule.name, total_steps=total_steps, **settings
    )
  with config_utils.prefix_errors("optim."):
    tx = optim.build_optimizer(
      recipe.optim.name, schedule=schedule, **recipe.optim.settings
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
    known = ", ".join(dtypes)
    raise errors.InputError("model.dtype", f"one of {known}", repr(name))
  return jnp.dtype(dtypes[name])


def _build_model(
  section: config_lib.ModelSection,
  info: source.Info,
  image_shape: tuple[int, int, int],
  layout: Layout,
) -> models_base.Model:
  """Returns a model that computes with whole variables, however sharded."""
  dtype = model_dtype(section.dtype, layout.strategy.platform)
  with config_utils.prefix_errors("model."):
    model = models.build_model(
      section.name,
      num_classes=info.num_classes,
      image_shape=image_shape,
      dtype=dtype,
      statistics=layout.statistics,
      **section.settings,
    )
  view = layout.strategy.view

  def apply(variables, *args, **kwargs):
    outputs, state = model.apply(view.whole(variables), *args, **kwargs)
    what, shape = "logits", (info.num_classes,)
    if model.reconstructs:
      what, shape = "images", image_shape
    expected = f"a model with {what} [B, {', '.join(map(str, shape))}]"
    fits = outputs.shape[1:] == shape
    errors.check(fits, "model.name", expected, list(outputs.shape))
    return outputs, state

  return dataclasses.replace(model, apply=apply)


def _limit_training(model: models_base.Model, tx, section: config_lib.Init):
  """Returns a model and an optimizer with frozen parameters and a decay."""
  if not section.freeze and section.layer_decay == 1:
    return model, tx
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  factors = freezing.find_factors(shapes, section.freeze, section.layer_decay)
  keep = lambda x, factor: x if factor else jax.lax.stop_gradient(x)

  def apply(variables, images, train, key=None):
    if train:  # Folded for an evaluation, they have another structure.
      params = jax.tree.map(keep, variables["params"], factors)
      variables = {**variables, "params": params}
    return model.apply(variables, images, train, key)

  limited = dataclasses.replace(model, apply=apply)
  return limited, freezing.scale(tx, factors)


def _build_normalize(
  augment: config_lib.Augment, image_shape: tuple[int, int, int], dtype: Any
) -> Callable[[jax.Array], jax.Array]:
  mean, std = tuple(augment.mean), tuple(augment.std)
  channels = image_shape[-1]
  for name, values in (("mean", mean), ("std", std)):
    if len(values) != channels or (name == "std" and min(values) <= 0):
      raise errors.InputError(
        f"augment.{name}",
        f"{channels} numbers" + (" above 0" if name == "std" else ""),
        values,
      )
  return lambda images: preprocess.normalize(images, mean, std, dtype)


def _fit_loss(
  loss: losses.Loss, recipe: config_lib.Recipe, model: models_base.Model
) -> losses.Loss:
  """Returns a loss that gets pixels if it takes reconstructed images.

  Raises:
    InputError: a loss of other outputs than the model has.
  """
  outputs = "images" if model.reconstructs else "logits"
  if loss.reconstructs != model.reconstructs and (
    loss.reconstructs or loss.predicts_classes
  ):
    expected = f"a loss of {outputs}, which {recipe.model.name} returns"
    raise errors.InputError("name", expected, repr(recipe.loss.name))
  if not loss.reconstructs:
    return loss
  mean, std = tuple(recipe.augment.mean), tuple(recipe.augment.std)

  def of_pixels(outputs, batch):
    pixels = preprocess.denormalize(batch["image"], mean, std)
    return loss.function(outputs, {**batch, "image": pixels})

  return dataclasses.replace(loss, function=of_pixels)


def _weight_loss(loss: losses.Loss, wanted, info: source.Info, labels):
  """Returns a loss with the weights of classes. Raises InputError."""
  expected = "none for a loss without classes"
  errors.check(loss.predicts_classes, "class_weights", expected, repr(wanted))
  weigh = lambda n: losses.find_class_weights(wanted, n, info.class_names)
  weights = weigh(np.ones(info.num_classes, int))  # Checked before reading.
  if labels is not None:
    weights = weigh(np.bincount(labels(), minlength=info.num_classes))
  return losses.weight_classes(loss, weights)


def _build_sample(
  settings: Mapping[str, Any],
  info: source.Info,
  image_shape: tuple[int, int, int],
  batch_size: int,
  normalize: Callable,
) -> Callable[..., jax.Array]:
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

  numbers = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
  count = batch_size if info.streamed else info.num_examples
  images = jax.ShapeDtypeStruct((count, *image_shape), jnp.uint8)
  with config_utils.prefix_errors("augment."):
    jax.eval_shape(sample, images, numbers, numbers, jax.random.key(0))
  return sample


def _build_mix(
  augment: config_lib.Augment, view: parallel.View
) -> Callable | None:
  """Returns the mixing of images; None: it is off."""
  settings = {name: getattr(augment, name) for name in _MIXING}
  with config_utils.prefix_errors("augment."):
    mixing.check_settings(**settings)
  if not augment.mixup and not augment.cutmix:
    return None
  return functools.partial(mixing.mix, view=view, **settings)
