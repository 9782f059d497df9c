"""Benchmark of the input path: images per second, start, memory, waiting.

python -m imgbench.bench.input --data_dir=DIR \
    --out=experiments/results/input_cpu

The first `images` examples of a prepared set, read from memory once they have
been read from disk, in turn, round by round in one process, so that ratios
hold on a machine whose speed drifts:
- decode: one thread, no records: whole images, and random crops, by decoder;
- train: Inception crops in random order to batches of uint8 [B, S, S, 3];
- eval: centre crops, a pass at a time, the last batch padded;
- waiting: of a consumer that takes each batch to the device and then leaves
  the processor alone, as an accelerator does, for as long as the pipeline
  takes to make a batch (1x), one and a half as long and twice as long.
Peers are TensorFlow, Grain and PyTorch as far as they are installed; what they
make is compared with ours before anything is timed. A tool makes batches ahead
while another is timed: so before its turn it is waited for until the machine
is quiet, and its buffers are emptied.

Then, in processes of their own: from the start of a process to its first
batch, at the beginning and at a far position, and memory over ten epochs.

cpu_ms is time on all cores per image, which other programs disturb least.
`train_imgbench_over_X` is the ratio of images per second, and
`train_X_cpu_over_imgbench` that of time on the cores: both above 1 where ours
is faster.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags
from absl import logging
import jax
import numpy as np

from experiments.benchmarks.input import ours
from experiments.benchmarks.input import peers as input_baselines
from experiments.benchmarks.input import rounds as input_rounds
from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import startup
from imgbench import timing
from imgbench.bench import quantities
from imgbench.data import decode
from imgbench.data import order
from imgbench.data import transforms
from imgbench.data import turbo

OURS = "imgbench"
# Flags that are arguments of `open_work`.
_SETTINGS = (
  *("data_dir", "dataset", "split", "images"),
  *("batch", "size", "threads", "decoder"),
)
# A step of a long run, in the middle of an epoch of any set.
FAR_STEP = 1_234_567
EPOCHS = 10
IMAGENET_EXAMPLES = 1_281_167
_PACES = (1.0, 1.5, 2.0)  # of a consumer, in times of the pipeline's own
_DECODED = 150  # images of one round of the decoders
# Ours less theirs, mean of absolute values over a batch of centre crops. Boxes
# of whole pixels and resizing without antialias make more of it than decoders.
_MOST_DIFFERENT = 12.0


REQUIRED = ("data_dir",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the data, the sizes, how much is measured and where rows go."""
  strings = {
    "data_dir": ("", "Folder with prepared data sets."),
    "dataset": ("imagenet2012", "Name of the set."),
    "split": ("train", "In TFDS's language."),
    "decoder": ("auto", "Of imgbench; see data.decode."),
  }
  for name, (default, text) in strings.items():
    flags.DEFINE_string(name, default, text, flag_values=flag_values)
  quantities.define_flags(
    flag_values,
    images=(1000, 1, "Examples used: a round is once all of them."),
    rounds=(7, 1, "Rounds that count."),
    batch=(128, 1, "B, batch size."),
    size=(224, 1, "S, side of the images of a batch."),
    threads=(0, 0, "Of imgbench and Grain; 0: one per core."),
    starts=(3, 0, "Processes started at either position; 0: none."),
  )
  flags.DEFINE_bool(
    "peers", True, "Measure those installed.", flag_values=flag_values
  )


def _whole_decoders() -> dict[str, Callable[[bytes], np.ndarray]]:
  """Whole images as they are, by the libraries themselves."""
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


def _crop_decoders(size: int) -> dict[str, Callable[[bytes], None]]:
  """Random crops, antialiased, as the training pipeline makes them."""
  crop = transforms.InceptionCrop(size)
  out = np.empty((size, size, 3), np.uint8)

  def build(name):
    decoder, rng = decode.build_decoder(name), np.random.default_rng(0)
    return lambda data: crop(decoder, data, out, rng)

  names = ["simplejpeg", "simplejpeg_fast", "opencv", "pillow"]
  names += [] if turbo.missing() else ["turbo"]
  return {name: build(name) for name in names}


