"""Lets two processes train in turns, one run at a time: A B, B A.

Each run is written to runs.jsonl when it ends, and a later call resumes with
the missing runs.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import pathlib
from typing import Any
import uuid

from imgbench import errors
from imgbench import timing
from imgbench import writers
from imgbench.bench import exchange
from imgbench.bench import processes
from imgbench.bench import rows
from imgbench.bench import summaries

RUNS = "runs.jsonl"
RESERVE_S = 20.0  # of the budget, for our runs
USED_UP = "the budget was used up"


@dataclasses.dataclass
class Side:
  """One side of the comparison.

  Attributes:
    name: of the side.
    key: fields of `rows.Key`; those from its process are added.
    launcher: starts its process.
    begin: the request that prepares it; its result has "environment", "key",
      "warm_up_s" and "shared", further fields of the other side's request.
    status, message: of the row; if not OK, it does no more runs.
    run_s: seconds from request to result of this call's runs.
  """

  name: str
  key: dict[str, Any]
  launcher: processes.Launcher
  begin: dict[str, Any]
  status: str = exchange.OK
  message: str = ""
  process: processes.Conversation | None = None
  run_s: list[float] = dataclasses.field(default_factory=list)

  @property
  def works(self) -> bool:
    return self.status == exchange.OK

  @property
  def failed(self) -> bool:
    """Returns whether it stopped for a reason other than the budget."""
    return self.status not in (exchange.OK, exchange.TIMEOUT)

  def ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """Returns a result, whose status becomes that of the side."""
    result = self.process.ask(request, max(timeout_s, 0.1))
    self.status, self.message = result["status"], result["message"]
    return result


class Turns:
  """The runs of a folder.

  Args:
    folder: created if missing.
    common: settings that all runs of a row share, including "target".
    ours, baseline: the sides; ours goes first.
    clock: returns seconds.

  Raises:
    InputError: the folder has runs with other settings.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    common: Mapping[str, Any],
    ours: Side,
    baseline: Side,
    clock: Callable[[], float] = timing.clock,
  ):
    folder.mkdir(parents=True, exist_ok=True)
    self._folder, self._target = folder, common["target"]
    self._ours, self._sides, self._clock = ours, (ours, baseline), clock
    path = folder / rows.CONFIG
    wanted = json.loads(json.dumps(common))  # With lists for tuples.
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != wanted:
      expected = "a folder for runs with these settings"
      fix = f"give another, or compare with {path}"
      raise errors.InputError("--out", expected, folder, fix)
    writers.write_json(path, wanted)
    self._session = uuid.uuid4().hex[:8]
    self._records = writers.read_lines(folder / RUNS)
    for side in self._sides:
      for record in self.list_runs(side):
        side.key |= record["key"]

  def list_runs(self, side: Side) -> list[dict[str, Any]]:
    """Returns the records of a side's runs."""
    return [r for r in self._records if r["side"] == side.name]

  def _lacks(self, side: Side, seeds: Sequence[int]) -> bool:
    """Returns whether a working side has seeds left to run."""
    done = {record["seed"] for record in self.list_runs(side)}
    return side.works and not done.issuperset(seeds)

  def run(self, runs: int, deadline: float) -> str:
    """Does the missing runs until the deadline.

    Args:
      runs: number of runs of each side, with seeds from 0.
      deadline: in seconds of the clock; a process that still runs is killed.

    Returns:
      Why it ended early, or "".
    """
    if not any(self._lacks(side, range(runs)) for side in self._sides):
      return ""
    with contextlib.ExitStack() as stack:
      self._begin(runs, deadline, stack)
      return self._take_turns(runs, deadline)

  def _begin(self, runs: int, deadline: float, stack) -> None:
    """Starts the needed processes; ours always, because it has the data."""
    pixels = self._folder.resolve() / "pixels.npz"
    stack.callback(pixels.unlink, missing_ok=True)
    shared = {"data": str(pixels)}
    environments = {}
    for side in self._sides:
      if side is not self._ours and not (
        self._ours.works and self._lacks(side, range(runs))
      ):
        continue
      side.process = stack.enter_context(side.launcher.converse())
      left_s = deadline - self._clock()
      # A baseline that compiles for too long must leave time for our runs.
      reserve_s = min(RESERVE_S, left_s / 2)
      most_s = left_s if side is self._ours else left_s - reserve_s
      result = side.ask({"kind": "begin", **side.begin, **shared}, most_s)
      if side.works:
        side.key |= result["key"]
        shared |= result.get("shared", {})
        environments[side.name] = result["environment"]
        print(f"{side.name}: ready after {result['warm_up_s']:.1f} s")
    if environments:
      ours = environments.pop(self._ours.name)
      document = {**ours, "baselines": environments}
      writers.write_json(self._folder / rows.ENVIRONMENT, document)

  def _take_turns(self, runs: int, deadline: float) -> str:
    for seed in range(runs):
      for side in self._sides if seed % 2 == 0 else self._sides[::-1]:
        if not self._ours.works:
          return USED_UP if not self._ours.failed else self._ours.message
        if not self._lacks(side, [seed]):
          continue
        expected_s = max(side.run_s or self._ours.run_s, default=0.0)
        started = self._clock()
        if started + expected_s > deadline:
          return USED_UP
        result = side.ask({"kind": "run", "seed": seed}, deadline - started)
        if side.works:
          side.run_s.append(self._clock() - started)
          self._append(side, seed, result)
        elif not side.failed:
          return USED_UP
    return ""

  def _append(self, side: Side, seed: int, result: Mapping[str, Any]) -> None:
    """Appends a run to runs.jsonl, safe on disk on return."""
    record = {
      "side": side.name,
      "seed": seed,
      **{k: v for k, v in result.items() if k not in ("status", "message")},
      "wall_s": side.run_s[-1],
      "pair": f"{self._session}/{seed}",
      "key": side.key,
    }
    self._records.append(record)
    rows.append_line(self._folder / RUNS, record)

  def write_rows(self) -> list[rows.Row]:
    """Writes rows.jsonl, a row for each side, and returns them."""
    found = [self._build_row(side) for side in self._sides]
    rows.write(self._folder, found)
    return found

  def _build_row(self, side: Side) -> rows.Row:
    key = rows.Key(rows.TIME_TO_ACCURACY, target=self._target, **side.key)
    hit = lambda record: record["accuracy"] >= self._target
    made = tuple(
      rows.Process(
        seed=record["seed"],
        seconds=record["seconds"],
        seconds_to_target=record["seconds"] if hit(record) else None,
        final_accuracy=record["accuracy"],
        pair=record["pair"],
      )
      for record in sorted(self.list_runs(side), key=lambda r: r["seed"])
    )
    about = {}
    if (self._folder / rows.ENVIRONMENT).exists():
      about["environment"] = rows.environment_digest(self._folder)
    if made and not side.failed:
      short = [p.seed for p in made if p.seconds_to_target is None]
      about["message"] = f"seeds that did not reach it: {short}" * bool(short)
      return summaries.build_row(key, made, **about)
    status = side.status if side.failed else exchange.TIMEOUT
    about["message"] = side.message or f"{USED_UP} before its first run"
    return rows.Row(key, status, processes=len(made), raw=made, **about)
