"""Reviewed labels of images: which classes are right, unclear or wrong.

The public file is human_accuracy_v3.0.0.json ("Evaluating Machine Accuracy on
ImageNet", Shankar et al. 2020, corrected by Vasudevan et al. 2022); TFDS's
imagenet2012_multilabel 3.0.0 reads the same keys. `annotations_pickle` reads
the older form. Lists of accepted labels by file name, where correct and unclear
ones are not told apart, give the numbers that this does not change.
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import itertools
import os
import pathlib
from typing import NamedTuple

import numpy as np

from imgbench import errors
from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.labels import real
from imgbench.metrics import measurement
from imgbench.metrics import specs
from imgbench.metrics import summary
from imgbench.papers import records
from imgbench.tables import frame

# State -> its code, in the order in which later ones win: a label that a file
# gives in two states counts as the better one, as it does where hits are
# looked up list by list.
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
_NOT_REVIEWED = (
  "the label lists do not tell labels that were reviewed and found wrong from"
  " labels that nobody reviewed"
)

Labels = Mapping[str, tuple[int, ...]]  # by state


@dataclasses.dataclass(frozen=True, eq=False)
class Reviews:
  """What was reviewed.

  Attributes:
    path: file that it was read from.
    labels: image id -> state -> classes in [0, 1000); a state that is absent
      has none.
    problematic: images that no accuracy counts.
    imagenet_m: images of ImageNet-M, or None where the file does not say.
    tells_states: false for lists of accepted labels, which stand as "unclear"
      in `labels`.
    notes: what a reader of the numbers should know, a line each.
  """

  path: pathlib.Path
  labels: Mapping[str, Labels]
  problematic: frozenset[str]
  imagenet_m: frozenset[str] | None
  tells_states: bool
  notes: tuple[str, ...]


class Reviewed(NamedTuple):
  """The images of a data set that accuracies against reviews count.

  Attributes:
    dataset: these images.
    label_sets: of the same.
    rows: int64 [N'], where they stand in the whole data set.
  """

  dataset: records.Dataset
  label_sets: records.LabelSets
  rows: np.ndarray

  def of(self, predictions: records.Predictions) -> records.Predictions:
    """Returns predictions of the whole data set cut to these images."""
    return dataclasses.replace(
      predictions, ranking=predictions.ranking[self.rows]
    )


def read(path: str | os.PathLike[str]) -> Reviews:
  """Returns the reviews of human_accuracy_v3.0.0.json.

  Args:
    path: a JSON object with `initial_annots`, {image: {"correct", "wrong",
      "unclear": [WordNet id]}} where an absent key means none,
      `problematic_images`, an object whose keys are images, and `imagenet_m`, a
      list of images. Other keys are not looked at.

  Raises:
    InputError: not such a file, an unknown class, an image of ImageNet-M that
      was not annotated, an image twice.
  """
  content = real.read_json(path)
  missing = [
    key for key in _KEYS if not isinstance(content, dict) or key not in content
  ]
  if missing:
    raise errors.InputError(
      f"{path}: expected an object with the keys {', '.join(_KEYS)}, as"
      f" human_accuracy_v3.0.0.json has, found no {', '.join(missing)}"
    )
  annotated = content["initial_annots"]
  check_kind(f"{path}: initial_annots", annotated, dict, "an object")
  labels, notes = all_labels(f"{path}: initial_annots", annotated)
  problematic = content["problematic_images"]
  check_kind(f"{path}: problematic_images", problematic, dict, "an object")
  slice_m = content["imagenet_m"]
  check_kind(f"{path}: imagenet_m", slice_m, list, "a list")
  unknown = [image for image in slice_m if str(image) not in labels]
  if unknown:
    raise errors.InputError(
      f"{path}: imagenet_m: expected images of initial_annots, got"
      f" {str(unknown[0])[:80]!r} and {len(unknown) - 1} more that are not"
    )
  if len(set(slice_m)) < len(slice_m):
    raise errors.InputError(
      f"{path}: imagenet_m: expected every image once, got {len(slice_m)}"
      f" entries for {len(set(slice_m))} images"
    )
  return Reviews(
    path=pathlib.Path(path),
    labels=labels,
    problematic=frozenset(problematic),
    imagenet_m=frozenset(slice_m),
    tells_states=True,
    notes=notes,
  )


def read_lists(path: str | os.PathLike[str]) -> Reviews:
  """Returns the reviews of a JSON {file name: [class indices]}.

  A list holds the labels that are correct or unclear; see
  `real.read_label_lists`, also for the errors. An image whose list is empty is
  left out.
  """
  lists = real.read_label_lists(path)
  empty = frozenset(name for name, found in lists.items() if not len(found))
  notes = []
  if empty:
    notes.append(
      f"{pathlib.Path(path).name}: {len(empty):,} images whose list of labels"
      " is empty are left out"
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


def all_labels(
  where: str, annotated: Mapping
) -> tuple[dict[str, Labels], tuple[str, ...]]:
  """Returns the labels by image and state, and notes on them.

  Args:
    where: file and key, for errors.
    annotated: image id -> state -> WordNet ids; states beyond those of `STATES`
      are not looked at.

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
  try:
    return tuple(sorted(map(classes.index_of, wnids)))
  except (errors.InputError, TypeError) as error:
    raise errors.InputError(f"{where}: {error}") from error


def check_kind(where: str, value, kind, text: str) -> None:
  """Raises InputError, which names `where` and `text`, unless of a kind."""
  if not isinstance(value, kind):
    raise errors.InputError(
      f"{where}: expected {text}, got {type(value).__name__}"
    )


def codes(
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


def reviewed(dataset: records.Dataset, reviews: Reviews) -> Reviewed | None:
  """Returns the images of a data set that count; None if there is none.

  Those are the images that were annotated and are not problematic, also for
  top-1 and top-5 accuracy, so that all numbers speak of the same images.
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
      codes=codes(reviews.labels, image_ids, dataset.num_classes),
      left_out=np.zeros(len(rows), bool),
      in_imagenet_m=np.array([image in in_m for image in image_ids]),
      path=reviews.path,
    ),
    rows=rows,
  )


def told(
  measurements: frame.Measurements, reviews: Reviews
) -> frame.Measurements:
  """Returns measurements, without the values that the reviews do not tell.

  A value that would need to know more than the file says is undefined, with
  the reason in its definition: "icml2020" and what speaks of labels that nobody
  reviewed for lists of accepted labels, "imagenet_m" where its images are not
  known.
  """
  return {
    key: _told(key[-1], entry, reviews) for key, entry in measurements.items()
  }


def _told(
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


def default_metric(reviews: Reviews) -> str:
  """Returns the definition that figures and paired tests use.

  It is that of Shankar et al. where the reviews tell correct labels from
  unclear ones, and else the same with both accepted.
  """
  return _PREFIX + ("icml2020" if reviews.tells_states else "lenient_mean")
