"""`folder`: JPEG and PNG files in a folder for each class.

DIR/train/CLASS/FILE and DIR/val/CLASS/FILE, or DIR/CLASS/FILE, which is split
by a hash of the contents.
"""

from collections.abc import Iterator
from concurrent import futures
import hashlib
import json
import os
import pathlib
import re
from typing import NamedTuple

from absl import logging
import numpy as np

from imgbench import cpus
from imgbench import errors
from imgbench.data import source
from imgbench.data import tfds_folder

TRAIN, VALIDATION = "train", "validation"
# Names of a split's folder.
_FOLDERS = {TRAIN: ("train",), VALIDATION: ("val", "validation")}
_SUFFIXES = (".jpg", ".jpeg", ".png")
_HASHED_BYTES = 2**14  # at the end of a file; headers are often alike
_FINGERPRINT_EXAMPLES = 16
_SHARE = 0.1
_NAME = re.compile(r"[\w.-]+")


class _File(NamedTuple):
  """A file: its id, which is its path below `data_dir`, label and bytes."""

  name: str
  label: int
  size: int


class FolderSource:
  """A split of a folder of images, see `source.EncodedSource`.

  Files with the suffix .jpg, .jpeg or .png in any case, and others that begin
  as an image, are examples; they are decoded as what they begin as. Other files
  are left out with a warning, hidden ones without. Links are followed.

  Attributes:
    info: see `source.Info`. Classes are the folders, sorted by name.
  """

  def __init__(
    self,
    split: str,
    data_dir: str = "",
    *,
    validation_share: float | None = None,
    result_name: str = "folder",
  ):
    """Lists the files and reads some bytes of those that are to be split.

    Args:
      split: "train" or "validation".
      data_dir: folder with a folder for each class, or with folders train and
        val (or validation) that have them.
      validation_share: of the images, in (0, 1), where there is no folder
        train; None: 0.1. The split of a file depends on its size and its last
        16 KiB, so that equal files are in the same one.
      result_name: in results, for a second folder in a run.

    Raises:
      InputError: no such folder or split, fewer than two classes, a class
        without an image, or a folder in that of a class.
    """
    share = _SHARE if validation_share is None else validation_share
    expected = "a number above 0 and below 1"
    errors.check(0 < share < 1, "validation_share", expected, share)
    expected = "letters, digits and any of _.-"
    fits = bool(_NAME.fullmatch(result_name))
    errors.check(fits, "result_name", expected, repr(result_name))
    split = VALIDATION if split == "val" else split
    if split not in _FOLDERS:
      expected = f"one of {', '.join(_FOLDERS)}"
      raise errors.InputError("split", expected, repr(split))
    self._root = tfds_folder.open_root(data_dir, "images")
    train = self._root / TRAIN
    self._divided = train.is_dir() and any(
      entry.is_dir() for entry in _list(train)
    )
    if self._divided and validation_share is not None:
      expected = f"none, as the folder {train} is a split"
      raise errors.InputError("validation_share", expected, share)
    classes = self._list_classes(train if self._divided else self._root)
    if not self._divided:
      files = self._list_files(self._root, classes, required=True)
      shares = self._read_all(files)
      wanted = [(x < share) == (split == VALIDATION) for x in shares]
      files = [f for f, keep in zip(files, wanted, strict=True) if keep]
    elif split == TRAIN:
      files = self._list_files(train, classes, required=True)
    else:
      folder = self._find_validation()
      others = sorted(set(self._list_classes(folder)) - set(classes))
      expected = f"the classes of {train}"
      errors.check(not others, str(folder), expected, ", ".join(others))
      files = self._list_files(folder, classes, required=False)
    if not files:
      expected = f"at least one image in the split {split}"
      raise errors.InputError("split", expected, f"none in {data_dir}")
    self._files = files
    self.info = source.Info(
      name=result_name,
      split=split,
      num_examples=len(files),
      image_shape=(None, None, 3),
      class_names=tuple(classes),
      fingerprint=self._compute_fingerprint(),
    )

  def __len__(self) -> int:
    return len(self._files)

  def read(self, index: int) -> tuple[bytes, int]:
    """See `source.EncodedSource`."""
    file = self._files[index]
    path = self._root / file.name
    try:
      return path.read_bytes(), file.label
    except OSError as error:
      given = errors.find_reason(error)
      raise source.DamagedRecord(path, "a file to read", given) from error

  def where(self, index: int) -> str:
    """See `source.EncodedSource`."""
    path = self._root / self._files[index].name
    return f"{self.info.key}: example {index} ({path})"

  def examples(
    self,
    progress: source.Progress | None = None,
    bad: source.BadExamples | None = None,
  ) -> source.Examples:
    """See `source.EncodedSource`; reads nothing, so finds no bad example."""
    del bad
    if progress:
      progress(len(self), len(self))
    found = source.Examples(
      None,
      np.array([file.label for file in self._files], np.int32),
      np.array([file.name for file in self._files]),
    )
    return source.check_examples(found, self.info)

  def shared_with(self, other: source.EncodedSource) -> float:
    """See `source.EncodedSource`; links to a file are that file."""
    if not isinstance(other, FolderSource):
      return 0.0
    theirs = set(other._real_paths())
    return sum(path in theirs for path in self._real_paths()) / len(self)

  def _real_paths(self) -> Iterator[str]:
    return (os.path.realpath(self._root / file.name) for file in self._files)

  def _find_validation(self) -> pathlib.Path:
    folders = [self._root / name for name in _FOLDERS[VALIDATION]]
    found = [folder for folder in folders if folder.is_dir()]
    if len(found) != 1:
      raise errors.InputError(
        "split",
        f"one folder {' or '.join(_FOLDERS[VALIDATION])} in {self._root}",
        ", ".join(path.name for path in found) or "none",
        f"for a part of the training images: data_dir={self._root / TRAIN}",
      )
    return found[0]

  def _list_classes(self, folder: pathlib.Path) -> list[str]:
    names = [entry.name for entry in _list(folder) if entry.is_dir()]
    if len(names) < 2:
      expected = f"a folder for each of two or more classes in {folder}"
      given = ", ".join(names) or tfds_folder.list_names(folder)
      raise errors.InputError("data_dir", expected, given)
    return names

  def _list_files(
    self, folder: pathlib.Path, classes: list[str], required: bool
  ) -> list[_File]:
    """Returns the images below a folder, in the order of their ids.

    Args:
      folder: of a split.
      classes: names of all classes.
      required: whether each has an image.
    """
    files, others = [], [e.path for e in _list(folder) if not e.is_dir()]
    for label, name in enumerate(classes):
      place, before = folder / name, len(files)
      for entry in _list(place) if place.is_dir() or required else ():
        if entry.is_dir():
          raise errors.InputError(
            "data_dir",
            f"files in the folder of a class, {place}",
            f"the folder {entry.name}",
            "give the folder above those of the classes",
          )
        if _is_example(entry):
          path = os.path.relpath(entry.path, self._root)
          files.append(_File(path, label, _find_size(entry)))
        else:
          others.append(entry.path)
      if required and len(files) == before:
        given = tfds_folder.list_names(place)
        raise errors.InputError(
          place, "at least one image", given, "or remove the folder"
        )
    if others:
      text = "%s: %d files that are no images are left out, such as %s"
      logging.warning(text, folder, len(others), others[0])
    return files

  def _read_all(self, files: list[_File]) -> list[float]:
    """Returns for each file a number in [0, 1) that depends on its contents."""

    def read(file: _File) -> float:
      try:
        with (self._root / file.name).open("rb") as opened:
          opened.seek(max(0, file.size - _HASHED_BYTES))
          data = opened.read(_HASHED_BYTES)
      except OSError:  # Reading the example decides what follows.
        data = os.fsencode(file.name)
      digest = hashlib.sha256(b"%d " % file.size + data).digest()
      return int.from_bytes(digest[:6], "big") / 2**48

    with futures.ThreadPoolExecutor(min(cpus.count_cpus(), 8)) as pool:
      return list(pool.map(read, files, chunksize=64))

  def _compute_fingerprint(self) -> str:
    """Returns a hash of all names and sizes, and of some contents."""
    digest = hashlib.sha256(json.dumps(self._files).encode())
    count = len(self)
    sampled = np.linspace(0, count - 1, min(count, _FINGERPRINT_EXAMPLES))
    for index in sampled.astype(int).tolist():
      try:
        digest.update(hashlib.sha256(self.read(index)[0]).digest())
      except source.DamagedRecord:
        digest.update(b"damaged")
    return digest.hexdigest()[:16]


def _list(folder: pathlib.Path) -> list[os.DirEntry]:
  """Returns what is in a folder and not hidden, by name. Raises InputError."""
  try:
    with os.scandir(folder) as entries:
      found = [entry for entry in entries if not entry.name.startswith(".")]
  except OSError as error:
    given = errors.find_reason(error)
    raise errors.InputError(folder, "a folder to read", given) from error
  return sorted(found, key=lambda entry: entry.name)


def _find_size(entry: os.DirEntry) -> int:
  try:
    return entry.stat().st_size
  except OSError:  # A broken link.
    return 0


def _is_example(entry: os.DirEntry) -> bool:
  if os.path.splitext(entry.name)[1].lower() in _SUFFIXES:
    return True
  # Imported here: benchmarks run without Pillow.
  from imgbench.data import image_decode

  try:
    with open(entry.path, "rb") as file:
      return bool(image_decode.find_kind(file.read(16)))
  except OSError:
    return False
