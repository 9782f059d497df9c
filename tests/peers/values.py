"""The same numbers by imgbench and by other libraries, under the same names.

`python -m tests.peers.values` computes those of the libraries on
`problems.integers` and records them in recorded.jsonl, with the versions; the
fast tests compare imgbench with the record.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from importlib import metadata
import json
import pathlib
from typing import Any

import jax
import numpy as np

from imgbench.metrics import calibration
from imgbench.metrics import confusion
from imgbench.metrics import curves
from imgbench.metrics import outcomes as outcomes_lib
from tests.peers import problems

RECORD = pathlib.Path(__file__).parent / "recorded.jsonl"
RATES = ("precision", "recall", "f1")
MEANS = ("macro", "micro", "weighted")

Values = dict[str, Any]


def imgbench(problem: problems.Problem) -> Values:
  """Returns every name that one of the libraries has."""
  labels, num_classes = problem.labels, problem.num_classes
  outcomes = jax.device_get(
    jax.jit(outcomes_lib.outcomes)(problem.scores, labels)
  )
  hit = outcomes.label_rank == 0
  bins = calibration.reliability(problem.probs.max(axis=1), hit)
  table = confusion.count_by_class(labels, outcomes.top1, num_classes)
  means = confusion.means(table)
  ranking = curves.ranking_by_class(problem.probs, labels)
  return {
    **{f"top{k}": np.mean(outcomes.label_rank < k) for k in problems.KS},
    "confusion": confusion.confusion_matrix(labels, outcomes.top1, num_classes),
    **{rate: getattr(table, rate) for rate in RATES},
    **means,
    "balanced_accuracy": means["macro_recall"],
    "cohen_kappa": confusion.cohen_kappa(table),
    "average_precision": ranking.average_precision,
    "macro_average_precision": ranking.macro_average_precision,
    "roc_auc": ranking.roc_auc,
    "macro_roc_auc": ranking.macro_roc_auc,
    "nll": calibration.nll(problem.probs, labels),
    "brier": calibration.brier(problem.probs, labels),
    "ece": calibration.ece(bins),
    "mce": calibration.mce(bins),
    "nll_of_scores": np.mean(outcomes.nll, dtype=np.float64),
  }


def scikit_learn(problem: problems.Problem) -> Values:
  from sklearn import metrics

  labels, predicted = problem.labels, problem.predicted
  probs, one_hot = problem.probs, problem.one_hot

  def rate(name, average):
    return getattr(metrics, f"{name}_score")(labels, predicted, average=average)

  return {
    **{
      f"top{k}": metrics.top_k_accuracy_score(labels, problem.scores, k=k)
      for k in problems.KS
    },
    "confusion": metrics.confusion_matrix(labels, predicted),
    **{name: rate(name, None) for name in RATES},
    **{f"{mean}_{name}": rate(name, mean) for name in RATES for mean in MEANS},
    "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
    "cohen_kappa": metrics.cohen_kappa_score(labels, predicted),
    "average_precision": metrics.average_precision_score(
      one_hot, probs, average=None
    ),
    "macro_average_precision": metrics.average_precision_score(one_hot, probs),
    "roc_auc": metrics.roc_auc_score(one_hot, probs, average=None),
    "macro_roc_auc": metrics.roc_auc_score(labels, probs, multi_class="ovr"),
    "nll": metrics.log_loss(labels, probs),
    "brier": metrics.brier_score_loss(labels, probs),
  }


def torchmetrics(problem: problems.Problem) -> Values:
  from torchmetrics.functional import classification

  of_scores, of_probs = _multiclass(classification, problem)
  top = {
    f"top{k}": of_scores("accuracy", average="micro", top_k=k)
    for k in problems.KS
  }
  return {
    **top,
    "confusion": of_scores("confusion_matrix"),
    **_rates(of_scores),
    "balanced_accuracy": of_scores("accuracy", average="macro"),
    "cohen_kappa": of_scores("cohen_kappa"),
    "average_precision": of_probs("average_precision", average=None),
    "macro_average_precision": of_probs("average_precision"),
    "roc_auc": of_probs("auroc", average=None),
    "macro_roc_auc": of_probs("auroc"),
    "ece": of_probs("calibration_error", n_bins=15, norm="l1"),
    "mce": of_probs("calibration_error", n_bins=15, norm="max"),
  }


def torcheval(problem: problems.Problem) -> Values:
  from torcheval.metrics import functional

  of_scores, of_probs = _multiclass(functional, problem)
  return {
    **{f"top{k}": of_scores("accuracy", k=k) for k in problems.KS},
    "confusion": of_scores("confusion_matrix"),
    **_rates(of_scores),
    "balanced_accuracy": of_scores("accuracy", average="macro"),
    "average_precision": of_probs("auprc", average=None),
    "macro_average_precision": of_probs("auprc"),
    "roc_auc": of_probs("auroc", average=None),
    "macro_roc_auc": of_probs("auroc"),
  }


def pytorch(problem: problems.Problem) -> Values:
  import torch

  labels = torch.from_numpy(problem.labels)
  scores = torch.from_numpy(problem.scores)
  log_probs = torch.from_numpy(problem.probs).log()
  order = torch.topk(scores, max(problems.KS), dim=1).indices
  hit = (order == labels[:, None]).double()
  losses = torch.nn.functional
  return {
    **{f"top{k}": hit[:, :k].sum(dim=1).mean() for k in problems.KS},
    "nll": losses.nll_loss(log_probs, labels),
    "nll_of_scores": losses.cross_entropy(scores.double(), labels),
  }


def _multiclass(module, problem):
  """The functions multiclass_* of a module, of the scores and of the probs."""
  import torch

  labels = torch.from_numpy(problem.labels)

  def of(array):
    given = torch.from_numpy(array)
    return lambda name, **options: getattr(module, f"multiclass_{name}")(
      given, labels, num_classes=problem.num_classes, **options
    )

  return of(problem.scores), of(problem.probs)


def _rates(of_scores) -> Values:
  functions = {"precision": "precision", "recall": "recall", "f1": "f1_score"}
  result = {}
  for name, function in functions.items():
    result[name] = of_scores(function, average=None)
    for mean in MEANS:
      result[f"{mean}_{name}"] = of_scores(function, average=mean)
  return result


@dataclasses.dataclass(frozen=True)
class Library:
  """A library: its module, its package, its numbers, and how exact they are."""

  module: str
  package: str
  values: Callable[[problems.Problem], Values]
  tolerance: float

  def __call__(self, problem: problems.Problem) -> dict[str, np.ndarray]:
    return {
      name: np.asarray(value) for name, value in self.values(problem).items()
    }


# The libraries on top of PyTorch compute some numbers in float32; scikit-learn
# computes in float64, in another order than imgbench.
LIBRARIES: Mapping[str, Library] = {
  "scikit-learn": Library("sklearn", "scikit-learn", scikit_learn, 1e-13),
  "torchmetrics": Library("torchmetrics", "torchmetrics", torchmetrics, 1e-6),
  "torcheval": Library("torcheval", "torcheval", torcheval, 1e-6),
  "pytorch": Library("torch", "torch", pytorch, 1e-6),
}


def disagreements(
  values: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float
) -> dict[str, tuple]:
  """Returns the values that differ: name -> (value, expected)."""
  return {
    name: (value, expected[name])
    for name, value in values.items()
    if np.shape(value) != np.shape(expected[name])
    or not np.allclose(value, expected[name], rtol=tolerance, atol=tolerance)
  }


def record() -> None:
  """Records every library's values on `problems.integers`; needs all."""
  problem = problems.integers()
  lines = [
    {
      "peer": library,
      "version": metadata.version(LIBRARIES[library].package),
      "name": name,
      "value": value.tolist(),
    }
    for library in LIBRARIES
    for name, value in LIBRARIES[library](problem).items()
  ]
  RECORD.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_record(library: str) -> tuple[str, dict[str, Any]]:
  """Returns the version of a library, and name -> value."""
  lines = map(json.loads, RECORD.read_text().splitlines())
  mine = [line for line in lines if line["peer"] == library]
  (version,) = {line["version"] for line in mine}
  return version, {line["name"]: line["value"] for line in mine}


if __name__ == "__main__":
  record()
