"""Data sets by name."""

from collections.abc import Mapping
import inspect
import os
from typing import Any

from imgbench import errors
from imgbench import registry
from imgbench import typed
from imgbench.data import folder
from imgbench.data import scene_source
from imgbench.data import source

# Data sets that TFDS does not prepare.
SOURCES = registry.Registry("data set")


SOURCES.register("scenes", scene_source.ScenesSource)
SOURCES.register("folder", folder.FolderSource)


def open_split(
  section: str,
  split_key: str,
  *,
  name: str,
  split: str,
  data_dir: str,
  options: Mapping[str, Any],
) -> source.AnySource:
  """Returns `build_source`, with errors that name keys of a config section.

  Args:
    section: e.g. "data".
    split_key: key of the split in it.
    name: see `build_source`, as for the others.
    split: e.g. "train[:90%]".
    data_dir: folder with prepared data sets.
    options: of the data set.

  Raises:
    InputError: see `build_source`.
  """
  try:
    return build_source(name, split, data_dir, **options)
  except errors.InputError as error:
    if os.sep in error.setting:  # A file.
      raise
    if error.setting == "split":
      error.setting = split_key
    elif error.setting != "data_dir":
      error = error.prefixed("options.")
    raise error.prefixed(f"{section}.") from error


def build_source(
  name: str, split: str, data_dir: str = "", **options
) -> source.Source | source.EncodedSource:
  """Returns a split of a data set by name.

  A `source.Source` if all images have one size, else a
  `source.EncodedSource`.

  Args:
    name: one of SOURCES, e.g. "scenes", or a TFDS image classification set
      prepared under `data_dir`, e.g. "cifar10", or "cifar10:3.0.2" for that
      version.
    split: e.g. "train" or "train[:90%]".
    data_dir: folder with prepared TFDS data sets; not used by "scenes".
    **options: of the data set, e.g. the sizes of "scenes".

  Raises:
    InputError: unknown split or option, or no data set in `data_dir`.
  """
  if name in SOURCES:
    parameters = inspect.signature(SOURCES[name]).parameters
    for option, value in options.items():
      if option in parameters:
        typed.check_plain(option, value, parameters[option].annotation)
    if "data_dir" in parameters:
      options["data_dir"] = data_dir
    return SOURCES.build(name, split=split, **options)
  name, colon, version = name.partition(":")
  if colon:
    given = options.setdefault("version", version)
    expected = f"one version, in {name}:VERSION or here"
    errors.check(version != "" and given == version, "version", expected, given)
  from imgbench.data import encoded
  from imgbench.data import tfds
  from imgbench.data import tfds_folder

  version = options.get("version", "")
  prepared = tfds_folder.open_folder(name, data_dir, version)
  # Both sources refuse a set without images.
  image = dict(prepared.builder.info.features.items()).get("image")
  one_size = image is None or None not in image.shape
  return registry.call(
    f"data set {name!r}",
    tfds.TfdsSource if one_size else encoded.TfdsEncodedSource,
    name=name,
    split=split,
    data_dir=data_dir,
    **options,
  )
