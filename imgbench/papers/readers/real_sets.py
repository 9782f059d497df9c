"""ReaL label sets for the papers' data sets."""

from collections.abc import Mapping
import pathlib

import numpy as np

from imgbench import errors
from imgbench.labels import real
from imgbench.metrics import summary
from imgbench.papers import records


def read(
  path: pathlib.Path, datasets: Mapping[str, records.Dataset]
) -> dict[str, records.LabelSets]:
  """Returns the ReaL labels of the images of each data set, in its order.

  Args:
    path: real.json of the repository google-research/reassessed-imagenet.
    datasets: by name; of images of ImageNet's validation set.

  Raises:
    InputError: not such a file, or an image that is not of the validation set.
  """
  sets = real.read(path)
  found = {}
  for name, dataset in datasets.items():
    try:
      numbers = [real.image_number(str(image)) for image in dataset.image_ids]
    except errors.InputError as error:
      raise error.prefixed(f"{dataset.path}: ") from error
    codes, left_out = real.label_codes(
      [sets[number - 1] for number in numbers], dataset.num_classes
    )
    found[name] = records.LabelSets(
      kind=summary.REAL,
      codes=codes,
      left_out=left_out,
      in_imagenet_m=None,
      path=pathlib.Path(path),
    )
  return found


def note(dataset: records.Dataset, label_sets: records.LabelSets) -> str:
  """Returns a line on the images without a ReaL label."""
  empty = int(np.sum(label_sets.left_out))
  return (
    f"{dataset.name}: {empty:,} of {len(dataset):,} images have no ReaL label;"
    " ReaL accuracies leave them out"
  )
