"""Evaluation of reconstructed images, and anomaly detection with their errors.

An image is abnormal if it shows one of the abnormal classes. The higher its
mean squared error, the more it is an anomaly to the model.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench import parallel
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import classification
from imgbench.evaluators import splits
from imgbench.labels import annotations
from imgbench.metrics import curves
from imgbench.metrics import intervals
from imgbench.metrics import measurement
from imgbench.metrics import reconstruction
from imgbench.metrics import specs
from imgbench.metrics import summary

RANGE = (0.0, 1.0)  # of pixels
NORMAL, ABNORMAL = "normal", "abnormal"  # names of subsets
# Metrics that an evaluation of images has, and one with abnormal classes.
OF_IMAGES = ("mse", "mae", "psnr")
OF_ANOMALIES = ("anomaly_roc_auc",)  # that can select the best checkpoint
# Bytes of reconstructions that are kept; those to show are chosen from them.
MOST_BYTES = 2**25
SHOWN = 8  # images of the highest errors, and as many of middle ones


@dataclasses.dataclass(frozen=True)
class Threshold:
  """Choice of the error above which images are flagged.

  Attributes:
    chosen_on: alias of the set on which it is chosen.
    recall: least share of that set's abnormal images that it flags.
  """

  chosen_on: str
  recall: float


class ReconstructionPass:
  """Passes over a split: errors of every image exactly once.

  Args:
    predict_fn: of the model, which returns pixels in [0, 1].
    strategy: devices and shardings.
    batch_size: rounded up to a multiple of the devices.
    num_classes: not used, as the next.
    ks: not used.
    fold: see `base.CompiledPass`.
  """

  def __init__(
    self,
    predict_fn: base.PredictFn,
    strategy: parallel.Strategy,
    batch_size: int,
    num_classes: int = 0,
    ks: Sequence[int] = (),
    fold: base.Fold = lambda variables: variables,
  ):
    del num_classes, ks
    self._batch_size = strategy.round_up(batch_size)
    self._strategy = strategy
    self._fold = fold

    def eval_step(variables, batch, mask):
      outputs = predict_fn(variables, batch.image)
      found = reconstruction.reconstruction_errors(
        batch.image.astype(jnp.float32) / 255,
        outputs,
        value_range=RANGE,
        mask=mask,
      )
      pixels = jnp.round(255 * jnp.clip(outputs, *RANGE)).astype(jnp.uint8)
      return (found, pixels)

    self._eval_step = strategy.spread(
      eval_step,
      (parallel.STATE, parallel.BATCH, parallel.BATCH),
      (parallel.BATCH, parallel.BATCH),
    )

  def __call__(
    self,
    split: splits.Split,
    requests: Sequence[Mapping[str, Any]],
    should_stop: Callable[[], bool] = lambda: False,
  ) -> list["Result"]:
    """Returns a result for each request, which is variables of the model.

    Raises:
      EvaluationStopped: as soon as `should_stop` is true.
      InputError: no image of the split is whole, or outputs out of range.
    """
    variables = [self._fold(request) for request in requests]
    measured: list[list] = [[] for _ in requests]
    pictures: list[list] = [[] for _ in requests]
    batches, seen = split.batches(self._batch_size), 0
    try:
      for batch, mask in batches:
        if should_stop():
          raise base.EvaluationStopped
        keeps = seen <= MOST_BYTES
        seen += batch.image.size
        for i, one in enumerate(variables):
          found, pixels = self._eval_step(one, batch, mask)
          measured[i].append((found, mask))
          base.limit_dispatch(measured[i])
          if keeps:
            pictures[i].append(pixels)
    finally:
      batches.close()
    return [
      self._fetch(split, *parts)
      for parts in zip(measured, pictures, strict=True)
    ]

  def _fetch(self, split, measured, pictures) -> "Result":
    join = lambda *parts: np.concatenate(parts)
    found, mask = jax.tree.map(join, *self._strategy.fetch_rows(measured))
    (pictures,) = jax.tree.map(
      join, *self._strategy.fetch_rows([(p,) for p in pictures])
    )
    rows, num_examples = np.flatnonzero(mask), len(split.examples)
    expected = "at least one example that is whole"
    errors.check(len(rows) > 0, split.info.key, expected, 0)
    if not split.skips_bad and len(rows) != num_examples:
      raise RuntimeError(f"saw {len(rows)} of {num_examples} examples")
    found = jax.tree.map(lambda x: x[rows], found)
    outside = ~found.in_range & np.isfinite(found.mse)
    if outside.any():
      name = split.examples.image_id[rows[np.argmax(outside)]]
      raise errors.InputError(
        f"outputs of the model for {name}",
        f"pixels in [{RANGE[0]:g}, {RANGE[1]:g}]",
        f"others, as for {int(outside.sum()) - 1:,} more images",
        "end the model with a sigmoid",
      )
    return Result(
      found,
      pictures[rows[rows < len(pictures)]],
      rows if len(rows) < num_examples else None,
    )


@dataclasses.dataclass(frozen=True)
class Result:
  """The answer of a pass, NumPy arrays.

  Attributes:
    errors: of N images.
    pictures: uint8 [M, H, W, C], the reconstructions of the first M of them.
    rows: see `base.Evaluation`.
  """

  errors: reconstruction.ReconstructionErrors
  pictures: np.ndarray
  rows: np.ndarray | None


class ReconstructionEvaluator:
  """Measures errors of reconstructed images, and how well they show anomalies.

  Args:
    split: to evaluate.
    compiled_pass: shared by all evaluators of a run.
    protocol: part of every definition.
    alpha: intervals cover 1 - alpha.
    class_masks: more subsets of classes, name -> bool [K].
    abnormal: bool [K], the classes whose images are abnormal; None: anomalies
      are not measured.
    parameters: see `classification.ClassificationEvaluator`.
  """

  pass_class = ReconstructionPass
  reconstructs = True

  def __init__(
    self,
    split: splits.Split,
    *,
    compiled_pass: ReconstructionPass,
    protocol: str = "",
    alpha: float = 0.05,
    class_masks: Mapping[str, np.ndarray] | None = None,
    abnormal: np.ndarray | None = None,
    parameters: str = classification.RAW,
  ):
    self.examples = split.examples
    self.parameters = parameters
    self.images = split.images
    self.info = classification.rename(split.info, parameters)
    self.split = split
    self.compiled_pass = compiled_pass
    self._alpha = alpha
    self._masks = {**split.info.subsets, **(class_masks or {})}
    self._abnormal = abnormal
    clauses = [protocol] if protocol else []
    if self.info.synthetic:
      clauses.append(base.SYNTHETIC)
    self._protocol = "; ".join(clauses)

  @classmethod
  def check(cls, info: source.Info) -> None:
    """Accepts any split."""
    del info

  def build_request(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `base.Evaluator`."""
    return variables

  def summarize(self, result: Result) -> base.Evaluation:
    """See `base.Evaluator`."""
    examples = self.examples
    if result.rows is not None:
      examples = examples.take(result.rows)
    chosen = choose_shown(result.errors.mse[: len(result.pictures)])
    # Images of the split are looked up by their number in it.
    rows = chosen if result.rows is None else result.rows[chosen]
    kinds = {}
    if self._abnormal is not None:
      kinds = find_kinds(examples, self._abnormal)
    reconstructed = base.Reconstruction(
      errors=result.errors,
      kinds=kinds,
      shown=chosen,
      images=self.images(rows),
      pictures=result.pictures[chosen],
    )
    measure = measurement.Measurer(self._alpha, self._protocol)
    masks = {
      summary.ALL: np.ones(len(examples), bool),
      **{name: mask[examples.label] for name, mask in self._masks.items()},
      **kinds,
    }
    found = {
      (subset, metric): value
      for subset, mask in masks.items()
      for metric, value in measure_errors(measure, result.errors, mask).items()
    }
    if self.split.skips_bad:
      skipped = self.info.num_examples - len(examples)
      found[summary.ALL, "skipped"] = measure.value(
        self.info.num_examples, skipped, specs.METRICS["skipped"].definition
      )
    if kinds:
      anomalies = measure_anomalies(measure, reconstructed, self._alpha)
      found |= {(summary.ALL, name): row for name, row in anomalies.items()}
    return base.Evaluation(
      self.info,
      found,
      alpha=self._alpha,
      rows=result.rows,
      reconstruction=reconstructed,
    )


