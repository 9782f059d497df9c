"""An autoencoder trains in the one loop: images are its targets."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import evaluators
from imgbench import losses
from imgbench import models
from imgbench.configs import tiny
from imgbench.evaluators import base
from imgbench.metrics import measurement
from imgbench.models import base as models_base
from imgbench.train import loop
from tests.train import processes


class TinyAutoencoder(models_base.Classifier):
  """One hidden layer of `width` features per image."""

  width: int = 16

  @nn.compact
  def __call__(self, images, train):
    flat = images.reshape(len(images), -1)
    hidden = nn.relu(nn.Dense(self.width)(flat))
    return nn.Dense(flat.shape[1])(hidden).reshape(images.shape)


class ErrorPass:
  """Sums squared errors of outputs against the images that went in."""

  def __init__(self, predict_fn, strategy, batch_size, num_classes, ks, fold):
    del num_classes, ks, fold
    self._batch_size = strategy.round_up(batch_size)

    def measure(variables, batch, mask):
      pixels = batch.image.astype(jnp.float32) / 255
      errors = (predict_fn(variables, batch.image) - pixels) ** 2
      return jnp.where(mask, errors.mean((1, 2, 3)), 0)

    self._measure = strategy.jit(measure, out=strategy.batch)

  def __call__(self, split, requests, should_stop):
    del should_stop
    return [
      np.concatenate(
        [
          np.asarray(self._measure(variables, batch, mask))
          for batch, mask in split.batches(self._batch_size)
        ]
      )[: len(split.examples)]
      for variables in requests
    ]


class ReconstructionEvaluator:
  """Mean squared error per image, on a scale of 0 to 1."""

  pass_class = ErrorPass

  def __init__(self, split, *, compiled_pass, parameters, **settings):
    del settings
    self.info, self.examples = split.info, split.examples
    self.images, self.split = split.images, split
    self.compiled_pass, self.parameters = compiled_pass, parameters

  @classmethod
  def check(cls, info):
    del info

  def build_request(self, variables):
    return variables

  def summarize(self, errors):
    value = measurement.Measurement(
      n=len(errors),
      correct=None,
      value=float(errors.mean()),
      ci_low=None,
      ci_high=None,
      ci_method=None,
      definition="mean squared error on a scale of 0 to 1",
    )
    return base.Evaluation(self.info, {("all", "mse"): value})


@pytest.fixture
def registered(monkeypatch):
  """Registers model, loss and evaluator for one test."""

  def build_mse():
    def mse(outputs, batch):
      return ((outputs - batch["image"]) ** 2).mean((1, 2, 3))

    return losses.Loss(mse, predicts_classes=False)

  for registry, entry in (
    (models.BUILDERS, models_base.builder(TinyAutoencoder)),
    (losses.LOSSES, build_mse),
    (evaluators.EVALUATORS, ReconstructionEvaluator),
  ):
    entries = {**registry._entries, "reconstruction": entry}
    monkeypatch.setattr(registry, "_entries", entries)


def test_an_autoencoder_trains_and_its_error_falls(registered, tmp_path):
  config = tiny.get_config()
  config.model = dict(name="reconstruction", dtype="float32", width=24)
  config.loss = dict(name="reconstruction")
  # Images on a scale of 0 to 1, as the evaluator's.
  config.augment.update(mean=(0.0,) * 3, std=(1.0,) * 3, pad=0, flip="none")
  config.evaluation.sets = dict(
    val=dict(type="reconstruction", split="validation")
  )
  config.checkpoint.best = ""
  config.steps.total = "48 steps"
  results = loop.train_and_evaluate(config, str(tmp_path))
  assert list(results) == ["scenes:validation/all/mse"]
  records = processes.read_metrics(tmp_path)
  assert not [r for r in records if "train/top1_accuracy" in r]
  errors = [r["val/mse"] for r in records if "val/mse" in r]
  assert results["scenes:validation/all/mse"]["value"] == errors[-1]
  assert errors[-1] < 0.7 * errors[0]
  assert (tmp_path / "report.html").is_file()
