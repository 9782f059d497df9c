"""Reviewed labels of images: the correct, unclear and wrong classes.

The public file is human_accuracy_v3.0.0.json ("Evaluating Machine Accuracy on
ImageNet", Shankar et al. 2020, corrected by Vasudevan et al. 2022); TFDS's
imagenet2012_multilabel 3.0.0 reads the same keys, and `labels.review_table`
reads its fields as CSV. `annotations_pickle` reads the older form. Lists of
accepted labels by file name do not tell correct labels from unclear ones; they
give the numbers that do not depend on it.
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
import os
import pathlib
from typing import Any
from typing import NamedTuple

import numpy as np

from imgbench import errors
from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.labels import real
from imgbench.labels import review_table
from imgbench.metrics import measurement
from imgbench.metrics import specs
from imgbench.metrics import summary
from imgbench.papers import records
from imgbench.tables import frame

# State -> code. Later ones win: a label in two states counts in the better one,
# as in the paper's code, which looks up hits list by list.
STATES = {
  "wrong": annotations.WRONG,
  "unclear": annotations.UNCLEAR,
  "correct": annotations.CORRECT,
}

_KEYS = ("initial_annots", "problematic_images", "imagenet_m")
_PREFIX = "multilabel_accuracy."
_NOT_TOLD = {
  "icml2020": "the label lists do not tell correct labels from unclear ones",
  "imagenet_m": "the file does not say which images belong to ImageNet-M",
}
_NOT_REVIEWED = "the label lists do not tell wrong labels from unreviewed ones"

Labels = Mapping[str, tuple[int, ...]]  # by state


@dataclasses.dataclass(frozen=True, eq=False)
class Reviews:
  """Reviewed labels of all images of a file.

  Attributes:
    path: file that it was read from.
    labels: image id -> state -> classes in [0, 1000); a state that is absent
      has none.
    problematic: images that no accuracy counts.
    imagenet_m: images of ImageNet-M; None if the file does not say.
    tells_states: false for lists of accepted labels, which are "unclear" in
      `labels`.
    notes: for readers of the numbers, one line each.
    reasons: problematic image -> its category; absent: not stated.
  """

  path: pathlib.Path
  labels: Mapping[str, Labels]
  problematic: frozenset[str]
  imagenet_m: frozenset[str] | None
  tells_states: bool
  notes: tuple[str, ...]
  reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Reviewed(NamedTuple):
  """The images of a data set that accuracies against reviews count.

  Attributes:
    dataset: these images.
    label_sets: of the same.
    rows: int64 [N'], their rows in the whole data set.
  """

  dataset: records.Dataset
  label_sets: records.LabelSets
  rows: np.ndarray

  def cut(
    self, predictions: records.RankedPredictions
  ) -> records.RankedPredictions:
    """Returns predictions of the whole data set cut to these images."""
    return dataclasses.replace(
      predictions, ranking=predictions.ranking[self.rows]
    )


def read(path: str | os.PathLike[str], content: Any = None) -> Reviews:
  """Returns the reviews of human_accuracy_v3.0.0.json, or of a CSV table.

  Args:
    path: a table that `review_table` reads, or a JSON object with
      `initial_annots`, {image: {"correct", "wrong", "unclear": [WordNet id]}}
      where an absent key means none, `problematic_images`, {image: reason}
      (a text, or an object or a list of texts, perhaps empty), and
      `imagenet_m`, a list of images, null if unknown. Other keys are ignored.
    content: of the file, if it was read before.

  Raises:
    InputError: not such a file, an unknown class, an image of ImageNet-M that
      was not annotated, an image twice.
  """
  if content is None:
    content = review_table.read_file(path)
  check_kind(f"{path}", content, dict, "an object")
  check_keys(path, content, _KEYS)
  annotated = content["initial_annots"]
  check_kind(f"{path}: initial_annots", annotated, dict, "an object")
  labels, notes = parse_labels(f"{path}: initial_annots", annotated)
  problematic = content["problematic_images"]
  check_kind(f"{path}: problematic_images", problematic, dict, "an object")
  slice_m = content["imagenet_m"]
  if slice_m is not None:
    check_kind(f"{path}: imagenet_m", slice_m, list, "a list")
    unknown = [image for image in slice_m if str(image) not in labels]
    check_known(f"{path}: imagenet_m", "images of initial_annots", unknown)
    check_distinct(f"{path}: imagenet_m", slice_m)
  return Reviews(
    path=pathlib.Path(path),
    labels=labels,
    problematic=frozenset(problematic),
    imagenet_m=None if slice_m is None else frozenset(slice_m),
    tells_states=True,
    notes=notes,
    reasons={
      i: t for i, v in problematic.items() if (t := annotations.find_reason(v))
    },
  )


def read_lists(path: str | os.PathLike[str]) -> Reviews:
  """Returns the reviews of a JSON {file name: [class indices]}.

  A list holds the labels that are correct or unclear; see
  `real.read_label_lists`, also for the errors. An image with an empty list is
  left out.
  """
  lists = real.read_label_lists(path)
  empty = frozenset(name for name, found in lists.items() if not len(found))
  notes = []
  if empty:
    notes.append(
      f"{pathlib.Path(path).name}: {len(empty):,} images with an empty list of"
      " labels are left out"
    )
  return Reviews(
    path=pathlib.Path(path),
    labels={
      name: {"unclear": tuple(map(int, found))} for name, found in lists.items()
    },
    problematic=empty,
    imagenet_m=None,
    tells_states=False,
    notes=tuple(notes),
  )


def parse_labels(
  where: str, annotated: Mapping
) -> tuple[dict[str, Labels], tuple[str, ...]]:
  """Returns the labels by image and state, and notes on them.

  Args:
    where: file and key, for errors.
    annotated: image id -> state -> WordNet ids; states not in `STATES` are
      ignored.

  Raises:
    InputError: another structure, or an unknown class.
  """
  found, doubled = {}, 0
  for image, states in annotated.items():
    check_kind(f"{where}: image id", image, str, "text")
    check_kind(f"{where}[{image!r}]", states, Mapping, "an object")
    found[image] = {
      state: _classes(f"{where}[{image!r}][{state!r}]", states[state])
      for state in STATES
      if state in states
    }
    total = sum(map(len, found[image].values()))
    doubled += len(set().union(*found[image].values())) < total
  if not doubled:
    return found, ()
  return found, (
    f"{where}: {doubled:,} images have a label in two states or twice; it"
    " counts once, in the better state",
  )


def _classes(where: str, wnids: Iterable) -> tuple[int, ...]:
  check_kind(where, wnids, (list, tuple, set, frozenset), "a list")
  return tuple(sorted(class_index(where, wnid) for wnid in wnids))


def class_index(where: str, wnid) -> int:
  """Returns the class of a WordNet id; an InputError names `where`."""
  check_kind(where, wnid, str, "a WordNet id")
  try:
    return classes.index_of(wnid)
  except errors.InputError as error:
    raise error.prefixed(f"{where}: ") from error


def check_kind(where: str, value, kind, text: str) -> None:
  """Raises InputError, which names `where` and `text`, unless of a kind."""
  if not isinstance(value, kind):
    raise errors.InputError(where, text, type(value).__name__)


def check_keys(path, content: Mapping, keys: Sequence[str]) -> None:
  """Raises InputError unless a file has all keys."""
  missing = [key for key in keys if key not in content]
  if missing:
    given = f"no {', '.join(missing)}"
    raise errors.InputError(path, f"the keys {', '.join(keys)}", given)


def check_known(where: str, expected: str, unknown: Sequence) -> None:
  """Raises InputError if there are unknown images."""
  if unknown:
    given = f"{len(unknown)} others, e.g. {unknown[0]!r:.80}"
    raise errors.InputError(where, expected, given)


def check_distinct(where: str, images: Collection) -> None:
  """Raises InputError if an image is listed twice."""
  distinct = len(set(images))
  if distinct < len(images):
    given = f"{len(images)} entries for {distinct} images"
    raise errors.InputError(where, "every image once", given)


def build_codes(
  labels: Mapping[str, Labels], image_ids: Collection[str], num_classes: int
) -> np.ndarray:
  """Returns int8 [N, K] of `labels.annotations` for images in an order."""
  result = np.full(
    (len(image_ids), num_classes), annotations.UNREVIEWED, np.int8
  )
  for state, code in STATES.items():
    lists = [labels.get(image, {}).get(state, ()) for image in image_ids]
    rows = np.repeat(np.arange(len(lists)), list(map(len, lists)))
    result[rows, list(itertools.chain.from_iterable(lists))] = code
  return result


def select_reviewed(
  dataset: records.Dataset, reviews: Reviews
) -> Reviewed | None:
  """Returns the images of a data set that count; None if there is none.

  These are the images that were annotated and are not problematic. Top-1 and
  top-5 accuracy count the same ones.
  """
  rows = np.flatnonzero(
    [
      image in reviews.labels and image not in reviews.problematic
      for image in dataset.image_ids.tolist()
    ]
  )
  if not len(rows):
    return None
  image_ids = dataset.image_ids[rows].tolist()
  in_m = reviews.imagenet_m or frozenset()
  return Reviewed(
    dataset=dataclasses.replace(
      dataset,
      image_ids=dataset.image_ids[rows],
      labels=dataset.labels[rows],
    ),
    label_sets=records.LabelSets(
      kind=summary.REVIEWED,
      codes=build_codes(reviews.labels, image_ids, dataset.num_classes),
      left_out=np.zeros(len(rows), bool),
      in_imagenet_m=np.array([image in in_m for image in image_ids]),
      path=reviews.path,
    ),
    rows=rows,
  )


def drop_unknown(
  measurements: frame.Measurements, reviews: Reviews
) -> frame.Measurements:
  """Returns measurements; those that the reviews do not tell are undefined.

  The reason is in the definition. Lists of accepted labels tell neither
  "icml2020" nor quantities of unreviewed labels; "imagenet_m" needs its images.
  """
  return {
    key: _drop_unknown(key[-1], entry, reviews)
    for key, entry in measurements.items()
  }


def _drop_unknown(
  metric: str, entry: measurement.Measurement, reviews: Reviews
) -> measurement.Measurement:
  if not metric.startswith(_PREFIX):
    return entry
  definition, _, quantity = metric.removeprefix(_PREFIX).partition(".")
  why = None
  if definition == "imagenet_m":
    why = _NOT_TOLD[definition] if reviews.imagenet_m is None else None
  elif not reviews.tells_states:
    why = _NOT_TOLD.get(definition)
    if quantity in ("unreviewed", "bound_high"):
      why = why or _NOT_REVIEWED
  if why is None:
    return entry
  text = specs.METRICS[f"multilabel_accuracy.{definition}"].definition
  return measurement.Measurer(0.05).undefined(entry.n, text, why)


def choose_metric(reviews: Reviews) -> str:
  """Returns the definition that figures and paired tests use.

  It is that of Shankar et al. if the reviews tell correct labels from unclear
  ones, otherwise the same with both accepted.
  """
  return _PREFIX + ("icml2020" if reviews.tells_states else "lenient_mean")
