"""Prepares data sets with TFDS's own builders, as array_record files.

imgbench prepare --dataset=imagenet2012,imagenet_v2/topimages \\
  --manual_dir=DOWNLOADS --data_dir=DATA

Takes any image classification set of TFDS. All inputs are checked before
anything is written. A set appears in DATA when it is complete; after an
interruption, the same command continues with the missing sets. Needs
TensorFlow: pip install "imgbench[prepare]".
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import importlib.util
import os
import pathlib
import shutil

from absl import flags
from absl import logging

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import registry
from imgbench.data import tfds_folder
from imgbench.data import tfrecord_index
from imgbench.prepare import build
from imgbench.prepare import files

_ANNOTATED_SET = "imagenet2012_multilabel"
# TFDS frees its shuffle buffer on disk while it writes the shards.
_SPACE_FACTOR = 1.1


def find_job(name: str, data_dir: pathlib.Path) -> build.BuildJob:
  """Returns the job that prepares a data set.

  Args:
    name: "<name>", "<name>/<config>", either with ":<version>".
    data_dir: folder for prepared sets.

  Raises:
    InputError: an unknown name, or no config for a set that has some.
  """
  import tensorflow_datasets

  try:
    with build.quiet_tfds():
      builder = tensorflow_datasets.builder(name, data_dir=data_dir)
  except tensorflow_datasets.core.DatasetNotFoundError as error:
    names = tensorflow_datasets.list_builders(with_community_datasets=False)
    near = registry.near_names(name.partition("/")[0], names)
    raise errors.InputError(
      "--dataset",
      f"a name that TFDS {tensorflow_datasets.__version__} knows",
      repr(name),
      tfds_folder.one_line(near),
    ) from error
  except Exception as error:  # an unknown config or version, a broken folder
    raise errors.InputError(
      "--dataset",
      "a config and version that TFDS knows",
      f"{name!r} ({tfds_folder.one_line(error, 300)})",
    ) from error
  plain = name.partition(":")[0]
  configs = list(builder.builder_configs)
  if configs and "/" not in plain:
    choice = " or ".join(f"{builder.name}/{config}" for config in configs[:8])
    raise errors.InputError(
      "--dataset", f"a config, such as {choice}", repr(name)
    )
  return build.BuildJob(plain, builder, data_dir)


def count_prepared(job: build.BuildJob) -> dict[str, int] | None:
  """Returns split -> examples of a prepared set, or None if it is absent.

  Raises:
    InputError: the set is incomplete.
  """
  if not job.path.exists():
    return None
  try:
    folder = tfds_folder.open_folder(job.name, str(job.data_dir), job.version)
    splits = folder.builder.info.splits
    for split in splits:
      folder.pieces(split)
  except errors.InputError as error:
    raise errors.InputError(
      job.path,
      "a whole data set or no such folder",
      error,
      f"or delete it to prepare it again: rm -r {job.path}",
    ) from error
  return {name: split.num_examples for name, split in splits.items()}


def _check_tensorflow() -> None:
  if importlib.util.find_spec("tensorflow") is None:
    raise errors.InputError(
      "TensorFlow",
      "an installed package, to prepare data sets",
      "none",
      'pip install "imgbench[prepare]"',
    )


def _check_space(jobs, inputs: files.Inputs, root: pathlib.Path):
  needed = 0.0
  for job in jobs:
    known = files.KNOWN.get(job.name, files.Needs())
    factor = _SPACE_FACTOR + known.extracts
    needed += factor * inputs.count_bytes(job.name, job.builder)
  free = shutil.disk_usage(root).free
  if needed > free:
    raise errors.InputError(
      "--data_dir",
      f"{needed / 1e9:.1f} GB of free space in {root}",
      f"{free / 1e9:.1f} GB",
      "choose another folder or fewer data sets",
    )


def _describe(job: build.BuildJob, counts: Mapping[str, int]) -> str:
  """Returns a line about a prepared set."""
  known = files.KNOWN.get(job.name, files.Needs()).counts
  parts = []
  for split, count in counts.items():
    part = f"{split} {count:,}"
    if known.get(split, count) != count:
      part += f" (as published: {known[split]:,})"
    parts.append(part)
  return f"{job.path}: {', '.join(parts)}"


def prepare(
  names: Sequence[str],
  data_dir: str | os.PathLike[str],
  manual_dir: str | os.PathLike[str] = "",
  annotations: str | os.PathLike[str] = "",
  skip_checksums: bool = False,
  index: bool = False,
) -> Iterator[str]:
  """Prepares missing data sets; yields a line about each set.

  Args:
    names: TFDS names, with configs, e.g. ["imagenet_v2/topimages"].
    data_dir: folder for the sets; created if absent.
    manual_dir: folder with manual downloads; files that TFDS would download
      are taken from there, too.
    annotations: the reviews of imagenet2012_multilabel, if not in manual_dir.
    skip_checksums: accept files whose sizes, checksums or numbers of images
      differ from the published ones.
    index: write the index of each TFRecord file next to it.

  Raises:
    InputError: a name, file or folder is not as expected; nothing was done.
    RunError: TFDS failed; sets yielded before are complete.
  """
  root = _expand(data_dir)
  inputs = files.Inputs(
    _expand(manual_dir) if manual_dir else None,
    _find_annotations(annotations, names),
    skip_checksums,
  )
  jobs = [find_job(name, root) for name in dict.fromkeys(names)]
  present = {job.name: count_prepared(job) for job in jobs}
  missing = [job for job in jobs if present[job.name] is None]
  if missing:
    _check_tensorflow()
    for job in missing:
      inputs.check(job.name, job.builder)
    try:
      root.mkdir(parents=True, exist_ok=True)
      _check_space(missing, inputs, root)
    except OSError as error:
      raise errors.InputError(
        "--data_dir", "a folder that can be written", error
      ) from error
    build.import_tensorflow()
  for job in jobs:
    counts, suffix = present[job.name], "; already prepared"
    if counts is None:
      build.build(job, inputs)
      counts, suffix = count_prepared(job), ""
    if index:
      _store_indices(job)
    yield _describe(job, counts) + suffix


def _store_indices(job: build.BuildJob) -> None:
  """Writes the index of each TFRecord file; other formats contain theirs."""
  folder = tfds_folder.open_folder(job.name, str(job.data_dir), job.version)
  if folder.file_format != "tfrecord":
    return
  for split in folder.builder.info.splits:
    for path in {piece.path for piece in folder.pieces(split)}:
      try:
        tfrecord_index.store_beside(path)
      except OSError as error:
        raise errors.InputError(
          "--index", "a data set in a folder that can be written", error
        ) from error


def _expand(path: str | os.PathLike[str]) -> pathlib.Path:
  return pathlib.Path(os.path.expanduser(path)).absolute()


def _find_annotations(
  annotations, names: Sequence[str]
) -> Mapping[str, pathlib.Path]:
  """Returns --annotations under the file name that TFDS looks for."""
  if not annotations:
    return {}
  if _ANNOTATED_SET not in [name.partition(":")[0] for name in names]:
    raise errors.InputError(
      "--annotations",
      f"none unless --dataset has {_ANNOTATED_SET}",
      annotations,
    )
  path = _expand(annotations)
  if not path.is_file():
    raise errors.InputError(
      "--annotations", f"an existing file, {files.ANNOTATIONS}", annotations
    )
  return {files.ANNOTATIONS: path}


REQUIRED = ("dataset", "data_dir")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --dataset, --data_dir, --manual_dir, --annotations and the rest."""
  for name, text in (
    (
      "dataset",
      "TFDS names, with a config if the set has some, separated by commas.",
    ),
    ("data_dir", "Folder for prepared data sets."),
    ("manual_dir", "Folder with manual downloads, such as ImageNet's tars."),
    (
      "annotations",
      f"Reviews of {_ANNOTATED_SET} ({files.ANNOTATIONS}), if they are"
      " not in manual_dir.",
    ),
  ):
    flags.DEFINE_string(name, "", text, flag_values=flag_values)
  for name, text in (
    ("skip_checksums", "Accept files that differ from the published ones."),
    (
      "index",
      "Write the index of each TFRecord file next to it, for all machines that"
      " read it; without it each user's cache gets one.",
    ),
  ):
    flags.DEFINE_bool(name, False, text, flag_values=flag_values)


def main(argv: list[str]) -> None:
  """Prepares the data sets of the flags."""
  del argv
  values = flags.FLAGS
  cli.show_log()
  logging.set_verbosity(logging.WARNING)  # progress bars show the rest
  try:
    for line in prepare(
      [name.strip() for name in values.dataset.split(",")],
      values.data_dir,
      values.manual_dir,
      values.annotations,
      values.skip_checksums,
      values.index,
    ):
      print(line, flush=True)
  except KeyboardInterrupt:
    raise errors.RunError(
      "stopped; run the same command again to prepare the missing sets"
    ) from None


if __name__ == "__main__":
  commands.start("prepare")
