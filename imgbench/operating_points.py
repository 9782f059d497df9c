"""Where to set the threshold of one class: "catch all frogs".

python -m imgbench.operating_points --workdir=runs/cifar10 \
    --dataset=cifar10:test --class=frog --recall=0.99

Reads the probabilities that a run has kept, flags the images whose probability
of the class is at least a threshold, and prints what that finds and what it
costs, beside plain predictions of the most probable class. Exit codes: 0 done,
2 bad input.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import decimal
import functools
import pathlib
import textwrap

from absl import flags
import numpy as np

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import paths
from imgbench import registry
from imgbench import run_files
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
  """What a run says of one class on one data set.

  Attributes:
    dataset: its key, e.g. "cifar10:test".
    class_index: of the class.
    class_name: of the class.
    scores: float64 [N], its probability; -inf where logits were not finite,
      so that such an example is never flagged.
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
    workdir: folder of a run that is done.
    dataset: key of an evaluated split.
    class_text: name of a class, or its index.

  Raises:
    InputError: no such run, data set or class, no probabilities of all classes,
      files that do not fit together.
  """
  results = run_files.read_json(workdir / run_files.RESULTS)
  if results is None:
    expected = f"the folder of a finished run, with {run_files.RESULTS}"
    raise errors.InputError("--workdir", expected, workdir)
  known = dict.fromkeys(key.rsplit("/", 2)[0] for key in results)
  if dataset not in known:
    near = registry.near_names(dataset, known)
    expected = "a split that this run evaluated"
    raise errors.InputError("--dataset", expected, dataset, near)
  key = writers.file_key(dataset)
  path = workdir / run_files.PREDICTIONS / f"{key}.npz"
  found = inputs.arrays(path, _ARRAYS)
  if "probs" not in found:
    raise errors.InputError(
      path,
      "the array probs, the probabilities of all classes",
      "none",
      "evaluate with evaluation.sets.<name>.probabilities=True",
    )
  label, top5, probs = _checked_arrays(path, found)
  names = inputs.arrays(
    workdir / run_files.CONFUSION, [f"{key}.class_names"]
  ).get(f"{key}.class_names", ())
  index = _class_index(class_text, tuple(map(str, names)), probs.shape[1])
  scores = probs[:, index].astype(np.float64)
  return ClassScores(
    dataset=dataset,
    class_index=index,
    class_name=str(names[index]) if len(names) else f"class {index}",
    scores=np.where(np.isnan(scores), -np.inf, scores),
    positive=label == index,
    predicted=top5[:, 0] == index,
  )


def _checked_arrays(path, found):
  shapes = {name: array.shape for name, array in found.items()}
  size = found["probs"].shape[:1]
  if (
    set(found) != set(_ARRAYS)
    or found["probs"].ndim != 2
    or found["top5"].ndim != 2
    or {shape[:1] for shape in shapes.values()} != {size}
  ):
    given = ", ".join(f"{name} {list(s)}" for name, s in shapes.items())
    expected = "label [N], top5 [N, 5] and probs [N, K]"
    raise errors.InputError(path, expected, given)
  return tuple(found[name] for name in _ARRAYS)


def _class_index(wanted: str, names: Sequence[str], num_classes: int) -> int:
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


def find(
  of_class: ClassScores, rule: str, wanted: float, alpha: float = 0.05
) -> curves.OperatingPoint:
  """Returns the point that a rule asks for.

  A threshold that was chosen is rounded down to the fewest digits that flag
  the very same examples.

  Args:
    of_class: of the class.
    rule: "recall" or "precision", to be at least `wanted`, or "threshold".
    wanted: the rate, or the threshold itself.
    alpha: 1 - the coverage of the intervals.

  Raises:
    InputError: no example of the class, a rate outside (0, 1] or out of reach,
      a threshold outside [0, 1].
  """
  scores, positive = of_class.scores, of_class.positive
  if not 0 < alpha < 1:
    raise errors.InputError("--alpha", "a number in (0, 1)", alpha)
  if rule == "threshold":
    if not 0 <= wanted <= 1:
      raise errors.InputError("--threshold", "a number in [0, 1]", wanted)
    return curves.at_threshold(scores, positive, wanted, alpha)
  if not 0 < wanted <= 1:
    raise errors.InputError(f"--{rule}", "a number in (0, 1]", wanted)
  if not positive.any():
    expected = f"a class with examples in {of_class.dataset}"
    raise errors.InputError("--class", expected, of_class.class_name)
  choose = _for_recall if rule == "recall" else _for_precision
  threshold = _short(scores, choose(of_class, wanted))
  return curves.at_threshold(scores, positive, threshold, alpha)


def _for_recall(of_class: ClassScores, wanted: float) -> float:
  scores, positive = of_class.scores, of_class.positive
  threshold = curves.threshold_for_recall(scores, positive, wanted).threshold
  if threshold == -np.inf:
    lost, total = int((scores[positive] == -np.inf).sum()), int(positive.sum())
    best = formats.significant(1 - lost / total)
    expected = f"at most {best} ({lost} of {total} scores are not finite)"
    raise errors.InputError("--recall", expected, wanted)
  return threshold


def _for_precision(of_class: ClassScores, wanted: float) -> float:
  finite = of_class.scores > -np.inf
  scores, positive = of_class.scores[finite], of_class.positive[finite]
  best = 0.0
  if positive.any():
    point = curves.threshold_for_precision(scores, positive, wanted)
    if point is not None:
      return point.threshold
    best = np.max(curves.precision_recall_curve(scores, positive).precision)
  expected = f"at most {formats.significant(best)}, the best of all thresholds"
  raise errors.InputError("--precision", expected, wanted)


def _short(scores: np.ndarray, threshold: float) -> float:
  """The shortest decimal number that flags what `threshold` does."""
  below = np.max(scores[scores < threshold], initial=-np.inf)
  for digits in range(1, 18):
    context = decimal.Context(prec=digits, rounding=decimal.ROUND_FLOOR)
    short = float(context.create_decimal_from_float(threshold))
    if short > below:
      return short
  return threshold


def argmax_point(
  of_class: ClassScores, alpha: float = 0.05
) -> curves.OperatingPoint:
  """Returns what flagging the predictions of the class gives."""
  return curves.operating_point(
    float("nan"), of_class.predicted, of_class.positive, alpha
  )


def text(of_class: ClassScores, points: Points, alpha: float = 0.05) -> str:
  """Returns what is printed: the class, and a row for each point."""
  interval = f"[{inputs.coverage(alpha)} interval]"
  count = "{:,}".format
  columns = [
    table.Column(lambda row: row[0], "flagged if"),
    table.number(lambda row: row[1].flagged, "flagged", count),
    table.number(lambda row: row[1].tp, "found", count),
    table.number(lambda row: row[1].fn, "missed", count),
    table.number(lambda row: row[1].fp, "false alarms", count),
    *(
      table.number(lambda row, n=name: _rate(row[1], n), f"{name} {interval}")
      for name in ("precision", "recall")
    ),
  ]
  positives, total = int(of_class.positive.sum()), len(of_class.positive)
  lines = [
    f"{of_class.dataset}: {of_class.class_name} (class {of_class.class_index}),"
    f" {positives:,} of {total:,} examples",
    "",
    *table.Table("", columns, list(points.items())).lines(),
  ]
  return "\n".join(lines)


def _rate(point: curves.OperatingPoint, name: str) -> str:
  low, high = getattr(point, f"{name}_ci") or (None, None)
  return formats.with_bounds(getattr(point, name), low, high, "%")


def caution(of_class: ClassScores, rule: str, threshold: float) -> str:
  """Returns what to keep in mind about the numbers."""
  if rule == "threshold":
    words = (
      "Intervals are Clopper-Pearson. They hold if the threshold was not chosen"
      " on these examples."
    )
  else:
    words = (
      "Caution: the threshold was chosen on these very examples, so on others"
      f" it will do worse. Judge it on another split: --threshold={threshold}."
      " Intervals are Clopper-Pearson and know nothing of the choice."
    )
  lost = int((of_class.scores == -np.inf).sum())
  if lost:
    words += f" Scores not finite: {lost:,}; those examples are never flagged."
  return textwrap.fill(words, 80, break_on_hyphens=False)


def csv_text(
  of_class: ClassScores, points: Points, rule: str, alpha: float = 0.05
) -> str:
  """Returns the same numbers as CSV, rates as fractions; empty: undefined."""
  rows = []
  for name, point in points.items():
    has_threshold = not np.isnan(point.threshold)
    precision_low, precision_high = point.precision_ci or (None, None)
    recall_low, recall_high = point.recall_ci or (None, None)
    rows.append(
      {
        "dataset": of_class.dataset,
        "class_index": of_class.class_index,
        "class_name": of_class.class_name,
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
  string("workdir", None, "Folder of a run that is done.")
  string("dataset", None, 'Evaluated split, e.g. "cifar10:test".')
  string("class", None, "Name of a class, or its index.")
  number("recall", None, "Share of the class to find at least, e.g. 0.99.")
  number("precision", None, "Share of the flagged to be right at least.")
  number("threshold", None, "Flag from this probability on.")
  number("alpha", 0.05, "Intervals cover 1 - alpha.")
  string("csv", None, "File to write the numbers to as well.")


def main(argv: list[str]) -> int:
  """Prints the table that the flags ask for."""
  del argv
  values = flags.FLAGS
  with cli.one_line_errors():
    given = [rule for rule in _RULES if values[rule].value is not None]
    if len(given) != 1:
      names = " and ".join(f"--{rule}" for rule in given) or "none"
      expected = "one of --recall, --precision and --threshold"
      raise errors.InputError("flags", expected, names)
    (rule,) = given
    of_class = read_scores(
      paths.as_path(values.workdir), values.dataset, values["class"].value
    )
    point = find(of_class, rule, values[rule].value, values.alpha)
    points = {
      f"probability >= {point.threshold}": point,
      "most probable class": argmax_point(of_class, values.alpha),
    }
    print(text(of_class, points, values.alpha))
    print(f"\n{caution(of_class, rule, point.threshold)}")
    if values.csv:
      _write(values.csv, csv_text(of_class, points, rule, values.alpha))
  return errors.EXIT_DONE


def _write(path: str, content: str) -> None:
  try:
    writers.write_atomically(pathlib.Path(path), content)
  except OSError as error:
    expected = "a file that can be written"
    given = f"{path} ({error.strerror})"
    raise errors.InputError("--csv", expected, given) from error


if __name__ == "__main__":
  commands.start("operating-points")
