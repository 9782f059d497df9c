"""Tests of signals that fall where nothing can be saved yet."""

import signal

import pytest

from imgbench import errors
from imgbench import interrupts


def test_a_signal_that_a_library_makes_an_error_of_still_stops():
  with (
    pytest.raises(errors.Preempted, match="^SIGTERM "),
    interrupts.StopRequest(),
  ):
    try:
      signal.raise_signal(signal.SIGTERM)
    except errors.Preempted as error:
      raise RuntimeError("the device cannot be opened") from error


def test_other_errors_are_themselves():
  with (
    pytest.raises(ValueError, match="of its own"),
    interrupts.StopRequest(),
  ):
    raise ValueError("of its own")
