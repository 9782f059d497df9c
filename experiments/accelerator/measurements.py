"""Collects the numbers of a suite from the files of its stages."""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import pathlib
import statistics
from typing import Any
from xml.etree import ElementTree

from imgbench import peaks
from imgbench.bench import exchange
from imgbench.bench import micro
from imgbench.bench import quantities
from imgbench.bench import rows
from imgbench.bench import summaries
from imgbench.experiments.accelerator import stages
from imgbench.tables import formats
from imgbench.tables import table

SECONDS, SHARE, IMAGES = "s", "share", "images/s"
# Measurement -> bound and goal of the full suite.
GOALS = {
  "metrics in the evaluation step": ("<=", 0.005),
  "train resnet50 over PyTorch": (">=", 1.2),
  "train vit_s16 over PyTorch": (">=", 1.1),
  "train resnet50": (">=", 7950.0),
  "train vit_s16 MFU": (">=", 0.40),
}


@dataclasses.dataclass(frozen=True)
class SuiteNumber:
  """One number of the suite.

  Attributes:
    stage: that measured it.
    name: of the quantity.
    value: in `unit`; None if skipped or failed, with the reason in `note`.
    unit: "s", "share", "ratio", "images/s", or that of a microbenchmark's rate.
    low, high: smallest and largest over processes or rounds.
    n: number of processes, rounds, runs or tests.
    note: for readers.
  """

  stage: str
  name: str
  value: float | None
  unit: str
  low: float | None = None
  high: float | None = None
  n: int | None = None
  note: str = ""


def collect(suite: stages.Suite) -> list[SuiteNumber]:
  """Returns the numbers so far, in the order of the stages."""
  found = rows.read(suite.bench / rows.ROWS)
  return [
    *_read_ceilings(found),
    *_read_tests(suite.work / stages.TESTS),
    *_read_metrics(suite.work / stages.METRICS),
    *_read_networks(found),
    *_read_networks(
      rows.read(suite.bench_cudnn / rows.ROWS), ", attention by cuDNN"
    ),
    *_read_runs(rows.read(suite.cifar / rows.ROWS)),
    *_read_inputs(suite.work),
  ]


def _reduce(stage: str, name: str, values, unit: str, note="") -> SuiteNumber:
  median, bounds = statistics.median(values), (min(values), max(values))
  return SuiteNumber(stage, name, median, unit, *bounds, len(values), note)


def _read_ceilings(found: Sequence[rows.Row]) -> Iterator[SuiteNumber]:
  for row in found:
    if row.key.task != rows.MICRO:
      continue
    name = f"{row.key.name} {row.key.dtype or ''}".strip()
    if row.status != rows.OK:
      yield SuiteNumber("facts", name, None, "", note=_explain(row))
      continue
    rates = [r for r in summaries.list_speeds(row) if r is not None]
    note = ""
    if row.key.name == micro.MATMUL and row.key.dtype == "float32":
      note = f"precision {row.key.matmul_precision}"
    yield _reduce("facts", name, rates, row.rate_unit, note)


def _read_tests(path: pathlib.Path) -> Iterator[SuiteNumber]:
  """Yields the share of passed tests."""
  if not path.exists():
    return
  try:
    suites = ElementTree.parse(path).getroot().iter("testsuite")
    counts = [{k: int(v) for k, v in _read_counts(s)} for s in suites]
  except ElementTree.ParseError:  # The tests were stopped.
    return
  total = lambda name: sum(c.get(name, 0) for c in counts)
  run = total("tests") - total("skipped")
  passed = run - total("failures") - total("errors")
  if run:
    note = f"{passed} of {run}, {total('skipped')} skipped"
    yield SuiteNumber(
      "correctness", "tests passed", passed / run, SHARE, n=run, note=note
    )


def _read_counts(element) -> Iterator[tuple[str, str]]:
  for name in ("tests", "skipped", "failures", "errors"):
    yield name, element.get(name, "0")


def _read_metrics(path: pathlib.Path) -> Iterator[SuiteNumber]:
  if not (path / rows.ROWS).exists():
    return
  found, about = quantities.read(path), rows.read_folder(path).config
  note = f"{about['model']}, batch {about['step_batch']}, {about['step_dtype']}"
  added = [v - 1 for v in found["forward_with_outcomes_over_forward"].values]
  yield _reduce("metrics", "metrics in the evaluation step", added, SHARE, note)
  alone = found["outcomes_alone_over_forward"].values
  yield _reduce("metrics", "metrics alone over the step", alone, SHARE, note)


