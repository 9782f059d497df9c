"""When and what a run saves, and what it goes on from."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from absl import logging
import ml_collections

from imgbench import checkpoints
from imgbench import errors
from imgbench import paths
from imgbench import timing
from imgbench.parallel import processes
from imgbench.train import journal
from imgbench.train import setup
from imgbench.train import state as state_lib


class Saving:
  """The checkpoints of a run; all processes make the same calls.

  Args:
    folder: of the run.
    config: of the run.
    parts: of the run.
    group: of its processes.
  """

  def __init__(
    self,
    folder: paths.Folder,
    config: ml_collections.ConfigDict,
    parts: setup.Parts,
    group: processes.Group,
  ):
    self._folder = folder
    self._section = config.checkpoint
    self._parts = parts
    self._group = group
    self._checkpoints = checkpoints.Checkpoints(
      folder,
      keep=self._section.keep,
      asynchronous=self._section.asynchronous,
      group=group,
    )

  def restore(
    self, state: state_lib.TrainState, watch: timing.Stopwatch
  ) -> tuple[state_lib.TrainState, journal.Position, timing.Stopwatch]:
    """Returns what to go on from: of this run, of another one, or as given.

    Args:
      state: at step 0.
      watch: with the time that the set-up took.

    Raises:
      InputError: what is there is of other data, of another model, too far.
      RunError: there are checkpoints, but none is whole.
    """
    strategy = self._parts.strategy
    like = strategy.to_global(state)
    restored = self._checkpoints.restore(like, self._check_meta)
    if restored is None:
      state, step = self._start_from(self._section.init_from, state, like)
      return state, journal.Position(step), watch
    state, meta = restored
    fields = [field.name for field in dataclasses.fields(journal.Position)]
    position = journal.Position(**{name: meta[name] for name in fields})
    if position.best.get("metric") != self._section.best:
      position.best = {}
    setup_s = watch.total("setup_s") + meta["times"].pop("setup_s", 0)
    watch = timing.Stopwatch({**meta["times"], "setup_s": setup_s})
    total = self._parts.periods.total
    logging.info("resuming at step %d of %d", position.step, total)
    return strategy.from_global(state), position, watch

  def _start_from(self, workdir: str, state, like):
    """Takes the state of another run, if one is named, as it stands."""
    if not workdir:
      return state, 0
    state, meta = checkpoints.restore_other(workdir, like, self._group)
    self._check_step(meta["step"])
    logging.info("starting from step %d of %s", meta["step"], workdir)
    return self._parts.strategy.from_global(state), meta["step"]

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
    if step > self._parts.periods.total:
      raise errors.InputError(
        f"{self._folder} is at step {step} already, beyond the"
        f" {self._parts.periods.total} of steps.total"
      )

  def save(
    self,
    state: state_lib.TrainState,
    position: journal.Position,
    watch: timing.Stopwatch,
  ) -> None:
    """Begins to save, unless this step is saved. Raises RunError."""
    if position.step in self._checkpoints.steps():
      # Resumed here to finish an evaluation: what is saved says that it is
      # pending, so that it would be made again.
      return
    meta = {
      **dataclasses.asdict(position),
      "examples_seen": position.step * self._parts.global_batch_size,
      "data_fingerprint": self._parts.info.fingerprint,
      "times": watch.totals(),
    }
    self._checkpoints.save(
      position.step,
      self._parts.strategy.to_global(state),
      meta,
      position.best.get("step"),
    )

  def wait(self) -> None:
    """Waits until all that was saved is on disk. Raises RunError."""
    self._checkpoints.wait()

  def close(self) -> None:
    """The same, at the end."""
    self._checkpoints.close()
