"""FLOPs and peak for the MFU (model FLOPs utilization) of a run."""

from absl import logging
import jax
import jax.numpy as jnp
import ml_collections

from imgbench import errors
from imgbench import peaks
from imgbench.models import flops
from imgbench.train import loop
from imgbench.train import setup


def count_flops(
  config: ml_collections.ConfigDict, parts: setup.Parts
) -> loop.Flops | None:
  """Returns FLOPs per training image, and the devices' peak FLOP/s.

  The peak is the one published for the arithmetic that matrix products of the
  model's dtype take at JAX's default precision, times the devices in use.

  Args:
    config: of the run; the log names its model.
    parts: of the run.

  Returns:
    None where the device's peak or the model's FLOPs are unknown; the log then
    says which, except for CPUs, which have no published peak.
  """
  device = parts.strategy.mesh.devices.flat[0]
  dtype = jnp.dtype(parts.compute.model.dtype).name
  precision = jax.config.jax_default_matmul_precision or "default"
  peak = peaks.datasheet(device.device_kind, device.platform, dtype, precision)
  if peak is None:
    if device.platform != "cpu":
      logging.info(
        "no MFU: imgbench.peaks has no %s peak of %r (matmul precision %s)",
        dtype,
        device.device_kind,
        precision,
      )
    return None
  try:
    cost = flops.count_cost(parts.compute.model, parts.image_shape)
  except errors.InputError as error:
    logging.info("no MFU of model %r: %s", config.model.name, error)
    return None
  return loop.Flops(
    per_image=cost.training_flops,
    peak_per_s=peak * parts.strategy.num_devices,
  )
