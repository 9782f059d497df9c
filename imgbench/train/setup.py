"""From a config to the parts of a run; everything is checked here first."""

from collections.abc import Mapping
import dataclasses

from absl import logging
import jax
import ml_collections

from imgbench import config_utils
from imgbench import data
from imgbench import errors
from imgbench import losses
from imgbench import parallel
from imgbench import run_files
from imgbench.data import device
from imgbench.data import order
from imgbench.data import source
from imgbench.evaluators import base as evaluators_base
from imgbench.metrics import diagnostics
from imgbench.metrics import specs
from imgbench.models import base as models_base
from imgbench.train import compute as compute_lib
from imgbench.train import evaluation
from imgbench.train import feeds
from imgbench.train import inputs
from imgbench.train import profiling
from imgbench.train import state as state_lib

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
  "deterministic": None,
}
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
    trained_shares: by alias, the share of a split that is trained on.
    feed: what the steps are fed, by step.
    train_data: the training split on the devices; None where it is streamed.
    state: at step 0, on the devices.
    num_params: numbers that are trained.
    compute: what runs on the devices.
    steps_per_dispatch: at least 1.
    evaluators: by alias, in the order of the config.
    plan: of the evaluations.
    thresholds: of the warnings.
    periods: when what is due.
    global_batch_size: B.
    image_shape: (H, W, C) of the images that the model takes.
    profiled: steps whose trace is written, whole dispatches; None: none.
  """

  strategy: parallel.Strategy
  info: source.Info
  trained_shares: Mapping[str, float]
  feed: feeds.Feed
  train_data: device.DeviceExamples | None
  state: state_lib.TrainState
  num_params: int
  compute: compute_lib.Compute
  steps_per_dispatch: int
  evaluators: Mapping[str, evaluators_base.Evaluator]
  plan: evaluation.Plan
  thresholds: diagnostics.Thresholds
  periods: Periods
  global_batch_size: int
  image_shape: tuple[int, int, int]
  profiled: profiling.Steps | None = None


def build(
  config: ml_collections.ConfigDict, profile: profiling.Steps | None = None
) -> Parts:
  """Returns the parts of a run at step 0.

  Cheap checks come first, then the data, then the devices' work.

  Args:
    config: as `configs.common.base_config`, filled.
    profile: steps whose trace is asked for.

  Raises:
    InputError: whatever in the config or the data does not fit.
  """
  config_utils.check_sections(config, SECTIONS)
  spread = compute_lib.parallelism(config)
  strategy = spread.strategy
  _check_values(config)
  train_source = build_source(config.data, split=config.data.train_split)
  info = train_source.info
  periods = _periods(config, info.num_examples)
  steps_per_dispatch = _steps_per_dispatch(config, strategy, info)
  if profile is not None:
    profile = profile.whole_dispatches(steps_per_dispatch, periods.total)
  thresholds = evaluation.thresholds(config)
  evaluation_plan = evaluation.plan(config, info, build_source)
  own = strategy.own_rows(config.global_batch_size)
  feed, image_shape = _feed(config, train_source, own)
  compute = compute_lib.build(config, spread, info, image_shape, periods.total)

  train_data, train_ids = None, None
  if not info.streamed:
    examples = load(train_source)
    train_data = strategy.replicate(device.from_examples(examples))
    train_ids = examples.image_id
  state = compute.begin()
  if compute.model.prepare is not None:
    images = _first_images(config, strategy, train_source, train_data)
    state = compute.prepare(state, images)
  built = evaluation.build(
    evaluation_plan,
    config,
    strategy,
    compute.model.apply,
    compute.normalize,
    load,
    compute.fold_for_evaluation,
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
    compute=compute,
    steps_per_dispatch=steps_per_dispatch,
    evaluators=built,
    plan=evaluation_plan,
    thresholds=thresholds,
    periods=periods,
    global_batch_size=config.global_batch_size,
    image_shape=image_shape,
    profiled=profile,
  )


def _feed(
  config, train_source, own: slice
) -> tuple[feeds.Feed, tuple[int, int, int]]:
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
    return feeds.ResidentFeed(examples, batch, own), info.image_shape
  decoded, size = inputs.train_pipeline(config.input, train_source, config.seed)
  shape = (size, size, info.image_shape[-1])
  return feeds.StreamedFeed(examples, batch, decoded, shape, own), shape


def _first_images(config, strategy, train_source, train_data) -> jax.Array:
  """Images uint8 [N, H, W, C] of the training split, equal in all processes."""
  if train_data is not None:
    return train_data.image[:PREPARE_EXAMPLES]
  feed, _ = _feed(config, train_source, slice(None))
  images = feed.at(0, 1)["image"]
  feed.close()
  return strategy.replicate(images)


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
  if compute_lib.loss_name(config) not in losses.LOSSES:
    raise errors.InputError(
      f"loss.name: expected one of {', '.join(losses.LOSSES)}, got"
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
  best_metrics = [n for n, m in specs.METRICS.items() if m.selects]
  alias, _, metric = best.partition("/")
  known = list(config.evaluation.sets)
  if config.ema.decay:
    known += [name + run_files.EMA for name in known]
  if best and (alias not in known or metric not in best_metrics):
    raise errors.InputError(
      "checkpoint.best: expected a metric of one of the evaluation sets"
      f" ({', '.join(known) or 'none'}), such as"
      f" val/top1_accuracy (also {', '.join(best_metrics[1:])}), got {best!r}"
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
      alias + suffix: every(
        entry.get("every", config.evaluation.every),
        f"evaluation.sets.{alias}.every",
      )
      for alias, entry in config.evaluation.sets.items()
      for suffix in (("", run_files.EMA) if config.ema.decay else ("",))
    },
  )


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
