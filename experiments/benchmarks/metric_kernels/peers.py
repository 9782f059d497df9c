"""What other libraries take for the numbers of one pass, as a yardstick.

Each peer is given the same problem and computes the same: top-1 and top-5
accuracy, accuracy by class and by subset, lenient multi-label hits and the
confusion matrix. It is written the way a user who knows the library would for
speed: inputs in its own form and on the host are made before, predictions
once where its functions take them, arguments are not validated twice.

None of the libraries is a dependency of imgbench; versions that were tried are
in requirements/baselines.txt. They are compared on scores without ties, NaN and
infinities: elsewhere they differ, see tests/peers/differences_test.py.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from importlib import metadata
import os
from typing import Any

import numpy as np

from imgbench.labels import annotations

Result = dict[str, Any]
Compute = Callable[[], Result]

# Rows compared at once: the block and its comparisons stay in the cache.
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
  """A way to compute the numbers with a library.

  Attributes:
    package: its name on the package index.
    build: problem -> function without arguments that returns the numbers:
      `top1_accuracy` and `top5_accuracy`, floats; `class_accuracy`, float [K];
      `count`, `reviewed_count` and `lenient_hits`, integer [K] by original
      class; `subset_accuracy`, name -> float; `confusion`, integer [K, K],
      rows true labels. Rates may be float32.
    text: what it calls.
  """

  package: str
  build: Callable[[Problem], Compute]
  text: str


def pytorch(problem: Problem) -> Compute:
  """One `torch.topk` of five, a gather of codes, and bincounts."""
  import torch

  inputs = _TorchInputs(problem)

  @torch.inference_mode()
  def compute() -> Result:
    top5 = torch.topk(inputs.logits, 5, dim=1).indices
    in_top5 = (top5 == inputs.labels[:, None]).any(dim=1)
    return _torch_counts(inputs, top5[:, 0], in_top5)

  return compute


def pytorch_blocks(problem: Problem) -> Compute:
  """`torch.argmax`, and the rank of the label by comparisons in blocks.

  Faster than `torch.topk`, at the price of longer code: whole-array
  comparisons would be slower, as they write N K flags to memory.
  """
  import torch

  inputs = _TorchInputs(problem)
  size, num_classes = inputs.logits.shape
  # The sum of floats is faster than that of flags.
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
    return _torch_counts(inputs, inputs.logits.argmax(dim=1), rank < 5)

  return compute


def torcheval(problem: Problem) -> Compute:
  """torcheval's functions, each given the logits as its documentation does.

  `multiclass_accuracy` with k=1, with k=5 and with average=None, and
  `multiclass_confusion_matrix`. It has nothing for sets of reviewed labels:
  those are PyTorch.
  """
  import torch

  inputs = _TorchInputs(problem)

  @torch.inference_mode()
  def compute() -> Result:
    predicted = inputs.logits.argmax(dim=1)
    return _torcheval_result(inputs, inputs.logits, predicted)

  return compute


def torcheval_argmax(problem: Problem) -> Compute:
  """The same, but predictions are made once and given where they will do."""
  import torch

  inputs = _TorchInputs(problem)

  @torch.inference_mode()
  def compute() -> Result:
    predicted = inputs.logits.argmax(dim=1)
    return _torcheval_result(inputs, predicted, predicted)

  return compute


def torchmetrics(problem: Problem) -> Compute:
  """torchmetrics' functions; predictions are made once, nothing is validated.

  `multiclass_accuracy` with average="micro" and top_k=1 and 5, and with
  average="none", and `multiclass_confusion_matrix`. Only top_k=5 takes the
  logits. It has nothing for sets of reviewed labels: those are PyTorch.
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
      **_from_matrix(inputs, matrix.numpy()),
      **_torch_reviews(inputs, predicted),
    }

  return compute


