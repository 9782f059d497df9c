"""human_accuracy.pickle: reviewed labels, and the answers of human labelers.

The file of the repository modestyachts/evaluating_machine_accuracy_on_imagenet.
Unpickling runs code that a file names, so the file is read with an unpickler
that knows nothing but plain containers, strings and numbers. The structure is
the one that the repository's human_accuracy.py, utils.py and notebooks use:

  labeled_images: ids of the images that the humans labeled
  annot_data: {person or model: {image id: {"label": WordNet id, "extra_info":
    {"start_time", "end_time": text}}}}; only humans have times
  image_map: {image id: {"id", "problematic": bool}}
  image_labels: {image id: {"correct", "unclear", "wrong": WordNet ids}}
  split_wnids: {("object",), ("organism",), ("organism", "dog"), ..: WordNet
    ids}
  all_candidates: collection of the ids of ImageNetV2's candidate images
  wnid_map: {image id: WordNet id of the original label}
  initial_annots: as in human_accuracy_v3.0.0.json, of more images
"""

import collections
from collections.abc import Collection
from collections.abc import Mapping
import os
import pathlib
import pickle
import pickletools
from typing import Any
from typing import BinaryIO

import numpy as np

from imgbench import errors
from imgbench.labels import classes
from imgbench.papers.readers import datasets
from imgbench.papers.readers import lfs
from imgbench.papers.readers import people
from imgbench.papers.readers import reviews as reviews_lib

KEYS = (
  "labeled_images",
  "annot_data",
  "image_map",
  "image_labels",
  "split_wnids",
  "all_candidates",
  "wnid_map",
  "initial_annots",
)
VALIDATION_PREFIX = "ILSVRC2012_val_"

# Sets have no opcode before protocol 4; ordered and default dictionaries never
# have one (ImageNetV2's all_candidates is an ordered one). All of these are
# built-in types, which a pickle cannot change.
_CONTAINERS = {
  "set": set,
  "frozenset": frozenset,
  "list": list,
  "dict": dict,
  "int": int,
  "float": float,
  "str": str,
}
_PLAIN = {
  **{("builtins", name): kind for name, kind in _CONTAINERS.items()},
  **{("__builtin__", name): kind for name, kind in _CONTAINERS.items()},
  ("collections", "OrderedDict"): dict,
  ("collections", "defaultdict"): collections.defaultdict,
}
# They name an index of the unpickler's memo, a table as long as its last index.
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_COLLECTIONS = (list, tuple, set, frozenset, dict)
# Raised by bytes that are no pickle of plain data.
_BROKEN = (
  pickle.UnpicklingError,
  ArithmeticError,
  AttributeError,
  EOFError,
  ImportError,
  LookupError,
  MemoryError,
  OSError,
  RecursionError,
  TypeError,
  ValueError,
)
# split_wnids -> our subset, to compare the classes of.
_SPLITS = {
  ("object",): "object",
  ("organism",): "organism",
  ("organism", "dog"): "dog",
}


class _Unpickler(pickle.Unpickler):
  """Builds plain data; `find_class` is the only way to anything else."""

  def find_class(self, module_name: str, global_name: str) -> Any:
    found = _PLAIN.get((module_name, global_name))
    if found is None:
      raise pickle.UnpicklingError(
        f"{module_name}.{global_name}, which is no plain data (it was not run)"
      )
    return found

  def persistent_load(self, pid: Any) -> Any:
    raise pickle.UnpicklingError("persistent ids")


def load(path: str | os.PathLike[str]) -> Any:
  """Returns the content of a pickle of plain data.

  Args:
    path: a pickle of dictionaries (also ordered and default ones, default
      factories being such types too), lists, tuples, sets, strings, bytes,
      numbers, booleans and None.

  Raises:
    InputError: no such file, not a pickle, or one that names anything else: a
      function, another class, a NumPy type. Nothing that it names is imported
      or called.
  """
  path = pathlib.Path(path)
  lfs.check(path, "a pickle")
  try:
    with path.open("rb") as file:
      _check_opcodes(file)
      file.seek(0)
      return _Unpickler(file).load()
  except _BROKEN as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    raise errors.InputError(
      path, "a pickle of plain containers, strings and numbers", reason
    ) from error


def _check_opcodes(file: BinaryIO) -> None:
  """Raises UnpicklingError for memo indices that no file of this size needs.

  A few bytes that name a huge index would take all memory. Extension codes are
  refused as well: Python caches their objects and returns them unchecked.
  """
  size = os.fstat(file.fileno()).st_size
  for opcode, index, _ in pickletools.genops(file):
    if opcode.name.startswith("EXT"):
      raise pickle.UnpicklingError("extension codes")
    if opcode.name in _PUTS and index >= size:
      raise pickle.UnpicklingError(f"memo index {index} in {size} bytes")


