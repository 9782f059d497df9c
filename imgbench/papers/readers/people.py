"""What people, and models beside them, called the images that people labelled.

Five people labelled 1,000 images of ImageNet's validation set and 1,000 of
ImageNetV2 (Shankar et al. 2020); each names one class for an image.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import datetime
import re
from typing import NamedTuple

import numpy as np

from imgbench import errors
from imgbench.labels import classes
from imgbench.metrics import outcomes
from imgbench.papers.readers import reviews

PERSON = "person"
MODEL = "model"
ENSEMBLE = "majority"

FAST_SECONDS = 60.0

# Images counted at once, which keeps the table of votes at 16 MB.
_IMAGES_AT_ONCE = 2000
_DAY = datetime.timedelta(days=1)
_NO_DATE = datetime.date(1900, 1, 1)  # what strptime puts in its place
_ZONE_NAME = re.compile(r" \([^)]*\)$")  # behind dates of JavaScript
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
  """The images of one data set that the people labelled, without problematic.

  Attributes:
    image_ids: of N images.
    labels: int32 [N], the original labels.
  """

  image_ids: tuple[str, ...]
  labels: np.ndarray


class Study(NamedTuple):
  """All labels.

  Attributes:
    image_sets: by name of the data set.
    kinds: name of a person, model or majority -> PERSON, MODEL or ENSEMBLE, in
      the order of names. Who lacks a label is not there.
    named: data set -> name -> int16 [N], the class that it names for each
      image; -1 for none.
    seconds: data set -> float64 [N], the median over people of the time that
      an image took them; NaN where nobody's is known.
    notes: what a reader of the numbers should know, a line each.
  """

  image_sets: Mapping[str, ImageSet]
  kinds: Mapping[str, str]
  named: Mapping[str, Mapping[str, np.ndarray]]
  seconds: Mapping[str, np.ndarray]
  notes: tuple[str, ...]


def kind_of(name: str) -> str:
  """Returns PERSON, ENSEMBLE or MODEL by the names of the public file."""
  if name in ("human_majority", "model_majority"):
    return ENSEMBLE
  return PERSON if name.startswith("human_") else MODEL


def read_labels(
  where: str, annot_data: Mapping, image_sets: Mapping[str, ImageSet]
) -> Study:
  """Returns the labels of all who labelled every image.

  Args:
    where: file and key, for errors.
    annot_data: name -> image id -> {"label": WordNet id} and, for people,
      "extra_info": {"start_time", "end_time": text}. A label that is no class
      counts as wrong.
    image_sets: the images wanted, by data set.

  Raises:
    InputError: another structure, nobody with labels of all images.
  """
  total = sum(len(images.image_ids) for images in image_sets.values())
  complete, notes = _complete(where, annot_data, image_sets)
  if not complete:
    raise errors.InputError(
      f"{where}: expected a person or a model with labels of all {total:,}"
      f" images, got none ({len(annot_data)} names)"
    )
  kinds = {name: kind_of(name) for name in complete}
  named = {dataset: {} for dataset in image_sets}
  for name in kinds:
    no_class = []
    for dataset, images in image_sets.items():
      labels = [
        _label(f"{where}[{name!r}]", annot_data[name][image])
        for image in images.image_ids
      ]
      named[dataset][name] = np.array([_class(x) for x in labels], np.int16)
      no_class += [x for x in labels if _class(x) == outcomes.NO_PREDICTION]
    if no_class:
      notes.append(
        f"{name}: {len(no_class):,} labels, such as {str(no_class[0])[:40]!r},"
        " are none of the 1,000 classes and count as wrong"
      )
  people = [name for name, kind in kinds.items() if kind == PERSON]
  seconds, more = _seconds(where, annot_data, people, image_sets)
  return Study(image_sets, kinds, named, seconds, (*notes, *more))


def _complete(where, annot_data, image_sets) -> tuple[list[str], list[str]]:
  """Returns who labelled every image, sorted, and notes on the others."""
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


def _seconds(where, annot_data, people, image_sets):
  """Returns `seconds` of `Study`, and notes on times that are not known."""
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
    # Rather no fast images than those of the people whose times can be read.
    notes = [f"{error}; which images are fast is not known"]
    spans = {dataset: [] for dataset in image_sets}
  seconds = {
    dataset: _median(np.array(spans[dataset]), len(images.image_ids))
    for dataset, images in image_sets.items()
  }
  unknown = sum(int(np.isnan(found).sum()) for found in seconds.values())
  if unknown and people and not notes:
    total = sum(map(len, seconds.values()))
    notes.append(
      f"{unknown:,} of the {total:,} images have no labelling time of any"
      " person; they are not among the fast ones"
    )
  return seconds, notes


def _label(where: str, entry):
  reviews.check_kind(where, entry, Mapping, "a dictionary for each image")
  if "label" not in entry:
    raise errors.InputError(
      f"{where}: expected the key label for each image, got"
      f" {', '.join(map(str, entry))[:80]}"
    )
  return entry["label"]


def _class(wnid) -> int:
  try:
    return classes.index_of(wnid)
  except (errors.InputError, TypeError):
    return outcomes.NO_PREDICTION


def _median(spans: np.ndarray, size: int) -> np.ndarray:
  """Medians of float [people, N] over people; NaN where nobody's is known."""
  result = np.full(size, np.nan)
  if spans.size:
    known = ~np.isnan(spans).all(axis=0)
    result[known] = np.nanmedian(spans[:, known], axis=0)
  return result


