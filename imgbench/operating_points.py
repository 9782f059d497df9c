"""Chooses thresholds of classes, e.g. to "catch all frogs".

imgbench operating-points runs/cifar10 \\
    --dataset=cifar10:test --class=frog --recall=0.99

Flags images whose probability of the class, as stored by a run, is at least a
threshold, and prints what that finds and costs, with the most probable class
for comparison. A threshold looks better on the images that it is chosen on than
on others. To choose on one split and judge on another, for one class or all:

imgbench operating-points runs/demo --recall=0.9 \\
    --choose=scenes:validation --judge=scenes:v2

Exit codes: 0 done, 2 bad input.
"""

from collections.abc import Sequence
import dataclasses
import decimal
import functools
import textwrap
from typing import Any

from absl import flags
import numpy as np

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import paths
from imgbench import registry
from imgbench import run_files
from imgbench import texts
from imgbench import writers
from imgbench.metrics import curves
from imgbench.report import inputs
from imgbench.tables import formats
from imgbench.tables import table

_RULES = ("recall", "precision", "threshold")
_ARRAYS = ("image_id", "label", "top5", "top5_prob", "probs")


@dataclasses.dataclass(frozen=True)
class ClassScores:
  """Scores of one class on one data set.

  Attributes:
    dataset: its key, e.g. "cifar10:test".
    class_index: of the class.
    class_name: of the class.
    scores: float64 [N], its probability; -inf, never flagged, if logits were
      not finite.
    positive: bool [N], whether the label is the class.
    predicted: bool [N], whether the class is the most probable one.
  """

  dataset: str
  class_index: int
  class_name: str
  scores: np.ndarray
  positive: np.ndarray
  predicted: np.ndarray


@dataclasses.dataclass(frozen=True)
class AllScores:
  """Scores of all classes on one data set.

  Attributes:
    files: of the data set, with predictions and names of classes.
    probs: float [N, K].
  """

  files: inputs.DatasetFiles
  probs: np.ndarray

  def select(self, index: int) -> ClassScores:
    """Returns the scores of a class."""
    scores = self.probs[:, index].astype(np.float64)
    return ClassScores(
      dataset=self.files.key,
      class_index=index,
      class_name=self.files.name(index),
      scores=np.where(np.isnan(scores), -np.inf, scores),
      positive=self.files.predictions.label == index,
      predicted=self.files.predictions.top5[:, 0] == index,
    )

  def find_class(self, wanted: str) -> int:
    """Returns the index of a class by name or index. Raises InputError."""
    names, num_classes = self.files.class_names, self.probs.shape[1]
    places = [i for i, name in enumerate(names) if name == wanted]
    if len(places) > 1:
      fix = f"give an index: {', '.join(map(str, places))}"
      given = f"{wanted}, the name of {len(places)}"
      raise errors.InputError("--class", "the name of one class", given, fix)
    if places:
      return places[0]
    if wanted.isdecimal() and int(wanted) < num_classes:
      return int(wanted)
    near = registry.near_names(wanted, names) if names else "no names are known"
    expected = f"the name of a class or an index below {num_classes}"
    raise errors.InputError("--class", expected, wanted, near)


def read_scores(
  workdir: paths.Folder, dataset: str, setting: str = "--dataset"
) -> AllScores:
  """Reads the probabilities of all classes.

  Args:
    workdir: folder of a finished run.
    dataset: key of an evaluated split.
    setting: that gave it.

  Raises:
    InputError: unknown run or data set, no probabilities of all classes, or
      inconsistent files.
  """
  rows = inputs.read_results(workdir)
  if rows is None:
    expected = f"the folder of a finished run, with {run_files.RESULTS}"
    raise errors.InputError("--workdir", expected, workdir)
  sizes: dict[str, int] = {}
  for row in rows:
    sizes[row.dataset] = max(row.n, sizes.get(row.dataset, 0))
  if dataset not in sizes:
    near = registry.near_names(dataset, sizes)
    expected = "a split that this run evaluated"
    raise errors.InputError(setting, expected, dataset, near)
  names = inputs.read_class_names(workdir, dataset)
  found = inputs.read_predictions(
    workdir, dataset, _ARRAYS, sizes[dataset], len(names)
  )
  if not found:
    path = inputs.find_predictions(workdir, dataset)
    raise errors.InputError(path, "predictions of this run", "no file")
  probs, predictions = found.pop("probs"), inputs.Predictions(**found)
  files = inputs.DatasetFiles(dataset, names, predictions=predictions)
  return AllScores(files, probs)


