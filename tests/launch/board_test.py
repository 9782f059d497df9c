"""Tests of the status table of units, printed and live."""

import io

import pytest

from imgbench import errors
from imgbench.launch import board as board_lib
from imgbench.launch import units
from tests.launch import sweeps

START = "2026-01-01T00:00:00.000+00:00"


class Screen(io.StringIO):
  """A terminal that keeps its output."""

  def isatty(self) -> bool:
    return True


@pytest.fixture
def sweep(tmp_path):
  return units.write(sweeps.make(tmp_path, range(3)))


@pytest.mark.parametrize(
  "status, text",
  [
    (units.Status(), ""),
    (units.Status(state="failed", started_at=START), ""),  # Unseen.
    (
      units.Status(started_at=START, ended_at="2026-01-01T00:00:59.600+00:00"),
      "1:00",
    ),
    (
      units.Status(started_at=START, ended_at="2026-01-02T01:02:03.000+00:00"),
      "25:02:03",
    ),
  ],
)
def test_times(status, text):
  assert board_lib.format_time(status) == text


def test_without_a_terminal_each_change_is_a_line(sweep):
  stream = io.StringIO()
  board = board_lib.Board(sweep, stream)
  first, second, _ = sweep.units
  units.record_start(first)
  board.changed(first)
  board.update()
  units.record_end(first, errors.EXIT_FAILED, "no\n disk")
  units.record_start(first)
  board.changed(first)
  units.record_start(second)
  units.record_end(second, errors.EXIT_FAILED, "no\n disk")
  board.changed(second)
  assert stream.getvalue().splitlines() == [
    "seed=0: running",
    "seed=0: running, try 2",
    "seed=1: failed in 0:00: no disk",
  ]
  board.close()
  assert stream.getvalue().endswith("3 runs: 1 waiting, 1 failed, 1 running\n")


def test_a_small_terminal_shows_the_most_important_runs(sweep, monkeypatch):
  monkeypatch.setenv("COLUMNS", "30")
  monkeypatch.setenv("LINES", "6")  # Two runs, the header and two lines below.
  screen = Screen()
  board = board_lib.Board(sweep, screen)
  _, second, third = sweep.units
  units.record_start(third)
  units.record_start(second)
  units.record_end(second, errors.EXIT_FAILED, "a long story")
  board.changed(third)
  board.changed(second)
  board.update()
  shown = screen.getvalue().splitlines()
  assert [line.split()[:2] for line in shown[1:3]] == [
    ["seed=1", "failed"],
    ["seed=2", "running"],
  ]
  assert shown[3:] == ["and 1 more", "3 runs: 1 waiting, 1 failed, "]
  assert max(map(len, shown)) < 30
  board.update()  # Too early to redraw.
  assert screen.getvalue().splitlines() == shown
  board.say("a word")
  assert screen.getvalue().endswith("\x1b[5F\x1b[Ja word\n")


def test_the_step_is_the_last_logged_one(sweep, monkeypatch):
  unit = sweep.units[0]
  units.record_start(unit)
  (unit.workdir / "status.json").write_text(
    '{"state": "running", "step": 4, "total_steps": 16}'
  )
  screen = Screen()
  board = board_lib.Board(sweep, screen)
  for text, step in (("", 4), ('{"step": 6}\n', 6), ('{"step": 6}\n{"st', 4)):
    (unit.workdir / "metrics.jsonl").write_text(text)
    board.changed(unit)
    board.update()
    assert f" {step}/16 " in screen.getvalue().rpartition("\x1b")[2]


def test_fault_22_the_table_and_its_lines_have_no_raw_escapes(sweep):
  unit = sweep.units[0]
  units.record_start(unit)
  units.record_end(unit, errors.EXIT_FAILED, "\x1b[2Jno\x07 disk\u202e")
  stream = io.StringIO()
  board = board_lib.Board(sweep, stream)
  board.changed(unit)
  board.say("a\x1b[31mb")
  board.close()
  assert all(line.isprintable() for line in stream.getvalue().splitlines())
  assert "no  disk" in stream.getvalue()
