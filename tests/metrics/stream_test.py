"""Tests of counting batches that come one by one."""

import chex
import jax
import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import outcomes as outcomes_lib
from imgbench.metrics import stream
from tests import raising
from tests.metrics import counts_test

K = 12


@jax.jit
def at_once(logits, labels, codes, left_out, in_m, mask):
  outcomes = outcomes_lib.outcomes(logits, labels, codes)
  counts = counts_lib.update(
    counts_lib.empty(K, (1, 3), (1, 5)),
    outcomes,
    labels,
    mask,
    left_out=left_out,
    in_imagenet_m=in_m,
  )
  return counts, outcomes


def add(counting, batch):
  logits, labels, codes, left_out, in_m, mask = batch
  counting.add(
    logits,
    labels,
    mask=mask,
    label_codes=codes,
    left_out=left_out,
    in_imagenet_m=in_m,
  )


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("group", [1, 3, 8])
@pytest.mark.parametrize("batch_size", [7, 50, 100])
def test_batches_equal_one_pass(batch_size, group, on_device):
  examples = counts_test.random_batch(100, K)
  counts, outcomes = jax.device_get(at_once(*examples))
  counting = stream.Stream(K, (1, 3), (1, 5), group=group)
  for start in range(0, 100, batch_size):
    index = np.arange(start, start + batch_size)
    batch = [part[np.minimum(index, 99)] for part in examples]
    batch[-1] = index < 100
    add(counting, jax.device_put(batch) if on_device else batch)
  got_counts, got_outcomes = counting.result()
  chex.assert_trees_all_equal(got_counts, counts)
  # Compiled together, exp and log may differ in the last digits.
  chex.assert_trees_all_close(got_outcomes, outcomes, rtol=1e-6)


def test_top1_alone_and_padding_in_the_middle():
  examples = counts_test.random_batch(40, K)
  examples = (*examples[:-1], np.arange(40) % 4 > 0)
  counts, outcomes = jax.device_get(at_once(*examples))
  counting = stream.Stream(K, (1, 3), (1, 5), keep="top1", group=2)
  for start in range(0, 40, 8):
    add(counting, [part[start : start + 8] for part in examples])
  got, top1 = counting.result()
  chex.assert_trees_all_equal(got, counts)
  np.testing.assert_array_equal(top1, outcomes.top1[examples[-1]])


def test_more_may_be_added_behind_a_result():
  logits, labels, *_ = counts_test.random_batch(20, K)
  counting = stream.Stream(K, group=4)
  for end in (10, 20):
    counting.add(logits[end - 10 : end], labels[end - 10 : end])
    counts, outcomes = counting.result()
    assert counts.count.sum() == len(outcomes.top1) == end
  whole = stream.Stream(K)
  whole.add(logits, labels)
  chex.assert_trees_all_equal(whole.result()[0], counts)


@pytest.mark.parametrize(
  "change, setting, given",
  [
    ({"logits": np.zeros((4, K + 1), np.float32)}, "logits", [4, 13]),
    ({"logits": np.zeros((4, K), np.int32)}, "logits", "int32"),
    ({"labels": np.zeros(3, int)}, "labels", [3]),
    ({"labels": np.array([0, K, 1, 2])}, "labels[1]", 12),
    ({"labels": np.array([0, 1, -1, 2])}, "labels[2]", -1),
    ({"mask": np.ones(5, bool)}, "mask", [5]),
    ({"mask": np.full(4, 0.5)}, "mask", "float64"),
    ({"label_codes": np.zeros((4, 3), np.int8)}, "label_codes", [4, 3]),
    ({"left_out": np.zeros(9, bool)}, "left_out", [9]),
  ],
)
def test_a_bad_batch_is_refused_and_loses_nothing(change, setting, given):
  logits, labels, *_ = counts_test.random_batch(4, K)
  counting = stream.Stream(K)
  counting.add(logits, labels)
  bad = {"logits": logits, "labels": labels, **change}
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    counting.add(**bad)
  counting.add(logits, labels)
  assert counting.result()[0].count.sum() == 8


def test_label_sets_come_with_every_batch_or_none():
  logits, labels, codes, left_out, *_ = counts_test.random_batch(4, K)
  counting = stream.Stream(K)
  counting.add(logits, labels)
  with pytest.raises(
    errors.InputError,
    check=raising.about(
      "label_codes, left_out, in_imagenet_m", given=["label_codes", "left_out"]
    ),
  ):
    counting.add(logits, labels, label_codes=codes, left_out=left_out)
  assert counting.result()[0].count.sum() == 4


def test_labels_outside_under_a_false_mask_are_padding():
  logits, labels, *_ = counts_test.random_batch(4, K)
  counting = stream.Stream(K)
  counting.add(
    logits, np.where([1, 1, 1, 0], labels, -1), mask=np.arange(4) < 3
  )
  assert counting.result()[0].count.sum() == 3


@pytest.mark.parametrize(
  "arguments, setting, given",
  [
    ({"keep": "all"}, "keep", "'all'"),
    ({"group": 0}, "group", 0),
    ({"ks": (0,)}, "ks", [0]),
  ],
)
def test_bad_settings_are_refused(arguments, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    stream.Stream(K, **arguments)


def test_nothing_added_has_no_result():
  with pytest.raises(
    errors.InputError, check=raising.about("stream", given="none")
  ):
    stream.Stream(K).result()


def test_fault_05_more_rows_than_counts_can_hold_are_refused(monkeypatch):
  monkeypatch.setattr(stream, "_MOST_ROWS", 5)
  counted = stream.Stream(3, ks=(1,))
  counted.add(np.eye(3, dtype=np.float32), np.arange(3))
  about = raising.about("stream", given=6)
  with pytest.raises(errors.InputError, check=about):
    counted.add(np.eye(3, dtype=np.float32), np.arange(3))
  counts, _ = counted.result()
  assert counts.count.sum() == 3
