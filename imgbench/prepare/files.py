"""Finds and checks the files that data sets are prepared from.

File sizes and checksums are those of the installed TFDS (checksums.tsv).
Nothing here needs TensorFlow.
"""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
import pathlib
import re
import tarfile

from imgbench import errors
from imgbench.data import synthetic
from imgbench.data import tfds_folder
from imgbench.labels import classes

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VALIDATION_TAR = "ILSVRC2012_img_val.tar"
ANNOTATIONS = "human_accuracy_v3.0.0.json"
_ANNOTATION_KEYS = ("initial_annots", "problematic_images", "imagenet_m")
_NUM_VALIDATION = 50_000
_NUM_CLASSES = 1000
# From TFDS's checksums of imagenet2012.
_TAR_SIZES = {TRAIN_TAR: 147_897_477_120, VALIDATION_TAR: 6_744_924_160}
_LOGIN = "https://image-net.org/download-images (needs an account)"
_AS_IS = "use the tar as published"


@dataclasses.dataclass(frozen=True)
class Needs:
  """The files that a known data set is prepared from.

  Attributes:
    manual: names of files that must be downloaded by hand.
    downloads: names of files that TFDS downloads if they are missing.
    counts: split -> examples, as published.
    extracts: whether the files are unpacked on disk first.
  """

  manual: tuple[str, ...] = ()
  downloads: tuple[str, ...] = ()
  counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
  extracts: bool = False

  @property
  def names(self) -> tuple[str, ...]:
    return (*self.manual, *self.downloads)


_BOTH_TARS = (TRAIN_TAR, VALIDATION_TAR)
_TEST_10000 = {"test": 10_000}
KNOWN = {
  "imagenet2012": Needs(
    _BOTH_TARS, (), {"train": 1_281_167, "validation": 50_000}
  ),
  "imagenet2012_multilabel": Needs(
    (VALIDATION_TAR,),
    (ANNOTATIONS,),
    {"validation": 20_000, "imagenet_m": 68},
  ),
  "imagenet2012_real": Needs(
    (VALIDATION_TAR,), ("real.json",), {"validation": 50_000}
  ),
  "imagenet2012_subset/1pct": Needs(
    _BOTH_TARS, ("1percent.txt",), {"train": 12_811, "validation": 50_000}
  ),
  "imagenet2012_subset/10pct": Needs(
    _BOTH_TARS, ("10percent.txt",), {"train": 128_116, "validation": 50_000}
  ),
  "imagenet_v2/matched-frequency": Needs(
    (), ("imagenetv2-matched-frequency.tar.gz",), _TEST_10000, extracts=True
  ),
  "imagenet_v2/threshold-0.7": Needs(
    (), ("imagenetv2-threshold0.7.tar.gz",), _TEST_10000, extracts=True
  ),
  "imagenet_v2/topimages": Needs(
    (), ("imagenetv2-top-images.tar.gz",), _TEST_10000, extracts=True
  ),
  "imagenet_a": Needs((), ("imagenet-a.tar",), {"test": 7_500}, extracts=True),
  "imagenet_r": Needs((), ("imagenet-r.tar",), {"test": 30_000}, extracts=True),
}


@dataclasses.dataclass(frozen=True)
class PublishedFile:
  """A file as published."""

  url: str
  size: int
  sha256: str = ""


def list_published(name: str, builder) -> dict[str, PublishedFile]:
  """Returns the known files of a data set by name; may be empty.

  Args:
    name: of the data set.
    builder: of the data set.
  """
  found = {}
  for url, info in (builder.url_infos or {}).items():
    file = info.filename or url.rpartition("/")[2]
    found[file] = PublishedFile(url, int(info.size), info.checksum)
  for file in KNOWN[name].manual if name in KNOWN else ():
    found[file] = PublishedFile(_LOGIN, _TAR_SIZES[file])
  return found


