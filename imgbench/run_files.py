"""The files of a run: who may write, what was asked for, what came out."""

from collections.abc import Mapping
import contextlib
import csv
import fcntl
import heapq
import io
import json
import os
import pathlib
import tempfile
import time
from typing import Any
import uuid

from absl import logging
import numpy as np

from imgbench import bucket_lock
from imgbench import config_utils
from imgbench import errors
from imgbench import paths
from imgbench import timing
from imgbench import writers
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.metrics import calibration
from imgbench.metrics import confusion
from imgbench.metrics import curves
from imgbench.parallel import processes

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
STATUS = "status.json"
RESULTS = "results.json"
WARNINGS = "warnings.json"
PER_CLASS = "per_class.csv"
CONFUSION = "confusion.npz"
CALIBRATION = "calibration.json"
CURVES = "curves.json"
PREDICTIONS = "predictions"

# Precision-recall curves that are kept: of the classes hardest to tell.
MAX_CURVES = 8
MAX_CURVE_POINTS = 200

# Seconds until what one process wrote has to be seen by the others.
SHARED_S = 30.0

RUNNING = "running"
DONE = "done"
FAILED = "failed"
DIVERGED = "diverged"
PREEMPTED = "preempted"


def read_json(path: paths.Folder) -> Any:
  """Returns what the file holds, None if it is not there."""
  try:
    return json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    return None
  except json.JSONDecodeError as error:
    raise errors.InputError(
      f"{path} is not JSON ({error}); move it away to go on"
    ) from error


@contextlib.contextmanager
def locked(workdir: paths.Folder):
  """Makes the workdir and keeps a second process out while the block runs.

  Raises:
    InputError: it cannot be made or written, or another process is in it.
  """
  if paths.is_bucket(workdir):
    with bucket_lock.held(workdir):
      yield
    return
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    file = (workdir / ".lock").open("w")
  except OSError as error:
    raise errors.InputError(
      f"--workdir={workdir} cannot be written: {error.strerror}; expected a"
      " folder, or a place for one"
    ) from error
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise errors.InputError(
        f"another process is running in {workdir}; wait for it or give another"
        " --workdir"
      ) from None
    except OSError as error:
      logging.warning("%s cannot be locked: %s", workdir, error)
    yield


def check_shared(workdir: paths.Folder, group: processes.Group) -> None:
  """Raises InputError unless all processes see the folder of the first one."""
  if group is processes.ALONE:
    return
  mark = workdir / group.from_first(lambda: _mark(workdir))
  deadline = timing.clock() + SHARED_S
  # A network's file system may show what others wrote a while later.
  while not mark.exists() and timing.clock() < deadline:
    time.sleep(0.1)
  seen = group.exchange(mark.exists())
  if group.first:
    mark.unlink()
  if not all(seen):
    raise errors.InputError(
      f"--workdir={workdir}: expected a folder that all processes share; of"
      f" {len(seen)}, {[i for i, s in enumerate(seen) if not s]} see another"
    )


def _mark(workdir: paths.Folder) -> str:
  """The name of a new file."""
  if paths.is_bucket(workdir):
    name = f".shared-{uuid.uuid4().hex}"
    paths.write_object(workdir / name, b"seen")
    return name
  file, path = tempfile.mkstemp(prefix=".shared-", dir=workdir)
  os.close(file)
  return pathlib.Path(path).name


def check_config(workdir: paths.Folder, config: Mapping[str, Any]) -> None:
  """Compares `config` (as of `config_utils.to_dict`) with config.json.

  Raises:
    InputError: the workdir holds a run of another config; shows the difference.
  """
  old = read_json(workdir / CONFIG)
  if old is None:
    return
  differences = config_utils.frozen_differences(old, config)
  if differences:
    raise errors.InputError(
      f"{workdir} holds a run of another config: {'; '.join(differences)}."
      " Give another --workdir, or the old values"
    )


