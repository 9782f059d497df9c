"""From the sections of a config to everything that a run computes with.

Cheap checks come first, then reading data, then work on the devices.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools

from absl import logging
import numpy as np

from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import data
from imgbench import errors
from imgbench import jax_options
from imgbench import parallel
from imgbench import registry
from imgbench import run_files
from imgbench.data import device
from imgbench.data import input_pipelines
from imgbench.data import order
from imgbench.data import source
from imgbench.evaluators import base as evaluators_base
from imgbench.parallel import processes
from imgbench.train import compute as compute_lib
from imgbench.train import evaluation
from imgbench.train import feeds
from imgbench.train import profiling
from imgbench.train import start
from imgbench.train import state as state_lib

# Models that are prepared with training images get this many.
PREPARE_EXAMPLES = 5000
STEPS_PER_DISPATCH = 16
# Settings of section input that images of one size have, too.
_BAD_KEYS = ("on_bad_example", "most_bad")


@dataclasses.dataclass(frozen=True)
class Periods:
  """Durations of the config in steps; 0 is never."""

  total: int
  logging: int
  checkpoint: int
  evaluation: Mapping[str, int]  # by alias

  def list_all(self) -> tuple[int, ...]:
    """Returns all of them, that of the whole run among them."""
    every = (self.total, self.logging, self.checkpoint)
    return every + tuple(self.evaluation.values())


@dataclasses.dataclass(frozen=True)
class Splits:
  """The splits of a run; only what is known before reading examples.

  Attributes:
    split: for training.
    plan: of the evaluations.
    periods: durations, which depend on the number of training examples.
  """

  split: source.AnySource
  plan: evaluation.Plan
  periods: Periods


@dataclasses.dataclass(frozen=True)
class Training:
  """Everything that training steps need.

  Attributes:
    info: of the training split.
    image_shape: (H, W, C) of the images that the model takes.
    global_batch_size: B.
    compute: everything that runs on the devices.
    feed: arrays of each step.
    data: the training split on the devices; None where it is streamed.
    image_ids: str [N] of it; None where it is streamed.
    leaves: values that the run starts with, see `start.read`.
    steps_per_dispatch: at least 1.
  """

  info: source.Info
  image_shape: tuple[int, int, int]
  global_batch_size: int
  compute: compute_lib.Compute
  feed: feeds.Feed
  data: device.DeviceExamples | None
  image_ids: np.ndarray | None
  leaves: start.Leaves
  steps_per_dispatch: int

  @property
  def strategy(self) -> parallel.Strategy:
    return self.compute.strategy


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A run at step 0.

  Attributes:
    data: its splits.
    training: what steps need.
    state: on the devices.
    evaluators: by alias, in the order of the config.
  """

  data: Splits
  training: Training
  state: state_lib.TrainState
  evaluators: Mapping[str, evaluators_base.Evaluator]


def prepare(
  settings: config_lib.Config,
  profile: profiling.ProfiledSteps | None = None,
  group: processes.Group | None = None,
) -> Prepared:
  """Returns a run at step 0.

  Args:
    settings: of the run.
    profile: steps that are to be traced; checked before data are read.
    group: of the processes, which start from init.source; None: random numbers.

  Raises:
    InputError: a setting, or data, that do not fit.
  """
  layout = open_devices(settings)
  splits = open_data(settings)
  if profile is not None:
    profile.check_within(splits.periods.total)
  training = build_training(settings, layout, splits, group)
  state = init_state(training, settings, splits.split)
  if training.leaves:
    state = training.compute.start(state, training.leaves)
  evaluators = evaluation.build(
    splits.plan,
    settings.evaluation,
    training.compute,
    load,
    averaged=bool(settings.recipe.ema.decay),
  )
  return Prepared(splits, training, state, evaluators)


def open_devices(settings: config_lib.Config) -> compute_lib.Layout:
  """Returns devices and how steps are distributed. Raises InputError."""
  jax_options.check()
  section = settings.parallel
  return compute_lib.build_layout(
    parallel.create_strategy(section.strategy, section.devices, section.fsdp),
    settings.recipe.global_batch_size,
    section.batch_norm,
    section.microbatches,
  )


def open_data(settings: config_lib.Config) -> Splits:
  """Returns the splits of a run; no examples are read. Raises InputError."""
  split = open_train_split(settings.data)
  if split.info.streamed and "size" not in settings.input:
    raise errors.InputError(
      "input.size",
      f"the side of the model's images, as {split.info.key} has several sizes",
      "none",
      "add --config.input.size=64",
    )
  periods = _count_periods(settings, split.info.num_examples)
  return Splits(
    split, evaluation.plan(settings.evaluation, split.info), periods
  )


def open_train_split(section: config_lib.DataSection) -> source.AnySource:
  """Returns the training split; no examples are read. Raises InputError."""
  return data.open_split(
    "data",
    "train_split",
    name=section.name,
    split=section.train_split,
    data_dir=section.data_dir,
    options=section.options,
  )


