"""Checks the results of a finished run against requirements.

imgbench check runs/demo --require="top1_accuracy>=0.75, recall[otter]>=0.5"

RUN is the folder of a run, of imgbench evaluate or of imgbench score, and is
only read. docs/evaluation.md has all requirements. Exit codes: 0 done, 2 bad
input, 3 a requirement does not hold.
"""

import collections
from collections.abc import Container
from collections.abc import Sequence
import itertools
import operator
import re
from typing import Any

from absl import flags

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import paths
from imgbench import registry
from imgbench import run_files
from imgbench import texts
from imgbench import writers
from imgbench.metrics import bands
from imgbench.metrics import specs
from imgbench.report import inputs
from imgbench.tables import entries
from imgbench.tables import formats
from imgbench.tables import table

REQUIRED = ("workdir",)
_FIELDS = ("dataset", "subset", "metric", "value", "class", "reason", "index")
_OPERATORS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
# Word -> pattern of SUBSET/METRIC, of the results that it requires.
_WORDS = {
  "multilabel": r"all/multilabel_accuracy\.\w+",
  "subsets": "(?!all/).*",
  "shift": r"all/.*\.drop",
}
_FORM = f"METRIC>=NUMBER, METRIC[CLASS]>=NUMBER, {', '.join(_WORDS)}"
# Names of classes may hold commas, operators and closed pairs of brackets.
_TERM = re.compile(
  r"""\s*(?P<text>(?:(?P<dataset>[^,<>]+:[^,<>]+?)/(?P<subset>[^,<>/]+)/)?
  (?P<metric>[A-Za-z_][\w.]*)(?:\[(?P<label>(?:[^][]|\[[^][]*\])+)\])?
  (?:\s*(?P<compare>[<>]=?)
  \s*(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?))?)\s*(?:,|$)""",
  re.VERBOSE,
)
# A term of --require: texts, "" where it has no such part, and a number.
Requirement = collections.namedtuple("Requirement", [*_TERM.groupindex])


def define_require_flag(flag_values: flags.FlagValues) -> None:
  """Defines --require."""
  text = (
    "Requirements on the results, separated by commas; repeatable. If one does"
    " not hold, the exit code is 3. docs/evaluation.md has their form."
  )
  flags.DEFINE_multi_string("require", [], text, flag_values=flag_values)


def parse(given: Sequence[str], also: Container[str] = ()) -> list[Requirement]:
  """Returns the requirements of all --require on known metrics, and `also`.

  Raises:
    InputError: another form, an unknown metric, or no fraction for a rate.
  """
  found: list[Requirement] = []
  text, place = ",".join(given), 0
  while given and text[:place][-1:] in ("", ","):
    match = _TERM.match(text, place)
    if match is None:
      raise errors.InputError("--require", _FORM, repr(text[place:]))
    parts = match.groupdict("")
    number, subset = float(parts["number"] or 0), parts["subset"] or "all"
    found.append(Requirement(**parts | {"number": number, "subset": subset}))
    _check_metric(found[-1], also)
    place = match.end()
  return found


def _check_metric(term: Requirement, also: Container[str]) -> None:
  name, of_class = term.metric, term.metric in specs.RATES
  metric, expected, fix = specs.describe(name), "", ""
  if not term.compare and term.text not in _WORDS:
    expected, fix = _FORM, registry.suggest_near(name, _WORDS)
  elif of_class != bool(term.label) or (of_class and term.subset != "all"):
    expected = f"{', '.join(specs.RATES)} with a [CLASS], of the subset all"
  elif term.compare and not (of_class or metric.definition or name in also):
    expected, fix = "a known metric", registry.near_names(name, specs.METRICS)
  elif (of_class or metric.unit == specs.RATE) and not 0 <= term.number <= 1:
    expected = "a fraction in [0, 1]"
  if expected:
    raise errors.InputError("--require", expected, repr(term.text), fix)


def check_run(workdir: str, required: Sequence[Requirement]) -> dict[str, Any]:
  """Returns what `judge` finds for a finished run, and writes check.json."""
  if not required:
    return {"holds": True, "requirements": []}
  folder = paths.reach(workdir, "--workdir")
  found = judge(inputs.read(folder), required)
  writers.write_json(folder / run_files.CHECK, found)
  return found


def end(found: dict[str, Any], shown: bool = True) -> int:
  """Prints a line for each failure of a check; returns the exit code."""
  for row in found["requirements"] if shown else ():
    place = f" on {row['dataset']}/{row['subset']}" if row["dataset"] else ""
    if not row["holds"]:
      line = f"check: {row['requirement']}{place}: {row['reason']}"
      print(texts.printable(line))
  return errors.EXIT_DONE if found["holds"] else errors.EXIT_CHECK


