"""The only clock: wall time by section, accumulated over restarts."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import time

import jax

clock: Callable[[], float] = time.perf_counter


class Stopwatch:
  """Accumulates wall seconds by section; sections do not nest.

  The totals are floats to save with a checkpoint and to pass to the constructor
  of a resumed run.
  """

  def __init__(
    self,
    totals: dict[str, float] | None = None,
    clock: Callable[[], float] = clock,
  ):
    self._totals = dict(totals or {})
    self._clock = clock
    self._running: str | None = None
    self._started = 0.0

  @contextlib.contextmanager
  def section(self, name: str) -> Iterator[None]:
    """Adds the time of the block to `name`, e.g. "train_s"."""
    if self._running is not None:
      raise RuntimeError(f"{name} inside {self._running}: sections do not nest")
    self._running, self._started = name, self._clock()
    try:
      yield
    finally:
      elapsed = self._clock() - self._started
      self._totals[name] = self._totals.get(name, 0.0) + elapsed
      self._running = None

  def total(self, name: str) -> float:
    """Returns the seconds of `name` so far, including a running section."""
    total = self._totals.get(name, 0.0)
    if self._running == name:
      total += self._clock() - self._started
    return total

  def totals(self) -> dict[str, float]:
    return {name: self.total(name) for name in self._names()}

  def _names(self) -> list[str]:
    names = list(self._totals)
    if self._running is not None and self._running not in names:
      names.append(self._running)
    return names


class Timed:
  """Result of `timed`: the block's `seconds`."""

  seconds: float = 0.0


@contextlib.contextmanager
def timed() -> Iterator[Timed]:
  """Times a block; read `seconds` after it."""
  result = Timed()
  started = clock()
  try:
    yield result
  finally:
    result.seconds = clock() - started


def measure_round(function: Callable[[int], object], steps: int) -> float:
  """Returns seconds per call of one round of calls (throughput).

  Args:
    function: called with 0, 1, ... `steps` - 1; only the last result is waited
      for.
    steps: calls in the round.
  """
  started = clock()
  result = None
  for step in range(steps):
    result = function(step)
  jax.block_until_ready(result)
  return (clock() - started) / steps
