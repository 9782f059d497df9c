"""Evaluations of given probabilities, and the files of runs made of them."""

import json

import jax
import numpy as np

from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import result_files
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import outcomes as outcomes_lib
from imgbench.metrics import summary


@jax.jit
def _evaluate(logits, labels, codes=None, left_out=None):
  outcomes = outcomes_lib.outcomes(logits, labels, codes)
  counts = counts_lib.update(
    counts_lib.empty(logits.shape[1]),
    outcomes,
    labels,
    np.ones(len(labels), bool),
    left_out=left_out,
  )
  return counts, outcomes, outcomes_lib.probabilities(logits)


def evaluation(key, class_names, probs, labels, keep=True):
  """Returns (Evaluation, Examples) of float [N, K]; NaN rows are not finite."""
  name, _, split = key.partition(":")
  size = len(labels)
  labels = np.asarray(labels, np.int32)
  info = source.Info(name, split, size, (1, 1, 1), tuple(class_names), "0")
  examples = source.Examples(
    image=np.zeros((size, 1, 1, 1), np.uint8),
    label=labels,
    image_id=np.array([f"{split}_{i}" for i in range(size)]),
  )
  with np.errstate(divide="ignore"):
    logits = np.log(np.asarray(probs, np.float32))
  counts, outcomes, kept = jax.device_get(_evaluate(logits, labels))
  kept = kept if keep else None
  measured = summary.summarize(counts, outcomes, labels, subsets={}, probs=kept)
  return base.Evaluation(info, measured, outcomes, counts, kept), examples


def evaluate(split, probs, rows=slice(None)):
  """Returns (Evaluation, Examples) of a source, by its label sets too.

  Args:
    split: a source whose images have one size and reviewed labels.
    probs: float [N, K].
    rows: of the examples, in the order in which they are written.
  """
  examples = split.load().take(rows)
  logits = np.log(np.asarray(probs, np.float32)[rows])
  counts, outcomes, _ = jax.device_get(
    _evaluate(logits, examples.label, examples.label_codes, examples.left_out)
  )
  info = split.info
  measured = summary.summarize(
    counts,
    outcomes,
    examples.label,
    subsets=info.subsets,
    label_set=info.label_set,
    left_out=examples.left_out,
  )
  found = base.Evaluation(
    info, measured, outcomes, counts, subsets=info.subsets
  )
  return found, examples


def write_config(workdir, **config):
  """Writes the config of a run."""
  workdir.mkdir(parents=True, exist_ok=True)
  (workdir / "config.json").write_text(json.dumps(config))


def write(workdir, *evaluations):
  """Writes the results of pairs (Evaluation, Examples) and returns them."""
  workdir.mkdir(parents=True, exist_ok=True)
  named = {pair[0].info.split: pair for pair in evaluations}
  return result_files.write_results(
    workdir,
    {alias: pair[0] for alias, pair in named.items()},
    {alias: pair[1] for alias, pair in named.items()},
    [],
  )
