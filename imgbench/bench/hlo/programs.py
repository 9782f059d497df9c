"""Lowers the steps of a config without its data: real shapes, no images."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import parallel
from imgbench.bench.hlo import collectives
from imgbench.bench.hlo import need
from imgbench.data import device
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.models import flops
from imgbench.train import compute as compute_lib
from imgbench.train import evaluation
from imgbench.train import setup

# name -> (training examples, image shape, classes) of data sets whose files are
# not needed. Images of several sizes get the size of section input.
_KNOWN = {
  "imagenet2012": (1_281_167, (None, None, 3), 1000),
  "cifar10": (50_000, (32, 32, 3), 10),
  "cifar100": (50_000, (32, 32, 3), 100),
}


@dataclasses.dataclass(frozen=True)
class Steps:
  """The steps of a config on some devices.

  Attributes:
    settings: of the run.
    compute: computations of the config.
    info: of the training split.
    image_shape: (H, W, C) of the model's input.
  """

  settings: config_lib.Config
  compute: compute_lib.Compute
  info: source.Info
  image_shape: tuple[int, int, int]

  @property
  def strategy(self) -> parallel.Strategy:
    return self.compute.strategy

  @functools.cached_property
  def cost(self) -> flops.Cost:
    """Cost of the model. Raises InputError."""
    return flops.count_cost(self.compute.model, self.image_shape)

  @property
  def evaluation_batch_size(self) -> int:
    """Global batch size of evaluations."""
    return self.strategy.round_up(self.settings.evaluation.batch_size)

  @property
  def _evaluated(self) -> dict[str, Any]:
    """Shapes of the variables that an evaluation uses."""
    return self.compute.variable_shapes(self.compute.fold_for_evaluation)

  def lower_training(self) -> jax.stages.Lowered:
    """Lowers the training step as the loop does for one step per call."""
    size = self.settings.recipe.global_batch_size
    fed = {
      name: self._rows((size,), jnp.int32)
      for name in ("index", "epoch", "label")
    }
    examples = None
    if self.info.streamed:
      fed["image"] = self._rows((size, *self.image_shape), jnp.uint8)
    else:
      del fed["label"]
      examples = self._examples(self.info.num_examples, self._replicated)
    return self.compute.lower(self.compute.state_shapes(), examples, fed)

  def lower_evaluation(self) -> jax.stages.Lowered:
    """Lowers the evaluation step for one set of parameters."""
    size = self.evaluation_batch_size
    section = self.settings.evaluation
    predict_fn = evaluation.build_predict_fn(
      self.compute.model.apply, self.compute.normalize, section.flip_average
    )
    compiled_pass = base.CompiledPass(
      predict_fn,
      self.strategy,
      size,
      self.info.num_classes,
      tuple(section.ks),
    )
    counts = jax.eval_shape(compiled_pass.empty_counts)
    counts = jax.tree.map(lambda x: self._replicated(x.shape, x.dtype), counts)
    return compiled_pass.eval_step().lower(
      self._evaluated,
      self._examples(size, self._rows),
      self._rows((size,), jnp.bool_),
      (None,),
      (counts,),
    )

  def lower_inference(self) -> jax.stages.Lowered:
    """Lowers the folded model on normalised images, in the model's dtype."""
    size, dtype = self.evaluation_batch_size, self.compute.model.dtype
    variables = self.compute.variable_shapes(self.compute.fold)
    cast = lambda x: jax.ShapeDtypeStruct(x.shape, dtype, sharding=x.sharding)
    params = jax.tree.map(cast, variables["params"])
    apply = self.compute.model.apply
    predict = lambda variables, images: (apply(variables, images, False)[0],)
    kinds = (parallel.STATE, parallel.BATCH)
    return self.strategy.spread(predict, kinds, (parallel.BATCH,)).lower(
      {**variables, "params": params},
      self._rows((size, *self.image_shape), dtype),
    )

  def training_need(self) -> list[collectives.Collective]:
    """Returns the collectives that the training step needs."""
    augment = self.settings.recipe.augment
    mixes = augment.mixup or augment.cutmix
    return need.list_training_collectives(
      self.compute.state_shapes(),
      self.strategy.mesh,
      self.compute.model.dtype,
      mixed_shape=self.image_shape if mixes else None,
    )

  def evaluation_need(self) -> list[collectives.Collective]:
    """Returns the collectives that the evaluation step needs."""
    return self._forward_need(self.lower_evaluation().out_info[0])

  def inference_need(self) -> list[collectives.Collective]:
    """Returns the collectives that inference needs."""
    return self._forward_need(())

  def _forward_need(self, counts: Any) -> list[collectives.Collective]:
    return need.list_evaluation_collectives(
      self._evaluated,
      counts,
      self.strategy.mesh,
      self.compute.model.dtype,
    )

  def _examples(self, count: int, place) -> device.DeviceExamples:
    return device.DeviceExamples(
      image=place((count, *self.image_shape), jnp.uint8),
      label=place((count,), jnp.int32),
    )

  def _rows(self, shape, dtype) -> jax.ShapeDtypeStruct:
    whole = jax.ShapeDtypeStruct(shape, dtype)
    shape = jax.eval_shape(self.strategy.as_batch, whole).shape
    return jax.ShapeDtypeStruct(shape, dtype, sharding=self.strategy.batch)

  def _replicated(self, shape, dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=self.strategy.replicated)


def build(
  config: ml_collections.ConfigDict, devices: Any = None, fed: bool = False
) -> Steps:
  """Returns the steps of a config.

  Args:
    config: of a run.
    devices: to shard arrays over, under jit, also of a topology that is not
      attached; None: those of section parallel.
    fed: whether each step is given its images, even if the data set is kept on
      the devices.

  Raises:
    InputError: a bad config.
  """
  settings = config_lib.parse(config)
  section, batch_size = settings.parallel, settings.recipe.global_batch_size
  if devices is None:
    layout = setup.open_devices(settings)
  else:
    if section.strategy != "jit":
      raise errors.InputError(
        "parallel.strategy",
        "jit for devices of a topology",
        repr(section.strategy),
      )
    if section.fsdp < 1 or len(devices) % section.fsdp:
      raise errors.InputError(
        "parallel.fsdp", f"a divisor of {len(devices)} devices", section.fsdp
      )
    layout = compute_lib.build_layout(
      parallel.jit_strategy(devices, section.fsdp),
      batch_size,
      section.batch_norm,
      section.microbatches,
    )
  info = describe_split(settings.data)
  shape = info.image_shape
  if info.streamed:
    side = settings.input.get("size", 0)
    if not side:
      raise errors.InputError("input.size", "the side of the images", side)
    shape = (side, side, shape[-1])
  if fed:
    info = dataclasses.replace(info, image_shape=(None, None, shape[-1]))
  calendar = config_utils.Durations(info.num_examples, batch_size)
  total = calendar.steps(settings.steps.total, "steps.total")
  compute = compute_lib.build(settings.recipe, layout, info, shape, total)
  return Steps(settings, compute, info, shape)


def describe_split(section: config_lib.DataSection) -> source.Info:
  """Returns the info of a training split without reading its files.

  Synthetic and unknown data sets are opened. Raises InputError.
  """
  name = section.name.partition(":")[0]  # Without a version.
  if name not in _KNOWN:
    return setup.open_train_split(section).info
  count, shape, num_classes = _KNOWN[name]
  return source.Info(
    name=name,
    split=section.train_split,
    num_examples=count,
    image_shape=shape,
    class_names=tuple(map(str, range(num_classes))),
    fingerprint="",
  )
