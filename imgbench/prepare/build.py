"""Runs a TFDS builder atomically, under a lock and with progress."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import os
import pathlib
import shutil
import sys

from absl import logging
import tqdm

from imgbench import errors
from imgbench.data import synthetic
from imgbench.data import tfds_folder
from imgbench.prepare import files as prepare_files

_WORK_FOLDER = ".imgbench_prepare"  # in data_dir; removed at the end
_DOWNLOADS = "downloads"  # in data_dir; TFDS's name


@dataclasses.dataclass(frozen=True)
class BuildJob:
  """A data set to prepare.

  Attributes:
    name: with its config, without a version, e.g. "imagenet_v2/topimages".
    builder: `tfds.core.DatasetBuilder`, for facts about the set.
    data_dir: folder for prepared sets.
  """

  name: str
  builder: object
  data_dir: pathlib.Path

  @property
  def version(self) -> str:
    return str(self.builder.version)

  @property
  def path(self) -> pathlib.Path:
    """Folder of the set once it is prepared."""
    return self.data_dir / self.name / self.version


def import_tensorflow() -> None:
  """Imports TensorFlow and hides the GPUs from it.

  Raises:
    InputError: it cannot be imported.
  """
  # It prints about oneDNN on standard error at any log level.
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  try:
    import tensorflow
  except ImportError as error:
    raise errors.InputError(
      "TensorFlow",
      "an installation that can be imported",
      tfds_folder.one_line(error),
      "install it again",
    ) from error
  with contextlib.suppress(RuntimeError):  # in use already
    tensorflow.config.set_visible_devices([], "GPU")


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
  """Hides TFDS's warnings about failed attempts."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(verbosity)


def build(job: BuildJob, inputs: prepare_files.Inputs) -> None:
  """Prepares a missing data set.

  TFDS works in a temporary folder; the complete set is then moved to its place,
  with a mark if it was prepared from synthetic files.

  Raises:
    InputError: another process prepares it, or a mark cannot be read.
    RunError: TFDS failed.
  """
  import tensorflow_datasets

  synthetic_files = inputs.find_synthetic(job.name, job.builder)
  with _work_folder(job) as work:
    for text in inputs.list_downloads(job.name, job.builder):
      _report(f"{job.name}: not in manual_dir, TFDS downloads {text}")
    with quiet_tfds():
      builder = tensorflow_datasets.builder(
        f"{job.name}:{job.version}", data_dir=work / "data"
      )
    try:
      # Standard output is for results.
      with contextlib.redirect_stdout(sys.stderr):
        _run(job, builder, inputs, work)
    except Exception as error:  # TFDS and builders raise many kinds
      raise errors.RunError(_describe_failure(job, inputs, error)) from error
    if synthetic_files:
      synthetic.write(builder.data_dir, synthetic_files)
    _move(pathlib.Path(builder.data_dir), job.path)


@contextlib.contextmanager
def _work_folder(job: BuildJob) -> Iterator[pathlib.Path]:
  """Yields an empty folder locked by this process, and removes it.

  Removes the files of an earlier process that was killed.
  """
  import fcntl

  folder = job.data_dir / _WORK_FOLDER / job.name.replace("/", "-")
  folder.mkdir(parents=True, exist_ok=True)
  handle = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # The last owner may have removed it just now.
    if os.fstat(handle).st_ino != os.stat(folder).st_ino:
      raise BlockingIOError
  except OSError as error:
    os.close(handle)
    raise errors.InputError(
      job.name,
      f"one process that prepares it in {job.data_dir}",
      "another one",
      "wait for it to end",
    ) from error
  try:
    for left in folder.iterdir():
      _report(f"removing {left}, left by an interrupted run")
      shutil.rmtree(left)
    yield folder
  finally:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)
    for left in (folder.parent, job.data_dir / _DOWNLOADS):
      with contextlib.suppress(OSError):  # absent or not empty
        left.rmdir()


