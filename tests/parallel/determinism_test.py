"""Tests of what is asked of XLA for equal bits."""

import os

import jax

from imgbench.parallel import determinism


def test_flags_are_added_once_and_others_kept(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_other=1")
  for _ in range(2):
    determinism.require()
    flags = os.environ["XLA_FLAGS"].split()
    assert flags == ["--xla_other=1", *determinism.XLA_FLAGS]


def test_fault_04_programs_start_with_the_usual_keys():
  usual = determinism.Prng()
  jax.config.update("jax_default_prng_impl", "rbg")
  jax.config.update("jax_threefry_partitionable", False)
  determinism.reset_prng()
  assert jax.config.jax_default_prng_impl == usual.impl
  assert jax.config.jax_threefry_partitionable == usual.partitionable
  with determinism.Prng("unsafe_rbg", False).active():
    assert jax.config.jax_default_prng_impl == "unsafe_rbg"
    assert not jax.config.jax_threefry_partitionable
  assert jax.config.jax_default_prng_impl == usual.impl
