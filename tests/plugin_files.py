"""Plug-ins of tests: files that are imported and forgotten."""

from collections.abc import Mapping
import pathlib
import sys

import pytest

from imgbench import data
from imgbench import losses
from imgbench import models
from imgbench import optim
from imgbench import plugins
from imgbench import writers
from imgbench.metrics import specs

_REGISTRIES = (
  data.SOURCES,
  losses.LOSSES,
  models.BUILDERS,
  optim.OPTIMIZERS,
  specs.METRICS,
  writers.WRITERS,
)


def isolate(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
  """Undoes at the end of a test what plug-ins, by name, do to the process."""
  monkeypatch.setattr(sys, "path", [*sys.path])
  for name in names:
    monkeypatch.setitem(sys.modules, name, None)  # Removed at the end.
    del sys.modules[name]
  monkeypatch.setattr(plugins, "_LOADED", {})
  for registry in _REGISTRIES:
    monkeypatch.setattr(registry, "_entries", {**registry._entries})


def write(folder: pathlib.Path, code: Mapping[str, str]) -> pathlib.Path:
  """Writes modules, name -> code, into a folder and returns it."""
  for name, text in code.items():
    (folder / f"{name}.py").write_text(text)
  return folder


STATEFUL = '''
"""A model with state of several kinds."""

import flax.linen as nn
import jax.numpy as jnp

from imgbench import models
from imgbench.models import base


class Stateful(base.Classifier):
  """Subtracts the running mean of pixels.

  Attributes:
    width: features.
  """

  width: int = 4

  @nn.compact
  def __call__(self, images, train):
    steps = self.variable("counters", "steps", jnp.zeros, (), jnp.int32)
    mean = self.variable("means", "pixel", jnp.zeros, ())
    shift = self.variable("frozen", "shift", jnp.ones, (3,))
    if train:
      steps.value += 1
      mean.value = 0.5 * mean.value + 0.5 * images.mean()
    images = images - mean.value + shift.value[None, None, None]
    hidden = nn.relu(nn.Conv(self.width, (3, 3))(images))
    return nn.Dense(self.num_classes)(hidden.mean(axis=(1, 2)))


models.BUILDERS.register("stateful", base.builder(Stateful))
'''
