"""Drops to sets of some classes: both sets predicted among those, by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import parallel
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import classification
from imgbench.evaluators import shift
from imgbench.evaluators import splits
from imgbench.metrics import specs
from tests import raising

K = 6
# (label, logits): 1 of 4 images of the classes 0 and 2 is right among all six
# classes, 3 of 4 among the two; the last two images are of other classes.
BASE = (
  (0, (5, 9, 1, 0, 0, 0)),
  (0, (9, 1, 2, 0, 0, 0)),
  (2, (7, 0, 3, 8, 0, 0)),
  (2, (1, 8, 6, 7, 0, 0)),
  (1, (0, 9, 1, 0, 0, 0)),
  (3, (0, 9, 1, 0, 0, 0)),
)
# 1 of 2 is right among the two classes, none among all.
FEW = ((0, (4, 9, 5, 0, 0, 0)), (2, (1, 9, 3, 0, 0, 0)))
OTHER = ((4, (0, 0, 1, 9, 8, 0)), (5, (0, 9, 0, 0, 3, 2)))
AB = np.arange(K) < 2  # a subset of the classes
TOP1 = "top1_accuracy"


def split_of(name, rows, strategy):
  """A split whose images are the logits."""
  labels = np.array([label for label, _ in rows], np.int32)
  images = np.array([logits for _, logits in rows], np.uint8)
  info = source.Info(
    name, "test", len(rows), (1, 1, K), tuple("abcdef"), "0", {"ab": AB}
  )
  ids = np.array([f"{name}_{i}" for i in range(len(rows))])
  examples = source.Examples(images[:, None, None], labels, ids)
  return splits.ResidentSplit(info, examples, strategy)


def predict(variables, images):
  return images[:, 0, 0].astype(np.float32) * variables["scale"]


def mask(*classes):
  return np.isin(np.arange(K), classes)


def predict_ranking(variables, images):
  """The classes of `predict`, the best first; ties go to the lowest class."""
  return jnp.argsort(-predict(variables, images), axis=1, stable=True)


def evaluate(compared_masks, restrict=True, devices=1, ranked=0):
  """Evaluations of all sets, with raw parameters and with averaged ones."""
  strategy = parallel.create_strategy("jit", devices)
  compiled = base.CompiledPass(
    predict_ranking if ranked else predict,
    strategy,
    4,
    K,
    ks=(1,),
    ranked=ranked,
  )
  evaluators = {}
  for alias, rows in (("base", BASE), ("few", FEW), ("other", OTHER)):
    split = split_of(alias, rows, strategy)
    for suffix, kind in (("", "raw"), ("_ema", "ema")):
      evaluators[alias + suffix] = classification.ClassificationEvaluator(
        split,
        compiled_pass=compiled,
        parameters=kind,
        restrict_classes=restrict and alias != "base",
        compared_masks=compared_masks if alias == "base" else (),
      )
  # Under the averaged ones the lowest logit is the highest.
  return base.run(evaluators, {"raw": {"scale": 1.0}, "ema": {"scale": -1.0}})


@pytest.fixture(scope="module", params=[1, 8])
def found(request):
  masks = [mask(0, 2), mask(4, 5)]
  evaluations = evaluate(masks, devices=request.param)
  return shift.add_drops(evaluations, shift.Shift("base", ("few", "other")))


def test_the_base_set_is_predicted_among_the_same_classes(found):
  rows = found["few"].measurements
  start, drop = rows["all", f"{TOP1}.base"], rows["all", f"{TOP1}.drop"]
  assert (start.correct, start.n) == (3, 4)  # 1 of 4 among all classes
  assert rows["all", TOP1].value == 0.5
  assert drop.value == pytest.approx(3 / 4 - 1 / 2)
  assert drop.n == 6
  # The base set's own accuracy is that of all classes and images.
  own = found["base"].measurements["all", TOP1]
  assert (own.correct, own.n) == (2, 6)


def test_definitions_say_that_both_are(found):
  rows = found["few"].measurements
  restriction = "only the 2 classes of few:test"
  drop = rows["all", f"{TOP1}.drop"].definition
  assert f"on both sets {restriction}" in drop and "2 of 6" in drop
  start = rows["all", f"{TOP1}.base"].definition
  assert f"; {restriction}" in start and "2 of 6" in start


def test_each_set_has_its_own_classes(found):
  # The base set has no image of the classes 4 and 5.
  drop = found["other"].measurements["all", f"{TOP1}.drop"]
  assert drop.value is None
  undefined = drop.definition.partition("undefined: ")[2]
  assert "base:test" in undefined and "other:test" not in undefined
  # Of class 0 alone (1 is not there): right among 0 and 2, twice and never.
  rows = found["few"].measurements
  assert rows["ab", f"{TOP1}.base"].correct == 2
  assert rows["ab", f"{TOP1}.drop"].value == 1.0
  # No class of the subset is in the set: what it would start from is no value
  # of predictions that leave these classes out.
  rows = found["other"].measurements
  start = rows["ab", f"{TOP1}.base"]
  assert (start.correct, start.n) == (2, 3)
  assert "only" not in start.definition
  assert rows["ab", f"{TOP1}.drop"].value is None


def test_averaged_parameters_are_compared_separately(found):
  rows = found["few_ema"].measurements
  # Least of the two: right in the third image alone, then in the first.
  assert rows["all", f"{TOP1}.base"].correct == 1
  assert rows["all", TOP1].correct == 1
  assert rows["all", f"{TOP1}.drop"].value == pytest.approx(1 / 4 - 1 / 2)
  assert "few+ema:test are predicted" in rows["all", f"{TOP1}.drop"].definition


def test_unrestricted_sets_are_compared_with_the_plain_base_set():
  evaluations = evaluate([mask(0, 2)], restrict=False)
  found = shift.add_drops(evaluations, shift.Shift("base", ("few",)))
  rows = found["few"].measurements
  assert rows["all", f"{TOP1}.base"].correct == 1
  assert rows["all", f"{TOP1}.drop"].value == pytest.approx(1 / 4 - 0)
  assert "only" not in rows["all", f"{TOP1}.drop"].definition


def test_every_definition_says_that_images_are_synthetic():
  strategy = parallel.create_strategy("jit", 1)
  compiled = base.CompiledPass(predict, strategy, 4, K, ks=(1,))
  few = split_of("few", FEW, strategy)
  few.info = dataclasses.replace(few.info, synthetic=True)
  evaluators = {
    alias: classification.ClassificationEvaluator(
      split, compiled_pass=compiled, protocol="mirrored"
    )
    for alias, split in (
      ("base", split_of("base", BASE, strategy)),
      ("few", few),
    )
  }
  found = shift.add_drops(
    base.run(evaluators, {"raw": {"scale": 1.0}}),
    shift.Shift("base", ("few",)),
    protocol="mirrored",
  )
  for entry in found["base"].measurements.values():
    assert "synthetic" not in entry.definition
  for (_, metric), entry in found["few"].measurements.items():
    if metric.endswith((".drop", ".base")):
      clause = "the images of few:test are synthetic"
    else:
      clause = base.SYNTHETIC
    assert entry.definition.endswith(f"; mirrored; {clause}")
    assert entry.definition.count("synthetic") == 1


def test_counts_under_other_masks_are_rejected():
  evaluations = evaluate([mask(0, 1)])
  with pytest.raises(ValueError, match="base:test"):
    shift.add_drops(evaluations, shift.Shift("base", ("few",)))


@pytest.mark.parametrize("devices", [1, 8])
def test_rankings_of_all_classes_have_the_same_accuracies(found, devices):
  masks = [mask(0, 2), mask(4, 5)]
  ranked = shift.add_drops(
    evaluate(masks, devices=devices, ranked=K),
    shift.Shift("base", ("few", "other")),
  )
  for alias, evaluation in found.items():
    rows = ranked[alias].measurements
    lost = {metric for _, metric in evaluation.measurements.keys() - rows}
    assert lost == {
      *("nll", "brier", "ece", "ece.equal_mass", "classwise_ece"),
      *("macro_average_precision", "macro_roc_auc"),
      *specs.SCALING,
    }
    for key, value in rows.items():
      assert value == evaluation.measurements[key], key
    assert not np.isfinite(ranked[alias].outcomes.nll).any()


def test_short_rankings_have_no_accuracy_beyond_their_length():
  rows = evaluate((), restrict=False, ranked=K)["base"].measurements
  strategy = parallel.create_strategy("jit", 1)
  compiled = base.CompiledPass(
    lambda variables, images: predict_ranking(variables, images)[:, :2],
    *(strategy, 4, K),
    ks=(1, 2),
    ranked=2,
  )
  split = split_of("base", BASE, strategy)
  evaluator = classification.ClassificationEvaluator(
    split, compiled_pass=compiled
  )
  short = base.run({"base": evaluator}, {"raw": {"scale": 1.0}})["base"]
  assert short.measurements["all", TOP1] == rows["all", TOP1]
  assert short.measurements["all", "top2_accuracy"].correct == 3
  compiled = base.CompiledPass(
    lambda variables, images: predict_ranking(variables, images)[:, :2],
    *(strategy, 4, K),
    ks=(1, 3),
    ranked=2,
  )
  evaluator = classification.ClassificationEvaluator(
    split, compiled_pass=compiled
  )
  with pytest.raises(errors.InputError, check=raising.about("ks", given=3)):
    base.run({"base": evaluator}, {"raw": {"scale": 1.0}})
