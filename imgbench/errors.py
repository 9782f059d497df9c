"""Errors that a person can mend, and the exit codes they end in."""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: saved; the same command continues


class InputError(ValueError):
  """Bad input: says what was expected, what came and how to mend it."""


class RunError(RuntimeError):
  """A run that cannot go on, for a reason that a person can act on.

  Attributes:
    together: all processes of the run find it at the same place.
  """

  together = False


class NonFiniteLossError(RunError):
  """The loss or its gradient became NaN or infinite at `step` (1-based)."""

  together = True

  def __init__(self, step: int, last_finite_loss: float):
    self.step = step
    self.last_finite_loss = last_finite_loss
    super().__init__(
      f"the training loss or its gradient is not finite at step {step}; the"
      f" last good loss was {last_finite_loss:.6g}. Lower schedule.peak,"
      " lengthen schedule.warmup or set optim.clip_norm"
    )


class Preempted(Exception):
  """The run was asked to stop (SIGTERM) and has saved its state.

  Args:
    text: for people.
    together: all processes of the run stop here, each with this error.
  """

  def __init__(self, text: str, together: bool = False):
    super().__init__(text)
    self.together = together
