"""What a run writes on its way: status, metrics, progress."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from absl import logging
import jax
import ml_collections

from imgbench import config_utils
from imgbench import paths
from imgbench import run_files
from imgbench import writers
from imgbench.train import progress
from imgbench.train import setup


@dataclasses.dataclass
class Position:
  """Where a run is, beside its state; a checkpoint holds it.

  Attributes:
    step: steps done.
    logged_train_s: seconds of training when a training loss was last logged.
    best: metric, value and step of the best evaluation so far, or empty.
    pending_event: an evaluation was given up to stop quickly: its step is to
      be finished.
  """

  step: int = 0
  logged_train_s: float = 0.0
  best: dict[str, Any] = dataclasses.field(default_factory=dict)
  pending_event: bool = False


class Journal:
  """See the module; of several processes only one writes.

  Args:
    folder: of the run.
    config: of the run.
    parts: of the run.
    writes: whether this process is the one.
  """

  def __init__(
    self,
    folder: paths.Folder,
    config: ml_collections.ConfigDict,
    parts: setup.Parts,
    writes: bool = True,
  ):
    self._folder = folder
    self._config = config
    self._parts = parts
    self._writes = writes
    self._writer: writers.MetricWriter | None = None
    self._progress: progress.Progress | None = None

  def open(self, position: Position, environment: Mapping[str, Any]) -> None:
    """Begins, or goes on at a position: what was written later is cut off."""
    if not self._writes:
      return
    run_files.write_start(
      self._folder, config_utils.to_dict(self._config), environment
    )
    self.write_status(run_files.RUNNING, position)
    self._writer = writers.MetricWriter(
      self._folder,
      position.step - 1 if position.pending_event else position.step,
      self._config.logging.tensorboard,
    )
    self._progress = progress.Progress(
      self._parts.periods.total, position.step, self._parts.global_batch_size
    )

  def write_status(self, state: str, position: Position, **facts) -> None:
    """Writes status.json; a disk that refuses it is only told of."""
    if not self._writes:
      return
    try:
      run_files.write_status(
        self._folder,
        state,
        step=position.step,
        total_steps=self._parts.periods.total,
        config_hash=config_utils.config_hash(self._config),
        best=position.best,
        **facts,
      )
    except OSError as error:  # A full disk must not hide the first error.
      logging.warning("status.json could not be written: %s", error)

  def advance(self, count: int, loss: jax.Array) -> None:
    """Shows steps that ended; `loss` is a scalar or one per step."""
    if self._progress is not None:
      self._progress.advance(count, loss)

  def log(self, step: int, record: Mapping[str, float]) -> None:
    """Writes and shows a record."""
    if self._writer is not None:
      self._writer.write(step, record)
      self._progress.report(step, record)

  def flush(self) -> None:
    """Forces the metrics to disk, so that no checkpoint is ahead of them."""
    if self._writer is not None:
      self._writer.flush()

  def end_progress(self) -> None:
    """Leaves the terminal to other lines."""
    if self._progress is not None:
      self._progress.close()

  def close(self) -> None:
    """Ends all of it."""
    self.end_progress()
    if self._writer is not None:
      self._writer.close()
