"""Compares two benchmark runs row by row; exits with 3 on a regression.

imgbench bench compare runs/bench_before runs/bench_after

A is the base, B is compared with it. Each row of both gets the ratio of its
speeds, B over A, an interval over processes and a verdict. A regression is a
row whose whole interval is past the tolerance on the slow side, or one that
succeeded in A and failed in B. Baselines of other frameworks and
microbenchmarks are shown, but do not count.

The speed of a machine drifts from minute to minute, which intervals over
processes of one session do not cover. To judge a change of the code,

imgbench bench compare --paired=COMMIT --config=configs/bench.py:quick

measures both checkouts, alternating process by process, so that drift affects
both.

Exit codes: 0 no regression; 3 a regression, a row that B lacks
(--allow_missing accepts it) or, with --strict, a row whose interval does not
exclude a regression; 2 bad input; 1 if none that counts could be compared. In a
GitHub workflow each of these rows is an annotation.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import os
import pathlib
import tempfile
from typing import Any

from absl import flags
import jax

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import texts
from imgbench import writers
from imgbench.bench import comparison
from imgbench.bench import row_text
from imgbench.bench import rows
from imgbench.bench import summaries
from imgbench.tables import formats
from imgbench.tables import table

_HEAD = ("row", "A", "B", "B / A", "interval", "verdict")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the program."""
  cli.define_config_flag(flag_values)
  flags.DEFINE_string(
    "paired",
    "",
    "Commit to measure as A next to this checkout as B; needs --config.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "out",
    "",
    "With --paired, folder for the rows of both; empty: not kept.",
    flag_values=flag_values,
  )
  flags.DEFINE_float(
    "tolerance",
    None,
    "How much slower a row may be: 0.05 accepts speeds down to 1 / 1.05."
    " Default: 0.15 if a run was on a CPU, else 0.05.",
    lower_bound=0.0,
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    "quantity",
    summaries.THROUGHPUT,
    summaries.QUANTITIES,
    "Throughput waits once after many steps, latency for each step.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "allow_missing",
    False,
    "Accept that B lacks rows of A.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "strict",
    False,
    "Fail for rows whose interval does not exclude a regression.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "json", "", "File for the verdicts; empty: none.", flag_values=flag_values
  )


def compare_folders(
  paths: Sequence[str], tolerance: float | None, quantity: str
) -> tuple[comparison.Report, list[rows.RowFolder]]:
  """Returns the comparison of folders A and B, and both as read."""
  folders = [rows.read_folder(pathlib.Path(path)) for path in paths]
  if tolerance is None:
    platforms = [f.environment.get("platform", "") for f in folders]
    tolerance = comparison.choose_tolerance(platforms)
  found = [folder.rows for folder in folders]
  return comparison.compare(*found, tolerance, quantity), folders


def format_report(
  report: comparison.Report, folders: Sequence[rows.RowFolder]
) -> str:
  """Returns the report as a table with notes."""
  lines = [
    f"{name}: {folder.path}" for name, folder in zip("AB", folders, strict=True)
  ]
  lines += row_text.list_differences(*(f.environment for f in folders))
  cells = functools.partial(_format_cells, report=report)
  columns = [table.Column(i, h, 0 < i < 5) for i, h in enumerate(_HEAD)]
  found = table.Table("", columns, list(map(cells, report.comparisons)))
  return "\n".join([*lines, "", *found.lines(), "", *_list_notes(report)])


def to_json(report: comparison.Report) -> dict[str, Any]:
  """Returns the verdicts for JSON."""
  return {
    "tolerance": report.tolerance,
    "quantity": report.quantity,
    "regressions": len(report.regressions),
    "missing": len(report.missing),
    "inconclusive": len(report.inconclusive),
    "comparisons": [
      {
        "key": dataclasses.asdict(c.key),
        "verdict": c.verdict,
        "gates": c.gates,
        "is_regression": c.is_regression,
        "inconclusive": c.inconclusive,
        "past_tolerance": c.past,
        "ratio": c.ratio,
        "interval": c.interval and c.interval._asdict(),
        "paired": c.paired,
        "reason": c.reason,
      }
      for c in report.comparisons
    ],
    "only_a": [dataclasses.asdict(key) for key in report.only_before],
    "only_b": [dataclasses.asdict(key) for key in report.only_after],
  }


def _format_cells(
  found: comparison.Comparison, report: comparison.Report
) -> tuple[str, ...]:
  verdict = describe_verdict(found, report.tolerance)
  ratio = interval = formats.DASH
  if found.ratio is not None:
    ratio = formats.ratio(found.ratio)
    bounds = (found.interval.low, found.interval.high)
    interval = f"[{', '.join(map(formats.ratio, bounds))}]"
  speeds = [
    row_text.format_compared(row, report.quantity)
    for row in (found.before, found.after)
  ]
  return found.key.text(), *speeds, ratio, interval, verdict


