"""train/mfu by hand, and where there is none."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import pytest

from imgbench import config as config_lib
from imgbench import peaks
from imgbench import writers
from imgbench.configs import tiny
from imgbench.train import loop
from imgbench.train import mfu
from imgbench.train import setup

# The cnn of configs/tiny.py on 16x16 pixels: a 3x3 stem of stride 2 from 3 to
# 8 channels, two 3x3 convolutions on its 8x8 positions, 24 classes. A training
# step is three passes, a multiply-add two FLOPs.
TRAINING_FLOPS = 3 * 2 * (64 * 27 * 8 + 2 * 64 * 72 * 8 + 8 * 24)


def build_training(config):
  return setup.prepare(config_lib.parse(config)).training


def quick_config():
  config = tiny.get_config()
  config.steps.total = "3 steps"
  config.evaluation.sets = {}
  config.checkpoint.best = ""
  config.logging.update(report=False, tensorboard=False, every="1 steps")
  return config


@pytest.fixture
def known_peak(monkeypatch):
  """Made-up numbers for CPUs."""
  peak = peaks.Peak({peaks.FLOAT32: 2e9, peaks.BFLOAT16: 5e9}, 1e9, "made up")
  monkeypatch.setitem(peaks.PEAKS, "cpu", peak)


def logged(config, workdir):
  loop.train_and_evaluate(config, str(workdir), count_flops=mfu.count_flops)
  records = writers.read_lines(workdir / "metrics.jsonl")
  assert [record["step"] for record in records] == [1, 2, 3]
  return records


def test_mfu_is_the_share_of_the_peak(tmp_path, known_peak, caplog):
  caplog.set_level(logging.INFO, logger="absl")
  for record in logged(quick_config(), tmp_path):
    by_hand = record["train/images_per_s"] * TRAINING_FLOPS / 2e9
    assert record["train/mfu"] == pytest.approx(by_hand, rel=1e-12)
  assert ", train/mfu " in caplog.text


def test_the_peak_is_of_all_devices_and_of_the_dtype(known_peak):
  config = quick_config()
  config.parallel.devices = 2
  training = build_training(config)
  assert mfu.count_flops(training) == loop.Flops(TRAINING_FLOPS, 4e9)
  config.model.dtype = "bfloat16"
  training = build_training(config)
  assert training.compute.model.dtype == jnp.bfloat16
  assert mfu.count_flops(training) == loop.Flops(TRAINING_FLOPS, 10e9)


def test_a_cpu_has_no_mfu(tmp_path):
  for record in logged(quick_config(), tmp_path):
    assert "train/images_per_s" in record and "train/mfu" not in record


def test_a_model_that_cannot_be_counted_has_no_mfu(known_peak, caplog):
  caplog.set_level(logging.INFO, logger="absl")
  config = quick_config()
  training = build_training(config)

  def apply(variables, images, train):
    go_on = lambda x: x.sum() < 9
    return jax.lax.while_loop(go_on, lambda x: x + 1, images), {}

  model = dataclasses.replace(
    training.compute.model, apply=apply, definition=None
  )
  compute = dataclasses.replace(training.compute, model=model)
  training = dataclasses.replace(training, compute=compute)
  assert mfu.count_flops(training) is None
  assert "no MFU: FLOPs" in caplog.text
