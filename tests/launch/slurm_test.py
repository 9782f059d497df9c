"""Scripts, flags and output of SLURM, without a cluster."""

import os
import pathlib
import subprocess
import types

from etils import epath
import pytest

from imgbench import errors
from imgbench.launch import units
from imgbench.launch.slurm import executor
from imgbench.launch.slurm import script as slurm_script
from tests import raising

GOLDEN = pathlib.Path(__file__).with_name("slurm_golden.txt")
FLAGS = dict(
  nodes=1,
  ntasks_per_node=None,
  gpus_per_node=0,
  cpus_per_task=None,
  time="",
  partition="",
  account="",
  requeue=True,
  signal="TERM@120",
  jobs=None,
  sbatch_args="",
)


def flags_of(**given) -> types.SimpleNamespace:
  return types.SimpleNamespace(**{**FLAGS, **given})


def resources(**given) -> slurm_script.Resources:
  return slurm_script.read_resources(flags_of(**given))


def sweep_in(folder) -> units.Sweep:
  folder = epath.Path(folder)
  points = [{"seed": 0}, {"model.widths": (8, 16), "seed": 1}]
  names = ["seed=0", "model.widths=8+16,seed=1"]
  return units.Sweep(
    sweep_dir=folder,
    config="configs/tiny.py",
    sweep="",
    units=tuple(
      units.Unit(name, point, folder / name)
      for name, point in zip(names, points, strict=True)
    ),
    executor="slurm",
    overrides={"steps.total": "9 steps"},
  )


@pytest.fixture
def script(monkeypatch):
  """Returns a function that formats a script, with a fixed Python path."""
  monkeypatch.setattr(
    units.Sweep.command, "__defaults__", ("/opt/imgbench/bin/python",)
  )
  sweep = sweep_in("/shared/runs/my rates")
  return lambda **given: slurm_script.format_script(
    sweep, sweep.units, resources(**given), "/home/me/imgbench"
  )


def test_script_is_the_golden_one(script):
  text = script(
    nodes=2,
    gpus_per_node=4,
    cpus_per_task=8,
    time="8:00:00",
    partition="gpu",
    account="vision",
    jobs=3,
    sbatch_args='--qos=low --comment="two words"',
  )
  assert text == GOLDEN.read_text(), "if meant: write it to the golden file"


def test_script_has_no_options_that_were_not_requested(script):
  text = script(requeue=False, signal="")
  options = [s for s in text.splitlines() if s.startswith("#SBATCH")]
  assert options == [
    "#SBATCH --job-name=imgbench.my_rates",
    "#SBATCH --array=0-1",
    "#SBATCH --nodes=1",
    "#SBATCH --ntasks-per-node=1",
    "#SBATCH --chdir=/home/me/imgbench",
    '#SBATCH --output="/shared/runs/my rates/slurm/%A_%a.txt"',
    "#SBATCH --open-mode=append",
    "#SBATCH --no-requeue",
  ]
  assert "scontrol" not in text
  assert 'srun "${command[@]}"' in text


def test_script_is_valid_bash(script):
  for given in ({}, {"requeue": False}):
    subprocess.run(["bash", "-n"], input=script(**given), text=True, check=True)


def test_processes_of_a_run():
  """One, or one for each GPU, as JAX needs for several."""
  tasks = lambda **given: resources(**given).ntasks_per_node
  assert tasks() == tasks(nodes=3) == tasks(gpus_per_node=8) == 1
  assert tasks(nodes=2, gpus_per_node=8) == 8
  assert tasks(gpus_per_node=8, ntasks_per_node=8) == 8
  assert tasks(nodes=2, ntasks_per_node=4) == 4


@pytest.mark.parametrize(
  "limit, seconds",
  [
    ("10", 600),
    ("10:30", 630),
    ("1:00:00", 3600),
    ("2-3", 183600),
    ("1-0:30", 88200),
    ("1-2:03:04", 93784),
    ("UNLIMITED", None),
  ],
)
def test_time_limits_are_read_as_sbatch_does(limit, seconds):
  assert slurm_script.parse_seconds(limit) == seconds


