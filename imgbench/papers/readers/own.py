"""Predictions of your model, in files of several kinds.

Every file ranks the K classes of a data set (an ImageNet class is its index in
the 1,000 sorted WordNet ids), the best first. The suffix of its name says how:

- `.npy`: integer [N, k] class ids, or floating-point [N, K] scores, in the
  order of the data set's own file;
- `.npz`: `image_id` [N], text, and either `top5`, integer [N, k] class ids, or
  `scores`, floating-point [N, K]; a `label` [N], if present, must be the data
  set's. An evaluation writes such files to predictions/*.npz;
- `.csv`: a header `image_id,label1,label2,...,labelk`, then a line for each
  image;
- `.jsonl`: a line {"image_id": TEXT, "labels": [k labels]} for each image.

Labels in the last two are class ids or WordNet ids; k is the same in every
line. Files with image ids may be in any order and must have every image of the
data set once. Other images of the ImageNet validation set are ignored, so that
predictions for all 50,000 images also serve the 20,000 annotated ones. Any
other image is an error.
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
RENAME = "give the model another name"

_ROWS_AT_ONCE = 8192
# TFDS names an image of ImageNetV2 by its file, <class>/<id>.jpeg. An older
# release numbers the files instead, which does not identify the image.
_FILE_OF_ID = re.compile(r"([0-9]{1,4})/([0-9a-f]{40})\.jpe?g")
_FILE_OF_NUMBER = re.compile(r"[^/]+/[0-9]{1,3}\.jpe?g")


@dataclasses.dataclass(frozen=True)
class Spec:
  """A parsed flag --predictions=MODEL@DATASET=FILE."""

  model: str
  dataset: str
  path: pathlib.Path

  @property
  def flag(self) -> str:
    return f"--predictions={self.model}@{self.dataset}={self.path}"


def parse(text: str) -> Spec:
  """Returns the parsed value of a flag --predictions.

  Raises:
    InputError: it is not of the form MODEL@DATASET=FILE.
  """
  model, _, rest = text.partition("@")
  dataset, _, file = rest.partition("=")
  fields = (model, dataset, file)
  if any(not f or f != f.strip() or not f.isprintable() for f in fields):
    wanted = f"{FORM}, e.g. mine@imagenetv2-b-33=mine_v2.npy"
    raise errors.InputError("--predictions", wanted, repr(text))
  return Spec(model, dataset, pathlib.Path(file).expanduser())


def check_dataset(spec: Spec, names: Iterable[str]) -> None:
  """Raises InputError unless the data set is one of those named."""
  names = tuple(names)
  if spec.dataset not in names:
    wanted = f"data set {' or '.join(names)}"
    raise errors.InputError(spec.flag, wanted, repr(spec.dataset))


def read(
  spec: Spec, datasets: Mapping[str, records.Dataset]
) -> records.RankedPredictions:
  """Returns the predictions of a file; the module lists the formats.

  Scores are ranked by `metrics.topk`: ties go to the lowest class, a row with
  NaN or +inf has no prediction (-1 in all columns), and 5 columns are kept.

  Args:
    spec: of the file.
    datasets: by name.

  Raises:
    InputError: an unknown data set or suffix, an unreadable or malformed file,
      another number of rows, ids that are no integers, no classes or twice in a
      row, images doubled, missing or unknown.
  """
  check_dataset(spec, datasets)
  dataset = datasets[spec.dataset]
  kind = spec.path.suffix.lower()
  if kind == ".npy":
    return _read_array(spec, dataset)
  if kind not in own_files.READERS:
    wanted = f"a suffix of .npy, {', '.join(own_files.READERS)}"
    raise errors.InputError(spec.flag, wanted, repr(kind))
  found = own_files.READERS[kind](spec.path, dataset)
  order = find_order(spec.path, found.image_ids, dataset)
  if found.labels is not None:
    _check_labels(spec.path, found, dataset, order)
  if found.scores is None:
    ranking = predictions_lib.check_ids(
      found.ids, dataset.num_classes, spec.path, found.may_lack
    )
  else:
    ranking = _rank(found.scores)
  return records.RankedPredictions(
    spec.model, dataset.name, ranking[order], spec.path
  )


def _read_array(
  spec: Spec, dataset: records.Dataset
) -> records.RankedPredictions:
  array = predictions_lib.read_array(spec.path, mmap=True)
  if not np.issubdtype(array.dtype, np.floating):
    return predictions_lib.from_ids(array, dataset, spec.model, spec.path)
  wanted = (len(dataset), dataset.num_classes)
  if array.shape != wanted:
    raise errors.InputError(
      spec.path,
      f"integer class ids [{wanted[0]}, k] or float scores {list(wanted)} for"
      f" {dataset.name}",
      f"{array.dtype} {list(array.shape)}",
    )
  ranking = _rank(array)
  return records.RankedPredictions(spec.model, dataset.name, ranking, spec.path)


def _rank(scores: np.ndarray) -> np.ndarray:
  """Returns int16 [N, 5] of floating-point [N, K]."""
  ranked = []
  for start in range(0, len(scores), _ROWS_AT_ONCE):
    with np.errstate(over="ignore"):  # Infinite beyond float32.
      some = np.asarray(scores[start : start + _ROWS_AT_ONCE], np.float32)
    ranked.append(np.asarray(_top(some)))
  return np.concatenate(ranked).astype(np.int16)


@jax.jit
def _top(scores):
  return topk.top_k(scores, min(outcomes.TOP, scores.shape[1]))[0]


def find_order(
  path: pathlib.Path, image_ids: Sequence[str], dataset: records.Dataset
) -> np.ndarray:
  """Returns int64 [N], the row of each image of the data set in the file.

  Args:
    path: of the file, for errors.
    image_ids: by row; images of ImageNet's validation set that such a data set
      lacks are ignored.
    dataset: N images.

  Raises:
    InputError: images doubled, missing or unknown.
  """
  places = {name: i for i, name in enumerate(dataset.image_ids.tolist())}
  order = np.full(len(places), -1)
  unknown = []
  seen: set[str] = set()
  doubled: tuple[int, str] | None = None
  for row, given in enumerate(image_ids):
    name = _match_image_id(path, given, places, dataset)
    if name in seen:
      doubled = doubled or (row, given)
    seen.add(name)
    if name in places:
      order[places[name]] = row
    else:
      unknown.append(given)
  if doubled is not None:
    row, given = doubled
    more = len(image_ids) - len(seen) - 1
    text = f"{given} again" + (f" and {more:,} more" if more else "")
    raise errors.InputError(f"{path}, row {row}", "every image once", text)
  _check_unknown(path, unknown, dataset)
  missing = np.flatnonzero(order < 0)
  if missing.size:
    raise errors.InputError(
      path,
      f"all {len(dataset)} images of {dataset.name}",
      len(dataset) - missing.size,
      f"add {_join_some(dataset.image_ids[missing].tolist())}",
    )
  return order


def _match_image_id(
  path: pathlib.Path,
  given: str,
  places: Mapping[str, int],
  dataset: records.Dataset,
) -> str:
  """Returns an image id as the data set spells it, if it has one."""
  match = None if given in places else _FILE_OF_ID.fullmatch(given)
  if match is None or match.group(2) not in places:
    return given
  folder, name = int(match.group(1)), match.group(2)
  label = int(dataset.labels[places[name]])
  if folder != label:
    wanted = f"image {name} in the folder of its class, {label}"
    raise errors.InputError(path, wanted, given)
  return name


def _check_unknown(
  path: pathlib.Path, unknown: list[str], dataset: records.Dataset
) -> None:
  if not unknown or all(
    map(_is_validation, (dataset.image_ids[0].item(), *unknown))
  ):
    return
  fix = ""
  if all(map(_FILE_OF_NUMBER.fullmatch, unknown)):
    fix = "use a release of ImageNetV2 whose files are named by image id"
  raise errors.InputError(
    path,
    f"image ids of {dataset.path.name} such as {dataset.image_ids[0]}",
    f"{len(unknown)} others: {_join_some(unknown)}",
    fix,
  )


def _is_validation(name: str) -> bool:
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
    label, given = dataset.labels[first], found.labels[order[first]]
    raise errors.InputError(
      path,
      f"the labels of {dataset.name}",
      f"others for {differ.size} images, e.g. {given} instead of {label} for"
      f" {dataset.image_ids[first]}",
    )


def _join_some(names: Sequence[str], most: int = 3) -> str:
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return ", ".join(names[:most]) + more
