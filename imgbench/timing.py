"""The only clock: sections of wall time that add up over restarts."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import time

import jax

clock: Callable[[], float] = time.perf_counter


class Stopwatch:
  """Accumulates wall seconds by section; sections do not nest.

  The totals are plain floats, so that they can be saved with a checkpoint and
  given back to the constructor: a resumed run goes on counting.
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
    """Counts the time inside the block for `name` (e.g. "train_s")."""
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
    """Seconds counted for `name` so far, the running section included."""
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
  """The `seconds` that a `timed` block took."""

  seconds: float = 0.0


@contextlib.contextmanager
def timed() -> Iterator[Timed]:
  """Times a block; read `seconds` behind it."""
  result = Timed()
  started = clock()
  try:
    yield result
  finally:
    result.seconds = clock() - started


def measure_round(function: Callable[[int], object], steps: int) -> float:
  """Returns seconds per call of one round, blocked once at its end.

  Args:
    function: called with 0, 1, ... `steps` - 1; what the last call returns is
      waited for (throughput, not latency).
    steps: calls in the round.
  """
  started = clock()
  result = None
  for step in range(steps):
    result = function(step)
  jax.block_until_ready(result)
  return (clock() - started) / steps
