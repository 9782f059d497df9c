"""Errors that users can fix, how errors are shown, and exit codes."""

import pathlib
import traceback

from imgbench import texts

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CHECK = 3  # a requested check did not hold
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: saved; the same command continues

_SHOWN = 500  # letters of an error of another kind


class InputError(ValueError):
  """Bad input: a setting, file or argument that does not fit.

  The message is one line: "SETTING: expected EXPECTED, got GIVEN; FIX".

  Attributes:
    setting: dotted config key, flag ("--out"), file with its line, or argument.
    expected: what is accepted, e.g. "at least 1".
    given: what was given, as it is shown; pass repr(text) for quotes.
    fix: how to fix it; "": nothing to add.
    together: see `RunError`.
  """

  together = False

  def __init__(
    self, setting: object, expected: str, given: object, fix: str = ""
  ):
    self.setting = str(setting)
    self.expected = expected
    self.given = given
    self.fix = fix
    text = f"{setting}: expected {expected}, got {given}"
    super().__init__(texts.printable(f"{text}; {fix}" if fix else text))

  def __reduce__(self):
    return type(self), (self.setting, self.expected, self.given, self.fix)

  def prefixed(self, prefix: str) -> "InputError":
    """Returns the same error with `prefix`, e.g. "model.", before its setting.

    A prefix that ends in "." or ": " loses that end if no setting follows.
    """
    setting = prefix + self.setting if self.setting else prefix.rstrip(".: ")
    return type(self)(setting, self.expected, self.given, self.fix)


def check(holds: bool, setting: str, expected: str, given: object) -> None:
  """Raises InputError unless a condition holds."""
  if not holds:
    raise InputError(setting, expected, given)


class RunError(RuntimeError):
  """A run that cannot continue, for a reason that the user can fix.

  Attributes:
    together: all processes of the run raise it at the same place.
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


class Preempted(BaseException):
  """The run was asked to stop (by a signal) and has saved its state.

  No Exception, as KeyboardInterrupt: code that catches any error, in imports
  too, must not lose it.

  Args:
    text: message.
    together: all processes of the run stop here with this error.
  """

  def __init__(self, text: str, together: bool = False):
    super().__init__(text)
    self.together = together


def is_known(error: BaseException) -> bool:
  """Returns whether the text of an error says all that a user needs."""
  return isinstance(error, (InputError, RunError, Preempted))


def find_reason(error: BaseException) -> str:
  """Returns the text of an error, that of the system without its file."""
  return getattr(error, "strerror", None) or str(error)


def describe(error: BaseException, folder: pathlib.Path | None = None) -> str:
  """Returns an error as one line: its text, after its type if it is not known.

  Args:
    error: raised.
    folder: of the user's config, whose file and line the error of another kind
      gets.
  """
  text = " ".join(str(error).split())
  if is_known(error):
    return text
  name = type(error).__name__
  text = f"{name}: {text[:_SHOWN]}" if text else name
  frames = traceback.extract_tb(error.__traceback__)
  for frame in reversed(frames):
    if pathlib.Path(frame.filename).resolve().parent == folder:
      return f"{text} ({frame.filename}, line {frame.lineno})"
  return text
