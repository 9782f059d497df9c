"""Tests of the benchmark's model steps, on 8 CPU devices."""

import dataclasses

import jax
import numpy as np
import pytest

from imgbench import config_utils
from imgbench import errors
from imgbench.bench import model_work
from imgbench.bench import rows
from imgbench.configs import bench

SETTINGS = {"widths": [8], "stem_size": 3}
KEY = rows.Key(
  task="train",
  model="cnn",
  batch=8,
  image_size=16,
  dtype="float32",
  matmul_precision="default",
  conv_precision="default",
  strategy="jit",
  devices=1,
  data="device",
)


def recipe(**changes):
  made = config_utils.to_dict(bench.get_config())["recipe"]
  made |= {"num_classes": 10, "model_settings": {"cnn": SETTINGS}}
  return made | changes


def run(key, steps=3, **changes):
  """Builds a point, runs some steps, and returns the work and the results."""
  work = model_work.build(key, recipe(**changes))
  compiled = work.lower().compile()
  start = work.starter(compiled)
  try:
    return work, jax.device_get([start() for _ in range(steps)]), compiled
  finally:
    work.close()


@pytest.mark.parametrize("data", ["device", "host"])
@pytest.mark.parametrize(
  "strategy, devices", [("jit", 1), ("jit", 4), ("fsdp", 4), ("pmap", 4)]
)
def test_training_learns_its_batches_by_heart(strategy, devices, data):
  key = dataclasses.replace(KEY, strategy=strategy, devices=devices, data=data)
  schedule = {"name": "constant", "peak": 0.05}
  _, losses, _ = run(key, 24, schedule=schedule)
  losses = [float(np.mean(loss)) for loss in losses]
  assert losses[0] == pytest.approx(np.log(10), rel=0.2)
  assert np.mean(losses[-4:]) < losses[0] - 0.05


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("data", ["device", "host"])
@pytest.mark.parametrize("task", ["infer", "eval"])
def test_inference_and_evaluation(task, data, dtype):
  key = dataclasses.replace(KEY, task=task, data=data, dtype=dtype)
  _, results, _ = run(key)
  if task == "infer":
    (logits,) = results[0]
    assert logits.shape == (8, 10) and logits.dtype == np.float32
    repeated = np.array_equal(results[0][0], results[1][0])
  else:
    outcomes, _ = results[0]
    assert outcomes.finite.all()
    repeated = np.array_equal(outcomes.nll, results[1][0].nll)
  # One batch stays on the device; the host feeds different ones.
  assert repeated == (data == "device")


@pytest.mark.optimized
@pytest.mark.parametrize("strategy", ["fsdp", "pmap"])
def test_inference_on_several_devices(strategy):
  """Norms are folded for every sharding of the variables."""
  key = dataclasses.replace(KEY, task="infer")
  (expected,) = run(key)[1][0]
  key = dataclasses.replace(key, strategy=strategy, devices=4)
  (logits,) = run(key)[1][0]
  np.testing.assert_allclose(logits.reshape(8, 10), expected, rtol=1e-4)


def test_parameters_by_hand():
  work, _, compiled = run(KEY)
  # Stem and two layers of 8 channels, a norm each, and the head.
  assert work.params == 9 * (3 + 8 + 8) * 8 + 3 * 2 * 8 + 8 * 10 + 10
  assert model_work.cost(compiled)["bytes accessed"] > 0


def test_more_devices_than_there_are():
  with pytest.raises(errors.InputError, match=r"parallel\.devices"):
    model_work.build(dataclasses.replace(KEY, devices=99), recipe())
