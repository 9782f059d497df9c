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
from tests import raising
from tests.metrics import twins

KS = (1, 5)


def add(state, logits, labels, codes, left_out, in_m, mask):
  return counts_lib.update(
    state,
    outcomes_lib.outcomes(logits, labels, codes),
    labels,
    mask,
    left_out=left_out,
    in_imagenet_m=in_m,
  )


def count(logits, *rest):
  empty = counts_lib.empty(logits.shape[1], KS, KS)
  return add(empty, logits, *rest)


compiled_count = jax.jit(count)


def as_lists(counts):
  """The columns by the names that the twin gives them."""
  columns = {}
  for field in twins.FIELDS:
    name, _, k = field.partition(" ")
    method = {"top": "top_hits", "strict": "strict_hits"}.get(name)
    column = getattr(counts, method)(int(k)) if k else getattr(counts, name)
    columns[field] = np.asarray(column).tolist()
  return columns


def random_batch(size, num_classes, seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.integers(0, 6, (size, num_classes)).astype(np.float32)
  logits[rng.random((size, num_classes)) < 0.02] = np.nan
  return (
    logits,
    rng.integers(0, num_classes, size).astype(np.int32),
    rng.integers(0, 4, (size, num_classes)).astype(np.int8),
    rng.random(size) < 0.2,
    rng.random(size) < 0.4,
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
  left_out = np.array([False, False, False, False, False, True])
  in_m = np.array([True, True, False, True, False, True])
  result = compiled_count(
    logits, labels, codes, left_out, in_m, np.ones(6, bool)
  )
  assert as_lists(result) == {
    "count": [2, 3, 1],
    "non_finite": [0, 1, 0],
    "top 1": [2, 0, 0],
    "top 5": [2, 2, 1],
    "strict 1": [1, 0, 0],
    "strict 5": [1, 2, 1],
    "reviewed_count": [1, 3, 1],
    "lenient_hits": [1, 1, 0],
    "unreviewed": [0, 1, 0],
    "imagenet_m_count": [1, 2, 0],
    "imagenet_m_hits": [1, 1, 0],
    "imagenet_m_unreviewed": [0, 1, 0],
  }
  assert result.table.dtype == np.int32 and result.outside == 0


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
  logits, labels, *_, mask = random_batch(50, 4)
  result = as_lists(compiled_count(logits, labels, None, None, None, mask))
  for field in twins.FIELDS[4:]:
    assert result[field] == [0] * 4
  assert result == twins.counts(logits, labels, None, None, None, mask)


def test_labels_outside_are_in_no_count():
  logits = np.zeros((4, 3), np.float32)
  labels = np.array([-1, 3, 1, -3], np.int32)
  everything = np.ones(4, bool)
  result = compiled_count(logits, labels, None, None, None, everything)
  assert result.count.tolist() == [0, 1, 0]
  assert result.outside == 3


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(twins.batches(num_classes=(7,)))
def test_any_list_of_k(batch):
  """Hits never fall as k grows, plain and by class, and all hit at k = K."""
  logits, labels, codes, left_out, in_m, mask = batch
  ks = (7, 1, 2, 3, 4, 5, 6, 100)
  state = counts_lib.empty(7, ks, (1, 2, 5))
  result = jax.jit(add)(state, *batch)
  hits = [np.asarray(result.top_hits(k)) for k in sorted(ks)]
  for before, after in zip(hits, hits[1:], strict=False):
    assert (before <= after).all()
  for k in ks:
    expected = [0] * 7
    for row, y, real in zip(logits, labels, mask, strict=True):
      if real and y in twins.top(row, k):
        expected[y] += 1
    assert result.top_hits(k).tolist() == expected
  scores_all_finite = np.isfinite(logits).all(axis=1) & mask
  if (scores_all_finite == mask).all():
    assert hits[-1].tolist() == result.count.tolist()
  for k in (1, 2, 5):
    assert (result.strict_hits(k) <= result.reviewed_count).all()


def test_more_columns_than_an_integer_has_bits():
  logits, labels, codes, left_out, in_m, mask = random_batch(300, 50)
  batch = (logits, labels, codes, left_out, in_m, mask)
  ks = tuple(range(1, 61))
  result = jax.jit(add)(counts_lib.empty(50, ks, (1, 2, 3, 4, 5)), *batch)
  few = jax.jit(add)(counts_lib.empty(50, (1, 5), (1, 5)), *batch)
  assert as_lists(result) == as_lists(few) == twins.counts(*batch)
  rank = np.array(
    [twins.rank(row, y) for row, y in zip(logits, labels, strict=True)]
  )
  for k in ks:
    assert result.top_hits(k).sum() == ((rank < k) & (rank < 50)).sum()


def test_large_batches_count_as_small_ones():
  """Includes rows that are not finite: XLA reduces large arrays differently."""
  batch = random_batch(1200, 100)
  whole = as_lists(compiled_count(*batch))
  assert sum(whole["non_finite"]) > 900
  parts = counts_lib.empty(100, KS, KS)
  for start in range(0, 1200, 16):
    parts = jax.jit(add)(parts, *(part[start : start + 16] for part in batch))
  assert as_lists(parts) == whole == twins.counts(*batch)


def test_rankings_too_short_for_a_k_are_refused():
  ranking, labels = np.array([[1, 0, 2]]), np.array([2])
  outcomes = outcomes_lib.from_ranking(ranking, labels, 9)
  everything = np.ones(1, bool)
  for ks, set_ks in (((1, 5), (1,)), ((1,), (5,))):
    name = "ks" if 5 in ks else "set_ks"
    with pytest.raises(errors.InputError, check=raising.about(name, given=5)):
      counts_lib.update(
        counts_lib.empty(9, ks, set_ks), outcomes, labels, everything
      )
  known = counts_lib.update(
    counts_lib.empty(9, (1, 3)), outcomes, labels, everything
  )
  assert known.top_hits(3).sum() == 1
  # All classes are ranked: nothing is unknown.
  outcomes = outcomes_lib.from_ranking(ranking, labels, 3)
  whole = counts_lib.update(
    counts_lib.empty(3, (1, 5)), outcomes, labels, everything
  )
  assert whole.top_hits(5).sum() == 1


def test_outcomes_of_other_classes_or_without_sets_are_refused():
  logits, labels, _, left_out, _, mask = random_batch(4, 3)
  outcomes = outcomes_lib.outcomes(logits, labels)
  with pytest.raises(
    errors.InputError, check=raising.about("outcomes", given=3)
  ):
    counts_lib.update(counts_lib.empty(5), outcomes, labels, mask)
  with pytest.raises(
    errors.InputError, check=raising.about("in_imagenet_m", given="an array")
  ):
    counts_lib.update(
      counts_lib.empty(3), outcomes, labels, mask, in_imagenet_m=left_out
    )
  with pytest.raises(
    errors.InputError, check=raising.about("left_out", given="an array")
  ):
    counts_lib.update(
      counts_lib.empty(3), outcomes, labels, mask, left_out=left_out
    )


def test_k_that_was_not_counted_is_refused():
  counts = counts_lib.empty(3, ks=(1, 3))
  for ask in (lambda: counts.top_hits(5), lambda: counts.strict_hits(5)):
    with pytest.raises(errors.InputError, check=raising.about("k", given=5)):
      ask()


@pytest.mark.parametrize(
  "arguments, setting, given",
  [
    ({"ks": ()}, "ks", []),
    ({"ks": 5}, "ks", "5"),
    ({"ks": "15"}, "ks", "'15'"),
    ({"ks": (1.7,)}, "ks", "(1.7,)"),
    ({"ks": (0,)}, "ks", [0]),
    ({"ks": (5, 5)}, "ks", [5, 5]),
    ({"set_ks": (6,)}, "set_ks", [6]),
  ],
)
def test_bad_ks_are_refused(arguments, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    counts_lib.empty(3, **arguments)


def test_counts_of_other_classes_or_ks_do_not_merge():
  with pytest.raises(
    errors.InputError, check=raising.about("b.table", given=[5, 11])
  ):
    counts_lib.merge(counts_lib.empty(3), counts_lib.empty(4))
  with pytest.raises(
    errors.InputError, check=raising.about("b", given="(1, 4) and (1,)")
  ):
    counts_lib.merge(counts_lib.empty(3, (1, 5)), counts_lib.empty(3, (1, 4)))


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200])
def test_batches_merged_equal_one_pass(batch_size):
  examples = random_batch(200, 10)
  whole = compiled_count(*examples)
  order = np.random.default_rng(3).permutation(200)
  merged = counts_lib.empty(10, KS, KS)
  in_place = jax.jit(add, donate_argnums=0)
  for start in range(0, 200, batch_size):
    index = order[start : start + batch_size]
    # The last batch is padded with copies of real examples.
    padding = batch_size - len(index)
    batch = [part[np.pad(index, (0, padding))] for part in examples]
    batch[-1] = np.arange(batch_size) < len(index)
    before = merged
    merged = in_place(before, *batch)
    assert before.table.is_deleted()
  chex.assert_trees_all_equal(merged, whole)


def test_empty_is_neutral_and_merge_commutes():
  a, b = (compiled_count(*random_batch(20, 5, seed)) for seed in (1, 2))
  empty = counts_lib.empty(5, KS, KS)
  chex.assert_trees_all_equal(counts_lib.merge(empty, a), a)
  chex.assert_trees_all_equal(counts_lib.merge(a, b), counts_lib.merge(b, a))


@pytest.mark.parametrize("num_devices", [1, 2, 8])
def test_sharded_batch_gives_the_same_integers(num_devices):
  strategy = parallel.create_strategy("jit", num_devices)
  examples = random_batch(64, 12)
  sharded = strategy.shard_batch(examples)
  result = strategy.jit(count)(*sharded)
  assert result.table.sharding.is_fully_replicated
  chex.assert_trees_all_equal(result, compiled_count(*examples))
  # Also onto a state that is there, on every device, already.
  twice = strategy.jit(add, donate=(0,))(result, *sharded)
  expected = jax.tree.map(lambda x: 2 * x, compiled_count(*examples))
  chex.assert_trees_all_equal(twice, expected)


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
  result = compiled_count(logits, labels, None, None, None, np.ones(1000, bool))
  assert result.top_hits(1).tolist() == [1000, 0]


@pytest.mark.parametrize(
  "change, setting, given",
  [
    ({"labels": np.zeros(5, int)}, "labels", [5]),
    ({"labels": np.full(4, 0.5)}, "labels", "float64"),
    ({"mask": np.ones(3, bool)}, "mask", [3]),
    ({"mask": np.full(4, 0.5)}, "mask", "float64"),
    ({"left_out": np.zeros(1, bool)}, "left_out", [1]),
    ({"left_out": np.full(4, 2)}, "left_out", "int64"),
    ({"in_imagenet_m": np.zeros(5, bool)}, "in_imagenet_m", [5]),
  ],
)
def test_bad_arguments_are_named(change, setting, given):
  logits, labels, codes, left_out, in_m, mask = random_batch(4, 3)
  arguments = {
    "labels": labels,
    "mask": mask,
    "left_out": left_out,
    "in_imagenet_m": in_m,
    **change,
  }
  outcomes = jax.jit(outcomes_lib.outcomes)(logits, labels, codes)
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    counts_lib.update(counts_lib.empty(3), outcomes, **arguments)
