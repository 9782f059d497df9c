"""Times a step: latency, throughput by rounds, with a clock that is passed in.

Standard library only, so that baselines time their steps by the same code.
"""

from collections.abc import Callable
import dataclasses
import math
import statistics
from typing import Any

# Returns what a function returns, in several processes that of the first one:
# all of them must run the same number of steps.
Agree = Callable[[Callable[[], Any]], Any]


def agree_alone(make: Callable[[], Any]) -> Any:
  """Returns what `make` returns: `Agree` for one process."""
  return make()


@dataclasses.dataclass(frozen=True)
class TimingPlan:
  """Amount of timing in one process.

  Attributes:
    warmup_steps: uncounted steps after the first one.
    latency_s: seconds of steps that are waited for one by one.
    least_steps: fewest of these, however long they take.
    most_steps: most of these.
    round_s: target length of a round, in which steps are started one after
      the other and waited for once.
    rounds: number of rounds.
    in_flight: most steps started and not finished, so that their inputs do not
      fill the memory.
  """

  warmup_steps: int = 2
  latency_s: float = 1.0
  least_steps: int = 3
  most_steps: int = 200
  round_s: float = 0.5
  rounds: int = 3
  in_flight: int = 8


@dataclasses.dataclass(frozen=True)
class Times:
  """Measured seconds.

  Attributes:
    first_step_s: the first step, waited for.
    latencies_s: of each step, waited for before the next one.
    throughput_s: per step, of each round.
  """

  first_step_s: float
  latencies_s: list[float]
  throughput_s: list[float]

  def to_process(self) -> dict[str, Any]:
    """Returns fields of `rows.Process`."""
    return {
      "latencies_ms": [1e3 * s for s in self.latencies_s],
      "throughput_s": self.throughput_s,
      "first_step_s": self.first_step_s,
    }


def measure(
  start: Callable[[], Any],
  wait: Callable[[Any], Any],
  plan: TimingPlan,
  clock: Callable[[], float],
  agree: Agree = agree_alone,
) -> Times:
  """Returns the times of a compiled step.

  Args:
    start: starts a step; may return before it ends.
    wait: given what `start` returned, returns when that step has ended.
    plan: how much is measured.
    clock: returns seconds.
    agree: decides the numbers of steps.
  """
  first_step_s = _time_step(start, wait, clock)
  for _ in range(plan.warmup_steps):
    wait(start())
  latencies = measure_latency(start, wait, plan, clock, agree=agree)
  step_s = statistics.median(latencies)
  steps = agree(lambda: count_steps_per_round(step_s, plan.round_s))
  rounds = [
    measure_round(start, wait, steps, plan.in_flight, clock)
    for _ in range(plan.rounds)
  ]
  return Times(first_step_s, latencies, rounds)


def measure_latency(
  start: Callable[[], Any],
  wait: Callable[[Any], Any],
  plan: TimingPlan,
  clock: Callable[[], float],
  before: Callable[[], Any] = lambda: None,
  agree: Agree = agree_alone,
) -> list[float]:
  """Returns seconds of steps waited for one by one; `before` is not counted."""
  latencies = []
  is_short = lambda: (
    len(latencies) < plan.most_steps
    and (len(latencies) < plan.least_steps or sum(latencies) < plan.latency_s)
  )
  while agree(is_short):
    before()
    latencies.append(_time_step(start, wait, clock))
  return latencies


def measure_round(
  start: Callable[[], Any],
  wait: Callable[[Any], Any],
  steps: int,
  in_flight: int,
  clock: Callable[[], float],
) -> float:
  """Returns seconds per step of a round that is waited for once, at its end.

  Before a step starts, the one `in_flight` steps earlier has ended; the device
  stays busy.
  """
  running = []
  started = clock()
  for _ in range(steps):
    if len(running) == in_flight:
      wait(running.pop(0))
    running.append(start())
  for result in running:
    wait(result)
  return (clock() - started) / steps


def count_steps_per_round(step_s: float, round_s: float) -> int:
  """Returns how many steps of `step_s` fill a round, at least 2.

  Steps that are not waited for one by one are faster, and the round is shorter.
  """
  return max(2, math.ceil(round_s / max(step_s, 1e-9)))


def _time_step(start, wait, clock) -> float:
  started = clock()
  wait(start())
  return clock() - started
