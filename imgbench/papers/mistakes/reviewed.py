"""Mistakes with their reviewed category and severity.

They are in a clone of the public google-research/imagenet-mistakes:

  metadata/<model>_mistakes.json
    {file name: {"top_prediction": class index, "failure category": text,
    "failure severity": text}}, the mistakes of a model on the 20,000 annotated
    images of ImageNet's validation set that remained after review
  metadata/class_confusion_wnids.json
    [[WordNet id, WordNet id, count]], classes that ViT-3B confused: a mistake
    counts for the predicted class with each accepted label of its image

Source: Vasudevan et al., "When does dough become a bagel? Analyzing the
remaining mistakes on ImageNet", 2022 (arXiv 2205.04596).
"""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import pathlib
from typing import NamedTuple

from imgbench import errors
from imgbench.labels import classes
from imgbench.labels import real

URL = "https://github.com/google-research/imagenet-mistakes"

CATEGORIES = (
  "Fine-grained error",
  "Fine-grained error with OOV",
  "Fine-grained with Multilabel Options",
  "Non-prototypical",
  "Spurious Correlation",
)
SEVERITIES = ("Major", "Minor", "Borderline")

_SUFFIX = "_mistakes.json"
CONFUSIONS = "class_confusion_wnids"
_FIELDS = ("top_prediction", "failure category", "failure severity")


class ReviewedMistake(NamedTuple):
  """A wrong prediction that was reviewed.

  Attributes:
    image: file name in ImageNet's validation set.
    prediction: class index in [0, 1000).
    category: its cause; one of CATEGORIES, or a new one.
    severity: one of SEVERITIES.
  """

  image: str
  prediction: int
  category: str
  severity: str


@dataclasses.dataclass(frozen=True)
class ModelMistakes:
  """Reviewed mistakes of one model.

  Attributes:
    model: its name.
    mistakes: sorted by image; no image twice.
    path: file that they were read from.
  """

  model: str
  mistakes: tuple[ReviewedMistake, ...]
  path: pathlib.Path


class Pair(NamedTuple):
  """Two classes and how often one was predicted for the other, or both ways."""

  first: int
  second: int
  count: int


def find(repo: pathlib.Path) -> tuple[dict[str, pathlib.Path], pathlib.Path]:
  """Returns (model -> file of its mistakes, file of confusions) of a clone.

  Raises:
    InputError: no clone, or one without these files.
  """
  folder = repo / "metadata"
  paths = sorted(folder.glob(f"*{_SUFFIX}"))
  confusions = folder / f"{CONFUSIONS}.json"
  if not paths or not confusions.is_file():
    missing = confusions if paths else folder / f"<model>{_SUFFIX}"
    expected = f"a clone of {URL} with {missing}"
    raise errors.InputError("--repo", expected, repo)
  return {p.name.removesuffix(_SUFFIX): p for p in paths}, confusions


def read(model: str, path: pathlib.Path) -> ModelMistakes:
  """Reads the mistakes of a model.

  Spellings of a category that differ in case or in the word "error" are equal.
  An unknown category keeps its name and adds a row to tables; an unknown
  severity is an error, since it has no column.

  Raises:
    InputError: no such file, a field missing or of another type, an image
      twice or of another data set, a class outside [0, 1000).
  """
  entries = _read(path, dict)
  if not entries:
    raise errors.InputError(path, "mistakes by image", "none")
  found = [_mistake(path, image, fields) for image, fields in entries.items()]
  return ModelMistakes(model, tuple(sorted(found)), path)


def find_new_categories(reviewed: Iterable[ModelMistakes]) -> list[str]:
  """Returns the categories that are not in CATEGORIES, sorted."""
  found = {m.category for model in reviewed for m in model.mistakes}
  return sorted(found - set(CATEGORIES))


def read_confusions(path: pathlib.Path) -> tuple[Pair, ...]:
  """Reads the confused classes; the smaller index comes first.

  Raises:
    InputError: entries of another form, ids that are no class of ImageNet, a
      class confused with itself, a pair twice, counts below 1.
  """
  pairs = {}
  for place, entry in enumerate(_read(path, list)):
    where = f"{path}, element {place}"
    if (
      not isinstance(entry, list)
      or list(map(type, entry)) != [str, str, int]
      or entry[2] < 1
    ):
      expected = "[WordNet id, WordNet id, a number above 0]"
      raise errors.InputError(where, expected, repr(entry))
    try:
      key = tuple(sorted(map(classes.index_of, entry[:2])))
    except errors.InputError as error:
      raise error.prefixed(f"{where}: ") from error
    if key in pairs or key[0] == key[1]:
      expected = "each pair once" if key in pairs else "two classes"
      raise errors.InputError(where, expected, repr(entry))
    pairs[key] = entry[2]
  return sort_pairs(pairs)


def sort_pairs(counts: Mapping[tuple[int, int], int]) -> tuple[Pair, ...]:
  """Returns pairs of classes, the most frequent first, then by class."""
  pairs = (Pair(*key, count) for key, count in counts.items())
  return tuple(sorted(pairs, key=lambda p: (-p.count, p.first, p.second)))


def _mistake(path: pathlib.Path, image: str, fields) -> ReviewedMistake:
  where = f"{path}: {image}"
  try:
    real.image_number(image)
  except errors.InputError as error:
    raise error.prefixed(f"{path}: ") from error
  if not isinstance(fields, dict) or [type(fields.get(f)) for f in _FIELDS] != [
    int,
    str,
    str,
  ]:
    expected = "{}, an integer, {} and {}, texts".format(*_FIELDS)
    raise errors.InputError(where, expected, repr(fields))
  prediction, category, severity = (fields[name] for name in _FIELDS)
  if not 0 <= prediction < 1000:
    where = f"{where}: {_FIELDS[0]}"
    raise errors.InputError(where, "a class in [0, 1000)", prediction)
  if severity not in SEVERITIES:
    where = f"{where}: {_FIELDS[2]}"
    expected = f"one of {', '.join(SEVERITIES)}"
    raise errors.InputError(where, expected, repr(severity))
  category = _SPELLINGS.get(_key(category), category)
  return ReviewedMistake(image, prediction, category, severity)


def _key(category: str) -> str:
  words = category.casefold().split()
  return " ".join(word for word in words if word != "error")


_SPELLINGS = {_key(name): name for name in CATEGORIES}


def _read(path: pathlib.Path, kind: type):
  content = real.read_json(path)
  if not isinstance(content, kind):
    given, fix = f"a {type(content).__name__}", f"use a file of {URL}"
    raise errors.InputError(path, f"a {kind.__name__}", given, fix)
  return content
