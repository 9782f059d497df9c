"""Trains one config in one process, with a seed per request.

python -m experiments.accelerator.cifar_worker, with requests of
`exchange.converse`

It uses the loop of `imgbench.main`. Runs share the data on the device and all
compiled programs: the key of a step, which `compute.build` compiles into the
program, is an argument here. A run with seed k trains like `imgbench.main` with
that seed.
"""

from collections.abc import Mapping
import dataclasses
import functools
import types
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imgbench import cli
from imgbench import config as config_lib
from imgbench import errors
from imgbench import host_memory
from imgbench import parallel
from imgbench import timing
from imgbench.bench import exchange
from imgbench.bench import time_to_accuracy
from imgbench.bench import worker
from imgbench.data import order
from imgbench.train import compute as compute_lib
from imgbench.train import feeds
from imgbench.train import setup
from imgbench.train import step as step_lib

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
# The clock of the baseline covers its whitening.
PREPARE = "prepare_s"


class SeededCompute:
  """A Compute for one run, with compiled steps for all seeds.

  Args:
    compute: of the config; its key is not used.
    step_key: uint32, data of the key of this run's steps.
    programs: number of steps per call -> compiled steps; filled here.
  """

  def __init__(
    self,
    compute: compute_lib.Compute,
    step_key: jax.Array,
    programs: dict[int, Any],
  ):
    self.schedule, self.strategy = compute.schedule, compute.strategy
    self.state_shapes, self.loss = compute.state_shapes, compute.loss
    self.prng = compute.prng
    self._compute, self._key, self._programs = compute, step_key, programs

  def lower(self, state: Any, data: Any, fed: Any, steps: int = 1) -> Any:
    """Lowers like `Compute.lower`; the result only has `compile`."""
    if steps not in self._programs:
      step = self._spread(state, steps)
      with self._compute.prng.active():
        lowered = step.lower(state, (data, self._key), fed)
      self._programs[steps] = lowered.compile()
    program = self._programs[steps]
    call = lambda state, data, fed: program(state, (data, self._key), fed)
    return types.SimpleNamespace(compile=lambda: call)

  def _spread(self, state: Any, steps: int) -> Any:
    compute = self._compute

    def body(state, shared, fed):
      data, key = shared
      step = step_lib.build_device_step(
        compute.train_step,
        compute.sample,
        jax.random.wrap_key_data(key, impl=compute.prng.impl),
      )
      step = step if steps == 1 else step_lib.scan_steps(step)
      return step(state, data, fed)

    fed = parallel.BATCH if steps == 1 else parallel.BATCHES
    return compute.strategy.spread(
      body,
      (parallel.STATE, parallel.REPLICATED, fed),
      (parallel.STATE, parallel.REPLICATED),
      state=state,
      donate=(0,),
    )


