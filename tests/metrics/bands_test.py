"""Bands are those of the data sets that they are stated for."""

import pytest

from imgbench.metrics import bands


@pytest.mark.parametrize(
  "key, metric, value, band",
  [
    ("cifar10:test", "top1_accuracy", 0.951, "good"),
    ("cifar10:test", "top1_accuracy", 0.95, "good for simple models"),
    ("cifar10+ema:test", "top1_accuracy", 0.851, "good for simple models"),
    ("cifar10:test", "top1_accuracy", 0.85, "typical"),
    ("cifar10:test", "top1_accuracy", 0.70, "typical"),
    ("cifar10:test", "top1_accuracy", 0.699, "bad"),
    ("cifar10_1-v6:test", "top1_accuracy", 0.9, ""),
    ("imagenet2012:validation", "top1_accuracy", 0.7613, "good"),
    ("imagenet2012:validation", "top1_accuracy", 0.75, "typical"),
    ("imagenet2012:validation", "top5_accuracy", 0.9, "not good"),
    ("imagenet_a:test", "top1_accuracy", 0.1, ""),
    ("birds:test", "macro_precision", 0.81, "good"),
    ("birds:test", "recall", 0.8, "not good"),
    ("birds:test", "macro_f1", 0.9, "good"),
    ("birds:test", "balanced_accuracy", 0.9, ""),
    ("scenes:test", "mse", 0.0009, "good"),
    ("scenes:test", "mse", 0.001, "not good"),
    ("cifar10:test", "top1_accuracy", None, ""),
  ],
)
def test_bands(key, metric, value, band):
  assert bands.find(key, "all", metric, value) == band


def test_subsets_and_synthetic_images_have_no_band_of_a_data_set():
  axes = ("cifar10:test", "all", "top1_accuracy", 0.99)
  assert bands.find(*axes, synthetic=("cifar10:test",)) == ""
  assert bands.find(axes[0], "animals", *axes[2:]) == ""
