"""CIFAR-10 and CIFAR-10.1: labels and public predictions of 30 models.

The folder is a clone of the public repository modestyachts/CIFAR-10.1, or laid
out like it:

  datasets/cifar10.1_v4_labels.npy                      integer [2021]
  datasets/cifar10.1_v6_labels.npy                      integer [2000]
  model_predictions/original_predictions/<model>_predictions.json
  model_predictions/v4_predictions/<model>_predictions.json
  model_predictions/v6_predictions/<model>_predictions.json

A prediction file is a list with one class for each image, in the order of the
labels. The repository lacks the labels of the CIFAR-10 test set.
"""

from collections.abc import Sequence
import pathlib

import numpy as np

from imgbench import errors
from imgbench.labels import real
from imgbench.papers import records
from imgbench.papers.readers import clone
from imgbench.papers.readers import own as own_lib
from imgbench.papers.readers import predictions as predictions_lib
from imgbench.tables import formats

TEST = "cifar10-test"
V4 = "cifar10.1-v4"
V6 = "cifar10.1-v6"
KNOWN = (TEST, V4, V6)
TITLES = {TEST: "CIFAR-10 test", V4: "CIFAR-10.1 v4", V6: "CIFAR-10.1 v6"}

CLASS_NAMES = (
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
)

URL = "https://github.com/modestyachts/CIFAR-10.1"
_FOLDERS = {
  TEST: "original_predictions",
  V4: "v4_predictions",
  V6: "v6_predictions",
}
LABELS = {V4: "cifar10.1_v4_labels.npy", V6: "cifar10.1_v6_labels.npy"}
_PREDICTIONS = "model_predictions"
_SUFFIX = "_predictions.json"
_BATCH_RECORD = 1 + 3 * 32 * 32  # bytes of test_batch.bin: a label, an image
_MIN_AGREEMENT = 0.5  # of all public predictions with their labels


def read_labels(path: pathlib.Path) -> np.ndarray:
  """Reads the labels of a test set, int32 [N] in [0, 10).

  Args:
    path: .npy of an integer array [N], .json with a list, or the file
      test_batch.bin of CIFAR-10's binary release.

  Raises:
    InputError: a file that is none of these, or labels outside [0, 10).
  """
  reader = {
    ".npy": predictions_lib.read_array,
    ".json": _read_list,
    ".bin": _read_batch,
  }.get(path.suffix)
  if reader is None:
    given = repr(path.suffix)
    raise errors.InputError(path, "a suffix of .npy, .json, .bin", given)
  labels = reader(path)
  if labels.ndim != 1 or not labels.size or labels.dtype.kind not in "iu":
    given = f"{labels.dtype} {list(labels.shape)}"
    raise errors.InputError(path, "integer labels [N]", given)
  _check_classes(path, labels)
  return labels.astype(np.int32)


def read_dataset(name: str, labels_path: pathlib.Path) -> records.Dataset:
  """Reads the images of one of `KNOWN`; they have no subsets.

  Their ids are "test_00000" and so on, as TFDS has them for CIFAR-10, and
  "cifar10.1-v4_00000", "cifar10.1-v6_00000": the place from 0 in the order of
  the labels.
  """
  labels = read_labels(labels_path)
  # TFDS has no ids for CIFAR-10.1 and shuffles it: its numbers must not match.
  prefix = "test" if name == TEST else name
  return records.Dataset(
    name=name,
    image_ids=np.array([f"{prefix}_{i:05d}" for i in range(len(labels))]),
    labels=labels,
    class_names=CLASS_NAMES,
    subsets={},
    path=labels_path,
  )


def read_datasets(
  repo: pathlib.Path, labels: pathlib.Path
) -> dict[str, records.Dataset]:
  """Reads CIFAR-10 and those versions of CIFAR-10.1 that are there.

  Args:
    repo: the clone.
    labels: file of the labels of the CIFAR-10 test set.

  Raises:
    InputError: no such clone, or what `read_labels` raises.
  """
  folder = repo / "datasets"
  present = [name for name in LABELS if (folder / LABELS[name]).is_file()]
  if not present:
    wanted = f"a clone of {URL} with labels such as {folder / LABELS[V4]}"
    raise errors.InputError("--repo", wanted, repo)
  found = {TEST: read_dataset(TEST, labels)}
  for name in present:
    found[name] = read_dataset(name, folder / LABELS[name])
  return found


def read_predictions(
  path: pathlib.Path, dataset: records.Dataset
) -> records.RankedPredictions:
  """Reads the public predictions of a model.

  Raises:
    InputError: no list of classes, another number of them than there are
      images, or classes outside [0, 10).
  """
  ids = _read_list(path)[:, None]
  if len(ids) != len(dataset):
    wanted = f"{len(dataset)} predictions, one for each label in {dataset.path}"
    raise errors.InputError(path, wanted, len(ids))
  model = path.name.removesuffix(_SUFFIX)
  return predictions_lib.from_ids(ids, dataset, model, path)


