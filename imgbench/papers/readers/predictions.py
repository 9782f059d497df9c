"""Ranked classes of every image, as public collections store them (.npy)."""

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
) -> records.Predictions:
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
  return of_ids(read_array(path), dataset, model, path)


def read_array(path: pathlib.Path, mmap: bool = False) -> np.ndarray:
  """Returns the array of an .npy file.

  Args:
    path: of the file.
    mmap: whether to leave it on disk until it is used.

  Raises:
    InputError: no such file, no plain array, or bytes behind it.
  """
  try:
    if mmap:
      array = np.lib.format.open_memmap(path, mode="r")
      behind = path.stat().st_size - array.offset - array.nbytes
    else:
      with path.open("rb") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        behind = path.stat().st_size - file.tell()
  # NumPy evaluates the header as Python: damage shows as any of its errors.
  except Exception as error:
    reason = getattr(error, "strerror", None) or error
    raise errors.InputError(
      f"{path}: expected an .npy file with an array of numbers, got"
      f" {type(error).__name__}: {reason}"
    ) from error
  if behind:
    raise errors.InputError(
      f"{path}: expected the end of the file behind the array"
      f" {array.dtype} {list(array.shape)}, got {behind} bytes more"
    )
  return array


def of_ids(
  ids: np.ndarray, dataset: records.Dataset, model: str, path: pathlib.Path
) -> records.Predictions:
  """Returns predictions of class ids, which are looked through.

  Args:
    ids: integer [N, k] in the order of the data set, the best first.
    dataset: N images of K classes.
    model: its name.
    path: file that they were read from; named in errors.

  Raises:
    InputError: see `read_ranking`.
  """
  if ids.ndim and len(ids) != len(dataset):
    raise errors.InputError(
      f"{path}: expected {len(dataset)} rows, an image of {dataset.name} each,"
      f" got {len(ids)} ({ids.dtype} {list(ids.shape)})"
    )
  ranking = checked_ids(ids, dataset.num_classes, path)
  return records.Predictions(model, dataset.name, ranking, path)


def checked_ids(
  ids: np.ndarray, num_classes: int, path: pathlib.Path, may_lack: bool = False
) -> np.ndarray:
  """Returns int16 [N, k], class ids of which every row ranks different classes.

  Args:
    ids: integer [N, k].
    num_classes: K.
    path: file that they were read from; named in errors.
    may_lack: whether -1 may stand behind the classes of a row, for none.

  Raises:
    InputError: another shape or type, ids outside [0, K) or twice in a row.
  """
  wanted = f"{path}: expected class ids as integers [N, k]"
  found = f"{ids.dtype} {list(ids.shape)}"
  if ids.ndim != 2 or not 1 <= ids.shape[1] <= num_classes:
    raise errors.InputError(f"{wanted}, k from 1 to {num_classes}, got {found}")
  if ids.dtype.kind not in "iu":  # Time spans are NumPy integers, too.
    raise errors.InputError(f"{wanted}, got {found}")
  least = outcomes.NO_PREDICTION if may_lack else 0
  # The extremes first: far faster than a mask.
  if ids.min(initial=least) < least or ids.max(initial=least) >= num_classes:
    row, column = np.argwhere((ids < least) | (ids >= num_classes))[0]
    raise errors.InputError(
      f"{path}: expected class ids in [0, {num_classes}), got"
      f" {ids[row, column]} in row {row}, column {column} (both from 0)"
    )
  ranking = ids.astype(np.int16)
  try:
    outcomes.check_ranking(ranking, num_classes)
  except errors.InputError as error:
    raise errors.InputError(f"{path}: {error}") from error
  return ranking


def seems_reversed(
  predictions: records.Predictions, dataset: records.Dataset
) -> bool:
  """Returns whether the last column is right far more often than the first.

  Then a file that should be best first is stored worst first.

  Args:
    predictions: of this data set.
    dataset: its images.
  """
  first, last = end_hits(predictions, dataset)
  # No image counts for both, so the variance of the difference is the sum.
  clear = (last - first) ** 2 > _REVERSED_DEVIATIONS**2 * (last + first)
  return last > _REVERSED_FACTOR * first and clear


def end_hits(
  predictions: records.Predictions, dataset: records.Dataset
) -> tuple[int, int]:
  """Returns for how many images the first and the last column are right.

  With one column the last counts nothing: it is the first.
  """
  ranking, labels = predictions.ranking, dataset.labels
  last = ranking[:, 1:][:, -1:] == labels[:, None]
  return int((ranking[:, 0] == labels).sum()), int(last.sum())


def reversed_columns(predictions: records.Predictions) -> records.Predictions:
  """Returns the same with the columns of every row from last to first.

  Raises:
    InputError: a row holds fewer classes than another.
  """
  ranking = np.ascontiguousarray(predictions.ranking[:, ::-1])
  if (ranking == outcomes.NO_PREDICTION).any():
    raise errors.InputError(
      f"{predictions.path}: expected a class in every column of a file that is"
      " read from last to first, got -1"
    )
  return dataclasses.replace(predictions, ranking=ranking)
