"""Status, metrics and progress of a run while it trains."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from absl import logging

from imgbench import config_utils
from imgbench import paths
from imgbench import progress
from imgbench import run_files
from imgbench import writers


@dataclasses.dataclass
class Position:
  """Position of a run, besides its state; saved in every checkpoint.

  Attributes:
    step: steps done.
    logged_train_s: seconds of training when a training loss was last logged.
    best: metric, value and step of the best evaluation so far, or empty.
    pending_event: whether logging and evaluation of this step are still to be
      done, because the run was stopped in its evaluation.
    learning_rate: of the next step, when the position was saved; None: unknown.
    warnings: rows of warnings.json about how the run was trained.
  """

  step: int = 0
  logged_train_s: float = 0.0
  best: dict[str, Any] = dataclasses.field(default_factory=dict)
  pending_event: bool = False
  learning_rate: float | None = None
  warnings: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class Journal:
  """Status, metrics and progress of a run; one of several processes writes.

  Args:
    folder: of the run.
    config: as of `config_utils.to_dict`.
    total_steps: of the run.
    global_batch_size: B.
    tensorboard: whether metrics are written for TensorBoard, too.
    writes: whether this process writes.
    others: names of further writers of metrics.

  Attributes:
    progress: shown to the user; silent before `open`.
  """

  def __init__(
    self,
    folder: paths.Folder,
    config: Mapping[str, Any],
    total_steps: int,
    global_batch_size: int,
    tensorboard: bool,
    writes: bool = True,
    others: Sequence[str] = (),
  ):
    self._folder = folder
    self._config = config
    self._total_steps = total_steps
    self._batch_size = global_batch_size
    self._tensorboard = tensorboard
    self._writes = writes
    self._others = others
    self._writer: writers.MetricWriter | None = None
    self.progress = progress.Progress(total_steps, 0, global_batch_size, False)

  def open(self, position: Position, environment: Mapping[str, Any]) -> None:
    """Starts or resumes at a position; later records are removed."""
    if not self._writes:
      return
    run_files.write_start(self._folder, self._config, environment)
    self.write_status(run_files.RUNNING, position)
    self._writer = writers.MetricWriter(
      self._folder,
      position.step - 1 if position.pending_event else position.step,
      self._tensorboard,
      self._others,
      self._config,
    )
    self.progress = progress.Progress(
      self._total_steps, position.step, self._batch_size
    )

  def write_status(self, state: str, position: Position, **facts) -> None:
    """Writes status.json; a failed write is logged, not raised."""
    if not self._writes:
      return
    try:
      run_files.write_status(
        self._folder,
        state,
        step=position.step,
        total_steps=self._total_steps,
        config_hash=config_utils.hash_dict(self._config),
        best=position.best,
        **facts,
      )
    except OSError as error:  # A full disk must not hide the first error.
      logging.warning("status.json could not be written: %s", error)

  def log(self, step: int, record: Mapping[str, float]) -> None:
    """Writes and shows a record."""
    if self._writer is not None:
      self._writer.write(step, record)
      self.progress.report(step, record)

  def flush(self) -> None:
    """Forces the metrics to disk, so that no checkpoint is ahead of them."""
    if self._writer is not None:
      self._writer.flush()

  def close(self) -> None:
    """Closes files and progress bar."""
    self.progress.close()
    if self._writer is not None:
      self._writer.close()
