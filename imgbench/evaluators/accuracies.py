"""Accuracies that compare two sets, as functions of their counts."""

import dataclasses

from imgbench.metrics import counts as counts_lib
from imgbench.metrics import multilabel

CLASS_MEAN = "top1_accuracy.class_mean"


@dataclasses.dataclass(frozen=True)
class Accuracy:
  """Hits and examples by class, see `multilabel.Definition`."""

  hits: multilabel.Field
  count: multilabel.Field
  class_mean: bool = False


def find_comparable(*counts: counts_lib.Counts) -> dict[str, Accuracy]:
  """Returns metric -> accuracy, of those that all counts have."""
  ks = [k for k in counts[0].ks if all(k in other.ks for other in counts)]
  found = {
    f"top{k}_accuracy": Accuracy(
      lambda counts, k=k: counts.top_hits(k), lambda counts: counts.count
    )
    for k in ks
  }
  found[CLASS_MEAN] = Accuracy(
    lambda counts: counts.top_hits(1), lambda counts: counts.count, True
  )
  definitions = {
    **{
      f"multilabel_accuracy.{k}": d for k, d in multilabel.DEFINITIONS.items()
    },
    **multilabel.REAL_DEFINITIONS,
  }
  for metric, definition in definitions.items():
    found[metric] = Accuracy(
      definition.hits, definition.count, definition.class_mean
    )
  return found
