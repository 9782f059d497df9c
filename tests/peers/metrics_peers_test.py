"""Tests that baselines of the speed benchmark compute the same metrics."""

import jax
import numpy as np
import pytest

from imgbench.experiments.benchmarks.metric_kernels import peers
from imgbench.labels import annotations
from imgbench.metrics import confusion
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import outcomes as outcomes_lib

K = 12


def problem(size=1201):
  """More than two blocks of rows, the last one not full; no ties."""
  rng = np.random.default_rng(0)
  labels = rng.permutation(np.arange(size) % K)
  logits = rng.permuted(np.tile(np.arange(K) / 4, (size, 1)), axis=1)
  # An eighth between the quarters, so that nothing ties.
  logits[np.arange(size), labels] += 1.125
  return peers.Problem(
    logits=logits.astype(np.float32),
    labels=labels,
    codes=rng.integers(0, 4, (size, K)).astype(np.int8),
    left_out=rng.random(size) < 0.1,
    subsets={"dog": np.arange(K) < 3, "object": np.arange(K) >= 7},
  )


def twin(given):
  """Example by example, in plain Python."""
  top1, top5 = [0] * K, 0
  count, reviewed, lenient = [0] * K, [0] * K, [0] * K
  matrix = np.zeros((K, K), int)
  for row, label, codes, left_out in zip(
    given.logits, given.labels, given.codes, given.left_out, strict=True
  ):
    order = sorted(range(K), key=lambda k, row=row: -row[k])
    count[label] += 1
    top1[label] += order[0] == label
    top5 += label in order[:5]
    matrix[label, order[0]] += 1
    reviewed[label] += not left_out
    lenient[label] += not left_out and codes[order[0]] in (
      annotations.UNCLEAR,
      annotations.CORRECT,
    )
  inside = lambda mask, values: sum(np.array(values)[mask].tolist())
  return {
    "top1_accuracy": sum(top1) / len(given.labels),
    "top5_accuracy": top5 / len(given.labels),
    "class_accuracy": [a / b for a, b in zip(top1, count, strict=True)],
    "count": count,
    "reviewed_count": reviewed,
    "lenient_hits": lenient,
    "confusion": matrix,
    "subset_accuracy": {
      name: inside(mask, top1) / inside(mask, count)
      for name, mask in given.subsets.items()
    },
  }


def imgbench(given):
  """The same by the kernels."""

  @jax.jit
  def compute(logits, labels, codes, left_out):
    outcomes = outcomes_lib.outcomes(logits, labels, codes)
    mask = np.ones(len(given.labels), bool)
    counts = counts_lib.update(
      counts_lib.empty(K), outcomes, labels, mask, left_out=left_out
    )
    return counts, outcomes.top1

  counts, top1 = jax.device_get(
    compute(given.logits, given.labels, given.codes, given.left_out)
  )
  size, hits = len(given.labels), counts.top_hits(1)
  return {
    "top1_accuracy": hits.sum() / size,
    "top5_accuracy": counts.top_hits(5).sum() / size,
    "class_accuracy": hits / counts.count,
    "count": counts.count,
    "reviewed_count": counts.reviewed_count,
    "lenient_hits": counts.lenient_hits,
    "confusion": confusion.confusion_matrix(given.labels, top1, K),
    "subset_accuracy": {
      name: hits[mask].sum() / counts.count[mask].sum()
      for name, mask in given.subsets.items()
    },
  }


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", peers.BASELINES)
def test_peer_computes_the_numbers(name):
  if peers.find_versions()[name] is None:
    pytest.skip(f"{name} is not installed")
  given = problem()
  compute = peers.BASELINES[name].build(given)
  expected = twin(given)
  # Twice: nothing may be left over from the first time.
  for _ in range(2):
    assert peers.list_differences(compute(), expected) == []


def test_imgbench_computes_the_numbers():
  given = problem()
  assert peers.list_differences(imgbench(given), twin(given)) == []


def test_differences_are_named():
  expected = {"count": np.array([1, 2]), "top1_accuracy": 0.5}
  same = {"count": [1, 2], "top1_accuracy": np.float32(0.5)}
  assert peers.list_differences(same, expected) == []
  close = {"count": [1, 2], "top1_accuracy": 0.5 + 1e-7}
  assert peers.list_differences(close, expected) == []
  for other, names in (
    ({"count": [1, 3], "top1_accuracy": 0.5}, ["count"]),
    ({"count": [1, 2], "top1_accuracy": 0.5 + 1e-5}, ["top1_accuracy"]),
    ({"count": [[1, 2]], "top1_accuracy": np.nan}, ["count", "top1_accuracy"]),
    ({"count": [1, 2]}, ["top1_accuracy"]),
  ):
    assert peers.list_differences(other, expected) == names
  by_name = {"subset_accuracy": {"dog": 0.5, "object": 0.25}}
  other = {"subset_accuracy": {"object": 0.25, "dog": 0.5}}
  assert peers.list_differences(other, by_name) == []


def test_absent_peers_are_named():
  versions = peers.find_versions()
  assert set(versions) == set(peers.BASELINES)
  assert versions["pytorch"] == versions["pytorch-blocks"]
  for version in versions.values():
    assert version is None or version[0].isdigit()
