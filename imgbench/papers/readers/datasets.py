"""The public evaluation sets: their images, in order, with their classes."""

import pathlib

import numpy as np

from imgbench import errors
from imgbench.labels import classes
from imgbench.labels import real
from imgbench.papers import records

VALIDATION = "imagenet-validation-original"
VALIDATION_20K = "imagenet-annotatedval20k-0"
MATCHED_FREQUENCY = "imagenetv2-b-33"
THRESHOLD = "imagenetv2-a-44"
TOP_IMAGES = "imagenetv2-c-12"
# Of published figures only.
ADVERSARIAL = "imagenet-a"
RENDITIONS = "imagenet-r"

# Names of the public folders -> titles, in the order of tables.
TITLES = {
  VALIDATION: "ImageNet validation",
  VALIDATION_20K: "ImageNet validation, 20,000 annotated",
  MATCHED_FREQUENCY: "ImageNetV2 MatchedFrequency",
  THRESHOLD: "ImageNetV2 Threshold0.7",
  TOP_IMAGES: "ImageNetV2 TopImages",
}
KNOWN = tuple(TITLES)
# Titles that need not say ImageNet.
SHORT_TITLES = {
  VALIDATION: "validation",
  VALIDATION_20K: "annotated 20,000",
  MATCHED_FREQUENCY: "MatchedFrequency",
  THRESHOLD: "Threshold0.7",
  TOP_IMAGES: "TopImages",
}

# In the order of tables, after "all".
SUBSETS = ("object", "organism", "dog", "organism_not_dog", "not_dog")

_IMAGES = "image_filenames"


def read(path: pathlib.Path) -> records.Dataset:
  """Returns the images of a set, in the order of its file.

  Args:
    path: a JSON object whose `image_filenames` is a list of [image id, WordNet
      id of the original label], as in data/datasets of the repository
      modestyachts/ImageNetV2. Other keys are ignored.

  Returns:
    Dataset of the 1,000 classes, named as the file.

  Raises:
    InputError: not such a file, no image, an image twice, an unknown class.
  """
  content = real.read_json(path)
  images = content.get(_IMAGES) if isinstance(content, dict) else None
  if not isinstance(images, list) or not images:
    wanted = f"an object whose {_IMAGES} is a list of [image id, WordNet id]"
    raise errors.InputError(path, wanted, _describe(content, images))
  for i, entry in enumerate(images):
    if not _is_pair(entry):
      where = f"{path}: {_IMAGES}[{i}]"
      raise errors.InputError(where, "[image id, WordNet id]", str(entry)[:80])
  image_ids = np.array([entry[0] for entry in images])
  _check_distinct(path, image_ids)
  subsets = classes.subsets()
  return records.Dataset(
    name=path.stem,
    image_ids=image_ids,
    labels=_labels(path, [entry[1] for entry in images]),
    class_names=classes.short_names(),
    subsets={name: subsets[name] for name in SUBSETS},
    path=path,
  )


def check_class_info(path: pathlib.Path) -> None:
  """Checks that a collection numbers the classes as this project does.

  Args:
    path: JSON list of 1,000 objects with `cid`, which is the place in the list,
      and `wnid`; class_info.json of the repository modestyachts/ImageNetV2.

  Raises:
    InputError: not such a file, or another class in one of the places.
  """
  content = real.read_json(path)
  wnids = classes.imagenet_classes().wnids
  if not isinstance(content, list) or len(content) != len(wnids):
    wanted = f"a list of {len(wnids)} classes"
    raise errors.InputError(path, wanted, _describe(content))
  for i, (entry, wnid) in enumerate(zip(content, wnids, strict=True)):
    found = entry if isinstance(entry, dict) else {}
    found = (found.get("cid"), found.get("wnid"))
    if found != (i, wnid):
      raise errors.InputError(
        f"{path}, element {i}",
        f"cid {i} and wnid {wnid} (another order of classes cannot be read)",
        f"cid {found[0]} and wnid {found[1]}",
      )


def _is_pair(entry) -> bool:
  return (
    isinstance(entry, list)
    and len(entry) == 2
    and all(isinstance(text, str) and text for text in entry)
  )


def _check_distinct(path: pathlib.Path, image_ids: np.ndarray) -> None:
  found, counts = np.unique(image_ids, return_counts=True)
  if len(found) < len(image_ids):
    given = f"{found[np.argmax(counts)]} {counts.max()} times"
    raise errors.InputError(path, "every image once", given)


def _labels(path: pathlib.Path, wnids: list[str]) -> np.ndarray:
  labels = []
  for i, wnid in enumerate(wnids):
    try:
      labels.append(classes.index_of(wnid))
    except errors.InputError as error:
      raise error.prefixed(f"{path}: {_IMAGES}[{i}]: ") from error
  return np.array(labels, np.int32)


def _describe(content, images=None) -> str:
  if isinstance(content, dict) and images is None:
    return f"an object with the keys {', '.join(content) or '(none)'}"[:200]
  value = content if images is None else images
  size = f" of {len(value)}" if hasattr(value, "__len__") else ""
  return f"a {type(value).__name__}{size}"
