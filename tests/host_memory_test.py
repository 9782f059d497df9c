"""Tests of page faults of steps, in separate processes."""

import os
import pathlib
import subprocess
import sys

import pytest

_STEPS = """
import resource
import statistics

import jax
import jax.numpy as jnp

from imgbench import host_memory

kept = host_memory.keep()


@jax.jit
def step(x):
  # Temporaries of 64 MB: the next product needs the whole of the first.
  return ((x @ x.T) @ x).sum()


x = jnp.ones((4000, 4))
for _ in range(3):
  step(x).block_until_ready()
faults = []
for _ in range(15):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  step(x).block_until_ready()
  faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
# A step that starts before the last one has freed its memory allocates more.
faults = statistics.median(faults)
print(kept, faults)
"""


_HUGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
pytestmark = pytest.mark.skipif(
  not hasattr(os, "confstr")
  or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
  reason="only glibc's malloc is configured",
)


def _printed(program: str, variables: dict[str, str]) -> list[str]:
  plain = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("MALLOC_") and name != "GLIBC_TUNABLES"
  }
  done = subprocess.run(
    [sys.executable, "-c", program],
    capture_output=True,
    text=True,
    check=True,
    env={**plain, "JAX_PLATFORMS": "cpu", **variables},
  )
  return done.stdout.split()


def _run(variables: dict[str, str]) -> tuple[bool, int]:
  kept, faults = _printed(_STEPS, variables)
  return kept == "True", int(faults)


def test_steps_after_the_first_take_no_new_memory():
  kept, faults = _run({})
  assert kept
  # A step's 64 MB would be 16,000.
  assert faults < 100


@pytest.mark.skipif(
  _HUGE_PAGES.exists() and "[always]" in _HUGE_PAGES.read_text(),
  reason="transparent huge pages are always on",
)
def test_malloc_settings_of_the_environment_are_kept():
  kept, faults = _run({"MALLOC_MMAP_THRESHOLD_": "1048576"})
  assert not kept
  assert faults > 5_000


def test_with_an_accelerator_nothing_is_changed():
  program = "from imgbench import host_memory; print(host_memory.keep())"
  assert _printed(program, {"JAX_PLATFORMS": "tpu,cpu"}) == ["False"]
