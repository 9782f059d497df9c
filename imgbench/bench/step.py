"""What a training step costs, and what is spent around it.

python -m imgbench.bench.step --config=configs/cifar10_fast.py \
    --config.data.data_dir=DIR --out=experiments/results/step_cifar10_fast.json

Measured in turn, round by round in one process, so that ratios hold on a
machine whose speed drifts:
- the step on one fixed batch that is on the device (no input path);
- the step with its input: order, gather, augmentation, normalisation;
- the loop itself, with what it does on the host between steps.
Then, in processes of their own: from the start of the program to the end of
its first step.
"""

import pathlib
import subprocess
import sys
import tempfile

from absl import app
from absl import flags
from absl import logging
import jax

from imgbench import cli
from imgbench import timing
from imgbench.bench import environment
from imgbench.bench import record
from imgbench.train import setup
from imgbench.train import stepper


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --config (as of imgbench.main) and how much is measured."""
  cli.define_config_flag(flag_values)
  flags.DEFINE_integer(
    "rounds", 7, "Rounds that count.", 1, flag_values=flag_values
  )
  flags.DEFINE_integer(
    "steps", 20, "Steps per round.", 1, flag_values=flag_values
  )
  flags.DEFINE_integer(
    "starts",
    3,
    "Programs started to time their first step; 0: none.",
    0,
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "out", "", "JSON file of the rows; empty: none.", flag_values=flag_values
  )


class FixedBatch:
  """The train step alone, again and again on one batch."""

  def __init__(self, parts: setup.Parts):
    order = parts.order.at(0, parts.global_batch_size)
    key = jax.random.key(0)
    image = parts.strategy.jit(parts.sample, out=parts.strategy.batch)(
      parts.train_data.image, order["index"], order["epoch"], key
    )
    label = parts.strategy.shard_batch(parts.train_data.label[order["index"]])
    self._batch = {"image": image, "label": label}
    self._state = jax.tree.map(lambda x: x.copy(), parts.state)
    self._step = (
      parts.strategy.jit(parts.train_step, donate=(0,))
      .lower(self._state, self._batch)
      .compile()
    )

  def __call__(self, unused: int) -> jax.Array:
    self._state, loss = self._step(self._state, self._batch)
    return loss


class WithInput:
  """The device step, called bare with orders made before."""

  def __init__(self, parts: setup.Parts, steps: int):
    batch = parts.global_batch_size
    self._data = parts.train_data
    self._orders = [
      parts.strategy.shard_batch(parts.order.at(step * batch, batch))
      for step in range(steps)
    ]
    self._state = jax.tree.map(lambda x: x.copy(), parts.state)
    self._step = (
      parts.strategy.jit(parts.device_step, donate=(0,))
      .lower(self._state, self._data, self._orders[0])
      .compile()
    )

  def __call__(self, index: int) -> jax.Array:
    self._state, loss = self._step(self._state, self._data, self._orders[index])
    return loss


class Loop:
  """The stepper of the training loop, one `advance` for a whole round."""

  def __init__(self, parts: setup.Parts, steps: int):
    self._stepper = stepper.Stepper(parts, [steps])
    self._state = jax.tree.map(lambda x: x.copy(), parts.state)
    self._steps = steps
    self._done = 0

  def __call__(self, unused: int) -> jax.Array:
    self._state, self._done = self._stepper.advance(
      self._state, self._done, self._done + self._steps
    )
    return self._state.step


def measure_steps(
  parts: setup.Parts, rounds: int, steps: int
) -> dict[str, record.Spread]:
  """Returns seconds per step and images per second of the three, and ratios."""
  bare, full = FixedBatch(parts), WithInput(parts, steps)
  loop = Loop(parts, steps)
  seconds = {"step": [], "step_with_input": [], "loop": []}
  for number in range(rounds + 1):
    times = {
      "step": timing.measure_round(bare, steps),
      "step_with_input": timing.measure_round(full, steps),
      "loop": timing.measure_round(loop, 1) / steps,
    }
    if number:  # The first round warms up.
      for name, value in times.items():
        seconds[name].append(value)
    logging.info("round %d of %d: %s", number, rounds, times)
  rows = {}
  for name, values in seconds.items():
    rows[f"{name}_ms"] = record.Spread([1e3 * v for v in values])
    rows[f"{name}_images_per_s"] = record.Spread(
      [parts.global_batch_size / v for v in values]
    )
  rows["input_over_bare"] = record.ratio(
    seconds["step_with_input"], seconds["step"]
  )
  share = record.ratio(seconds["loop"], seconds["step_with_input"])
  rows["share_outside_step"] = record.Spread([1 - 1 / r for r in share.values])
  return rows


def measure_starts(arguments: list[str], starts: int) -> record.Spread:
  """Seconds from starting the program to the end of its first step."""
  seconds = []
  for number in range(starts):
    with tempfile.TemporaryDirectory() as folder:
      workdir = pathlib.Path(folder) / "run"
      command = [
        *(sys.executable, "-m", "imgbench.main", *arguments),
        f"--workdir={workdir}",
        "--config.steps.total=2 steps",
        "--config.logging.every=1 steps",
        "--config.steps.per_dispatch=1",
      ]
      started = timing.clock()
      with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
      ) as program:
        for line in program.stderr:
          if "step 1/2" in line:
            seconds.append(timing.clock() - started)
            program.kill()
      if len(seconds) <= number:
        raise RuntimeError(f"{' '.join(command)} took no step")
  return record.Spread(seconds)


def main(argv: list[str]) -> None:
  """Measures, prints and writes the rows."""
  del argv
  values = flags.FLAGS
  cli.show_log()
  config = values.config
  # Only steps are measured here.
  with config.unlocked():
    config.evaluation.sets = {}
    config.checkpoint.best = ""
  with cli.one_line_errors(), timing.timed() as built:
    parts = setup.build(config)
  rows = measure_steps(parts, values.rounds, values.steps)
  if values.starts:
    rows["start_to_first_step_s"] = measure_starts(
      [a for a in sys.argv[1:] if a.lstrip("-").startswith("config")],
      values.starts,
    )
  facts = {
    "config": values["config"].config_filename,
    "global_batch_size": parts.global_batch_size,
    "image_shape": list(parts.info.image_shape),
    "num_params": parts.num_params,
    "devices_used": parts.strategy.num_devices,
    "setup_s": built.seconds,
  }
  for name, spread in rows.items():
    print(f"{name:32} {spread.text()}")
  if values.out:
    record.write(pathlib.Path(values.out), rows, facts, environment.collect())


if __name__ == "__main__":
  define_flags(flags.FLAGS)
  app.run(main, flags_parser=cli.parse_flags)
