"""SIGTERM and Ctrl-C ask a run to save and stop; a second one ends it."""

import signal
import threading

from absl import logging

from imgbench import errors
from imgbench import living
from imgbench.parallel import processes


class StopRequest:
  """Context in which SIGTERM and SIGINT stop a run after saving.

  Before `defer` is called there is nothing new to save, and the first signal
  raises Preempted at once. After it a signal only sets a flag: the loop checks
  `requested` between dispatches. A second signal has its default effect.
  Outside of the main thread (a test, a notebook's worker) signals cannot be
  caught: the flag stays false.

  Args:
    group: of the processes of the run. A signal to one of them stops all, and
      `requested` becomes true in all at the same call.
  """

  def __init__(self, group: processes.Group = processes.ALONE):
    self._group = group
    self._requested = False
    self._deferred = False
    self._before = {}
    self._raised: errors.Preempted | None = None

  def requested(self) -> bool:
    """Returns whether to stop; all processes ask equally often."""
    return self._group.agreed(self._requested)

  def defer(self) -> None:
    """Called once there are steps to save before stopping."""
    self._deferred = True

  def __enter__(self) -> "StopRequest":
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._before[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, kind, error, traceback) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    if self._raised and error and not isinstance(error, errors.Preempted):
      # It fell into a library that makes an error of its own of any (JAX, as it
      # opens its devices).
      raise self._raised from error

  def _handle(self, number, frame) -> None:
    del frame
    self._requested = True
    # Where they were asked for (`launch.child`) more would come, one with the
    # end of each thread of the parent, and end the run before it has saved.
    living.signal_when_parent_ends(0)
    for known, handler in self._before.items():
      signal.signal(known, handler)
    name = signal.Signals(number).name
    if not self._deferred:
      self._raised = errors.Preempted(
        f"{name} before the first step, so nothing was saved; the same command"
        " starts again"
      )
      raise self._raised
    logging.warning(
      "%s: saving, then stopping; a second one stops at once", name
    )
