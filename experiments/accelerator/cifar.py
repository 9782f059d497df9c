"""Trains CIFAR-10 to an accuracy, in turns with airbench94_muon.

imgbench accelerator cifar --out=runs/cifar --data_dir=DIR \\
    --airbench=cifar10-airbench/airbench94_muon.py

Both use the same pixels. Our process and the baseline's each compile in a first
run that does not count and then train one seed after the other, taking turns.
Their clocks cover whitening, training and the final evaluation; set-up and
compiling only count towards --budget_s. The same command resumes a stopped run.
At the end, even if the budget or SIGTERM ends it early, rows.jsonl has a row
for each side.
"""

from collections.abc import Sequence
import hashlib
import math
import pathlib
import signal
import statistics
from typing import Any

from absl import flags

import imgbench
from imgbench import commands
from imgbench import errors
from imgbench import timing
from imgbench.bench import exchange
from imgbench.bench import medians
from imgbench.bench import processes
from imgbench.bench import rows
from imgbench.bench import time_to_accuracy
from imgbench.experiments.accelerator import airbench
from imgbench.experiments.accelerator import turns

OURS, BASELINE = "imgbench", airbench.NAME
WARM_UP_SEED = 2**30  # No seed of a counted run.
# Both sides with --tiny take seconds on a CPU, and reach no accuracy.
TINY_SIZES = {"widths": (8, 16, 16), "epochs": 1, "batch_size": 50}
TINY_OVERRIDES = (
  "data.train_split=train[:250]",
  "evaluation.sets.test.split=test[:250]",
  "evaluation.batch_size=250",
  "global_batch_size=50",
  "model.widths=(8, 16, 16)",
  "steps.total=1 epochs",
  "steps.per_dispatch=1",
)
_PACKAGE = "experiments/accelerator"
_ROOT = pathlib.Path(imgbench.__file__).parents[1]
_STOPPED = "ended by SIGTERM"


class Stopped(Exception):
  """SIGTERM was received."""


