"""Data sets by name."""

from imgbench import registry
from imgbench.data import source


def build_source(
  name: str, split: str, data_dir: str = "", **options
) -> source.Source:
  """Returns a split of a data set by name.

  Args:
    name: "scenes" (drawn by the package), or a TFDS image classification set
      prepared under `data_dir`, e.g. "cifar10".
    split: e.g. "train" or "train[:90%]".
    data_dir: folder with prepared TFDS data sets; not used by "scenes".
    **options: of the data set, e.g. the sizes of "scenes".

  Raises:
    InputError: unknown split or option, missing or foreign folder.
  """
  if name == "scenes":
    from imgbench.data import scenes

    return registry.call(
      "data set 'scenes'", scenes.ScenesSource, split=split, **options
    )
  from imgbench.data import tfds

  return registry.call(
    f"data set {name!r}",
    tfds.TfdsSource,
    name=name,
    split=split,
    data_dir=data_dir,
    **options,
  )
