"""Synthetic benchmark rows: real structure, invented numbers."""

import itertools
import json
import math

import numpy as np

from imgbench.bench import rows
from imgbench.bench import summaries

# Model -> (GFLOP of a forward pass at 224, MFU, FLOPs per byte moved,
# parameters in millions).
MODELS = {
  "resnet50": (8.2, 0.25, 180, 25.6),
  "vit_s16": (9.2, 0.45, 200, 22.1),
  "efficientnet_b0": (0.8, 0.06, 30, 5.3),
}
DEVICES = {
  "accelerator": {"peak": 9.9e14, "bandwidth": 3.4e12, "kind": "Chip X"},
  "cpu": {"peak": 1.5e11, "bandwidth": 2.0e10, "kind": "cpu"},
}


class Machine:
  """Makes synthetic measurements with the noise of real machines.

  Args:
    kind: of DEVICES.
    seed: of all noise.
    process_noise: relative standard deviation from process to process.
    step_noise: the same from step to step in one process.
    slow_share: share of processes slowed down by other programs, by 10% and
      more.
    drift: of the whole session, relative.
    slowed: text of a key -> factor of its step time.
  """

  def __init__(
    self,
    kind="accelerator",
    seed=0,
    process_noise=0.02,
    step_noise=0.01,
    slow_share=0.05,
    drift=0.0,
    slowed=None,
  ):
    self._rng = np.random.default_rng(seed)
    self.kind, self._device = kind, DEVICES[kind]
    self._noise = (process_noise, step_noise, slow_share)
    self._session = math.exp(drift * self._rng.normal())
    self._slowed = slowed or {}

  def process(self, key, step_s, number, pair=None):
    """Returns the measurements of a process for a step of `step_s`."""
    rng, (between, within, slow_share) = self._rng, self._noise
    own = step_s * self._session * math.exp(between * rng.normal())
    own *= self._slowed.get(key.text(), 1.0)
    if rng.random() < slow_share:
      own *= 1.1 + rng.exponential(0.1)
    times = lambda n: own * np.exp(within * np.abs(rng.normal(size=n)))
    return rows.Process(
      latencies_ms=tuple((1e3 * 1.03 * times(10)).tolist()),
      throughput_s=tuple(times(4).tolist()),
      first_step_s=1.5 * own,
      compile_s=(2.0 if number else 21.0) * math.exp(0.1 * rng.normal()),
      compile_cached=bool(number),
      peak_memory_bytes=int(2e9 + 5e7 * (key.batch or 0)),
      pair=pair,
    )

  def row(self, key, step_s, facts=None, processes=5, pairs=None, **about):
    measured = [
      self.process(key, step_s, n, pairs and pairs[n]) for n in range(processes)
    ]
    return summaries.build_row(
      key, measured, facts or summaries.Facts(), **about
    )

  def image_row(self, key, factor=1.0, **options):
    """Returns a row of a model, with its time computed from FLOPs."""
    gflops, share, intensity, millions = MODELS[key.model]
    passes = 3 if key.task == "train" else 1
    flops = gflops * 1e9 * passes * (key.image_size / 224) ** 2
    share *= key.batch / (key.batch + 16 * key.devices)
    share *= 0.96 ** math.log2(key.devices)
    facts = summaries.Facts(
      params=int(millions * 1e6),
      flops_per_image=flops,
      bytes_accessed=flops * key.batch / key.devices / intensity,
      peak_flops={
        "datasheet": self._device["peak"],
        "measured": 0.8 * self._device["peak"],
      },
      bandwidth=self._device["bandwidth"],
    )
    step_s = key.batch * flops / (self._device["peak"] * share * key.devices)
    return self.row(key, step_s / factor, facts, **options)

  def environment(self):
    return {
      "host": "made-up",
      "platform": "gpu" if self.kind == "accelerator" else "cpu",
      "device_kind": self._device["kind"],
      "num_devices": 4,
      "driver": "1.2.3",
      "versions": {"jax": "0.11.2", "jaxlib": "0.11.2", "torch": "2.13.0"},
      "commit": "0123456789ab",
      "started_at": "2026-11-21T12:00:00+00:00",
      "command": "python -m imgbench.bench --config=configs/bench.py:full",
    }


