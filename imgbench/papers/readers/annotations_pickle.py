"""human_accuracy.pickle: reviewed labels, and the labels that people gave.

The file of the repository modestyachts/evaluating_machine_accuracy_on_imagenet.
Unpickling runs what a file tells it to, so the file is read with an unpickler
that knows nothing but plain containers, strings and numbers. The structure is
the one that the repository's human_accuracy.py, utils.py and notebooks use:

  labeled_images: ids of the images that the people labelled
  annot_data: {person or model: {image id: {"label": WordNet id, "extra_info":
    {"start_time", "end_time": text}}}}; times stand with people only
  image_map: {image id: {"id", "problematic": bool}}
  image_labels: {image id: {"correct", "unclear", "wrong": WordNet ids}}
  split_wnids: {("object",), ("organism",), ("organism", "dog"), ..: WordNet
    ids}
  all_candidates: what has the ids of ImageNetV2's candidate images as keys
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

# Sets have no opcode before protocol 4, ordered and default dictionaries in
# none (ImageNetV2's all_candidates is an ordered one). All of these are types
# of the interpreter, which a pickle cannot change.
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
# They name a place in the unpickler's memo, a table as long as its last place.
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_COLLECTIONS = (list, tuple, set, frozenset, dict)
# What bytes that are no pickle of plain data may raise.
_BROKEN = (
  pickle.UnpicklingError,
  ArithmeticError,
  AttributeError,
  EOFError,
  ImportError,
  LookupError,
  MemoryError,
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
        f"it names {module_name}.{global_name}, which is no plain data; nothing"
        " of it was run"
      )
    return found

  def persistent_load(self, pid: Any) -> Any:
    raise pickle.UnpicklingError("it has persistent ids, which are no data")


def load(path: str | os.PathLike[str]) -> Any:
  """Returns what a pickle of plain data holds.

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
  try:
    if lfs.is_pointer(path):
      raise errors.InputError(
        f"{path}: expected a pickle, got a pointer of Git LFS; run `git lfs"
        " pull` where it was cloned"
      )
    with path.open("rb") as file:
      _check_opcodes(file)
      file.seek(0)
      return _Unpickler(file).load()
  except OSError as error:
    raise errors.InputError(
      f"{path}: expected a pickle, got {error.strerror or error}"
    ) from error
  except _BROKEN as error:
    if isinstance(error, errors.InputError):
      raise
    reason = " ".join(str(error).split()) or type(error).__name__
    raise errors.InputError(
      f"{path}: expected a pickle of plain containers, strings and numbers, as"
      f" human_accuracy.pickle is: {reason}"
    ) from error


def _check_opcodes(file: BinaryIO) -> None:
  """Raises UnpicklingError for places that no pickle of this size needs.

  A few bytes that name the last place of all would take all memory. Codes of
  extensions are refused as well: Python keeps what they stand for, and then
  hands it out unasked.
  """
  size = os.fstat(file.fileno()).st_size
  for opcode, place, _ in pickletools.genops(file):
    if opcode.name.startswith("EXT"):
      raise pickle.UnpicklingError("it names extensions, which are no data")
    if opcode.name in _PUTS and place >= size:
      raise pickle.UnpicklingError(
        f"it has {size} bytes and puts a value in place {place} of its memo"
      )


def read(
  path: str | os.PathLike[str],
) -> tuple[reviews_lib.Reviews, people.Study]:
  """Returns the reviewed labels and what people and models called the images.

  Labels of an image are those of `image_labels`, which the paper's numbers are
  computed with, and of `initial_annots` where an image has none there.

  Raises:
    InputError: see `load`; another structure than the one above.
  """
  content = load(path)
  reviews_lib.check_kind(f"{path}", content, dict, "a dictionary")
  missing = [key for key in KEYS if key not in content]
  if missing:
    raise errors.InputError(
      f"{path}: expected the keys {', '.join(KEYS)}, found no"
      f" {', '.join(missing)}"
    )
  for key in KEYS:
    kinds = (dict, "a dictionary")
    if key in ("labeled_images", "all_candidates"):
      kinds = (_COLLECTIONS, "image ids")
    reviews_lib.check_kind(f"{path}: {key}", content[key], *kinds)
  _check_texts(f"{path}: all_candidates", content["all_candidates"])
  labels, notes = reviews_lib.all_labels(
    f"{path}: image_labels", content["image_labels"]
  )
  initial, more = _initial(path, content["initial_annots"])
  reviews = reviews_lib.Reviews(
    path=pathlib.Path(path),
    labels={**initial, **labels},
    problematic=_problematic(path, content),
    imagenet_m=None,
    tells_states=True,
    notes=(*notes, *more, *_compared_splits(path, content["split_wnids"])),
  )
  return reviews, _study(path, content, reviews)


