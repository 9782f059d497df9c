"""Writes the files of an evaluation: results, predictions, curves, tables."""

from collections.abc import Mapping
import io
from typing import Any

import numpy as np

from imgbench import paths
from imgbench import run_files
from imgbench import writers
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import reconstruction
from imgbench.metrics import calibration
from imgbench.metrics import confusion
from imgbench.metrics import curves
from imgbench.metrics import specs
from imgbench.tables import table

# Precision-recall curves that are kept: of the hardest classes.
MAX_CURVES = 8
MAX_CURVE_POINTS = 200


def write_results(
  workdir: paths.Folder,
  evaluations: Mapping[str, base.Evaluation],
  examples: Mapping[str, source.Examples],
  warnings: list[dict[str, Any]],
) -> dict[str, Any]:
  """Writes all files of an evaluation, results.json last.

  Args:
    workdir: of the run.
    evaluations: by alias, e.g. "val".
    examples: the evaluated splits under the same aliases.
    warnings: rows of warnings.json.

  Returns:
    The content of results.json.
  """
  results, tables, matrices = {}, [], {}
  reliability, of_classes = {}, {}
  (workdir / run_files.PREDICTIONS).mkdir(exist_ok=True)
  for alias, evaluation in evaluations.items():
    info, key = evaluation.info, writers.make_file_key(evaluation.info.key)
    for (subset, metric), value in evaluation.measurements.items():
      results[f"{info.key}/{subset}/{metric}"] = value.as_json()
    if evaluation.reconstruction is not None:
      _write_reconstructions(workdir, examples[alias], evaluation)
    if evaluation.outcomes is None:
      continue
    labels = examples[alias].label
    top1 = evaluation.outcomes.top1
    matrices[key] = confusion.confusion_matrix(labels, top1, info.num_classes)
    matrices[f"{key}.class_names"] = np.array(info.class_names)
    if evaluation.subsets:
      matrices[f"{key}.subset_names"] = np.array([*evaluation.subsets])
      matrices[f"{key}.subsets"] = np.stack([*evaluation.subsets.values()])
    ranking = _rank_classes(evaluation, labels)
    tables.append((info, _build_class_rows(evaluation, labels, ranking)))
    bins = bin_confidences(evaluation.outcomes, labels)
    if bins is not None:
      reliability[info.key] = {
        **_describe_reliability(bins),
        "temperature_scaling": {
          name: evaluation.measurements["all", name].as_json()
          for name in specs.SCALING
        },
      }
    if ranking is not None:
      of_classes[info.key] = _select_curves(evaluation, labels, ranking)
    _write_predictions(
      workdir / run_files.PREDICTIONS / f"{key}.npz",
      examples[alias],
      evaluation,
    )
  _write_npz(workdir / run_files.CONFUSION, **matrices)
  writers.write_atomically(
    workdir / run_files.PER_CLASS, _format_per_class(tables)
  )
  writers.write_json(workdir / run_files.CALIBRATION, reliability)
  writers.write_json(workdir / run_files.CURVES, of_classes)
  writers.write_json(workdir / run_files.WARNINGS, warnings)
  (workdir / run_files.CHECK).unlink(missing_ok=True)  # Of older results.
  writers.write_json(workdir / run_files.RESULTS, results)
  return results


def _rank_classes(
  evaluation: base.Evaluation, labels: np.ndarray
) -> curves.RankingByClass | None:
  """Returns the ranking of finite rows; None without probabilities."""
  finite = np.asarray(evaluation.outcomes.finite)
  if evaluation.probs is None or not finite.any():
    return None
  return curves.ranking_by_class(evaluation.probs, labels, finite)


def _build_class_rows(evaluation, labels, ranking) -> list[dict[str, Any]]:
  num_classes = evaluation.info.num_classes
  rows = confusion.per_class_rows(
    confusion.count_by_class(labels, evaluation.outcomes.top1, num_classes),
    evaluation.alpha,
  )
  for name in ("average_precision", "roc_auc"):
    values = [None] * num_classes
    if ranking is not None:
      values = confusion.none_for_nan(getattr(ranking, name))
    for row, value in zip(rows, values, strict=True):
      row[name] = value
  return rows


