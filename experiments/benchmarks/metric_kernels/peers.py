"""Baselines: metrics of one evaluation pass by other libraries.

Each baseline gets the same problem and computes the same numbers: top-1 and
top-5 accuracy, accuracy by class and by subset, lenient multi-label hits and
the confusion matrix. It is written for speed, as an experienced user of the
library would: inputs are converted before, predictions are computed once if its
functions take them, arguments are not validated twice.

None of the libraries is a dependency of imgbench; tested versions are in
requirements/peers.txt. They are compared on scores without ties, NaN and
infinities, for which they differ, see tests/peers/differences_test.py.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from importlib import metadata
from typing import Any

import numpy as np

from imgbench import cpus
from imgbench.labels import annotations

Result = dict[str, Any]
Compute = Callable[[], Result]

# Rows compared at once, so that the block stays in the cache.
_BLOCK = 500


@dataclasses.dataclass(frozen=True)
class Problem:
  """Predictions on N examples of K classes, as NumPy arrays.

  Attributes:
    logits: float32 [N, K].
    labels: integer [N] in [0, K), each class at least once.
    codes: int8 [N, K], review codes of `labels.annotations`.
    left_out: bool [N], problematic images.
    subsets: name -> bool [K].
  """

  logits: np.ndarray
  labels: np.ndarray
  codes: np.ndarray
  left_out: np.ndarray
  subsets: Mapping[str, np.ndarray]

  @property
  def num_classes(self) -> int:
    return self.logits.shape[1]


@dataclasses.dataclass(frozen=True)
class MetricBaseline:
  """Metrics of another library.

  Attributes:
    package: name on the package index.
    build: problem -> function without arguments that returns the numbers:
      `top1_accuracy` and `top5_accuracy`, floats; `class_accuracy`, float [K];
      `count`, `reviewed_count` and `lenient_hits`, integer [K] by original
      class; `subset_accuracy`, name -> float; `confusion`, integer [K, K],
      rows true labels. Rates may be float32.
    text: functions it calls.
  """

  package: str
  build: Callable[[Problem], Compute]
  text: str


def build_pytorch(problem: Problem) -> Compute:
  """Builds one `torch.topk` of five, a gather of codes, and bincounts."""
  import torch

  inputs = _TorchInputs(problem)

  @torch.inference_mode()
  def compute() -> Result:
    top5 = torch.topk(inputs.logits, 5, dim=1).indices
    in_top5 = (top5 == inputs.labels[:, None]).any(dim=1)
    return _count_torch(inputs, top5[:, 0], in_top5)

  return compute


def build_pytorch_blocks(problem: Problem) -> Compute:
  """Builds `torch.argmax`, and the rank of the label by blockwise comparisons.

  It is faster than `torch.topk` but longer. Comparing the whole array would be
  slower, because it writes N K flags to memory.
  """
  import torch

  inputs = _TorchInputs(problem)
  size, num_classes = inputs.logits.shape
  # Floats are summed faster than flags.
  ahead = torch.empty(_BLOCK, num_classes)
  rank = torch.empty(size)

  @torch.inference_mode()
  def compute() -> Result:
    own = inputs.logits.gather(1, inputs.labels[:, None])
    for start in range(0, size, _BLOCK):
      rows = slice(start, min(start + _BLOCK, size))
      block = ahead[: rows.stop - rows.start]
      torch.gt(inputs.logits[rows], own[rows], out=block)
      torch.sum(block, 1, out=rank[rows])
    return _count_torch(inputs, inputs.logits.argmax(dim=1), rank < 5)

  return compute


def build_torcheval(problem: Problem) -> Compute:
  """Builds torcheval's functions on the logits, as in its documentation.

  `multiclass_accuracy` with k=1, with k=5 and with average=None, and
  `multiclass_confusion_matrix`. Reviewed labels, which it does not support, are
  counted by PyTorch.
  """
  import torch

  inputs = _TorchInputs(problem)

  @torch.inference_mode()
  def compute() -> Result:
    predicted = inputs.logits.argmax(dim=1)
    return _compute_torcheval(inputs, inputs.logits, predicted)

  return compute


def build_torcheval_argmax(problem: Problem) -> Compute:
  """Builds the same with predictions computed once, if they are accepted."""
  import torch

  inputs = _TorchInputs(problem)

  @torch.inference_mode()
  def compute() -> Result:
    predicted = inputs.logits.argmax(dim=1)
    return _compute_torcheval(inputs, predicted, predicted)

  return compute


def build_torchmetrics(problem: Problem) -> Compute:
  """Builds torchmetrics' functions on predictions, without validation.

  `multiclass_accuracy` with average="micro" and top_k=1 and 5, and with
  average="none", and `multiclass_confusion_matrix`. Only top_k=5 takes the
  logits. Reviewed labels, which it does not support, are counted by PyTorch.
  """
  import torch
  from torchmetrics.functional import classification

  inputs = _TorchInputs(problem)
  labels = inputs.labels
  options = {"num_classes": problem.num_classes, "validate_args": False}
  accuracy = classification.multiclass_accuracy

  @torch.inference_mode()
  def compute() -> Result:
    predicted = inputs.logits.argmax(dim=1)
    matrix = classification.multiclass_confusion_matrix(
      predicted, labels, **options
    )
    top5 = accuracy(inputs.logits, labels, average="micro", top_k=5, **options)
    return {
      "top1_accuracy": float(
        accuracy(predicted, labels, average="micro", **options)
      ),
      "top5_accuracy": float(top5),
      "class_accuracy": accuracy(
        predicted, labels, average="none", **options
      ).numpy(),
      **_read_matrix(inputs, matrix.numpy()),
      **_count_reviews(inputs, predicted),
    }

  return compute


def build_scikit_learn(problem: Problem) -> Compute:
  """Builds scikit-learn's functions on predictions of NumPy's argmax.

  `accuracy_score`, `top_k_accuracy_score` with k=5, `recall_score` with
  average=None, and `confusion_matrix`. Reviewed labels, which it does not
  support, are counted by NumPy.
  """
  from sklearn import metrics

  labels, num_classes = problem.labels, problem.num_classes
  classes = np.arange(num_classes)
  good = ~problem.left_out

  def compute() -> Result:
    predicted = problem.logits.argmax(axis=1)
    matrix = metrics.confusion_matrix(labels, predicted, labels=classes)
    codes = np.take_along_axis(problem.codes, predicted[:, None], axis=1)[:, 0]
    lenient = good & (codes >= annotations.UNCLEAR)
    return {
      "top1_accuracy": metrics.accuracy_score(labels, predicted),
      "top5_accuracy": metrics.top_k_accuracy_score(
        labels, problem.logits, k=5, labels=classes
      ),
      "class_accuracy": metrics.recall_score(
        labels, predicted, labels=classes, average=None, zero_division=np.nan
      ),
      "reviewed_count": np.bincount(labels[good], minlength=num_classes),
      "lenient_hits": np.bincount(labels[lenient], minlength=num_classes),
      **_read_matrix(problem, matrix),
    }

  return compute


_ONE_ARGMAX = "its functions of one argmax; logits for k=5"
BASELINES: Mapping[str, MetricBaseline] = {
  "pytorch": MetricBaseline(
    "torch", build_pytorch, "one topk(5) and bincounts"
  ),
  "pytorch-blocks": MetricBaseline(
    "torch", build_pytorch_blocks, "argmax, comparisons by blocks and bincounts"
  ),
  "torcheval": MetricBaseline(
    "torcheval", build_torcheval, "its functions of the logits"
  ),
  "torcheval-argmax": MetricBaseline(
    "torcheval", build_torcheval_argmax, _ONE_ARGMAX
  ),
  "torchmetrics": MetricBaseline(
    "torchmetrics", build_torchmetrics, _ONE_ARGMAX
  ),
  "scikit-learn": MetricBaseline(
    "scikit-learn", build_scikit_learn, _ONE_ARGMAX
  ),
}


def find_versions() -> dict[str, str | None]:
  """Returns the installed version of each baseline, or None."""
  return {name: _find_version(b.package) for name, b in BASELINES.items()}


def list_differences(result: Result, expected: Result) -> list[str]:
  """Returns the names of results that differ.

  Integers are compared exactly, rates, which may be float32, within 1e-6.
  """
  found = sorted(set(result) ^ set(expected))
  for name in sorted(set(result) & set(expected)):
    a, b = _to_array(result[name]), _to_array(expected[name])
    rates = np.issubdtype(b.dtype, np.floating)
    tolerance = 1e-6 if rates else 0
    same = a.shape == b.shape and np.allclose(
      a, b, rtol=0, atol=tolerance, equal_nan=rates
    )
    found += [] if same else [name]
  return found


def _to_array(value) -> np.ndarray:
  if isinstance(value, Mapping):
    value = [value[name] for name in sorted(value)]
  return np.asarray(value)


def _find_version(package: str) -> str | None:
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


class _TorchInputs:
  """The problem as tensors that share the memory of NumPy."""

  def __init__(self, problem: Problem):
    import torch

    # XLA uses all cores, so may PyTorch.
    torch.set_num_threads(cpus.count_cpus())
    self.logits = torch.from_numpy(problem.logits)
    self.labels = torch.from_numpy(problem.labels.astype(np.int64))
    self.codes = torch.from_numpy(problem.codes)
    self.good = torch.from_numpy(~problem.left_out)
    self.subsets = problem.subsets
    self.num_classes = problem.num_classes


def _count_torch(inputs: _TorchInputs, predicted, in_top5) -> Result:
  """Returns all numbers from predictions and top-5 hits."""
  import torch

  num_classes = inputs.num_classes
  cells = inputs.labels * num_classes + predicted
  matrix = torch.bincount(cells, minlength=num_classes**2)
  matrix = matrix.reshape(num_classes, num_classes).numpy()
  rest = _read_matrix(inputs, matrix)
  hits = np.diagonal(matrix)
  return {
    "top1_accuracy": hits.sum() / len(predicted),
    "top5_accuracy": int(in_top5.sum()) / len(predicted),
    "class_accuracy": hits / rest["count"],
    **rest,
    **_count_reviews(inputs, predicted),
  }


def _count_reviews(inputs: _TorchInputs, predicted) -> Result:
  import torch

  codes = inputs.codes.gather(1, predicted[:, None])[:, 0]
  lenient = inputs.good & (codes >= annotations.UNCLEAR)

  def count_by_class(rows) -> np.ndarray:
    labels = inputs.labels[rows]
    return torch.bincount(labels, minlength=inputs.num_classes).numpy()

  return {
    "reviewed_count": count_by_class(inputs.good),
    "lenient_hits": count_by_class(lenient),
  }


def _compute_torcheval(inputs: _TorchInputs, given, predicted) -> Result:
  """Returns all numbers; `given` are the logits or the predictions."""
  from torcheval.metrics import functional

  labels, num_classes = inputs.labels, inputs.num_classes
  accuracy = functional.multiclass_accuracy
  matrix = functional.multiclass_confusion_matrix(given, labels, num_classes)
  by_class = accuracy(given, labels, average=None, num_classes=num_classes)
  return {
    "top1_accuracy": float(accuracy(given, labels)),
    "top5_accuracy": float(accuracy(inputs.logits, labels, k=5)),
    "class_accuracy": by_class.numpy(),
    **_read_matrix(inputs, matrix.numpy()),
    **_count_reviews(inputs, predicted),
  }


def _read_matrix(problem: Problem | _TorchInputs, matrix: np.ndarray) -> Result:
  """Returns numbers that all baselines take from the confusion matrix."""
  count, hits = matrix.sum(axis=1), np.diagonal(matrix)
  subsets = problem.subsets.items()
  return {
    "count": count,
    "confusion": matrix,
    "subset_accuracy": {
      name: hits[mask].sum() / count[mask].sum() for name, mask in subsets
    },
  }
