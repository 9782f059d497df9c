"""Steps of imgbench's models as the benchmark runs them.

The steps come from `train.compute`, `evaluators.base` and the models. With data
"device" all steps use one batch on the devices; training and inference get it
normalised, as the baselines do. With "host" batches of uint8 come from the
host's memory, with "tfds" they are decoded; then the step normalises, as in a
run.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import itertools
from typing import Any

import jax
import numpy as np

from imgbench import config as config_lib
from imgbench import data as data_lib
from imgbench import errors
from imgbench import parallel
from imgbench import typed
from imgbench.bench import rows
from imgbench.data import device
from imgbench.data import source
from imgbench.evaluators import base as evaluators_base
from imgbench.models import base as models_base
from imgbench.train import compute as compute_lib

# Different batches that are fed from the host's memory in turn.
HOST_BATCHES = 4
FSDP = "fsdp"
_TOTAL_STEPS = 10_000  # of the schedule


@dataclasses.dataclass(frozen=True)
class Work:
  """A step and its input.

  Attributes:
    lower: traces and lowers the step.
    starter: compiled step -> function that starts a step and returns what to
      wait for.
    params: number of trained parameters.
    attention: implementation of the model's attention; None: it has none.
    close: stops background work.
  """

  lower: Callable[[], jax.stages.Lowered]
  starter: Callable[[Any], Callable[[], Any]]
  params: int
  attention: str | None = None
  close: Callable[[], None] = lambda: None


def build(key: rows.Key, recipe: Mapping[str, Any]) -> Work:
  """Returns the work of a point with its variables; nothing is compiled.

  Args:
    key: of an image task.
    recipe: section `recipe` of the benchmark's config, plain values.

  Raises:
    InputError: bad model, devices or data.
  """
  parts = _Parts.build(key, recipe)
  tasks = {"train": _train, "infer": _infer, "eval": _evaluate}
  find_form = parts.compute.model.attention
  form = find_form() if find_form else None
  return dataclasses.replace(tasks[key.task](parts), attention=form)


def create_strategy(key: rows.Key) -> parallel.Strategy:
  """Returns devices and shardings of a point. Raises InputError."""
  # Several processes take all.
  devices = 0 if key.devices == jax.device_count() else key.devices
  if key.strategy == FSDP:
    return parallel.create_strategy("jit", devices, key.devices)
  return parallel.create_strategy(key.strategy, devices)


def build_layout(
  strategy: parallel.Strategy, batch_size: int, section: Mapping[str, Any]
) -> compute_lib.Layout:
  """Returns how a step is distributed; section: `recipe.parallel`."""
  parsed = typed.build_dataclass(config_lib.Parallel, section, "parallel.")
  return compute_lib.build_layout(
    strategy, batch_size, parsed.batch_norm, parsed.microbatches
  )


def build_recipe(key: rows.Key, recipe: Mapping[str, Any]) -> config_lib.Recipe:
  """Returns the sections of a run's config that `compute.build` reads."""
  settings = recipe["model_settings"].get(key.model, {})
  sections = ("augment", "loss", "ema", "optim", "schedule")
  return config_lib.parse_recipe(
    {
      "seed": recipe["seed"],
      "global_batch_size": key.batch,
      "model": {"name": key.model, "dtype": key.dtype, **settings},
      **{name: recipe[name] for name in sections},
    }
  )


