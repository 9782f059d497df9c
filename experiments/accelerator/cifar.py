"""CIFAR-10 to an accuracy, in turns with airbench94_muon on the same pixels.

python -m experiments.accelerator.cifar --out=runs/cifar --data_dir=DIR \
    --airbench=cifar10-airbench/airbench94_muon.py

Two processes, ours and the baseline's, each compile by a first run that does
not count and then train seed after seed, one of the two at a time: A B, B A.
Their clocks cover whitening, training and the final evaluation. Set-up and
compiling are within --budget_s, not within the clock.

runs.jsonl has a line for each run as soon as it ends, and the same command
continues with the runs that are missing. At the end, also where the budget or
SIGTERM brings it early, rows.jsonl has a row for each side. The baseline's
script is named by the user, see `airbench`.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import signal
import statistics
import tempfile
from typing import Any
import uuid

from absl import app
from absl import flags

from experiments.accelerator import airbench
import imgbench
from imgbench import cli
from imgbench import errors
from imgbench import timing
from imgbench import writers
from imgbench.bench import exchange
from imgbench.bench import launch
from imgbench.bench import medians
from imgbench.bench import rows
from imgbench.bench import summaries
from imgbench.bench import time_to_accuracy

OURS, BASELINE = "imgbench", airbench.NAME
RUNS = "runs.jsonl"
WARM_UP_SEED = 2**30  # No seed of a counted run.
_PACKAGE = "experiments/accelerator"
_ROOT = pathlib.Path(imgbench.__file__).parents[1]
# Of both sides with --tiny: seconds on a CPU, and no accuracy.
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


class Stopped(Exception):
  """SIGTERM came."""


@dataclasses.dataclass
class Side:
  """One of the two that are compared.

  Attributes:
    name: OURS or BASELINE.
    key: fields of `rows.Key`, as far as they are known.
    status, message: as of a row; not OK: it does no more runs.
    launcher: starts its process.
    process: that answers, once it is started.
    run_s: seconds from request to result of this call's runs.
  """

  name: str
  key: dict[str, Any]
  status: str = exchange.OK
  message: str = ""
  launcher: launch.Launcher | None = None
  process: launch.Conversation | None = None
  run_s: list[float] = dataclasses.field(default_factory=list)

  def ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """Returns a result, and takes over what went wrong."""
    result = self.process.ask(request, max(timeout_s, 0.1))
    self.status, self.message = result["status"], result["message"]
    return result


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of `settings`, --out, --runs and --budget_s."""
  text = lambda name, default, about: flags.DEFINE_string(
    name, default, about, flag_values=flag_values
  )
  text("out", None, "Folder of runs.jsonl and rows.jsonl.")
  text(
    "config",
    "configs/cifar10_fast.py:wide",
    "Config file with options behind a colon.",
  )
  flags.DEFINE_multi_string(
    "overrides", [], "KEY=VALUE of the config.", flag_values=flag_values
  )
  text("data_dir", "", "Folder of prepared TFDS data sets.")
  text("metric", "test/top1_accuracy", "SET/METRIC that is to reach it.")
  flags.DEFINE_float(
    "target", 0.94, "Accuracy in (0, 1].", flag_values=flag_values
  )
  flags.DEFINE_integer("runs", 40, "Of each side.", flag_values=flag_values)
  flags.DEFINE_float(
    "budget_s",
    540.0,
    "Seconds for all of it, set-up and compiling too.",
    flag_values=flag_values,
  )
  text("airbench", "", "Path of airbench94_muon.py; empty: no baseline.")
  text(
    "airbench_python",
    "",
    "Python with PyTorch; empty: IMGBENCH_PEERS_PYTHON, else this one.",
  )
  flags.DEFINE_bool(
    "tiny", False, "Tiny networks and data.", flag_values=flag_values
  )