class _SpanReader:
  """Reads time spans; remembers the format that fitted last."""

  def __init__(self):
    self._formats = list(_FORMATS)

  def __call__(self, where: str, entry: Mapping) -> float:
    """Seconds from start to end, NaN where one of them is not given.

    Times of day without dates may lie on either side of one midnight. A span
    that is negative though it has dates is not known.
    """
    info = entry.get("extra_info") or {}
    reviews.check_kind(f"{where}: extra_info", info, Mapping, "a dictionary")
    texts = [info.get(key) for key in ("start_time", "end_time")]
    if None in texts or "" in texts:
      return float("nan")
    start, end = (self._time(where, text) for text in texts)
    try:
      span = end - start
    except TypeError:
      raise errors.InputError(
        f"{where}: expected both times with a zone or none, got {texts[0]!r}"
        f" and {texts[1]!r}"
      ) from None
    if start.date() == end.date() == _NO_DATE and span < datetime.timedelta(0):
      span += _DAY
    return span.total_seconds() if span >= datetime.timedelta(0) else np.nan

  def _time(self, where: str, text) -> datetime.datetime:
    if isinstance(text, (int, float)) and not isinstance(text, bool):
      return _since_1970(where, text)
    if isinstance(text, str):
      text = _ZONE_NAME.sub("", text.strip())
      if re.fullmatch(r"\d{9,13}(\.\d+)?", text):
        return _since_1970(where, float(text))
      found = self._parsed(text)
      if found is not None:
        return found
    raise errors.InputError(
      f"{where}: expected a time such as 2019-08-01 14:03:12, got"
      f" {str(text)[:80]!r}"
    )

  def _parsed(self, text: str) -> datetime.datetime | None:
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


def _since_1970(where: str, number: float) -> datetime.datetime:
  """Of seconds or, as JavaScript counts, milliseconds."""
  seconds = number / 1000 if number > 1e11 else number
  try:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
  except (OverflowError, OSError, ValueError) as error:
    raise errors.InputError(
      f"{where}: expected seconds since 1970, got {number}"
    ) from error


def fast(seconds: np.ndarray) -> np.ndarray:
  """Returns bool [N]: the median over people is known and below 60 seconds.

  Source: Shankar et al. 2020, section 5.
  """
  return seconds < FAST_SECONDS


def majority(named: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
  """Returns int16 [N], the class that most name for an image.

  Ties go to the lowest class, as everywhere in this project; an image that
  nobody names a class for gets -1.

  Args:
    named: M integer arrays [N] in [-1, K), one for each voter.
    num_classes: K.
  """
  votes = np.stack(named).astype(np.int64)
  result = np.empty(votes.shape[1], np.int16)
  for start in range(0, votes.shape[1], _IMAGES_AT_ONCE):
    part = votes[:, start : start + _IMAGES_AT_ONCE]
    size = part.shape[1]
    # Column 0 counts those who name no class.
    cells = (num_classes + 1) * np.arange(size) + part + 1
    counts = np.bincount(cells.ravel(), minlength=size * (num_classes + 1))
    counts = counts.reshape(size, num_classes + 1)[:, 1:]
    top = counts.argmax(axis=1)
    nobody = counts[np.arange(size), top] == 0
    result[start : start + size] = np.where(nobody, outcomes.NO_PREDICTION, top)
  return result
