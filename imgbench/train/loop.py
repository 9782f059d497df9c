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
  run_files.check_config(folder, config_utils.to_dict(config))
  results = run_files.finished_results(folder, config_utils.config_hash(config))
  if results is not None:
    logging.info("%s is done already; its results:", folder)
    return results
  watch = timing.Stopwatch()
  with watch.section("setup_s"):
    parts = setup.build(config)
  folder.mkdir(parents=True, exist_ok=True)
  with run_files.lock(folder):
    return Run(config, folder, parts, watch).train_and_evaluate()


class Run:
  """One start of a run.

  Args:
    config: of the run.
    folder: its workdir, locked.
    parts: what `setup.build` made of the config.
    watch: with the time that the set-up took.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    parts: setup.Parts,
    watch: timing.Stopwatch,
  ):
    self._config = config
    self._folder = folder
    self._parts = parts
    self._periods = parts.periods
    self._watch = watch
    self._state = parts.state
    self._step = 0
    self._logged_train_s = 0.0
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
      with interrupts.StopRequest() as self._stop:
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
    except errors.RunError as error:
      self._write_status(run_files.FAILED, message=str(error))
      raise
    except OSError as error:
      self._write_status(run_files.FAILED, message=str(error))
      if error.errno in (errno.ENOSPC, errno.EDQUOT):
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
      best=section.best,
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
    for part in (self._progress, self._writer, self._checkpoints):
      try:
        if part is not None:
          part.close()
      except (OSError, errors.RunError) as error:
        logging.warning("while closing: %s", error)

  # Saving and resuming.

  def _restore(self) -> None:
    restored = self._checkpoints.restore(self._state, self._check_meta)
    if restored is None:
      return
    self._state, meta = restored
    self._step = meta["step"]
    self._logged_train_s = meta["logged_train_s"]
    self._best = meta["best"]
    self._pending_event = meta["pending_event"]
    setup_s = self._watch.total("setup_s") + meta["times"].pop("setup_s", 0)
    self._watch = timing.Stopwatch({**meta["times"], "setup_s": setup_s})
    logging.info("resuming at step %d of %d", self._step, self._periods.total)

  def _check_meta(self, meta: Mapping[str, Any]) -> None:
    """Raises InputError if a checkpoint cannot go on with this data."""
    if meta["data_fingerprint"] != self._parts.info.fingerprint:
      raise errors.InputError(
        f"{self._folder} was trained on other data than"
        f" {self._parts.info.key} in data.data_dir (fingerprint"
        f" {meta['data_fingerprint']}, now {self._parts.info.fingerprint});"
        " give the old folder or another --workdir"
      )
    if meta["step"] > self._periods.total:
      raise errors.InputError(
        f"{self._folder} is at step {meta['step']} already, beyond the"
        f" {self._periods.total} of steps.total"
      )

  def _save(self) -> None:
    if self._step in self._checkpoints.steps():
      return  # Resumed here to finish an evaluation; the state is the same.
    scores = {
      f"{alias}/{metric}": value.value
      for alias, evaluation in self._evaluations.items()
      for (subset, metric), value in evaluation.measurements.items()
      if subset == "all" and value.value is not None
    }
    best = self._config.checkpoint.best
    # Of equal ones the newest is kept.
    if best in scores and scores[best] >= self._best.get("value", -1.0):
      self._best = {"metric": best, "value": scores[best], "step": self._step}
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
      self._checkpoints.save(self._step, self._state, meta, scores)
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
    if self._pending_event:
      self._handle_event()
    if self._step < self._periods.total:
      with self._watch.section("compile_s"):
        stops = (self._periods.logging, self._periods.checkpoint)
        stops += tuple(self._periods.evaluation.values())
        steps = stepper.Stepper(
          self._parts, (self._step, self._periods.total, *stops)
        )
    while self._step < self._periods.total:
      with self._watch.section("train_s"):
        self._state, self._step = steps.advance(
          self._state,
          self._step,
          self._next_event(),
          self._stop.requested,
          self._progress.advance,
        )
      self._check_finite()
      if self._next_event(self._step - 1) == self._step:
        self._handle_event()
      if self._stop.requested() and self._step < self._periods.total:
        self._save_and_stop()
    self._progress.close()

  def _check_finite(self) -> None:
    bad_step, last_loss = jax.device_get(
      (self._state.bad_step, self._state.last_finite_loss)
    )
    if bad_step:
      self._progress.close()
      raise errors.NonFiniteLossError(int(bad_step), float(last_loss))

  # What happens at logged, evaluated and saved steps.

  def _next_event(self, after: int | None = None) -> int:
    """The first step behind `after` (now) at which something is due."""
    after = self._step if after is None else after
    periods = [self._periods.logging, self._periods.checkpoint]
    periods += self._periods.evaluation.values()
    nexts = [(after // period + 1) * period for period in periods if period]
    return min([*nexts, self._periods.total])

  def _due(self, period: int) -> bool:
    at_end = self._step == self._periods.total
    return at_end or bool(period and self._step % period == 0)

  def _handle_event(self) -> None:
    record = {}
    if self._due(self._periods.logging):
      record = self._train_record()
    try:
      record |= self._evaluate()
    except evaluators_base.EvaluationStopped:
      self._pending_event = True
      self._save_and_stop()
    self._pending_event = False
    if record:
      self._writer.write(self._step, record)
      self._progress.report(self._step, record)
    if "train/loss" in record:
      self._logged_train_s = self._watch.total("train_s")
      self._state = self._state.replace(
        window=self._parts.strategy.replicate(state_lib.Window.empty())
      )
    if self._due(self._periods.checkpoint):
      self._save()

  def _train_record(self) -> dict[str, float]:
    window = jax.device_get(self._state.window)
    train_s = self._watch.total("train_s")
    seen = self._step * self._parts.global_batch_size
    return {
      "epoch": seen / self._parts.info.num_examples,
      "train/loss": float(window.loss_sum / window.steps),
      "train/top1_accuracy": int(window.top1_hits) / int(window.examples),
      "train/grad_norm": float(window.grad_norm_sum / window.steps),
      "train/learning_rate": float(self._parts.schedule(self._step - 1)),
      "train/images_per_s": int(window.examples)
      / max(train_s - self._logged_train_s, 1e-9),
      "time/train_s": train_s,
    }

  def _evaluate(self, *, everything: bool = False) -> dict[str, float]:
    """Runs the evaluators that are due; returns their part of the record."""
    record = {}
    self._evaluations = {}
    for alias, evaluator in self._parts.evaluators.items():
      if not everything and not self._due(self._periods.evaluation[alias]):
        continue
      with self._watch.section("eval_s"):
        evaluation = evaluator.run(self._state.variables, self._stop.requested)
      self._evaluations[alias] = evaluation
      for (subset, metric), value in evaluation.measurements.items():
        if subset == "all" and value.value is not None:
          record[f"{alias}/{metric}"] = value.value
    return record

  def _final_evaluations(self) -> dict[str, evaluators_base.Evaluation]:
    """Those of the last step; made again if the run ended just after it."""
    if not self._evaluations:
      try:
        self._evaluate(everything=True)
      except evaluators_base.EvaluationStopped:
        self._save_and_stop()
    return self._evaluations