def list_results(run: inputs.Run) -> list[dict[str, Any]]:
  """Returns results and rates of classes. Raises InputError: no results."""
  expected = f"the folder of a finished run, with {run_files.RESULTS}"
  errors.check(run.results is not None, "RUN", expected, run.workdir)
  results = run_files.read_json(run.workdir / run_files.RESULTS)
  found = [
    (*entries.split_key(key), entry["value"], None, entry["definition"], "")
    for key, entry in results.items()
  ]
  for one, rate in itertools.product(run.datasets, specs.RATES):
    for row in one.classes:
      why = f"undefined: {row.n} examples, {row.predicted} predictions"
      name, index = row.class_name, str(row.class_index)
      found.append((one.key, "all", rate, getattr(row, rate), name, why, index))
  return [dict(zip(_FIELDS, row, strict=True)) for row in found]


def judge(run: inputs.Run, required: Sequence[Requirement]) -> dict[str, Any]:
  """Returns the content of check.json."""
  rows, results = [], list_results(run)
  for term in required:
    keys = {row["dataset"] for row in results} - set(run.training)
    keys = {term.dataset} if term.dataset else keys
    axes = re.escape(f"{term.subset}/{term.metric}")
    axes = re.compile(axes if term.compare else _WORDS[term.metric])
    found = [r for r in results if r["dataset"] in keys]
    found = [r for r in found if axes.fullmatch(f"{r['subset']}/{r['metric']}")]
    if not term.compare:  # One will do, a defined one if there is any.
      found = sorted(found, key=lambda row: row["value"] is None)[:1]
    if term.label:  # A number may be the name of a class.
      named = [row for row in found if row["class"] == term.label]
      found = named or [row for row in found if row["index"] == term.label]
    absent = {"metric": term.metric, "reason": "the results do not have it"}
    absent = dict.fromkeys(_FIELDS) | absent
    rows += [_judge(term, **row) for row in found or [absent]]
  return {"holds": all(row["holds"] for row in rows), "requirements": rows}


def _judge(term: Requirement, value, reason, index, **row) -> dict[str, Any]:
  expected = f"{term.compare}{term.number!r}" if term.compare else "defined"
  reason = reason[max(reason.find("undefined: "), 0) :]
  holds = value is not None
  if holds and term.compare:
    holds = getattr(operator, _OPERATORS[term.compare])(value, term.number)
    reason = f"{value!r} is not {expected}"
  row |= {"requirement": term.text, "expected": expected, "value": value}
  return row | {"holds": holds, "reason": "" if holds else reason}


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --workdir, --require, --bands, --json."""
  given = {"flag_values": flag_values}
  flags.DEFINE_string("workdir", None, "Folder of a finished run.", **given)
  define_require_flag(flag_values)
  text = "List what rules of thumb call results, as without --require."
  flags.DEFINE_bool("bands", False, text, **given)
  flags.DEFINE_string("json", None, "File for the result of a check.", **given)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; a first argument is the value of --workdir."""
  return cli.parse_flags(cli.name_argument(argv, "workdir"), REQUIRED)


def main(argv: list[str]) -> int:
  """Prints a table and what does not hold; writes --json."""
  del argv
  values = flags.FLAGS
  run = inputs.read(run_files.reach_finished(values.workdir, "RUN"))
  listed = [row for row in list_results(run) if not row["index"]]
  found = judge(run, parse(values.require, [r["metric"] for r in listed]))
  band = lambda row: bands.find(*map(row.get, _FIELDS[:4]), run.synthetic)
  new = [row for row in listed if row["dataset"] not in run.training]
  banded = [row | {"reason": ""} for row in new if band(row)]
  column = lambda name: table.Column(lambda row: row.get(name), name)
  fraction = lambda x: "" if x is None else formats.significant(x, 6)
  columns = (
    *map(column, ("requirement", "dataset", "subset", "metric", "class")),
    table.number("value", format=fraction),
    *(column("holds"), table.Column(band, "band"), column("reason")),
  )
  rows = found["requirements"] + banded * (values.bands or not values.require)
  shown = table.Table(str(run.workdir), columns, rows).without_empty()
  print(shown.text() if rows else "no result has a band")
  if values.json:
    writers.write_output("--json", values.json, writers.format_json(found))
  return end(found, shown=False)  # The table has the failures.


if __name__ == "__main__":
  commands.start("check")
