"""The 1,000 ImageNet classes: ids, names, organism, dog and subsets.

The table is `imagenet_classes.csv`, made from WordNet 3.0 (see its notice in
WORDNET_LICENSE) by `imgbench.labels.derive_classes`.
"""

import collections
import csv
import dataclasses
import functools
from importlib import resources

import numpy as np

from imgbench import errors

_TABLE = "imagenet_classes.csv"


@dataclasses.dataclass(frozen=True, eq=False)
class ImageNetClasses:
  """The classes in the order of their index, K = 1,000.

  Attributes:
    wnids: WordNet ids, ascending; the key of a class.
    names: all synonyms of a class in WordNet's order, joined by ", ". Not
      unique: 134 and 517 are both "crane".
    is_organism: bool [K], read-only: WordNet 3.0 has organism (n00004475)
      above the class.
    is_dog: bool [K], read-only: WordNet 3.0 has dog (n02084071) above it.
  """

  wnids: tuple[str, ...]
  names: tuple[str, ...]
  is_organism: np.ndarray
  is_dog: np.ndarray


@functools.cache
def imagenet_classes() -> ImageNetClasses:
  """Returns the classes, read once."""
  table = resources.files(__package__).joinpath(_TABLE)
  rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))[1:]
  _, wnids, names, is_organism, is_dog = zip(*rows, strict=True)
  return ImageNetClasses(wnids, names, _bools(is_organism), _bools(is_dog))


@functools.cache
def short_names() -> tuple[str, ...]:
  """Returns a unique display name for every class.

  It is the first synonym. If several classes share it (ignoring case), the next
  synonym follows in parentheses, or the id if there is none: "crane
  (n02012849)", "maillot (tank suit)".
  """
  table = imagenet_classes()
  synonyms = [names.split(", ") for names in table.names]
  uses = collections.Counter(names[0].casefold() for names in synonyms)
  return tuple(
    names[0]
    if uses[names[0].casefold()] == 1
    else f"{names[0]} ({[*names[1:], wnid][0]})"
    for names, wnid in zip(synonyms, table.wnids, strict=True)
  )


def index_of(wnid: str) -> int:
  """Returns the class index of a WordNet id.

  Raises:
    InputError: it is none of the 1,000 ids.
  """
  try:
    return _indices()[wnid]
  except KeyError:
    raise errors.InputError(
      "wnid", "the WordNet id of an ImageNet class, e.g. n01440764", repr(wnid)
    ) from None


@functools.cache
def _indices() -> dict[str, int]:
  return {wnid: i for i, wnid in enumerate(imagenet_classes().wnids)}


def subsets() -> dict[str, np.ndarray]:
  """Returns the named subsets of the classes, each a read-only bool [K].

  Classes: dog 118, organism 410, object 590 (not an organism),
  organism_not_dog 292, not_dog 882.

  Source: Shankar et al. 2020.
  """
  return dict(_subsets())


@functools.cache
def _subsets() -> dict[str, np.ndarray]:
  table = imagenet_classes()
  found = {
    "dog": table.is_dog,
    "organism": table.is_organism,
    "object": ~table.is_organism,
    "organism_not_dog": table.is_organism & ~table.is_dog,
    "not_dog": ~table.is_dog,
  }
  for mask in found.values():
    mask.setflags(write=False)
  return found


def _bools(column) -> np.ndarray:
  values = np.array(column) == "1"
  values.setflags(write=False)
  return values