class Trainer:
  """Data and compiled programs shared by all runs of a config.

  Args:
    config: of `time_to_accuracy.load_config`.

  Raises:
    InputError: a bad config, or one with streamed data, mixed images or a model
      that needs random numbers.
  """

  def __init__(self, config: ml_collections.ConfigDict):
    self.config = config
    settings = config_lib.parse(config)
    self.prepared = setup.prepare(settings)
    self.training = training = self.prepared.training
    compute, augment = training.compute, settings.recipe.augment
    mixes = augment.mixup or augment.cutmix
    if training.info.streamed or mixes or compute.model.needs_key:
      raise errors.InputError(
        "config",
        "images of one size, no mixing, and a model without random numbers",
        "another",
      )
    self._programs: dict[int, Any] = {}
    jit = functools.partial(
      training.strategy.jit,
      out=training.strategy.state_sharding(compute.state_shapes()),
    )
    self._begin = jit(lambda key: compute.create_state(compute.model.init(key)))
    self._prepare = None
    if compute.model.prepare is not None:
      self._images = training.data.image[: setup.PREPARE_EXAMPLES]
      self._prepare = jit(
        lambda variables, images: compute.create_state(
          compute.model.prepare(variables, compute.normalize(images))
        )
      )
    time_to_accuracy.compile_evaluations(self.prepared)
    self._compiled: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(self._note)

  def _note(self, event: str, duration_s: float, **_) -> None:
    if event == COMPILE_EVENT:
      self._compiled.append(duration_s)

  def run(self, seed: int, metric: str, target: float) -> dict[str, Any]:
    """Trains from scratch.

    Args:
      seed: of the run.
      metric: see `time_to_accuracy.run`.
      target: accuracy in (0, 1].

    Returns:
      "seconds" (of the model's preparation, training, evaluations and
      logging), "accuracy", "times" with the seconds of every section, and
      "compiled", the number of programs that this run compiled.
    """
    before = len(self._compiled)
    config = self.config.copy_and_resolve_references()
    config.seed = seed
    watch = timing.Stopwatch()
    with watch.section("setup_s"):
      prepared = self._seeded(seed)
    if self._prepare is not None:
      with watch.section(PREPARE):
        state = self._prepare(prepared.state.variables, self._images)
        state = jax.block_until_ready(state)
        prepared = dataclasses.replace(prepared, state=state)
    found = time_to_accuracy.run(config, prepared, watch, metric, target)
    return {
      "seconds": found["seconds"] + watch.total(PREPARE),
      "accuracy": found["final_accuracy"],
      "times": watch.totals(),
      "compiled": len(self._compiled) - before,
    }

  def _seeded(self, seed: int) -> setup.Prepared:
    """Returns the parts of a run, with the keys of `compute.build`."""
    training, strategy = self.training, self.training.strategy
    batch = training.global_batch_size
    examples = order.ExampleOrder(training.info.num_examples, seed)
    with training.compute.prng.active():
      init_key, step_key = jax.random.split(jax.random.key(seed))
      state = jax.block_until_ready(self._begin(init_key))
    step_key = strategy.replicate(jax.random.key_data(step_key))
    return dataclasses.replace(
      self.prepared,
      state=state,
      training=dataclasses.replace(
        training,
        feed=feeds.ResidentFeed(examples, batch, strategy.own_rows(batch)),
        compute=SeededCompute(training.compute, step_key, self._programs),
      ),
    )

  def write_data(self, path: str, alias: str) -> None:
    """Writes the pixels and labels of training and of an evaluation set."""
    data = self.training.data
    test = self.prepared.evaluators[alias].examples
    np.savez(
      path,
      train_images=np.asarray(data.image),
      train_labels=np.asarray(data.label),
      test_images=test.image,
      test_labels=test.label,
    )


class Ours:
  """Request handlers; `begin` comes first."""

  def begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the data, and compiles everything in a run that does not count.

    Only compiled programs are kept from that run.

    Args:
      request: "config", "overrides", "metric", "target"; "data", a path for
        `Trainer.write_data`; "warm_up_seed".

    Returns:
      "environment", "key" with fields of `rows.Key`, "warm_up_s", and as
      "shared" settings of the baseline: "platform" and "compile".
    """
    with timing.timed() as timed:
      self._metric, self._target = request["metric"], request["target"]
      config = time_to_accuracy.load_config(
        request["config"], 0, request["overrides"]
      )
      time_to_accuracy.check_metric(config, self._metric)
      config.logging.tensorboard = False
      self._trainer = trainer = Trainer(config)
      trainer.write_data(request["data"], self._metric.partition("/")[0])
      self.run({"seed": request["warm_up_seed"]})
    training = trainer.training
    return {
      **worker.describe({}),
      "key": {
        "framework": "imgbench",
        "name": request["config"],
        "model": config.model.name,
        "batch": training.global_batch_size,
        "image_size": training.info.image_shape[0],
        "dtype": jnp.dtype(training.compute.model.dtype).name,
        "strategy": config.parallel.strategy,
        "devices": training.strategy.num_devices,
      },
      "shared": {
        "platform": training.strategy.platform,
        "compile": training.strategy.platform == "gpu",
      },
      "warm_up_s": timed.seconds,
    }

  def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
    """Trains with the request's "seed", see `Trainer.run`."""
    return self._trainer.run(request["seed"], self._metric, self._target)


def main() -> None:
  """Answers requests."""
  host_memory.keep()
  cli.keep_compiled("default")
  ours = Ours()
  handlers = {"begin": ours.begin, "run": ours.run}
  exchange.converse(
    {k: worker.refuse_bad_input(h) for k, h in handlers.items()}
  )


if __name__ == "__main__":
  main()