REQUIRED = ("out",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines all flags of the program."""
  for kind, name, default, about in (
    ("string", "out", None, "Folder of runs.jsonl and rows.jsonl."),
    (
      "string",
      "config",
      "configs/cifar10_fast.py:wide",
      "Config file, with options after a colon.",
    ),
    ("multi_string", "overrides", [], "KEY=VALUE, overrides of the config."),
    ("string", "data_dir", "", "Folder of prepared TFDS data sets."),
    ("string", "metric", "test/top1_accuracy", "SET/METRIC of the target."),
    ("float", "target", 0.94, "Accuracy in (0, 1]."),
    ("integer", "runs", 40, "Runs of each side."),
    ("float", "budget_s", 540.0, "Seconds for all, with compiling."),
    (
      "string",
      "airbench",
      "",
      "Path of airbench94_muon.py of KellerJordan/cifar10-airbench; empty: no"
      " baseline.",
    ),
    (
      "string",
      "airbench_python",
      "",
      "Python with PyTorch; empty: IMGBENCH_PEERS_PYTHON, else this one.",
    ),
    ("bool", "tiny", False, "Tiny networks on a few images."),
  ):
    define = getattr(flags, f"DEFINE_{kind}")
    define(name, default, about, flag_values=flag_values)


def read_settings(values: flags.FlagValues) -> dict[str, Any]:
  """Returns the settings that all runs of a row share.

  Raises:
    InputError: a flag out of range, or a missing config or script.
  """
  for name, good, expected in (
    ("target", 0 < values.target <= 1, "an accuracy in (0, 1]"),
    ("runs", values.runs >= 1, "at least 1"),
    ("budget_s", 0 < values.budget_s < math.inf, "seconds above 0"),
  ):
    if not good:
      raise errors.InputError(f"--{name}", expected, values[name].value)
  overrides = [f"data.data_dir={values.data_dir}"] if values.data_dir else []
  overrides += [*(TINY_OVERRIDES if values.tiny else ()), *values.overrides]
  config = time_to_accuracy.load_config(values.config, 0, overrides)
  time_to_accuracy.check_metric(config, values.metric)
  digest = ""
  if values.airbench:
    try:
      data = pathlib.Path(values.airbench).read_bytes()
    except OSError as error:
      raise errors.InputError("--airbench", "a script", error) from error
    digest = hashlib.sha256(data).hexdigest()
  return {
    "config": values.config,
    "overrides": overrides,
    "metric": values.metric,
    "target": values.target,
    "tiny": values.tiny,
    "airbench_sha256": digest,
  }


def build_sides(
  values: flags.FlagValues, common: dict[str, Any]
) -> tuple[turns.Side, turns.Side]:
  """Returns both sides, ours first, ready to be started."""
  ours = turns.Side(
    OURS,
    {"framework": OURS, "name": values.config},
    processes.Launcher(
      module="imgbench.experiments.accelerator.cifar_worker",
      root=_ROOT,
      # The baseline needs memory of the same GPU.
      variables={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
    ),
    {**common, "warm_up_seed": WARM_UP_SEED},
  )
  # The only files of this project that its Python finds.
  files = [f"{_PACKAGE}/{name}.py" for name in ("__init__", "airbench")]
  baseline = turns.Side(
    BASELINE,
    {"framework": "torch-compile", "name": BASELINE},
    processes.Launcher(
      module="imgbench.experiments.accelerator.airbench",
      python=processes.find_baseline_python(values.airbench_python),
      root=_ROOT,
      files=(*processes.BASELINE_FILES, *files),
    ),
    {
      "script": str(pathlib.Path(values.airbench).resolve()),
      "sizes": TINY_SIZES if values.tiny else {},
    },
  )
  if not values.airbench:
    baseline.status = exchange.REFUSED
    baseline.message = "skipped: --airbench names no script"
  return ours, baseline


def format_summary(found: Sequence[rows.Row]) -> str:
  """Returns a line for each of two rows, and one for their ratio."""
  return "\n".join([*map(_format_row, found), _format_ratio(*found)])


def _format_row(row: rows.Row) -> str:
  parts = []
  if row.raw:
    seconds = [process.seconds for process in row.raw]
    accuracies = [process.final_accuracy for process in row.raw]
    n, mean = len(seconds), statistics.fmean(accuracies)
    error = ""
    if n > 1:
      error = f" (standard error {statistics.stdev(accuracies) / n**0.5:.4f})"
    hits = sum(process.seconds_to_target is not None for process in row.raw)
    parts = [
      f"n={n}",
      f"median {statistics.median(seconds):.3f} s{_format_bounds(seconds)}",
      f"mean accuracy {mean:.4f}{error}",
      f"{hits} of {n} reached {row.key.target:g}",
    ]
  if row.status != rows.OK:
    parts.append(f"{row.status}: {row.message}")
  return f"{row.key.name}: {', '.join(parts)}"


def _format_ratio(ours: rows.Row, theirs: rows.Row) -> str:
  """Returns the ratio of seconds over pairs of consecutive runs as text."""
  partners = {process.pair: process.seconds for process in theirs.raw}
  pairs = [
    (p.seconds, partners[p.pair]) for p in ours.raw if p.pair in partners
  ]
  if not pairs:
    return "ratio: no interleaved pairs"
  above, below = (statistics.median(side) for side in zip(*pairs, strict=True))
  ratios = [a / b for a, b in pairs]
  return (
    f"{ours.key.framework} / {theirs.key.name}: ratio of medians"
    f" {above / below:.3f}, median of {len(pairs)} pairs' ratios"
    f" {statistics.median(ratios):.3f}{_format_bounds(ratios)}"
  )


def _format_bounds(values: Sequence[float]) -> str:
  """Returns the interval of the median as text; "" for too few values."""
  bounds = medians.interval(values)
  return f" [{bounds.low:.3f}, {bounds.high:.3f}]" if bounds else ""


def measure(values: flags.FlagValues) -> None:
  """Does the runs, writes the rows and prints the summary.

  Raises:
    InputError: bad flags, config or data.
    RunError: our side failed, or SIGTERM; rows are written before.
    Preempted: the budget was spent before the baseline's first run.
  """
  deadline = timing.clock() + values.budget_s
  common = read_settings(values)
  ours, baseline = build_sides(values, common)
  measured = turns.Turns(pathlib.Path(values.out), common, ours, baseline)
  before = signal.signal(signal.SIGTERM, _stop)
  try:
    early = measured.run(values.runs, deadline)
  except Stopped:
    early = _STOPPED
  finally:
    signal.signal(signal.SIGTERM, before)
  print(format_summary(measured.write_rows()))
  if ours.status == exchange.REFUSED:
    raise errors.RunError(ours.message)
  if early:
    done = {s.name: len(measured.list_runs(s)) for s in (ours, baseline)}
    counts = ", ".join(f"{count} of {name}" for name, count in done.items())
    early += f"; runs done of {values.runs}: {counts}"
    if ours.failed or early.startswith(_STOPPED) or not done[OURS]:
      raise errors.RunError(f"{early}; the same command continues")
    if baseline.status == exchange.TIMEOUT and not done[BASELINE]:
      raise errors.Preempted(f"{early}; the same command continues")
    print(early)


def _stop(number, frame) -> None:
  del frame
  signal.signal(number, signal.SIG_DFL)  # A second one kills.
  raise Stopped


def main(argv: list[str]) -> None:
  """Runs the comparison."""
  del argv
  measure(flags.FLAGS)


if __name__ == "__main__":
  commands.start("accelerator cifar")
