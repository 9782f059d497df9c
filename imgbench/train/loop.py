"""The one training loop: iterate, log, evaluate, save."""

from collections.abc import Callable
import contextlib
import dataclasses
import errno
from typing import Any
from typing import NoReturn

from absl import logging
import jax
import ml_collections

from imgbench import config_utils
from imgbench import environment
from imgbench import errors
from imgbench import paths
from imgbench import run_files
from imgbench import timing
from imgbench.evaluators import base as evaluators_base
from imgbench.metrics import specs
from imgbench.parallel import determinism
from imgbench.parallel import processes
from imgbench.train import interrupts
from imgbench.train import journal as journal_lib
from imgbench.train import outputs
from imgbench.train import profiling
from imgbench.train import saving
from imgbench.train import setup
from imgbench.train import state as state_lib
from imgbench.train import stepper


@dataclasses.dataclass(frozen=True)
class Flops:
  """What train/mfu is computed from; a multiply-add is two FLOPs.

  Attributes:
    per_image: FLOPs of a training step by its images.
    peak_per_s: peak FLOP/s of all devices of the run together.
  """

  per_image: float
  peak_per_s: float

  def mfu(self, images_per_s: float) -> float:
    """Returns the fraction of the peak that a training speed reaches."""
    return images_per_s * self.per_image / self.peak_per_s


# None: unknown, and there is no train/mfu.
CountFlops = Callable[[ml_collections.ConfigDict, setup.Parts], Flops | None]


def train_and_evaluate(
  config: ml_collections.ConfigDict,
  workdir: str,
  group: processes.Group = processes.ALONE,
  *,
  profile: profiling.Steps | None = None,
  count_flops: CountFlops = lambda config, parts: None,
) -> dict[str, dict[str, Any]]:
  """Trains and evaluates one model, or goes on where it was stopped.

  Args:
    config: see `configs.common.base_config`.
    workdir: folder of the run, may be gs://BUCKET/FOLDER; made if it is not
      there. All processes see it.
    group: of the processes of the run, see `processes.join`.
    profile: steps whose profiler trace is written to WORKDIR/profile, rounded
      outward to whole dispatches. The first process writes it.
    count_flops: see `Flops`; called once, before training.

  Returns:
    What results.json holds. A finished run gives its results again.

  Raises:
    InputError: bad config, data or workdir; nothing is written over.
    RunError: the loss is not finite, the disk is full, no checkpoint is whole.
    Preempted: SIGTERM or Ctrl-C came, and the state is saved.
  """
  if config.get("deterministic", False):
    determinism.require()
  if group is processes.ALONE and jax.process_count() > 1:
    raise errors.InputError(
      "group: expected that of processes.join, which watches over the"
      f" {jax.process_count()} processes, got none"
    )
  folder = paths.of(workdir)
  profiling.check_folder(profile, folder)
  check = lambda: _check_workdir(folder, config)
  results = group.from_first(check)
  if results is not None:
    if profile is not None and group.first:
      logging.warning("--profile_steps: no trace is written, the run is done")
    return results
  with interrupts.StopRequest(group) as stop:
    watch = timing.Stopwatch()
    with watch.section("setup_s"):
      parts = setup.build(config, profile)
    with _locked(folder, group):
      run_files.check_shared(folder, group)
      # Another run may have come between.
      results = group.from_first(check)
      if results is not None:
        return results
      counted = count_flops(config, parts)
      run = Run(config, folder, parts, watch, stop, group, counted)
      return run.train_and_evaluate()


def _locked(folder: paths.Folder, group: processes.Group):
  """Another run is kept out by the first process."""
  return run_files.locked(folder) if group.first else contextlib.nullcontext()


def _check_workdir(
  folder: paths.Folder, config: ml_collections.ConfigDict
) -> dict[str, dict[str, Any]] | None:
  """Results of a finished run, None of another. Raises InputError."""
  run_files.check_config(folder, config_utils.to_dict(config))
  results = run_files.finished_results(folder, config_utils.config_hash(config))
  if results is not None:
    logging.info("%s is done already; its results:", folder)
  return results


