"""Drops between evaluated sets: by hand, and against metrics.drops."""

import dataclasses

import ml_collections
import numpy as np
import pytest

from imgbench import errors
from imgbench.evaluators import shift
from imgbench.labels import annotations
from imgbench.metrics import drops
from imgbench.metrics import intervals
from imgbench.metrics import summary
from tests import raising
from tests.evaluators import counted

VAL, V2 = "toy:validation", "toy_v2:test"
TOP1, TOP5, MEAN = "top1_accuracy", "top5_accuracy", "top1_accuracy.class_mean"
TFDS, LENIENT = "multilabel_accuracy.tfds", "multilabel_accuracy.lenient_mean"


def test_worked_by_hand():
  # 48 of 60 (8 of 10 in each class) against 30 of 60.
  rows = shift.measure(
    counted.evaluate(VAL, counted.even(8, 10)),
    {"v2": counted.evaluate(V2, counted.even(5, 10))},
  )["v2"]
  assert set(rows) == {
    (subset, f"{metric}.{part}")
    for subset in ("all", "dog", "object")
    for metric in (TOP1, TOP5)
    for part in ("base", "drop")
  }
  drop = rows["all", f"{TOP1}.drop"]
  assert drop.value == pytest.approx(0.3)
  assert (drop.n, drop.correct, drop.ci_method) == (120, None, "newcombe")
  # Wilson: 0.8 in [0.6822, 0.8817], 0.5 in [0.3773, 0.6227]; Newcombe adds the
  # squares of 0.1178 and 0.1227, and of 0.0817 and 0.1227.
  assert drop.ci_low == pytest.approx(0.3 - 0.1701, abs=1e-4)
  assert drop.ci_high == pytest.approx(0.3 + 0.1474, abs=1e-4)
  start = rows["all", f"{TOP1}.base"]
  assert (start.correct, start.n, start.value) == (48, 60, 0.8)
  dogs = rows["dog", f"{TOP1}.drop"]
  assert dogs.value == pytest.approx(0.3) and dogs.n == 40
  assert dogs.ci_high - dogs.ci_low > drop.ci_high - drop.ci_low


def test_definitions_name_both_sets():
  rows = shift.measure(
    counted.evaluate(VAL, counted.even(8, 10)),
    {"v2": counted.evaluate(V2, counted.even(5, 10))},
    protocol="mirrored too",
  )["v2"]
  drop = rows["dog", f"{TOP1}.drop"].definition
  assert 0 <= drop.index(VAL) < drop.index(V2) and drop.count(TOP1) == 2
  start = rows["dog", f"{TOP1}.base"].definition
  assert VAL in start and V2 not in start and start.count(TOP1) == 1
  assert drop.endswith("; mirrored too") and start.endswith("; mirrored too")


def test_definitions_name_clauses_of_one_set():
  only = "one clause"
  rows = shift.measure(
    counted.evaluate(VAL, counted.even(8, 10), protocol="mirrored"),
    {
      "a": counted.evaluate(
        "toy_a:test", {2: (1, 3)}, protocol=f"mirrored; {only}"
      )
    },
    protocol="mirrored",
  )["a"]
  definition = rows["all", f"{TOP1}.drop"].definition
  assert "1 of 6" in definition and definition.count("mirrored") == 1
  assert f"on toy_a:test alone: {only};" in definition
  assert only not in rows["all", f"{TOP1}.base"].definition
  # The reason of an undefined accuracy is no such clause.
  definition = rows["dog", f"{TOP1}.drop"].definition
  assert f"on toy_a:test alone: {only}; undefined: " in definition
  assert definition.count("undefined") == 1


def test_a_gain_is_a_negative_drop():
  rows = shift.measure(
    counted.evaluate(VAL, counted.even(0, 10)),
    {"v2": counted.evaluate(V2, counted.even(10, 10))},
  )["v2"]
  drop = rows["all", f"{TOP1}.drop"]
  assert drop.value == drop.ci_low == -1
  assert -1 < drop.ci_high < 0


