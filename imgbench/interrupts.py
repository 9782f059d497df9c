"""SIGTERM, Ctrl-C and SIGHUP ask a run to save and stop.

A second SIGTERM or Ctrl-C has the effect that it had before.

Imports little, so that a program catches them before its other imports.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import signal
import sys
import threading
from typing import Any

from imgbench import errors
from imgbench import living

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_Handlers = dict[signal.Signals, Any]


def catch(handler: Callable[[int, Any], None]) -> _Handlers:
  """Sets the handler of the signals; returns those that were set before.

  A signal that is ignored stays ignored: SIGHUP under nohup, Ctrl-C in the
  background of a shell. Outside of the main thread (a test, a notebook's
  worker) signals cannot be caught, and nothing is set.
  """
  if threading.current_thread() is not threading.main_thread():
    return {}
  handlers = {number: signal.getsignal(number) for number in _SIGNALS}
  # None: of a program that embeds Python.
  before = {
    n: h for n, h in handlers.items() if h not in (signal.SIG_IGN, None)
  }
  _set_handlers(dict.fromkeys(before, handler))
  return before


@contextlib.contextmanager
def caught(handler: Callable[[int, Any], None]) -> Iterator[_Handlers]:
  """Context in which `handler` handles the signals; yields as `catch`."""
  before = catch(handler)
  try:
    yield before
  finally:
    _set_handlers(before)


def _set_handlers(handlers: _Handlers) -> None:
  for number, handler in handlers.items():
    signal.signal(number, handler)


def end_at_next(before: _Handlers) -> None:
  """Lets the next SIGTERM or Ctrl-C do what it did before.

  That of a program ends it at once. Not SIGHUP: the end of a terminal may send
  it twice.

  Args:
    before: of `catch`.
  """
  for number in (signal.SIGTERM, signal.SIGINT):
    if number in before:
      own = before[number] is _end
      signal.signal(number, signal.SIG_DFL if own else before[number])


def write_line(text: str) -> None:
  """Writes a line to standard error from a signal handler.

  A stream may be in use by the code that was interrupted.
  """
  with contextlib.suppress(OSError):
    os.write(2, f"imgbench: {text}\n".encode())


def begin() -> None:
  """Lets a signal end the program with EXIT_PREEMPTED; see `StopRequest`.

  An error that is raised in an import may be lost in it.
  """
  catch(_end)


def _end(number: int, frame: Any) -> None:
  del frame
  write_line(_describe(number))
  os._exit(errors.EXIT_PREEMPTED)


def _describe(number: int) -> str:
  return (
    f"{signal.Signals(number).name} before the first step, so nothing was"
    " saved; the same command starts again"
  )


class StopRequest:
  """Context in which a signal stops a run after saving.

  Before `defer` is called there is nothing new to save, and the first signal
  raises Preempted at once. After it a signal only sets a flag: the loop checks
  `requested` between dispatches. A second signal has its default effect.

  Args:
    agreed: says whether all processes of the run stop because one was asked to,
      see `processes.Group`. A signal to one of them stops all, and `requested`
      becomes true in all at the same call.
  """

  def __init__(self, agreed: Callable[[bool], bool] = bool):
    self._agreed = agreed
    self._requested = False
    self._number: int | None = None  # of a signal that nobody has asked for yet
    self._deferred = False
    self._before: _Handlers = {}
    self._raised: errors.Preempted | None = None
    self._show_unraisable = sys.unraisablehook

  def requested(self) -> bool:
    """Returns whether to stop; all processes ask equally often."""
    self._number = None
    return self._agreed(self._requested)

  def defer(self) -> None:
    """Called once there are steps to save before stopping."""
    self._deferred = True

  def finish(self) -> None:
    """Ignores signals from now on: the run is finished, the program ends."""
    _set_handlers(dict.fromkeys(self._before, signal.SIG_IGN))
    self._before = {}
    self._number = None

  def __enter__(self) -> "StopRequest":
    self._before = catch(self._handle)
    self._show_unraisable = sys.unraisablehook
    sys.unraisablehook = self._handle_unraisable
    return self

  def __exit__(self, kind, error, traceback) -> None:
    # A program that fails or stops here says so itself.
    ends = {n: signal.SIG_IGN for n, h in self._before.items() if h is _end}
    _set_handlers(self._before | (ends if error else {}))
    if sys.unraisablehook == self._handle_unraisable:
      sys.unraisablehook = self._show_unraisable
    if self._raised and error and not isinstance(error, errors.Preempted):
      # It fell into a library that makes an error of its own of any (JAX, as it
      # opens its devices).
      raise self._raised from error
    if self._number is not None and not error:
      signal.raise_signal(self._number)  # It came after the last question.

  def _handle_unraisable(self, unraisable) -> None:
    # Raised in a callback of the garbage collector: the run stops at the next
    # call of `requested`.
    if self._raised is None or unraisable.exc_value is not self._raised:
      self._show_unraisable(unraisable)

  def _handle(self, number, frame) -> None:
    del frame
    if self._requested:
      return  # SIGHUP again.
    self._requested, self._number = True, number
    # Where they were asked for (`launch.child`) more would come, one with the
    # end of each thread of the parent, and end the run before it has saved.
    living.signal_when_parent_ends(0)
    end_at_next(self._before)
    if not self._deferred:
      self._raised = errors.Preempted(_describe(number))
      raise self._raised
    write_line(
      f"{signal.Signals(number).name}: the run stops as soon as it is saved or"
      " finished; a second signal stops it at once"
    )
