"""Tests of smoke runs: their folder, their times and their report."""

import json

from absl import flags
import pytest

from imgbench import cli
from imgbench import errors
from imgbench import run_files
from imgbench.launch import __main__ as program
from imgbench.launch import smoke
from imgbench.launch import units
from imgbench.train import smoke as train_smoke
from tests import raising
from tests.launch import sweeps

TIMES = {"setup_s": 20.0, "compile_s": 80.0, "step_s": 0.5, "train_s": 5.0}


def _values(*args):
  values = flags.FlagValues()
  program.define_flags(values)
  values(["sweep", *args])
  return values


def test_it_is_the_first_point_in_a_folder_of_its_own(tmp_path):
  sweep = sweeps.make(tmp_path, [7, 8])
  found = smoke.build(sweep)
  (unit,) = found.units
  assert unit.name == "seed=7"
  assert found.sweep_dir.parent == tmp_path / smoke.FOLDER
  assert unit.workdir == found.sweep_dir / unit.name
  command = found.command(unit)
  assert f"--smoke_steps={smoke.STEPS}" in command
  assert f"--workdir={unit.workdir}" in command
  assert "--config.seed=7" in command
  assert not any("smoke" in word for word in sweep.command(sweep.units[0]))


@pytest.mark.parametrize(
  ("flags", "hours", "how"),
  [(["--jobs=2"], 3, "2 at a time"), ([], 5, "if one runs after another")],
)
def test_the_estimate_is_that_of_all_runs(tmp_path, capsys, flags, hours, how):
  found = smoke.build(sweeps.make(tmp_path, [7, 8]))
  workdir = found.units[0].workdir
  workdir.mkdir(parents=True)
  facts = {"total_steps": 7000, "times": TIMES}
  run_files.write_status(workdir, run_files.DONE, **facts)
  code = smoke.report(found, 5, _values(*flags))
  assert code == errors.EXIT_DONE
  text = capsys.readouterr().out
  assert "500 ms per step" in text
  # 20 + 80 + 7000 / 2 seconds, three or five times.
  assert "1:00:00" in text and f"{hours}:00:00" in text
  assert how in text


def test_a_failure_shows_the_end_of_the_log(tmp_path, capsys):
  found = smoke.build(sweeps.make(tmp_path, [7]))
  (unit,) = found.units
  units.record_start(unit)
  (unit.workdir / units.LOG).write_text("".join(f"{i}\n" for i in range(99)))
  units.record_end(unit, errors.EXIT_FAILED, "it failed")
  code = smoke.report(found, 1, _values())
  assert code == errors.EXIT_FAILED
  lines = capsys.readouterr().out.splitlines()
  assert lines[:-1] == [str(i) for i in range(89, 99)]


def test_steps_are_timed_and_nothing_else_is_saved(tmp_path):
  config = cli.read_config(sweeps.TINY)
  folder = tmp_path / "run"
  times = train_smoke.measure(config, str(folder), 5)
  status = run_files.read_status(folder)
  # Two steps are not timed.
  assert (status["state"], status["step"]) == (run_files.DONE, 7)
  assert status["total_steps"] == 16
  assert status["times"] == times
  assert times["step_s"] == pytest.approx(times["train_s"] / 5)
  names = {path.name for path in folder.iterdir()}
  assert names == {run_files.STATUS, ".lock"}
  # The folder of a run is left alone.
  check = raising.about("--workdir", given=folder)
  with pytest.raises(errors.InputError, check=check):
    train_smoke.measure(config, str(folder), 5)
  assert run_files.read_status(folder) == status


def test_whole_dispatches_are_timed(tmp_path):
  config = cli.read_config(sweeps.TINY, ["steps.per_dispatch=4"])
  times = train_smoke.measure(config, str(tmp_path), 5)
  # Two dispatches are not timed, two of four steps are.
  assert run_files.read_status(tmp_path)["step"] == 16
  assert times["step_s"] == pytest.approx(times["train_s"] / 8)


def test_a_failed_run_says_so(tmp_path):
  config = cli.read_config(sweeps.TINY, ["data.train_split=absent"])
  with pytest.raises(errors.InputError):
    train_smoke.measure(config, str(tmp_path), 5)
  status = json.loads((tmp_path / run_files.STATUS).read_text())
  assert status["state"] == run_files.FAILED and "absent" in status["message"]


@pytest.mark.slow
def test_a_local_smoke_run_leaves_the_points_alone(tmp_path):
  done = sweeps.launch(tmp_path, "--smoke")
  assert done.returncode == errors.EXIT_DONE, done.stderr
  assert "ms per step" in done.stdout and "4 such runs" in done.stdout
  assert [path.name for path in tmp_path.iterdir()] == [smoke.FOLDER]