def test_only_classes_that_occur_are_compared():
  # All in class 0 and 4 are right, nothing in the others.
  val = counted.evaluate(VAL, counted.even(0, 10) | {0: (10, 10), 4: (10, 10)})
  few = counted.evaluate("toy_a:test", {0: (3, 9), 4: (2, 6)})
  rows = shift.measure(val, {"a": few})["a"]
  drop, start = (rows["all", f"{TOP1}.{part}"] for part in ("drop", "base"))
  assert (start.correct, start.n, start.value) == (20, 20, 1.0)
  assert drop.value == pytest.approx(1 - 5 / 15) and drop.n == 35
  for entry in (drop, start):
    assert "the base set taken over the 2 of 6" in entry.definition
    assert entry.definition.endswith("toy_a:test")
  assert "toy:validation" in start.definition
  expected = drops.drop(20, 20, 5, 15)
  assert (drop.value, drop.ci_low, drop.ci_high) == pytest.approx(expected)
  dogs = rows["dog", f"{TOP1}.base"]
  assert (dogs.correct, dogs.n) == (10, 10)
  # 9 and 6 examples: means over the two classes are compared as well.
  mean = rows["all", f"{MEAN}.drop"]
  assert mean.value == pytest.approx(1 - 1 / 3)
  assert "both sets taken over the 2 of 6" in mean.definition
  assert rows["all", f"{MEAN}.base"].value == 1.0
  *expected, method = drops.bootstrap_drop(
    [10, 10], [10, 10], [3, 2], [9, 6], class_mean=True
  )
  assert (mean.value, mean.ci_low, mean.ci_high) == tuple(expected)
  assert mean.ci_method == method == drops.SQUARE_AND_ADD


def test_class_means_weigh_classes_alike():
  val = counted.evaluate(VAL, counted.even(9, 12))
  uneven = counted.evaluate(
    V2, {k: (k + 1, 2 * k + 2) for k in range(5)} | {5: (0, 9)}
  )
  rows = shift.measure(val, {"v2": uneven})["v2"]
  mean = rows["all", f"{MEAN}.drop"]
  assert mean.value == pytest.approx(0.75 - 5 * 0.5 / 6)
  assert mean.ci_method == intervals.STRATIFIED_BOOTSTRAP
  assert mean.value != rows["all", f"{TOP1}.drop"].value


def test_base_sets_without_a_class():
  val = counted.evaluate(VAL, {0: (4, 8), 5: (6, 8)})
  rows = shift.measure(val, {"v2": counted.evaluate(V2, counted.even(5, 10))})[
    "v2"
  ]
  assert rows["all", f"{TOP1}.drop"].value == pytest.approx(10 / 16 - 0.5)
  assert "4 of the 6" in rows["all", f"{TOP1}.drop"].definition
  mean = rows["all", f"{MEAN}.drop"]
  assert mean.value is mean.ci_low is mean.ci_method is None
  undefined = mean.definition.partition("undefined: ")[2]
  assert undefined.endswith(" in toy:validation")


def test_a_subset_without_examples_is_undefined_and_never_0():
  no_dogs = {label: (5, 10) for label in range(2, counted.K)}
  full = counted.even(8, 10)
  for of_base, of_shifted, lacking in (
    (no_dogs, full, VAL),
    (full, no_dogs, V2),
    (no_dogs, no_dogs, f"{VAL} and {V2}"),
  ):
    pair = counted.evaluate(VAL, of_base), counted.evaluate(V2, of_shifted)
    rows = shift.measure(pair[0], {"v2": pair[1]})["v2"]
    for metric in (TOP1, TOP5):
      dogs = rows["dog", f"{metric}.drop"]
      assert dogs.value is None and dogs.ci_low is None
      undefined = dogs.definition.partition("undefined: ")[2]
      assert undefined.endswith(f" in {lacking}")
      assert rows["object", f"{metric}.drop"].value is not None
    # The base accuracy is defined if the base set has dogs.
    start = rows["dog", f"{TOP1}.base"].value
    assert start == (None if of_base is no_dogs else 0.8)


@pytest.mark.parametrize("seed", range(8))
def test_equals_means_over_the_examples(seed):
  rng = np.random.default_rng(seed)
  # Of sizes that repeat, so that the step is compiled a few times only.
  sizes = (20, 20, 10, 30, 20, 20)
  classes = rng.permutation(counted.K)
  of_base = {
    int(k): (int(rng.integers(n + 1)), n)
    for k, n in zip(classes, sizes, strict=True)
  }
  of_shifted = {int(k): (int(rng.integers(11)), 10) for k in classes[:4]}
  rows = shift.measure(
    counted.evaluate(VAL, of_base),
    {"a": counted.evaluate("toy_a:test", of_shifted)},
  )["a"]
  for subset, mask in {
    "all": np.ones(counted.K, bool),
    **counted.SUBSETS,
  }.items():
    hit = {"base": [], "shifted": []}
    for name, of_set in (("base", of_base), ("shifted", of_shifted)):
      for k, (hits, n) in of_set.items():
        if mask[k] and k in of_shifted:
          hit[name] += [1] * hits + [0] * (n - hits)
    drop = rows[subset, f"{TOP1}.drop"]
    if not hit["shifted"]:
      assert drop.value is None
      continue
    expected = np.mean(hit["base"]) - np.mean(hit["shifted"])
    assert drop.value == pytest.approx(expected, abs=1e-12)
    assert drop.ci_low < drop.value < drop.ci_high
    assert rows[subset, f"{TOP1}.base"].n == len(hit["base"])