def write_start(
  workdir: paths.Folder,
  config: Mapping[str, Any],
  environment: Mapping[str, Any],
) -> None:
  """Writes config and environment, keeping a list of all starts."""
  old = read_json(workdir / ENVIRONMENT) or {}
  starts = old.get("starts", [])
  starts.append(
    {key: environment[key] for key in ("started_at", "commit", "command")}
  )
  writers.write_json(workdir / CONFIG, config)
  writers.write_json(workdir / ENVIRONMENT, {**environment, "starts": starts})


def write_status(workdir: paths.Folder, state: str, **facts) -> None:
  """Writes status.json: how the run stands; sweeps and restarts read it.

  Args:
    workdir: the run's folder.
    state: RUNNING, DONE, FAILED, DIVERGED or PREEMPTED.
    **facts: JSON values, e.g. step and total_steps.
  """
  writers.write_json(workdir / STATUS, {"state": state, **facts})


def finished_results(
  workdir: paths.Folder, config_hash: str
) -> dict[str, Any] | None:
  """The results of a run of this very config that is done, else None."""
  status = read_json(workdir / STATUS) or {}
  if status.get("state") != DONE or status.get("config_hash") != config_hash:
    return None
  return read_json(workdir / RESULTS)


def write_results(
  workdir: paths.Folder,
  evaluations: Mapping[str, base.Evaluation],
  examples: Mapping[str, source.Examples],
  warnings: list[dict[str, Any]],
) -> dict[str, Any]:
  """Writes all that an evaluation leaves, results.json last.

  Args:
    workdir: the run's folder.
    evaluations: by alias, e.g. "val".
    examples: the evaluated splits under the same aliases.
    warnings: rows of warnings.json.

  Returns:
    What results.json holds.
  """
  results, tables, matrices = {}, [], {}
  reliability, of_classes = {}, {}
  (workdir / PREDICTIONS).mkdir(exist_ok=True)
  for alias, evaluation in evaluations.items():
    info, key = evaluation.info, writers.file_key(evaluation.info.key)
    for (subset, metric), value in evaluation.measurements.items():
      results[f"{info.key}/{subset}/{metric}"] = value.as_json()
    labels = examples[alias].label
    top1 = evaluation.outcomes.top1
    matrices[key] = confusion.confusion_matrix(labels, top1, info.num_classes)
    matrices[f"{key}.class_names"] = np.array(info.class_names)
    ranking = _ranking(evaluation, labels)
    tables.append((info, _class_rows(evaluation, labels, ranking)))
    bins = _reliability(evaluation.outcomes, labels)
    if bins is not None:
      reliability[info.key] = bins
    if ranking is not None:
      of_classes[info.key] = _hardest_curves(evaluation, labels, ranking)
    _write_predictions(
      workdir / PREDICTIONS / f"{key}.npz", examples[alias], evaluation
    )
  _write_npz(workdir / CONFUSION, **matrices)
  writers.write_atomically(workdir / PER_CLASS, _per_class_csv(tables))
  writers.write_json(workdir / CALIBRATION, reliability)
  writers.write_json(workdir / CURVES, of_classes)
  writers.write_json(workdir / WARNINGS, warnings)
  writers.write_json(workdir / RESULTS, results)
  return results


def _ranking(
  evaluation: base.Evaluation, labels: np.ndarray
) -> curves.RankingByClass | None:
  """Of the probabilities in finite rows; None where there are none."""
  finite = np.asarray(evaluation.outcomes.finite)
  if evaluation.probs is None or not finite.any():
    return None
  return curves.ranking_by_class(evaluation.probs, labels, finite)


def _class_rows(evaluation, labels, ranking) -> list[dict[str, Any]]:
  num_classes = evaluation.info.num_classes
  rows = confusion.per_class_rows(
    confusion.per_class_of(labels, evaluation.outcomes.top1, num_classes),
    evaluation.alpha,
  )
  for name in ("average_precision", "roc_auc"):
    values = [None] * num_classes
    if ranking is not None:
      values = confusion.none_for_nan(getattr(ranking, name))
    for row, value in zip(rows, values, strict=True):
      row[name] = value
  return rows


