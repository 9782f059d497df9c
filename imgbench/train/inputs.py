"""Section input of a config: how encoded images become batches of pixels.

Only data sets whose images have many sizes need it.
"""

from collections.abc import Mapping
from typing import Any

from imgbench import config_utils
from imgbench import errors
from imgbench import registry
from imgbench.data import decode
from imgbench.data import pipeline
from imgbench.data import randaugment
from imgbench.data import source
from imgbench.data import transforms

ON_BAD = ("stop", "skip")


def train_pipeline(
  section: Mapping[str, Any], split: source.EncodedSource, seed: int
) -> tuple[pipeline.Pipeline, int]:
  """Returns the training pipeline of a split, and the side of its images.

  Raises:
    InputError: unknown or missing settings of the section.
  """
  return registry.call(
    "config section input",
    _train_pipeline,
    split=split,
    seed=seed,
    **config_utils.arguments(section),
  )


def _train_pipeline(
  *,
  split: source.EncodedSource,
  seed: int,
  size: int,
  area: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
  method: str = "bilinear",
  randaugment_layers: int = 0,
  randaugment_magnitude: float = 10.0,
  decoder: str = "auto",
  threads: int = 0,
  prefetch: int = 2,
  on_bad_example: str = "stop",
  most_bad: int = 100,
):
  """Inception crop to [size, size], and RandAugment if it has layers."""
  with config_utils.errors_name("input"):
    if on_bad_example not in ON_BAD:
      raise errors.InputError(
        f"on_bad_example: expected one of {', '.join(ON_BAD)}, got"
        f" {on_bad_example!r}"
      )
    crop = transforms.InceptionCrop(
      size, tuple(area), tuple(ratio), method=method
    )
    transform = crop
    if randaugment_layers:
      transform = transforms.Augmented(
        crop,
        randaugment.RandAugment(randaugment_layers, randaugment_magnitude),
      )
    decoded = pipeline.Pipeline(
      split,
      transform,
      size,
      decoder=decode.build_decoder(decoder),
      seed=seed,
      threads=threads,
      prefetch=prefetch,
      most_bad=most_bad if on_bad_example == "skip" else 0,
    )
  return decoded, size


def eval_pipeline(
  section: Mapping[str, Any], split: source.EncodedSource
) -> tuple[pipeline.Pipeline, int]:
  """Returns the evaluation pipeline of a split, and the side of its images.

  Every example is evaluated: one that cannot be decoded is an error.

  Raises:
    InputError: unknown or missing settings of section evaluation.input.
  """
  return registry.call(
    "config section evaluation.input",
    _eval_pipeline,
    split=split,
    **config_utils.arguments(section),
  )


def _eval_pipeline(
  *,
  split: source.EncodedSource,
  size: int,
  crop_fraction: float = 0.875,
  method: str = "bicubic",
  decoder: str = "auto",
  threads: int = 0,
  prefetch: int = 2,
):
  """The short side resized to size / crop_fraction, then the centre."""
  with config_utils.errors_name("evaluation.input"):
    decoded = pipeline.Pipeline(
      split,
      transforms.CentreCrop(size, crop_fraction, method=method),
      size,
      decoder=decode.build_decoder(decoder, exact=True),
      seed=None,
      threads=threads,
      prefetch=prefetch,
    )
  return decoded, size