def _initial(path, annotated: Mapping):
  """Labels of further images, none where they have another structure.

  The paper's code keeps this part and never looks into it, so that only the
  JSON form of the file says what it holds.
  """
  try:
    return reviews_lib.all_labels(f"{path}: initial_annots", annotated)
  except errors.InputError as error:
    return {}, (f"{error}; images with labels there alone are left out",)


def _problematic(path, content: Mapping) -> frozenset[str]:
  image_map = content["image_map"]
  for image in _labelled_images(path, content):
    where = f"{path}: image_map[{image!r}]"
    entry = image_map[image]
    reviews_lib.check_kind(where, entry, Mapping, "a dictionary")
    flag = entry.get("problematic")
    reviews_lib.check_kind(f"{where}['problematic']", flag, int, "a boolean")
    if entry.get("id") != image:
      raise errors.InputError(
        f"{where}['id']: expected {image!r}, got {str(entry.get('id'))[:80]!r}"
      )
  return frozenset(
    image
    for image, entry in image_map.items()
    if isinstance(entry, Mapping) and entry.get("problematic")
  )


def _compared_splits(path, splits: Mapping) -> list[str]:
  """Notes where the file's subsets are not those of our class table."""
  table, subsets = classes.imagenet_classes(), classes.subsets()
  notes = []
  for split, subset in _SPLITS.items():
    if split not in splits:
      notes.append(f"{path}: split_wnids has no {split}; ours is used alone")
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


def _study(path, content: Mapping, reviews: reviews_lib.Reviews):
  images = _labelled_images(path, content)
  if reviews.problematic.issuperset(images):
    raise errors.InputError(
      f"{path}: labeled_images: expected labelled images, got none but the"
      f" {len(images)} that image_map calls problematic"
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
        [_original(path, wnid_map, image) for image in chosen], np.int32
      ),
    )
  study = people.read_labels(
    f"{path}: annot_data", content["annot_data"], image_sets
  )
  if not outside:
    return study
  note = (
    f"{path}: {outside:,} labelled images are neither of the validation set nor"
    " in all_candidates; they are counted as of ImageNetV2"
  )
  return study._replace(notes=(*study.notes, note))


def _labelled_images(path, content: Mapping) -> list[str]:
  found = content["labeled_images"]
  where = f"{path}: labeled_images"
  if not found:
    raise errors.InputError(f"{where}: expected labelled images, got none")
  _check_texts(where, found)
  for key in ("image_map", "image_labels", "wnid_map"):
    missing = [image for image in found if image not in content[key]]
    if missing:
      raise errors.InputError(
        f"{where}: expected images of {key}, got {str(missing[0])[:80]!r} and"
        f" {len(missing) - 1} more that are not"
      )
  images = sorted(set(found))
  if len(images) < len(found):
    raise errors.InputError(
      f"{where}: expected every image once, got {len(found)} entries for"
      f" {len(images)} images"
    )
  return images


def _check_texts(where: str, ids: Collection) -> None:
  for name in ids:
    reviews_lib.check_kind(f"{where}: an id", name, str, "text")


def _original(path, wnid_map: Mapping, image: str) -> int:
  try:
    return classes.index_of(wnid_map[image])
  except (errors.InputError, TypeError) as error:
    raise errors.InputError(f"{path}: wnid_map[{image!r}]: {error}") from error