@dataclasses.dataclass(frozen=True)
class _Parts:
  """Parts shared by the three tasks."""

  key: rows.Key
  recipe: Mapping[str, Any]
  strategy: parallel.Strategy
  compute: compute_lib.Compute
  num_classes: int
  split: source.EncodedSource | None

  @classmethod
  def build(cls, key: rows.Key, recipe: Mapping[str, Any]) -> "_Parts":
    built = build_recipe(key, recipe)
    strategy = create_strategy(key)
    layout = build_layout(strategy, key.batch, recipe["parallel"])
    split = _open_split(recipe) if key.data == "tfds" else None
    info = split.info if split else synthetic_info(recipe["num_classes"])
    shape = (key.image_size, key.image_size, 3)
    compute = compute_lib.build(built, layout, info, shape, _TOTAL_STEPS)
    return cls(key, recipe, strategy, compute, info.num_classes, split)

  @property
  def on_device(self) -> bool:
    return self.key.data == "device"

  @property
  def own_rows(self) -> slice:
    """The rows of each batch that this process feeds."""
    return self.strategy.own_rows(self.key.batch)

  def host_batches(self) -> list[dict[str, np.ndarray]]:
    """Returns images uint8 [B, S, S, 3] with labels, indices and epochs.

    B are the rows of this process.
    """
    rng = np.random.default_rng(self.recipe["seed"])
    rows_, size = range(self.key.batch)[self.own_rows], self.key.image_size
    batch = len(rows_)
    count = 1 if self.on_device else HOST_BATCHES
    return [
      {
        "image": rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8),
        "label": rng.integers(0, self.num_classes, batch, dtype=np.int32),
        "index": np.array(rows_, np.int32),
        "epoch": np.zeros(batch, np.int32),
      }
      for _ in range(count)
    ]

  def fed(self) -> Iterator[dict[str, jax.Array]]:
    """Returns endless batches of uint8 on the devices."""
    batches = self.host_batches()
    if self.on_device:
      return itertools.repeat(self.strategy.shard_batch(batches[0]))
    return map(self.strategy.shard_batch, itertools.cycle(batches))

  def normalized(self, images: jax.Array) -> jax.Array:
    """Returns a batch on the devices in the model's dtype."""
    kinds = (parallel.BATCH,)
    function = lambda images: (self.compute.normalize(images),)
    return self.strategy.spread(function, kinds, kinds)(images)[0]

  def variables(self) -> dict[str, Any]:
    """Returns the model's variables, sharded like a training state.

    They come from the program that begins a training run, compiled once.
    """
    return self.compute.init_state().variables

  def evaluation_batches(self) -> Iterator[tuple[device.DeviceExamples, Any]]:
    """Returns endless batches and masks on the devices."""
    if self.split is not None:
      return self._decoded_evaluation()
    mask = np.ones(self.key.batch, bool)[self.own_rows]
    pairs = [
      (device.DeviceExamples(image=b["image"], label=b["label"]), mask)
      for b in self.host_batches()
    ]
    if self.on_device:
      return itertools.repeat(self.strategy.shard_batch(pairs[0]))
    return map(self.strategy.shard_batch, itertools.cycle(pairs))

  def _decoded_evaluation(self):
    from imgbench.data import input_pipelines
    from imgbench.evaluators import splits

    decoded = input_pipelines.build_eval_pipeline(
      split=self.split, size=self.key.image_size
    )
    split = splits.StreamedSplit(
      self.split.info, self.split.examples(), self.strategy, decoded
    )
    while True:
      yield from split.batches(self.key.batch)

  def train_feed(self):
    """Returns the feed of a run on the data set."""
    from imgbench.data import input_pipelines
    from imgbench.data import order
    from imgbench.train import feeds

    size, seed = self.key.image_size, self.recipe["seed"]
    decoded = input_pipelines.build_train_pipeline(
      split=self.split, seed=seed, size=size
    )
    examples = order.ExampleOrder(len(self.split), seed)
    shape = (size, size, 3)
    own = self.own_rows
    return feeds.StreamedFeed(examples, self.key.batch, decoded, shape, own)


def _train(parts: _Parts) -> Work:
  compute, strategy = parts.compute, parts.strategy
  state = compute.init_state()
  params = models_base.num_params(state.variables)
  close = lambda: None
  if parts.on_device:
    fed = next(parts.fed())
    batch = {"image": parts.normalized(fed["image"]), "label": fed["label"]}
    batches = itertools.repeat(batch)
    first = batch
    lower = strategy.spread(
      compute.train_step,
      (parallel.STATE, parallel.BATCH),
      (parallel.STATE, parallel.REPLICATED),
      state=state,
      donate=(0,),
    ).lower
    call = lambda step, state, batch: step(state, batch)
  else:
    if parts.split is None:
      batches = parts.fed()
    else:
      feed = parts.train_feed()
      close = feed.close
      batches = (
        strategy.shard_batch(feed.batch_at(number, 1))
        for number in itertools.count()
      )
    first = next(batches)
    lower = lambda state, batch: compute.lower(state, None, batch)
    call = lambda step, state, batch: step(state, None, batch)

  def starter(compiled):
    held = [state]

    def start():
      held[0], loss = call(compiled, held[0], next(batches))
      return loss

    return start

  return Work(lambda: lower(state, first), starter, params, close=close)


