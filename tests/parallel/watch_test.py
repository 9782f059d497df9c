"""Tests that a job of several processes never hangs, whoever is lost."""

import os
import signal
import time

import pytest

from imgbench import errors
from imgbench.parallel import members
from tests.parallel import jobs
from tests.train import processes as runs

# Long, logged at every step: there is always a step to be killed in.
OFTEN = (
  "--config.steps.total=4000 steps",
  "--config.logging.every=1 steps",
  "--config.evaluation.every=never",
)
# From the loss of a process to the end of the others, on a busy machine.
AT_ONCE_S = 20
SILENT_S = 4


def saved_steps(workdir) -> list[int]:
  """Steps with a finished checkpoint, oldest first."""
  return sorted(
    int(p.name) for p in workdir.glob("checkpoints/*") if p.name.isdigit()
  )


def lose(job: jobs.Job, index: int, number: int, most_s: float) -> str:
  """Sends a signal to a process; returns the last line of the other one."""
  os.kill(job.processes[index].pid, number)
  began = time.monotonic()
  other = job.processes[1 - index]
  assert other.wait(jobs.TIMEOUT_S) == errors.EXIT_FAILED, job.logs()
  assert time.monotonic() - began < most_s
  job.end()
  lines = jobs.log_lines(job.log(1 - index), "imgbench: error:")
  assert len(lines) == 1 and "Traceback" not in job.log(1 - index)
  assert "stack trace" not in job.log(1 - index)
  return lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_and_the_job_goes_on(tmp_path, killed):
  workdir = tmp_path / "run"
  job = jobs.start(workdir, *OFTEN)
  job.wait_for(lambda: saved_steps(workdir))
  line = lose(job, killed, signal.SIGKILL, AT_ONCE_S)
  assert f"process {killed} of 2" in line
  assert members.GONE in line
  assert str(job.processes[killed].pid) in line
  if killed == 1:  # Both leave the same files.
    return
  last = saved_steps(workdir)[-1]
  total = f"--config.steps.total={last + 2} steps"
  log = jobs.run(workdir, *OFTEN[1:], total).log(0)
  assert f"resuming at step {last} of {last + 2}" in log
  assert f"step {last + 2}/{last + 2}" in log


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_process_that_is_silent(tmp_path, stopped):
  workdir = tmp_path / "run"
  job = jobs.start(workdir, *OFTEN, f"--process_timeout_s={SILENT_S}")
  job.wait_for(jobs.has_step(workdir, 6))
  line = lose(job, stopped, signal.SIGSTOP, SILENT_S + AT_ONCE_S)
  assert f"process {stopped} of 2" in line
  assert members.silence(SILENT_S) in line


@pytest.mark.slow
def test_an_error_of_one_process_ends_all(tmp_path):
  """Here the second one has another batch size than its devices take."""
  job = jobs.start(tmp_path / "run", own={1: ("--config.loss.name=no",)})
  assert job.wait() == [errors.EXIT_USAGE] * 2, job.logs()
  first, second = (
    jobs.log_lines(job.log(i), "imgbench: error:")[0] for i in range(2)
  )
  assert second.startswith("imgbench: error: loss.name: ")
  assert "process 1 of 2" in first and "loss.name" in first
  assert not (tmp_path / "run" / "status.json").exists()


@pytest.mark.slow
def test_a_workdir_that_is_not_shared(tmp_path):
  other = f"--workdir={tmp_path / 'other'}"
  job = jobs.start(tmp_path / "run", own={1: (other,)})
  assert job.wait() == [errors.EXIT_USAGE] * 2, job.logs()
  assert "imgbench: error: --workdir: " in job.log(0)
  assert "[1]" in job.log(0)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1])
def test_sigterm_on_one_process_saves_and_ends_both(tmp_path, asked):
  """At the same step; the run ends as one that was never stopped."""
  workdir = tmp_path / "run"
  job = jobs.start(workdir, *OFTEN)
  job.wait_for(jobs.has_step(workdir, 6))
  job.processes[asked].send_signal(signal.SIGTERM)
  assert job.wait() == [errors.EXIT_PREEMPTED] * 2, job.logs()
  stops = [
    jobs.log_lines(job.log(i), "imgbench: stopped at step ") for i in range(2)
  ]
  assert len(stops[0]) == 1 and stops[0] == stops[1]
  status = runs.read_json(workdir, "status.json")
  assert status["state"] == "preempted"
  assert f"stopped at step {status['step']} of 4000" in stops[0][0]
  assert (workdir / "checkpoints" / str(status["step"])).is_dir()


@pytest.mark.slow
def test_sigterm_before_the_first_step_ends_both(tmp_path):
  """It may arrive before there is anything to save, or right after."""
  workdir = tmp_path / "run"
  job = jobs.start(workdir, *OFTEN)
  # Both have their handlers before the first of them opens the data.
  job.wait_for(lambda: "reading scenes" in job.log(0))
  job.processes[1].send_signal(signal.SIGTERM)
  assert job.wait() == [errors.EXIT_PREEMPTED] * 2, job.logs()
  assert "Traceback" not in job.logs()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_both(tmp_path):
  """All find it at the same step, and the first one writes it down."""
  workdir = tmp_path / "run"
  job = jobs.start(workdir, *OFTEN, "--config.schedule.peak=1e30")
  assert job.wait() == [errors.EXIT_FAILED] * 2, job.logs()
  lines = [
    jobs.log_lines(job.log(i), "imgbench: error: the training loss")
    for i in range(2)
  ]
  assert len(lines[0]) == 1 and lines[0] == lines[1]
  assert runs.read_json(workdir, "status.json")["state"] == "diverged"