@dataclasses.dataclass
class Inputs:
  """The files that data sets are prepared from.

  Attributes:
    folder: folder of manual downloads (`manual_dir`), or None.
    given: name -> path of files that are elsewhere.
    skip_checksums: accept any sizes, checksums and counts.
  """

  folder: pathlib.Path | None
  given: Mapping[str, pathlib.Path] = dataclasses.field(default_factory=dict)
  skip_checksums: bool = False
  _checked: set[pathlib.Path] = dataclasses.field(default_factory=set)

  def find(self, name: str) -> pathlib.Path | None:
    """Returns the path of a file, or None if it is missing."""
    if name in self.given:
      return self.given[name]
    path = self.folder and self.folder / name
    return path if path and path.is_file() else None

  def check(self, name: str, builder) -> None:
    """Raises InputError if a file of the data set is missing or wrong."""
    known = KNOWN.get(name)
    about = list_published(name, builder)
    if known is None:
      self._check_manual_dir(name, builder)
    else:
      self._check_missing(name, known, about)
    for file in known.names if known else about:
      path = self.find(file)
      if path is None or path in self._checked:
        continue
      self._check_file(path, about.get(file))
      self._check_content(file, path)
      self._checked.add(path)

  def _check_manual_dir(self, name: str, builder) -> None:
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    there = self.folder and self.folder.is_dir() and any(self.folder.iterdir())
    if instructions and not there:
      raise errors.InputError(
        "--manual_dir",
        f"the files of {name}",
        self.folder or "none",
        tfds_folder.one_line(instructions, 400),
      )

  def _check_missing(self, name: str, known: Needs, about) -> None:
    missing = [file for file in known.manual if self.find(file) is None]
    if not missing:
      return
    wanted = ", ".join(f"{f} ({about[f].size:,} bytes)" for f in missing)
    found = self.folder or "none"
    if self.folder and self.folder.is_dir():
      found = f"{tfds_folder.list_names(self.folder)} in {self.folder}"
    hint = ""
    if name == "imagenet2012" and missing == [TRAIN_TAR]:
      hint = "; imagenet2012_real needs the validation images alone"
    raise errors.InputError(
      "--manual_dir",
      f"{wanted} for {name}",
      found,
      f"get them from {_LOGIN} and put them there, not unpacked{hint}",
    )

  def _check_file(self, path, about: PublishedFile | None) -> None:
    try:
      size = path.stat().st_size
      if about is None or self.skip_checksums:
        return
      fix = f"download it again from {about.url}, or give --skip_checksums"
      if size != about.size:
        raise errors.InputError(path, f"{about.size:,} bytes", f"{size:,}", fix)
      if about.sha256 and (digest := _sha256(path)) != about.sha256:
        raise errors.InputError(path, f"SHA-256 {about.sha256}", digest, fix)
    except OSError as error:
      raise errors.InputError(
        path, "a readable file", error.strerror
      ) from error

  def _check_content(self, file: str, path: pathlib.Path) -> None:
    whole = not self.skip_checksums
    if file == VALIDATION_TAR:
      check_validation_tar(path, _NUM_VALIDATION if whole else None)
    elif file == TRAIN_TAR:
      check_train_tar(path, _NUM_CLASSES if whole else None)
    elif file == ANNOTATIONS and self.skip_checksums:
      check_annotations(path)

  def count_bytes(self, name: str, builder) -> int:
    """Returns the bytes of all files of a known set, or 0."""
    about = list_published(name, builder)
    total = 0
    for file in KNOWN[name].names if name in KNOWN else ():
      path = self.find(file)
      total += path.stat().st_size if path else about[file].size
    return total

  def find_synthetic(self, name: str, builder) -> dict[str, int]:
    """Returns file name -> bytes of the synthetic files of a set.

    These are the files in the mark of the folder (`synthetic`). A file of
    another size was put there later, such as a real one.

    Raises:
      InputError: a mark that cannot be read.
    """
    marked = synthetic.read(self.folder) if self.folder else {}
    names = (
      KNOWN[name].names if name in KNOWN else list_published(name, builder)
    )
    paths = {file: self.find(file) for file in names if file in marked}
    return {
      file: marked[file]
      for file, path in paths.items()
      if path and path.stat().st_size == marked[file]
    }

  def list_downloads(self, name: str, builder) -> list[str]:
    """Returns a text about each file that TFDS will download."""
    about = list_published(name, builder)
    names = KNOWN[name].downloads if name in KNOWN else about
    return [
      f"{file} ({about[file].size:,} bytes) from {about[file].url}"
      for file in names
      if file in about and self.find(file) is None
    ]


def _sha256(path: pathlib.Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _tar_names(path: pathlib.Path) -> list[str]:
  try:
    with tarfile.open(path, "r:") as archive:
      return archive.getnames()
  except (tarfile.TarError, OSError, EOFError) as error:
    raise errors.InputError(
      path,
      "a whole tar file",
      f"{path.stat().st_size:,} bytes ({tfds_folder.one_line(error)})",
      "download it again",
    ) from error


def check_validation_tar(path: pathlib.Path, count: int | None) -> None:
  """Raises InputError unless the names in the tar give every image its label.

  TFDS takes labels from the place of a name among all sorted names, so without
  the first image all labels would be wrong.

  Args:
    path: the tar.
    count: expected number of images, or None for any number.
  """
  names = sorted(_tar_names(path))
  count = count or max(1, len(names))
  for i, name in enumerate(names[:count], 1):
    expected = f"ILSVRC2012_val_{i:08d}.JPEG"
    if name != expected:
      raise errors.InputError(
        path, f"{expected} as number {i} of its sorted names", name, _AS_IS
      )
  if len(names) != count:
    raise errors.InputError(
      path, f"{count:,} images", f"{len(names):,}", _AS_IS
    )


def check_train_tar(path: pathlib.Path, count: int | None) -> None:
  """Raises InputError unless the tar holds a <WordNet id>.tar per class.

  Args:
    path: the tar.
    count: expected number of classes, or None for any number.
  """
  names = _tar_names(path)
  wnids = set(classes.imagenet_classes().wnids)
  for name in names:
    match = re.fullmatch(r"(n\d{8})\.tar", name)
    if not match or match.group(1) not in wnids:
      raise errors.InputError(
        path, "tars such as n01440764.tar in it", name, _AS_IS
      )
  found = len(set(names))
  if found != len(names) or found != (count or max(1, found)):
    raise errors.InputError(
      path,
      f"{count or 'some'} tars, one per class",
      f"{len(names)} of {found} classes",
      _AS_IS,
    )


def check_annotations(path: pathlib.Path) -> None:
  """Raises InputError unless a file has the reviews that TFDS reads."""
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise errors.InputError(
      path, "a JSON file", tfds_folder.one_line(error)
    ) from error
  found = sorted(content) if isinstance(content, dict) else [type(content)]
  if not set(_ANNOTATION_KEYS) <= set(found):
    raise errors.InputError(
      path,
      f"the keys {', '.join(_ANNOTATION_KEYS)}, as in {ANNOTATIONS}",
      tfds_folder.one_line(found),
    )
  unknown = set(content["imagenet_m"]) - set(content["initial_annots"])
  if unknown:
    raise errors.InputError(
      path,
      "every image of imagenet_m among initial_annots",
      f"{min(unknown)!r} and {len(unknown) - 1} more",
    )
