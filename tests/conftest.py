"""Test-wide settings: 8 CPU devices, strict rank promotion."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax

from imgbench import cli

jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of the tests' time would be compiling the same programs.
cli.keep_compiled("default")