def _run(job: BuildJob, builder, inputs, work: pathlib.Path) -> None:
  import tensorflow_datasets

  manual_dir = inputs.folder
  if inputs.given:
    manual_dir = _link_all(work / "manual", inputs.folder, inputs.given)
  config = tensorflow_datasets.download.DownloadConfig(
    manual_dir=manual_dir,
    # Else TFDS would reuse what it unpacked from another file of this name.
    extract_dir=work / "extracted",
    try_download_gcs=False,
  )
  _show_progress(job.name, builder, complete=not inputs.skip_checksums)
  with contextlib.ExitStack() as stack:
    if inputs.skip_checksums:
      stack.enter_context(_accept_checksums(builder, manual_dir))
    builder.download_and_prepare(
      download_dir=job.data_dir / _DOWNLOADS,
      download_config=config,
      file_format="array_record",
    )


def _describe_failure(job: BuildJob, inputs, error: Exception) -> str:
  hint = ""
  if urls := inputs.list_downloads(job.name, job.builder):
    hint = (
      " If the download failed, download these files and put them into"
      f" --manual_dir: {'; '.join(urls[:4])}."
    )
  return (
    f"{job.name}: TFDS ended with {type(error).__name__}:"
    f" {tfds_folder.one_line(error, 400)}.{hint} Nothing of it was kept; run"
    " the same command again"
  )


def _move(source: pathlib.Path, target: pathlib.Path) -> None:
  target.parent.mkdir(parents=True, exist_ok=True)
  # TFDS stores the default config there.
  metadata = source.parent.parent / ".config"
  if metadata.is_dir() and not (target.parent.parent / ".config").exists():
    shutil.copytree(metadata, target.parent.parent / ".config")
  source.rename(target)


def _show_progress(name: str, builder, complete: bool) -> None:
  """Has TFDS show its progress bars with totals; in a log, a line a minute."""
  import tensorflow_datasets

  known = prepare_files.KNOWN.get(name)
  if sys.stderr.isatty():
    if known and complete:
      _expect_counts(builder, known.counts)
    return
  # Else TFDS would write a line for every file that it unpacks.
  tensorflow_datasets.disable_progress_bar()
  generate = builder._generate_examples

  def generate_with_bar(*args, **kwargs):
    examples = generate(*args, **kwargs)
    if not isinstance(examples, Iterable):  # a Beam pipeline
      return examples
    return _yield_with_bar(examples, name)

  builder._generate_examples = generate_with_bar


def _yield_with_bar(examples: Iterable, name: str) -> Iterator:
  yield from tqdm.tqdm(
    examples, name, mininterval=60, maxinterval=60, unit=" examples"
  )


def _expect_counts(builder, counts: Mapping[str, int]) -> None:
  """Tells TFDS the expected numbers of examples, which it counts later."""
  from tensorflow_datasets import core

  splits = [
    core.SplitInfo(name=name, shard_lengths=[count], num_bytes=0)
    for name, count in counts.items()
  ]
  builder.info.set_splits(core.SplitDict(splits))


@contextlib.contextmanager
def _accept_checksums(builder, folder: pathlib.Path | None) -> Iterator[None]:
  """Lets TFDS accept the files of a folder with any checksum.

  Replaces the checksums in memory for a while, never those on disk.
  """
  from tensorflow_datasets.core.download import checksums

  infos = builder.url_infos or {}
  kept = dict(infos)
  for url, info in kept.items():
    name = info.filename or url.rpartition("/")[2]
    if folder and (folder / name).is_file():
      infos[url] = checksums.compute_url_info(folder / name)
  try:
    yield
  finally:
    infos.update(kept)


def _link_all(
  into: pathlib.Path,
  folder: pathlib.Path | None,
  given: Mapping[str, pathlib.Path],
) -> pathlib.Path:
  """Creates a folder of links to the files of another one and to `given`."""
  into.mkdir(parents=True)
  entries: Iterable[pathlib.Path] = folder.iterdir() if folder else ()
  files = {path.name: path for path in entries} | dict(given)
  for name, path in files.items():
    os.symlink(path.resolve(), into / name)
  return into


def _report(text: str) -> None:
  """Prints progress on standard error; standard output is for results."""
  print(text, file=sys.stderr, flush=True)