def settings(values: flags.FlagValues) -> dict[str, Any]:
  """Returns what runs must have in common to be of one row.

  Raises:
    InputError: a flag out of range, a config or script that is not there.
  """
  for name, good, expected in (
    ("target", 0 < values.target <= 1, "an accuracy in (0, 1]"),
    ("runs", values.runs >= 1, "at least 1"),
    ("budget_s", 0 < values.budget_s < math.inf, "seconds above 0"),
  ):
    if not good:
      raise errors.InputError(
        f"--{name}: expected {expected}, got {values[name].value}"
      )
  overrides = [f"data.data_dir={values.data_dir}"] if values.data_dir else []
  overrides += [*(TINY_OVERRIDES if values.tiny else ()), *values.overrides]
  config = time_to_accuracy.load_config(values.config, 0, overrides)
  time_to_accuracy.check_metric(config, values.metric)
  digest = ""
  if values.airbench:
    try:
      data = pathlib.Path(values.airbench).read_bytes()
    except OSError as error:
      raise errors.InputError(f"--airbench: {error}") from error
    digest = hashlib.sha256(data).hexdigest()
  return {
    "config": values.config,
    "overrides": overrides,
    "metric": values.metric,
    "target": values.target,
    "tiny": values.tiny,
    "airbench_sha256": digest,
  }


