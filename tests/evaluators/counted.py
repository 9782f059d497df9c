"""Evaluations with given hits by class, through the real kernels."""

import dataclasses
import functools

import jax
import numpy as np

from imgbench.data import source
from imgbench.evaluators import base
from imgbench.labels import annotations
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import outcomes as outcomes_lib
from imgbench.metrics import summary

K = 6
NAMES = tuple("abcdef")
DOG = np.arange(K) < 2
SUBSETS = {"dog": DOG, "object": np.arange(K) >= 4}


@functools.partial(jax.jit, static_argnames="reviewed")
def count(logits, labels, codes, left_out, reviewed):
  outcomes = outcomes_lib.outcomes(logits, labels, codes if reviewed else None)
  counts = counts_lib.update(
    counts_lib.empty(K, (1, 5), set_ks=(1, 5)),
    outcomes,
    labels,
    np.ones(len(labels), bool),
    left_out=left_out if reviewed else None,
  )
  return counts, outcomes


def evaluate(
  key,
  hits_of,
  codes=None,
  left_out=None,
  label_set=None,
  protocol="",
  **changes,
):
  """An evaluation of given hits by class: {class: (hits, examples)}.

  A miss is predicted as the next class, the label being last but one.
  """
  rows = [
    (label, i < hits) for label, (hits, n) in hits_of.items() for i in range(n)
  ]
  labels = np.array([label for label, _ in rows], np.int32)
  logits = np.zeros((len(rows), K), np.float32)
  for row, (label, hit) in zip(logits, rows, strict=True):
    row[label] = 2 if hit else -1
    row[(label + 1) % K] = 1
  reviewed = codes is not None
  if not reviewed:
    codes = np.zeros((len(rows), K), np.int8)
  if left_out is None:
    left_out = np.zeros(len(rows), bool)
  counts, outcomes = jax.device_get(
    count(logits, labels, codes, left_out, reviewed)
  )
  name, _, split = key.partition(":")
  info = source.Info(
    name, split, len(rows), (1, 1, 3), NAMES, "0", subsets=SUBSETS
  )
  measured = summary.summarize(
    counts,
    outcomes,
    labels,
    subsets=SUBSETS,
    label_set=label_set,
    left_out=left_out if reviewed else None,
    protocol=protocol,
  )
  made = base.Evaluation(info, measured, outcomes, counts)
  return dataclasses.replace(made, **changes)


def even(hits, n):
  return {label: (hits, n) for label in range(K)}


def reviewed(key, hits_of, correct_too=0, **options):
  """With label sets: the label, and the next class for the first examples."""
  labels = np.repeat(list(hits_of), [n for _, n in hits_of.values()])
  codes = np.full((len(labels), K), annotations.WRONG, np.int8)
  codes[np.arange(len(labels)), labels] = annotations.CORRECT
  first = np.arange(len(labels)) < correct_too
  codes[first, (labels[first] + 1) % K] = annotations.UNCLEAR
  return evaluate(key, hits_of, codes, label_set=summary.REVIEWED, **options)
