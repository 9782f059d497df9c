"""Measures points in fresh processes and writes each row when it is done."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import pathlib
import shutil
import statistics
import tempfile
from typing import Any

from absl import logging

from imgbench import cache
from imgbench import environment
from imgbench import plugins
from imgbench import timing
from imgbench.bench import exchange
from imgbench.bench import facts as facts_lib
from imgbench.bench import points as points_lib
from imgbench.bench import rows
from imgbench.bench import run_settings
from imgbench.bench import summaries

TRACES = "traces"
# Failures that may not occur again.
RETRIED = ("refused", "crashed", "timeout")

Launch = Callable[[Mapping[str, Any], float], dict[str, Any]]
# Called with each finished row.
OnRow = Callable[[rows.Row], None]


@dataclasses.dataclass
class Measuring:
  """A point that is being measured.

  Attributes:
    key: which point.
    batch_asked: the batch before it was halved; None: it was not.
    processes: measurements so far.
    last: result of the last process.
    spent_s: seconds of all processes.
    folder: of compiled programs; "": none.
  """

  key: rows.Key
  batch_asked: int | None = None
  processes: list[rows.Process] = dataclasses.field(default_factory=list)
  last: dict[str, Any] = dataclasses.field(default_factory=dict)
  spent_s: float = 0.0
  folder: str = ""

  @property
  def failed(self) -> bool:
    return bool(self.last) and self.last["status"] != rows.OK

  def compute_medians(self) -> list[float]:
    """Returns the median seconds per step of each process."""
    return [statistics.median(p.throughput_s) for p in self.processes]


class Runner:
  """Measures the points that a folder lacks.

  Args:
    folder: of the rows, with environment.json.
    points: what to measure.
    settings: how to measure.
    launchers: framework -> starts a process and returns its result.
    retry: statuses of rows that are measured again.
    on_row: called with each row after it is written.
    clock: returns seconds.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    points: points_lib.Points,
    settings: run_settings.Settings,
    launchers: Mapping[str, Launch],
    *,
    retry: Sequence[str] = (exchange.REFUSED,),
    on_row: OnRow = lambda row: None,
    clock: Callable[[], float] = timing.clock,
  ):
    self._folder = folder
    self._points = points
    self._wanted = set(points.all())
    self._settings = settings
    self._launchers = launchers
    self._retry = tuple(retry)
    self._on_row = on_row
    self._clock = clock
    self._digest = rows.environment_digest(folder)
    self._rows = {row.key: row for row in rows.read(folder / rows.ROWS)}

  @property
  def found(self) -> list[rows.Row]:
    """All rows of the folder so far."""
    return list(self._rows.values())

  def is_done(self, key: rows.Key) -> bool:
    """Returns whether a point needs no further measuring."""
    row = self._rows.get(key)
    if row is None or row.status in self._retry:
      return False
    return self._find_smaller(key) is None

  def run(self) -> None:
    """Measures all points that are not done, microbenchmarks first."""
    missing = lambda keys: [k for k in keys if not self.is_done(k)]
    self._run_micro(missing(self._points.micro))
    for group in self._points.groups:
      self._run_group(missing(group))
    for key in missing(self._points.runs):
      self._run_seeds(key)

  # Microbenchmarks.

  def _run_micro(self, keys: Sequence[rows.Key]) -> None:
    """Measures all in one process each time, without those that failed."""
    sampling = self._settings.sampling
    going = [Measuring(key) for key in keys]
    spent_s = 0.0
    with self._keep_if_stopped(lambda: going):
      while going and not sampling.has_enough(
        [m.compute_medians() for m in going], spent_s
      ):
        request = {
          "kind": "micro",
          "keys": [dataclasses.asdict(m.key) for m in going],
          "plan": dict(self._settings.timing),
        }
        result, seconds = self._launch(points_lib.OURS, request)
        spent_s += seconds
        results = result.get("results", [result] * len(going))
        for one, found in zip(going, results, strict=True):
          self._add(one, found, found)
        going = [m for m in going if not self._write_if_failed(m)]
    for one in going:
      self._write_measured(one)

  @contextlib.contextmanager
  def _keep_if_stopped(
    self, going: Callable[[], Sequence[Measuring]]
  ) -> Iterator[None]:
    """At Ctrl-C, writes rows of points with enough processes."""
    try:
      yield
    except KeyboardInterrupt:
      least = self._settings.sampling.stopped_processes
      for one in going():
        count = len(one.processes)
        if 0 < least <= count and not one.failed:
          self._write_measured(one, f"stopped after {count} processes")
      raise

  # Steps.

  def _run_group(self, keys: Sequence[rows.Key]) -> None:
    """Measures the points in turn, so that drift affects all alike."""
    with contextlib.ExitStack() as stack:
      # A batch that did not fit is not tried again.
      going = [self._find_smaller(key) or Measuring(key) for key in keys]
      going = [self._prepare(one, stack) for one in going]
      stack.enter_context(self._keep_if_stopped(lambda: going))
      while going:
        for one in going:
          self._measure_once(one)
        ended = [m for m in going if self._is_done(m)]
        going = [m for m in going if m not in ended]
        for one in ended:
          smaller = self._finish(one)
          if smaller is not None:
            going.append(self._prepare(smaller, stack))
        for one in ended:
          if not one.failed:
            self._profile(one)

  def _prepare(self, one: Measuring, stack: contextlib.ExitStack) -> Measuring:
    if self._settings.compile_cache:
      one.folder = stack.enter_context(_make_cache_folder())
    return one

  def _measure_once(self, one: Measuring) -> None:
    request = self._build_request(one)
    result, seconds = self._launch(one.key.framework, request)
    one.spent_s += seconds
    self._add(one, result, result.get("process", {}))

  def _build_request(self, one: Measuring, profile: str = "") -> dict[str, Any]:
    return {
      "kind": "step",
      "plugins": plugins.list_loaded(),
      "key": dataclasses.asdict(one.key),
      "recipe": dict(self._settings.recipe),
      "plan": dict(self._settings.timing),
      "compile_cache": one.folder,
      "begin_cache": _find_begin_cache() if one.folder else "",
      "platform": self._settings.platform,
      "profile": profile,
    }

  def _is_done(self, one: Measuring) -> bool:
    sampling = self._settings.sampling
    return one.failed or sampling.has_enough(
      [one.compute_medians()], one.spent_s
    )

  def _finish(self, one: Measuring) -> Measuring | None:
    """Writes the row; returns a point of half the batch to try next."""
    if self._write_if_failed(one):
      smaller = self._find_smaller(one.key)
      if smaller is not None:
        smaller.batch_asked = one.batch_asked or one.key.batch
      return smaller
    self._write_measured(one, one.last["message"])
    return None

  def _find_smaller(self, key: rows.Key) -> Measuring | None:
    """Returns a point that did not fit with its batch halved until it is new.

    None if it did not run out of memory, if batches are not fitted, or if the
    smaller point has or will get its own row.
    """
    smaller = key
    while self._settings.fit_batch and self._has_overflowed(smaller):
      batch = smaller.batch // 2
      smaller = dataclasses.replace(smaller, batch=batch)
      if batch < 1 or batch % key.devices or smaller in self._wanted:
        return None
      if smaller not in self._rows:
        return Measuring(smaller, batch_asked=key.batch)
    return None

  def _has_overflowed(self, key: rows.Key) -> bool:
    row = self._rows.get(key)
    memory = row is not None and row.status == exchange.OUT_OF_MEMORY
    return memory and key.task in rows.IMAGE_TASKS

  def _profile(self, one: Measuring) -> None:
    """Traces a point of ours, if wanted; a failure is only logged."""
    if not self._settings.profile or one.key.framework != points_lib.OURS:
      return
    folder = self._folder / TRACES / one.key.text().replace(" ", "_")
    request = self._build_request(one, str(folder))
    result, _ = self._launch(one.key.framework, request)
    if result["status"] != rows.OK:
      logging.warning("no trace of %s: %s", one.key.text(), result["message"])

  # Training runs.

  def _run_seeds(self, key: rows.Key) -> None:
    """Trains a config with one seed after the other."""
    one = Measuring(key)
    section = self._settings.runs
    for number in range(section["runs"]):
      seed = section["seed"] + number
      request = {**section, "kind": "run", "seed": seed}
      result, _ = self._launch(points_lib.OURS, request, section["run_s"])
      self._add(one, result, result.get("process", {}))
      if self._write_if_failed(one):
        return
    short = [p.seed for p in one.processes if p.seconds_to_target is None]
    message = f"seeds that did not reach it: {short}" if short else ""
    self._write_measured(one, message)

  # Shared by all tasks.

  def _launch(
    self, framework: str, request: dict[str, Any], most_s: float | None = None
  ) -> tuple[dict[str, Any], float]:
    """Returns the result of a fresh process, and how many seconds it took."""
    sampling = self._settings.sampling
    request = request | {"memory_bytes": sampling.memory_bytes}
    started = self._clock()
    result = self._launchers[framework](request, most_s or sampling.process_s)
    return result, self._clock() - started

  def _add(self, one: Measuring, result, process: Mapping[str, Any]) -> None:
    one.last = result
    if result["status"] == rows.OK:
      fields = {f.name for f in dataclasses.fields(rows.Process)}
      one.processes.append(
        rows.Process(**{k: v for k, v in process.items() if k in fields})
      )

  def _write_if_failed(self, one: Measuring) -> bool:
    if not one.failed:
      return False
    message = one.last["message"]
    if one.processes:
      message = f"process {len(one.processes) + 1}: {message}"
    self._write(
      rows.Row(
        one.key,
        one.last["status"],
        message,
        batch_asked=one.batch_asked,
        num_processes=self._settings.num_processes,
        processes=len(one.processes),
        environment=self._digest,
        raw=tuple(one.processes),
      )
    )
    return True

  def _write_measured(self, one: Measuring, message: str = "") -> None:
    if one.key.task in rows.IMAGE_TASKS:
      facts = facts_lib.build_step_facts(
        one.key, one.last, self._settings, self.found
      )
    else:
      names = ("work", "rate_unit")
      known = {name: one.last.get(name) for name in names}
      facts = summaries.Facts(**known)
    self._write(
      summaries.build_row(
        one.key,
        one.processes,
        facts,
        message=message,
        batch_asked=one.batch_asked,
        num_processes=self._settings.num_processes,
        environment=self._digest,
      )
    )

  def _write(self, row: rows.Row) -> None:
    rows.append(self._folder, row)
    self._rows.pop(row.key, None)
    self._rows[row.key] = row
    rows.write_csv(self._folder, self._rows.values())
    self._on_row(row)


def _find_cache_root() -> pathlib.Path | None:
  """Returns the benchmark's cache of compiled programs; None without one.

  Programs for a CPU run on processors of its kind only.
  """
  kind = hashlib.sha256(environment.find_processor_features().encode())
  with cache.optional("compiled programs"):
    place = cache.user_cache_dir("bench", kind.hexdigest()[:12])
    cache.create_folder(place)
    return place
  return None


def _find_begin_cache() -> str:
  """Returns the permanent cache of programs that make variables and batches."""
  place = _find_cache_root()
  return str(place / "begin") if place else ""


@contextlib.contextmanager
def _make_cache_folder() -> Iterator[str]:
  """Yields a new folder of compiled programs for the processes of a point."""
  folder = tempfile.mkdtemp(dir=_find_cache_root())
  try:
    yield folder
  finally:
    shutil.rmtree(folder, ignore_errors=True)