class Measurement:
  """The runs of a folder.

  Args:
    folder: made if it is not there.
    common: of `settings`.
    sides: ours first; the baseline may have a status that is not OK.
    clock: seconds.

  Raises:
    InputError: the folder has runs of other settings.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    common: Mapping[str, Any],
    sides: Sequence[Side],
    clock: Callable[[], float] = timing.clock,
  ):
    folder.mkdir(parents=True, exist_ok=True)
    self.folder, self._common, self.sides = folder, dict(common), sides
    self._clock = clock
    self._session = uuid.uuid4().hex[:8]
    path = folder / rows.CONFIG
    # Not what a tuple was before it was JSON.
    wanted = json.loads(json.dumps(self._common))
    if path.exists() and json.loads(path.read_text()) != wanted:
      raise errors.InputError(
        f"--out={folder}: has runs of other settings, see {path}; give another"
        " folder"
      )
    writers.write_json(path, self._common)
    self.records = writers.read_lines(folder / RUNS)
    for side in sides:
      side.key = {**side.key, "target": common["target"]}
      for record in self.of(side):
        side.key |= record["key"]

  def of(self, side: Side) -> list[dict[str, Any]]:
    """Returns the records of a side."""
    return [r for r in self.records if r["side"] == side.name]

  def missing(self, side: Side, runs: int) -> list[int]:
    """Returns the seeds that a side has no run of."""
    done = {record["seed"] for record in self.of(side)}
    return [seed for seed in range(runs) if seed not in done]

  def run(self, runs: int, deadline: float, requests: Mapping[str, Any]) -> str:
    """Does the runs that are missing, as long as there is time.

    Args:
      runs: of each side.
      deadline: of the clock.
      requests: by side, what "begin" is given.

    Returns:
      Why it ended early, or "".
    """
    able = [side for side in self.sides if side.status == exchange.OK]
    if not any(self.missing(side, runs) for side in able):
      return ""
    with contextlib.ExitStack() as stack:
      data = stack.enter_context(
        tempfile.TemporaryDirectory(prefix="imgbench-", dir=self.folder)
      )
      shared = {"data": str(pathlib.Path(data).resolve() / "pixels.npz")}
      environment = {}
      for side in able:
        if side.name != OURS and not self.missing(side, runs):
          continue
        side.process = stack.enter_context(side.launcher.converse())
        request = {"kind": "begin", **requests[side.name], **shared}
        result = side.ask(request, deadline - self._clock())
        if side.status == exchange.OK:
          side.key |= result["key"]
          environment[side.name] = result["environment"]
          if side.name == OURS:
            shared["platform"] = platform = result["platform"]
            shared["compile"] = platform == "gpu"
          print(f"{side.name}: ready after {result['warm_up_s']:.1f} s")
        elif side.name == OURS:
          return self._explain(side)
      ours = environment.pop(OURS)
      writers.write_json(
        self.folder / rows.ENVIRONMENT, {**ours, "baselines": environment}
      )
      return self._take_turns(runs, deadline)

  def _take_turns(self, runs: int, deadline: float) -> str:
    for seed in range(runs):
      for side in self.sides if seed % 2 == 0 else self.sides[::-1]:
        if side.status != exchange.OK or seed not in self.missing(side, runs):
          continue
        expected_s = max(side.run_s or self.sides[0].run_s, default=0.0)
        started = self._clock()
        if started + expected_s > deadline:
          return "the budget was used up"
        result = side.ask({"kind": "run", "seed": seed}, deadline - started)
        if side.status == exchange.OK:
          side.run_s.append(self._clock() - started)
          self._append(side, seed, result)
        elif side.status == exchange.TIMEOUT:
          return "the budget was used up"
        elif side.name == OURS:
          return self._explain(side)
    return ""

  def _explain(self, side: Side) -> str:
    return f"{side.name}: {side.status}: {side.message}"

  def _append(self, side: Side, seed: int, result: Mapping[str, Any]) -> None:
    """Adds a run to runs.jsonl, safe on disk on return."""
    record = {
      "side": side.name,
      "seed": seed,
      **{k: v for k, v in result.items() if k not in ("status", "message")},
      "wall_s": side.run_s[-1],
      "pair": f"{self._session}/{seed}",
      "key": side.key,
    }
    self.records.append(record)
    line = json.dumps(record, allow_nan=False).encode() + b"\n"
    with (self.folder / RUNS).open("a+b") as file:
      file.seek(0)
      # What a killed process left of a line.
      file.truncate(file.read().rfind(b"\n") + 1)
      file.write(line)
      file.flush()
      os.fsync(file.fileno())

  def write_rows(self) -> list[rows.Row]:
    """Writes rows.jsonl, a row for each side, and returns them."""
    found = [self._row(side) for side in self.sides]
    lines = [json.dumps(row.as_json(), allow_nan=False) for row in found]
    writers.write_atomically(self.folder / rows.ROWS, "\n".join([*lines, ""]))
    rows.write_csv(self.folder, found)
    return found

  def _row(self, side: Side) -> rows.Row:
    target = self._common["target"]
    key = rows.Key(task=rows.TIME_TO_ACCURACY, **side.key)
    made = [
      rows.Process(
        seed=r["seed"],
        seconds=r["seconds"],
        seconds_to_target=r["seconds"] if r["accuracy"] >= target else None,
        final_accuracy=r["accuracy"],
        pair=r["pair"],
      )
      for r in sorted(self.of(side), key=lambda r: r["seed"])
    ]
    about = {}
    if (self.folder / rows.ENVIRONMENT).exists():
      about["environment"] = rows.environment_digest(self.folder)
    ended = side.status == exchange.TIMEOUT and made
    if side.status == exchange.OK and made or ended:
      short = [p.seed for p in made if p.seconds_to_target is None]
      message = f"seeds that did not reach it: {short}" if short else ""
      return summaries.row(key, made, message=message, **about)
    status = side.status if side.status != exchange.OK else exchange.TIMEOUT
    return rows.Row(
      key,
      status,
      side.message or "the budget was used up before its first run",
      processes=len(made),
      raw=tuple(made),
      **about,
    )


def summary(found: Sequence[rows.Row], target: float) -> str:
  """Returns lines about each side, and about their ratio."""
  return "\n".join([*(_side_text(row, target) for row in found), _ratio(found)])


def _side_text(row: rows.Row, target: float) -> str:
  name = row.key.name
  if not row.raw:
    return f"{name}: no runs, {row.status}: {row.message}"
  seconds = [process.seconds for process in row.raw]
  accuracies = [process.final_accuracy for process in row.raw]
  n = len(seconds)
  text = f"{name}: n={n}, median {statistics.median(seconds):.3f} s"
  bounds = medians.interval(seconds)
  if bounds:
    text += f" [{bounds.low:.3f}, {bounds.high:.3f}]"
  text += f", mean accuracy {statistics.fmean(accuracies):.4f}"
  if n > 1:
    text += f" (standard error {statistics.stdev(accuracies) / n**0.5:.4f})"
  hits = sum(a >= target for a in accuracies)
  text += f", {hits} of {n} reached {target:g}"
  failed = f"; {row.status}: {row.message}" if row.status != rows.OK else ""
  return text + failed


def _ratio(found: Sequence[rows.Row]) -> str:
  ours, theirs = ({p.pair: p.seconds for p in row.raw} for row in found)
  pairs = sorted(ours.keys() & theirs.keys())
  if not pairs:
    return "ratio: no interleaved pairs"
  middle = lambda seconds: statistics.median(seconds[pair] for pair in pairs)
  ratios = [ours[pair] / theirs[pair] for pair in pairs]
  ratio = middle(ours) / middle(theirs)
  text = (
    f"ratio of medians, {OURS} / {BASELINE}: {ratio:.3f}; "
    f"median of {len(pairs)} pairs: {statistics.median(ratios):.3f}"
  )
  bounds = medians.interval(ratios)
  if bounds:
    text += f" [{bounds.low:.3f}, {bounds.high:.3f}]"
  return text


def build_sides(values: flags.FlagValues) -> list[Side]:
  """Returns both sides, ready to be started."""
  ours = Side(
    OURS,
    {"framework": OURS, "name": values.config},
    launcher=launch.Launcher(
      module="experiments.accelerator.cifar_worker",
      root=_ROOT,
      # The baseline needs memory of the same GPU.
      variables={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
    ),
  )
  files = [f"{_PACKAGE}/{name}.py" for name in ("__init__", "airbench")]
  baseline = Side(
    BASELINE,
    {"framework": "torch-compile", "name": BASELINE},
    launcher=launch.Launcher(
      module="experiments.accelerator.airbench",
      python=launch.peer_python(values.airbench_python),
      root=_ROOT,
      files=(*launch.PEER_FILES, *files),
    ),
  )
  if not values.airbench:
    baseline.status = exchange.REFUSED
    baseline.message = "skipped: --airbench names no script"
  return [ours, baseline]


def measure(values: flags.FlagValues) -> None:
  """Does all of it and prints the summary.

  Raises:
    InputError: bad flags, config or data.
    RunError: our side failed, or SIGTERM came; rows are written before.
  """
  deadline = timing.clock() + values.budget_s
  common = settings(values)
  found = Measurement(pathlib.Path(values.out), common, build_sides(values))
  ours, baseline = found.sides
  requests = {
    OURS: {**common, "warm_up_seed": WARM_UP_SEED},
    BASELINE: {
      "script": str(pathlib.Path(values.airbench).resolve()),
      "sizes": TINY_SIZES if values.tiny else {},
    },
  }
  before = signal.signal(signal.SIGTERM, _stop)
  try:
    early = found.run(values.runs, deadline, requests)
  except Stopped:
    early = "ended by SIGTERM"
  finally:
    signal.signal(signal.SIGTERM, before)
  written = found.write_rows()
  print(summary(written, values.target))
  if ours.status == exchange.REFUSED:
    raise errors.InputError(ours.message)
  counts = [
    f"{len(found.of(s))} of {values.runs} {s.name}" for s in found.sides
  ]
  text = f"{early}; runs done: {', '.join(counts)}"
  failed = ours.status not in (exchange.OK, exchange.TIMEOUT)
  if failed or not found.of(ours) or early == "ended by SIGTERM":
    raise errors.RunError(f"{text}; the same command continues")
  if early:
    print(text)
  if baseline.status not in (exchange.OK, exchange.TIMEOUT):
    print(f"{baseline.name}: {baseline.status}: {baseline.message}")


def _stop(number, frame) -> None:
  del frame
  signal.signal(number, signal.SIG_DFL)
  raise Stopped


def main(argv: list[str]) -> None:
  """Measures what the flags say."""
  del argv
  with cli.one_line_errors():
    measure(flags.FLAGS)


if __name__ == "__main__":
  define_flags(flags.FLAGS)
  app.run(main, flags_parser=lambda argv: cli.parse_flags(argv, ("out",)))
