"""Prepares data sets with TFDS's own builders, as array_record files.

python -m imgbench.data.prepare --dataset=imagenet2012,imagenet_v2/topimages \
  --manual_dir=DOWNLOADS --data_dir=DATA

Any image classification set of TFDS by name. Everything is checked before
anything is written. A set appears in DATA when it is whole; stopped at any
time, the same command continues with the sets that are missing. Needs
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
from imgbench.prepare import build
from imgbench.prepare import files

_ANNOTATED_SET = "imagenet2012_multilabel"
# What TFDS buffers on disk to shuffle goes away as the shards are written.
_SPACE_FACTOR = 1.1


def find_job(name: str, data_dir: pathlib.Path) -> build.Job:
  """Returns the job of a data set's name.

  Args:
    name: "<name>", "<name>/<config>", either with ":<version>".
    data_dir: where it is to lie.

  Raises:
    InputError: unknown, or a set of several configs without one of them.
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
      name,
      tfds_folder.one_line(near),
    ) from error
  except Exception as error:  # an unknown config or version, a broken folder
    raise errors.InputError(
      "--dataset",
      "a config and version that TFDS knows",
      f"{name} ({tfds_folder.one_line(error, 300)})",
    ) from error
  plain = name.partition(":")[0]
  configs = list(builder.builder_configs)
  if configs and "/" not in plain:
    choice = " or ".join(f"{builder.name}/{config}" for config in configs[:8])
    raise errors.InputError("--dataset", f"a config, such as {choice}", name)
  return build.Job(plain, builder, data_dir)


def prepared_counts(job: build.Job) -> dict[str, int] | None:
  """Returns split -> examples of a set that is there, or None if it is not.

  Raises:
    InputError: something lies there that is not whole.
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
      "an installation, which preparing a data set needs",
      "none",
      'pip install "imgbench[prepare]"',
    )


def _check_space(jobs, inputs: files.Inputs, root: pathlib.Path):
  needed = 0.0
  for job in jobs:
    known = files.KNOWN.get(job.name, files.Needs())
    factor = _SPACE_FACTOR + known.extracts
    needed += factor * inputs.num_bytes(job.name, job.builder)
  free = shutil.disk_usage(root).free
  if needed > free:
    raise errors.InputError(
      "--data_dir",
      f"{needed / 1e9:.1f} GB of free space in {root}",
      f"{free / 1e9:.1f} GB",
      "choose another folder or fewer data sets",
    )


def _describe(job: build.Job, counts: Mapping[str, int]) -> str:
  """Returns the line that says what has been prepared."""
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
) -> Iterator[str]:
  """Prepares data sets that are not there yet; yields a line about each.

  Args:
    names: of TFDS, with configs, e.g. ["imagenet_v2/topimages"].
    data_dir: where the sets are to lie; made if absent.
    manual_dir: where the files lie that people fetch; files that TFDS would
      download are taken from there as well.
    annotations: the reviews of imagenet2012_multilabel, if not in manual_dir.
    skip_checksums: take files whose sizes, checksums or numbers of images are
      not those published.

  Raises:
    InputError: a name, file or folder is not as expected; nothing was done.
    RunError: TFDS failed; sets yielded before are whole.
  """
  root = _folder(data_dir)
  inputs = files.Inputs(
    _folder(manual_dir) if manual_dir else None,
    _given(annotations, names),
    skip_checksums,
  )
  jobs = [find_job(name, root) for name in dict.fromkeys(names)]
  there = {job.name: prepared_counts(job) for job in jobs}
  missing = [job for job in jobs if there[job.name] is None]
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
    if there[job.name] is not None:
      yield f"{_describe(job, there[job.name])}; was there"
      continue
    build.build(job, inputs)
    yield _describe(job, prepared_counts(job))


def _folder(path: str | os.PathLike[str]) -> pathlib.Path:
  return pathlib.Path(os.path.expanduser(path)).absolute()


def _given(annotations, names: Sequence[str]) -> Mapping[str, pathlib.Path]:
  """Returns the file given by hand under the name that TFDS looks for."""
  if not annotations:
    return {}
  if _ANNOTATED_SET not in [name.partition(":")[0] for name in names]:
    raise errors.InputError(
      "--annotations",
      f"none unless --dataset has {_ANNOTATED_SET}",
      annotations,
    )
  path = _folder(annotations)
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
      "TFDS names, with a config where there are some, separated by commas.",
    ),
    ("data_dir", "Folder for prepared data sets."),
    ("manual_dir", "Folder with files fetched by hand, such as ImageNet's."),
    (
      "annotations",
      f"Reviews of {_ANNOTATED_SET} ({files.ANNOTATIONS}), if they are"
      " not in manual_dir.",
    ),
  ):
    flags.DEFINE_string(name, "", text, flag_values=flag_values)
  for name, text in (
    ("skip_checksums", "Take files that are not as published."),
    ("traceback", "Show the Python traceback of an error."),
  ):
    flags.DEFINE_bool(name, False, text, flag_values=flag_values)


def main(argv: list[str]) -> None:
  """Prepares what the flags name."""
  del argv
  values = flags.FLAGS
  cli.show_log()
  logging.set_verbosity(logging.WARNING)  # bars and results say the rest
  with cli.one_line_errors(values.traceback):
    try:
      for line in prepare(
        [name.strip() for name in values.dataset.split(",")],
        values.data_dir,
        values.manual_dir,
        values.annotations,
        values.skip_checksums,
      ):
        print(line, flush=True)
    except KeyboardInterrupt:
      raise errors.RunError(
        "stopped; run the same command again to prepare the missing sets"
      ) from None


if __name__ == "__main__":
  commands.start("prepare")
