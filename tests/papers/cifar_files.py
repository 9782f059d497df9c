"""A small folder laid out as a clone of modestyachts/CIFAR-10.1."""

import json

import numpy as np

from imgbench.papers.readers import cifar

SIZES = {"original": 40, "v4": 30, "v6": 20}
# Per model the number of wrong predictions in each set.
ERRORS = {
  "alpha": {"original": 2, "v4": 6, "v6": 4},
  "beta": {"original": 4, "v4": 9, "v6": 7},
  "gamma": {"original": 6, "v4": 13, "v6": 8},
}
DATASETS = dict(zip(("original", "v4", "v6"), cifar.KNOWN, strict=True))


def labels(version: str) -> np.ndarray:
  return np.arange(SIZES[version]) * 7 % 10


def wrong(version: str, count: int) -> np.ndarray:
  """Predictions of which the first `count` are wrong."""
  predicted = labels(version)
  predicted[:count] = (predicted[:count] + 1) % 10
  return predicted


def write(folder):
  """Writes the clone; returns (it, file of the CIFAR-10 test labels)."""
  repo = folder / "CIFAR-10.1"
  (repo / "datasets").mkdir(parents=True)
  for version in ("v4", "v6"):
    path = repo / "datasets" / f"cifar10.1_{version}_labels.npy"
    np.save(path, labels(version).astype(np.int32))
  for version in SIZES:
    predictions = repo / "model_predictions" / f"{version}_predictions"
    predictions.mkdir(parents=True)
    for model, count in ERRORS.items():
      path = predictions / f"{model}_predictions.json"
      path.write_text(json.dumps(wrong(version, count[version]).tolist()))
  path = folder / "cifar10_test_labels.npy"
  np.save(path, labels("original").astype(np.int8))
  return repo, path
