"""Tests of the first log line, and of the warning about an unused GPU."""

import importlib.metadata
import platform
import subprocess
import sys

import jax
import pytest

from imgbench import config_utils
from imgbench import environment
from imgbench import errors
from imgbench import startup
from imgbench.configs import tiny
from tests import raising
from tests.train import processes

GPU = {
  **environment.collect(),
  "platform": "gpu",
  "device_kind": "NVIDIA H200",
  "num_devices": 16,
  "num_processes": 2,
}


def test_the_line_has_every_field():
  config = tiny.get_config()
  config.model.dtype = "auto"
  version = importlib.metadata.version
  assert startup.describe(GPU, config, "configs/tiny.py") == (
    "devices 16 x NVIDIA H200 in 2 processes, platform gpu, jax"
    f" {version('jax')}, jaxlib {version('jaxlib')}, flax {version('flax')},"
    f" Python {platform.python_version()}, dtype bfloat16, commit"
    f" {environment.find_commit()}, config configs/tiny.py"
    f" ({config_utils.config_hash(config)})"
  )


def test_the_line_is_of_the_devices_that_jax_has(monkeypatch):
  lines = []
  monkeypatch.setattr(
    startup.logging, "info", lambda text, *args: lines.append(text % args)
  )
  startup.log_start()
  (line,) = lines
  kind = jax.devices()[0].device_kind
  assert line.startswith(
    f"devices {len(jax.devices())} x {kind}, platform {jax.default_backend()},"
  )
  assert "dtype" not in line and "config" not in line


def test_auto_is_the_dtype_of_the_platform():
  config = tiny.get_config()
  config.model.dtype = "auto"
  here = environment.collect() | {"platform": "cpu"}
  assert ", dtype float32," in startup.describe(here, config)
  described = startup.describe(here, config, compiled_for="tpu")
  assert ", dtype bfloat16," in described and "platform cpu" in described
  config.model.dtype = "float8"
  with pytest.raises(errors.InputError, check=raising.about("model.dtype")):
    startup.describe(here, config)


def test_without_devices_the_line_has_versions_and_commit():
  line = startup.describe(environment.collect_software())
  assert (
    line.startswith("jax ") and f"commit {environment.find_commit()}" in line
  )
  code = (
    "from imgbench import startup; from imgbench import environment\n"
    "startup.log_start(environment=environment.collect_software())\n"
    "from jax._src import xla_bridge; assert not xla_bridge._backends"
  )
  subprocess.run(
    [sys.executable, "-c", code], env=processes.environment(), check=True
  )


def test_a_gpu_that_is_not_used(tmp_path):
  (tmp_path / "0000:01:00.0").mkdir()
  (tmp_path / "0000:02:00.0").mkdir()
  warn = startup.describe_missing_gpu
  warning = warn("cpu", tmp_path, {})
  assert "2 NVIDIA GPU(s)" in warning
  assert "pip install -e '.[cuda13]'" in warning
  assert warn("cpu", tmp_path, {"CUDA_VISIBLE_DEVICES": "0"})
  assert warn("cpu", tmp_path, {"JAX_PLATFORMS": ""})
  assert warn("gpu", tmp_path, {}) is None
  assert warn(None, tmp_path, {}) is None
  assert warn("cpu", tmp_path, {"JAX_PLATFORMS": "cpu"}) is None
  for hidden in ("", "-1"):
    assert warn("cpu", tmp_path, {"CUDA_VISIBLE_DEVICES": hidden}) is None
  assert warn("cpu", tmp_path / "absent", {}) is None
  (tmp_path / "empty").mkdir()
  assert warn("cpu", tmp_path / "empty", {}) is None


def test_the_warning_is_logged(tmp_path, monkeypatch):
  (tmp_path / "0000:01:00.0").mkdir()
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  logged = []
  monkeypatch.setattr(
    startup.logging, "warning", lambda text, *args: logged.append(text % args)
  )
  startup.log_start(environment=GPU, gpus=tmp_path)
  assert not logged
  startup.log_start(environment=GPU | {"platform": "cpu"}, gpus=tmp_path)
  assert len(logged) == 1 and "JAX uses the CPU" in logged[0]
