"""SIGTERM and Ctrl-C ask a run to save and stop; a second one ends it."""

import signal
import threading

from absl import logging


class StopRequest:
  """Context in which SIGTERM and SIGINT only set a flag.

  The loop looks at `requested` between dispatches. Outside of the main thread
  (a test, a notebook's worker) signals cannot be caught: then it stays false.
  """

  def __init__(self):
    self._requested = False
    self._before = {}

  def requested(self) -> bool:
    return self._requested

  def __enter__(self) -> "StopRequest":
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._before[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, *unused) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _handle(self, number, frame) -> None:
    del frame
    self._requested = True
    logging.warning(
      "%s: saving, then stopping; a second one stops at once",
      signal.Signals(number).name,
    )
    signal.signal(number, signal.SIG_DFL)
