"""Benchmarks the metric kernels against a floor and other libraries.

imgbench bench metrics --out=experiments/results/metrics_cpu

Computes top-1, top-5, multi-label hits, counts by class, subsets and the
confusion matrix of float32 logits [N, K] on the device. Tools take turns, round
by round in one process, so that ratios are right on a machine whose speed
drifts:
- floor: one maximum per row by XLA, which reads the logits once;
- whole: all in one call;
- streamed: in batches, the last one padded, by `metrics.stream`; one_by_one
  without sending several batches to the device at once;
- baselines: PyTorch, torcheval, torchmetrics and scikit-learn if installed
  (requirements/peers.txt), on the same numbers. All results are compared before
  anything is timed.
Then a ResNet's evaluation step with and without the counts, and the counts
alone on logits of that batch, whose share of the step is more precise on a
noisy machine.
"""

from collections.abc import Callable
from collections.abc import Mapping
import functools
from typing import Any

from absl import flags
from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import models
from imgbench import startup
from imgbench import timing
from imgbench.bench import quantities
from imgbench.experiments.benchmarks.metric_kernels import peers as baselines
from imgbench.metrics import confusion
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import outcomes as outcomes_lib
from imgbench.metrics import stream

FLOOR = "floor"
_WARM_S = 0.2


