"""Trains a few steps of a run to measure them; saves only their times."""

import contextlib

import jax
import ml_collections

from imgbench import config as config_lib
from imgbench import errors
from imgbench import paths
from imgbench import run_files
from imgbench import timing
from imgbench.parallel import processes
from imgbench.train import setup
from imgbench.train import stepper

_UNCOUNTED = 2  # dispatches, which wait for the first images


def measure(
  config: ml_collections.ConfigDict,
  workdir: str,
  steps: int,
  group: processes.Group = processes.ALONE,
) -> dict[str, float]:
  """Trains, without evaluations and checkpoints, and returns seconds.

  Args:
    config: of a run.
    workdir: gets status.json, with state "done", the steps of the whole run
      and the seconds.
    steps: at least so many are timed, whole dispatches.
    group: of the processes of the run.

  Returns:
    "setup_s", "compile_s", "step_s" (of one step), and the rest.

  Raises:
    InputError: bad config or data, or a workdir that has a run.
    RunError: the loss is not finite.
  """
  settings = config_lib.parse(config)
  folder = paths.reach(workdir, "--workdir")
  paths.check_writable(folder, "--workdir")
  with contextlib.ExitStack() as stack:
    if group.first:
      stack.enter_context(run_files.locked(folder))
      if run_files.read_status(folder):
        raise errors.InputError("--workdir", "a folder without a run", folder)
    try:
      times, facts = _train(settings, steps)
    except Exception as error:
      if group.first:
        run_files.write_status(folder, run_files.FAILED, message=str(error))
      raise
    if group.first:
      run_files.write_status(folder, run_files.DONE, times=times, **facts)
  return times


def _train(
  settings: config_lib.Config, steps: int
) -> tuple[dict[str, float], dict[str, int]]:
  """Returns seconds, and the steps done and of the whole run."""
  watch = timing.Stopwatch()
  with watch.section("setup_s"):
    run = setup.prepare(settings)
  many = run.training.steps_per_dispatch
  first = _UNCOUNTED * many
  last = first - steps // -many * many
  with contextlib.closing(run.training.feed):
    with watch.section("compile_s"):
      trained = stepper.Stepper(run.training, run.state, (first, last))
    with watch.section("warmup_s"):
      state, _ = trained.advance(run.state, 0, first)
    with watch.section("train_s"):
      state, _ = trained.advance(state, first, last)
  bad_step, loss = jax.device_get((state.bad_step, state.last_finite_loss))
  if bad_step:
    raise errors.NonFiniteLossError(int(bad_step), float(loss))
  step_s = watch.total("train_s") / (last - first)
  total = run.data.periods.total
  return {**watch.totals(), "step_s": step_s}, {
    "step": last,
    "total_steps": total,
  }