def measure_decoders(
  work: ours.InputWork, rounds: int, baselines: Collection[str]
) -> input_rounds.Rows:
  """Rows of one thread that decodes: per second is per second and core."""
  kinds = {"whole": _whole_decoders(), "crop": _crop_decoders(work.size)}
  if "tf.data" in baselines:
    for kind, function in input_baselines.tf_decoders(work.size).items():
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


def check_jpegs(work: ours.InputWork) -> None:
  """Reads the files once. Raises InputError: one that not all tools read."""
  for index in range(work.images):
    if not work.split.read(index)[0].startswith(b"\xff\xd8\xff"):
      raise errors.InputError(
        f"{work.split.where(index)}: expected a JPEG, which is all that every"
        " tool measured here can read; take another --split or fewer --images"
      )


def find_baselines() -> dict[str, input_baselines.InputBaseline]:
  """Returns the baselines that are installed; says which are not."""
  versions = input_baselines.available()
  for name, version in versions.items():
    if version is None:
      logging.warning("%s is not installed: left out", name)
  return {
    name: baseline
    for name, baseline in input_baselines.BASELINES.items()
    if versions[name] is not None
  }


def compare(
  work: ours.InputWork, baselines: Mapping[str, input_baselines.InputBaseline]
) -> input_rounds.Rows:
  """Returns by how many of 255 levels centre crops differ from ours.

  Raises:
    RunError: a tool's batches are not what ours are.
  """
  labels = {work.split.read(index)[1] for index in range(work.images)}
  shape = (work.batch, work.size, work.size, 3)
  count = min(work.images, work.batch)
  work = dataclasses.replace(work, ordered=True)
  expected, expected_label = _first(ours.eval_stream(work))
  rows = {}
  for name, baseline in baselines.items():

    def require(good, text, name=name):
      if not good:
        raise errors.RunError(f"{name}: {text}")

    image, label = _first(baseline.train(work))
    found = f"{image.dtype} {image.shape}"
    good = image.shape == shape and image.dtype == np.uint8
    require(good, f"expected uint8 {shape} in training, got {found}")
    require(labels.issuperset(label.tolist()), f"unknown labels in {label}")
    image, label = _first(baseline.evaluate(work))
    found = f"{image.dtype} {image.shape}"
    good = image.shape[1:] == shape[1:] and image.dtype == np.uint8
    require(good, f"expected uint8 {shape} in evaluation, got {found}")
    same = np.array_equal(label[:count], expected_label[:count])
    require(same, "other examples in evaluation")
    off = np.abs(image[:count].astype(np.int16) - expected[:count]).mean()
    require(off <= _MOST_DIFFERENT, f"centre crops differ by {off:.1f} levels")
    rows[f"eval_{name}_levels_off"] = quantities.Samples("levels", [float(off)])
  return rows


def _first(stream: ours.Stream) -> tuple[np.ndarray, np.ndarray]:
  with contextlib.closing(stream):
    return next(stream)


def measure_pipelines(
  work: ours.InputWork,
  rounds: int,
  baselines: Mapping[str, input_baselines.InputBaseline],
) -> input_rounds.Rows:
  """Rows of training and of evaluation: ours, and each baseline."""
  kinds = {
    "train": {OURS: ours.train_stream}
    | {name: baseline.train for name, baseline in baselines.items()},
    "eval": {OURS: ours.eval_stream}
    | {name: baseline.evaluate for name, baseline in baselines.items()},
  }
  rows = {}
  for kind, builders in kinds.items():
    # Of the last batch of an evaluation pass only what is no padding counts.
    count = work.images if kind == "eval" else work.steps * work.batch
    with contextlib.ExitStack() as stack:
      tools = {}
      for name, build in builders.items():
        stream = stack.enter_context(contextlib.closing(build(work)))
        take = functools.partial(_take, stream, work.steps)
        tools[name] = input_rounds.Tool(take, take, count)
      rows |= input_rounds.measure(kind, tools, rounds)
  cores = len(os.sched_getaffinity(0))
  for name, spread in list(rows.items()):
    if name.endswith("_images_per_s"):
      per_core = [value / cores for value in spread.values]
      rows[f"{name}_per_core"] = spread._replace(values=per_core)
  return rows


