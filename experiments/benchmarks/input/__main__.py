"""Benchmarks the input path: images per second, start, memory, waiting.

imgbench bench input --data_dir=DIR \\
    --out=experiments/results/input_cpu

Uses the first `images` examples of a prepared set, from the page cache after
their first read. Tools take turns, round by round in one process, so that
ratios are right on a machine whose speed drifts:
- decode: one thread, no records: whole images, and random crops, by decoder;
- train: Inception crops in random order to batches of uint8 [B, S, S, 3];
- eval: centre crops, a pass at a time, the last batch padded;
- waiting: of a consumer that takes each batch to the device and then idles,
  like the host of an accelerator, for 1, 1.5 or 2 times as long as the pipeline
  takes to make a batch.
Baselines are TensorFlow, Grain and PyTorch if installed; their batches are
compared with ours before anything is timed. Tools prefetch while others are
timed: so before each turn the benchmark waits until the machine is idle, and
empties the tool's buffers.

Then, in fresh processes: time from the start of a process to its first batch,
at the beginning and at a far position, and memory over ten epochs.

cpu_ms is CPU time per image, which other programs disturb least.
`train_imgbench_over_X` is the ratio of images per second, and
`train_X_cpu_over_imgbench` that of CPU time: above 1 if ours is faster.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import io
import json
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags
from absl import logging
import jax
import numpy as np

from imgbench import cli
from imgbench import commands
from imgbench import cpus
from imgbench import errors
from imgbench import startup
from imgbench import timing
from imgbench.bench import quantities
from imgbench.data import decode
from imgbench.data import order
from imgbench.data import transforms
from imgbench.data import turbo
from imgbench.experiments.benchmarks.input import ours
from imgbench.experiments.benchmarks.input import peers as input_baselines
from imgbench.experiments.benchmarks.input import rounds as input_rounds

OURS = "imgbench"
# Flags that are arguments of `open_work`.
_SETTINGS = (
  *("data_dir", "dataset", "split", "images"),
  *("batch", "size", "threads", "decoder"),
)
# A step of a long run, in the middle of an epoch.
FAR_STEP = 1_234_567
EPOCHS = 10
IMAGENET_EXAMPLES = 1_281_167
_PACES = (1.0, 1.5, 2.0)  # Consumer's time per batch over the pipeline's.
_DECODED = 150  # Images per round of the decoders.
# Mean absolute difference over a batch of centre crops. Integer boxes and
# resizing without antialiasing cause more of it than decoders.
_MOST_DIFFERENT = 12.0


REQUIRED = ("data_dir",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the data, the sizes, how much is measured and where rows go."""
  strings = {
    "data_dir": ("", "Folder with prepared data sets."),
    "dataset": ("imagenet2012", "Name of the data set."),
    "split": ("train", "A split of TFDS."),
    "decoder": ("auto", "Decoder of imgbench; see data.decode."),
  }
  for name, (default, text) in strings.items():
    flags.DEFINE_string(name, default, text, flag_values=flag_values)
  quantities.define_flags(
    flag_values,
    images=(1000, 1, "Examples used, all in each round."),
    rounds=(7, 1, "Counted rounds."),
    batch=(128, 1, "B, batch size."),
    size=(224, 1, "S, side of the images of a batch."),
    threads=(0, 0, "Threads of imgbench and Grain; 0: one per core."),
    starts=(3, 0, "Processes started at each position; 0: none."),
  )
  flags.DEFINE_bool(
    "peers", True, "Measure installed baselines.", flag_values=flag_values
  )


def _build_whole_decoders() -> dict[str, Callable[[bytes], np.ndarray]]:
  """Returns decoders of whole images, one per library."""
  import cv2
  from PIL import Image
  import simplejpeg

  cv2.setNumThreads(1)
  return {
    "simplejpeg": lambda data: simplejpeg.decode_jpeg(data, "RGB"),
    "opencv": lambda data: cv2.imdecode(
      np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB
    ),
    "pillow": lambda data: np.asarray(
      Image.open(io.BytesIO(data)).convert("RGB")
    ),
  }


def _build_crop_decoders(size: int) -> dict[str, Callable[[bytes], None]]:
  """Returns decoders of random antialiased crops, as in training."""
  crop = transforms.InceptionCrop(size)
  out = np.empty((size, size, 3), np.uint8)

  def build(name):
    decoder, rng = decode.build_decoder(name), np.random.default_rng(0)
    return lambda data: crop(decoder, data, out, rng)

  names = ["simplejpeg", "simplejpeg_fast", "opencv", "pillow"]
  names += [] if turbo.missing() else ["turbo"]
  return {name: build(name) for name in names}


