"""Ranked classes of every image in .npy files of public collections."""

import dataclasses
import pathlib

import numpy as np

from imgbench import errors
from imgbench.metrics import outcomes
from imgbench.papers import records

# The last column must be right more often than the first by this factor, and
# by this many standard deviations of the difference. In the public files the
# better end is right 6 to 137 times as often as the other; a model that guesses
# is right about as often at both.
_REVERSED_FACTOR = 2
_REVERSED_DEVIATIONS = 6


def read_ranking(
  path: pathlib.Path, dataset: records.Dataset, model: str
) -> records.RankedPredictions:
  """Returns the predictions of a public file.

  Args:
    path: .npy of integer [N, k]: the k most probable classes of each image in
      the order of the data set, the best first.
    dataset: N images of K classes.
    model: its name.

  Raises:
    InputError: not such a file; another number of rows; ids that are no
      integers, outside [0, K) or twice in a row.
  """
  return from_ids(read_array(path), dataset, model, path)


def read_array(path: pathlib.Path, mmap: bool = False) -> np.ndarray:
  """Returns the array of an .npy file.

  Args:
    path: of the file.
    mmap: whether to leave it on disk until it is used.

  Raises:
    InputError: no such file, no plain array, or bytes after it.
  """
  try:
    if mmap:
      array = np.lib.format.open_memmap(path, mode="r")
      more = path.stat().st_size - array.offset - array.nbytes
    else:
      with path.open("rb") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        more = path.stat().st_size - file.tell()
  # NumPy evaluates the header as Python: damage raises any of its errors.
  except Exception as error:
    given = (
      f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
    )
    wanted = "an .npy file with an array of numbers"
    raise errors.InputError(path, wanted, given) from error
  if more:
    wanted = f"an array {array.dtype} {list(array.shape)} and nothing more"
    raise errors.InputError(path, wanted, f"{more} bytes more")
  return array


def from_ids(
  ids: np.ndarray, dataset: records.Dataset, model: str, path: pathlib.Path
) -> records.RankedPredictions:
  """Returns predictions of class ids, after checking them.

  Args:
    ids: integer [N, k] in the order of the data set, the best first.
    dataset: N images of K classes.
    model: its name.
    path: file that they were read from; named in errors.

  Raises:
    InputError: see `read_ranking`.
  """
  if ids.ndim and len(ids) != len(dataset):
    wanted = f"{len(dataset)} rows, an image of {dataset.name} each"
    raise errors.InputError(path, wanted, f"{ids.dtype} {list(ids.shape)}")
  ranking = check_ids(ids, dataset.num_classes, path)
  return records.RankedPredictions(model, dataset.name, ranking, path)


def check_ids(
  ids: np.ndarray, num_classes: int, path: pathlib.Path, may_lack: bool = False
) -> np.ndarray:
  """Returns class ids as int16 [N, k]; every row ranks different classes.

  Args:
    ids: integer [N, k].
    num_classes: K.
    path: file that they were read from; named in errors.
    may_lack: whether -1, for none, may follow the classes of a row.

  Raises:
    InputError: another shape or type, ids outside [0, K) or twice in a row.
  """
  # Time spans are NumPy integers, too.
  fits = ids.ndim == 2 and ids.dtype.kind in "iu"
  if not fits or not 1 <= ids.shape[1] <= num_classes:
    wanted = f"class ids as integers [N, k], k from 1 to {num_classes}"
    raise errors.InputError(path, wanted, f"{ids.dtype} {list(ids.shape)}")
  signed = ids.dtype.kind == "i"
  least = outcomes.NO_PREDICTION if may_lack and signed else 0
  # The extremes first: far faster than a mask.
  if ids.min(initial=least) < least or ids.max(initial=least) >= num_classes:
    row, column = np.argwhere((ids < least) | (ids >= num_classes))[0]
    where = f"{path}, row {row}, column {column} (both from 0)"
    wanted = f"a class id in [0, {num_classes})"
    raise errors.InputError(where, wanted, ids[row, column])
  ranking = ids.astype(np.int16)
  try:
    outcomes.check_ranking(ranking, num_classes)
  except errors.InputError as error:
    raise error.prefixed(f"{path}: ") from error
  return ranking


def seems_reversed(
  predictions: records.RankedPredictions, dataset: records.Dataset
) -> bool:
  """Returns whether the last column is right far more often than the first.

  Such a file is stored worst first, and should be best first.

  Args:
    predictions: of this data set.
    dataset: its images.
  """
  first, last = count_end_hits(predictions, dataset)
  # No image counts in both, so the variance of the difference is the sum.
  clear = (last - first) ** 2 > _REVERSED_DEVIATIONS**2 * (last + first)
  return last > _REVERSED_FACTOR * first and clear


def count_end_hits(
  predictions: records.RankedPredictions, dataset: records.Dataset
) -> tuple[int, int]:
  """Returns the numbers of hits of the first and of the last column.

  With one column the second number is 0.
  """
  ranking, labels = predictions.ranking, dataset.labels
  last = ranking[:, 1:][:, -1:] == labels[:, None]
  return int((ranking[:, 0] == labels).sum()), int(last.sum())


def reverse_columns(
  predictions: records.RankedPredictions,
) -> records.RankedPredictions:
  """Returns the same with the columns of every row from last to first.

  Raises:
    InputError: a row has fewer classes than another.
  """
  ranking = np.ascontiguousarray(predictions.ranking[:, ::-1])
  if (ranking == outcomes.NO_PREDICTION).any():
    wanted = "a class in every column, to read them from last to first"
    raise errors.InputError(predictions.path, wanted, -1)
  return dataclasses.replace(predictions, ranking=ranking)
