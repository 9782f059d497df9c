"""Answers of human labelers, and of models, on the images that humans labeled.

Five people labeled 1,000 images of ImageNet's validation set and 1,000 of
ImageNetV2 (Shankar et al. 2020), with one class per image.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import datetime
import re
from typing import Any
from typing import NamedTuple

import numpy as np

from imgbench import errors
from imgbench.labels import classes
from imgbench.labels import review_database
from imgbench.metrics import outcomes
from imgbench.papers.readers import datasets
from imgbench.papers.readers import reviews

PERSON = "person"
MODEL = "model"
ENSEMBLE = "majority"

FAST_SECONDS = 60.0
VALIDATION_PREFIX = "ILSVRC2012_val_"

# Images counted at once, which keeps the table of votes at 16 MB.
_IMAGES_AT_ONCE = 2000
_DAY = datetime.timedelta(days=1)
_NO_DATE = datetime.date(1900, 1, 1)  # strptime's default
_ZONE_NAME = re.compile(r" \([^)]*\)$")  # after dates of JavaScript
_FORMATS = (
  "%Y-%m-%d_%H-%M-%S_UTC",
  "%a %b %d %Y %H:%M:%S GMT%z",
  "%a, %d %b %Y %H:%M:%S GMT",
  "%a %b %d %H:%M:%S %Y",
  "%m/%d/%Y, %I:%M:%S %p",
  "%m/%d/%Y, %H:%M:%S",
  "%m/%d/%Y %I:%M:%S %p",
  "%m/%d/%Y %H:%M:%S",
  "%H:%M:%S.%f",
  "%H:%M:%S",
  "%H:%M",
  "%I:%M:%S %p",
  "%I:%M %p",
)


class ImageSet(NamedTuple):
  """Images of a data set that humans labeled, without problematic ones.

  Attributes:
    image_ids: of N images.
    labels: int32 [N], the original labels.
  """

  image_ids: tuple[str, ...]
  labels: np.ndarray


class HumanStudy(NamedTuple):
  """Answers of humans, models and majorities that labeled every image.

  Attributes:
    image_sets: by name of the data set.
    kinds: labeler -> PERSON, MODEL or ENSEMBLE, sorted by name.
    named: data set -> labeler -> int16 [N], its class for each image; -1 for
      none.
    seconds: data set -> float64 [N], the median time that humans took for an
      image; NaN if no time is known.
    notes: for readers of the numbers, one line each.
  """

  image_sets: Mapping[str, ImageSet]
  kinds: Mapping[str, str]
  named: Mapping[str, Mapping[str, np.ndarray]]
  seconds: Mapping[str, np.ndarray]
  notes: tuple[str, ...]


def find_kind(name: str) -> str:
  """Returns PERSON, ENSEMBLE or MODEL for a name of the public file."""
  if name in ("human_majority", "model_majority"):
    return ENSEMBLE
  return PERSON if name.startswith("human_") else MODEL


def read_study(
  where: str, labels: Mapping[str, Any], found: reviews.Reviews
) -> HumanStudy:
  """Returns the answers of labelers to the tasks of a review database.

  As `read_labels`, but the images are those of review_database.ORIGINAL in
  `labels` that were reviewed.
  """
  reviews.check_kind(where, labels, Mapping, "an object")
  others = dict(labels)
  own = others.pop(review_database.ORIGINAL, {})
  reviews.check_kind(where, own, Mapping, "an object")
  known = sorted(own.keys() & found.labels.keys())
  originals = {image: _get_label(where, own[image]) for image in known}
  image_sets = split_images(where, originals, found.problematic)
  # A user may be called majority.
  study = read_labels(where, others, image_sets, lambda name: PERSON)
  absent = len(own) - len(known)
  note = f"{where}: {absent:,} images without reviewed labels are left out"
  return study._replace(notes=(*study.notes, *([note] if absent else [])))


def split_images(
  where: str, originals: Mapping[str, Any], problematic: Collection[str]
) -> dict[str, ImageSet]:
  """Returns the images of ImageNet's validation set, and the others.

  Without problematic ones; `originals` has the WordNet id of each label.
  """
  counted = [image for image in originals if image not in problematic]
  expected = "images with reviewed labels that are not problematic"
  errors.check(bool(counted), where, expected, "none")
  image_sets = {}
  for dataset, inside in (
    (datasets.VALIDATION, True),
    (datasets.MATCHED_FREQUENCY, False),
  ):
    chosen = [i for i in counted if i.startswith(VALIDATION_PREFIX) == inside]
    labels = [
      reviews.class_index(f"{where}[{image!r}]", originals[image])
      for image in chosen
    ]
    image_sets[dataset] = ImageSet(tuple(chosen), np.array(labels, np.int32))
  return image_sets


def read_labels(
  where: str,
  annot_data: Mapping,
  image_sets: Mapping[str, ImageSet],
  kind_of: Callable[[str], str] = find_kind,
) -> HumanStudy:
  """Returns the answers of all labelers that labeled every image.

  Args:
    where: file and key, for errors.
    annot_data: labeler -> image id -> {"label": WordNet id} and, for humans,
      "extra_info": {"start_time", "end_time": text}. A label that is no class
      counts as wrong.
    image_sets: the images wanted, by data set.
    kind_of: labeler -> PERSON, MODEL or ENSEMBLE.

  Raises:
    InputError: another structure, or no labeler labeled all images.
  """
  total = sum(len(images.image_ids) for images in image_sets.values())
  complete, notes = _find_complete(where, annot_data, image_sets)
  if not complete:
    wanted = f"a person or a model with labels of all {total:,} images"
    raise errors.InputError(where, wanted, "none")
  kinds = {name: kind_of(name) for name in complete}
  named = {dataset: {} for dataset in image_sets}
  for name in kinds:
    no_class = []
    for dataset, images in image_sets.items():
      labels = [
        _get_label(f"{where}[{name!r}]", annot_data[name][image])
        for image in images.image_ids
      ]
      found = np.array([_find_class(x) for x in labels], np.int16)
      named[dataset][name] = found
      absent = np.flatnonzero(found == outcomes.NO_PREDICTION)
      no_class += [labels[i] for i in absent]
    if no_class:
      notes.append(
        f"{name}: {len(no_class):,} labels, e.g. {str(no_class[0])[:40]!r}, are"
        " none of the 1,000 classes and count as wrong"
      )
  people = [name for name, kind in kinds.items() if kind == PERSON]
  seconds, more = _find_seconds(where, annot_data, people, image_sets)
  return HumanStudy(image_sets, kinds, named, seconds, (*notes, *more))


def _find_complete(
  where, annot_data, image_sets
) -> tuple[list[str], list[str]]:
  """Returns who labeled every image, sorted, and notes on the others."""
  image_ids = [i for images in image_sets.values() for i in images.image_ids]
  complete, notes = [], []
  for name in sorted(annot_data, key=str):
    entries = annot_data[name]
    reviews.check_kind(f"{where}: a name", name, str, "text")
    reviews.check_kind(f"{where}[{name!r}]", entries, Mapping, "a dictionary")
    there = sum(image in entries for image in image_ids)
    if there == len(image_ids):
      complete.append(name)
    else:
      notes.append(
        f"{name}: left out, has labels of {there:,} of the"
        f" {len(image_ids):,} images"
      )
  return complete, notes


def _find_seconds(where, annot_data, people, image_sets):
  """Returns `seconds` of `HumanStudy`, and notes on unknown times."""
  read_span = _SpanReader()
  try:
    spans = {
      dataset: [
        [
          read_span(f"{where}[{name!r}]", annot_data[name][image])
          for image in images.image_ids
        ]
        for name in people
      ]
      for dataset, images in image_sets.items()
    }
    notes = []
  except errors.InputError as error:
    # Times of only some humans would give other fast images.
    notes = [f"{error}: no image counts as fast"]
    spans = {dataset: [] for dataset in image_sets}
  seconds = {
    dataset: _median(np.array(spans[dataset]), len(images.image_ids))
    for dataset, images in image_sets.items()
  }
  unknown = sum(int(np.isnan(found).sum()) for found in seconds.values())
  if unknown and people and not notes:
    total = sum(map(len, seconds.values()))
    notes.append(
      f"{unknown:,} of the {total:,} images have no labeling time; they do not"
      " count as fast"
    )
  return seconds, notes


def _get_label(where: str, entry):
  reviews.check_kind(where, entry, Mapping, "a dictionary for each image")
  reviews.check_keys(where, entry, ["label"])
  return entry["label"]


def _find_class(wnid) -> int:
  try:
    return classes.index_of(wnid)
  except (errors.InputError, TypeError):
    return outcomes.NO_PREDICTION


def _median(spans: np.ndarray, size: int) -> np.ndarray:
  """Returns medians of float [people, N] over people; NaN if all unknown."""
  result = np.full(size, np.nan)
  if spans.size:
    known = ~np.isnan(spans).all(axis=0)
    result[known] = np.nanmedian(spans[:, known], axis=0)
  return result


class _SpanReader:
  """Reads time spans; tries the last format that fitted first."""

  def __init__(self):
    self._formats = list(_FORMATS)

  def __call__(self, where: str, entry: Mapping) -> float:
    """Returns seconds from start to end; NaN if one of them is absent.

    Times of day without dates may span midnight. A negative span with dates is
    unknown.
    """
    info = entry.get("extra_info") or {}
    reviews.check_kind(f"{where}: extra_info", info, Mapping, "a dictionary")
    texts = [info.get(key) for key in ("start_time", "end_time")]
    if None in texts or "" in texts:
      return float("nan")
    start, end = (self._parse_time(where, text) for text in texts)
    try:
      span = end - start
    except TypeError:
      raise errors.InputError(
        where,
        "both times with a zone or none",
        f"{texts[0]!r} and {texts[1]!r}",
      ) from None
    if start.date() == end.date() == _NO_DATE and span < datetime.timedelta(0):
      span += _DAY
    return span.total_seconds() if span >= datetime.timedelta(0) else np.nan

  def _parse_time(self, where: str, text) -> datetime.datetime:
    if isinstance(text, (int, float)) and not isinstance(text, bool):
      return _from_epoch(where, text)
    if isinstance(text, str):
      text = _ZONE_NAME.sub("", text.strip())
      if re.fullmatch(r"\d{9,13}(\.\d+)?", text):
        return _from_epoch(where, float(text))
      found = self._parse(text)
      if found is not None:
        return found
    wanted = "a time such as 2019-08-01 14:03:12"
    raise errors.InputError(where, wanted, repr(text)[:80])

  def _parse(self, text: str) -> datetime.datetime | None:
    try:
      return datetime.datetime.fromisoformat(text)
    except ValueError:
      pass
    for place, pattern in enumerate(self._formats):
      try:
        found = datetime.datetime.strptime(text, pattern)
      except ValueError:
        continue
      self._formats.insert(0, self._formats.pop(place))
      return found
    return None


def _from_epoch(where: str, number: float) -> datetime.datetime:
  """Returns the time of seconds or, as in JavaScript, milliseconds."""
  seconds = number / 1000 if number > 1e11 else number
  try:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
  except (OverflowError, OSError, ValueError) as error:
    raise errors.InputError(where, "seconds since 1970", number) from error


def is_fast(seconds: np.ndarray) -> np.ndarray:
  """Returns bool [N]: the median time is known and below 60 seconds.

  Source: Shankar et al. 2020, section 5.
  """
  return seconds < FAST_SECONDS


def find_majority(named: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
  """Returns int16 [N], the class with most votes for each image.

  Ties go to the lowest class, as everywhere in this project; an image without
  votes gets -1.

  Args:
    named: M integer arrays [N] in [-1, K), one for each voter.
    num_classes: K.
  """
  votes = np.stack(named).astype(np.int64)
  result = np.empty(votes.shape[1], np.int16)
  for start in range(0, votes.shape[1], _IMAGES_AT_ONCE):
    part = votes[:, start : start + _IMAGES_AT_ONCE]
    size = part.shape[1]
    # Column 0 counts voters without a class.
    cells = (num_classes + 1) * np.arange(size) + part + 1
    counts = np.bincount(cells.ravel(), minlength=size * (num_classes + 1))
    counts = counts.reshape(size, num_classes + 1)[:, 1:]
    top = counts.argmax(axis=1)
    nobody = counts[np.arange(size), top] == 0
    result[start : start + size] = np.where(nobody, outcomes.NO_PREDICTION, top)
  return result