def _read_networks(
  found: Sequence[rows.Row], suffix: str = ""
) -> Iterator[SuiteNumber]:
  """Yields numbers of networks; their names end in `suffix`."""
  ours = {r.key: r for r in found if r.key.framework == "imgbench"}
  for row in found:
    key = row.key
    if key.task not in rows.IMAGE_TASKS:
      continue
    primary = key.model in stages.MODELS and key.batch == 256
    name = key.text().removesuffix(" imgbench")
    if primary and key.dtype == "bfloat16" and key.devices == 1:
      parts = (key.task, key.model, key.framework.replace("imgbench", ""))
      name = " ".join(filter(None, parts))
    name += suffix
    if row.status != rows.OK:
      yield SuiteNumber("networks", name, None, IMAGES, note=_explain(row))
      continue
    speeds = summaries.list_speeds(row)
    yield _reduce("networks", name, speeds, IMAGES, row.message)
    share = (row.flops_share_of_peak or {}).get(peaks.DATASHEET)
    if share is not None:
      yield SuiteNumber("networks", f"{name} MFU", share, SHARE, n=len(speeds))
    mine = ours.get(dataclasses.replace(key, framework="imgbench"))
    if mine is None or mine is row or mine.status != rows.OK:
      continue
    ratios = [
      a / b for a, b in zip(summaries.list_speeds(mine), speeds, strict=False)
    ]
    name = name.removesuffix(f" {key.framework}") + " over PyTorch"
    yield _reduce("networks", name, ratios, "ratio", key.framework)


def _read_runs(found: Sequence[rows.Row]) -> Iterator[SuiteNumber]:
  for row in found:
    name = row.key.name or ""
    if row.status != rows.OK:
      yield SuiteNumber("cifar", name, None, SECONDS, note=_explain(row))
      continue
    seconds = [process.seconds for process in row.raw]
    accuracy = statistics.fmean(p.final_accuracy for p in row.raw)
    reached = sum(p.seconds_to_target is not None for p in row.raw)
    note = (
      f"mean accuracy {100 * accuracy:.2f}% with test-time augmentation,"
      f" {reached} of {len(seconds)} at {formats.short_percent(row.key.target)}"
    )
    yield _reduce("cifar", name, seconds, SECONDS, note)
  pairs = [
    theirs.seconds / mine.seconds
    for row in found[:1]
    for mine in row.raw
    for other in found[1:]
    for theirs in other.raw
    if mine.pair == theirs.pair is not None
  ]
  if pairs:
    name = "CIFAR-10, baseline's time over ours"
    yield _reduce("cifar", name, pairs, "ratio", found[1].key.name)


def _read_inputs(work: pathlib.Path) -> Iterator[SuiteNumber]:
  for name in ("cifar10", "imagenet"):
    path = work / stages.INPUT.format(name=name)
    if not (path / rows.ROWS).exists():
      continue
    found, about = quantities.read(path), rows.read_folder(path).config
    note = f"{about['model']}, batch {about['global_batch_size']}"
    title = f"{name}: share of time outside the step"
    values = found["share_outside_step_without_checkpoint"].values
    yield _reduce(f"input_{name}", title, values, SHARE, note)


def _explain(row: rows.Row) -> str:
  status = "skipped" if row.status == exchange.REFUSED else row.status
  return f"{status}: {row.message.removeprefix('skipped: ')}"


def meets_goal(name: str, value: float | None) -> bool | None:
  """Returns whether a number meets its goal; None without a goal."""
  if name not in GOALS or value is None:
    return None
  bound, goal = GOALS[name]
  return value <= goal if bound == "<=" else value >= goal


def format_value(value: float, unit: str) -> str:
  """Returns a number as text, e.g. "1.23 TFLOP/s", "7,950", "40.1%"."""
  if unit == SHARE:
    return f"{100 * value:.3g}%"
  return formats.in_unit(value, None if unit == IMAGES else unit)


def build_table(
  caption: str, found: Sequence[dict[str, Any]], goals: bool = True
) -> table.Table:
  """Returns the table of measurements.

  Args:
    caption: of the table.
    found: fields of `SuiteNumber`.
    goals: whether to show goals; a rehearsal has none.
  """
  lines = []
  for one in found:
    name, value, unit = one["name"], one["value"], one["unit"]
    goal = ""
    if goals and name in GOALS:
      bound, wanted = GOALS[name]
      met = {True: ", met", False: ", missed", None: ""}
      goal = (
        f"{bound} {format_value(wanted, unit)}{met[meets_goal(name, value)]}"
      )
    range_ = ""
    if one["low"] is not None and (one["n"] or 0) > 1:
      bounds = [format_value(one[name], unit) for name in ("low", "high")]
      # Calls per second are shown as seconds per call.
      range_ = " to ".join(bounds[:: -1 if unit == micro.CALLS else 1])
    title = name if unit != IMAGES else f"{name}, images/s"
    lines.append(
      (
        *(title, exchange.shorten(one["note"], 80)),
        *("" if value is None else format_value(value, unit), range_),
        *(str(one["n"] or ""), goal),
      )
    )
  header = ("quantity", "note", "median", "range", "n", "goal")
  return table.from_cells(caption, header, tuple(lines), num_left=2)
