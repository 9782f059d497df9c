"""Pointers that Git LFS leaves in a clone in place of files not fetched."""

import pathlib

from imgbench import errors

_START = b"version https://git-lfs"


def check(path: pathlib.Path, expected: str) -> None:
  """Raises InputError for a pointer, or for a file that cannot be read."""
  try:
    with path.open("rb") as file:
      start = file.read(len(_START))
  except OSError as error:
    raise errors.InputError(path, expected, error.strerror) from error
  if start == _START:
    given, fix = "a pointer of Git LFS", "run `git lfs pull` in the clone"
    raise errors.InputError(path, expected, given, fix)