def build_training(
  settings: config_lib.Config,
  layout: compute_lib.Layout,
  run: Splits,
  group: processes.Group | None = None,
) -> Training:
  """Builds the model, reads its start and the split. Raises InputError."""
  info, recipe = run.split.info, settings.recipe
  own = layout.strategy.own_rows(recipe.global_batch_size)
  read = functools.cache(lambda: _read_examples(run.split, settings.input))
  labels = lambda: read().label
  feed, image_shape = _build_feed(settings, run.split, own, labels)
  compute = compute_lib.build(
    recipe, layout, info, image_shape, max(1, run.periods.total), labels
  )
  leaves: start.Leaves = {}
  section = recipe.init
  if group is not None and (section.train or not start.is_run(section)):
    shapes = compute.state_shapes().variables
    leaves = start.read(recipe, shapes, group, tuple(info.class_names))
  evaluation.check_model(
    settings.evaluation, settings.checkpoint.best, compute.model.reconstructs
  )
  resident, image_ids = None, None
  if not isinstance(run.split, source.EncodedSource):
    examples = read()
    resident = layout.strategy.replicate(device.from_examples(examples))
    image_ids = examples.image_id
  return Training(
    info=info,
    image_shape=image_shape,
    global_batch_size=recipe.global_batch_size,
    compute=compute,
    feed=feed,
    data=resident,
    image_ids=image_ids,
    leaves=leaves,
    steps_per_dispatch=settings.steps.per_dispatch
    or _choose_steps_per_dispatch(layout.strategy, info),
  )


def init_state(
  training: Training,
  settings: config_lib.Config,
  split: source.AnySource,
) -> state_lib.TrainState:
  """Returns the state at step 0, prepared with training images if need be."""
  state = training.compute.init_state()
  if training.compute.model.prepare is None:
    return state
  if training.data is not None:
    images = training.data.image[:PREPARE_EXAMPLES]
  else:
    # A feed of its own: equal images in all processes.
    labels = lambda: _read_examples(split, settings.input).label
    feed, _ = _build_feed(settings, split, slice(None), labels)
    images = training.strategy.replicate(feed.batch_at(0, 1)["image"])
    feed.close()
  return training.compute.prepare(state, images)


def _build_feed(
  settings: config_lib.Config,
  split: source.AnySource,
  own: slice,
  labels: Callable[[], np.ndarray],
) -> tuple[feeds.Feed, tuple[int, int, int]]:
  """Returns the feed of the steps, and the shape of the model's images."""
  info, seed = split.info, settings.recipe.seed
  balanced = labels if settings.data.balanced else None
  examples = order.ExampleOrder(info.num_examples, seed, balanced)
  batch = settings.recipe.global_batch_size
  if not isinstance(split, source.EncodedSource):
    others = settings.input.keys() - _BAD_KEYS
    if others:
      raise errors.InputError(
        "input",
        f"{' or '.join(_BAD_KEYS)} for {info.key}, whose images have one size",
        sorted(others),
        "see section augment",
      )
    with config_utils.prefix_errors("input."):
      source.BadExamples("input", **settings.input)
    height, width, channels = info.image_shape
    assert height is not None and width is not None  # Not encoded.
    shape = (height, width, channels)
    return feeds.ResidentFeed(examples, batch, own), shape
  with config_utils.prefix_errors("input."):
    decoded = registry.call(
      "input",
      input_pipelines.build_train_pipeline,
      split=split,
      seed=seed,
      **settings.input,
    )
  size = settings.input["size"]
  shape = (size, size, info.image_shape[-1])
  return feeds.StreamedFeed(examples, batch, decoded, shape, own), shape


def _read_examples(
  split: source.AnySource, settings: config_lib.Settings
) -> source.Examples:
  """Reads all training examples; only labels of encoded ones."""
  some = {name: settings[name] for name in _BAD_KEYS if name in settings}
  bad = source.BadExamples("input", **some)
  if isinstance(split, source.EncodedSource):
    found = split.examples(bad=bad)
  else:
    found = load(split, bad)
  return found.fill(split.info.num_examples)


def load(split: source.Source, bad: source.BadExamples) -> source.Examples:
  """Reads all examples of a split but bad ones, and logs it."""
  info = split.info
  logging.info("reading %s: %d examples", info.key, info.num_examples)
  return split.load(bad=bad)


def _count_periods(settings: config_lib.Config, num_examples: int) -> Periods:
  batch = settings.recipe.global_batch_size
  calendar = config_utils.Durations(num_examples, batch)
  total = calendar.steps(settings.steps.total, "steps.total")
  if total < 1 and settings.recipe.init.train:
    raise errors.InputError(
      "steps.total", "at least one step", repr(settings.steps.total)
    )
  calendar = config_utils.Durations(num_examples, batch, total)
  suffixes = ("", run_files.EMA) if settings.recipe.ema.decay else ("",)
  return Periods(
    total=total,
    logging=calendar.steps(settings.logging.every, "logging.every"),
    checkpoint=calendar.steps(settings.checkpoint.every, "checkpoint.every"),
    evaluation={
      alias + suffix: calendar.steps(
        entry.every, f"evaluation.sets.{alias}.every"
      )
      for alias, entry in settings.evaluation.sets.items()
      for suffix in suffixes
    },
  )


def _choose_steps_per_dispatch(
  strategy: parallel.Strategy, info: source.Info
) -> int:
  # Gradients of convolutions inside a scan are 30 times slower on XLA:CPU.
  # Images of several steps at once would only fill memory.
  if strategy.platform == "cpu" or info.streamed:
    return 1
  return STEPS_PER_DISPATCH
