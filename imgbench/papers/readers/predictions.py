"""Ranked classes of every image in .npy files of public collections."""

import dataclasses
import pathlib

import numpy as np

from imgbench import errors
from imgbench.metrics import outcomes
from imgbench.papers import records

# Predictions that are read in another way must be right more often than as they
# are by this factor, and by this many standard deviations of the difference.
# In the public files the better end of rows is right 6 to 137 times as often as
# the other; a model that guesses is right about as often at both.
_CLEAR_FACTOR = 2
_CLEAR_DEVIATIONS = 6
# Least share of right images by which other numbers of classes are recognized.
# Classes that are off by any constant are right for 1.2% of 1,000 with them.
_LEAST_SHARE = 0.05


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
    given = f"{type(error).__name__}: {errors.find_reason(error)}"
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
  return _is_clearly_more(last, first)


def _is_clearly_more(hits: float, than: float) -> bool:
  # No image counts in both, so the variance of the difference is the sum.
  clear = (hits - than) ** 2 > _CLEAR_DEVIATIONS**2 * (hits + than)
  return hits > _CLEAR_FACTOR * than and clear


def find_numbering(
  predictions: records.RankedPredictions, dataset: records.Dataset
) -> tuple[str, int] | None:
  """Returns how to renumber classes that are numbered as ImageFolder does.

  It numbers folders in the order of their names: '0', '1', '10', '100', ...

  Args:
    predictions: of this data set.
    dataset: its images.

  Returns:
    (Python for the number of class c, hits with it), or None if the classes
    are numbered as those of the data set, or neither so nor in the other
    direction.
  """
  labels, num_classes = dataset.labels, dataset.num_classes
  names = f"sorted(map(str, range({num_classes})))"
  numbers = np.array(sorted(map(str, range(num_classes)))).astype(np.int64)
  first = predictions.ranking[:, 0]
  there = first != outcomes.NO_PREDICTION
  hits, _ = count_end_hits(predictions, dataset)
  count = np.bincount(labels, minlength=num_classes)
  for renumber, known in (
    (f"int({names}[c])", numbers),
    (f"{names}.index(str(c))", np.argsort(numbers)),
  ):
    found = known[first[there]]
    right = int((found == labels[there]).sum())
    # Hits of the same classes predicted for any images: a class that is
    # predicted for all is right for many if most images belong to it.
    by_chance = count[found].sum() / len(labels)
    least = max(hits, by_chance)
    if right > _LEAST_SHARE * len(labels) and _is_clearly_more(right, least):
      return renumber, right
  return None


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
