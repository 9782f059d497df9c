"""Predictions of one's own model, in files of several kinds.

Every file ranks the K classes of a data set (an ImageNet class is its place
among the 1,000 sorted WordNet ids), the best first. By the end of its name it
is

- `.npy`: integer [N, k] class ids, or floating-point [N, K] scores, in the
  order of the data set's own file;
- `.npz`: `image_id` [N], text, and either `top5`, integer [N, k] class ids, or
  `scores`, floating-point [N, K]; a `label` [N], if there, must be the data
  set's. predictions/*.npz of an evaluation are such files;
- `.csv`: a header `image_id,label1,label2,...,labelk`, then a line for each
  image;
- `.jsonl`: a line {"image_id": TEXT, "labels": [k labels]} for each image.

A label of the last two is a class id or the WordNet id of a class; k is the
same in every line. Files with image ids may be in any order and must hold every
image of the data set once. Beyond those they may hold other images of the
ImageNet validation set only, which are left aside: the predictions for all
50,000 images serve the 20,000 annotated ones, too.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
import re

import jax
import numpy as np

from imgbench import errors
from imgbench.labels import real
from imgbench.metrics import outcomes
from imgbench.metrics import topk
from imgbench.papers import records
from imgbench.papers.readers import own_files
from imgbench.papers.readers import predictions as predictions_lib

FORM = "MODEL@DATASET=FILE"

_ROWS_AT_ONCE = 8192
# TFDS names an image of ImageNetV2 by its file, <class>/<id>.jpeg; the files
# of an older release were numbered anew, which says nothing of the image.
_FILE_OF_ID = re.compile(r"([0-9]{1,4})/([0-9a-f]{40})\.jpe?g")
_FILE_OF_NUMBER = re.compile(r"[^/]+/[0-9]{1,3}\.jpe?g")


@dataclasses.dataclass(frozen=True)
class Spec:
  """What a flag --predictions=MODEL@DATASET=FILE says."""

  model: str
  dataset: str
  path: pathlib.Path

  @property
  def flag(self) -> str:
    return f"--predictions={self.model}@{self.dataset}={self.path}"


def parse(text: str) -> Spec:
  """Returns what the value of a flag --predictions says.

  Raises:
    InputError: it is not of the form MODEL@DATASET=FILE.
  """
  model, _, rest = text.partition("@")
  dataset, _, file = rest.partition("=")
  fields = (model, dataset, file)
  if any(not f or f != f.strip() or not f.isprintable() for f in fields):
    raise errors.InputError(
      f"--predictions={text}: expected {FORM}, e.g."
      " mine@imagenetv2-b-33=mine_v2.npy"
    )
  return Spec(model, dataset, pathlib.Path(file).expanduser())


def check_dataset(spec: Spec, names: Iterable[str]) -> None:
  """Raises InputError unless the data set is one of those named."""
  names = tuple(names)
  if spec.dataset not in names:
    raise errors.InputError(
      f"{spec.flag}: unknown data set {spec.dataset!r}; known here:"
      f" {', '.join(names)}"
    )


def read(
  spec: Spec, datasets: Mapping[str, records.Dataset]
) -> records.Predictions:
  """Returns the predictions of a file; see the module for what it may hold.

  Scores are ranked by `metrics.topk`: ties go to the lowest class, a row with
  NaN or +inf has no prediction (-1 in all columns), and 5 columns are kept.

  Args:
    spec: of the file.
    datasets: by name.

  Raises:
    InputError: an unknown data set or kind of file, a file that cannot be read
      or is not of its kind, another number of rows, ids that are no integers,
      no classes or twice in a row, images doubled, missing or unknown.
  """
  check_dataset(spec, datasets)
  dataset = datasets[spec.dataset]
  kind = spec.path.suffix.lower()
  if kind == ".npy":
    return _of_array(spec, dataset)
  if kind not in own_files.READERS:
    raise errors.InputError(
      f"{spec.flag}: expected a file that ends in .npy,"
      f" {', '.join(own_files.READERS)}, got {kind or 'no ending'}"
    )
  found = own_files.READERS[kind](spec.path, dataset)
  order = _order(spec.path, found.image_ids, dataset)
  if found.labels is not None:
    _check_labels(spec.path, found, dataset, order)
  if found.scores is None:
    ranking = predictions_lib.checked_ids(
      found.ids, dataset.num_classes, spec.path, found.may_lack
    )
  else:
    ranking = _ranked(found.scores)
  return records.Predictions(
    spec.model, dataset.name, ranking[order], spec.path
  )


def _of_array(spec: Spec, dataset: records.Dataset) -> records.Predictions:
  array = predictions_lib.read_array(spec.path, mmap=True)
  if not np.issubdtype(array.dtype, np.floating):
    return predictions_lib.of_ids(array, dataset, spec.model, spec.path)
  wanted = (len(dataset), dataset.num_classes)
  if array.shape != wanted:
    raise errors.InputError(
      f"{spec.path}: expected class ids as integers [{wanted[0]}, k] or scores"
      f" as floating point {list(wanted)} for {dataset.name}, got {array.dtype}"
      f" {list(array.shape)}"
    )
  ranking = _ranked(array)
  return records.Predictions(spec.model, dataset.name, ranking, spec.path)


def _ranked(scores: np.ndarray) -> np.ndarray:
  """Returns int16 [N, 5] of floating-point [N, K]."""
  ranked = []
  for start in range(0, len(scores), _ROWS_AT_ONCE):
    with np.errstate(over="ignore"):  # Beyond float32 is infinite.
      some = np.asarray(scores[start : start + _ROWS_AT_ONCE], np.float32)
    ranked.append(np.asarray(_top(some)))
  return np.concatenate(ranked).astype(np.int16)


@jax.jit
def _top(scores):
  return topk.top_k(scores, min(outcomes.TOP, scores.shape[1]))[0]


def _order(
  path: pathlib.Path, image_ids: Sequence[str], dataset: records.Dataset
) -> np.ndarray:
  """Returns int64 [N], the row of each image of the data set in the file."""
  places = {name: i for i, name in enumerate(dataset.image_ids.tolist())}
  order = np.full(len(places), -1)
  unknown = []
  seen = set()
  for row, given in enumerate(image_ids):
    name = _image_id(path, given, places, dataset)
    if name in seen:
      raise errors.InputError(
        f"{path}: expected every image once, got {given} twice, the second"
        f" time in row {row}"
      )
    seen.add(name)
    if name in places:
      order[places[name]] = row
    else:
      unknown.append(given)
  _check_unknown(path, unknown, dataset)
  missing = np.flatnonzero(order < 0)
  if missing.size:
    raise errors.InputError(
      f"{path}: expected all {len(dataset)} images of {dataset.name}, got"
      f" {len(dataset) - missing.size}; missing:"
      f" {_some(dataset.image_ids[missing].tolist())}"
    )
  return order


def _image_id(
  path: pathlib.Path,
  given: str,
  places: Mapping[str, int],
  dataset: records.Dataset,
) -> str:
  """Returns how the data set spells an image id, or what was given."""
  match = None if given in places else _FILE_OF_ID.fullmatch(given)
  if match is None or match.group(2) not in places:
    return given
  folder, name = int(match.group(1)), match.group(2)
  label = int(dataset.labels[places[name]])
  if folder != label:
    raise errors.InputError(
      f"{path}: expected image {name} in the folder of its class, {label}, got"
      f" {given}"
    )
  return name


def _check_unknown(
  path: pathlib.Path, unknown: list[str], dataset: records.Dataset
) -> None:
  if not unknown or all(
    map(_in_validation, (dataset.image_ids[0].item(), *unknown))
  ):
    return
  hint = ""
  if all(map(_FILE_OF_NUMBER.fullmatch, unknown)):
    hint = (
      "; these names are of a release of ImageNetV2 whose files are numbered"
      " within a class, which does not tell which image it is"
    )
  raise errors.InputError(
    f"{path}: expected image ids of {dataset.path.name} such as"
    f" {dataset.image_ids[0]}, got {len(unknown)} others: {_some(unknown)}"
    f"{hint}"
  )


def _in_validation(name: str) -> bool:
  try:
    return real.image_number(name) > 0
  except errors.InputError:
    return False


def _check_labels(
  path: pathlib.Path,
  found: own_files.Keyed,
  dataset: records.Dataset,
  order: np.ndarray,
) -> None:
  """Raises InputError unless the file has the data set's labels."""
  differ = np.flatnonzero(found.labels[order] != dataset.labels)
  if differ.size:
    first = differ[0]
    raise errors.InputError(
      f"{path}: expected the labels of {dataset.name}, got another one for"
      f" {differ.size} images, e.g. {found.labels[order[first]]} instead of"
      f" {dataset.labels[first]} for {dataset.image_ids[first]}"
    )


def _some(names: Sequence[str], most: int = 3) -> str:
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return ", ".join(names[:most]) + more