def read(
  repo: pathlib.Path, labels: pathlib.Path, own: Sequence[str] = ()
) -> clone.Collection:
  """Reads all predictions of a clone, and those of your models.

  Args:
    repo: the clone.
    labels: file of the labels of the CIFAR-10 test set.
    own: texts MODEL@DATASET=FILE, see `own`; the data sets are KNOWN.

  Raises:
    InputError: no clone, no predictions, files that are none, labels that the
      models do not agree with (they are in another order), two files of one
      model, or what `own.read` raises.
  """
  datasets = read_datasets(repo, labels)
  specs = [own_lib.parse(text) for text in own]
  found = {
    name: read_public(repo, dataset) for name, dataset in datasets.items()
  }
  _check_own(found, specs)
  for spec in specs:
    mine = own_lib.read(spec, datasets)
    found[mine.dataset].append(mine)
  own_models = frozenset(spec.model for spec in specs)
  every = [p for of_set in found.values() for p in of_set]
  notes = _note_unread(repo, datasets)
  notes += clone.note_missing(every, datasets)
  notes += clone.note_own(every, datasets, own_models)
  return clone.Collection(
    datasets=datasets,
    predictions={
      name: tuple(sorted(of_set, key=lambda p: p.model))
      for name, of_set in found.items()
    },
    own=own_models,
    notes=tuple(notes),
    files=(
      *(dataset.path for dataset in datasets.values()),
      *(p.path for p in every),
    ),
  )


def read_public(
  repo: pathlib.Path, dataset: records.Dataset
) -> list[records.RankedPredictions]:
  """Reads the predictions of all models of a clone for one of KNOWN.

  Raises:
    InputError: see `read`.
  """
  folder = repo / _PREDICTIONS / _FOLDERS[dataset.name]
  paths = sorted(folder.glob("[!.]*.json"))
  strange = [p.name for p in paths if not p.name.endswith(_SUFFIX)]
  if strange or not paths:
    wanted = f"files <model>{_SUFFIX} as in {URL}"
    raise errors.InputError(folder, wanted, strange[0] if strange else "none")
  found = [read_predictions(path, dataset) for path in paths]
  _check_order(dataset, found)
  return found


def _check_own(found, specs: Sequence[own_lib.Spec]) -> None:
  """Raises InputError if two files are of one model and data set."""
  public = {p.model for of_set in found.values() for p in of_set}
  seen = set()
  for spec in specs:
    if spec.model in public or (spec.model, spec.dataset) in seen:
      whose = "the clone" if spec.model in public else "another flag"
      raise errors.InputError(
        spec.flag,
        f"a model that {whose} does not have",
        spec.model,
        own_lib.RENAME,
      )
    seen.add((spec.model, spec.dataset))


def _note_unread(repo: pathlib.Path, datasets) -> list[str]:
  folder = repo / _PREDICTIONS
  read_folders = {_FOLDERS[name] for name in datasets}
  others = sorted(
    p.name
    for p in folder.iterdir()
    if p.is_dir() and p.name not in read_folders
  )
  return [f"{_PREDICTIONS}: not read: {', '.join(others)}"] if others else []


def _check_order(dataset: records.Dataset, found) -> None:
  """Raises InputError for labels in another order.

  Those agree with a tenth of the predictions.
  """
  hits = sum(predictions_lib.count_end_hits(p, dataset)[0] for p in found)
  agreement = hits / (len(found) * len(dataset))
  if agreement < _MIN_AGREEMENT:
    raise errors.InputError(
      dataset.path,
      f"labels in the order of {found[0].path.parent}",
      f"{formats.share(agreement)} of the predictions right",
    )


def _check_classes(path: pathlib.Path, classes: np.ndarray) -> None:
  bad = (classes < 0) | (classes >= len(CLASS_NAMES))
  if bad.any():
    row = int(np.argmax(bad))
    wanted = f"a class in [0, {len(CLASS_NAMES)})"
    raise errors.InputError(f"{path}, element {row}", wanted, classes[row])


def _read_list(path: pathlib.Path) -> np.ndarray:
  """Reads a list of whole numbers, int64 [N]."""
  values = real.read_json(path)
  if not isinstance(values, list):
    given = f"a {type(values).__name__}"
    raise errors.InputError(path, "a list of classes", given)
  for place, value in enumerate(values):
    if type(value) is not int or abs(value) > 2**31:  # True is an int, too.
      where = f"{path}, element {place}"
      raise errors.InputError(where, "an integer class", repr(value))
  return np.array(values, np.int64)


def _read_batch(path: pathlib.Path) -> np.ndarray:
  try:
    data = np.fromfile(path, np.uint8)
  except OSError as error:
    wanted = "CIFAR-10's test_batch.bin"
    raise errors.InputError(path, wanted, error.strerror) from error
  if not data.size or data.size % _BATCH_RECORD:
    raise errors.InputError(
      path,
      f"records of {_BATCH_RECORD} bytes",
      f"{data.size} bytes",
      "use test_batch.bin of CIFAR-10's binary release",
    )
  return data[::_BATCH_RECORD].astype(np.int32)
