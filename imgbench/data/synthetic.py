"""The mark of folders with synthetic images, a small file in the folder.

The program that draws image files writes it, and preparing a data set from them
copies it into the folder of the prepared set. Results from that folder then say
that the images are synthetic. TFDS reads files by their names and ignores it.
"""

from collections.abc import Mapping
import json
import os
import pathlib

from imgbench import errors

MARK = "imgbench_synthetic.json"
_ABOUT = "The images in these files are synthetic."


def write(folder: str | os.PathLike[str], sizes: Mapping[str, int]) -> None:
  """Writes the mark atomically.

  Args:
    folder: the folder to mark.
    sizes: file name -> bytes of the synthetic files.

  Raises:
    OSError: it cannot be written.
  """
  folder = pathlib.Path(folder)
  content = {"about": _ABOUT, "files": dict(sorted(sizes.items()))}
  part = folder / f".{MARK}.part"
  part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
  part.rename(folder / MARK)


def read(folder: str | os.PathLike[str]) -> dict[str, int]:
  """Returns file name -> bytes of synthetic files; empty without a mark.

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
  """Returns whether a folder of files or of a prepared set has the mark."""
  return (pathlib.Path(folder) / MARK).exists()