def key(model="resnet50", **values):
  defaults = {
    "task": "train",
    "batch": 64,
    "image_size": 224,
    "dtype": "bfloat16",
    "matmul_precision": "default",
    "conv_precision": "default",
    "strategy": "jit",
    "data": "device",
  }
  return rows.Key(model=model, **(defaults | values))


def micro(machine):
  """Yields rows of microbenchmarks."""
  peak, memory = (machine._device[n] for n in ("peak", "bandwidth"))
  names = (
    ("matmul", "4096x4096x4096", "bfloat16", 2 * 4096**3, 0.8 * peak, "FLOP"),
    ("matmul", "4096x4096x4096", "float32", 2 * 4096**3, 0.3 * peak, "FLOP"),
    ("memory_copy", "268435456 bytes", "float32", 2**29, memory, "bytes"),
    ("host_to_device", "67108864 bytes", "uint8", 2**26, 2e10, "bytes"),
    ("device_to_host", "67108864 bytes", "uint8", 2**26, 1e10, "bytes"),
    ("all_reduce", "67108864 bytes", "float32", 2**26, 1e11, "bytes"),
    ("dispatch", None, None, 1, 2e4, "calls"),
  )
  for name, size, dtype, work, rate, unit in names:
    facts = summaries.Facts(work=float(work), rate_unit=f"{unit}/s")
    k = rows.Key(rows.MICRO, name=name, size=size, dtype=dtype)
    yield machine.row(k, work / rate, facts)


def image_rows(machine, models=tuple(MODELS), batches=(16, 64, 256)):
  """Yields training and inference rows for models and batch sizes."""
  for task, model, batch in itertools.product(
    ("train", "infer"), models, batches
  ):
    yield machine.image_row(key(model, task=task, batch=batch))


def time_to_accuracy(machine, reached=(True,) * 5):
  """Returns a row of training runs with different seeds."""
  k = rows.Key(rows.TIME_TO_ACCURACY, name="cifar10_fast", target=0.78)
  runs = [
    rows.Process(
      seed=seed,
      seconds_to_target=50.0 + 2.0 * machine._rng.normal() if good else None,
      final_accuracy=0.785 if good else 0.77,
    )
    for seed, good in enumerate(reached)
  ]
  return summaries.build_row(k, runs)


def all_rows(machine):
  """Yields rows of every kind."""
  yield from micro(machine)
  yield from image_rows(machine)
  for devices in (1, 2, 4):
    yield machine.image_row(key(batch=512 * devices, devices=devices))
    yield machine.image_row(
      key(batch=512, devices=devices, strategy="fsdp"), factor=0.97
    )
  for framework, factor in (("torch-eager", 0.6), ("torch-compile", 0.85)):
    for task, model in itertools.product(("train", "infer"), MODELS):
      k = key(model, task=task, framework=framework, strategy=None)
      yield machine.image_row(k, factor)
  for data, factor in (("host", 0.8), ("tfds", 0.3)):
    yield machine.image_row(key(data=data), factor)
  yield rows.Row(
    key(batch=4096), "out_of_memory", "RESOURCE_EXHAUSTED: 96.1 GiB"
  )
  yield rows.Row(key("vit_s16", batch=4096), "timeout", "took over 600 s")
  yield machine.image_row(
    key("efficientnet_b0", batch=1024),
    batch_asked=4096,
    message="batch 4096 and 2048 did not fit",
  )
  yield time_to_accuracy(machine)


def write(folder, made, machine):
  """Writes rows, environment, config and CSV like the benchmark."""
  folder.mkdir(parents=True, exist_ok=True)
  environment = json.dumps(machine.environment(), indent=2)
  (folder / rows.ENVIRONMENT).write_text(environment)
  (folder / rows.CONFIG).write_text(json.dumps({"models": ["resnet50"]}))
  made = list(made)
  for row in made:
    rows.append(folder, row)
  rows.write_csv(folder, made)
  return folder
