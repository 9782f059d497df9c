"""Tests of PyTorch baselines: separate processes, same sizes as our models."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import pytest

from imgbench import models
from imgbench.bench import exchange
from imgbench.bench import processes
from imgbench.bench import rows
from imgbench.bench import torch_peer
from imgbench.models import base
from tests.bench import model_work_test
from tests.bench import worker_test

pytestmark = pytest.mark.peers

KEY = dataclasses.replace(
  model_work_test.KEY,
  framework=torch_peer.EAGER,
  model="resnet18",
  batch=2,
  image_size=32,
)


def measure(key: rows.Key, **changes) -> dict:
  request = worker_test.request(key, **changes)
  result = processes.create_baseline_launcher()(request, 600)
  if (
    result["status"] == exchange.REFUSED
    and "cannot be imported" in (result["message"])
  ):
    if os.environ.get("IMGBENCH_PEERS_PYTHON"):
      pytest.fail(result["message"])
    pytest.skip(result["message"])
  return result


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("task", ["train", "infer"])
@pytest.mark.parametrize("model", ["resnet18", "vit_ti16"])
def test_steps_of_a_peer(model, task, dtype):
  key = dataclasses.replace(KEY, model=model, task=task, dtype=dtype)
  result = measure(key)
  assert result["status"] == "ok", result["message"]
  process = rows.Process(**result["process"])
  assert process.compile_s is None
  assert len(process.throughput_s) == 2 and min(process.throughput_s) > 0
  assert (result["message"] == "channels_last") == (model == "resnet18")


@pytest.mark.parametrize(
  "model", ["resnet50", "vit_s16", "convnext_t", "efficientnet_b0"]
)
def test_peers_are_the_same_models(model):
  """Parameter counts agree; timm's ViTs learn positions, which ours do not."""
  key = dataclasses.replace(KEY, model=model, task="infer", image_size=64)
  result = measure(key)
  assert result["status"] == "ok", result["message"]
  ours = models.build_model(
    model, num_classes=10, image_shape=(64, 64, 3), dtype=jnp.float32
  )
  variables = jax.eval_shape(ours.init, jax.random.key(0))
  positions = (64 // 16) ** 2 * 384 if model == "vit_s16" else 0
  assert result["params"] == base.num_params(variables) + positions


@pytest.mark.parametrize(
  "change, words",
  [
    ({"platform": "tpu"}, "does not run on the tpu"),
    ({"platform": "gpu"}, "does not run on the gpu"),
  ],
)
def test_what_a_peer_cannot_do_is_refused(change, words):
  result = measure(KEY, **change)
  if change["platform"] == "gpu" and result["status"] == "ok":
    pytest.skip("there is a GPU")
  assert result["status"] == exchange.REFUSED
  assert words in result["message"]


def test_models_with_settings_of_ours_have_no_counterpart():
  recipe = model_work_test.recipe(model_settings={"resnet18": {"width": 8}})
  result = measure(KEY, recipe=recipe)
  assert result["status"] == exchange.REFUSED
  assert "no counterpart" in result["message"]


@pytest.mark.slow
def test_compiled_steps_are_found_again(tmp_path):
  key = dataclasses.replace(KEY, framework=torch_peer.COMPILE, task="infer")
  cache = {"compile_cache": str(tmp_path)}
  found = [measure(key, **cache)["process"] for _ in range(2)]
  assert [process["compile_cached"] for process in found] == [False, True]
  assert found[0]["compile_s"] > found[1]["compile_s"]
