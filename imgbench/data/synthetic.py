"""The mark of image files that a program has drawn.

It is a small file beside them. The program that draws them writes it, preparing
a data set from them writes it into the folder of the prepared set, and what
reads that folder says in its results that the images are synthetic. TFDS reads
files by their names and never sees it.
"""

from collections.abc import Mapping
import json
import os
import pathlib

from imgbench import errors

MARK = "imgbench_synthetic.json"
_WORDS = "The images in these files were drawn by a program."


def write(folder: str | os.PathLike[str], sizes: Mapping[str, int]) -> None:
  """Writes the mark, whole or not at all.

  Args:
    folder: where it is to lie.
    sizes: file name -> bytes, of the files that were drawn.

  Raises:
    OSError: cannot be written.
  """
  folder = pathlib.Path(folder)
  content = {"about": _WORDS, "files": dict(sorted(sizes.items()))}
  part = folder / f".{MARK}.part"
  part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
  part.rename(folder / MARK)


def read(folder: str | os.PathLike[str]) -> dict[str, int]:
  """Returns file name -> bytes of what was drawn; empty without a mark.

  Raises:
    InputError: a mark that was not written by `write`.
  """
  path = pathlib.Path(folder) / MARK
  if not path.exists():
    return {}
  try:
    files = json.loads(path.read_text(encoding="utf-8"))["files"]
    return {str(name): int(size) for name, size in files.items()}
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise errors.InputError(
      path, "file sizes as imgbench fake-imagenet writes them", repr(error)
    ) from error


def is_marked(folder: str | os.PathLike[str]) -> bool:
  """Returns whether a folder, of files or of a prepared set, has the mark."""
  return (pathlib.Path(folder) / MARK).exists()
