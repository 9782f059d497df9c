"""SIGTERM, Ctrl-C and SIGHUP ask a run to save and stop; a second one ends it.

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
  before = {n: h for n, h in handlers.items() if h != signal.SIG_IGN}
  _set_handlers(dict.fromkeys(before, handler))
  return before


@contextlib.contextmanager
def caught(handler: Callable[[int, Any], None]) -> Iterator[None]:
  """Context in which `handler` handles the signals, see `catch`."""
  before = catch(handler)
  try:
    yield
  finally:
    _set_handlers(before)


def _set_handlers(handlers: _Handlers) -> None:
  for number, handler in handlers.items():
    signal.signal(number, handler)


def end_at_next() -> None:
  """Lets the next SIGTERM or Ctrl-C end the process at once.

  Not SIGHUP: the end of a terminal may send it twice.
  """
  for number in (signal.SIGTERM, signal.SIGINT):
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, signal.SIG_DFL)


def begin() -> None:
  """Lets a signal end the program with EXIT_PREEMPTED; see `StopRequest`.

  An error that is raised in an import may be lost in it.
  """
  catch(_end)


def _end(number: int, frame: Any) -> None:
  del frame
  with contextlib.suppress(OSError):
    os.write(2, f"imgbench: {_describe(number)}\n".encode())
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
    self._deferred = False
    self._before: _Handlers = {}
    self._raised: errors.Preempted | None = None
    self._show_unraisable = sys.unraisablehook

  def requested(self) -> bool:
    """Returns whether to stop; all processes ask equally often."""
    return self._agreed(self._requested)

  def defer(self) -> None:
    """Called once there are steps to save before stopping."""
    self._deferred = True

  def finish(self) -> None:
    """Ignores signals from now on: the run is finished, the program ends."""
    _set_handlers(dict.fromkeys(self._before, signal.SIG_IGN))
    self._before = {}

  def __enter__(self) -> "StopRequest":
    self._before = catch(self._handle)
    self._show_unraisable = sys.unraisablehook
    sys.unraisablehook = self._handle_unraisable
    return self

  def __exit__(self, kind, error, traceback) -> None:
    _set_handlers(self._before)
    # Not if a later one, which calls this one, is to stay: of `checkpoints`.
    if sys.unraisablehook == self._handle_unraisable:
      sys.unraisablehook = self._show_unraisable
    if self._raised and error and not isinstance(error, errors.Preempted):
      # It fell into a library that makes an error of its own of any (JAX, as it
      # opens its devices).
      raise self._raised from error

  def _handle_unraisable(self, unraisable) -> None:
    # Raised in a callback of the garbage collector: the run stops at the next
    # call of `requested`.
    if self._raised is None or unraisable.exc_value is not self._raised:
      self._show_unraisable(unraisable)

  def _handle(self, number, frame) -> None:
    del frame
    if self._requested:
      return  # SIGHUP again.
    self._requested = True
    # Where they were asked for (`launch.child`) more would come, one with the
    # end of each thread of the parent, and end the run before it has saved.
    living.signal_when_parent_ends(0)
    end_at_next()
    if not self._deferred:
      self._raised = errors.Preempted(_describe(number))
      raise self._raised
    from absl import logging

    logging.warning(
      "%s: the run stops as soon as it is saved or finished; a second signal"
      " stops it at once",
      signal.Signals(number).name,
    )
