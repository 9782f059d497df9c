"""Tests of the bookkeeping of times, with a fake clock."""

import pytest

from imgbench.bench import measure


class Machine:
  """A fake clock and device: `start` takes host time, `wait` the rest.

  Args:
    start_s: seconds until `start` returns.
    step_s: seconds that the device needs for a step, one after the other.
  """

  def __init__(self, start_s: float, step_s: float):
    self.now = 0.0
    self.waits = 0
    self.started = 0
    self._start_s, self._step_s = start_s, step_s
    self._device_free = 0.0

  def clock(self) -> float:
    return self.now

  def start(self) -> float:
    self.started += 1
    self.now += self._start_s
    self._device_free = max(self._device_free, self.now) + self._step_s
    return self._device_free

  def wait(self, ends: float) -> None:
    self.waits += 1
    self.now = max(self.now, ends)


def test_latency_waits_for_each_step_and_throughput_does_not():
  machine = Machine(start_s=0.25, step_s=1.0)
  plan = measure.TimingPlan(
    warmup_steps=2, latency_s=4.0, round_s=10.0, rounds=2, in_flight=4
  )
  times = measure.measure(machine.start, machine.wait, plan, machine.clock)
  assert times.first_step_s == pytest.approx(1.25)
  # 1.25 s each until 4 s are over.
  assert times.latencies_s == pytest.approx([1.25] * 4)
  # Starts overlap with earlier steps, except for the first one.
  assert times.throughput_s == pytest.approx([(8 + 0.25) / 8] * 2)


def test_the_first_step_and_the_warmup_do_not_count():
  machine = Machine(start_s=0.0, step_s=1.0)
  slow_first = [100.0, 50.0]

  def start():
    if slow_first:
      machine.now += slow_first.pop(0)
    return machine.start()

  plan = measure.TimingPlan(
    warmup_steps=1, latency_s=2.0, rounds=1, round_s=2.0
  )
  times = measure.measure(start, machine.wait, plan, machine.clock)
  assert times.first_step_s == pytest.approx(101.0)
  assert times.latencies_s == pytest.approx([1.0] * 3)
  assert times.throughput_s == pytest.approx([1.0])


@pytest.mark.parametrize(
  "step_s, expected",
  [(0.001, 20), (0.1, 10), (10.0, 3)],
  ids=["at most", "as long as it takes", "at least"],
)
def test_how_many_steps_are_waited_for(step_s, expected):
  machine = Machine(start_s=0.0, step_s=step_s)
  plan = measure.TimingPlan(latency_s=0.95, least_steps=3, most_steps=20)
  found = measure.measure_latency(
    machine.start, machine.wait, plan, machine.clock
  )
  assert len(found) == expected


def test_what_comes_before_a_call_does_not_count():
  machine = Machine(start_s=0.0, step_s=1.0)

  def before():
    machine.now += 5.0

  plan = measure.TimingPlan(latency_s=3.0, least_steps=1)
  found = measure.measure_latency(
    machine.start, machine.wait, plan, machine.clock, before
  )
  assert found == pytest.approx([1.0] * 3)


def test_no_more_steps_than_allowed_are_in_flight():
  running, most = [], [0]

  def start():
    running.append(object())
    most[0] = max(most[0], len(running))
    return running[-1]

  measure.measure_round(start, running.remove, 20, 3, lambda: 0.0)
  assert most[0] == 3
  assert not running


@pytest.mark.parametrize(
  "step_s, round_s, expected",
  [(0.1, 1.0, 10), (0.3, 1.0, 4), (5.0, 1.0, 2), (0.0, 1e-9, 2)],
)
def test_steps_of_a_round(step_s, round_s, expected):
  assert measure.count_steps_per_round(step_s, round_s) == expected
