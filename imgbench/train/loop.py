"""The one training loop: iterate, log, evaluate, save."""

from collections.abc import Mapping
import errno
import pathlib
from typing import Any

from absl import logging
import jax
import ml_collections

from imgbench import checkpoints
from imgbench import config_utils
from imgbench import errors
from imgbench import run_files
from imgbench import timing
from imgbench import writers
from imgbench.bench import environment
from imgbench.evaluators import base as evaluators_base
from imgbench.train import interrupts
from imgbench.train import outputs
from imgbench.train import progress
from imgbench.train import setup
from imgbench.train import state as state_lib
from imgbench.train import stepper


def train_and_evaluate(
  config: ml_collections.ConfigDict, workdir: str
) -> dict[str, dict[str, Any]]:
  """Trains and evaluates one model, or goes on where it was stopped.

  Args:
    config: see `configs.common.base_config`.
    workdir: folder of the run; made if it is not there.

  Returns:
    What results.json holds. A finished run gives its results again.

  Raises:
    InputError: bad config, data or workdir; nothing is written over.
    RunError: the loss is not finite, the disk is full, no checkpoint is whole.
    Preempted: SIGTERM or Ctrl-C came, and the state is saved.
  """
  folder = pathlib.Path(workdir)
  results = _check_workdir(folder, config)
  if results is not None:
    return results
  with interrupts.StopRequest() as stop:
    watch = timing.Stopwatch()
    with watch.section("setup_s"):
      parts = setup.build(config)
    with run_files.locked(folder):
      # Another process may have come between.
      results = _check_workdir(folder, config)
      if results is not None:
        return results
      run = Run(config, folder, parts, watch, stop)
      return run.train_and_evaluate()


