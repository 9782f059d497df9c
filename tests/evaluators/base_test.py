"""Tests of the evaluation pass against NumPy over all examples at once."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import parallel
from imgbench.data import scene_source
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import classification
from imgbench.evaluators import splits
from tests import raising

SPLIT = scene_source.ScenesSource(
  "validation", image_size=16, validation_examples=50
)


@pytest.fixture(scope="module")
def examples():
  return SPLIT.load()


def predict(variables, images):
  """Scores that depend on the pixels and on a parameter."""
  means = images.astype(jnp.float32).mean(axis=(1, 2))
  return means @ variables["params"]["kernel"]


def make_variables():
  kernel = np.random.default_rng(0).normal(size=(3, 24))
  return {"params": {"kernel": jnp.asarray(kernel, jnp.float32)}}


def build(evaluator, examples, batch_size, devices=1):
  strategy = parallel.create_strategy("jit", devices)
  compiled = base.CompiledPass(predict, strategy, batch_size, 24)
  split = splits.ResidentSplit(SPLIT.info, examples, strategy)
  return evaluator(split, compiled_pass=compiled)


def evaluate(evaluator, should_stop=lambda: False):
  """The evaluation of one evaluator alone."""
  variables = {"raw": make_variables()}
  return base.run({"val": evaluator}, variables, should_stop)["val"]


@pytest.mark.parametrize(("batch_size", "devices"), [(50, 1), (7, 1), (12, 8)])
def test_counts_do_not_depend_on_batches_or_devices(
  examples, batch_size, devices
):
  evaluator = build(
    classification.MultilabelEvaluator, examples, batch_size, devices
  )
  evaluation = evaluate(evaluator)
  kernel = np.asarray(make_variables()["params"]["kernel"])
  logits = examples.image.astype(np.float32).mean(axis=(1, 2)) @ kernel
  top1 = logits.argmax(axis=1)
  np.testing.assert_array_equal(evaluation.outcomes.top5[:, 0], top1)
  measured = evaluation.measurements
  hits = (top1 == examples.label).sum()
  assert measured["all", "top1_accuracy"].correct == hits
  assert measured["all", "top1_accuracy"].n == 50
  # Correct (3) or unclear (2), over images that are not problematic.
  code = examples.label_codes[np.arange(50), top1]
  good = ~examples.left_out
  lenient = measured["all", "multilabel_accuracy.lenient_mean"]
  assert (lenient.correct, lenient.n) == ((code[good] >= 2).sum(), good.sum())


def predict_slowly(variables, images):
  """As `predict`; each device takes some milliseconds."""
  wide = jnp.full((384, 384), images[0, 0, 0, 0], jnp.float32)
  for _ in range(8):
    wide = jnp.tanh(wide @ wide)
  return predict(variables, images) + 0 * wide[0, 0]


@pytest.mark.slow
def test_many_batches_on_several_devices_do_not_wait_for_each_other():
  """XLA ends the process if too many steps are dispatched to 8 CPU devices."""
  many = scene_source.ScenesSource(
    "validation", image_size=16, validation_examples=800
  )
  strategy = parallel.create_strategy("jit", 8)
  compiled = base.CompiledPass(predict_slowly, strategy, 8, 24)
  split = splits.ResidentSplit(many.info, many.load(), strategy)
  evaluator = classification.MultilabelEvaluator(split, compiled_pass=compiled)
  assert evaluate(evaluator).measurements["all", "top1_accuracy"].n == 800


def test_stops_when_asked_to(examples):
  evaluator = build(classification.ClassificationEvaluator, examples, 10)
  answers = iter([False, False, True])
  with pytest.raises(base.EvaluationStopped):
    evaluate(evaluator, lambda: next(answers))


class WatchedSplit(splits.ResidentSplit):
  """Keeps the sizes of the batches that were made."""

  def __init__(self, *args):
    super().__init__(*args)
    self.made = []

  def batches(self, batch_size):
    for batch, mask in super().batches(batch_size):
      self.made.append(int(mask.sum()))
      yield batch, mask


def test_parameters_share_the_batches_of_a_split(examples):
  """Raw and averaged parameters get the same results as alone, bit for bit."""
  strategy = parallel.create_strategy("jit", 1)
  compiled = base.CompiledPass(predict, strategy, 20, 24)
  split = WatchedSplit(SPLIT.info, examples, strategy)
  first = WatchedSplit(SPLIT.info, examples, strategy)
  evaluators = {
    alias: classification.MultilabelEvaluator(
      of, compiled_pass=compiled, parameters=kind, probabilities=keep
    )
    for alias, of, kind, keep in (
      ("val", split, "raw", True),
      ("other", first, "raw", True),
      ("val_ema", split, "ema", False),
    )
  }
  variables = {"raw": make_variables()}
  variables["ema"] = jax.tree.map(lambda x: x[::-1] / 2, variables["raw"])
  together = base.run(evaluators, variables)
  assert list(together) == list(evaluators)
  assert split.made == first.made == [20, 20, 10]
  for alias, evaluator in evaluators.items():
    (alone,) = base.run({alias: evaluator}, variables).values()
    shared = together[alias]
    assert alone.measurements == shared.measurements
    chex.assert_trees_all_equal(
      (alone.counts, alone.outcomes, alone.probs),
      (shared.counts, shared.outcomes, shared.probs),
    )
  assert together["val_ema"].info.key == "scenes+ema:validation"
  assert together["val_ema"].probs is None
  nll = lambda alias: together[alias].measurements["all", "nll"].value
  assert nll("val") == nll("other") != nll("val_ema")


def test_variables_are_folded_once_per_pass(examples):
  calls = []

  def fold(variables):
    calls.append(variables)
    return jax.tree.map(jnp.negative, variables)

  strategy = parallel.create_strategy("jit", 1)
  split = splits.ResidentSplit(SPLIT.info, examples, strategy)
  compiled = base.CompiledPass(predict, strategy, 20, 24, fold=fold)
  found = compiled(split, [base.Request(make_variables())])[0]
  assert len(calls) == 1
  plain = base.CompiledPass(predict, strategy, 20, 24)
  request = base.Request(jax.tree.map(jnp.negative, make_variables()))
  chex.assert_trees_all_equal(
    found.outcomes, plain(split, [request])[0].outcomes
  )


@pytest.mark.smoke
def test_multilabel_needs_reviewed_labels():
  info = source.Info("toy", "test", 50, (16, 16, 3), tuple("ab"), "0")
  about = raising.about("type", given="toy:test")
  with pytest.raises(errors.InputError, check=about):
    classification.MultilabelEvaluator.check(info)


def test_a_label_that_no_class_has_is_not_lost_silently(examples):
  bad = source.Examples(
    image=examples.image,
    label=np.where(np.arange(50) == 3, 99, examples.label).astype(np.int32),
    image_id=examples.image_id,
  )
  evaluator = build(classification.ClassificationEvaluator, bad, 10)
  with pytest.raises(RuntimeError, match="49 of 50"):
    evaluate(evaluator)
