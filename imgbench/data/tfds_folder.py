"""Finds a prepared TFDS data set, and the records of a split.

Nothing here downloads or prepares: a folder is read, or refused with the
command that prepares it.
"""

import dataclasses
import os
import pathlib
import re
import shlex

from imgbench import errors
from imgbench import paths
from imgbench.data import synthetic

FILE_FORMATS = ("array_record", "tfrecord")
_LISTED = 8  # names in an error
_SETTING = "data_dir"


@dataclasses.dataclass(frozen=True)
class Piece:
  """Consecutive examples of one shard.

  Attributes:
    path: the file of the shard.
    split: the whole split of the shard, e.g. "train".
    first: place of the shard's first example in that split.
    shard_length: examples in the shard.
    start, stop: range of examples within the shard.
  """

  path: pathlib.Path
  split: str
  first: int
  shard_length: int
  start: int
  stop: int

  def __len__(self) -> int:
    return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class PreparedFolder:
  """One version of a prepared data set.

  Attributes:
    name: as requested, e.g. "cifar10" or "<name>/<config>".
    builder: read-only `tfds.core.DatasetBuilder`.
    file_format: one of `FILE_FORMATS`.
    command: the command that prepares the folder again.
  """

  name: str
  builder: object
  file_format: str
  command: str

  @property
  def path(self) -> pathlib.Path:
    return pathlib.Path(self.builder.data_dir)

  @property
  def synthetic(self) -> bool:
    """Returns whether it was prepared from synthetic images."""
    return synthetic.is_marked(self.path)

  def pieces(self, split: str) -> list[Piece]:
    """Returns the pieces of a split or slice, in order.

    Args:
      split: in TFDS's language, e.g. "train", "train[:90%]", "train+test".

    Raises:
      InputError: unknown or empty split, one with an example twice, or a
        missing shard.
    """
    shards = {}
    for info in self.builder.info.splits.values():
      first = 0
      for path, length in zip(info.filepaths, info.shard_lengths, strict=True):
        shards[os.fspath(path)] = (info.name, first, length)
        first += length
    pieces = []
    for part in self._instructions(split):
      path = os.fspath(part.filename)
      stop = part.skip + part.take
      pieces.append(Piece(pathlib.Path(path), *shards[path], part.skip, stop))
    self._check_pieces(split, pieces)
    return pieces

  def _instructions(self, split: str):
    splits = self.builder.info.splits
    try:
      instructions = splits[split].file_instructions
    except (ValueError, KeyError, AssertionError, TypeError) as error:
      raise errors.InputError(
        "split",
        f"one of {', '.join(sorted(splits))}, or slices such as train[:90%]",
        f"{split!r} ({one_line(error, 120)})",
      ) from error
    if not instructions:
      sizes = ", ".join(f"{k} ({v.num_examples})" for k, v in splits.items())
      raise errors.InputError(
        "split", f"at least one example of {sizes}", repr(split)
      )
    return instructions

  def _check_pieces(self, split: str, pieces: list[Piece]) -> None:
    for piece in pieces:
      if not piece.path.is_file():
        raise errors.InputError(
          self.path,
          f"the shard {piece.path.name}",
          list_names(self.path),
          f"copy it there, or: {self.command}",
        )
      if not os.access(piece.path, os.R_OK):
        raise errors.InputError(
          piece.path, "permission to read it", "none", "run chmod a+r"
        )
    spans = sorted((str(p.path), p.start, p.stop) for p in pieces)
    for (path, _, stop), (next_path, start, _) in zip(
      spans[:-1], spans[1:], strict=True
    ):
      if path == next_path and start < stop:
        raise errors.InputError(
          "split", "parts that do not overlap", repr(split)
        )


def one_line(error: object, limit: int = 200) -> str:
  """Returns an error's text on one line, cut to `limit` characters."""
  text = " ".join(str(error).split())
  return text if len(text) <= limit else text[: limit - 3] + "..."


def list_names(folder: pathlib.Path) -> str:
  """Returns some of the names in a folder, for an error."""
  names = sorted(path.name for path in folder.iterdir())
  more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
  return (", ".join(names[:_LISTED]) or "nothing") + more