def find_point(
  target: ClassScores, rule: str, wanted: float, alpha: float = 0.05
) -> curves.OperatingPoint:
  """Returns the operating point of a rule.

  A chosen threshold is rounded down to the fewest digits that flag the same
  examples.

  Args:
    target: scores of the class.
    rule: "recall" or "precision", to be at least `wanted`, or "threshold".
    wanted: the rate, or the threshold itself.
    alpha: 1 - the coverage of the intervals.

  Raises:
    InputError: the class has no example, a rate is outside (0, 1] or out of
      reach, or a threshold is outside [0, 1].
  """
  scores, positive = target.scores, target.positive
  _check_numbers(rule, wanted, alpha)
  if rule == "threshold":
    return curves.apply_threshold(scores, positive, wanted, alpha)
  if not positive.any():
    expected = f"a class with examples in {target.dataset}"
    raise errors.InputError("--class", expected, target.class_name)
  choose = _choose_for_recall if rule == "recall" else _choose_for_precision
  threshold = _shorten(scores, choose(target, wanted))
  return curves.apply_threshold(scores, positive, threshold, alpha)


def _check_numbers(rule: str, wanted: float, alpha: float) -> None:
  errors.check(0 < alpha < 1, "--alpha", "a number in (0, 1)", alpha)
  if rule == "threshold":
    errors.check(0 <= wanted <= 1, f"--{rule}", "a number in [0, 1]", wanted)
  else:
    errors.check(0 < wanted <= 1, f"--{rule}", "a number in (0, 1]", wanted)


def _choose_for_recall(target: ClassScores, wanted: float) -> float:
  scores, positive = target.scores, target.positive
  threshold = curves.threshold_for_recall(scores, positive, wanted).threshold
  if threshold == -np.inf:
    lost, total = int((scores[positive] == -np.inf).sum()), int(positive.sum())
    best = formats.significant(1 - lost / total)
    expected = f"at most {best} ({lost} of {total} scores are not finite)"
    raise errors.InputError("--recall", expected, wanted)
  return threshold


def _choose_for_precision(target: ClassScores, wanted: float) -> float:
  finite = target.scores > -np.inf
  scores, positive = target.scores[finite], target.positive[finite]
  best = 0.0
  if positive.any():
    point = curves.threshold_for_precision(scores, positive, wanted)
    if point is not None:
      return point.threshold
    best = np.max(curves.precision_recall_curve(scores, positive).precision)
  expected = f"at most {formats.significant(best)}, the best of all thresholds"
  raise errors.InputError("--precision", expected, wanted)


def _shorten(scores: np.ndarray, threshold: float) -> float:
  """Returns the shortest decimal that flags what `threshold` does."""
  below = np.max(scores[scores < threshold], initial=-np.inf)
  for digits in range(1, 18):
    context = decimal.Context(prec=digits, rounding=decimal.ROUND_FLOOR)
    short = float(context.create_decimal_from_float(threshold))
    if short > below:
      return short
  return threshold


def evaluate_argmax(
  target: ClassScores, alpha: float = 0.05
) -> curves.OperatingPoint:
  """Returns the operating point of flagging predictions of the class."""
  return curves.operating_point(
    float("nan"), target.predicted, target.positive, alpha
  )