REQUIRED = ()


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the sizes, how much is measured and where rows go."""
  quantities.define_flags(
    flag_values,
    examples=(50_000, 1, "Rows of logits, N."),
    classes=(1000, 1, "Classes, K."),
    rounds=(9, 1, "Counted rounds."),
    batch=(256, 1, "Batch size of the streamed pass."),
    step_batch=(16, 0, "Batch size of the evaluation step; 0: not measured."),
    step_rounds=(9, 1, "Rounds of the evaluation step."),
  )
  flags.DEFINE_string(
    "model",
    "resnet50",
    "Model of the evaluation step.",
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    "step_dtype",
    "float32",
    ["float32", "bfloat16"],
    "Activations of the evaluation step.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "peers", True, "Measure installed baselines.", flag_values=flag_values
  )


def draw(examples: int, classes: int, seed: int = 0) -> baselines.Problem:
  """Returns random scores without ties, with about 50% top-1 accuracy.

  Raises:
    InputError: fewer examples than classes.
  """
  if examples < classes:
    expected = f"at least {classes}, the number of classes"
    raise errors.InputError("--examples", expected, examples)
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(examples) % classes).astype(np.int32)
  logits = rng.standard_normal((examples, classes), np.float32)
  logits[np.arange(examples), labels] += 3.2
  # Reviews as in imagenet2012_multilabel: of few classes per image.
  codes = np.zeros((examples, classes), np.int8)
  rows = np.repeat(np.arange(examples), 8)
  columns = rng.integers(0, classes, rows.size)
  codes[rows, columns] = rng.integers(1, 4, rows.size)
  codes[np.arange(examples), labels] = 3
  thirds = np.arange(classes) * 3 // max(classes, 1)
  return baselines.Problem(
    logits=logits,
    labels=labels,
    codes=codes,
    left_out=rng.random(examples) < 0.05,
    subsets={
      name: thirds == i for i, name in enumerate(("dog", "organism", "object"))
    },
  )


def count(state, logits, labels, codes, left_out, mask):
  """Returns counts of a batch and its top-1 predictions."""
  outcomes = outcomes_lib.outcomes(logits, labels, codes)
  counts = counts_lib.update(state, outcomes, labels, mask, left_out=left_out)
  return counts, outcomes.top1


compiled_count = jax.jit(count, donate_argnums=0)


def build_whole(problem: baselines.Problem) -> Callable[[], baselines.Result]:
  """Returns a function that counts all examples in one call."""
  arrays = _put_on_device(problem)
  mask = jax.device_put(np.ones(len(problem.labels), bool))

  def run():
    state = counts_lib.empty(problem.num_classes)
    counts, top1 = compiled_count(state, *arrays, mask)
    return _compute_result(problem, *jax.device_get((counts, top1)))

  return run


def build_streamed(
  problem: baselines.Problem, batch: int, group: int = stream.GROUP
) -> Callable[[], baselines.Result]:
  """Returns a function that counts in batches, the last one padded."""
  n = len(problem.labels)
  batches = []
  for start in range(0, n, batch):
    index = np.minimum(np.arange(start, start + batch), n - 1)
    mask = np.arange(start, start + batch) < n
    arrays = (problem.logits, problem.labels, problem.codes, problem.left_out)
    batches.append(jax.device_put([*(a[index] for a in arrays), mask]))

  def run():
    counting = stream.Stream(problem.num_classes, keep="top1", group=group)
    for logits, labels, codes, left_out, mask in batches:
      counting.add(
        logits, labels, mask=mask, label_codes=codes, left_out=left_out
      )
    return _compute_result(problem, *counting.result())

  return run


def build_floor(problem: baselines.Problem) -> Callable[[], Any]:
  """Returns a function that takes one maximum per row by XLA."""
  logits = jax.device_put(problem.logits)
  maximum = jax.jit(lambda x: jnp.max(x, axis=1))
  return lambda: jax.block_until_ready(maximum(logits))


def _put_on_device(problem: baselines.Problem) -> list[jax.Array]:
  return jax.device_put(
    [problem.logits, problem.labels, problem.codes, problem.left_out]
  )


def _compute_result(problem, counts, top1) -> baselines.Result:
  """Returns the expected result of every tool, from counts on the host."""
  hits, n = counts.top_hits(1), counts.count
  return {
    "top1_accuracy": hits.sum() / n.sum(),
    "top5_accuracy": counts.top_hits(5).sum() / n.sum(),
    "class_accuracy": hits / n,
    "count": n,
    "reviewed_count": counts.reviewed_count,
    "lenient_hits": counts.lenient_hits,
    "subset_accuracy": {
      name: hits[mask].sum() / n[mask].sum()
      for name, mask in problem.subsets.items()
    },
    "confusion": confusion.confusion_matrix(
      problem.labels, top1, problem.num_classes
    ),
  }


def measure_tools(
  tools: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, quantities.Samples]:
  """Returns rows of all tools, interleaved: milliseconds, ratios to floor."""
  calls = {n: functools.partial(_warm_seconds, f) for n, f in tools.items()}
  seconds = quantities.interleave(calls, rounds, "metrics")
  rows = {
    f"{name}_ms": quantities.Samples("ms", [1e3 * v for v in values])
    for name, values in seconds.items()
  }
  for name, values in seconds.items():
    if name != FLOOR:
      rows[f"{name}_over_floor"] = quantities.ratio(
        "relative cost", values, seconds[FLOOR]
      )
    if name not in (FLOOR, "whole"):
      ours = name.startswith("streamed")
      rows[f"{name}_over_whole"] = quantities.ratio(
        "relative cost" if ours else "relative speed", values, seconds["whole"]
      )
  return rows


def _warm_seconds(run: Callable[[], Any]) -> float:
  """Returns seconds of a call, after others that warm its memory.

  While another tool runs for seconds the system may reclaim pages, which slows
  down the first calls several times.
  """
  started = timing.clock()
  run()
  while timing.clock() - started < _WARM_S:
    run()
  return timing.measure_round(lambda unused: run(), 1)


def measure_eval_step(
  name: str, batch: int, rounds: int, dtype: str = "float32"
) -> dict[str, quantities.Samples]:
  """Returns rows of a model's forward pass, alone and with metrics.

  `counts` has the counts of this benchmark; `outcomes` has all that evaluators
  keep of an example, including the first five probabilities.
  """
  classes, shape = 1000, (224, 224, 3)
  model = models.build_model(
    name, num_classes=classes, image_shape=shape, dtype=jnp.dtype(dtype)
  )
  variables = jax.jit(model.init)(jax.random.key(0))
  images = jax.random.normal(jax.random.key(1), (batch, *shape), dtype)
  problem = draw(max(batch, classes), classes)
  arrays = [x[:batch] for x in _put_on_device(problem)]
  logits, labels, codes, left_out = arrays
  mask = jnp.ones(batch, bool)

  def outcomes_of(logits, state):
    outcomes = outcomes_lib.outcomes(logits, labels, codes)
    counts = counts_lib.update(state, outcomes, labels, mask, left_out=left_out)
    return counts, outcomes

  def counts_of(logits, state):
    counts, outcomes = outcomes_of(logits, state)
    return counts, outcomes.top1

  forward = lambda v, x: model.apply(v, x, False)[0]
  empty = counts_lib.empty(classes)
  # Variables are arguments: constants would be part of each program.
  steps = {
    "forward": jax.jit(forward),
    "forward_with_counts": jax.jit(
      lambda v, x: counts_of(forward(v, x), empty)
    ),
    "forward_with_outcomes": jax.jit(
      lambda v, x: outcomes_of(forward(v, x), empty)
    ),
  }
  alone = {
    "counts_alone": jax.jit(lambda x: counts_of(x, empty)),
    "outcomes_alone": jax.jit(lambda x: outcomes_of(x, empty)),
  }
  # On an accelerator several steps in a row hide the dispatch.
  step_times = 1 if jax.default_backend() == "cpu" else 10

  def time(call, arguments, times):
    jax.block_until_ready(call(*arguments))
    return timing.measure_round(lambda unused: call(*arguments), times)

  whole = ((variables, images), step_times)
  calls = {
    **{n: functools.partial(time, f, *whole) for n, f in steps.items()},
    **{n: functools.partial(time, f, (logits,), 20) for n, f in alone.items()},
  }
  seconds = quantities.interleave(calls, rounds, "evaluation step")
  rows = {
    f"{key}_ms": quantities.Samples("ms", [1e3 * v for v in values])
    for key, values in seconds.items()
  }
  bare = seconds.pop("forward")
  for key, values in seconds.items():
    rows[f"{key}_over_forward"] = quantities.ratio(
      "relative cost", values, bare
    )
  return rows


def build_tools(
  problem: baselines.Problem, batch: int, with_baselines: bool
) -> dict[str, Callable[[], Any]]:
  """Returns the timed functions; all but the floor have the same result."""
  tools = {
    FLOOR: build_floor(problem),
    "whole": build_whole(problem),
    "streamed": build_streamed(problem, batch),
    "streamed_one_by_one": build_streamed(problem, batch, group=1),
  }
  if with_baselines:
    for name, version in baselines.find_versions().items():
      if version is None:
        logging.warning("%s is not installed: left out", name)
      else:
        tools[name] = baselines.BASELINES[name].build(problem)
  expected = tools["whole"]()
  for name, run in tools.items():
    different = (
      [] if name == FLOOR else baselines.list_differences(run(), expected)
    )
    if different:
      raise errors.RunError(f"{name} differs in {', '.join(different)}")
  return tools


def main(argv: list[str]) -> None:
  """Measures, prints and writes the rows."""
  del argv
  values = flags.FLAGS
  cli.show_log()
  cli.keep_compiled("default")
  startup.log_start()
  quantities.check_out(values.out, "metrics")
  rows = {}
  if values.step_batch:
    rows = measure_eval_step(
      values.model,
      values.step_batch,
      values.step_rounds,
      values.step_dtype,
    )
  problem = draw(values.examples, values.classes)
  tools = build_tools(problem, values.batch, values.peers)
  rows = measure_tools(tools, values.rounds) | rows
  names = ("examples", "classes", "batch", "step_batch", "step_dtype", "model")
  facts = {name: values[name].value for name in names}
  facts["peers"] = baselines.find_versions()
  quantities.publish("metrics", rows, facts, values.out)


if __name__ == "__main__":
  commands.start("bench metrics")