@pytest.mark.parametrize(
  "settings, flag, given, expected",
  [
    (dict(nodes=0), "--nodes", 0, "1"),
    (dict(jobs=0), "--jobs", 0, "1"),
    (dict(cpus_per_task=-1), "--cpus_per_task", -1, "1"),
    (dict(ntasks_per_node=0), "--ntasks_per_node", 0, "1"),
    (dict(gpus_per_node=-1), "--gpus_per_node", -1, "0"),
    (
      dict(nodes=2, gpus_per_node=8, ntasks_per_node=1),
      *("--ntasks_per_node", 1, "8"),
    ),
    (dict(time="8h"), "--time", "8h", "minutes"),
    (dict(time="3"), "--time", "3", "180 s"),
    (dict(signal="KILL@60"), "--signal", "KILL@60", "TERM@SECONDS"),
    (dict(signal="TERM"), "--signal", "TERM", "TERM@SECONDS"),
    (dict(sbatch_args="-p gpu"), "--sbatch_args", "'-p'", ""),
    (dict(sbatch_args="--array=0-9"), "--sbatch_args", "--array=0-9", ""),
    (dict(sbatch_args="--time=9"), "--sbatch_args", "--time=9", ""),
    (dict(sbatch_args='--comment="a'), "--sbatch_args", None, ""),
  ],
  ids=str,
)
def test_invalid_flags_are_refused(settings, flag, given, expected):
  check = raising.about(flag, given=given)
  with pytest.raises(errors.InputError, check=check) as error:
    resources(**settings)
  assert expected in error.value.expected


def test_a_machine_without_slurm_is_refused(tmp_path, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))
  check = raising.about("--executor=slurm")
  with pytest.raises(errors.InputError, check=check) as error:
    executor.check(sweep_in(tmp_path), flags_of())
  assert "sbatch" in error.value.given


def test_a_bucket_as_sweep_dir_is_refused(tmp_path, monkeypatch):
  for name in ("sbatch", "squeue", "scontrol", "scancel"):
    (tmp_path / name).touch(mode=0o755)
  monkeypatch.setenv("PATH", str(tmp_path))
  executor.check(sweep_in(tmp_path), flags_of())
  check = raising.about("--sweep_dir", given="gs://bucket/sweep")
  with pytest.raises(errors.InputError, check=check):
    executor.check(sweep_in("gs://bucket/sweep"), flags_of())


def test_cancel_succeeds_although_runs_are_not_done(
  tmp_path, monkeypatch, capsys
):
  """The exit code is 0, unlike that of `status`."""
  squeue = tmp_path / "bin" / "squeue"
  squeue.parent.mkdir()
  squeue.write_text("#!/bin/sh\n")  # An empty queue.
  squeue.chmod(0o755)
  monkeypatch.setenv("PATH", str(squeue.parent))
  sweep = units.write(sweep_in(tmp_path / "sweep"))
  assert executor.cancel(sweep, flags_of()) == errors.EXIT_DONE
  said = capsys.readouterr().out
  assert said.startswith("0 ") and "2 waiting" in said
  assert executor.status(sweep, flags_of()) == errors.EXIT_FAILED


def test_queue_is_read():
  text = "12_0|RUNNING|None\n12_3|PENDING|Nodes required, are DOWN\n\n"
  assert executor.read_queue(text) == {
    "12_0": executor.QueuedTask("RUNNING", "None"),
    "12_3": executor.QueuedTask("PENDING", "Nodes required, are DOWN"),
  }
  assert executor.read_queue("") == {}


