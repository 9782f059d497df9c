"""What a run leaves when it ends: results, warnings, report."""

from collections.abc import Mapping
from typing import Any

import jax

from imgbench import paths
from imgbench import report
from imgbench import writers
from imgbench.evaluators import base
from imgbench.evaluators import result_files
from imgbench.metrics import confusion
from imgbench.metrics import diagnostics
from imgbench.train import setup


def describe(
  environment: Mapping[str, Any], parts: setup.Parts
) -> dict[str, Any]:
  """The environment with what the run's data and model are."""
  evaluators = parts.evaluators.values()
  infos = {
    info.key: info for info in [parts.info, *(e.info for e in evaluators)]
  }
  return {
    **environment,
    "devices_used": parts.strategy.num_devices,
    "processes": jax.process_count(),
    "num_params": parts.num_params,
    "data": {
      key: {"num_examples": i.num_examples, "fingerprint": i.fingerprint}
      for key, i in infos.items()
    },
    "synthetic": [key for key, info in infos.items() if info.synthetic],
    # All of whose examples were trained on.
    "training_data": [
      evaluator.info.key
      for alias, evaluator in parts.evaluators.items()
      if parts.trained_shares[alias] == 1
    ],
  }


def write(
  folder: paths.Folder,
  evaluations: Mapping[str, base.Evaluation],
  parts: setup.Parts,
  with_report: bool,
) -> dict[str, dict[str, Any]]:
  """Writes all files of the end of a run; returns what results.json holds."""
  evaluations = parts.plan.with_drops(evaluations)
  examples = {alias: e.examples for alias, e in parts.evaluators.items()}
  results = result_files.write_results(
    folder, evaluations, examples, _warnings(folder, evaluations, parts)
  )
  if with_report:
    images = {e.info.key: e.images for e in parts.evaluators.values()}
    report.write_report(folder, lambda key, index: images[key](index))
  return results


def _warnings(
  folder: paths.Folder,
  evaluations: Mapping[str, base.Evaluation],
  parts: setup.Parts,
) -> list[dict[str, Any]]:
  """Rows of warnings.json: the diagnosis of every split."""
  shares = parts.trained_shares
  trained = [alias for alias, share in shares.items() if share == 1]
  if trained:
    measured = evaluations[trained[0]].measurements
    train_accuracy = measured["all", "top1_accuracy"].value
  else:
    train_accuracy = _logged_train_accuracy(folder)
  rows = []
  for alias, evaluation in evaluations.items():
    rows += diagnostics.diagnose(
      evaluation.info.key,
      confusion.per_class_of(
        parts.evaluators[alias].examples.label,
        evaluation.outcomes.top1,
        evaluation.info.num_classes,
      ),
      evaluation.info.class_names,
      non_finite=int(evaluation.counts.non_finite.sum()),
      train_accuracy=None if alias in trained else train_accuracy,
      trained_share=0.0 if alias in trained else shares[alias],
      thresholds=parts.thresholds,
    )
  return rows


def _logged_train_accuracy(folder: paths.Folder) -> float | None:
  """The last one logged, of augmented images and of changing parameters.

  It is rather too low, so a gap that it shows is there.
  """
  lines = writers.read_lines(folder / "metrics.jsonl")
  logged = [line.get("train/top1_accuracy") for line in lines]
  return next((value for value in reversed(logged) if value is not None), None)
