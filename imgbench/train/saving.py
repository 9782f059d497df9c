"""Checkpoints of a run: what is saved, and what a run resumes from."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from absl import logging

from imgbench import checkpoints
from imgbench import config as config_lib
from imgbench import errors
from imgbench import parallel
from imgbench import paths
from imgbench import timing
from imgbench.data import source
from imgbench.parallel import processes
from imgbench.train import journal
from imgbench.train import start as start_lib
from imgbench.train import state as state_lib


class Saving:
  """The checkpoints of a run; all processes make the same calls.

  Args:
    folder: of the run.
    section: checkpoint, of the config.
    strategy: devices and shardings.
    info: of the training split.
    recipe: of the config; has the normalization of images.
    total_steps: of the run.
    group: of its processes.

  Attributes:
    folder: of the run.
  """

  def __init__(
    self,
    folder: paths.Folder,
    section: config_lib.Checkpoint,
    strategy: parallel.Strategy,
    info: source.Info,
    recipe: config_lib.Recipe,
    total_steps: int,
    group: processes.Group,
  ):
    self.folder = folder
    self._section = section
    self._strategy = strategy
    self._info = info
    self._recipe = recipe
    self._total_steps = total_steps
    self._group = group
    self._checkpoints = checkpoints.Checkpoints(
      folder,
      keep=section.keep,
      asynchronous=section.asynchronous,
      group=group,
    )

  def restore(
    self,
    state: state_lib.TrainState,
    position: journal.Position,
    watch: timing.Stopwatch,
  ) -> tuple[state_lib.TrainState, timing.Stopwatch]:
    """Returns the state to start from, and the watch with earlier times.

    That of the run's last checkpoint, else `state`; if nothing is trained, that
    of the run that the config names.

    Args:
      state: at step 0.
      position: set to that of the checkpoint.
      watch: with the time that the set-up took.

    Raises:
      InputError: a checkpoint of other data, of another model, or beyond the
        last step.
      RunError: there are checkpoints, but none is whole.
    """
    like = self._strategy.to_global(state)
    restored = self._checkpoints.restore(like, self._check_meta)
    if restored is None:
      section = self._recipe.init
      if section.train or not start_lib.is_run(section):
        return state, watch
      run = section.source
      state, meta = checkpoints.restore_other(run, like, self._group)
      logging.info("evaluating step %d of %s", meta["step"], run)
      position.step = meta["step"]
      return self._strategy.from_global(state), watch
    state, meta = restored
    for field in dataclasses.fields(position):
      if field.name in meta:  # Older versions saved fewer.
        setattr(position, field.name, meta[field.name])
    if position.best.get("metric") != self._section.best:
      position.best = {}
    setup_s = watch.total("setup_s") + meta["times"].pop("setup_s", 0)
    watch = timing.Stopwatch({**meta["times"], "setup_s": setup_s})
    logging.info("resuming at step %d of %d", position.step, self._total_steps)
    return self._strategy.from_global(state), watch

  def _check_meta(self, meta: Mapping[str, Any]) -> None:
    """Raises InputError if a checkpoint does not fit this run."""
    if meta["data_fingerprint"] != self._info.fingerprint:
      raise errors.InputError(
        "data.data_dir",
        f"the data that {self.folder} was trained on, with fingerprint"
        f" {meta['data_fingerprint']}",
        f"{self._info.key} with {self._info.fingerprint}",
        "give the old folder or another --workdir",
      )
    self._check_step(meta["step"], self.folder)

  def _check_step(self, step: int, folder: object) -> None:
    if step > self._total_steps:
      raise errors.InputError(
        "steps.total",
        f"at least {step}, the step of {folder}",
        self._total_steps,
      )

  def save(
    self,
    state: state_lib.TrainState,
    position: journal.Position,
    watch: timing.Stopwatch,
    examples_seen: int,
  ) -> None:
    """Starts to save, unless this step is saved. Raises RunError."""
    if position.step in self._checkpoints.steps():
      # Resumed here to finish an evaluation: the checkpoint says that it is
      # pending, so that it would be done again.
      return
    meta = {
      **dataclasses.asdict(position),
      "examples_seen": examples_seen,
      "data_fingerprint": self._info.fingerprint,
      start_lib.DATA: {
        "name": self._info.name,
        "num_examples": self._info.num_examples,
        "image_shape": self._info.image_shape,
        "class_names": self._info.class_names,
        "mean": self._recipe.augment.mean,
        "std": self._recipe.augment.std,
      },
      "times": watch.totals(),
    }
    self._checkpoints.save(
      position.step,
      self._strategy.to_global(state),
      meta,
      position.best.get("step"),
    )

  def wait(self) -> None:
    """Waits until everything is on disk. Raises RunError."""
    self._checkpoints.wait()

  def close(self) -> None:
    """Waits, and ends background work."""
    self._checkpoints.close()