def test_notes_of_a_script_are_read(tmp_path):
  unit = units.Unit("one", {}, epath.Path(tmp_path))
  assert executor.read_notes(unit) == []
  (tmp_path / slurm_script.NOTES).write_text(
    "2026-01-02T03:04:05.678+00:00 12_3 start node[1-2]\n"
    "2026-01-02T03:05:05.678+00:00 12_3 end 75\n2026-01-0"
  )
  first, last = executor.read_notes(unit)
  assert (first.job, first.event, first.text) == ("12_3", "start", "node[1-2]")
  assert (last.event, last.text) == ("end", "75")
  assert units.seconds_between(first.time, last.time) == 60


@pytest.mark.parametrize("flag", ["account", "partition", "sbatch_args"])
@pytest.mark.parametrize("end", ["\n", "\r", "\0", "\x1b", "\u2028"])
def test_fault_22_options_are_one_line(flag, end):
  given = f'--comment="a{end}b"' if flag == "sbatch_args" else f"a{end}touch x"
  check = raising.about(f"--{flag}", given=repr(given))
  with pytest.raises(errors.InputError, check=check):
    resources(**{flag: given})


def test_fault_22_folders_in_options_are_one_line(tmp_path, monkeypatch):
  for name in ("sbatch", "squeue", "scontrol", "scancel"):
    (tmp_path / name).touch(mode=0o755)
  monkeypatch.setenv("PATH", str(tmp_path))
  folder = tmp_path / "a\ntouch x"
  with pytest.raises(errors.InputError, check=raising.about("--sweep_dir")):
    executor.check(sweep_in(folder), flags_of())
  folder.mkdir()
  monkeypatch.chdir(folder)
  check = raising.about("working directory")
  with pytest.raises(errors.InputError, check=check):
    executor.check(sweep_in(tmp_path), flags_of())


def test_fault_22_foreign_notes_are_left_out(tmp_path):
  unit = units.Unit("one", {}, epath.Path(tmp_path))
  time = "2026-01-02T03:04:05.678+00:00"
  (tmp_path / slurm_script.NOTES).write_bytes(
    f"{time} 1_0 end 9x\nyesterday 1_0 start n\n{time} 1_0 end 0\n".encode()
    + b"\xff\xfe 1 2 3\n"
  )
  assert [note.text for note in executor.read_notes(unit)] == ["0"]


def test_a_dry_run_shows_the_script_without_slurm(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.setenv("PATH", "/nowhere")
  sweep = sweep_in(tmp_path)
  sweep.units[0].workdir.mkdir()
  (sweep.units[0].workdir / "status.json").write_text('{"state": "done"}')
  flags = flags_of(nodes=2, gpus_per_node=4)
  executor.preview(sweep, flags)
  expected = slurm_script.format_script(
    sweep, sweep.units[1:], slurm_script.read_resources(flags), os.getcwd()
  )
  assert capsys.readouterr().out == expected
  assert expected.splitlines()[0] == "#!/bin/bash"
  check = raising.about("--nodes", given=0)
  with pytest.raises(errors.InputError, check=check):
    executor.preview(sweep, flags_of(nodes=0))


def test_a_smoke_run_is_awaited_and_ctrl_c_cancels_it(tmp_path, monkeypatch):
  task = executor.QueuedTask("PENDING", "Resources")
  asked = []
  monkeypatch.setattr(executor, "_ask", lambda *words: asked.append(words))
  monkeypatch.setattr(executor.time, "sleep", lambda seconds: None)
  queues = [{"7_0": task}, {"7_0": task}, {}]
  monkeypatch.setattr(executor, "_refresh", lambda sweep: queues.pop(0))
  executor.wait(sweep_in(tmp_path))
  assert not queues and not asked

  def interrupt(seconds):
    raise KeyboardInterrupt

  monkeypatch.setattr(executor, "_refresh", lambda sweep: {"7_0": task})
  monkeypatch.setattr(executor.time, "sleep", interrupt)
  with pytest.raises(KeyboardInterrupt):
    executor.wait(sweep_in(tmp_path))
  assert asked == [("scancel", "7_0")]