def read(
  path: str | os.PathLike[str],
) -> tuple[reviews_lib.Reviews, people.HumanStudy]:
  """Returns the reviewed labels, and the answers of humans and models.

  Labels of an image are those of `image_labels`, which the paper's numbers are
  computed with, and of `initial_annots` where an image has none there.

  Raises:
    InputError: see `load`; another structure than the one above.
  """
  content = load(path)
  reviews_lib.check_kind(f"{path}", content, dict, "a dictionary")
  reviews_lib.check_keys(path, content, KEYS)
  for key in KEYS:
    kinds = (dict, "a dictionary")
    if key in ("labeled_images", "all_candidates"):
      kinds = (_COLLECTIONS, "image ids")
    reviews_lib.check_kind(f"{path}: {key}", content[key], *kinds)
  _check_texts(f"{path}: all_candidates", content["all_candidates"])
  labels, notes = reviews_lib.parse_labels(
    f"{path}: image_labels", content["image_labels"]
  )
  initial, more = _read_initial(path, content["initial_annots"])
  reviews = reviews_lib.Reviews(
    path=pathlib.Path(path),
    labels={**initial, **labels},
    problematic=_read_problematic(path, content),
    imagenet_m=None,
    tells_states=True,
    notes=(*notes, *more, *_compare_splits(path, content["split_wnids"])),
  )
  return reviews, _read_study(path, content, reviews)


def _read_initial(path, annotated: Mapping):
  """Returns labels of further images, none if they have another structure.

  The paper's code never reads this part, so that its structure is known from
  the JSON form of the file only.
  """
  try:
    return reviews_lib.parse_labels(f"{path}: initial_annots", annotated)
  except errors.InputError as error:
    return {}, (f"{error}: images with labels only there are left out",)


def _read_problematic(path, content: Mapping) -> frozenset[str]:
  image_map = content["image_map"]
  for image in _read_labeled_images(path, content):
    where = f"{path}: image_map[{image!r}]"
    entry = image_map[image]
    reviews_lib.check_kind(where, entry, Mapping, "a dictionary")
    flag = entry.get("problematic")
    reviews_lib.check_kind(f"{where}['problematic']", flag, int, "a boolean")
    if entry.get("id") != image:
      given = repr(entry.get("id"))[:80]
      raise errors.InputError(f"{where}['id']", repr(image), given)
  return frozenset(
    image
    for image, entry in image_map.items()
    if isinstance(entry, Mapping) and entry.get("problematic")
  )


def _compare_splits(path, splits: Mapping) -> list[str]:
  """Returns notes on subsets that differ from those of our class table."""
  table, subsets = classes.imagenet_classes(), classes.subsets()
  notes = []
  for split, subset in _SPLITS.items():
    if split not in splits:
      notes.append(f"{path}: split_wnids has no {split}; ours is used")
      continue
    where = f"{path}: split_wnids[{split}]"
    reviews_lib.check_kind(where, splits[split], _COLLECTIONS, "WordNet ids")
    _check_texts(where, splits[split])
    wnids = {
      wnid
      for wnid, inside in zip(table.wnids, subsets[subset], strict=True)
      if inside
    }
    differing = wnids ^ set(splits[split])
    if differing:
      notes.append(
        f"{path}: {len(differing)} classes, such as {min(differing)}, are in"
        f" only one of split_wnids[{split}] and our subset {subset}; ours is"
        " used"
      )
  return notes


def _read_study(path, content: Mapping, reviews: reviews_lib.Reviews):
  images = _read_labeled_images(path, content)
  if reviews.problematic.issuperset(images):
    raise errors.InputError(
      f"{path}: labeled_images",
      "images that image_map does not call problematic",
      f"{len(images)} problematic ones",
    )
  wnid_map = content["wnid_map"]
  image_sets = {}
  candidates = set(content["all_candidates"])
  outside = 0
  for dataset, inside in (
    (datasets.VALIDATION, True),
    (datasets.MATCHED_FREQUENCY, False),
  ):
    chosen = [
      image
      for image in images
      if image.startswith(VALIDATION_PREFIX) == inside
      and image not in reviews.problematic
    ]
    if not inside:
      outside = sum(image not in candidates for image in chosen)
    image_sets[dataset] = people.ImageSet(
      image_ids=tuple(chosen),
      labels=np.array(
        [_read_original(path, wnid_map, image) for image in chosen], np.int32
      ),
    )
  study = people.read_labels(
    f"{path}: annot_data", content["annot_data"], image_sets
  )
  if not outside:
    return study
  note = (
    f"{path}: {outside:,} labeled images are neither in the validation set nor"
    " in all_candidates; they count as ImageNetV2 images"
  )
  return study._replace(notes=(*study.notes, note))


def _read_labeled_images(path, content: Mapping) -> list[str]:
  found = content["labeled_images"]
  where = f"{path}: labeled_images"
  if not found:
    raise errors.InputError(where, "image ids", "none")
  _check_texts(where, found)
  for key in ("image_map", "image_labels", "wnid_map"):
    missing = [image for image in found if image not in content[key]]
    reviews_lib.check_known(where, f"images of {key}", missing)
  reviews_lib.check_distinct(where, found)
  return sorted(found)


def _check_texts(where: str, ids: Collection) -> None:
  for name in ids:
    reviews_lib.check_kind(f"{where}: an id", name, str, "text")


def _read_original(path, wnid_map: Mapping, image: str) -> int:
  where = f"{path}: wnid_map[{image!r}]"
  return reviews_lib.class_index(where, wnid_map[image])