def test_label_sets_are_compared_where_both_have_them():
  val = counted.reviewed(VAL, counted.even(8, 10), correct_too=60)
  v2 = counted.reviewed(V2, counted.even(5, 10), correct_too=10)
  plain = counted.evaluate("toy_a:test", counted.even(5, 10))
  rows = shift.measure(val, {"v2": v2, "a": plain})
  assert not any("multilabel" in metric for _, metric in rows["a"])
  # Every miss on the base set is an unclear label; 5 of 30 on the other one.
  drop = rows["v2"]["all", f"{LENIENT}.drop"]
  expected = drops.drop(60, 60, 35, 60)
  assert (drop.value, drop.ci_low, drop.ci_high) == pytest.approx(expected)
  assert drop.ci_method == drops.NEWCOMBE
  strict = rows["v2"]["all", "multilabel_accuracy.icml2020.drop"]
  assert strict.value == pytest.approx(0.3)
  tfds = rows["v2"]["all", f"{TFDS}.drop"]
  *expected, method = drops.bootstrap_drop(
    [10] * 6, [10] * 6, [10] + [5] * 5, [10] * 6, class_mean=True
  )
  assert (tfds.value, tfds.ci_low, tfds.ci_high) == tuple(expected)
  assert tfds.ci_method == method
  assert rows["v2"]["all", f"{TFDS}.base"].value == 1.0
  # Bounds are no accuracies to compare.
  assert not any("bound" in metric for _, metric in rows["v2"])


def test_problematic_images_are_left_out():
  left_out = np.zeros(60, bool)
  left_out[:10] = True  # All of class 0.
  val = counted.reviewed(VAL, counted.even(8, 10))
  v2 = counted.reviewed(V2, counted.even(5, 10), left_out=left_out)
  rows = shift.measure(val, {"v2": v2})["v2"]
  # The class occurs, but has no image that counts: no mean over classes.
  assert rows["all", f"{TFDS}.drop"].value is None
  assert rows["all", f"{LENIENT}.drop"].n == 60 + 50
  assert rows["object", f"{TFDS}.drop"].value == pytest.approx(0.3)


def test_real_labels_too():
  codes = np.full((60, counted.K), annotations.WRONG, np.int8)
  codes[np.arange(60), np.repeat(range(counted.K), 10)] = annotations.CORRECT
  pair = [
    counted.evaluate(key, counted.even(hits, 10), codes, label_set=summary.REAL)
    for key, hits in ((VAL, 8), (V2, 5))
  ]
  rows = shift.measure(pair[0], {"v2": pair[1]})["v2"]
  for metric in ("real_accuracy", "real_accuracy.class_mean"):
    assert rows["all", f"{metric}.drop"].value == pytest.approx(0.3)
  # A miss has its label last of six.
  assert rows["all", "real_top5_accuracy.drop"].value == pytest.approx(0.3)


def test_alpha_is_that_of_the_evaluations():
  pair = [
    counted.evaluate(key, counted.even(hits, 10), alpha=0.4)
    for key, hits in ((VAL, 8), (V2, 5))
  ]
  drop = shift.measure(pair[0], {"v2": pair[1]})["v2"]["all", f"{TOP1}.drop"]
  assert drop.ci_low == pytest.approx(float(drops.drop(48, 60, 30, 60, 0.4)[1]))
  with pytest.raises(ValueError, match="alpha 0.4"):
    shift.measure(pair[0], {"v2": counted.evaluate(V2, counted.even(5, 10))})


def test_subsets_of_the_config():
  mask = np.arange(counted.K) == 3
  pair = [
    counted.evaluate(VAL, counted.even(8, 10) | {3: (10, 10)}),
    counted.evaluate(V2, counted.even(5, 10)),
  ]
  for evaluation in pair:
    evaluation.measurements["three", TOP1] = evaluation.measurements[
      "all", TOP1
    ]
  masks = {"three": mask}
  rows = shift.measure(pair[0], {"v2": pair[1]}, class_masks=masks)["v2"]
  assert rows["three", f"{TOP1}.drop"].value == pytest.approx(0.5)
  with pytest.raises(ValueError, match="three"):
    shift.measure(pair[0], {"v2": pair[1]})


