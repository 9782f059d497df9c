"""Benchmarks a training step and the time spent around it.

imgbench bench step --config=configs/cifar10_fast.py \\
    --config.data.data_dir=DIR --out=experiments/results/step_cifar10_fast

Takes turns, round by round in one process, so that ratios are right on a
machine whose speed drifts:
- step: on one fixed batch on the device (no input path);
- step_with_input: with gather, augmentation and normalisation on the device
  (images of streamed data sets are decoded before);
- loop: a whole run of that many steps of `imgbench.main`, with its order of
  examples, logging (as configured), finite check, status and one checkpoint at
  the end; without set-up, compiling, evaluation and report.
Then, in fresh processes: from the start of the program to the end of its first
step, with an empty and with a filled compilation cache.
"""

import dataclasses
import pathlib
import subprocess
import sys
import tempfile

from absl import flags
import jax

from imgbench import cli
from imgbench import commands
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import host_memory
from imgbench import interrupts
from imgbench import parallel
from imgbench import run_files
from imgbench import startup
from imgbench import timing
from imgbench.bench import quantities
from imgbench.models import base as models_base
from imgbench.train import loop
from imgbench.train import setup
from imgbench.train import state as state_lib

REQUIRED = ("config",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --config (of imgbench.main) and how much is measured."""
  cli.define_config_flag(flag_values)
  quantities.define_flags(
    flag_values,
    rounds=(7, 1, "Counted rounds."),
    steps=(20, 1, "Steps per round."),
    starts=(3, 0, "Programs started to time their first step; 0: none."),
  )


class FixedBatch:
  """The train step alone, repeated on one batch."""

  def __init__(self, prepared: setup.Prepared):
    training = prepared.training
    fed = training.feed.batch_at(0, 1)
    if training.data is None:  # Images are decoded on the host.
      images, label = fed["image"], fed["label"]
    else:
      images, label = training.data.image, training.data.label[fed["index"]]
    strategy, compute = training.strategy, training.compute
    sample = lambda *args: strategy.as_batch(compute.sample(*args))
    with compute.prng.active():
      image = strategy.jit(sample, out=strategy.batch)(
        images, fed["index"], fed["epoch"], jax.random.key(0)
      )
    self._batch = {"image": image, "label": strategy.shard_batch(label)}
    self._state = _copy(prepared.state)
    step = strategy.spread(
      compute.train_step,
      (parallel.STATE, parallel.BATCH),
      (parallel.STATE, parallel.REPLICATED),
      state=self._state,
      donate=(0,),
    )
    with compute.prng.active():
      self._step = step.lower(self._state, self._batch).compile()

  def __call__(self, unused: int) -> jax.Array:
    self._state, loss = self._step(self._state, self._batch)
    return loss


class WithInput:
  """The device step alone, with batches that are on the devices.

  They hold the order of the examples, or decoded images of a streamed data set:
  the host's part of the input counts in the loop only.
  """

  def __init__(self, prepared: setup.Prepared, steps: int):
    training = prepared.training
    self._data = training.data
    self._orders = [
      training.strategy.shard_batch(training.feed.batch_at(step, 1))
      for step in range(steps)
    ]
    self._state = _copy(prepared.state)
    self._step = training.compute.lower(
      self._state, self._data, self._orders[0]
    ).compile()

  def __call__(self, index: int) -> jax.Array:
    self._state, loss = self._step(self._state, self._data, self._orders[index])
    return loss


class WholeRun:
  """Runs of the training loop, each in its own workdir."""

  def __init__(self, prepared: setup.Prepared, config, steps: int):
    self._config = config.copy_and_resolve_references()
    with self._config.unlocked():
      self._config.steps.total = f"{steps} steps"
      self._config.logging.report = False
      self._config.checkpoint.every = "never"
    data = prepared.data
    periods = dataclasses.replace(data.periods, total=steps, checkpoint=0)
    self._prepared = dataclasses.replace(
      prepared, data=dataclasses.replace(data, periods=periods)
    )

  def seconds(self) -> tuple[float, float]:
    """Returns seconds of training and logging, without and with checkpoint."""
    state = _copy(self._prepared.state)
    prepared = dataclasses.replace(self._prepared, state=state)
    with tempfile.TemporaryDirectory() as name:
      # Not entered, so that Ctrl-C ends the benchmark.
      stop = interrupts.StopRequest()
      loop.train_and_evaluate(self._config, name, prepared=prepared, stop=stop)
      path = pathlib.Path(name) / run_files.STATUS
      times = run_files.read_json(path)["times"]
    training_s = times["train_s"] + times["log_s"]
    return training_s, training_s + times["checkpoint_s"]


def _copy(state: state_lib.TrainState) -> state_lib.TrainState:
  return jax.tree.map(lambda x: x.copy(), state)


def measure_steps(
  prepared: setup.Prepared, config, rounds: int, steps: int
) -> dict[str, quantities.Samples]:
  """Returns rows of the three tools: milliseconds, images/s and ratios."""
  # A multiple of the steps per dispatch.
  training = prepared.training
  many = training.steps_per_dispatch
  steps = -(-steps // many) * many
  bare, full = FixedBatch(prepared), WithInput(prepared, steps)
  whole = WholeRun(prepared, config, steps)
  tools = {
    "step": lambda: timing.measure_round(bare, steps),
    "step_with_input": lambda: timing.measure_round(full, steps),
    "loop": lambda: [s / steps for s in whole.seconds()],
  }
  seconds = quantities.interleave(tools, rounds, "step")
  loops = zip(*seconds.pop("loop"), strict=True)
  seconds["loop_without_checkpoint"], seconds["loop"] = loops
  rows = {}
  for name, values in seconds.items():
    rows[f"{name}_ms"] = quantities.Samples("ms", [1e3 * v for v in values])
    rows[f"{name}_images_per_s"] = quantities.Samples(
      "images/s", [training.global_batch_size / v for v in values]
    )
  rows["input_over_bare"] = quantities.ratio(
    "relative cost", seconds["step_with_input"], seconds["step"]
  )
  for name in ("loop", "loop_without_checkpoint"):
    pairs = zip(seconds[name], seconds["step_with_input"], strict=True)
    rows[name.replace("loop", "share_outside_step")] = quantities.Samples(
      "relative cost", [1 - step / whole for whole, step in pairs]
    )
  return rows


def measure_starts(arguments: list[str], starts: int) -> dict:
  """Returns seconds from starting the program to the end of its first step."""
  rows = {"cold_start_to_first_step_s": [], "start_to_first_step_s": []}
  for _ in range(starts):
    with tempfile.TemporaryDirectory() as folder:
      # The first compiles into an empty cache, which the second reads.
      for number, seconds in enumerate(rows.values()):
        command = [
          *(sys.executable, "-m", "imgbench.main", *arguments),
          f"--workdir={folder}/{number}",
          f"--compilation_cache={folder}/cache",
          "--config.steps.total=2 steps",
          "--config.logging.every=1 steps",
          "--config.steps.per_dispatch=1",
        ]
        seconds.append(_seconds_to_first_step(command))
  return {
    name: quantities.Samples("s", values) for name, values in rows.items()
  }


def _seconds_to_first_step(command: list[str]) -> float:
  started = timing.clock()
  log = []
  with subprocess.Popen(
    command,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
    encoding="utf-8",
  ) as program:
    for line in program.stderr:
      log.append(line)
      if "step 1/2" in line:
        seconds = timing.clock() - started
        program.kill()
        return seconds
  raise errors.RunError(
    f"{' '.join(command)} took no step: {''.join(log[-3:]).strip()}"
  )


def _config_arguments(argv: list[str]) -> list[str]:
  """Returns the arguments --config and --config.* for other programs."""
  kept, names_config = [], False
  for arg in argv:
    is_config = arg.lstrip("-").startswith("config")
    if is_config or names_config:
      kept.append(arg)
    names_config = is_config and "=" not in arg
  return kept


def main(argv: list[str]) -> None:
  """Measures, prints and writes the rows."""
  del argv
  values = flags.FLAGS
  kept = host_memory.keep()
  cli.show_log()
  cli.keep_compiled("default")  # Compiling is not timed in this process.
  config = values.config
  # Only steps are measured here.
  with config.unlocked():
    config.evaluation.sets = {}
    config.evaluation.shift = {}
    config.evaluation.class_masks = {}
    config.checkpoint.best = ""
  quantities.check_out(values.out, "step")
  startup.log_start(config, values["config"].config_filename)
  with timing.timed() as built:
    prepared = setup.prepare(config_lib.parse(config))
  rows = measure_steps(prepared, config, values.rounds, values.steps)
  if values.starts:
    rows |= measure_starts(_config_arguments(sys.argv[1:]), values.starts)
  training = prepared.training
  facts = {
    "keeps_memory": kept,
    "config": values["config"].config_filename,
    "config_hash": config_utils.config_hash(config),
    "seed": config.seed,
    "global_batch_size": training.global_batch_size,
    "image_shape": list(training.info.image_shape),
    "model": config.model.name,
    "dtype": config.model.dtype,
    "strategy": config.parallel.strategy,
    "num_params": models_base.num_params(prepared.state.variables),
    "devices_used": training.strategy.num_devices,
    "steps_per_dispatch": training.steps_per_dispatch,
    "steps_per_round": values.steps,
    "setup_s": built.seconds,
  }
  quantities.publish("step", rows, facts, values.out)


if __name__ == "__main__":
  commands.start("bench step")
