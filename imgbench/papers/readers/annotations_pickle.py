"""human_accuracy.pickle: reviewed labels, and the answers of human labelers.

The file of the repository modestyachts/evaluating_machine_accuracy_on_imagenet.
Unpickling runs code that a file names, so a child process reads the file, with
an unpickler that knows nothing but plain containers, strings and numbers. The
structure is the one that the repository's human_accuracy.py, utils.py and
notebooks use:

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

from collections.abc import Collection
from collections.abc import Mapping
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from typing import Any

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

_COLLECTIONS = (list, tuple, set, frozenset, dict)
_KINDS = {kind.__name__: kind for kind in _COLLECTIONS}
_CHILD = pathlib.Path(__file__).with_name("unpickle_child.py")
_MIB = 2**20
# split_wnids -> our subset, to compare the classes of.
_SPLITS = {
  ("object",): "object",
  ("organism",): "organism",
  ("organism", "dog"): "dog",
}


def load(path: str | os.PathLike[str]) -> Any:
  """Returns the content of a pickle of plain data.

  A child process reads it, see `unpickle_child`, within limits that grow with
  the size of the file.

  Args:
    path: a pickle of dictionaries (also ordered and default ones, which become
      plain ones), lists, tuples, sets, strings, bytes, numbers, booleans and
      None.

  Raises:
    InputError: no such file, not a pickle, one that takes too much memory or
      time, or one that names anything else: a function, another class, a NumPy
      type. Nothing that it names is imported or called.
  """
  path = pathlib.Path(path)
  if path.exists() and not path.is_file():
    raise errors.InputError(path, "a pickle", "no regular file")
  lfs.check(path, "a pickle")
  try:
    return _decode(json.loads(_read_in_child(path)))
  except (OSError, RecursionError, ValueError) as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    raise errors.InputError(
      path, "a pickle of plain containers, strings and numbers", reason
    ) from error


def _read_in_child(path: pathlib.Path) -> bytes:
  """Returns what `unpickle_child` prints for a file; ValueError: why not."""
  size = path.stat().st_size
  # A pickle of dictionaries takes about 13 times its size in memory, thrice its
  # size as JSON, and 0.2 s of CPU time per MiB.
  memory, most = 512 * _MIB + 64 * size, 4 * _MIB + 16 * size
  cpu_s = 1 + 2 * size // _MIB
  command = [sys.executable, "-I", "-S", _CHILD, memory, cpu_s, most]
  with (
    path.open("rb") as file,
    subprocess.Popen(
      list(map(str, command)),
      stdin=file,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
    ) as child,
  ):
    # CPU time does not pass while the child waits for a file system.
    watchdog = threading.Timer(30 + 10 * cpu_s, child.kill)
    watchdog.start()
    try:
      text = child.stdout.read(most + 1)
      if len(text) > most:
        child.kill()
      code = child.wait()
    finally:
      watchdog.cancel()
  if code == -signal.SIGXCPU:
    raise ValueError(f"one that takes more than {cpu_s} s of CPU time")
  if code < 0:
    raise ValueError(f"one whose reading ended by {signal.Signals(-code).name}")
  if code:
    raise ValueError(text.decode())
  return text


def _decode(value: Any) -> Any:
  """Returns what `unpickle_child.encode` encoded."""
  if isinstance(value, dict):
    return {key: _decode(each) for key, each in value.items()}
  if not isinstance(value, list):
    return value
  kind, *items = value
  if kind == "bytes":
    return items[0].encode("latin-1")
  items = list(map(_decode, items))
  if kind == "dict":
    return dict(zip(items[::2], items[1::2], strict=True))
  return _KINDS[kind](items)


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
  originals = {image: wnid_map[image] for image in images}
  image_sets = people.split_images(
    f"{path}: wnid_map", originals, reviews.problematic
  )
  candidates = set(content["all_candidates"])
  others = image_sets[datasets.MATCHED_FREQUENCY].image_ids
  outside = sum(image not in candidates for image in others)
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
