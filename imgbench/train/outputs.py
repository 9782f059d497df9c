"""Files of a run at its end: results, warnings, report."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from imgbench import paths
from imgbench import report
from imgbench import writers
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import result_files
from imgbench.labels import known_leaks
from imgbench.metrics import confusion
from imgbench.metrics import diagnostics
from imgbench.models import base as models_base
from imgbench.tables import entries
from imgbench.train import setup

Evaluators = Mapping[str, base.Evaluator]


def describe_run(
  environment: Mapping[str, Any],
  training: setup.Training,
  evaluators: Evaluators,
  trained_shares: Mapping[str, float],
) -> dict[str, Any]:
  """Returns the environment with facts about the run's data and model.

  Args:
    environment: as of `environment.collect`.
    training: of the run.
    evaluators: by alias.
    trained_shares: by alias, fraction of a split that is trained on.
  """
  infos = {
    info.key: info
    for info in [training.info, *(e.info for e in evaluators.values())]
  }
  return {
    **environment,
    "devices_used": training.strategy.num_devices,
    "prng": dataclasses.asdict(training.compute.prng),
    "processes": jax.process_count(),
    "num_params": models_base.num_params(
      training.compute.state_shapes().variables
    ),
    "data": {
      key: {"num_examples": i.num_examples, "fingerprint": i.fingerprint}
      for key, i in infos.items()
    },
    "synthetic": [key for key, info in infos.items() if info.synthetic],
    # Splits whose examples were all trained on.
    "training_data": [
      evaluators[alias].info.key
      for alias, share in trained_shares.items()
      if share == 1
    ],
  }


def write_results(
  folder: paths.Folder,
  evaluations: Mapping[str, base.Evaluation],
  evaluators: Evaluators,
  trained_shares: Mapping[str, float],
  warnings: Sequence[dict[str, Any]],
  thresholds: diagnostics.Thresholds,
  known: known_leaks.Known,
  with_report: bool,
) -> dict[str, dict[str, Any]]:
  """Writes all files of the end of a run; returns the contents of results.json.

  Args:
    folder: of the run.
    evaluations: by alias, with drops.
    evaluators: by alias.
    trained_shares: by alias, fraction of a split that is trained on.
    warnings: those about how the run was trained.
    thresholds: of the other warnings.
    known: images that the training data has too, of `known_leaks.read`.
    with_report: whether to write the report.
  """
  examples = {
    alias: found.select(evaluators[alias].examples)
    for alias, found in evaluations.items()
  }
  diagnosed = _find_warnings(
    folder, evaluations, examples, trained_shares, thresholds, known
  )
  results = result_files.write_results(
    folder, evaluations, examples, [*warnings, *diagnosed]
  )
  if with_report:
    aliases = {e.info.key: alias for alias, e in evaluations.items()}

    def look_up(key, index):
      alias = aliases[key]
      rows = evaluations[alias].rows
      return evaluators[alias].images(index if rows is None else rows[index])

    seen = all(e.images is not None for e in evaluators.values())
    report.write_report(folder, look_up if seen else None)
  return results


def _find_warnings(
  folder: paths.Folder,
  evaluations: Mapping[str, base.Evaluation],
  examples: Mapping[str, source.Examples],
  shares: Mapping[str, float],
  thresholds: diagnostics.Thresholds,
  known: known_leaks.Known,
) -> list[dict[str, Any]]:
  """Returns rows of warnings.json: the diagnosis of every split."""
  trained = [alias for alias, share in shares.items() if share == 1]
  in_training = {}
  for metric in ("top1_accuracy", "mse"):
    if trained:
      found = evaluations[trained[0]].measurements.get(("all", metric))
      in_training[metric] = None if found is None else found.value
    else:
      in_training[metric] = _read_logged(folder, f"train/{metric}")
  train_accuracy = in_training["top1_accuracy"]
  rows = []
  for alias, evaluation in evaluations.items():
    share = shares[alias]
    if alias in trained and entries.is_training_split(evaluation.info.key):
      share = 0.0  # Training data is evaluated on purpose.
    if evaluation.reconstruction is not None:
      mse = np.asarray(evaluation.reconstruction.errors.mse)
      rows += diagnostics.diagnose_reconstruction(
        evaluation.info.key,
        mse,
        normal=evaluation.reconstruction.kinds.get("normal"),
        skipped=evaluation.info.num_examples - len(mse),
        train_mse=None if alias in trained else in_training["mse"],
        trained_share=share,
        thresholds=thresholds,
      )
    if evaluation.outcomes is None or evaluation.counts is None:
      continue
    leaked = known_leaks.find(
      examples[alias].image_id, known, evaluation.info.name
    )
    right = np.asarray(evaluation.outcomes.top1) == examples[alias].label
    rows += diagnostics.diagnose(
      evaluation.info.key,
      confusion.count_by_class(
        examples[alias].label,
        evaluation.outcomes.top1,
        evaluation.info.num_classes,
      ),
      evaluation.info.class_names,
      non_finite=int(evaluation.counts.non_finite.sum()),
      skipped=evaluation.info.num_examples - len(examples[alias]),
      train_accuracy=None if alias in trained else train_accuracy,
      trained_share=share,
      leaks=(int(leaked.sum()), int((right & leaked).sum())),
      bins=result_files.bin_confidences(
        evaluation.outcomes, examples[alias].label
      ),
      thresholds=thresholds,
    )
  return rows


def _read_logged(folder: paths.Folder, key: str) -> float | None:
  """Returns the last one logged, of augmented images and changing parameters.

  Accuracy is rather too low and an error too high, so a gap that they show is
  real.
  """
  lines = writers.read_lines(folder / "metrics.jsonl")
  logged = [line.get(key) for line in lines]
  return next((value for value in reversed(logged) if value is not None), None)
