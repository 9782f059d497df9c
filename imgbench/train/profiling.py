"""A JAX profiler trace of some training steps."""

import dataclasses
import re

from absl import logging
import jax

from imgbench import errors
from imgbench import paths

FOLDER = "profile"  # of a workdir


@dataclasses.dataclass(frozen=True)
class ProfiledSteps:
  """The steps after `first` are done, until `last` are done.

  Attributes:
    first: steps done when the trace starts, at least 0.
    last: steps done when it ends, above `first`.
  """

  first: int
  last: int

  def __str__(self) -> str:
    return f"{self.first}:{self.last}"

  def check_within(self, total: int) -> None:
    """Raises InputError if a run of `total` steps has not all of them."""
    if self.last > total:
      raise errors.InputError(
        "--profile_steps",
        f"FIRST:LAST within the {total} steps of the run",
        self,
      )

  def round_to_dispatches(
    self, per_dispatch: int, total: int
  ) -> "ProfiledSteps":
    """Returns the steps rounded outward to dispatches of the run.

    Dispatches start at multiples of their size, so no dispatch is split at
    these steps, and the run's numbers stay bit-equal.

    Args:
      per_dispatch: steps in a dispatch.
      total: steps of the run.
    """
    first = self.first // per_dispatch * per_dispatch
    last = -(-self.last // per_dispatch) * per_dispatch
    return ProfiledSteps(first, min(last, total))


def parse(text: str) -> ProfiledSteps | None:
  """Reads "FIRST:LAST", FIRST below LAST; None of "". Raises InputError."""
  if not text:
    return None
  match = re.fullmatch(r"(\d+):(\d+)", text)
  if not match or int(match[1]) >= int(match[2]):
    raise errors.InputError(
      "--profile_steps", "FIRST:LAST with FIRST < LAST, e.g. 10:15", repr(text)
    )
  return ProfiledSteps(int(match[1]), int(match[2]))


def check_folder(steps: ProfiledSteps | None, workdir: paths.Folder) -> None:
  """Raises InputError where a trace is wanted in a bucket."""
  if steps is not None and paths.is_bucket(workdir):
    raise errors.InputError(
      "--profile_steps",
      "a --workdir on a disk, as JAX's profiler cannot write to a bucket",
      workdir,
    )


class Profiler:
  """Starts and stops the trace of a run.

  Args:
    steps: to trace, whole dispatches; None: none.
    workdir: of the run.
    writes: whether this process of the run writes it.
  """

  def __init__(
    self, steps: ProfiledSteps | None, workdir: paths.Folder, writes: bool
  ):
    self._steps = steps
    self._folder = workdir / FOLDER
    self._writes = writes
    self._started: int | None = None

  @property
  def stops(self) -> tuple[int, ...]:
    """Steps done at which `update` has to be called, in all processes."""
    return (self._steps.first, self._steps.last) if self._steps else ()

  def begin(self, step: int) -> None:
    """Warns if a run that starts at `step` is past the steps."""
    if self._writes and self._steps and step >= self._steps.last:
      logging.warning(
        "--profile_steps: no trace of steps %s is written: the run resumes at"
        " step %d",
        self._steps,
        step,
      )

  def update(self, step: int) -> None:
    """Starts or stops the trace where it is due; nothing is in flight.

    Args:
      step: steps done.
    """
    if not self._writes or self._steps is None:
      return
    if self._started is not None and step >= self._steps.last:
      traced = ProfiledSteps(self._started, step)
      self.close()
      logging.info("profiler trace of steps %s: %s", traced, self._folder)
    elif self._started is None and step in range(*self.stops):
      jax.profiler.start_trace(str(self._folder))
      self._started = step

  def close(self) -> None:
    """Writes an unfinished trace."""
    if self._started is not None:
      self._started = None
      jax.profiler.stop_trace()
