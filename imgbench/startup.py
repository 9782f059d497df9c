"""Logs the first line of a program: devices, versions, commit and config."""

from collections.abc import Mapping
import os
import pathlib
from typing import Any

from absl import logging
import ml_collections

from imgbench import config_utils
from imgbench import environment as environment_lib

# NVIDIA's driver lists the GPUs of the machine here, one folder each.
GPUS = pathlib.Path("/proc/driver/nvidia/gpus")
_VERSIONS = ("jax", "jaxlib", "flax")
_NO_GPUS = ("", "-1", "NoDevFiles")  # of CUDA_VISIBLE_DEVICES


def log_start(
  config: ml_collections.ConfigDict | None = None,
  config_file: str = "",
  *,
  environment: Mapping[str, Any] | None = None,
  compiled_for: str | None = None,
  gpus: pathlib.Path = GPUS,
) -> None:
  """Logs the line, and warns if JAX leaves an NVIDIA GPU unused.

  Programs that use JAX devices call it first. Those that only read files do
  not: it starts the devices.

  Args:
    config: of the program, if it has one.
    config_file: that the config was read from.
    environment: from `environment.collect` or `collect_software`; None:
      collected now, which starts the devices.
    compiled_for: platform of the config's model, if not that of the
      environment.
    gpus: see `describe_missing_gpu`.

  Raises:
    InputError: unknown model.dtype.
  """
  if environment is None:
    environment = environment_lib.collect()
  logging.info("%s", describe(environment, config, config_file, compiled_for))
  warning = describe_missing_gpu(environment.get("platform"), gpus)
  if warning:
    logging.warning("%s", warning)


def describe(
  environment: Mapping[str, Any],
  config: ml_collections.ConfigDict | None = None,
  config_file: str = "",
  compiled_for: str | None = None,
) -> str:
  """Returns the line; see `log_start`.

  E.g. "devices 8 x NVIDIA H200, platform gpu, jax 0.10.2, jaxlib 0.10.2, flax
  0.12.1, Python 3.12.3, dtype bfloat16, commit 0123456789ab, config
  configs/scenes.py (fedcba987654)"; the latter is `config_utils.config_hash`.
  """
  parts = []
  platform = environment.get("platform")
  if platform:
    devices = f"{environment['num_devices']} x {environment['device_kind']}"
    processes = environment["num_processes"]
    if processes > 1:
      devices += f" in {processes} processes"
    parts += [f"devices {devices}", f"platform {platform}"]
  parts += [f"{name} {environment['versions'][name]}" for name in _VERSIONS]
  parts.append(f"Python {environment['python']}")
  dtype = _find_dtype(config, compiled_for or platform)
  if dtype:
    parts.append(f"dtype {dtype}")
  parts.append(f"commit {environment['commit']}")
  if config is not None:
    name = f"config {config_file}".strip()
    parts.append(f"{name} ({config_utils.config_hash(config)})")
  return ", ".join(parts)


def _find_dtype(config, platform: str | None) -> str | None:
  """Returns the name of the dtype that the config's model computes in."""
  name = (config or {}).get("model", {}).get("dtype")
  if name is None or platform is None:
    return None
  # Programs without a model need not import all models.
  from imgbench.train import compute

  return compute.model_dtype(name, platform).name


def describe_missing_gpu(
  platform: str | None,
  gpus: pathlib.Path = GPUS,
  variables: Mapping[str, str] = os.environ,
) -> str | None:
  """Returns a warning if JAX uses the CPU of a machine with an NVIDIA GPU.

  Args:
    platform: that JAX uses; None if unknown.
    gpus: folder with an entry for each GPU; need not exist.
    variables: of the process. JAX_PLATFORMS chooses the platform on purpose, an
      empty CUDA_VISIBLE_DEVICES hides the GPUs.
  """
  if platform != "cpu" or variables.get("JAX_PLATFORMS"):
    return None
  if variables.get("CUDA_VISIBLE_DEVICES", "all").strip() in _NO_GPUS:
    return None
  try:
    count = len(list(gpus.iterdir()))
  except OSError:  # No driver, or no permission to read it.
    return None
  if not count:
    return None
  return (
    f"JAX uses the CPU, but this machine has {count} NVIDIA GPU(s). Install the"
    " GPU build: pip install -e '.[cuda13]' (drivers before 580: cuda12), or"
    " set JAX_PLATFORMS=cpu to use the CPU without this warning"
  )
