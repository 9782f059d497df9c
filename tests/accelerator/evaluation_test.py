"""Tests that equal logits give equal integers on accelerator and CPU."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import splits
from imgbench.metrics import confusion
from tests.accelerator import places
from tests.metrics import counts_test
from tests.metrics import twins

pytestmark = pytest.mark.accelerator

# Not a multiple of the batch, so that the last one is padded.
EXAMPLES, BATCH = 150, 64
KS = (1, 5, 10)
# Exponentials and sums of 1,000 terms differ by kind of device.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
CASES = [
  ("float32", 7),
  ("float32", 1000),
  ("bfloat16", 1000),
  ("float16", 1000),
]


@functools.cache
def make_logits(dtype, num_classes):
  """Returns [N, K] with ties, and rows with NaN, +inf, -inf, only -inf."""
  rng = np.random.default_rng(0)
  large = float(jnp.finfo(dtype).max)
  values = [0.0, -0.0, 1.0, -1.0, 2.5, 300.0, large, -large, -np.inf]
  logits = rng.choice(values, (EXAMPLES, num_classes))
  logits[::3] = 3 * rng.normal(size=logits[::3].shape)
  column = rng.integers(0, num_classes, EXAMPLES)
  for start, value in ((1, np.nan), (4, np.inf), (7, -np.inf)):
    rows = np.arange(start, EXAMPLES, 10)
    logits[rows, column[rows]] = value
  logits[9::20] = -np.inf
  logits[19::40, 0] = np.nan
  return logits.astype(jnp.dtype(dtype))


@functools.cache
def make_examples(num_classes):
  """Returns labels, codes and flags; an image holds the example's number."""
  rng = np.random.default_rng(1)
  number = np.arange(EXAMPLES)
  image = np.stack([number // 256, number % 256], axis=1).astype(np.uint8)
  return source.Examples(
    image=image[:, None, None, :],
    label=rng.integers(0, num_classes, EXAMPLES, np.int32),
    image_id=number.astype(str),
    label_codes=rng.integers(0, 4, (EXAMPLES, num_classes), np.int8),
    left_out=rng.random(EXAMPLES) < 0.2,
    in_imagenet_m=rng.random(EXAMPLES) < 0.4,
  )


def make_allowed(num_classes):
  return np.arange(num_classes) % 3 != 1


def look_up(variables, images):
  """Predicts the logits of the example whose number an image holds."""
  high, low = (images[:, 0, 0, i].astype(jnp.int32) for i in (0, 1))
  return variables["logits"][256 * high + low]


@functools.cache
def evaluate(place, dtype, num_classes):
  """Returns the result of the compiled pass at a place."""
  info = source.Info(
    name="made",
    split="test",
    num_examples=EXAMPLES,
    image_shape=(1, 1, 2),
    class_names=tuple(map(str, range(num_classes))),
    fingerprint="",
  )
  with places.strategy_at(place) as strategy:
    compiled = base.CompiledPass(look_up, strategy, BATCH, num_classes, KS)
    split = splits.ResidentSplit(info, make_examples(num_classes), strategy)
    logits = strategy.replicate({"logits": make_logits(dtype, num_classes)})
    masks = (make_allowed(num_classes),)
    request = base.Request(logits, keep_probs=True, compared_masks=masks)
    (result,) = compiled(split, [request])
  return result


def fields_of(outcomes, kinds):
  """Returns the arrays of outcomes whose NumPy kind is one of `kinds`."""
  arrays = {
    name: value
    for name, value in vars(outcomes).items()
    if isinstance(value, np.ndarray) and value.dtype.kind in kinds
  }
  assert arrays
  return arrays


def integers_of(result):
  """Returns all integers and flags that a pass gives."""
  restricted = [counts for _, counts in result.restricted]
  return result.counts, restricted, fields_of(result.outcomes, "biu")


@pytest.mark.parametrize("dtype, num_classes", CASES)
def test_a_pass_gives_the_integers_of_the_cpu(dtype, num_classes):
  found = evaluate("jit", dtype, num_classes)
  expected = evaluate("cpu", dtype, num_classes)
  chex.assert_trees_all_equal(integers_of(found), integers_of(expected))
  chex.assert_trees_all_close(
    (fields_of(found.outcomes, "f"), found.probs),
    (fields_of(expected.outcomes, "f"), expected.probs),
    **CLOSE,
  )


@pytest.mark.parametrize(
  "dtype, num_classes", [("float32", 7), ("bfloat16", 1000)]
)
def test_jit_and_pmap_give_equal_integers(dtype, num_classes):
  chex.assert_trees_all_equal(
    *(integers_of(evaluate(p, dtype, num_classes)) for p in ("jit", "pmap"))
  )


@pytest.mark.parametrize("dtype, num_classes", CASES)
def test_a_pass_gives_the_integers_of_the_slow_twin(dtype, num_classes):
  result = evaluate("jit", dtype, num_classes)
  examples = make_examples(num_classes)
  logits = make_logits(dtype, num_classes).astype(np.float32)
  sets = (
    examples.label,
    examples.label_codes,
    examples.left_out,
    examples.in_imagenet_m,
    np.ones(EXAMPLES, bool),
  )
  assert counts_test.as_lists(result.counts) == twins.counts(logits, *sets)
  ((allowed, restricted),) = result.restricted
  logits_allowed = np.where(allowed, logits, -np.inf)
  assert counts_test.as_lists(restricted) == twins.counts(logits_allowed, *sets)

  top5 = np.array([twins.top(row, 5) for row in logits])
  codes = np.take_along_axis(examples.label_codes, top5.clip(0), axis=1)
  labels = zip(logits, examples.label, strict=True)
  rank = np.array([twins.rank(row, label) for row, label in labels])
  outcomes = result.outcomes
  np.testing.assert_array_equal(outcomes.top5, top5)
  np.testing.assert_array_equal(
    outcomes.top5_code, np.where(top5 < 0, -1, codes)
  )
  np.testing.assert_array_equal(outcomes.label_rank, rank)
  hits = (rank < 10) & (rank < num_classes)
  assert result.counts.top_hits(10).sum() == hits.sum() > 0
  np.testing.assert_array_equal(
    confusion.confusion_matrix(examples.label, outcomes.top1, num_classes),
    _confusion(examples.label, top5[:, 0], num_classes),
  )


def _confusion(labels, predicted, num_classes):
  matrix = np.zeros((num_classes, num_classes), np.int64)
  for row, column in zip(labels, predicted, strict=True):
    if column >= 0:
      matrix[row, column] += 1
  return matrix


def test_masked_rows_count_for_nothing():
  logits, labels, *sets, _ = counts_test.random_batch(64, 7)
  mask = np.arange(64) % 3 > 0
  logits[~mask] = np.nan
  labels[~mask] = np.resize([-1, 7, 2**31 - 1, 0], 22)
  batch = (logits, labels, *sets, mask)
  found = jax.device_get(counts_test.compiled_count(*batch))
  with jax.default_device(places.cpu_device()):
    expected = jax.device_get(counts_test.compiled_count(*batch))
  chex.assert_trees_all_equal(found, expected)
  assert counts_test.as_lists(found) == twins.counts(*batch)
  assert found.count.sum() == mask.sum() and found.outside == 0
