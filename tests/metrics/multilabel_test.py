"""Tests of multi-label accuracy against the per-class loop TFDS documents."""

import collections
import math

import jax
import numpy as np

from imgbench.labels import real
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import multilabel
from imgbench.metrics import outcomes as outcomes_lib
from tests.labels import codes

K = 6


def tfds_loop(examples, predictions, num_classes):
  """Computes the metric in the docs of TFDS's imagenet2012_multilabel.

  Image by image and class by class: problematic images are skipped, a
  prediction is right if it is among the correct or the unclear labels, and the
  accuracies of all original classes are averaged.
  """
  right, seen = collections.Counter(), collections.Counter()
  for example in examples:
    if example["is_problematic"]:
      continue
    original = example["original_label"]
    seen[original] += 1
    prediction = predictions[example["file_name"]]
    if (
      prediction in example["correct_multi_labels"]
      or prediction in example["unclear_multi_labels"]
    ):
      right[original] += 1
  assert len(seen) == num_classes
  return sum(right[c] / seen[c] for c in range(num_classes)) / num_classes


def draw_examples(rng, size):
  examples = []
  for i in range(size):
    labels = rng.permutation(K)[: rng.integers(1, K + 1)]
    cuts = sorted(rng.integers(1, len(labels) + 1, 2))
    examples.append(
      {
        "file_name": f"image_{i}",
        "original_label": int(labels[0]),
        "correct_multi_labels": labels[: cuts[0]].tolist(),
        "unclear_multi_labels": labels[cuts[0] : cuts[1]].tolist(),
        "wrong_multi_labels": labels[cuts[1] :].tolist(),
        "is_problematic": bool(rng.random() < 0.2),
      }
    )
  return examples


@jax.jit
def count(logits, labels, codes, problematic):
  return counts_lib.update(
    counts_lib.empty(K),
    outcomes_lib.outcomes(logits, labels, codes),
    labels,
    np.ones(len(labels), bool),
    left_out=problematic,
    # Every image of class 0.
    in_imagenet_m=labels == 0,
  )


def kernel_counts(examples, logits):
  return jax.device_get(
    count(
      logits,
      np.array([e["original_label"] for e in examples], np.int32),
      np.stack([codes.label_codes(e, K) for e in examples]),
      np.array([e["is_problematic"] for e in examples]),
    )
  )


def test_tfds_definition_equals_the_documented_loop():
  rng = np.random.default_rng(0)
  for _ in range(5):
    examples = draw_examples(rng, 150)
    logits = rng.integers(0, 9, (150, K)).astype(np.float32)
    predictions = {
      e["file_name"]: int(np.argmax(row))
      for e, row in zip(examples, logits, strict=True)
    }
    counts = kernel_counts(examples, logits)
    definition = multilabel.DEFINITIONS["tfds"]
    assert definition.class_mean
    value = np.mean(definition.hits(counts) / definition.count(counts))
    expected = tfds_loop(examples, predictions, K)
    assert math.isclose(value, expected, rel_tol=1e-14)


def test_four_definitions_by_hand():
  good = {"is_problematic": False, "wrong_multi_labels": [4]}
  examples = [
    # Class 0: correct, unclear, wrong and unreviewed.
    dict(good, original_label=0, correct=[0], unclear=[], predicted=0),
    dict(good, original_label=0, correct=[0], unclear=[2], predicted=2),
    dict(good, original_label=0, correct=[0], unclear=[], predicted=4),
    dict(good, original_label=0, correct=[0], unclear=[], predicted=5),
    # Class 1: right; a problematic image does not count.
    dict(good, original_label=1, correct=[1], unclear=[], predicted=1),
    dict(
      good,
      original_label=1,
      correct=[1],
      unclear=[],
      predicted=3,
      is_problematic=True,
    ),
  ]
  for example in examples:
    example["correct_multi_labels"] = example["correct"]
    example["unclear_multi_labels"] = example["unclear"]
  logits = np.eye(K, dtype=np.float32)[[e["predicted"] for e in examples]]
  counts = kernel_counts(examples, logits)
  expected = {
    "icml2020": ([1, 1], [4, 1]),
    "tfds": ([2, 1], [4, 1]),
    "imagenet_m": ([2, 0], [4, 0]),
    "lenient_mean": ([2, 1], [4, 1]),
  }
  assert set(expected) == set(multilabel.DEFINITIONS)
  for name, (hits, count) in expected.items():
    definition = multilabel.DEFINITIONS[name]
    assert definition.hits(counts).tolist()[:2] == hits
    assert definition.count(counts).tolist()[:2] == count
    assert definition.unreviewed(counts).tolist()[:2] == [1, 0]
    assert definition.class_mean == (name == "tfds")


def test_real_leaves_out_images_without_labels():
  """Against image by image: hits among the sets, empty sets not counted."""
  rng = np.random.default_rng(0)
  sets = [
    np.sort(rng.choice(K, rng.integers(0, 3), replace=False)) for _ in range(90)
  ]
  codes, left_out = real.label_codes(sets, K)
  logits = rng.normal(size=(90, K)).astype(np.float32)
  labels = rng.integers(0, K, 90).astype(np.int32)
  counts = jax.device_get(count(logits, labels, codes, left_out))
  plain = multilabel.REAL_DEFINITIONS["real_accuracy"]
  kept = [i for i in range(90) if len(sets[i])]
  assert 0 < len(kept) < 90
  assert plain.count(counts).sum() == len(kept)
  assert plain.hits(counts).sum() == sum(
    np.argmax(logits[i]) in sets[i] for i in kept
  )
  assert plain.unreviewed is None and not counts.unreviewed.any()