def find_kinds(
  examples: source.Examples, abnormal: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns which images are normal and which abnormal, bool [N] each.

  An image shows its label, or where it has a label set the correct and unclear
  labels of that. Images that label sets exclude are neither.

  Args:
    examples: N of them.
    abnormal: bool [K], the abnormal classes.
  """
  shows = abnormal[examples.label]
  if examples.label_codes is not None:
    listed = examples.label_codes >= annotations.UNCLEAR
    shows = listed[:, abnormal].any(axis=1)
  counted = np.ones(len(examples), bool)
  if examples.left_out is not None:
    counted = ~examples.left_out
  return {NORMAL: counted & ~shows, ABNORMAL: counted & shows}


def choose_shown(mse: np.ndarray) -> np.ndarray:
  """Returns int64 indices: of the highest errors, then of the middle ones."""
  order = np.argsort(-mse, kind="stable")
  highest, rest = order[:SHOWN], order[SHOWN:]
  start = max((len(rest) - SHOWN) // 2, 0)
  return np.concatenate([highest, rest[start : start + SHOWN]])


def measure_errors(
  measure: measurement.Measurer,
  found: reconstruction.ReconstructionErrors,
  mask: np.ndarray,
) -> dict[str, measurement.Measurement]:
  """Returns the means over the images of a mask, bool [N]."""
  mse = found.mse[mask]
  broken, exact = int((~np.isfinite(mse)).sum()), int((mse == 0).sum())
  why = f"the outputs for {broken:,} images are not finite"
  reasons = dict.fromkeys(OF_IMAGES, why)
  if not broken:
    reasons["psnr"] = f"it is infinite for {exact:,} images without error"
  return {
    name: measure.mean(
      getattr(found, name)[mask], specs.METRICS[name].definition, reasons[name]
    )
    for name in OF_IMAGES
  }


def measure_anomalies(
  measure: measurement.Measurer, found: base.Reconstruction, alpha: float
) -> dict[str, measurement.Measurement]:
  """Returns how well errors tell abnormal images from normal ones.

  Args:
    measure: of the evaluation.
    found: with `kinds`.
    alpha: intervals cover 1 - alpha.
  """
  scores, positive, why = select(found)
  names = ("anomaly_roc_auc", "anomaly_average_precision", "anomaly_overlap")
  texts = {name: specs.METRICS[name].definition for name in names}
  if why:
    return {
      name: measure.undefined(len(scores), text, why)
      for name, text in texts.items()
    }
  low, high = curves.roc_auc_interval(scores, positive, alpha)
  bounds = None if np.isnan(low) else (low, high, intervals.DELONG)
  values = (
    (curves.roc_auc(scores, positive), bounds),
    (curves.average_precision(scores, positive), None),
    (reconstruction.overlap(scores, positive), None),
  )
  return {
    name: measure.value(len(scores), value, texts[name], interval=interval)
    for name, (value, interval) in zip(names, values, strict=True)
  }


def select(found: base.Reconstruction) -> tuple[np.ndarray, np.ndarray, str]:
  """Returns mse and truth of the images that are normal or abnormal.

  The last value is the reason if rates are undefined, else "".
  """
  normal, abnormal = found.kinds[NORMAL], found.kinds[ABNORMAL]
  scores = found.errors.mse[normal | abnormal]
  positive = abnormal[normal | abnormal]
  broken = int((~np.isfinite(scores)).sum())
  why = f"the outputs for {broken:,} images are not finite" if broken else ""
  for name, rows in found.kinds.items():
    why = why or ("" if rows.any() else f"no {name} image")
  return scores, positive, why


def add_thresholds(
  evaluations: Mapping[str, base.Evaluation],
  thresholds: Mapping[str, Threshold],
  suffixes: Sequence[str],
) -> dict[str, base.Evaluation]:
  """Returns all evaluations, some with the results of flagging images.

  Args:
    evaluations: by alias.
    thresholds: by alias of the set that is judged.
    suffixes: of aliases with other parameters; a threshold is chosen with the
      same ones.
  """
  found = dict(evaluations)
  for alias, choice in thresholds.items():
    for suffix in suffixes:
      judged = evaluations.get(alias + suffix)
      chosen = evaluations.get(choice.chosen_on + suffix)
      if judged is None or chosen is None:
        continue
      rows = _judge(judged, chosen, choice.recall)
      found[alias + suffix] = dataclasses.replace(
        judged, measurements={**judged.measurements, **rows}
      )
  return found


def _judge(
  judged: base.Evaluation, chosen: base.Evaluation, recall: float
) -> dict[base.MetricKey, measurement.Measurement]:
  """Returns the results of a threshold that is chosen on another set."""
  clause = (
    f"the threshold is the highest that flags {100 * recall:g}% or more of the"
    f" abnormal images of {chosen.info.key}"
  )
  if judged.info.synthetic:
    clause += f"; {base.SYNTHETIC}"
  measure = measurement.Measurer(judged.alpha, clause)
  text = lambda name: specs.METRICS[f"anomaly_{name}"].definition
  rates = ("recall", "precision", "f1")
  scores, positive, why = select(judged.reconstruction)
  *others, other_why = select(chosen.reconstruction)
  why = why or (other_why and f"{other_why} in {chosen.info.key}")
  if why:
    return {
      (summary.ALL, f"anomaly_{name}"): measure.undefined(
        len(scores), text(name), why
      )
      for name in ("threshold", *rates)
    }
  threshold = reconstruction.threshold_for_recall(*others, recall)
  point = reconstruction.detect_anomalies(
    scores, positive, threshold, judged.alpha
  ).point
  flagged = point.flagged
  rows = {
    "threshold": measure.value(len(others[0]), threshold, text("threshold")),
    "recall": measure.proportion(point.tp, point.tp + point.fn, text("recall")),
    "precision": measure.proportion(point.tp, flagged, text("precision")),
    "f1": measure.value(len(scores), point.f1, text("f1")),
  }
  return {(summary.ALL, f"anomaly_{k}"): value for k, value in rows.items()}
