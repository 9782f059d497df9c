"""Standard streams of a program that never fail: closed, full or replaced."""

import errno
import io
import os
import sys
from typing import Any


def protect() -> None:
  """Replaces the standard streams by ones to which all writes succeed.

  What cannot be written (closed stream, full disk, `| head`, a terminal that is
  gone) is dropped, so that a program ends with its own exit code. Characters
  that the encoding of a stream lacks are escaped. Files that are opened later
  do not get the number of a closed stream, to which libraries in C++ write.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      _discard(number)
  sys.stdout = _protected(sys.stdout, 1)
  sys.stderr = _protected(sys.stderr, 2)


def _discard(number: int) -> None:
  """Connects a file descriptor to the null device."""
  null = os.open(os.devnull, os.O_RDWR)
  if null == number:
    os.set_inheritable(number, True)
  else:
    os.dup2(null, number)
    os.close(null)


def _protected(stream: Any, number: int) -> Any:
  """Returns a stream that writes as `stream` does but never fails."""
  if stream is None:  # It was closed when Python started.
    return open(number, "w", encoding="utf-8", closefd=False)
  if not isinstance(stream, io.TextIOWrapper):
    whole = all(hasattr(stream, name) for name in ("flush", "isatty"))
    return stream if whole else _Replaced(stream)
  try:
    if stream.fileno() != number:
      return stream
  except OSError:  # It has no file: a capture of the output.
    return stream
  file = _File(number, "w", closefd=False)
  return io.TextIOWrapper(
    file if stream.write_through else io.BufferedWriter(file),
    encoding=stream.encoding,
    errors="backslashreplace",
    line_buffering=stream.line_buffering,
    write_through=stream.write_through,
  )


class _File(io.FileIO):
  """File that drops what it cannot write; a closed one for good."""

  def write(self, data) -> int:
    size = memoryview(data).nbytes
    try:
      written = super().write(data)
    except OSError as error:
      # A disk may have space again.
      if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        _discard(self.fileno())
      return size
    # None: it would block.
    return size if written is None else written


class _Replaced(io.TextIOBase):
  """A stream that someone put in place, with the methods that it lacks.

  Args:
    stream: has `write`.
  """

  def __init__(self, stream: Any):
    self._stream = stream

  def write(self, text: str) -> int:
    self._stream.write(text)
    return len(text)
