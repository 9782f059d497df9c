"""Tests that models equal torchvision's and timm's: same weights, same logits.

This detects an extra layer, or another size, stride, padding, epsilon or form
of GELU. `imgbench weights-parity` compares all models at full size.
"""

import json
import pickle

import numpy as np
import pytest

from imgbench import errors
from imgbench import export
from imgbench import predictor
from imgbench.bench import torch_peer
from imgbench.configs import tiny
from imgbench.experiments import weights_parity
from imgbench.train import loop
from imgbench.weights import files
from imgbench.weights import maps
from tests import raising
from tests.weights import weights_test

pytestmark = [
  pytest.mark.peers,
  # The libraries' own warnings.
  pytest.mark.filterwarnings("ignore:.*torch:DeprecationWarning"),
]

SIDE = 64
# One of each map and of each kind of block.
CASES = [
  case
  for case in weights_parity.CASES
  if case[0] not in ("resnet34", "resnet101", "resnet152", "vit_ti16")
]


@pytest.fixture(name="torch", scope="module")
def torch_module():
  torch = pytest.importorskip("torch")
  torch_peer.define_operators(torch)
  pytest.importorskip("timm")
  return torch


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_same_weights_give_the_same_logits(case, torch, tmp_path):
  error, same = weights_parity.compare(case, SIDE, tmp_path)
  assert same and error <= weights_parity.BOUND


def test_another_gelu_exceeds_the_bound(torch, tmp_path, monkeypatch):
  section = maps.MAPS["timm_vit"]
  settings = section.settings | {"activation": "gelu"}
  monkeypatch.setitem(
    maps.MAPS, "timm_vit", section._replace(settings=settings)
  )
  weights_parity.build_ours.cache_clear()
  (case,) = [c for c in CASES if (c[0], c[4]) == ("vit_s16", "timm_vit")]
  error, _ = weights_parity.compare(case, SIDE, tmp_path)
  weights_parity.build_ours.cache_clear()
  assert error > 2 * weights_parity.BOUND


@pytest.mark.parametrize(
  "settings",
  [
    dict(name="vit_ti16", pooling="gap", activation="gelu_exact"),
    dict(name="vit_ti16", pooling="token"),
    dict(name="vit_ti16", pooling="token", posemb="learn"),
    dict(name="resnet18"),
  ],
)
def test_timm_computes_the_same_with_an_exported_run(settings, torch, tmp_path):
  import safetensors.torch
  import timm

  config = tiny.get_config()
  config.steps.total = "2 steps"
  config.logging.update(report=False, tensorboard=False)
  config.evaluation.sets = dict(val=dict(split="validation[:24]"))
  if "pooling" in settings:
    settings = settings | dict(width=16, depth=2, num_heads=2, patch_size=8)
  config.model = dict(dtype="float32", **settings)
  loop.train_and_evaluate(config, str(tmp_path / "run"))
  model = predictor.load(tmp_path / "run", portable=True)
  arguments = json.loads(json.dumps(export.describe_timm(model)))
  peer = timm.create_model(**arguments).eval()
  peer.load_state_dict(safetensors.torch.load(export.to_timm(model)))
  images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
  scaled = images / np.float32(255)
  mean, std = (model.description[key] for key in ("mean", "std"))
  scaled = (scaled - np.float32(mean)) / np.float32(std)
  with torch.inference_mode():
    found = peer(torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy())).numpy()
  expected = model.predict(images).logits
  # Both normalize, in another order.
  assert np.ptp(expected) > 0.01
  np.testing.assert_allclose(
    found, expected, atol=1e-5 * np.ptp(expected) + 1e-6
  )


def test_pytorch_files(torch, tmp_path):
  good = {"a": torch.ones(3)}
  torch.save({"state_dict": good, "epoch": 3}, tmp_path / "nested.pth")
  assert files.read_file(tmp_path / "nested.pth")["a"].tolist() == [1, 1, 1]
  path = tmp_path / "bad.pth"
  for content in (
    {"a": weights_test.Code()},
    {"a": torch.ones(3, dtype=torch.bfloat16)},
    {"a": torch.ones(3, dtype=torch.float16)},
    {"a": "text"},
  ):
    torch.save(content, path)
    with pytest.raises(errors.InputError, check=raising.about(str(path))):
      files.read_file(path)
  path.write_bytes(pickle.dumps(weights_test.Code()))
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    files.read_file(path)
