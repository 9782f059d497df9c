"""FLOPs and peak for the MFU (model FLOPs utilization) of a run."""

from typing import Any

from absl import logging
import jax
import jax.numpy as jnp

from imgbench import errors
from imgbench import peaks
from imgbench.models import flops
from imgbench.train import loop
from imgbench.train import setup


def count_flops(training: setup.Training) -> loop.Flops | None:
  """Returns FLOPs per training image, and the devices' peak FLOP/s.

  The peak is the one published for the arithmetic that matrix products of the
  model's dtype take at JAX's default precision, times the devices in use.

  Args:
    training: of the run.

  Returns:
    None where the device's peak or the model's FLOPs are unknown; the log then
    says which, except for CPUs, which have no published peak.
  """
  device = training.strategy.mesh.devices.flat[0]
  dtype = jnp.dtype(training.compute.model.dtype).name
  # JAX adds its options to this object when it is imported.
  options: Any = jax.config
  precision = options.jax_default_matmul_precision or "default"
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
    cost = flops.count_cost(training.compute.model, training.image_shape)
  except errors.InputError as error:
    logging.info("no MFU: %s", error)
    return None
  return loop.Flops(
    per_image=cost.training_flops,
    peak_per_s=peak * training.strategy.num_devices,
  )
