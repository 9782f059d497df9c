"""Chooses the threshold of one class, e.g. to "catch all frogs".

imgbench operating-points runs/cifar10 \
    --dataset=cifar10:test --class=frog --recall=0.99

Flags images whose probability of the class, as stored by a run, is at least a
threshold, and prints what that finds and costs, with the most probable class
for comparison. Exit codes: 0 done, 2 bad input.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import decimal
import functools
import textwrap

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
_ARRAYS = ("label", "top5", "probs")
Points = Mapping[str, curves.OperatingPoint]  # by what is flagged


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


def read_scores(
  workdir: paths.Folder, dataset: str, class_text: str
) -> ClassScores:
  """Reads the probabilities of a class.

  Args:
    workdir: folder of a finished run.
    dataset: key of an evaluated split.
    class_text: name of a class, or its index.

  Raises:
    InputError: unknown run, data set or class, no probabilities of all classes,
      or inconsistent files.
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
    raise errors.InputError("--dataset", expected, dataset, near)
  names = inputs.read_class_names(workdir, dataset)
  found = inputs.read_predictions(
    workdir, dataset, _ARRAYS, sizes[dataset], len(names)
  )
  if not found:
    path = inputs.find_predictions(workdir, dataset)
    raise errors.InputError(path, "predictions of this run", "no file")
  label, top5, probs = (found[name] for name in _ARRAYS)
  index = _find_class(class_text, names, probs.shape[1])
  scores = probs[:, index].astype(np.float64)
  return ClassScores(
    dataset=dataset,
    class_index=index,
    class_name=names[index] if names else f"class {index}",
    scores=np.where(np.isnan(scores), -np.inf, scores),
    positive=label == index,
    predicted=top5[:, 0] == index,
  )


def _find_class(wanted: str, names: Sequence[str], num_classes: int) -> int:
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
  if not 0 < alpha < 1:
    raise errors.InputError("--alpha", "a number in (0, 1)", alpha)
  if rule == "threshold":
    if not 0 <= wanted <= 1:
      raise errors.InputError("--threshold", "a number in [0, 1]", wanted)
    return curves.apply_threshold(scores, positive, wanted, alpha)
  if not 0 < wanted <= 1:
    raise errors.InputError(f"--{rule}", "a number in (0, 1]", wanted)
  if not positive.any():
    expected = f"a class with examples in {target.dataset}"
    raise errors.InputError("--class", expected, target.class_name)
  choose = _choose_for_recall if rule == "recall" else _choose_for_precision
  threshold = _shorten(scores, choose(target, wanted))
  return curves.apply_threshold(scores, positive, threshold, alpha)


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


def format_table(
  target: ClassScores, points: Points, alpha: float = 0.05
) -> str:
  """Returns a description of the class and a table with a row per point."""
  interval = f"[{inputs.format_coverage(alpha)} interval]"
  count = "{:,}".format
  columns = [
    table.Column(lambda row: row[0], "flagged if"),
    table.number(lambda row: row[1].flagged, "flagged", count),
    table.number(lambda row: row[1].tp, "found", count),
    table.number(lambda row: row[1].fn, "missed", count),
    table.number(lambda row: row[1].fp, "false alarms", count),
    *(
      table.number(
        lambda row, n=name: _format_rate(row[1], n), f"{name} {interval}"
      )
      for name in ("precision", "recall")
    ),
  ]
  positives, total = int(target.positive.sum()), len(target.positive)
  name = texts.printable(f"{target.dataset}: {target.class_name}")
  lines = [
    f"{name} (class {target.class_index}), {positives:,} of {total:,} examples",
    "",
    *table.Table("", columns, list(points.items())).lines(),
  ]
  return "\n".join(lines)


def _format_rate(point: curves.OperatingPoint, name: str) -> str:
  low, high = getattr(point, f"{name}_ci") or (None, None)
  return formats.with_bounds(getattr(point, name), low, high, "%")


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


def format_csv(
  target: ClassScores, points: Points, rule: str, alpha: float = 0.05
) -> str:
  """Returns the points as CSV, rates as fractions; empty: undefined."""
  rows = []
  for name, point in points.items():
    has_threshold = not np.isnan(point.threshold)
    precision_low, precision_high = point.precision_ci or (None, None)
    recall_low, recall_high = point.recall_ci or (None, None)
    rows.append(
      {
        "dataset": target.dataset,
        "class_index": target.class_index,
        "class_name": target.class_name,
        "flagged_if": name,
        "threshold": point.threshold if has_threshold else None,
        "chosen_on_these_examples": has_threshold and rule != "threshold",
        "true_positives": point.tp,
        "false_positives": point.fp,
        "false_negatives": point.fn,
        "true_negatives": point.tn,
        "precision": point.precision,
        "precision_ci_low": precision_low,
        "precision_ci_high": precision_high,
        "recall": point.recall,
        "recall_ci_low": recall_low,
        "recall_ci_high": recall_high,
        "f1": point.f1,
        "alpha": alpha,
      }
    )
  return table.csv_text(rows)


REQUIRED = ("workdir", "dataset", "class")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --workdir, --dataset, --class, the three rules, --alpha, --csv."""
  string = functools.partial(flags.DEFINE_string, flag_values=flag_values)
  number = functools.partial(flags.DEFINE_float, flag_values=flag_values)
  string("workdir", None, "Folder of a finished run.")
  string("dataset", None, 'Evaluated split, e.g. "cifar10:test".')
  string("class", None, "Name or index of a class.")
  number("recall", None, "Minimum recall, e.g. 0.99.")
  number("precision", None, "Minimum precision.")
  number("threshold", None, "Minimum probability of a flagged image.")
  number("alpha", 0.05, "Intervals cover 1 - alpha.")
  string("csv", None, "Also write the numbers to this file.")


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; a first argument is the value of --workdir."""
  return cli.parse_flags(cli.name_argument(argv, "workdir"), REQUIRED)


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
  target = read_scores(
    run_files.reach_finished(values.workdir),
    values.dataset,
    values["class"].value,
  )
  point = find_point(target, rule, values[rule].value, values.alpha)
  points = {
    f"probability >= {point.threshold}": point,
    "most probable class": evaluate_argmax(target, values.alpha),
  }
  print(format_table(target, points, values.alpha))
  print(f"\n{describe_caveats(target, rule, point.threshold)}")
  if values.csv:
    text = format_csv(target, points, rule, values.alpha)
    writers.write_output("--csv", values.csv, text)
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("operating-points")