def _check_workdir(
  folder: pathlib.Path, config: ml_collections.ConfigDict
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
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    parts: setup.Parts,
    watch: timing.Stopwatch,
    stop: interrupts.StopRequest,
  ):
    self._stop = stop
    self._config = config
    self._folder = folder
    self._parts = parts
    self._periods = parts.periods
    self._watch = watch
    self._state = parts.state
    self._step = 0
    self._logged_train_s = 0.0
    self._logged_wait_s = 0.0
    self._best: dict[str, Any] = {}
    # An evaluation was given up to stop quickly: its step is to be finished.
    self._pending_event = False
    self._evaluations: dict[str, evaluators_base.Evaluation] = {}
    self._checkpoints: checkpoints.Checkpoints | None = None
    self._writer: writers.MetricWriter | None = None
    self._progress: progress.Progress | None = None

  def train_and_evaluate(self) -> dict[str, dict[str, Any]]:
    """See the function of this name. Keeps status.json true."""
    try:
      self._open()
      self._train()
      evaluations = self._final_evaluations()
      self._checkpoints.wait()
      results = outputs.write(
        self._folder, evaluations, self._parts, self._config.logging.report
      )
      self._write_status(run_files.DONE, times=self._watch.totals())
      return results
    except errors.Preempted:
      self._write_status(run_files.PREEMPTED)
      raise
    except errors.NonFiniteLossError as error:
      self._write_status(run_files.DIVERGED, message=str(error))
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
      self._close()

  def _open(self) -> None:
    section = self._config.checkpoint
    self._checkpoints = checkpoints.Checkpoints(
      self._folder,
      keep=section.keep,
      asynchronous=section.asynchronous,
    )
    self._restore()
    run_files.write_start(
      self._folder,
      config_utils.to_dict(self._config),
      outputs.describe(environment.collect(), self._parts),
    )
    self._write_status(run_files.RUNNING)
    self._writer = writers.MetricWriter(
      self._folder,
      self._step - 1 if self._pending_event else self._step,
      self._config.logging.tensorboard,
    )
    self._progress = progress.Progress(
      self._periods.total, self._step, self._parts.global_batch_size
    )

  def _close(self) -> None:
    """Ends what goes on in the background; a run that failed says why."""
    parts = (self._parts.feed, self._progress, self._writer, self._checkpoints)
    for part in parts:
      try:
        if part is not None:
          part.close()
      except Exception as error:  # It must not hide the first one.
        logging.warning("while closing: %s", error)

  # Saving and resuming.

  def _restore(self) -> None:
    restored = self._checkpoints.restore(self._state, self._check_meta)
    if restored is None:
      self._start_from(self._config.checkpoint.init_from)
      return
    self._state, meta = restored
    self._step = meta["step"]
    self._logged_train_s = meta["logged_train_s"]
    if meta["best"].get("metric") == self._config.checkpoint.best:
      self._best = meta["best"]
    self._pending_event = meta["pending_event"]
    setup_s = self._watch.total("setup_s") + meta["times"].pop("setup_s", 0)
    self._watch = timing.Stopwatch({**meta["times"], "setup_s": setup_s})
    logging.info("resuming at step %d of %d", self._step, self._periods.total)

  def _start_from(self, workdir: str) -> None:
    """Takes the state of another run, if one is named, as it stands."""
    if not workdir:
      return
    self._state, meta = checkpoints.restore_other(workdir, self._state)
    self._step = meta["step"]
    self._check_step(self._step)
    logging.info("starting from step %d of %s", self._step, workdir)

  def _check_meta(self, meta: Mapping[str, Any]) -> None:
    """Raises InputError if a checkpoint cannot go on with this data."""
    if meta["data_fingerprint"] != self._parts.info.fingerprint:
      raise errors.InputError(
        f"{self._folder} was trained on other data than"
        f" {self._parts.info.key} in data.data_dir (fingerprint"
        f" {meta['data_fingerprint']}, now {self._parts.info.fingerprint});"
        " give the old folder or another --workdir"
      )
    self._check_step(meta["step"])

  def _check_step(self, step: int) -> None:
    if step > self._periods.total:
      raise errors.InputError(
        f"{self._folder} is at step {step} already, beyond the"
        f" {self._periods.total} of steps.total"
      )

  def _update_best(self) -> bool:
    """Whether an evaluation of this step is the best so far."""
    best = self._config.checkpoint.best
    alias, _, metric = best.partition("/")
    if alias not in self._evaluations:
      return False
    score = self._evaluations[alias].measurements["all", metric].value
    # Of equal ones the newest is kept.
    if score is None or score < self._best.get("value", 0.0):
      return False
    self._best = {"metric": best, "value": score, "step": self._step}
    return True

  def _save(self) -> None:
    if self._step in self._checkpoints.steps():
      # Resumed here to finish an evaluation: what is saved says that it is
      # pending, so that it would be made again.
      return
    meta = {
      "step": self._step,
      "examples_seen": self._step * self._parts.global_batch_size,
      "data_fingerprint": self._parts.info.fingerprint,
      "logged_train_s": self._logged_train_s,
      "times": self._watch.totals(),
      "best": self._best,
      "pending_event": self._pending_event,
    }
    with self._watch.section("checkpoint_s"):
      self._writer.flush()
      self._checkpoints.save(
        self._step, self._state, meta, self._best.get("step")
      )
    self._write_status(run_files.RUNNING)

  def _save_and_stop(self) -> None:
    self._save()
    self._checkpoints.wait()
    self._progress.close()
    raise errors.Preempted(
      f"stopped at step {self._step} of {self._periods.total}, saved in"
      f" {self._folder}; the same command goes on"
    )

  def _write_status(self, state: str, **facts) -> None:
    try:
      run_files.write_status(
        self._folder,
        state,
        step=self._step,
        total_steps=self._periods.total,
        config_hash=config_utils.config_hash(self._config),
        best=self._best,
        **facts,
      )
    except OSError as error:  # A full disk must not hide the first error.
      logging.warning("status.json could not be written: %s", error)

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
    if self._pending_event:
      self._handle_event()
    while self._step < self._periods.total:
      if self._stop.requested():
        self._save_and_stop()
      before, event = self._step, self._next_event()
      with self._watch.section("train_s"):
        self._state, self._step = steps.advance(
          self._state,
          self._step,
          event,
          self._stop.requested,
          self._progress.advance,
        )
      self._check_finite()
      if before < self._step == event:
        self._handle_event()
    self._progress.close()

  def _check_finite(self) -> None:
    bad_step, last_loss = jax.device_get(
      (self._state.bad_step, self._state.last_finite_loss)
    )
    if bad_step:
      self._progress.close()
      raise errors.NonFiniteLossError(int(bad_step), float(last_loss))

  # What happens at logged, evaluated and saved steps.

  def _next_event(self) -> int:
    """The first step behind this one at which something is due."""
    periods = [self._periods.logging, self._periods.checkpoint]
    periods += self._periods.evaluation.values()
    nexts = [(self._step // p + 1) * p for p in periods if p]
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
      self._pending_event = True
      self._save_and_stop()
    self._pending_event = False
    if record:
      with self._watch.section("log_s"):
        self._log(record)
    if self._update_best() or self._due(self._periods.checkpoint):
      self._save()
    self._evaluations = self._evaluations if self._at_end() else {}

  def _log(self, record: dict[str, float]) -> None:
    self._writer.write(self._step, record)
    self._progress.report(self._step, record)
    if "train/loss" in record:
      self._logged_train_s = self._watch.total("train_s")
      self._logged_wait_s = self._parts.feed.waited_s
      self._state = self._state.replace(
        window=self._parts.strategy.replicate(state_lib.Window.empty())
      )

  def _train_record(self) -> dict[str, float]:
    window = jax.device_get(self._state.window)
    train_s = self._watch.total("train_s")
    seen = self._step * self._parts.global_batch_size
    since_s = max(train_s - self._logged_train_s, 1e-9)
    learning_rate = self._parts.compute.schedule(self._step - 1)
    record = {
      "epoch": seen / self._parts.info.num_examples,
      "train/loss": float(window.loss_sum / window.steps),
      "train/top1_accuracy": int(window.top1_hits) / int(window.examples),
      "train/grad_norm": float(window.grad_norm_sum / window.steps),
      "train/learning_rate": float(learning_rate),
      "train/images_per_s": int(window.examples) / since_s,
      "time/train_s": train_s,
    }
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
