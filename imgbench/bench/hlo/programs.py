"""A config's own steps, lowered without its data: real shapes, no images."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

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

# name -> (training examples, shape of the images, classes) of sets that need
# not lie here. Images of several sizes come in the size of section input.
_KNOWN = {
  "imagenet2012": (1_281_167, (None, None, 3), 1000),
  "cifar10": (50_000, (32, 32, 3), 10),
  "cifar100": (50_000, (32, 32, 3), 100),
}


@dataclasses.dataclass(frozen=True)
class Steps:
  """The steps of a config on some devices.

  Attributes:
    config: of the run.
    compute: what runs on the devices.
    info: of the training split.
    image_shape: (H, W, C) of the model's images.
  """

  config: ml_collections.ConfigDict
  compute: compute_lib.Compute
  info: source.Info
  image_shape: tuple[int, int, int]

  @property
  def strategy(self) -> parallel.Strategy:
    return self.compute.strategy

  @functools.cached_property
  def cost(self) -> flops.Cost:
    """Parameters and multiply-adds of the model. Raises InputError."""
    return flops.count_cost(self.compute.model, self.image_shape)

  @property
  def evaluation_batch_size(self) -> int:
    """Images in a batch of an evaluation, of all devices."""
    return self.strategy.round_up(self.config.evaluation.batch_size)

  @property
  def _evaluated(self) -> dict[str, Any]:
    """Shapes of the variables that an evaluation computes with."""
    return self.compute.variable_shapes(self.compute.fold_for_evaluation)

  def lower_training(self) -> jax.stages.Lowered:
    """The training step, as the loop compiles it for one step per call."""
    size = self.config.global_batch_size
    fed = {
      name: self._rows((size,), jnp.int32)
      for name in ("index", "epoch", "label")
    }
    data = None
    if self.info.streamed:
      fed["image"] = self._rows((size, *self.image_shape), jnp.uint8)
    else:
      del fed["label"]
      data = self._examples(self.info.num_examples, self._replicated)
    return self.compute.lower(self.compute.state_shapes(), data, fed)

  def lower_evaluation(self) -> jax.stages.Lowered:
    """The step of an evaluation of one set of parameters."""
    size = self.evaluation_batch_size
    predict_fn = evaluation.build_predict_fn(
      self.config, self.compute.model.apply, self.compute.normalize
    )
    compiled_pass = base.CompiledPass(
      predict_fn,
      self.strategy,
      size,
      self.info.num_classes,
      tuple(self.config.evaluation.ks),
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
    """The folded model on normalised images, parameters in its own type."""
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
    """See `need.list_training_collectives`."""
    augment = self.config.augment
    mixes = augment.get("mixup") or augment.get("cutmix")
    return need.list_training_collectives(
      self.compute.state_shapes(),
      self.strategy.mesh,
      self.compute.model.dtype,
      mixed_shape=self.image_shape if mixes else None,
    )

  def evaluation_need(self) -> list[collectives.Collective]:
    """See `need.list_evaluation_collectives`."""
    return self._forward_need(self.lower_evaluation().out_info[0])

  def inference_need(self) -> list[collectives.Collective]:
    """That of an evaluation without its counts."""
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
    devices: that its arrays are spread over, also of a topology that is not
      here, then under jit; None: as section parallel says.
    fed: whether the images of each step are given to it, also of data sets
      that lie on the devices as a whole.

  Raises:
    InputError: whatever in the config does not fit.
  """
  section = config.parallel
  if devices is None:
    spread = compute_lib.parallelism(config)
  else:
    if section.strategy != "jit":
      raise errors.InputError(
        "parallel.strategy: expected jit for devices that are not here, got"
        f" {section.strategy!r}"
      )
    if section.fsdp < 1 or len(devices) % section.fsdp:
      raise errors.InputError(
        f"parallel.fsdp: expected a divisor of the {len(devices)} devices, got"
        f" {section.fsdp}"
      )
    spread = compute_lib.spread_over(
      config,
      parallel.jit_strategy(devices, section.fsdp),
      section.batch_norm,
      section.microbatches,
    )
  info = made_up_info(config)
  shape = info.image_shape
  if info.streamed:
    side = config.input.get("size", 0)
    if not side:
      raise errors.InputError("input.size: expected the side of the images")
    shape = (side, side, shape[-1])
  if fed:
    info = dataclasses.replace(info, image_shape=(None, None, shape[-1]))
  calendar = config_utils.Durations(info.num_examples, config.global_batch_size)
  total = calendar.steps(config.steps.total, "steps.total")
  return Steps(
    config=config,
    compute=compute_lib.build(config, spread, info, shape, total),
    info=info,
    image_shape=shape,
  )


def made_up_info(config: ml_collections.ConfigDict) -> source.Info:
  """Returns what is known of a config's training split without its files.

  Of data sets that are drawn or not known here it is read. Raises InputError.
  """
  name = config.data.name
  if name not in _KNOWN:
    return setup.build_source(config.data, config.data.train_split).info
  count, shape, num_classes = _KNOWN[name]
  return source.Info(
    name=name,
    split=config.data.train_split,
    num_examples=count,
    image_shape=shape,
    class_names=tuple(map(str, range(num_classes))),
    fingerprint="",
  )
