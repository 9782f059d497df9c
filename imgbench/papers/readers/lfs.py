"""Pointers that Git LFS leaves in a clone in place of files not fetched."""

import pathlib

# Last arguments of an InputError.
POINTER_AND_FIX = ("a pointer of Git LFS", "run `git lfs pull` in the clone")

_START = b"version https://git-lfs"


def is_pointer(path: pathlib.Path) -> bool:
  """Returns whether a file is a pointer of Git LFS and not the data.

  Raises:
    OSError: it cannot be read.
  """
  with path.open("rb") as file:
    return file.read(len(_START)) == _START