def _take(stream: ours.Stream, count: int) -> None:
  for _ in range(count):
    next(stream)


def measure_waiting(work: ours.InputWork, rounds: int) -> input_rounds.Rows:
  """Rows of the time that a consumer spends waiting for batches."""
  stream = ours.train_stream(work)
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
  """Takes batches to the device and rests; returns seconds of waiting."""
  waiting_s = 0.0
  for _ in range(steps):
    with timing.timed() as wait:
      image, _ = next(stream)
    jax.block_until_ready(jax.device_put(image))
    time.sleep(step_s)
    waiting_s += wait.seconds
  return waiting_s


def measure_starts(settings: Mapping[str, Any], starts: int):
  """Rows of new processes: the first batch of a run, and after a restart."""
  rows = {}
  for number in range(starts + 1):
    for name, step in (("start", 0), ("resume", FAR_STEP)):
      with timing.timed() as whole:
        process, first_s = _start(settings, step, 0)
      process.communicate()
      if number:  # The first may have to write bytecode.
        rows.setdefault(f"{name}_process_s", []).append(whole.seconds)
        rows.setdefault(f"{name}_first_batch_s", []).append(first_s)
  for _ in range(starts):
    with timing.timed() as drawn:
      examples = order.ExampleOrder(IMAGENET_EXAMPLES, seed=0)
      examples.take(FAR_STEP * settings["batch"], settings["batch"])
    rows.setdefault("resume_order_of_imagenet_s", []).append(drawn.seconds)
  return {name: quantities.Samples("s", v) for name, v in rows.items()}


def measure_memory(settings: Mapping[str, Any]) -> input_rounds.Rows:
  """Rows of memory at the end of each of ten epochs of a small set."""
  small = {**settings, "images": -(-settings["images"] // 5)}
  process, _ = _start(small, 0, EPOCHS)
  values = json.loads(process.communicate()[0])["memory_bytes"]
  found = {
    "memory_bytes": values,
    "memory_range_bytes": [max(values) - min(values)],
    # Threads and buffers are all there by the middle.
    "memory_growth_bytes": [values[-1] - values[EPOCHS // 2]],
  }
  return {name: quantities.Samples("bytes", v) for name, v in found.items()}


def _start(settings: Mapping[str, Any], step: int, epochs: int):
  """Returns a process that has made its first batch, and how long it took."""
  process = subprocess.Popen(
    [
      *(sys.executable, "-m", "experiments.benchmarks.input.ours"),
      *(json.dumps(dict(settings)), str(step), str(epochs)),
    ],
    stdout=subprocess.PIPE,
    text=True,
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
  decode.build_decoder(settings["decoder"])  # or say so at once
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
  with cli.one_line_errors():
    quantities.check_out(values.out, "input")
    rows = measure_all(settings, values.rounds, values.starts, values.peers)
  facts = {
    # A folder's name says nothing, and not to everyone.
    **{name: v for name, v in settings.items() if name != "data_dir"},
    "decoder_version": decode.build_decoder(values.decoder).version,
    "cores": len(os.sched_getaffinity(0)),
    "peers": input_baselines.available(),
    "peers_do": {
      n: baseline.text for n, baseline in input_baselines.BASELINES.items()
    },
  }
  quantities.publish("input", rows, facts, values.out)


if __name__ == "__main__":
  commands.start("bench input")
