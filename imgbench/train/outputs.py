"""What a run leaves when it ends: results, warnings, report."""

from collections.abc import Mapping
import pathlib
from typing import Any

from imgbench import report
from imgbench import run_files
from imgbench import writers
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.metrics import diagnostics
from imgbench.train import setup


def describe(
  environment: Mapping[str, Any], parts: setup.Parts
) -> dict[str, Any]:
  """The environment with what the run's data and model are."""
  infos = {parts.info.key: parts.info}
  infos |= {e.info.key: e.info for e in parts.evaluators.values()}
  return {
    **environment,
    "devices_used": parts.strategy.num_devices,
    "num_params": parts.num_params,
    "data": {
      key: {"num_examples": i.num_examples, "fingerprint": i.fingerprint}
      for key, i in infos.items()
    },
    "synthetic": [key for key, info in infos.items() if info.synthetic],
  }


def write(
  folder: pathlib.Path,
  evaluations: Mapping[str, base.Evaluation],
  parts: setup.Parts,
  with_report: bool,
) -> dict[str, dict[str, Any]]:
  """Writes all files of the end of a run; returns what results.json holds."""
  examples = {alias: e.examples for alias, e in parts.evaluators.items()}
  results = run_files.write_results(
    folder, evaluations, examples, _warnings(folder, evaluations, parts.info)
  )
  if not with_report:
    return results
  images = {e.info.key: e.examples.image for e in parts.evaluators.values()}
  report.write_report(folder, lambda key, index: images[key][index])
  return results


def _warnings(
  folder: pathlib.Path,
  evaluations: Mapping[str, base.Evaluation],
  train_info: source.Info,
) -> list[dict[str, Any]]:
  """Rows of warnings.json: the diagnosis of every split."""
  train_accuracy = _train_accuracy(folder, evaluations, train_info)
  rows = []
  for evaluation in evaluations.values():
    info = evaluation.info
    rows += diagnostics.diagnose(
      info.key,
      evaluation.counts,
      info.class_names,
      train_accuracy=None if _is_of(info, train_info) else train_accuracy,
    )
  return rows


def _train_accuracy(folder, evaluations, train_info) -> float | None:
  """Of an evaluated part of the training split, else the last one logged.

  The logged one is of augmented images and of parameters that still change;
  it is rather too low, so a gap that it shows is there.
  """
  for evaluation in evaluations.values():
    if _is_of(evaluation.info, train_info):
      return evaluation.measurements["all", "top1_accuracy"].value
  lines = writers.read_lines(folder / "metrics.jsonl")
  logged = [line.get("train/top1_accuracy") for line in lines]
  return next((value for value in reversed(logged) if value is not None), None)


def _is_of(info: source.Info, train_info: source.Info) -> bool:
  base_split = lambda split: split.partition("[")[0]
  same_split = base_split(info.split) == base_split(train_info.split)
  return info.name == train_info.name and same_split