def _infer(parts: _Parts) -> Work:
  variables = parts.variables()
  params = models_base.num_params(variables)
  # Folded and cast once, as for serving.
  variables = parts.compute.fold(variables)
  cast = lambda tree: jax.tree.map(lambda x: x.astype(parts.key.dtype), tree)
  variables = {**variables, "params": jax.jit(cast)(variables["params"])}
  apply = parts.compute.model.apply
  if parts.on_device:
    image = parts.normalized(next(parts.fed())["image"])
    images = itertools.repeat(image)
    predict = lambda variables, images: (apply(variables, images, False)[0],)
  else:
    batches = parts.evaluation_batches()
    images = (batch.image for batch, _ in batches)
    normalize = parts.compute.normalize
    predict = lambda variables, images: (
      apply(variables, normalize(images), False)[0],
    )
  spread = parts.strategy.spread(
    predict, (parallel.STATE, parallel.BATCH), (parallel.BATCH,)
  )
  first = next(images)
  starter = lambda compiled: lambda: compiled(variables, next(images))
  return Work(lambda: spread.lower(variables, first), starter, params)


def _evaluate(parts: _Parts) -> Work:
  apply, normalize = parts.compute.model.apply, parts.compute.normalize
  variables = parts.variables()

  def predict_fn(variables, images):
    return apply(variables, normalize(images), False)[0]

  params = models_base.num_params(variables)
  variables = parts.compute.fold_for_evaluation(variables)
  compiled_pass = evaluators_base.CompiledPass(
    predict_fn,
    parts.strategy,
    parts.key.batch,
    parts.num_classes,
    ks=(1, min(5, parts.num_classes)),
  )
  masks = parts.strategy.replicate((None,))
  counts = parts.strategy.replicate((compiled_pass.empty_counts(),))
  batches = parts.evaluation_batches()
  first = next(batches)

  def starter(compiled):
    held = [counts]

    def start():
      held[0], *of_batch = compiled(variables, *next(batches), masks, held[0])
      return of_batch

    return start

  lower = compiled_pass.eval_step().lower
  return Work(
    lambda: lower(variables, *first, masks, counts),
    starter,
    params,
  )


def synthetic_info(num_classes: int) -> source.Info:
  """Returns the info of synthetic images, fed like streamed ones."""
  return source.Info(
    name="synthetic",
    split="train",
    num_examples=2**20,
    # Like images that are decoded while training.
    image_shape=(None, None, 3),
    class_names=tuple(map(str, range(num_classes))),
    fingerprint="",
    synthetic=True,
  )


def _open_split(recipe: Mapping[str, Any]) -> source.EncodedSource:
  """Returns the split of section `recipe.tfds`. Raises InputError."""
  split = data_lib.open_split("recipe.tfds", "split", **recipe["tfds"])
  if not split.info.streamed:
    raise errors.InputError(
      "recipe.tfds",
      "a streamed data set for data=tfds",
      f"{split.info.key}, which is kept on the devices",
      "measure it by data=device",
    )
  if split.info.num_classes != recipe["num_classes"]:
    expected = f"{split.info.num_classes} as in {split.info.key}"
    given = recipe["num_classes"]
    raise errors.InputError("recipe.num_classes", expected, given)
  return split


def block(result: Any) -> Any:
  """Waits for the result of a step and returns it."""
  return jax.block_until_ready(result)


def cost(compiled: Any) -> dict[str, float]:
  """Returns the compiler's cost analysis of a step on one device, or {}."""
  try:
    found = compiled.cost_analysis()
  except (NotImplementedError, jax.errors.JaxRuntimeError):
    return {}
  found = found[0] if isinstance(found, list) and found else found
  return dict(found or {})