def prepare_command(name: str, data_dir: str) -> str:
  """Returns the shell command that prepares a data set."""
  folder = shlex.quote(data_dir) if data_dir else "DIR"
  return (
    'pip install "imgbench[prepare]" && imgbench prepare'
    f" --dataset={name} --manual_dir=DIR --data_dir={folder}"
  )


def open_root(data_dir: str, what: str, fix: str = "") -> pathlib.Path:
  """Returns an existing folder.

  Args:
    data_dir: its path; may begin with ~.
    what: it holds, for errors.
    fix: how to get what it should hold, for errors.

  Raises:
    InputError: no folder of a file system.
  """
  if not data_dir:
    raise errors.InputError(
      _SETTING,
      f"the folder with {what}",
      "none",
      "; ".join(filter(None, ("add --config.data.data_dir=DIR", fix))),
    )
  if "://" in data_dir:
    raise errors.InputError(
      _SETTING,
      "a folder of a file system",
      data_dir,
      "mount the bucket with gcsfuse and give its folder there",
    )
  root = pathlib.Path(os.path.expanduser(data_dir))
  paths.check_name(root, _SETTING)
  if not root.is_dir():
    raise errors.InputError(_SETTING, "an existing folder", data_dir, fix)
  return root


def open_folder(name: str, data_dir: str, version: str = "") -> PreparedFolder:
  """Returns a prepared data set.

  Args:
    name: TFDS name, or "<name>/<config>" for sets that have configs.
    data_dir: folder that holds `<name>/<version>/dataset_info.json`.
    version: e.g. "3.0.2"; the newest one if empty.

  Raises:
    InputError: no such data set; says what is there and what to run.
  """
  command = prepare_command(name, data_dir)
  prepare = f"to prepare {name} there: {command}"
  root = open_root(data_dir, f"{name}, prepared by TFDS", prepare)
  if not (root / name).is_dir():
    inside = (root / "dataset_info.json").is_file() or root.name == name
    raise errors.InputError(
      _SETTING,
      f"a folder that holds {name}",
      f"{data_dir}, which holds {list_names(root)}",
      "give the parent of the data set's folder" if inside else prepare,
    )
  path = _find_version(root, name, version, command)
  return _open_version(name, path, command)


def _find_version(root, name: str, version: str, command: str) -> pathlib.Path:
  folder, versions = root / name, {}
  for path in folder.iterdir():
    numbers = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", path.name)
    if numbers and (path / "dataset_info.json").is_file():
      versions[tuple(map(int, numbers.groups()))] = path
  there = [versions[key].name for key in sorted(versions)]
  if version in there:
    return folder / version
  if version or not there:
    fix = f"to prepare it: {command}"
    if there:
      fix = f"data.name={name}:{there[-1]} takes one that is there; {fix}"
    raise errors.InputError(
      folder,
      f"{version or 'a version folder such as 3.0.2'} with dataset_info.json",
      ", ".join(there) or list_names(folder),
      fix,
    )
  return folder / there[-1]


def _open_version(
  name: str, path: pathlib.Path, command: str
) -> PreparedFolder:
  import tensorflow_datasets

  prepare = f"to prepare it: {command}"
  for file in ("dataset_info.json", "features.json"):
    if not (path / file).is_file():
      raise errors.InputError(
        path, f"{file}, which TFDS 4 writes", list_names(path), prepare
      )
  try:
    builder = tensorflow_datasets.builder_from_directory(path)
  except Exception as error:  # TFDS raises many kinds
    # A newer TFDS describes more than this one knows.
    newer = "has no field named" in str(error)
    upgrade = "pip install -U tensorflow-datasets if a newer one wrote it; "
    fix = upgrade + prepare if newer else prepare
    version = tensorflow_datasets.__version__
    raise errors.InputError(
      path, f"a folder that TFDS {version} can read", one_line(error), fix
    ) from error
  info = path / "dataset_info.json"
  if builder.name != name.split("/")[0]:
    raise errors.InputError(
      info, f"the name {name}", builder.name, "move it to a folder of its name"
    )
  file_format = getattr(builder.info.file_format, "value", None)
  if file_format not in FILE_FORMATS:
    formats = " or ".join(FILE_FORMATS)
    raise errors.InputError(info, f"files of {formats}", file_format, prepare)
  return PreparedFolder(name, builder, file_format, command)