def test_sets_that_do_not_fit_are_rejected():
  val, v2 = (
    counted.evaluate(VAL, counted.even(8, 10)),
    counted.evaluate(V2, counted.even(5, 10)),
  )
  renamed = dataclasses.replace(v2.info, class_names=tuple("xbcdef"))
  other = dataclasses.replace(v2, info=renamed)
  with pytest.raises(ValueError, match="classes"):
    shift.measure(val, {"v2": other})
  cats = dataclasses.replace(v2.info, subsets={"dog": ~counted.DOG})
  other = dataclasses.replace(v2, info=cats)
  with pytest.raises(ValueError, match="dog"):
    shift.measure(val, {"v2": other})


def test_drops_join_the_measurements_of_their_set():
  evaluations = {
    "val": counted.evaluate(VAL, counted.even(8, 10)),
    "v2": counted.evaluate(V2, counted.even(5, 10)),
    "other": counted.evaluate("toy_r:test", counted.even(2, 10)),
  }
  found = shift.add_drops(evaluations, shift.Shift("val", ("v2",)))
  assert list(found) == list(evaluations)
  assert found["val"] is evaluations["val"]
  assert found["other"] is evaluations["other"]
  extra = shift.measure(evaluations["val"], {"v2": evaluations["v2"]})["v2"]
  assert found["v2"].measurements == evaluations["v2"].measurements | extra
  assert ("all", f"{TOP1}.drop") not in evaluations["v2"].measurements


def test_averaged_parameters_are_compared_with_their_like():
  evaluations = {
    "val": counted.evaluate(VAL, counted.even(8, 10)),
    "v2": counted.evaluate(V2, counted.even(5, 10)),
    "a": counted.evaluate("toy_a:test", counted.even(1, 10)),
    "averaged": counted.evaluate("toy+ema:validation", counted.even(9, 10)),
    "v2 averaged": counted.evaluate("toy_v2+ema:test", counted.even(7, 10)),
  }
  found = shift.add_drops(evaluations, shift.Shift("val", ("v2", "a")))
  value = lambda alias: found[alias].measurements["all", f"{TOP1}.drop"].value
  assert value("v2") == pytest.approx(0.3)
  assert value("a") == pytest.approx(0.7)
  assert value("v2 averaged") == pytest.approx(0.2)
  drop = found["v2 averaged"].measurements["all", f"{TOP1}.drop"]
  assert "base set toy+ema:validation minus" in drop.definition
  assert found["averaged"] is evaluations["averaged"]


def test_nothing_is_added_where_nothing_can_be_compared():
  wanted = shift.Shift("val", ("v2",))
  val, v2 = (
    counted.evaluate(VAL, counted.even(8, 10)),
    counted.evaluate(V2, counted.even(5, 10)),
  )
  for evaluations in ({"v2": v2}, {"val": val}, {}):
    assert shift.add_drops(evaluations, wanted) == evaluations
  # Averaged parameters were evaluated on one of the sets only.
  averaged = counted.evaluate("toy_v2+ema:test", counted.even(7, 10))
  found = shift.add_drops({"val": val, "v2": v2, "e": averaged}, wanted)
  assert found["e"] is averaged
  assert shift.add_drops({"val": val, "v2": v2}, None)["v2"] is v2


def section(**values):
  return ml_collections.ConfigDict(values)


def test_good_sections():
  aliases = ("val", "v2", "a")
  wanted = shift.check(section(base="val", sets=("v2", "a")), aliases)
  assert wanted == shift.Shift("val", ("v2", "a"))
  wanted = shift.check(section(base="val", sets=["v2"]), aliases)
  assert wanted == shift.Shift("val", ("v2",))
  assert shift.check(section(base="", sets=()), aliases) is None
  assert shift.check(section(), aliases) is None


@pytest.mark.parametrize(
  "values, key, given, fix",
  [
    (dict(bases="val"), "bases", "val", "did you mean base or sets?"),
    (dict(base="val", sets="v2"), "sets", "'v2'", ""),
    (dict(base="val", sets=()), "sets", "none", ""),
    (dict(base="", sets=("v2",)), "base", "none", ""),
    (dict(base="vall", sets=("v2",)), "base", "'vall'", "did you mean val?"),
    (dict(base="val", sets=("x",)), "sets", "'x'", "known: a, v2, val"),
    (dict(base="val", sets=("v2", "val")), "sets", "['v2', 'val']", ""),
    (dict(base="val", sets=("v2", "v2")), "sets", "['v2', 'v2']", ""),
    (dict(base="val", sets=(3,)), "sets", "3", "known: a, v2, val"),
  ],
)
def test_bad_sections(values, key, given, fix):
  about = raising.about(f"evaluation.shift.{key}", given=given)
  with pytest.raises(errors.InputError, check=about) as raised:
    shift.check(section(**values), ("val", "v2", "a"))
  assert raised.value.fix == fix