def judge(
  chosen: AllScores,
  judged: AllScores,
  classes: Sequence[int],
  rule: str,
  wanted: float,
  alpha: float = 0.05,
) -> list[dict[str, Any]]:
  """Returns rows of thresholds chosen on one split and judged on another.

  A class without a threshold has a row with the reason, unless it is alone.

  Raises:
    InputError: see `find_point`; shared images or other classes.
  """
  one, other = chosen.files, judged.files
  same = chosen.probs.shape[1] == judged.probs.shape[1]
  same &= one.class_names == other.class_names
  expected = f"the classes of {one.key}, and none of its images"
  errors.check(same, "--judge", expected, f"others in {other.key}")
  apart = not inputs.share_images(one, other)
  errors.check(apart, "--judge", expected, f"common images in {other.key}")
  _check_numbers(rule, wanted, alpha)
  rows = []
  for index in classes:
    target, point = judged.select(index), None
    try:
      threshold = find_point(chosen.select(index), rule, wanted).threshold
      words = f"probability >= {threshold}"
      point = curves.apply_threshold(
        target.scores, target.positive, threshold, alpha
      )
    except errors.InputError as error:
      if len(classes) == 1:
        raise
      words = f"no threshold: expected {error.expected}"
    rows.append(build_row(target, words, point, one.key, alpha))
  return rows


def build_row(
  target: ClassScores,
  flagged_if: str,
  point: curves.OperatingPoint | None,
  chosen_on: str,
  alpha: float = 0.05,
) -> dict[str, Any]:
  """Returns a row of the table and of --csv; None is undefined.

  Without a point `flagged_if` is the reason. `chosen_on` is "" if no data set
  chose the threshold.
  """
  value = lambda name: getattr(point, name, None)
  threshold = value("threshold")
  precision_low, precision_high = value("precision_ci") or (None, None)
  recall_low, recall_high = value("recall_ci") or (None, None)
  return {
    "dataset": target.dataset,
    "class_index": target.class_index,
    "class_name": target.class_name,
    "flagged_if": flagged_if,
    # That of the most probable class is NaN.
    "threshold": None if threshold != threshold else threshold,
    "chosen_on": chosen_on,
    "chosen_on_these_examples": chosen_on == target.dataset,
    "true_positives": value("tp"),
    "false_positives": value("fp"),
    "false_negatives": value("fn"),
    "true_negatives": value("tn"),
    "precision": value("precision"),
    "precision_ci_low": precision_low,
    "precision_ci_high": precision_high,
    "recall": value("recall"),
    "recall_ci_low": recall_low,
    "recall_ci_high": recall_high,
    "f1": value("f1"),
    "alpha": alpha,
  }


def format_table(title: str, rows: Sequence[dict], alpha: float = 0.05) -> str:
  """Returns a title and a table; the title has the class of rules for one."""
  interval = f"[{inputs.format_coverage(alpha)} interval]"
  by_class = rows[0]["chosen_on"] not in ("", rows[0]["dataset"])

  def count(title: str, *names: str) -> table.Column:
    total = lambda row: sum(row[name] for name in names)
    show = lambda row: "" if row[names[0]] is None else f"{total(row):,}"
    return table.number(show, title)

  def rate(name: str) -> table.Column:
    keys = (name, f"{name}_ci_low", f"{name}_ci_high")
    show = lambda row: formats.with_bounds(*map(row.get, keys), "%")
    return table.number(show, f"{name} {interval}")

  columns = [
    *([table.Column("class_name", "class")] if by_class else []),
    table.Column("flagged_if", "flagged if"),
    count("flagged", "true_positives", "false_positives"),
    count("found", "true_positives"),
    count("missed", "false_negatives"),
    count("false alarms", "false_positives"),
    *map(rate, ("precision", "recall")),
  ]
  lines = [texts.printable(title), "", *table.Table("", columns, rows).lines()]
  return "\n".join(lines)


