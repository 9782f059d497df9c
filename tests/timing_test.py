"""Tests of the clock's bookkeeping, with a clock of their own."""

import pytest

from imgbench import timing


class FakeClock:
  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def test_sections_add_up_and_go_on_after_a_restart():
  clock = FakeClock()
  watch = timing.Stopwatch({"train_s": 5.0}, clock)
  with watch.section("train_s"):
    clock.now += 2
    assert watch.total("train_s") == 7.0  # The running section counts.
    assert watch.totals() == {"train_s": 7.0}
  with watch.section("eval_s"):
    clock.now += 1
  clock.now += 50  # Between sections nothing counts.
  with watch.section("train_s"):
    clock.now += 3
  assert watch.totals() == {"train_s": 10.0, "eval_s": 1.0}
  assert watch.total("never_s") == 0.0


def test_a_section_that_fails_still_counts():
  clock = FakeClock()
  watch = timing.Stopwatch(clock=clock)
  with pytest.raises(KeyError), watch.section("train_s"):
    clock.now += 4
    raise KeyError
  assert watch.totals() == {"train_s": 4.0}


def test_sections_do_not_nest():
  watch = timing.Stopwatch(clock=FakeClock())
  with (
    pytest.raises(RuntimeError, match="do not nest"),
    watch.section("a_s"),
    watch.section("b_s"),
  ):
    pass


def test_a_round_calls_in_order_and_divides():
  calls = []
  seconds = timing.measure_round(calls.append, 5)
  assert calls == [0, 1, 2, 3, 4]
  assert seconds >= 0


def test_timed_block():
  with timing.timed() as result:
    assert result.seconds == 0.0
  assert result.seconds > 0
