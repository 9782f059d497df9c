"""Measures drops of accuracy from a base set to shifted sets.

A drop is computed from the counts of two finished evaluations, without another
prediction. It is the accuracy on the base set minus that on the shifted set, a
fraction in [-1, 1], and one of the shifted set's measurements:

- `<accuracy>.drop`, e.g. `top1_accuracy.drop`, with an interval;
- `<accuracy>.base`, the accuracy on the base set.

ImageNet-A and -R have 200 of the 1,000 classes. The base set is then restricted
to the examples of those classes, or the drop would compare different classes.
If predictions on the shifted set are restricted to its classes, so are those on
the base set: 200-way predictions on both sets.

Source: Recht et al. 2019 and Shankar et al. 2020, who report such drops;
Hendrycks et al. 2021 (ImageNet-A; ImageNet-R), whose base is ImageNet-200.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from imgbench import errors
from imgbench import registry
from imgbench.data import source
from imgbench.evaluators import accuracies as accuracies_lib
from imgbench.evaluators import base as base_lib
from imgbench.metrics import drops
from imgbench.metrics import measurement
from imgbench.metrics import summary

KEYS = ("base", "sets")
_SECTION = "evaluation.shift"

Measurements = dict[base_lib.MetricKey, measurement.Measurement]
Masks = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Shift:
  """Aliases of the sets to compare.

  Attributes:
    base: of the base set.
    sets: of one or more others.
  """

  base: str
  sets: tuple[str, ...]


def check(section: Mapping[str, Any], aliases: Iterable[str]) -> Shift | None:
  """Returns the sets that section `evaluation.shift` compares, None without.

  Args:
    section: `base`, the alias of an evaluated set, and `sets`, a sequence of
      others; both empty for no drops.
    aliases: of `evaluation.sets`.

  Raises:
    InputError: unknown keys or aliases, one of the two without the other, an
      alias twice, the base set among the others.
  """
  for key, value in section.items():
    if key not in KEYS:
      near = registry.near_names(key, KEYS)
      raise errors.InputError(f"{_SECTION}.{key}", "base or sets", value, near)
  base, sets = section.get("base", ""), section.get("sets", ())
  setting, aliases = f"{_SECTION}.sets", list(aliases)
  if not isinstance(sets, tuple | list):
    expected = "a sequence of aliases of evaluation.sets"
    raise errors.InputError(setting, expected, repr(sets))
  if not base and not sets:
    return None
  if not base:
    raise errors.InputError(f"{_SECTION}.base", "a base set for sets", "none")
  if not sets:
    raise errors.InputError(setting, "sets to compare with base", "none")
  for key, alias in (("base", base), *(("sets", alias) for alias in sets)):
    if alias not in aliases:
      near = registry.near_names(str(alias), aliases)
      expected = "an alias of evaluation.sets"
      raise errors.InputError(f"{_SECTION}.{key}", expected, repr(alias), near)
  if base in sets or len(set(sets)) < len(sets):
    expected = f"different aliases without that of base, {base!r}"
    raise errors.InputError(setting, expected, list(sets))
  return Shift(base, tuple(sets))


def add_drops(
  evaluations: Mapping[str, base_lib.Evaluation],
  shift: Shift | None,
  *,
  class_masks: Masks | None = None,
  protocol: str = "",
) -> dict[str, base_lib.Evaluation]:
  """Returns all evaluations, the shifted ones with their drops.

  A set that was evaluated with other parameters ("cifar10+ema:test") is
  compared with the base set of the same parameters. Without an evaluation of
  the base set nothing is added.

  Args:
    evaluations: by alias; those with other parameters under any alias.
    shift: the sets by the aliases of the raw parameters, or None.
    class_masks: subsets besides those of the data sets, see `measure`.
    protocol: part of every definition.
  """
  found = dict(evaluations)
  if shift is None or shift.base not in evaluations:
    return found
  asked = [a for a in (shift.base, *shift.sets) if a in evaluations]
  places = {_split_name(e.info): alias for alias, e in evaluations.items()}
  for variant in dict.fromkeys(variant for _, variant in places):
    twins = {
      alias: places.get((_split_name(evaluations[alias].info)[0], variant))
      for alias in asked
    }
    base = twins.pop(shift.base)
    if base is None:
      continue
    drops_by_alias = measure(
      evaluations[base],
      {twin: evaluations[twin] for twin in twins.values() if twin is not None},
      class_masks=class_masks,
      protocol=protocol,
    )
    for alias, rows in drops_by_alias.items():
      found[alias] = dataclasses.replace(
        evaluations[alias],
        measurements={**evaluations[alias].measurements, **rows},
      )
  return found


def measure(
  base: base_lib.Evaluation,
  shifted: Mapping[str, base_lib.Evaluation],
  *,
  class_masks: Masks | None = None,
  protocol: str = "",
) -> dict[str, Measurements]:
  """Returns drops and base accuracies by alias.

  It compares top-k accuracies, and accuracies on label sets that both sets
  have, in the subsets that both have. If the classes of a set have unequal
  numbers of examples, it compares the mean over classes too. If predictions on
  a set are restricted to its classes, those on the base set are too. Intervals
  are Newcombe's for shares of examples and bootstraps by class for means over
  classes; n is the number of examples of both sets.

  Args:
    base: the evaluation of the base set.
    shifted: alias -> evaluation of the same classes.
    class_masks: name -> bool [K], subsets besides those of the data sets.
    protocol: how predictions were made, if not by one plain forward pass; part
      of every definition.

  Returns:
    alias -> (subset, metric) -> measurement, `correct` None for drops. A drop
    is undefined if one of the sets has no example of the subset, for means over
    classes also if it has no example of a class that the other one has.

  Raises:
    ValueError: evaluations of other classes or coverages, a subset with unknown
      or different classes; a base set without counts under the class mask of
      the other set.
  """
  return {
    alias: _Comparison(base, evaluation, class_masks or {}, protocol).run()
    for alias, evaluation in shifted.items()
  }


def _split_name(info: source.Info) -> tuple[tuple[str, str], str]:
  """Returns ((data set, split), which parameters); "" for the raw ones."""
  name, _, variant = info.name.partition("+")
  return (name, info.split), variant


class _Comparison:
  """One shifted set against the base set."""

  def __init__(self, base, shifted, class_masks: Masks, protocol: str):
    _check_pair(base, shifted)
    self._base, self._shifted = base, shifted
    self._counts = base.counts, shifted.counts
    if shifted.allowed is not None:
      self._counts = base.counts_under(shifted.allowed), shifted.counts
    drawn = [e.info.key for e in (base, shifted) if e.info.synthetic]
    if drawn:
      clause = f"the images of {' and '.join(drawn)} are synthetic"
      protocol = f"{protocol}; {clause}" if protocol else clause
    self._measure = measurement.Measurer(shifted.alpha, protocol)
    self._occurs = shifted.counts.count > 0
    self._masks = _collect_masks(base, shifted, class_masks)

  def run(self) -> Measurements:
    accuracies = accuracies_lib.find_comparable(*self._counts)
    if not self._is_uneven():
      del accuracies[accuracies_lib.CLASS_MEAN]
    both = self._base.measurements.keys() & self._shifted.measurements.keys()
    rows = {}
    for subset, metric in self._shifted.measurements:
      if (subset, metric) not in both or metric not in accuracies:
        continue
      if subset not in self._masks:
        raise ValueError(
          f"{subset}: expected its mask in class_masks, which has"
          f" {list(self._masks)}"
        )
      start, drop = self._compare(subset, metric, accuracies[metric])
      rows[subset, f"{metric}.base"] = start
      rows[subset, f"{metric}.drop"] = drop
    return rows

  def _is_uneven(self) -> bool:
    """Returns whether a set has unequal numbers of examples by class."""
    return any(
      len(np.unique(counts.count[self._occurs])) > 1 for counts in self._counts
    )

  def _compare(
    self, subset: str, metric: str, accuracy: accuracies_lib.Accuracy
  ):
    """Returns the base set's accuracy and the drop, of one subset."""
    mask = self._masks[subset]
    classes = mask & self._occurs
    occurring, counts = classes.any(), self._counts
    if not occurring:
      # There is no drop, but a base accuracy.
      classes, counts = mask, (self._base.counts, self._shifted.counts)
    parts = [
      (accuracy.hits(c)[classes], accuracy.count(c)[classes]) for c in counts
    ]
    whose = "both sets" if accuracy.class_mean else "the base set"
    over = ""
    if occurring:
      over = self._describe_classes(whose, classes, mask, parts[0][1])
    start = f"{metric} on the base set {self._base.info.key}"
    text = f"{start} minus {metric} on {self._shifted.info.key}{over}"
    text += self._describe_restriction("on both sets ")
    text += self._describe_differences(subset, metric)
    start += over + (self._describe_restriction() if occurring else "")
    if accuracy.class_mean:
      of_base = self._measure.class_mean(*parts[0], start)
      return of_base, self._measure_class_mean_drop(parts, text)
    hits, n = parts[0]
    of_base = self._measure.proportion(hits.sum(), n.sum(), start)
    return of_base, self._measure_drop(parts, text)

  def _describe_restriction(self, where: str = "") -> str:
    """Names the classes that may be predicted, if not all."""
    if self._shifted.allowed is None:
      return ""
    count = int(self._shifted.allowed.sum())
    key = self._shifted.info.key
    return f"; {where}only the {count:,} classes of {key} are predicted"

  def _describe_differences(self, subset: str, metric: str) -> str:
    """Returns the clauses that only one set's definition has.

    Not those about classes, which are equal on both sets if restricted on the
    shifted one, and about synthetic images, which have another clause.
    """
    same = [base_lib.SYNTHETIC]
    if self._shifted.allowed is not None:
      masks = (self._base.allowed, self._shifted.allowed)
      same += [
        base_lib.describe_restriction(mask)
        for mask in masks
        if mask is not None
      ]
    base, shifted = (
      [
        clause
        for clause in e.measurements[subset, metric].definition.split("; ")[1:]
        if clause not in same and not clause.startswith("undefined:")
      ]
      for e in (self._base, self._shifted)
    )
    words = ""
    for clauses, others, info in (
      (base, shifted, self._base.info),
      (shifted, base, self._shifted.info),
    ):
      own = [clause for clause in clauses if clause not in others]
      if own:
        words += f"; on {info.key} alone: {', '.join(own)}"
    return words

  def _describe_classes(self, whose: str, classes, mask, base_count) -> str:
    """Names the compared classes, if not all, and the missing ones."""
    words, key = "", self._shifted.info.key
    if classes.sum() < mask.sum():
      words += (
        f", {whose} taken over the {classes.sum():,} of"
        f" {mask.sum():,} classes that occur in {key}"
      )
    absent = int((base_count == 0).sum())
    if absent:
      words += (
        f"; {absent:,} of the {classes.sum():,} classes that occur in {key}"
        " have no such example in the base set"
      )
    return words

  def _measure_drop(self, parts, text: str) -> measurement.Measurement:
    (hits_a, n_a), (hits_b, n_b) = ((h.sum(), n.sum()) for h, n in parts)
    if not (n_a and n_b):
      return self._undefined(n_a, n_b, text, "example")
    value, *bounds = drops.drop(hits_a, n_a, hits_b, n_b, self._shifted.alpha)
    return self._measure.value(
      n_a + n_b, value, text, interval=(*bounds, drops.NEWCOMBE)
    )

  def _measure_class_mean_drop(
    self, parts, text: str
  ) -> measurement.Measurement:
    (hits_a, n_a), (hits_b, n_b) = parts
    if not (n_a.sum() and n_b.sum()):
      return self._undefined(n_a.sum(), n_b.sum(), text, "example")
    if not (n_a.all() and n_b.all()):
      return self._undefined(n_a, n_b, text, "example of a class")
    value, *interval = drops.bootstrap_drop(
      hits_a, n_a, hits_b, n_b, self._shifted.alpha, class_mean=True
    )
    return self._measure.value(
      n_a.sum() + n_b.sum(), value, text, interval=tuple(interval)
    )

  def _undefined(self, n_a, n_b, text: str, what: str):
    lacking = [
      evaluation.info.key
      for n, evaluation in ((n_a, self._base), (n_b, self._shifted))
      if not np.all(n)
    ]
    why = f"no such {what} in {' and '.join(lacking)}"
    return self._measure.undefined(np.sum(n_a) + np.sum(n_b), text, why)


def _collect_masks(base, shifted, class_masks: Masks) -> dict[str, np.ndarray]:
  """Returns the masks of all subsets with known classes."""
  for name, mask in base.info.subsets.items():
    if not np.array_equal(shifted.info.subsets.get(name, mask), mask):
      raise ValueError(
        f"{name}: expected the same classes in {base.info.key} and"
        f" {shifted.info.key}"
      )
  every = np.ones(shifted.info.num_classes, bool)
  return {summary.ALL: every, **shifted.info.subsets, **class_masks}


def _check_pair(base, shifted) -> None:
  if base.info.class_names != shifted.info.class_names:
    raise ValueError(
      f"{shifted.info.key}: expected the classes of {base.info.key}, got others"
    )
  if base.alpha != shifted.alpha:
    raise ValueError(
      f"{shifted.info.key}: expected alpha {base.alpha} as in"
      f" {base.info.key}, got {shifted.alpha}"
    )