def measure_decoders(
  work: ours.Task, rounds: int, baselines: Collection[str]
) -> input_rounds.Rows:
  """Returns rows of decoding with one thread."""
  kinds = {
    "whole": _build_whole_decoders(),
    "crop": _build_crop_decoders(work.size),
  }
  if "tf.data" in baselines:
    for kind, function in input_baselines.build_tf_decoders(work.size).items():
      kinds[kind]["tensorflow"] = function
  count = min(work.images, _DECODED)
  encoded = [work.split.read(index)[0] for index in range(count)]

  def run(function, images):
    for data in images:
      function(data)

  rows = {}
  for kind, functions in kinds.items():
    tools = {
      name: input_rounds.Tool(
        functools.partial(run, function, encoded),
        functools.partial(run, function, encoded[: count // 10 + 1]),
        count,
      )
      for name, function in functions.items()
    }
    rows |= input_rounds.measure(f"decode_{kind}", tools, rounds)
  return rows


def check_jpegs(work: ours.Task) -> None:
  """Reads the images once. Raises InputError for one that is no JPEG."""
  for index in range(work.images):
    if not work.split.read(index)[0].startswith(b"\xff\xd8\xff"):
      raise errors.InputError(
        work.split.where(index),
        "a JPEG, which all measured tools read",
        "another format",
        "take another --split or fewer --images",
      )


def find_baselines() -> dict[str, input_baselines.InputBaseline]:
  """Returns the installed baselines; logs those that are missing."""
  versions = input_baselines.find_versions()
  for name, version in versions.items():
    if version is None:
      logging.warning("%s is not installed: left out", name)
  return {
    name: baseline
    for name, baseline in input_baselines.BASELINES.items()
    if versions[name] is not None
  }


def compare(
  work: ours.Task, baselines: Mapping[str, input_baselines.InputBaseline]
) -> input_rounds.Rows:
  """Returns by how many of 255 levels centre crops differ from ours.

  Raises:
    RunError: the batches of a tool differ from ours.
  """
  labels = {work.split.read(index)[1] for index in range(work.images)}
  shape = (work.batch, work.size, work.size, 3)
  count = min(work.images, work.batch)
  work = dataclasses.replace(work, ordered=True)
  expected, expected_label = _take_first(ours.stream_evaluation(work))
  rows = {}
  for name, baseline in baselines.items():

    def require(good, text, name=name):
      if not good:
        raise errors.RunError(f"{name}: {text}")

    image, label = _take_first(baseline.train(work))
    found = f"{image.dtype} {image.shape}"
    good = image.shape == shape and image.dtype == np.uint8
    require(good, f"expected uint8 {shape} in training, got {found}")
    require(labels.issuperset(label.tolist()), f"unknown labels in {label}")
    image, label = _take_first(baseline.evaluate(work))
    found = f"{image.dtype} {image.shape}"
    good = image.shape[1:] == shape[1:] and image.dtype == np.uint8
    require(good, f"expected uint8 {shape} in evaluation, got {found}")
    same = np.array_equal(label[:count], expected_label[:count])
    require(same, "other examples in evaluation")
    off = np.abs(image[:count].astype(np.int16) - expected[:count]).mean()
    require(off <= _MOST_DIFFERENT, f"centre crops differ by {off:.1f} levels")
    rows[f"eval_{name}_levels_off"] = quantities.Samples("levels", [float(off)])
  return rows


def _take_first(stream: ours.Stream) -> tuple[np.ndarray, np.ndarray]:
  with contextlib.closing(stream):
    return next(stream)


def measure_pipelines(
  work: ours.Task,
  rounds: int,
  baselines: Mapping[str, input_baselines.InputBaseline],
) -> input_rounds.Rows:
  """Rows of training and of evaluation: ours, and each baseline."""
  kinds = {
    "train": {OURS: ours.stream_training}
    | {name: baseline.train for name, baseline in baselines.items()},
    "eval": {OURS: ours.stream_evaluation}
    | {name: baseline.evaluate for name, baseline in baselines.items()},
  }
  rows = {}
  for kind, builders in kinds.items():
    # Padding of the last evaluation batch does not count.
    count = work.images if kind == "eval" else work.steps * work.batch
    with contextlib.ExitStack() as stack:
      tools = {}
      for name, build in builders.items():
        stream = stack.enter_context(contextlib.closing(build(work)))
        take = functools.partial(_take, stream, work.steps)
        tools[name] = input_rounds.Tool(take, take, count)
      rows |= input_rounds.measure(kind, tools, rounds)
  cores = cpus.count_cpus()
  for name, spread in list(rows.items()):
    if name.endswith("_images_per_s"):
      per_core = [value / cores for value in spread.values]
      rows[f"{name}_per_core"] = spread._replace(values=per_core)
  return rows


def _take(stream: ours.Stream, count: int) -> None:
  for _ in range(count):
    next(stream)


def measure_waiting(work: ours.Task, rounds: int) -> input_rounds.Rows:
  """Returns rows of the time that a consumer waits for batches."""
  stream = ours.stream_training(work)
  waited = {pace: [] for pace in _PACES}
  shares = {pace: [] for pace in _PACES}
  with contextlib.closing(stream):
    for number in range(rounds + 1):
      _take(stream, 3)
      with timing.timed() as bare:
        _take(stream, work.steps)
      for pace in _PACES:
        step_s = pace * bare.seconds / work.steps
        _consume(stream, 3, step_s)
        with timing.timed() as whole:
          waiting_s = _consume(stream, work.steps, step_s)
        if number:
          waited[pace].append(1e3 * waiting_s / work.steps)
          shares[pace].append(waiting_s / whole.seconds)
      logging.info("waiting: round %d of %d", number, rounds)
  samples = quantities.Samples
  return {f"wait_{p}x_ms": samples("ms", v) for p, v in waited.items()} | {
    f"wait_{p}x_share": samples("relative cost", v) for p, v in shares.items()
  }


def _consume(stream: ours.Stream, steps: int, step_s: float) -> float:
  """Takes batches to the device and idles; returns seconds of waiting."""
  waiting_s = 0.0
  for _ in range(steps):
    with timing.timed() as wait:
      image, _ = next(stream)
    jax.block_until_ready(jax.device_put(image))
    time.sleep(step_s)
    waiting_s += wait.seconds
  return waiting_s


def measure_starts(settings: Mapping[str, Any], starts: int):
  """Returns rows of new processes: first batch of a run, and when resumed."""
  rows = {}
  for number in range(starts + 1):
    for name, step in (("start", 0), ("resume", FAR_STEP)):
      with timing.timed() as whole:
        process, first_s = _start(settings, step, 0)
      process.communicate()
      if number:  # The first may write bytecode.
        rows.setdefault(f"{name}_process_s", []).append(whole.seconds)
        rows.setdefault(f"{name}_first_batch_s", []).append(first_s)
  for _ in range(starts):
    with timing.timed() as drawn:
      examples = order.ExampleOrder(IMAGENET_EXAMPLES, seed=0)
      examples.take(FAR_STEP * settings["batch"], settings["batch"])
    rows.setdefault("resume_order_of_imagenet_s", []).append(drawn.seconds)
  return {name: quantities.Samples("s", v) for name, v in rows.items()}


def measure_memory(settings: Mapping[str, Any]) -> input_rounds.Rows:
  """Returns rows of memory at the end of each of ten epochs of a small set."""
  small = {**settings, "images": -(-settings["images"] // 5)}
  process, _ = _start(small, 0, EPOCHS)
  values = json.loads(process.communicate()[0])["memory_bytes"]
  found = {
    "memory_bytes": values,
    "memory_range_bytes": [max(values) - min(values)],
    # All threads and buffers exist by the middle.
    "memory_growth_bytes": [values[-1] - values[EPOCHS // 2]],
  }
  return {name: quantities.Samples("bytes", v) for name, v in found.items()}


def _start(settings: Mapping[str, Any], step: int, epochs: int):
  """Starts a process; returns it and the seconds to its first batch."""
  process = subprocess.Popen(
    [
      *(sys.executable, "-m", "imgbench.experiments.benchmarks.input.ours"),
      *(json.dumps(dict(settings)), str(step), str(epochs)),
    ],
    stdout=subprocess.PIPE,
    text=True,
    encoding="utf-8",
  )
  line = process.stdout.readline()
  if not line:
    raise errors.RunError("the process that makes a first batch has failed")
  return process, json.loads(line)["first_batch_s"]


def measure_all(
  settings: Mapping[str, Any], rounds: int, starts: int, with_baselines: bool
) -> input_rounds.Rows:
  """Returns all rows; `settings` are the arguments of `open_work`."""
  baselines = find_baselines() if with_baselines else {}
  decode.build_decoder(settings["decoder"])  # Fails early.
  work = ours.open_work(**settings)
  check_jpegs(work)
  rows = measure_decoders(work, rounds, baselines)
  with tempfile.TemporaryDirectory() as folder:
    work = dataclasses.replace(work, folder=folder)
    if baselines:
      input_baselines.copy(work)
      rows |= compare(work, baselines)
    rows |= measure_pipelines(work, rounds, baselines)
  rows |= measure_waiting(work, rounds)
  if starts:
    rows |= measure_starts(settings, starts)
  return rows | measure_memory(settings)


def main(argv: list[str]) -> None:
  """Measures, prints and writes the rows."""
  del argv
  values = flags.FLAGS
  cli.show_log()
  startup.log_start()
  settings = {name: values[name].value for name in _SETTINGS}
  quantities.check_out(values.out, "input")
  rows = measure_all(settings, values.rounds, values.starts, values.peers)
  facts = {
    # Without the path of this machine.
    **{name: v for name, v in settings.items() if name != "data_dir"},
    "decoder_version": decode.build_decoder(values.decoder).version,
    "cores": cpus.count_cpus(),
    "peers": input_baselines.find_versions(),
    "peers_do": {
      n: baseline.text for n, baseline in input_baselines.BASELINES.items()
    },
  }
  quantities.publish("input", rows, facts, values.out)


if __name__ == "__main__":
  commands.start("bench input")
