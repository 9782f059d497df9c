"""What Git LFS leaves in a clone in place of a file that it did not fetch."""

import pathlib

_START = b"version https://git-lfs"


def is_pointer(path: pathlib.Path) -> bool:
  """Whether a file is a pointer of Git LFS and not the data.

  Raises:
    OSError: it cannot be read.
  """
  with path.open("rb") as file:
    return file.read(len(_START)) == _START
