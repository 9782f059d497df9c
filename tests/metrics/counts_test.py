"""Tests of counts by class: masks, merging, sharding."""

import functools

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import parallel
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import outcomes as outcomes_lib
from tests.metrics import twins


def count(logits, labels, codes, problematic, mask):
  return counts_lib.from_outcomes(
    outcomes_lib.outcomes(logits, labels, codes),
    labels,
    mask,
    num_classes=logits.shape[1],
    is_problematic=problematic,
  )


compiled_count = jax.jit(count)


def as_lists(counts):
  return {name: np.asarray(v).tolist() for name, v in vars(counts).items()}


def random_batch(size, num_classes, seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.integers(0, 6, (size, num_classes)).astype(np.float32)
  logits[rng.random((size, num_classes)) < 0.02] = np.nan
  return (
    logits,
    rng.integers(0, num_classes, size).astype(np.int32),
    rng.integers(0, 4, (size, num_classes)).astype(np.int8),
    rng.random(size) < 0.2,
    np.ones(size, bool),
  )


def test_by_hand():
  nan = np.nan
  logits = np.array(
    [[2, 1, 0], [0, 1, 2], [nan, 0, 0], [5, 0, 0], [0, 9, 0], [1, 0, 0]],
    np.float32,
  )
  labels = np.array([0, 1, 1, 1, 2, 0], np.int32)
  codes = np.array(
    [[3, 0, 0], [0, 3, 2], [3, 3, 3], [0, 3, 0], [1, 1, 3], [3, 3, 3]], np.int8
  )
  problematic = np.array([False, False, False, False, False, True])
  result = compiled_count(logits, labels, codes, problematic, np.ones(6, bool))
  assert as_lists(result) == {
    "count": [2, 3, 1],
    "top1_hits": [2, 0, 0],
    "top5_hits": [2, 2, 1],
    "non_finite": [0, 1, 0],
    "reviewed_count": [1, 3, 1],
    "strict_hits": [1, 0, 0],
    "lenient_hits": [1, 1, 0],
    "unreviewed": [0, 1, 0],
  }
  assert {str(v.dtype) for v in vars(result).values()} == {"int32"}


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(twins.batches())
def test_agrees_with_the_slow_twin(batch):
  assert as_lists(compiled_count(*batch)) == twins.counts(*batch)


def test_plain_equals_compiled():
  batch = random_batch(8, 6)
  chex.assert_trees_all_equal(count(*batch), compiled_count(*batch))


def test_padded_equals_filtered():
  examples = random_batch(40, 6)
  padding = random_batch(24, 6, seed=1)
  padding[0][:12] = np.nan
  padding[1][:] = np.resize([-1, 6, 2**31 - 1, 0], 24)
  padding[-1][:] = False
  padded = [
    np.concatenate(parts) for parts in zip(examples, padding, strict=True)
  ]
  order = np.random.default_rng(2).permutation(64)
  padded = [part[order] for part in padded]
  chex.assert_trees_all_equal(
    compiled_count(*padded), compiled_count(*examples)
  )


def test_without_label_sets_nothing_is_reviewed():
  logits, labels, _, _, mask = random_batch(50, 4)
  result = as_lists(compiled_count(logits, labels, None, None, mask))
  for field in ("reviewed_count", "strict_hits", "lenient_hits", "unreviewed"):
    assert result[field] == [0] * 4
  assert result == twins.counts(logits, labels, None, None, mask)


def test_labels_outside_are_in_no_count():
  logits = np.zeros((4, 3), np.float32)
  labels = np.array([-1, 3, 1, -3], np.int32)
  everything = np.ones(4, bool)
  result = as_lists(compiled_count(logits, labels, None, None, everything))
  assert result["count"] == [0, 1, 0]


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200])
def test_batches_merged_equal_one_pass(batch_size):
  examples = random_batch(200, 10)
  whole = compiled_count(*examples)
  order = np.random.default_rng(3).permutation(200)
  merged = counts_lib.empty(10)
  add = jax.jit(
    lambda state, *batch: counts_lib.merge(state, count(*batch)),
    donate_argnums=0,
  )
  for start in range(0, 200, batch_size):
    index = order[start : start + batch_size]
    # The last batch is padded with copies of real examples.
    padding = batch_size - len(index)
    batch = [part[np.pad(index, (0, padding))] for part in examples]
    batch[-1] = np.arange(batch_size) < len(index)
    merged = add(merged, *batch)
  chex.assert_trees_all_equal(merged, whole)


def test_empty_is_neutral_and_merge_commutes():
  a, b = (compiled_count(*random_batch(20, 5, seed)) for seed in (1, 2))
  chex.assert_trees_all_equal(counts_lib.merge(counts_lib.empty(5), a), a)
  chex.assert_trees_all_equal(counts_lib.merge(a, b), counts_lib.merge(b, a))


@pytest.mark.parametrize("num_devices", [1, 2, 8])
def test_sharded_batch_gives_the_same_integers(num_devices):
  strategy = parallel.create_jit_strategy(num_devices)
  examples = random_batch(64, 12)
  sharded = strategy.shard_batch(examples)
  result = strategy.jit(count)(*sharded)
  assert all(v.sharding.is_fully_replicated for v in vars(result).values())
  chex.assert_trees_all_equal(result, compiled_count(*examples))


def test_pmap_with_psum_gives_the_same_integers():
  examples = random_batch(64, 12)
  by_device = [part.reshape(8, 8, *part.shape[1:]) for part in examples]

  @functools.partial(jax.pmap, axis_name="data")
  def total(*batch):
    return jax.lax.psum(count(*batch), "data")

  result = jax.tree.map(lambda x: x[0], total(*by_device))
  chex.assert_trees_all_equal(result, compiled_count(*examples))


def test_bfloat16_logits_do_not_stop_the_counters():
  logits = jnp.ones((1000, 2), jnp.bfloat16)
  labels = np.zeros(1000, np.int32)
  result = compiled_count(logits, labels, None, None, np.ones(1000, bool))
  assert result.top1_hits.tolist() == [1000, 0]


@pytest.mark.parametrize(
  "change, message",
  [
    ({"labels": np.zeros(5, int)}, r"labels: expected shape \[4\], got \[5\]"),
    ({"labels": np.zeros(4)}, "labels: .*float64"),
    ({"mask": np.ones(3, bool)}, r"mask: expected shape \[4\], got \[3\]"),
    ({"mask": np.ones(4)}, "mask: expected bool, got float64"),
    ({"is_problematic": np.zeros(1, bool)}, "is_problematic: .*shape"),
    ({"is_problematic": np.zeros(4, int)}, "is_problematic: .*bool"),
  ],
)
def test_bad_arguments_are_named(change, message):
  logits, labels, codes, problematic, mask = random_batch(4, 3)
  arguments = {
    "labels": labels,
    "mask": mask,
    "is_problematic": problematic,
    **change,
  }
  outcomes = jax.jit(outcomes_lib.outcomes)(logits, labels, codes)
  with pytest.raises(errors.InputError, match=message):
    counts_lib.from_outcomes(outcomes, num_classes=3, **arguments)
