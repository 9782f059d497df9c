"""Tests of exported models, in processes without imgbench."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from imgbench import errors
from imgbench import export
from imgbench import models
from imgbench import predictor
from imgbench.configs import tiny
from imgbench.train import loop
from tests import raising
from tests.train import processes

# Sums in another order, by another program.
TOLERANCE = 1e-5
# Larger versions of models that are exported.
LARGER = {
  *("resnet34", "resnet101", "resnet152"),
  *("vit_s16", "vit_b16", "vit_l16", "mlp_mixer_b16"),
}
_CALL = """
import sys
sys.path += {folders!r}
try:
  import imgbench
except ImportError:
  pass
else:
  raise AssertionError(imgbench.__file__)
import jax.export
import numpy as np
with open({path!r}, "rb") as file:
  function = jax.export.deserialize(bytearray(file.read()))
images = np.load({images!r})
np.save({out!r}, function.call(images))
"""


def find_folders() -> list[str]:
  """Returns the folders that packages are installed in."""
  import flatbuffers

  files = [module.__file__ for module in (jax, np, flatbuffers)]
  return sorted({str(pathlib.Path(file).parents[1]) for file in files})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run with averaged parameters and averages over mirrors."""
  config = tiny.get_config()
  config.steps.total = "2 steps"
  config.logging.update(report=False, tensorboard=False)
  config.model.dtype = "auto"
  config.ema.decay = 0.5
  config.evaluation.flip_average = True
  config.evaluation.sets = dict(val=dict(split="validation[:24]"))
  workdir = tmp_path_factory.mktemp("run")
  loop.train_and_evaluate(config, str(workdir))
  return str(workdir)


def test_a_process_without_imgbench_computes_the_same(run, tmp_path):
  pytest.importorskip("flatbuffers")
  images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
  path, given, out = (str(tmp_path / n) for n in ("f", "in.npy", "out.npy"))
  model = predictor.load(run, portable=True)
  pathlib.Path(path).write_bytes(export.to_stablehlo(model))
  np.save(given, images)
  code = _CALL.format(folders=find_folders(), path=path, images=given, out=out)
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  subprocess.run(
    # Neither PYTHONPATH nor editable installations.
    [sys.executable, "-I", "-S", "-c", code],
    env=environment,
    check=True,
    cwd=tmp_path,
  )
  found = np.load(out)
  assert found.dtype == np.float32 and found.shape == (5, 24)
  expected = predictor.load(run).predict(images).logits
  np.testing.assert_allclose(found, expected, atol=TOLERANCE)
  assert np.ptp(expected) > 100 * TOLERANCE


def test_the_exported_function_takes_any_batch(run):
  pytest.importorskip("flatbuffers")
  data = export.to_stablehlo(predictor.load(run, portable=True))
  function = jax.export.deserialize(bytearray(data))
  assert function.platforms == export.PLATFORMS
  assert function.nr_devices == 1
  (images,), (logits,) = function.in_avals, function.out_avals
  assert images.dtype == np.uint8 and images.shape[1:] == (16, 16, 3)
  assert logits.dtype == np.float32 and logits.shape == (images.shape[0], 24)


def test_safetensors_hold_all_variables(run):
  safetensors = pytest.importorskip("safetensors.numpy")
  model = predictor.load(run, portable=True)
  found = safetensors.load(export.to_safetensors(model))
  leaves = jax.tree.leaves(model.variables)
  assert len(found) == len(leaves) > 5
  for name, array in found.items():
    leaf = model.variables
    for part in name.split("/"):
      leaf = leaf[part]
    np.testing.assert_array_equal(array, leaf)


def test_timm_gets_no_other_models(run):
  model = predictor.load(run, portable=True)
  with pytest.raises(
    errors.InputError, check=raising.about("--format=timm", given="cnn")
  ):
    export.to_timm(model)


def test_the_description_is_json_with_all_that_is_needed(run):
  described = json.loads(
    json.dumps(predictor.load(run, portable=True).description)
  )
  assert described["class_names"][0] == "husky"
  assert len(described["class_names"]) == 24
  assert described["image_shape"] == [16, 16, 3]
  assert described["mean"] == [0.5] * 3 and described["std"] == [0.25] * 3
  assert described["flip_average"] is True and described["ema"] is True
  assert described["resize"] == {
    "size": 16,
    "crop_fraction": 1.0,
    "method": "bicubic",
  }
  assert described["model"]["widths"] == [8]
  assert described["model"]["dtype"] == "float32"  # The run's is "auto".


def test_a_missing_package_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "flatbuffers", None)
  with pytest.raises(
    errors.InputError, check=raising.about("--format")
  ) as caught:
    export.import_package("flatbuffers")
  assert "imgbench[export]" in caught.value.fix


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", sorted(models.BUILDERS.keys() - LARGER - {"autoencoder"})
)
def test_every_model_is_exported(name):
  pytest.importorskip("flatbuffers")
  shape = (64, 64, 3)
  sizes = {"widths": (8,)} if name == "cnn" else {}
  build = models.build_model(
    name, num_classes=10, image_shape=shape, dtype=np.float32, **sizes
  )
  variables = jax.eval_shape(build.init, jax.random.key(0))
  model = build.definition()
  (size,) = jax.export.symbolic_shape("b")
  function = jax.export.export(
    jax.jit(lambda *given: model.apply(*given, False)[0]),
    platforms=export.PLATFORMS,
  )(variables, jax.ShapeDtypeStruct((size, *shape), np.float32))
  assert function.out_avals[0].shape == (size, 10)
  assert function.serialize()


@pytest.mark.slow
def test_the_command_writes_two_files(run, tmp_path):
  pytest.importorskip("safetensors")
  out = tmp_path / "new/model.safetensors"
  done = processes.run_python(
    "-m", "imgbench.export", run, f"--out={out}", "--format=safetensors"
  )
  assert done.returncode == errors.EXIT_DONE, done.stderr
  described = processes.read_json(out.parent, f"{out.name}.json")
  assert described["format"] == "safetensors"
  assert described["step"] == 2 and described["class_names"][0] == "husky"
  assert out.stat().st_size > 1000