def _reliability(outcomes, labels) -> dict[str, Any] | None:
  """An entry of calibration.json; None where no probability is known."""
  confidence = np.asarray(outcomes.top5_prob)[:, 0]
  # Of predictions that came as a ranking only the order is known.
  known = np.asarray(outcomes.finite) & np.isfinite(confidence)
  if not known.any():
    return None
  bins = calibration.reliability(
    confidence, np.asarray(outcomes.top1) == labels, mask=known
  )
  return {
    "binning": calibration.EQUAL_WIDTH,
    "edges": bins.edges.tolist(),
    "count": bins.count.tolist(),
    "confidence": confusion.none_for_nan(bins.confidence),
    "accuracy": confusion.none_for_nan(bins.accuracy),
    "ece": calibration.ece(bins),
  }


def _hardest_curves(evaluation, labels, ranking) -> list[dict[str, Any]]:
  """An entry of curves.json: the classes of lowest average precision."""
  finite = np.asarray(evaluation.outcomes.finite)
  order = np.argsort(ranking.average_precision, kind="stable")
  defined = order[~np.isnan(ranking.average_precision[order])]
  found = []
  for k in defined[:MAX_CURVES].tolist():
    curve = curves.precision_recall_curve(
      evaluation.probs[finite, k], labels[finite] == k
    )
    # Thresholds that only add false alarms lie straight below the one before.
    first = np.flatnonzero(np.diff(curve.true_positives, prepend=0))
    recall, precision = curve.recall[first], curve.precision[first]
    kept = thinned_steps(recall, precision, MAX_CURVE_POINTS)
    found.append(
      {
        "class_index": k,
        "class_name": evaluation.info.class_names[k],
        "average_precision": float(ranking.average_precision[k]),
        "positives": curve.positives,
        "recall": recall[kept].tolist(),
        "precision": precision[kept].tolist(),
      }
    )
  return found


def thinned_steps(x: np.ndarray, y: np.ndarray, limit: int) -> np.ndarray:
  """Chooses points of a step curve that show its shape.

  The curve has the height y[i] between x[i - 1] and x[i]. Beginning with both
  ends, the point farthest from the steps through those chosen is added until
  there are `limit`, or none lies off the steps. No point is moved.

  Args:
    x: float [P], increasing.
    y: float [P].
    limit: at least 2.

  Returns:
    int64, ascending indices: all of [0, P) if they are at most `limit`.
  """
  if len(x) <= limit:
    return np.arange(len(x))
  kept, segments = [0, len(x) - 1], []

  def push(left, right):
    between = np.arange(left + 1, right)
    if between.size:
      far = _from_step(x, y, left, right, between)
      best = int(np.argmax(far))
      heapq.heappush(segments, (-far[best], left, right, left + 1 + best))

  push(0, len(x) - 1)
  while segments and len(kept) < limit:
    far, left, right, best = heapq.heappop(segments)
    if far == 0:
      break
    kept.append(best)
    push(left, best)
    push(best, right)
  return np.sort(np.array(kept))


def _from_step(x, y, left, right, between) -> np.ndarray:
  """Distances of points from the step that joins two points of a curve."""
  low, high = sorted((y[left], y[right]))
  beyond = np.maximum(np.maximum(low - y[between], y[between] - high), 0)
  to_rise = np.hypot(x[between] - x[left], beyond)
  return np.minimum(np.abs(y[between] - y[right]), to_rise)


def _write_predictions(path, examples, evaluation) -> None:
  arrays = {
    "image_id": examples.image_id,
    "label": examples.label,
    "top5": evaluation.outcomes.top5,
    "top5_prob": evaluation.outcomes.top5_prob,
  }
  if evaluation.probs is not None:
    arrays["probs"] = evaluation.probs
  _write_npz(path, **arrays)


def _write_npz(path: paths.Folder, **arrays: np.ndarray) -> None:
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  writers.write_atomically(path, buffer.getvalue())


def _per_class_csv(tables) -> str:
  text = io.StringIO()
  columns = None
  for info, rows in tables:
    for index, row in enumerate(rows):
      row = {
        "dataset": info.key,
        "class_index": index,
        "class_name": info.class_names[index],
        **row,
      }
      if columns is None:
        columns = csv.DictWriter(text, list(row), lineterminator="\n")
        columns.writeheader()
      columns.writerow({k: "" if v is None else v for k, v in row.items()})
  return text.getvalue()