def scikit_learn(problem: Problem) -> Compute:
  """scikit-learn's functions; predictions are made once, by NumPy's argmax.

  `accuracy_score`, `top_k_accuracy_score` with k=5, `recall_score` with
  average=None, and `confusion_matrix`. It has nothing for sets of reviewed
  labels: those are NumPy.
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
      **_from_matrix(problem, matrix),
    }

  return compute


BASELINES: Mapping[str, MetricBaseline] = {
  "pytorch": MetricBaseline("torch", pytorch, "one topk(5) and bincounts"),
  "pytorch-blocks": MetricBaseline(
    "torch", pytorch_blocks, "argmax, comparisons by blocks and bincounts"
  ),
  "torcheval": MetricBaseline(
    "torcheval", torcheval, "its functions of the logits"
  ),
  "torcheval-argmax": MetricBaseline(
    "torcheval", torcheval_argmax, "its functions of one argmax; logits for k=5"
  ),
  "torchmetrics": MetricBaseline(
    "torchmetrics", torchmetrics, "its functions of one argmax; logits for k=5"
  ),
  "scikit-learn": MetricBaseline(
    "scikit-learn", scikit_learn, "its functions of one argmax; logits for k=5"
  ),
}


def available() -> dict[str, str | None]:
  """Returns the installed version of each peer in BASELINES, or None."""
  return {name: _version(peer.package) for name, peer in BASELINES.items()}


def differences(result: Result, expected: Result) -> list[str]:
  """Returns what differs between two results, by name; empty if nothing does.

  Integers are equal or not; rates may be float32 and are equal to within 1e-6.
  """
  found = sorted(set(result) ^ set(expected))
  for name in sorted(set(result) & set(expected)):
    a, b = _rates_as_array(result[name]), _rates_as_array(expected[name])
    rates = np.issubdtype(b.dtype, np.floating)
    tolerance = 1e-6 if rates else 0
    same = a.shape == b.shape and np.allclose(
      a, b, rtol=0, atol=tolerance, equal_nan=rates
    )
    found += [] if same else [name]
  return found


def _rates_as_array(value) -> np.ndarray:
  if isinstance(value, Mapping):
    value = [value[name] for name in sorted(value)]
  return np.asarray(value)


def _version(package: str) -> str | None:
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


class _TorchInputs:
  """The problem as tensors; the memory is NumPy's, nothing is copied."""

  def __init__(self, problem: Problem):
    import torch

    # XLA takes all cores, so may PyTorch.
    torch.set_num_threads(os.cpu_count() or 1)
    self.logits = torch.from_numpy(problem.logits)
    self.labels = torch.from_numpy(problem.labels.astype(np.int64))
    self.codes = torch.from_numpy(problem.codes)
    self.good = torch.from_numpy(~problem.left_out)
    self.subsets = problem.subsets
    self.num_classes = problem.num_classes


def _torch_counts(inputs: _TorchInputs, predicted, in_top5) -> Result:
  """All numbers from predictions and top-5 hits."""
  import torch

  num_classes = inputs.num_classes
  cells = inputs.labels * num_classes + predicted
  matrix = torch.bincount(cells, minlength=num_classes**2)
  matrix = matrix.reshape(num_classes, num_classes).numpy()
  rest = _from_matrix(inputs, matrix)
  hits = np.diagonal(matrix)
  return {
    "top1_accuracy": hits.sum() / len(predicted),
    "top5_accuracy": int(in_top5.sum()) / len(predicted),
    "class_accuracy": hits / rest["count"],
    **rest,
    **_torch_reviews(inputs, predicted),
  }


def _torch_reviews(inputs: _TorchInputs, predicted) -> Result:
  import torch

  codes = inputs.codes.gather(1, predicted[:, None])[:, 0]
  lenient = inputs.good & (codes >= annotations.UNCLEAR)
  by_class = lambda rows: torch.bincount(
    inputs.labels[rows], minlength=inputs.num_classes
  ).numpy()
  return {
    "reviewed_count": by_class(inputs.good),
    "lenient_hits": by_class(lenient),
  }


def _torcheval_result(inputs: _TorchInputs, given, predicted) -> Result:
  """All numbers; `given` are the logits or the predictions."""
  from torcheval.metrics import functional

  labels, num_classes = inputs.labels, inputs.num_classes
  accuracy = functional.multiclass_accuracy
  matrix = functional.multiclass_confusion_matrix(given, labels, num_classes)
  by_class = accuracy(given, labels, average=None, num_classes=num_classes)
  return {
    "top1_accuracy": float(accuracy(given, labels)),
    "top5_accuracy": float(accuracy(inputs.logits, labels, k=5)),
    "class_accuracy": by_class.numpy(),
    **_from_matrix(inputs, matrix.numpy()),
    **_torch_reviews(inputs, predicted),
  }


def _from_matrix(problem: Problem | _TorchInputs, matrix: np.ndarray) -> Result:
  """What is cheap once there is a confusion matrix, the same for all."""
  count, hits = matrix.sum(axis=1), np.diagonal(matrix)
  subsets = problem.subsets.items()
  return {
    "count": count,
    "confusion": matrix,
    "subset_accuracy": {
      name: hits[mask].sum() / count[mask].sum() for name, mask in subsets
    },
  }