def describe_verdict(found: comparison.Comparison, tolerance: float) -> str:
  """Returns the verdict on a row in words.

  "slower by more than 15%": the whole interval is below 1 / 1.15; "slower,
  within 15%": the whole interval is between that and 1; "slower, perhaps by
  more than 15%": neither.
  """
  verdict, limit = found.verdict, formats.short_percent(tolerance)
  if verdict in (comparison.SLOWER, comparison.FASTER):
    ends = (found.interval.low * (1 + tolerance), found.interval.high)
    within = ends[0] >= 1 and ends[1] <= 1 + tolerance
    verdict += (
      f" by more than {limit}"
      if found.past
      else f", within {limit}"
      if within
      else f", perhaps by more than {limit}"
    )
  elif found.inconclusive and found.interval is not None:
    verdict += f", perhaps slower by more than {limit}"
  if found.is_regression:
    verdict = f"REGRESSION: {verdict}"
  return f"{verdict} ({found.reason})" if found.reason else verdict


def _list_notes(report: comparison.Report) -> list[str]:
  tested = [c for c in report.comparisons if c.interval is not None]
  notes = []
  if tested:
    levels = [c.interval.coverage for c in tested]
    bounds = (min(levels), max(levels))
    ends = [f"{formats.significant(100 * v)}%" for v in bounds]
    shown = " to ".join(dict.fromkeys(ends))
    how = "pairs of processes" if tested[0].paired else "processes"
    if tested[0].key.task in rows.QUANTITIES:
      how = "rounds in one process"
    notes.append(
      f"Ratios are of {report.quantity}, all numbers geometric means over"
      f" {how}; above 1 B is faster. Each interval covers {shown}, so that the"
      f" chance of any false verdict in {len(tested)}"
      f" row{'s' * (len(tested) > 1)} is 5% (Holm)."
    )
    if not tested[0].paired:
      notes.append(
        "The runs were not paired: the machine's drift between them is in the"
        " ratios, not in the intervals (--paired=COMMIT removes it)."
      )
  inconclusive = len(report.inconclusive)
  if inconclusive:
    notes.append(
      f"{inconclusive} row{'s' * (inconclusive != 1)} cannot exclude a"
      " regression (--strict fails for them). More processes narrow an"
      " interval."
    )
  for name, keys in (("A", report.only_before), ("B", report.only_after)):
    if keys:
      shown = "; ".join(key.text() for key in keys[:5])
      more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
      notes.append(f"Only in {name}: {shown}{more}.")
  count = len(report.regressions)
  notes.append(
    f"{count} regression{'s' * (count != 1)} in {len(report.comparisons)}"
    f" row{'s' * (len(report.comparisons) != 1)} at a tolerance of"
    f" {report.tolerance:g}."
  )
  return notes


def find_failures(
  report: comparison.Report, allow_missing: bool, strict: bool
) -> list[tuple[rows.Key, str]]:
  """Returns the rows that fail the gate, and why.

  Args:
    report: of both runs.
    allow_missing: accept that B lacks rows.
    strict: fail for inconclusive rows.
  """
  failed = [*report.regressions, *(report.inconclusive if strict else ())]
  found = [(c.key, describe_verdict(c, report.tolerance)) for c in failed]
  missing = () if allow_missing else report.missing
  return found + [(key, "missing in B") for key in missing]


def main(argv: list[str]) -> int:
  """Compares, prints, and returns the exit code."""
  values = flags.FLAGS
  with contextlib.ExitStack() as stack:
    paths = argv[1:]
    if values.paired:
      paths = _measure(values, stack)
    elif len(paths) != 2:
      expected = "two folders, A and B"
      raise errors.InputError("arguments", expected, len(paths), "see --help")
    elif values.out or values.config is not None:
      expected = "a commit beside --out or --config"
      raise errors.InputError("--paired", expected, "none")
    report, folders = compare_folders(paths, values.tolerance, values.quantity)
    print(texts.printable_lines(format_report(report, folders)))
    if values.json:
      text = writers.format_json(to_json(report))
      writers.write_output("--json", values.json, text)
    failures = find_failures(report, values.allow_missing, values.strict)
    for key, verdict in failures:
      line = texts.printable(f"{key.text()}: {verdict}")
      print(f"gate: {line}")
      if os.environ.get("GITHUB_ACTIONS") == "true":
        print(f"::error title=imgbench bench compare::{line}")
    if failures:
      return errors.EXIT_CHECK
    if all(c.ratio is None for c in report.comparisons if c.gates):
      raise errors.RunError("no row of A and B that counts could be compared")
  return errors.EXIT_DONE


def _measure(values, stack: contextlib.ExitStack) -> Sequence[pathlib.Path]:
  """Measures a commit and this checkout and returns their folders."""
  from imgbench.bench import paired

  cli.show_log()
  # The accelerators are for the processes that measure.
  jax.config.update("jax_platforms", "cpu")
  out = values.out or stack.enter_context(tempfile.TemporaryDirectory())
  return paired.measure(values.config, values.paired, pathlib.Path(out))


def parse_flags(argv: list[str]) -> list[str]:
  """Returns the program's name and the folders. Raises InputError."""
  if any(arg.lstrip("-").partition("=")[0] == "paired" for arg in argv[1:]):
    return cli.parse_flags(argv, required=("paired", "config"))
  return cli.parse_flags(argv, required=(), positional=True)


if __name__ == "__main__":
  commands.start("bench compare")
