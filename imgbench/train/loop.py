"""The training loop: set up, train, log, evaluate, save."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import errno
import functools
import math
from typing import Any
from typing import NoReturn
from typing import Protocol

from absl import logging
import jax
import ml_collections

from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import environment
from imgbench import errors
from imgbench import interrupts
from imgbench import paths
from imgbench import run_files
from imgbench import timing
from imgbench.evaluators import base as evaluators_base
from imgbench.metrics import diagnostics
from imgbench.metrics import specs
from imgbench.parallel import determinism
from imgbench.parallel import processes
from imgbench.train import evaluation
from imgbench.train import journal as journal_lib
from imgbench.train import outputs
from imgbench.train import profiling
from imgbench.train import saving
from imgbench.train import setup
from imgbench.train import start as start_lib
from imgbench.train import state as state_lib
from imgbench.train import stepper

Results = dict[str, dict[str, Any]]  # contents of results.json
Evaluations = dict[str, evaluators_base.Evaluation]  # by alias


@dataclasses.dataclass(frozen=True)
class Flops:
  """Numbers for train/mfu; a multiply-add is two FLOPs.

  Attributes:
    per_image: FLOPs of a training step divided by its images.
    peak_per_s: peak FLOP/s of all devices of the run together.
  """

  per_image: float
  peak_per_s: float

  def mfu(self, images_per_s: float) -> float:
    """Returns the fraction of the peak that a training speed reaches."""
    return images_per_s * self.per_image / self.peak_per_s


# None: unknown, and train/mfu is not logged.
CountFlops = Callable[[setup.Training], Flops | None]


class StopSignal(Protocol):
  """Says whether the run is asked to stop; see `interrupts.StopRequest`."""

  def requested(self) -> bool:
    """Returns whether to stop; all processes ask equally often."""

  def defer(self) -> None:
    """Called once there are steps to save before stopping."""


def train_and_evaluate(
  config: ml_collections.ConfigDict,
  workdir: str,
  group: processes.Group = processes.ALONE,
  *,
  profile: profiling.ProfiledSteps | None = None,
  count_flops: CountFlops = lambda training: None,
  prepared: setup.Prepared | None = None,
  watch: timing.Stopwatch | None = None,
  stop: StopSignal | None = None,
) -> Results:
  """Trains and evaluates one model, or resumes where it was stopped.

  Args:
    config: see `configs.common.base_config`.
    workdir: folder of the run, may be gs://BUCKET/FOLDER; created if missing.
      All processes see it.
    group: of the processes of the run, see `processes.join`.
    profile: steps whose profiler trace is written to WORKDIR/profile, rounded
      outward to whole dispatches. The first process writes it.
    count_flops: see `Flops`; called once, before training.
    prepared: for benchmarks: what `setup.prepare` returned; its state is used
      up. None: prepared here.
    watch: for benchmarks: gets the seconds of a new run's sections.
    stop: asks the run to stop; None: SIGTERM, SIGHUP and Ctrl-C do.

  Returns:
    The contents of results.json. A finished run returns its results again.

  Raises:
    InputError: bad config, data or workdir; nothing is overwritten.
    RunError: the loss is not finite, the disk is full, no checkpoint is whole.
    Preempted: a signal came, and the state is saved.
  """
  settings = config_lib.parse(config)
  _check_processes(settings, group)
  folder = paths.reach(workdir, "--workdir")
  profiling.check_folder(profile, folder)
  read_results = functools.partial(_read_finished, folder, config)
  results = group.from_first(read_results)
  if results is not None:
    if profile is not None and group.first:
      logging.warning("--profile_steps: no trace is written, the run is done")
    return results
  paths.check_writable(folder, "--workdir")
  starts = start_lib.check(folder, settings.recipe.init)

  with contextlib.ExitStack() as stack:
    stop = stop or stack.enter_context(interrupts.StopRequest(group.agreed))
    watch = watch or timing.Stopwatch()

    # Devices, data, model and state.
    with watch.section("setup_s"):
      source = group if starts else None
      run = prepared or setup.prepare(settings, profile, source)
    training, total, state = run.training, run.data.periods.total, run.state
    periods = run.data.periods
    if group.first:
      stack.enter_context(run_files.locked(folder))
    run_files.check_shared(folder, group)
    results = group.from_first(read_results)  # Another process may have run.
    if results is not None:
      return results
    flops = count_flops(training)
    profiler = profiling.Profiler(
      profile
      and profile.round_to_dispatches(training.steps_per_dispatch, total),
      folder,
      group.first,
    )
    journal = journal_lib.Journal(
      folder,
      config_utils.to_dict(config),
      total,
      training.global_batch_size,
      settings.logging.tensorboard,
      group.first,
      settings.logging.writers,
    )
    position = journal_lib.Position()
    parts = [profiler, training.feed, journal]
    stack.enter_context(_report_end(folder, journal, position, group, parts))

    # Restore.
    checkpoints = saving.Saving(
      folder,
      settings.checkpoint,
      training.strategy,
      training.info,
      settings.recipe,
      total,
      group,
    )
    parts.append(checkpoints)
    state, watch = checkpoints.restore(state, position, watch)
    if not settings.recipe.init.train and position.step != total:
      expected = f"{position.step} steps, as init.train=False"
      raise errors.InputError("steps.total", expected, total)
    _compare_rates(position, training, total, group)
    save = functools.partial(_save, checkpoints, journal, position, training)
    save_and_stop = functools.partial(
      _save_and_stop, save, checkpoints, position, total
    )
    shares = evaluation.find_trained_shares(
      run.data.plan, run.evaluators, run.data.split, training.image_ids
    )
    profiler.begin(position.step)
    if group.first:
      facts = environment.collect()
      described = outputs.describe_run(facts, training, run.evaluators, shares)
      journal.open(position, described)

    # Step.
    if position.step < total:
      with watch.section("compile_s"):
        steps = stepper.Stepper(
          training, state, (position.step, *periods.list_all())
        )
    stop.defer()

    # Loop: train up to the next event, then log, evaluate and save.
    evaluations: Evaluations = {}
    while position.pending_event or position.step < total:
      if not position.pending_event:
        if stop.requested():
          save_and_stop(state, watch)
        profiler.update(position.step)
        event = _find_next_event(position.step, periods, profiler.stops)
        with watch.section("train_s"):
          state, position.step = steps.advance(
            state,
            position.step,
            event,
            stop.requested,
            journal.progress.advance,
          )
        _check_finite(state, journal)
        if position.step < event:
          continue  # Asked to stop.
      is_due = functools.partial(_is_due, position.step, total)
      record = {}
      if is_due(periods.logging):
        with watch.section("log_s"):
          record = _measure_training(state, position, watch, training, flops)
      due = [a for a in run.evaluators if is_due(periods.evaluation[a])]
      evaluations = {}  # Frees the earlier ones.
      try:
        evaluations = _evaluate(run.evaluators, due, state, watch, stop)
      except evaluators_base.EvaluationStopped:
        position.pending_event = True
        save_and_stop(state, watch)
      position.pending_event = False
      values = record | _list_values(evaluations)
      if values:
        with watch.section("log_s"):
          journal.log(position.step, values)
          if record:
            state = _start_window(state, position, watch, training)
      is_best = _update_best(
        settings.checkpoint.best, evaluations, position, group
      )
      if is_best or is_due(periods.checkpoint):
        save(state, watch)
      if position.step < total:
        evaluations = {}
    profiler.update(position.step)
    journal.progress.close()

    # Final evaluation, where the run was resumed after its last step.
    if not evaluations:
      try:
        evaluations = _evaluate(
          run.evaluators, run.evaluators, state, watch, stop
        )
      except evaluators_base.EvaluationStopped:
        save_and_stop(state, watch)

    # Results, written in spite of a signal.
    checkpoints.wait()
    results = group.from_first(
      lambda: outputs.write_results(
        folder,
        run.data.plan.compare(evaluations),
        run.evaluators,
        shares,
        position.warnings,
        settings.evaluation.warnings,
        run.data.plan.known_leaks,
        settings.logging.report,
      )
    )
    journal.write_status(run_files.DONE, position, times=watch.totals())
    return results


def _check_processes(
  settings: config_lib.Config, group: processes.Group
) -> None:
  if settings.deterministic:
    determinism.require()
  if group is processes.ALONE and jax.process_count() > 1:
    raise errors.InputError(
      "group",
      f"that of processes.join, which watches {jax.process_count()} processes",
      "none",
    )


def _read_finished(
  folder: paths.Folder, config: ml_collections.ConfigDict
) -> Results | None:
  """Returns the results of a finished run, or None.

  Raises:
    InputError: the folder holds a run of another config.
  """
  plain = config_utils.to_dict(config)
  run_files.check_config(folder, plain, config_lib.find_defaults)
  results = run_files.read_finished_results(
    folder, config_utils.hash_dict(plain)
  )
  if results is not None:
    logging.info("%s is done already; its results:", folder)
  return results


@contextlib.contextmanager
def _report_end(
  folder: paths.Folder,
  journal: journal_lib.Journal,
  position: journal_lib.Position,
  group: processes.Group,
  parts: list[Any],
) -> Iterator[None]:
  """Writes to status.json why the block failed, and closes its parts.

  Args:
    folder: of the run.
    journal: writes the status.
    position: of the run, kept up to date.
    group: of its processes.
    parts: closed in this order. Checkpoints only where all processes close
      theirs, which wait for each other.
  """

  def note_end(text: str, code: int) -> None:  # Another process ended the run.
    preempted = code == errors.EXIT_PREEMPTED
    state = run_files.PREEMPTED if preempted else run_files.FAILED
    journal.write_status(state, position, message=text)

  group.on_end(note_end)
  together = group is processes.ALONE
  try:
    yield
    together = True
  except errors.Preempted as stop:
    journal.write_status(run_files.PREEMPTED, position)
    together |= stop.together
    raise
  except errors.NonFiniteLossError as error:
    journal.write_status(run_files.DIVERGED, position, message=str(error))
    together = True
    raise
  except Exception as error:
    journal.write_status(run_files.FAILED, position, message=str(error))
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError) and full:
      raise errors.RunError(
        f"{folder} is full ({error}); everything saved is whole. Free some"
        " space and run the same command again"
      ) from error
    raise
  finally:
    for part in parts:
      if together or not isinstance(part, saving.Saving):
        try:
          part.close()
        except Exception as error:  # It must not hide the first one.
          logging.warning("while closing: %s", paths.describe_error(error))


def _find_rate(
  position: journal_lib.Position, training: setup.Training
) -> float:
  """Returns the learning rate of the next step."""
  return float(training.compute.schedule(position.step))


def _compare_rates(
  position: journal_lib.Position,
  training: setup.Training,
  total: int,
  group: processes.Group,
) -> None:
  """Warns if a resumed run has another schedule than when it was saved."""
  before, after = position.learning_rate, _find_rate(position, training)
  rounding = 1e-6 * training.compute.schedule.peak
  if before is None or position.step >= total or abs(after - before) < rounding:
    return
  row = diagnostics.describe_rate_jump(
    training.info.key, position.step, before, after
  )
  position.warnings.append(row)
  if group.first:
    logging.warning("%s", row["message"])


def _save(
  checkpoints: saving.Saving,
  journal: journal_lib.Journal,
  position: journal_lib.Position,
  training: setup.Training,
  state: state_lib.TrainState,
  watch: timing.Stopwatch,
) -> None:
  with watch.section("checkpoint_s"):
    journal.flush()
    examples_seen = position.step * training.global_batch_size
    position.learning_rate = _find_rate(position, training)
    checkpoints.save(state, position, watch, examples_seen)
  journal.write_status(run_files.RUNNING, position)


def _save_and_stop(
  save: Callable[[state_lib.TrainState, timing.Stopwatch], None],
  checkpoints: saving.Saving,
  position: journal_lib.Position,
  total_steps: int,
  state: state_lib.TrainState,
  watch: timing.Stopwatch,
) -> NoReturn:
  save(state, watch)
  checkpoints.wait()
  raise errors.Preempted(
    f"stopped at step {position.step} of {total_steps}, saved in"
    f" {checkpoints.folder}; the same command resumes",
    together=True,
  )


def _check_finite(
  state: state_lib.TrainState, journal: journal_lib.Journal
) -> None:
  bad_step, last_loss = jax.device_get((state.bad_step, state.last_finite_loss))
  if bad_step:
    journal.progress.close()
    last = float(last_loss) if bad_step > 1 else math.nan
    raise errors.NonFiniteLossError(int(bad_step), last)


def _find_next_event(
  step: int, periods: setup.Periods, stops: Sequence[int]
) -> int:
  """Returns the first step after this one at which something is due.

  Args:
    step: steps done.
    periods: of the run.
    stops: further steps.
  """
  nexts = [(step // p + 1) * p for p in periods.list_all() if p]
  nexts += [stop for stop in stops if stop > step]
  return min(*nexts, periods.total)


def _is_due(step: int, total: int, period: int) -> bool:
  return step == total or bool(period and step % period == 0)


def _measure_training(
  state: state_lib.TrainState,
  position: journal_lib.Position,
  watch: timing.Stopwatch,
  training: setup.Training,
  flops: Flops | None,
) -> dict[str, float]:
  """Returns the record of the steps since the last logged one."""
  window = jax.device_get(state.window)
  train_s = watch.total("train_s")
  since_s = max(train_s - position.logged_train_s, 1e-9)
  seen = position.step * training.global_batch_size
  learning_rate = training.compute.schedule(position.step - 1)
  images_per_s = int(window.examples) / since_s
  record = {
    "epoch": seen / training.info.num_examples,
    "train/loss": float(window.loss_sum / window.steps),
  }
  if training.compute.loss.predicts_classes:
    record["train/top1_accuracy"] = int(window.top1_hits) / int(window.examples)
  if training.compute.loss.metric:
    metric = f"train/{training.compute.loss.metric}"
    record[metric] = record["train/loss"]
  record |= {
    "train/grad_norm": float(window.grad_norm_sum / window.steps),
    "train/learning_rate": float(learning_rate),
    "train/images_per_s": images_per_s,
    "time/train_s": train_s,
  }
  if flops is not None:
    record["train/mfu"] = flops.mfu(images_per_s)
  if training.info.streamed:
    waited_s = training.feed.waited_s
    record["train/input_wait_share"] = min(waited_s / since_s, 1.0)
  return record


def _start_window(
  state: state_lib.TrainState,
  position: journal_lib.Position,
  watch: timing.Stopwatch,
  training: setup.Training,
) -> state_lib.TrainState:
  """Returns the state with nothing summed since the logged step."""
  position.logged_train_s = watch.total("train_s")
  training.feed.waited_s = 0.0
  empty = training.strategy.replicate(state_lib.Window.empty())
  return dataclasses.replace(state, window=empty)


def _evaluate(
  evaluators: Mapping[str, evaluators_base.Evaluator],
  aliases: Iterable[str],
  state: state_lib.TrainState,
  watch: timing.Stopwatch,
  stop: StopSignal,
) -> Evaluations:
  """Returns evaluations by alias. Raises EvaluationStopped."""
  variables = {"raw": state.variables, "ema": state.ema or {}}
  with watch.section("eval_s"):
    return evaluators_base.run(
      {alias: evaluators[alias] for alias in aliases}, variables, stop.requested
    )


def _list_values(evaluations: Evaluations) -> dict[str, float]:
  """Returns "ALIAS/METRIC" -> value of the measurements on all examples."""
  return {
    f"{alias}/{metric}": value.value
    for alias, found in evaluations.items()
    for (subset, metric), value in found.measurements.items()
    if subset == "all" and value.value is not None
  }


def _update_best(
  wanted: str,
  evaluations: Evaluations,
  position: journal_lib.Position,
  group: processes.Group,
) -> bool:
  """Returns whether this step is the best so far, and notes it.

  Args:
    wanted: "ALIAS/METRIC" of the config; "": none.
    evaluations: of this step.
    position: `best` is updated.
    group: of the processes of the run.
  """
  alias, _, metric = wanted.partition("/")
  if alias not in evaluations:
    return False
  # From one process: processes must not differ in a last bit.
  score = group.from_first(
    lambda: evaluations[alias].measurements["all", metric].value
  )
  if score is None:
    return False
  before = position.best.get("value", score)
  if specs.is_better(metric, before, than=score):
    return False  # Of equal ones the newest is kept.
  position.best = {"metric": wanted, "value": score, "step": position.step}
  return True
