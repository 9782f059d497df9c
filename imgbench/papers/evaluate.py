"""Evaluates stored predictions with the compiled metric kernels."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imgbench import cpus
from imgbench import errors
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import measurement
from imgbench.metrics import outcomes as outcomes_lib
from imgbench.metrics import summary
from imgbench.papers import records
from imgbench.tables import frame


class RankingEvaluator:
  """Evaluates any number of classifiers on one data set; 95% intervals.

  Args:
    dataset: the images.
    label_sets: of the same images in the same order, or None for none. With
      them the result has the accuracies against them, too.
    ks: the k of top-k accuracy, 1 or more of them.

  Raises:
    InputError: label sets of other images.
  """

  def __init__(
    self,
    dataset: records.Dataset,
    label_sets: records.LabelSets | None = None,
    ks: Sequence[int] = (1, outcomes_lib.TOP),
  ):
    self._ks = tuple(ks)
    self._dataset = dataset
    self._label_sets = label_sets
    self._measure = measurement.Measurer(alpha=0.05)
    self._labels = jnp.asarray(dataset.labels)
    self._masks = {
      summary.ALL: np.ones(dataset.num_classes, bool),
      **dataset.subsets,
    }
    self._sets = {}
    if label_sets is None:
      return
    wanted = (len(dataset), dataset.num_classes)
    if label_sets.codes.shape != wanted:
      given = list(label_sets.codes.shape)
      expected = f"label sets {list(wanted)} for {dataset.name}"
      raise errors.InputError(label_sets.path, expected, given)
    self._sets = {
      "label_codes": jnp.asarray(label_sets.codes),
      "left_out": jnp.asarray(label_sets.left_out),
    }
    if label_sets.in_imagenet_m is not None:
      self._sets["in_imagenet_m"] = jnp.asarray(label_sets.in_imagenet_m)

  def __call__(
    self, predictions: records.RankedPredictions
  ) -> records.ModelResult:
    """Returns the result of one classifier.

    It has, for "all" and each subset, the top-k accuracies, then those of the
    label sets (`summary.set_accuracies`). Top-k is undefined, with the reason,
    for predictions of fewer than k classes.

    Raises:
      InputError: predictions that are not of this data set, or classes that
        are out of range or twice in a row.
    """
    wanted = self._dataset.name, len(self._dataset)
    found = predictions.dataset, len(predictions.ranking)
    if found != wanted:
      expected, given = (
        f"{size} predictions of {name}" for name, size in (wanted, found)
      )
      raise errors.InputError(predictions.path, expected, given)
    try:
      outcomes_lib.check_ranking(predictions.ranking, self._dataset.num_classes)
    except errors.InputError as error:
      raise error.prefixed(f"{predictions.path}: ") from error
    width = min(predictions.ranking.shape[1], self._dataset.num_classes)
    ks = tuple(k for k in self._ks if k <= width)
    counts, outcomes = jax.tree.map(
      np.asarray,
      _count(
        jnp.asarray(predictions.ranking),
        self._labels,
        num_classes=self._dataset.num_classes,
        ks=ks,
        **self._sets,
      ),
    )
    return records.ModelResult(
      model=predictions.model,
      dataset=predictions.dataset,
      outcomes=outcomes,
      measurements={
        (predictions.model, predictions.dataset, subset, metric): m
        for subset, found in self._measurements(counts).items()
        for metric, m in found.items()
      },
    )

  def _measurements(
    self, counts: counts_lib.Counts
  ) -> dict[str, dict[str, measurement.Measurement]]:
    """Returns subset -> metric -> measurement."""
    kind = self._label_sets.kind if self._label_sets else None
    of_sets = summary.set_accuracies(
      self._measure, counts, self._masks, kind, "in_imagenet_m" in self._sets
    )
    return {
      subset: summary.label_accuracies(self._measure, counts, mask)
      | of_sets[subset]
      | self._undefined_top_k(counts, mask, kind)
      for subset, mask in self._masks.items()
    }

  def _undefined_top_k(
    self, counts: counts_lib.Counts, mask: np.ndarray, kind: str | None
  ) -> dict[str, measurement.Measurement]:
    """Returns undefined measurements for k above the number of classes."""
    rows = {}
    for k in sorted(set(self._ks) - set(counts.ks)):
      metrics = [f"top{k}_accuracy"]
      metrics += [f"real_top{k}_accuracy"] * (kind == summary.REAL)
      for metric in metrics:
        rows[metric] = self._measure.undefined(
          int(counts.count[mask].sum()),
          f"share of examples with a right class among the {k} highest scores",
          f"predictions have fewer than {k} classes per image",
        )
    return rows


def map_in_threads(
  function: Callable[[records.RankedPredictions], Any],
  predictions: Sequence[records.RankedPredictions],
) -> list[Any]:
  """Returns the results in order; the first call compiles for all."""
  with futures.ThreadPoolExecutor(cpus.count_cpus()) as pool:
    first = list(map(function, predictions[:1]))
    return [*first, *pool.map(function, predictions[1:])]


def evaluate_all(
  datasets: Mapping[str, records.Dataset],
  predictions: Mapping[str, Sequence[records.RankedPredictions]],
  label_sets: Mapping[str, records.LabelSets] | None = None,
  ks: Sequence[int] = (1, outcomes_lib.TOP),
) -> list[frame.Measurements]:
  """Returns results of many classifiers on several data sets, in threads.

  Args:
    datasets: by name.
    predictions: by name of the data set.
    label_sets: by name of the data set, for those that have any.
    ks: the k of top-k accuracy.

  Raises:
    InputError: see `RankingEvaluator`.
  """
  found = []
  for name, dataset in datasets.items():
    evaluator = RankingEvaluator(dataset, (label_sets or {}).get(name), ks=ks)
    # Outcomes of many classifiers need not stay in memory.
    measure = lambda p, evaluate=evaluator: evaluate(p).measurements
    found += map_in_threads(measure, predictions[name])
  return found


@functools.partial(jax.jit, static_argnames=("num_classes", "ks"))
def _count(
  ranking,
  labels,
  label_codes=None,
  left_out=None,
  in_imagenet_m=None,
  *,
  num_classes: int,
  ks: tuple[int, ...],
):
  """Returns the counts and outcomes of int16 [N, k] classes."""
  outcomes = outcomes_lib.from_ranking(
    ranking, labels, num_classes, label_codes
  )
  counts = counts_lib.update(
    counts_lib.empty(num_classes, ks, set_ks=ks),
    outcomes,
    labels,
    jnp.ones(labels.shape, bool),
    left_out=left_out,
    in_imagenet_m=in_imagenet_m,
  )
  return counts, outcomes
