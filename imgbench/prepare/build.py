"""Runs a builder of TFDS: alone at it, with progress, all of it or nothing."""

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

_WORK_FOLDER = ".imgbench_prepare"  # in data_dir; gone when nothing is at work
_DOWNLOADS = "downloads"  # in data_dir; TFDS's own name for it


@dataclasses.dataclass(frozen=True)
class Job:
  """A data set to prepare.

  Attributes:
    name: with its config, without a version, e.g. "imagenet_v2/topimages".
    builder: `tfds.core.DatasetBuilder`, for what is known of the set.
    data_dir: folder of prepared sets.
  """

  name: str
  builder: object
  data_dir: pathlib.Path

  @property
  def version(self) -> str:
    return str(self.builder.version)

  @property
  def path(self) -> pathlib.Path:
    """Where the set lies when it is prepared."""
    return self.data_dir / self.name / self.version


def import_tensorflow() -> None:
  """Imports TensorFlow, which is to copy files and not to take a GPU.

  Raises:
    InputError: it cannot be imported.
  """
  # It speaks of oneDNN on standard error whatever its log level is.
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
  """Keeps back what TFDS says about things that it tries in vain."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(verbosity)


def build(job: Job, inputs: prepare_files.Inputs) -> None:
  """Prepares a data set that is not there yet.

  TFDS works in a folder of its own; what is whole is then moved to its place,
  marked where it was made of files that a program has drawn.

  Raises:
    InputError: another process is at it, or a mark cannot be read.
    RunError: TFDS failed.
  """
  import tensorflow_datasets

  drawn = inputs.drawn(job.name, job.builder)
  with _work_folder(job) as work:
    for text in inputs.to_download(job.name, job.builder):
      _tell(f"{job.name}: not in manual_dir, TFDS downloads {text}")
    with quiet_tfds():
      builder = tensorflow_datasets.builder(
        f"{job.name}:{job.version}", data_dir=work / "data"
      )
    try:
      # What TFDS prints is no result.
      with contextlib.redirect_stdout(sys.stderr):
        _run(job, builder, inputs, work)
    except Exception as error:  # TFDS and builders raise whatever they like
      raise errors.RunError(_failure(job, inputs, error)) from error
    if drawn:
      synthetic.write(builder.data_dir, drawn)
    _move(pathlib.Path(builder.data_dir), job.path)


@contextlib.contextmanager
def _work_folder(job: Job) -> Iterator[pathlib.Path]:
  """Yields an empty folder that is this process's alone, and removes it.

  What an earlier process left that was killed goes first.
  """
  import fcntl

  folder = job.data_dir / _WORK_FOLDER / job.name.replace("/", "-")
  folder.mkdir(parents=True, exist_ok=True)
  handle = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # The one who had it may have removed it just now.
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
      _tell(f"removing {left}, left by a preparation that was stopped")
      shutil.rmtree(left)
    yield folder
  finally:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)
    for left in (folder.parent, job.data_dir / _DOWNLOADS):
      with contextlib.suppress(OSError):  # absent or not empty
        left.rmdir()


def _run(job: Job, builder, inputs, work: pathlib.Path) -> None:
  import tensorflow_datasets

  manual_dir = inputs.folder
  if inputs.given:
    manual_dir = _link_all(work / "manual", inputs.folder, inputs.given)
  config = tensorflow_datasets.download.DownloadConfig(
    manual_dir=manual_dir,
    # TFDS would take what it once unpacked from another file of this name.
    extract_dir=work / "extracted",
    try_download_gcs=False,
  )
  _show_progress(job.name, builder, complete=not inputs.skip_checksums)
  with contextlib.ExitStack() as stack:
    if inputs.skip_checksums:
      stack.enter_context(_taken_as_they_are(builder, manual_dir))
    builder.download_and_prepare(
      download_dir=job.data_dir / _DOWNLOADS,
      download_config=config,
      file_format="array_record",
    )


def _failure(job: Job, inputs, error: Exception) -> str:
  hint = ""
  if urls := inputs.to_download(job.name, job.builder):
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
  # TFDS keeps there which of the configs is the default.
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
  # TFDS would write a line for every file that it unpacks.
  tensorflow_datasets.disable_progress_bar()
  generate = builder._generate_examples

  def shown(*args, **kwargs):
    examples = generate(*args, **kwargs)
    if not isinstance(examples, Iterable):  # a Beam pipeline
      return examples
    return _bar_once_started(examples, name)

  builder._generate_examples = shown


def _bar_once_started(examples: Iterable, name: str) -> Iterator:
  yield from tqdm.tqdm(
    examples, name, mininterval=60, maxinterval=60, unit=" examples"
  )


def _expect_counts(builder, counts: Mapping[str, int]) -> None:
  """Tells TFDS how many examples there will be; it counts them itself later."""
  from tensorflow_datasets import core

  splits = [
    core.SplitInfo(name=name, shard_lengths=[count], num_bytes=0)
    for name, count in counts.items()
  ]
  builder.info.set_splits(core.SplitDict(splits))


@contextlib.contextmanager
def _taken_as_they_are(builder, folder: pathlib.Path | None) -> Iterator[None]:
  """Lets TFDS take the files of a folder whatever their checksums.

  What TFDS has in memory is replaced for a while, what it has on disk never.
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
  """Makes a folder of links to the files of another one and to some more."""
  into.mkdir(parents=True)
  entries: Iterable[pathlib.Path] = folder.iterdir() if folder else ()
  files = {path.name: path for path in entries} | dict(given)
  for name, path in files.items():
    os.symlink(path.resolve(), into / name)
  return into


def _tell(text: str) -> None:
  """Says what goes on; results go to standard output."""
  print(text, file=sys.stderr, flush=True)
