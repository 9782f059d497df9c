"""Tests of the files of a sweep and the status of its units."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys

import pytest

from imgbench import config as config_lib
from imgbench import errors
from imgbench import living
from imgbench import run_files
from imgbench import writers
from imgbench.launch import locks
from imgbench.launch import units
from tests import raising
from tests.launch import sweeps


@pytest.fixture
def sweep(tmp_path):
  return units.write(sweeps.make(tmp_path, range(2)))


@pytest.fixture
def unit(sweep):
  return sweep.units[0]


def says(unit, state: str, **facts) -> None:
  """Writes status.json of a run."""
  unit.workdir.mkdir(exist_ok=True)
  run_files.write_status(unit.workdir, state, step=4, total_steps=16, **facts)


def ended_process() -> dict:
  """Returns facts of a process that has ended."""
  process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
  facts = living.describe_process(process.pid)
  process.communicate(b"\n")
  return facts


def test_a_command_sets_shared_and_swept_values(tmp_path):
  sweep = sweeps.make(
    tmp_path,
    [(8, 16)],
    key="model.widths",
    overrides={"steps.total": "3 steps"},
  )
  (unit,) = sweep.units
  assert sweep.command(unit, python="python") == [
    *("python", "-m", "imgbench.main", f"--config={sweeps.TINY}"),
    f"--workdir={tmp_path}/model.widths=8+16",
    "--config.steps.total=3 steps",
    "--config.model.widths=(8, 16)",
  ]


def test_a_sweep_is_read_as_written(tmp_path):
  sweep = sweeps.make(
    tmp_path,
    [(8, 16), (4,)],
    key="model.widths",
    executor="slurm",
    overrides={"evaluation.ks": (1,)},
  )
  units.write(sweep)
  assert units.read(tmp_path) == sweep
  assert units.read(str(tmp_path)).units[0].overrides == {
    "model.widths": (8, 16)
  }


def test_a_sweep_may_grow_and_keeps_its_order(tmp_path):
  units.write(sweeps.make(tmp_path, [2, 1]))
  grown = units.write(sweeps.make(tmp_path, [0, 1, 2]))
  assert [unit.name for unit in grown.units] == ["seed=2", "seed=1", "seed=0"]
  assert units.read(tmp_path) == grown


@pytest.mark.parametrize(
  "settings, difference",
  [
    (dict(values=[0]), "seed=1"),
    (dict(values=[0.1], key="schedule.peak"), "seed=0"),
    (dict(sweep="other"), "--sweep: (none) -> other"),
    (
      dict(overrides={"loss.label_smoothing": 0.5}),
      "loss.label_smoothing: 0.0 -> 0.5",
    ),
    (
      dict(overrides={"steps.total": "3 steps"}),
      "steps.total: 16 steps -> 3 steps",
    ),
  ],
)
def test_the_folder_of_another_sweep_is_refused(tmp_path, settings, difference):
  units.write(sweeps.make(tmp_path, range(2)))
  before = (tmp_path / units.SWEEP).read_bytes()
  other = sweeps.make(tmp_path, **{"values": range(2), **settings})
  check = raising.about("--sweep_dir")
  with pytest.raises(errors.InputError, check=check) as error:
    units.write(other)
  assert difference in error.value.given
  assert (tmp_path / units.SWEEP).read_bytes() == before


def test_values_that_leave_results_alone_may_change(tmp_path):
  units.write(sweeps.make(tmp_path, range(2)))
  quiet = {"logging.report": False, "data.data_dir": "elsewhere"}
  units.write(sweeps.make(tmp_path, range(2), overrides=quiet))
  assert units.read(tmp_path).overrides == quiet


@pytest.mark.parametrize("key", ["optim.eps", "evaluation.input.decoder"])
def test_a_default_may_be_absent_or_given(tmp_path, key):
  sweep = units.write(sweeps.make(tmp_path, range(2)))
  base = json.loads(json.dumps(sweep.base))
  *path, name = key.split(".")
  section = functools.reduce(lambda s, part: s.setdefault(part, {}), path, base)
  assert name not in section
  section[name] = config_lib.find_defaults(sweep.base)[key]
  for same in (dataclasses.replace(sweep, base=base), sweep):
    assert units.write(same).units == sweep.units
  section[name] = "other"
  with pytest.raises(errors.InputError, check=raising.about("--sweep_dir")):
    units.write(dataclasses.replace(sweep, base=base))


def test_bad_folders_are_refused(tmp_path):
  check = raising.about("--sweep_dir", given=tmp_path)
  with pytest.raises(errors.InputError, check=check):
    units.read(tmp_path)
  path = tmp_path / units.SWEEP
  path.write_text("{}")
  check = raising.about(f"{path}: config", given="none")
  with pytest.raises(errors.InputError, check=check):
    units.read(tmp_path)
  (tmp_path / "file").touch()
  folder = tmp_path / "file" / "sweep"
  with pytest.raises(errors.InputError, check=raising.about("--sweep_dir")):
    units.write(sweeps.make(folder, [0]))


def test_a_unit_waits_until_it_is_started(sweep, unit):
  assert units.read_status(unit) == units.Status()
  units.record_start(unit, job="17_0")
  status = units.read_status(unit)
  assert (status.state, status.job, status.attempts) == ("running", "17_0", 1)
  assert units.find_pending(sweep) == [sweep.units[1]]


@pytest.mark.parametrize(
  "said, exit_code, state",
  [
    ("done", errors.EXIT_DONE, "done"),
    ("running", errors.EXIT_DONE, "failed"),  # Without status "done".
    ("preempted", errors.EXIT_PREEMPTED, "preempted"),
    ("running", -signal.SIGTERM, "preempted"),  # Before it had a handler.
    ("running", -signal.SIGKILL, "failed"),
    ("failed", errors.EXIT_FAILED, "failed"),
    ("diverged", errors.EXIT_FAILED, "diverged"),
    (None, errors.EXIT_USAGE, "failed"),
  ],
)
def test_how_a_run_ended(sweep, unit, said, exit_code, state):
  units.record_start(unit)
  if said is not None:
    says(unit, said)
  assert units.record_end(unit, exit_code, "why") == state
  status = units.read_status(unit)
  assert (status.state, status.exit_code) == (state, exit_code)
  assert status.message == ("" if state == "done" else "why")
  assert status.step == (4 if said else 0)
  assert status.started_at <= status.ended_at
  again = [] if state in ("done", "diverged") else [unit]
  assert units.find_pending(sweep) == [*again, sweep.units[1]]
  # A new start clears the old end.
  units.record_start(unit)
  status = units.read_status(unit)
  assert status.attempts == 2
  if said != "done":
    assert status.state == "running"
    assert (status.ended_at, status.exit_code, status.message) == ("", None, "")


@pytest.mark.parametrize(
  "said, state",
  [
    ("running", "failed"),
    ("preempted", "preempted"),
    ("done", "done"),
    ("diverged", "diverged"),
  ],
)
def test_a_run_whose_end_was_not_recorded(unit, said, state):
  gone = ended_process()
  says(unit, said)
  units.record_start(unit, process=gone, launcher=gone)
  assert units.read_status(unit).state == state
  # A live launcher will record the end.
  units.record(unit, launcher=living.describe_process(os.getpid()))
  assert units.read_status(unit).state in ("running", "done")


def test_runs_without_a_launcher_have_a_status(unit):
  says(unit, "failed", message="no disk")
  status = units.read_status(unit)
  assert (status.state, status.message, status.attempts) == (
    "failed",
    "no disk",
    0,
  )


def test_a_running_run_without_a_launcher_is_pending(sweep, unit):
  says(unit, "running")
  status = units.read_status(unit)
  assert status.state == "running" and status.message
  assert units.find_pending(sweep) == list(sweep.units)
  units.record_start(unit, process=living.describe_process(os.getpid()))
  assert units.read_status(unit).message == ""
  assert units.find_pending(sweep) == [sweep.units[1]]


def test_the_last_error_of_a_log_is_found():
  log = (
    "imgbench: error: old\n=== again\n12:00 step\nimgbench: error: new one\n"
  )
  assert units.find_last_error(log) == "new one"
  assert units.find_last_error("12:00 step\n") == ""


def test_seconds_between_times():
  start = "2026-01-31T23:59:59.500+00:00"
  assert units.seconds_between(start, "2026-02-01T00:00:01.000+00:00") == 1.5
  assert abs(units.seconds_between(units.now(), units.now())) < 5


def test_one_launcher_at_a_time(tmp_path):
  code = (
    "import pathlib, sys\nfrom imgbench.launch import locks\n"
    "with locks.locked(pathlib.Path(sys.argv[1])):\n  print(1, flush=True)\n"
    "  input()\n"
  )
  holder = subprocess.Popen(
    [sys.executable, "-c", code, str(tmp_path)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    env={**os.environ, "PYTHONPATH": str(sweeps.ROOT)},
  )
  try:
    assert holder.stdout.readline() == b"1\n"
    folder = sweeps.make(tmp_path, [0]).sweep_dir
    facts = locks.read_launcher(folder)
    assert facts["pid"] == holder.pid and locks.is_alive(facts)
    check = raising.about("--sweep_dir", given=folder)
    refused = pytest.raises(errors.InputError, check=check)
    with refused, locks.locked(folder):
      pass
  finally:
    holder.kill()
    holder.communicate()
  assert not locks.is_alive(facts)
  with locks.locked(folder):  # A killed launcher holds no lock.
    assert locks.read_launcher(folder)["pid"] == os.getpid()


def test_a_process_is_not_confused_with_a_later_one():
  facts = living.describe_process(os.getpid())
  assert locks.is_alive(facts)
  assert not locks.is_alive({**facts, "began": "1"})
  assert not locks.is_alive({**facts, "boot": "another"})
  assert locks.is_alive({**facts, "host": "another", "pid": 1})
  assert locks.is_alive(None)


def test_facts_are_kept(unit):
  units.record(unit, job="3")
  units.record(unit, nodes=["a"])
  path = unit.workdir / units.LAUNCH
  assert json.loads(path.read_text()) == {"job": "3", "nodes": ["a"]}
  writers.write_atomically(path, "{")
  with pytest.raises(errors.InputError, match=units.LAUNCH):
    units.read_status(unit)


@pytest.mark.parametrize(
  "code, log, message",
  [
    (errors.EXIT_DONE, "imgbench: error: old", ""),
    (errors.EXIT_PREEMPTED, "", ""),
    (-signal.SIGTERM, "imgbench: error: old", "ended by SIGTERM"),
    (1, "step 1\nimgbench: error: no disk\nbye", "no disk"),
    (1, "step 1\n  Killed \n", "Killed"),
    (-127, "ssh: lost\n", "ssh: lost"),  # No signal, a shell's code 255.
  ],
)
def test_a_failure_is_described_by_signal_or_log(code, log, message):
  assert units.describe_failure(code, log) == message


OUTSIDE = ("../x", "/x", "a/b", "a/../../x", "", ".", "..", ".lock", "a" * 300)
RAW = ("a\nb", "a\0", "\x1b[2J", "\u202ea", "\ud800")


@pytest.mark.parametrize("name", [*OUTSIDE, *RAW, None, 3, ["a"], {}])
def test_fault_22_names_of_units_stay_in_the_folder(sweep, name):
  path = sweep.sweep_dir / units.SWEEP
  content = json.loads(path.read_text())
  content["units"][1]["name"] = name
  path.write_text(json.dumps(content))
  check = raising.about(f"{path}: units[1].name")
  with pytest.raises(errors.InputError, check=check) as raised:
    units.read(sweep.sweep_dir)
  assert str(raised.value).isprintable()


@pytest.mark.parametrize("bad", [None, 3, "a", [1], [[]], {"a": 1}, True])
def test_fault_22_wrong_types_in_a_sweep_are_one_line(sweep, bad):
  path = sweep.sweep_dir / units.SWEEP
  content = json.loads(path.read_text())
  for key in content:
    good = type(content[key]) is type(bad) and key != "units"
    path.write_text(json.dumps({**content, key: bad}))
    if good:
      units.read(sweep.sweep_dir)
      continue
    with pytest.raises(errors.InputError) as raised:
      units.read(sweep.sweep_dir)
    assert raised.value.setting.startswith(f"{path}: {key}")
    path.write_text(json.dumps({k: v for k, v in content.items() if k != key}))
    check = raising.about(f"{path}: {key}", given="none")
    with pytest.raises(errors.InputError, check=check):
      units.read(sweep.sweep_dir)
  path.write_text(json.dumps({**content, "units": content["units"][:1] * 2}))
  with pytest.raises(errors.InputError, check=raising.about(f"{path}: units")):
    units.read(sweep.sweep_dir)


@pytest.mark.parametrize(
  "text", [b"[]", b"3", b'"a"', b"{", b"\xff\xfe", b"[" * 100_000, b"\0"]
)
def test_fault_22_files_that_hold_no_object_are_one_line(sweep, unit, text):
  unit.workdir.mkdir()
  for path, read in (
    (sweep.sweep_dir / units.SWEEP, lambda: units.read(sweep.sweep_dir)),
    (
      sweep.sweep_dir / locks.LAUNCHER,
      lambda: locks.read_launcher(sweep.sweep_dir),
    ),
    (unit.workdir / units.LAUNCH, lambda: units.read_status(unit)),
    (unit.workdir / run_files.STATUS, lambda: units.read_status(unit)),
  ):
    path.write_bytes(text)
    with pytest.raises(errors.InputError, check=raising.about(str(path))):
      read()
    path.unlink()


@pytest.mark.parametrize(
  ("field", "bad"),
  [
    ("state", "dead"),
    ("state", []),
    ("attempts", "3"),
    ("attempts", None),
    ("exit_code", 0.5),
    ("started_at", "today"),
    ("ended_at", "2026-01-01T00:00:00"),
    ("message", {}),
    ("job", "--all"),
    ("job", "1 2"),
    ("process", []),
    ("process", {}),
    ("launcher", {"pid": 1}),
  ],
)
def test_fault_22_wrong_values_of_a_unit_are_one_line(unit, field, bad):
  units.record_start(unit)
  path = unit.workdir / units.LAUNCH
  path.write_text(json.dumps({**json.loads(path.read_text()), field: bad}))
  with pytest.raises(errors.InputError) as raised:
    units.read_status(unit)
  assert raised.value.setting.startswith(f"{path}: {field}")


@pytest.mark.parametrize(
  ("field", "bad"),
  [
    ("pid", 0),
    ("pid", -1),
    ("pid", 2**31),
    ("pid", "1"),
    ("pid", True),
    ("host", None),
    ("began", 5),
    ("boot", []),
  ],
)
def test_fault_22_wrong_values_of_a_launcher_are_one_line(sweep, field, bad):
  path = sweep.sweep_dir / locks.LAUNCHER
  facts = living.describe_process(os.getpid())
  path.write_text(json.dumps(facts))
  assert locks.read_launcher(sweep.sweep_dir) == facts
  path.write_text(json.dumps({**facts, field: bad}))
  with pytest.raises(
    errors.InputError, check=raising.about(f"{path}: {field}")
  ):
    locks.read_launcher(sweep.sweep_dir)