class Run:
  """One start of a run.

  Args:
    config: of the run.
    folder: its workdir, locked.
    parts: what `setup.build` made of the config.
    watch: with the time that the set-up took.
    stop: entered; says whether the run is asked to stop.
    group: of the processes of the run.
    flops: for train/mfu; None: without it.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    folder: paths.Folder,
    parts: setup.Parts,
    watch: timing.Stopwatch,
    stop: interrupts.StopRequest,
    group: processes.Group = processes.ALONE,
    flops: Flops | None = None,
  ):
    self._stop = stop
    self._config = config
    self._folder = folder
    self._parts = parts
    self._periods = parts.periods
    self._watch = watch
    self._group = group
    self._flops = flops
    self._state = parts.state
    self._position = journal_lib.Position()
    self._logged_wait_s = 0.0
    self._evaluations: dict[str, evaluators_base.Evaluation] = {}
    self._journal = journal_lib.Journal(folder, config, parts, group.first)
    self._saving: saving.Saving | None = None
    self._profiler = profiling.Profiler(parts.profiled, folder, group.first)

  @property
  def _step(self) -> int:
    return self._position.step

  def train_and_evaluate(self) -> dict[str, dict[str, Any]]:
    """See the function of this name. Keeps status.json true."""
    self._group.on_end(self._end_through_another)
    # Whether all processes come to the end of the checkpoints.
    together = self._group is processes.ALONE
    try:
      self._open()
      self._train()
      evaluations = self._final_evaluations()
      self._saving.wait()
      results = self._group.from_first(lambda: self._finish(evaluations))
      together = True
      return results
    except errors.Preempted as stop:
      self._write_status(run_files.PREEMPTED)
      together |= stop.together
      raise
    except errors.NonFiniteLossError as error:
      self._write_status(run_files.DIVERGED, message=str(error))
      together = True
      raise
    except Exception as error:
      self._write_status(run_files.FAILED, message=str(error))
      full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
      if isinstance(error, OSError) and full:
        raise errors.RunError(
          f"{self._folder} is full ({error}); what was saved is whole. Free"
          " some space and give the same command again"
        ) from error
      raise
    finally:
      self._close(together)

  def _end_through_another(self, text: str, code: int) -> None:
    preempted = code == errors.EXIT_PREEMPTED
    state = run_files.PREEMPTED if preempted else run_files.FAILED
    self._write_status(state, message=text)

  def _open(self) -> None:
    self._saving = saving.Saving(
      self._folder, self._config, self._parts, self._group
    )
    self._state, self._position, self._watch = self._saving.restore(
      self._state, self._watch
    )
    self._profiler.begin(self._step)
    if self._group.first:
      described = outputs.describe(environment.collect(), self._parts)
      self._journal.open(self._position, described)

  def _finish(self, evaluations) -> dict[str, dict[str, Any]]:
    results = outputs.write(
      self._folder, evaluations, self._parts, self._config.logging.report
    )
    self._write_status(run_files.DONE, times=self._watch.totals())
    return results

  def _close(self, together: bool) -> None:
    """Ends what goes on in the background; a run that failed says why."""
    checkpoints = self._saving if together else None
    for part in (
      self._profiler,
      self._parts.feed,
      self._journal,
      checkpoints,
    ):
      try:
        if part is not None:
          part.close()
      except Exception as error:  # It must not hide the first one.
        logging.warning("while closing: %s", error)

  def _write_status(self, state: str, **facts) -> None:
    self._journal.write_status(state, self._position, **facts)

  # Saving.

  def _update_best(self) -> bool:
    """Whether an evaluation of this step is the best so far."""
    best = self._config.checkpoint.best
    alias, _, metric = best.partition("/")
    if alias not in self._evaluations:
      return False
    # Of one process: a last bit that differs must not part the processes.
    score = self._group.from_first(
      lambda: self._evaluations[alias].measurements["all", metric].value
    )
    if score is None:
      return False
    before = self._position.best.get("value", score)
    if specs.is_better(metric, before, than=score):
      return False  # Of equal ones the newest is kept.
    self._position.best = {"metric": best, "value": score, "step": self._step}
    return True

  def _save(self) -> None:
    with self._watch.section("checkpoint_s"):
      self._journal.flush()
      self._saving.save(self._state, self._position, self._watch)
    self._write_status(run_files.RUNNING)

  def _save_and_stop(self) -> NoReturn:
    self._save()
    self._saving.wait()
    self._journal.end_progress()
    raise errors.Preempted(
      f"stopped at step {self._step} of {self._periods.total}, saved in"
      f" {self._folder}; the same command goes on",
      together=True,
    )

  # Training.

  def _train(self) -> None:
    if self._step < self._periods.total:
      with self._watch.section("compile_s"):
        stops = (self._periods.logging, self._periods.checkpoint)
        stops += tuple(self._periods.evaluation.values())
        steps = stepper.Stepper(
          self._parts, (self._step, self._periods.total, *stops)
        )
    self._stop.defer()
    if self._position.pending_event:
      self._handle_event()
    while self._step < self._periods.total:
      if self._stop.requested():
        self._save_and_stop()
      self._profiler.update(self._step)
      before, event = self._step, self._next_event()
      with self._watch.section("train_s"):
        self._state, self._position.step = steps.advance(
          self._state,
          self._step,
          event,
          self._stop.requested,
          self._journal.advance,
        )
      self._check_finite()
      if before < self._step == event:
        self._handle_event()
    self._profiler.update(self._step)
    self._journal.end_progress()

  def _check_finite(self) -> None:
    bad_step, last_loss = jax.device_get(
      (self._state.bad_step, self._state.last_finite_loss)
    )
    if bad_step:
      self._journal.end_progress()
      raise errors.NonFiniteLossError(int(bad_step), float(last_loss))

  # What happens at logged, evaluated and saved steps.

  def _next_event(self) -> int:
    """The first step behind this one at which something is due."""
    periods = [self._periods.logging, self._periods.checkpoint]
    periods += self._periods.evaluation.values()
    nexts = [(self._step // p + 1) * p for p in periods if p]
    nexts += [stop for stop in self._profiler.stops if stop > self._step]
    return min([*nexts, self._periods.total])

  def _due(self, period: int) -> bool:
    return self._at_end() or bool(period and self._step % period == 0)

  def _at_end(self) -> bool:
    return self._step == self._periods.total

  def _handle_event(self) -> None:
    record = {}
    if self._due(self._periods.logging):
      with self._watch.section("log_s"):
        record = self._train_record()
    try:
      record |= self._evaluate()
    except evaluators_base.EvaluationStopped:
      self._position.pending_event = True
      self._save_and_stop()
    self._position.pending_event = False
    if record:
      with self._watch.section("log_s"):
        self._log(record)
    if self._update_best() or self._due(self._periods.checkpoint):
      self._save()
    self._evaluations = self._evaluations if self._at_end() else {}

  def _log(self, record: dict[str, float]) -> None:
    self._journal.log(self._step, record)
    if "train/loss" in record:
      self._position.logged_train_s = self._watch.total("train_s")
      self._logged_wait_s = self._parts.feed.waited_s
      self._state = self._state.replace(
        window=self._parts.strategy.replicate(state_lib.Window.empty())
      )

  def _train_record(self) -> dict[str, float]:
    window = jax.device_get(self._state.window)
    train_s = self._watch.total("train_s")
    seen = self._step * self._parts.global_batch_size
    since_s = max(train_s - self._position.logged_train_s, 1e-9)
    learning_rate = self._parts.compute.schedule(self._step - 1)
    images_per_s = int(window.examples) / since_s
    record = {
      "epoch": seen / self._parts.info.num_examples,
      "train/loss": float(window.loss_sum / window.steps),
      "train/top1_accuracy": int(window.top1_hits) / int(window.examples),
      "train/grad_norm": float(window.grad_norm_sum / window.steps),
      "train/learning_rate": float(learning_rate),
      "train/images_per_s": images_per_s,
      "time/train_s": train_s,
    }
    if self._flops is not None:
      record["train/mfu"] = self._flops.mfu(images_per_s)
    if self._parts.info.streamed:
      waited_s = self._parts.feed.waited_s - self._logged_wait_s
      record["train/input_wait_share"] = min(waited_s / since_s, 1.0)
    return record

  def _evaluate(self, *, everything: bool = False) -> dict[str, float]:
    """Runs the evaluators that are due; returns their part of the record."""
    self._evaluations = {}
    evaluators, periods = self._parts.evaluators, self._periods.evaluation
    due = [a for a in evaluators if everything or self._due(periods[a])]
    variables = {"raw": self._state.variables, "ema": self._state.ema}
    with self._watch.section("eval_s"):
      self._evaluations = evaluators_base.run(
        {a: evaluators[a] for a in due}, variables, self._stop.requested
      )
    return {
      f"{alias}/{metric}": value.value
      for alias, evaluation in self._evaluations.items()
      for (subset, metric), value in evaluation.measurements.items()
      if subset == "all" and value.value is not None
    }

  def _final_evaluations(self) -> dict[str, evaluators_base.Evaluation]:
    """Those of the last step; made again if the run ended just after it."""
    if not self._evaluations:
      try:
        self._evaluate(everything=True)
      except evaluators_base.EvaluationStopped:
        self._save_and_stop()
    return self._evaluations