def describe_caveats(target: ClassScores, rule: str, threshold: float) -> str:
  """Returns the caveats about the numbers."""
  if rule == "threshold":
    words = (
      "Intervals are Clopper-Pearson. They hold if the threshold was not chosen"
      " on these examples."
    )
  else:
    words = (
      "Caution: the threshold was chosen on these examples and will do worse on"
      f" others. Evaluate it on another split: --threshold={threshold}."
      " Intervals are Clopper-Pearson and ignore the selection."
    )
  lost = int((target.scores == -np.inf).sum())
  if lost:
    words += f" Non-finite scores: {lost:,}; these examples are never flagged."
  return textwrap.fill(words, 80, break_on_hyphens=False)


_SPLITS = ("choose", "judge")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the run and its splits, --class, the rules, --alpha, --csv."""
  string = functools.partial(flags.DEFINE_string, flag_values=flag_values)
  number = functools.partial(flags.DEFINE_float, flag_values=flag_values)
  string("workdir", None, "Folder of a finished run.")
  string("dataset", None, 'Evaluated split, e.g. "cifar10:test".')
  string("choose", None, "Instead: split that the threshold is chosen on.")
  string("judge", None, "With --choose: another split, which judges it.")
  string("class", None, "Name or index of a class; with --choose: or all.")
  number("recall", None, "Minimum recall, e.g. 0.99.")
  number("precision", None, "Minimum precision.")
  number("threshold", None, "Minimum probability of a flagged image.")
  number("alpha", 0.05, "Intervals cover 1 - alpha.")
  string("csv", None, "Also write the numbers to this file.")


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; a first argument is the value of --workdir."""
  argv = cli.name_argument(argv, "workdir")
  splits = cli.peek(argv, *_SPLITS)
  two = splits.choose or splits.judge
  needed = _SPLITS if two else ("dataset", "class")
  remaining = cli.parse_flags(argv, ("workdir", *needed))
  for name in ("dataset", "threshold") if two else ():
    value = flags.FLAGS[name].value
    errors.check(value is None, f"--{name}", "none with --choose", value)
  return remaining


def main(argv: list[str]) -> int:
  """Prints the table and writes --csv."""
  del argv
  values = flags.FLAGS
  given = [rule for rule in _RULES if values[rule].value is not None]
  if len(given) != 1:
    names = " and ".join(f"--{rule}" for rule in given) or "none"
    expected = "one of --recall, --precision and --threshold"
    raise errors.InputError("flags", expected, names)
  (rule,) = given
  wanted, alpha = values[rule].value, values.alpha
  workdir = run_files.reach_finished(values.workdir)
  name = values["class"].value
  if values.choose:
    chosen, judged = (
      read_scores(workdir, values[split].value, f"--{split}")
      for split in _SPLITS
    )
    classes: Sequence[int] = range(chosen.probs.shape[1])
    if name not in (None, "all"):
      classes = [chosen.find_class(name)]
    rows = judge(chosen, judged, classes, rule, wanted, alpha)
    reached = sum((row[rule] or 0) >= wanted for row in rows)
    title = (
      f"{values.judge}, thresholds chosen on {values.choose} for {rule} >="
      f" {wanted:g}, reached by {reached:,} of {len(rows):,} classes"
    )
    print(format_table(title, rows, alpha))
  else:
    scores = read_scores(workdir, values.dataset)
    target = scores.select(scores.find_class(name))
    point = find_point(target, rule, wanted, alpha)
    words = f"probability >= {point.threshold}"
    chosen_on = "" if rule == "threshold" else target.dataset
    plain = evaluate_argmax(target, alpha)
    rows = [
      build_row(target, words, point, chosen_on, alpha),
      build_row(target, "most probable class", plain, "", alpha),
    ]
    positives, total = int(target.positive.sum()), len(target.positive)
    title = f"{target.dataset}: {target.class_name} (class"
    title += f" {target.class_index}), {positives:,} of {total:,} examples"
    print(format_table(title, rows, alpha))
    print(f"\n{describe_caveats(target, rule, point.threshold)}")
  if values.csv:
    writers.write_output("--csv", values.csv, table.csv_text(rows))
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("operating-points")