def bin_confidences(outcomes, labels) -> calibration.Reliability | None:
  """Returns a reliability diagram; None without probabilities."""
  confidence = np.asarray(outcomes.top5_prob)[:, 0]
  # Predictions that are only a ranking have no probabilities.
  known = np.asarray(outcomes.finite) & np.isfinite(confidence)
  if not known.any():
    return None
  return calibration.reliability(
    confidence, np.asarray(outcomes.top1) == labels, mask=known
  )


def _describe_reliability(bins: calibration.Reliability) -> dict[str, Any]:
  return {
    "binning": calibration.EQUAL_WIDTH,
    "edges": bins.edges.tolist(),
    "count": bins.count.tolist(),
    "confidence": confusion.none_for_nan(bins.confidence),
    "accuracy": confusion.none_for_nan(bins.accuracy),
    "ece": calibration.ece(bins),
  }


def _select_curves(evaluation, labels, ranking) -> list[dict[str, Any]]:
  """Returns an entry of curves.json: classes of lowest average precision."""
  finite = np.asarray(evaluation.outcomes.finite)
  order = np.argsort(ranking.average_precision, kind="stable")
  defined = order[~np.isnan(ranking.average_precision[order])]
  found = []
  for k in defined[:MAX_CURVES].tolist():
    curve = curves.precision_recall_curve(
      evaluation.probs[finite, k], labels[finite] == k
    )
    recall, precision = _thin(curve)
    found.append(
      {
        "class_index": k,
        "class_name": evaluation.info.class_names[k],
        "average_precision": float(ranking.average_precision[k]),
        "positives": curve.positives,
        "recall": recall.tolist(),
        "precision": precision.tolist(),
      }
    )
  return found


def _thin(curve: curves.Curve) -> tuple[np.ndarray, np.ndarray]:
  """Returns recall and precision of the points that show a curve's shape."""
  # Thresholds that only add false positives are below the previous point.
  first = np.flatnonzero(np.diff(curve.true_positives, prepend=0))
  recall, precision = curve.recall[first], curve.precision[first]
  kept = curves.thinned_steps(recall, precision, MAX_CURVE_POINTS)
  return recall[kept], precision[kept]


def _write_predictions(path, examples, evaluation) -> None:
  arrays = {
    "image_id": examples.image_id,
    "label": examples.label,
    "top5": evaluation.outcomes.top5,
    "top5_prob": evaluation.outcomes.top5_prob,
  }
  if evaluation.outcomes.with_sets:
    arrays["review"] = evaluation.outcomes.code
    arrays["left_out"] = examples.left_out
  if evaluation.probs is not None:
    arrays["probs"] = evaluation.probs
  _write_npz(path, **arrays)


def _write_reconstructions(workdir, examples, evaluation) -> None:
  found = evaluation.reconstruction
  arrays = {
    "image_id": examples.image_id,
    "label": examples.label,
    "mse": found.errors.mse,
    "mae": found.errors.mae,
    "psnr": found.errors.psnr,
    "shown": found.shown,
    "images": found.images,
    "reconstructions": found.pictures,
    **found.kinds,
  }
  if found.kinds:
    scores, positive, why = reconstruction.select(found)
    if not why:
      curve = curves.precision_recall_curve(scores, positive)
      arrays["recall"], arrays["precision"] = _thin(curve)
  folder = workdir / run_files.RECONSTRUCTIONS
  folder.mkdir(exist_ok=True)
  name = f"{writers.make_file_key(evaluation.info.key)}.npz"
  _write_npz(folder / name, **arrays)


def _write_npz(path: paths.Folder, **arrays: np.ndarray) -> None:
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  writers.write_atomically(path, buffer.getvalue())


def _format_per_class(tables) -> str:
  return table.csv_text(
    [
      {
        "dataset": info.key,
        "class_index": index,
        "class_name": info.class_names[index],
        **row,
      }
      for info, rows in tables
      for index, row in enumerate(rows)
    ],
    exact=True,
  )
