"""Opens the data sets that predictions are scored on: labels, mostly no images.

A set is one of `evaluation.sets` of a config, by its alias, or NAME:SPLIT of
TFDS. Its labels are those that TFDS prepared in `data_dir`, else those of
public repositories and files, else those of a label file.
"""

from collections.abc import Callable
from collections.abc import Sequence
import csv
import dataclasses
import hashlib
import pathlib

import numpy as np

from imgbench import config as config_lib
from imgbench import data
from imgbench import errors
from imgbench import registry
from imgbench.data import source
from imgbench.labels import classes
from imgbench.labels import label_errors
from imgbench.labels import masks
from imgbench.labels import review_table
from imgbench.papers import own_sets
from imgbench.papers import records
from imgbench.papers.readers import cifar
from imgbench.papers.readers import datasets
from imgbench.papers.readers import real_sets
from imgbench.papers.readers import reviews as reviews_lib
from imgbench.score import files

_TYPES = {source.REVIEWED: "multilabel", source.REAL: "real"}


@dataclasses.dataclass(frozen=True)
class Places:
  """Places of labels.

  Attributes:
    clones: of modestyachts/ImageNetV2 and modestyachts/CIFAR-10.1.
    labels: label file of the set, or "".
    real: real.json of google-research/reassessed-imagenet, or None.
    annotations: human_accuracy_v3.0.0.json or a CSV table, or None.
    class_names: text file with the name of a class on each line, or None.
  """

  clones: Sequence[pathlib.Path]
  labels: str
  real: str | None = None
  annotations: str | None = None
  class_names: str | None = None

  @property
  def imagenet(self) -> pathlib.Path | None:
    """The clone of ImageNetV2, if there is one."""
    return self._find_clone("data/datasets")

  @property
  def cifar(self) -> pathlib.Path | None:
    """The clone of CIFAR-10.1, if there is one."""
    return self._find_clone("model_predictions")

  def _find_clone(self, folder: str) -> pathlib.Path | None:
    return next((c for c in self.clones if (c / folder).is_dir()), None)

  def check(self) -> None:
    """Raises InputError for a clone of neither repository."""
    for clone in self.clones:
      if clone not in (self.imagenet, self.cifar):
        expected = "one clone each of ImageNetV2 and CIFAR-10.1"
        raise errors.InputError("--repo", expected, clone)


@dataclasses.dataclass(frozen=True, eq=False)
class OpenSet:
  """A set whose labels are not read yet.

  Attributes:
    name: as the user gave it, e.g. "val".
    entry: of the config.
    info: of the split; None until the number of classes is known.
    read: (number of classes, whether it may be more) -> info and examples.
    images: source of the images, or None.
  """

  name: str
  entry: config_lib.EvaluationSet
  info: source.Info | None
  read: Callable[[int, bool], tuple[source.Info, source.Examples]]
  images: source.AnySource | None = None

  @property
  def class_texts(self) -> list[Sequence[str]]:
    """Texts that name the classes; none if the classes are not known."""
    if self.info is None:
      return []
    found = [self.info.class_names]
    if self.info.class_names == classes.short_names():
      table = classes.imagenet_classes()
      found += [table.wnids, table.names]
    return found


def find_entry(
  name: str, config: config_lib.Config, with_labels: bool
) -> config_lib.EvaluationSet:
  """Returns the entry of a set.

  Args:
    name: an alias of `evaluation.sets`, or NAME:SPLIT; the default split is
      "test".
    config: of the aliases.
    with_labels: whether there is a label file, so that any NAME will do.

  Raises:
    InputError: neither an alias nor a name with a colon or labels.
  """
  aliases = config.evaluation.sets
  if name in aliases and not with_labels:
    return aliases[name]
  base, colon, split = name.rpartition(":")
  base, split = (base, split) if colon else (name, "test")
  known = {*aliases, *(key.partition(":")[0] for key in own_sets.PUBLIC_NAMES)}
  is_name = colon or with_labels or base in known
  if not (is_name and base and split):
    expected = f"NAME:SPLIT, or one of {', '.join(aliases)}"
    near = registry.suggest_near(name, known)
    raise errors.InputError("--dataset", expected, repr(name), near)
  same = base == config.data.name
  return config_lib.EvaluationSet(
    name=base,
    split=split,
    type="classification",
    data_dir=config.data.data_dir,
    options=config.data.options if same else {},
    every="never",
  )


def open_set(name: str, config: config_lib.Config, places: Places) -> OpenSet:
  """Opens a set; reads a label file only once the classes are known.

  Raises:
    InputError: an unknown set, no labels of it, or files that are refused.
  """
  entry = find_entry(name, config, bool(places.labels))
  key = f"{entry.name.replace('/', '-')}:{entry.split}"
  public = own_sets.PUBLIC_NAMES.get(key)
  if public in cifar.KNOWN and (
    places.labels or (places.cifar and not entry.data_dir)
  ):
    return _open_dataset(name, entry, _read_cifar(public, places))
  if places.labels:
    return _open_labels(name, entry, places)
  if entry.data_dir or entry.name in data.SOURCES:
    found = data.open_split(
      "--dataset",
      name,
      name=entry.name,
      split=entry.split,
      data_dir=entry.data_dir,
      options=entry.options,
    )
    if name not in config.evaluation.sets:
      kind = _TYPES.get(found.info.label_set or "", entry.type)
      entry = dataclasses.replace(entry, type=kind)
    return _open_source(name, entry, found)
  clone = places.imagenet
  if public in datasets.KNOWN and clone is not None:
    folder = clone / "data" / "datasets"
    path = folder / f"{public}.json"
    if public == datasets.VALIDATION_20K and not path.exists():
      path = folder / f"{datasets.VALIDATION}.json"  # It has these images, too.
    images = datasets.read(path)
    return _open_dataset(name, entry, images, places)
  raise errors.InputError(
    f"--dataset={name}",
    "labels of the set",
    "none",
    "give --data_dir, --repo or --labels",
  )


def correct_labels(opened: OpenSet, path: str) -> OpenSet:
  """Returns a set of type "classification" with labels of `label_errors`.

  Raises:
    InputError: another type.
  """
  expected, kind = 'a first set of type "classification"', opened.entry.type
  errors.check(kind == "classification", "--label_errors", expected, kind)

  def read(num_classes: int, may_be_more: bool):
    info, found = opened.read(num_classes, may_be_more)
    codes, left_out = label_errors.read_codes(
      path, found.image_id, found.label, info.num_classes
    )
    return (
      dataclasses.replace(info, label_set=source.CORRECTED),
      dataclasses.replace(found, label_codes=codes, left_out=left_out),
    )

  return dataclasses.replace(opened, read=read)


def _open_source(name, entry, found: source.AnySource) -> OpenSet:
  def read(num_classes: int, may_be_more: bool):
    del num_classes, may_be_more
    streamed = isinstance(found, source.EncodedSource)
    return found.info, found.examples() if streamed else found.load()

  return OpenSet(name, entry, found.info, read, found)


def _read_cifar(public: str, places: Places) -> records.Dataset:
  path = places.labels
  if not path and public in cifar.LABELS:
    path = places.cifar / "datasets" / cifar.LABELS[public]
  if not path:
    expected = "the labels of CIFAR-10's test set, which the clone lacks"
    raise errors.InputError("--labels", expected, "none")
  return cifar.read_dataset(public, pathlib.Path(path))


def _open_dataset(
  name: str,
  entry: config_lib.EvaluationSet,
  images: records.Dataset,
  places: Places | None = None,
) -> OpenSet:
  """Opens a set of a public repository."""
  sets: dict[str, np.ndarray] = {}
  label_set = None
  if entry.type == "real":
    path = _need(places.real, "--real", "real.json of reassessed-imagenet")
    found = real_sets.read(path, {images.name: images})[images.name]
    sets = {"label_codes": found.codes, "left_out": found.left_out}
    label_set = source.REAL
  elif entry.type == "multilabel":
    path = _need(
      places.annotations, "--annotations", "human_accuracy_v3.0.0.json"
    )
    if images.name in (datasets.VALIDATION, datasets.VALIDATION_20K):
      images, sets = _review(images, reviews_lib.read(path), entry.split)
    else:  # As in a run: all images, those without reviews left out.
      codes, left_out = review_table.read_codes(path, images.image_ids)
      sets = {"label_codes": codes, "left_out": left_out}
    label_set = source.REVIEWED
  imagenet = images.class_names == classes.short_names()
  info = _describe(
    entry,
    images.labels,
    images.class_names,
    # In the order of `data.encoded`.
    subsets=classes.subsets() if imagenet else {},
    label_set=label_set,
  )
  examples = source.Examples(None, images.labels, images.image_ids, **sets)
  return OpenSet(name, entry, info, lambda *_: (info, examples))


def _need(path: str | None, flag: str, expected: str) -> pathlib.Path:
  errors.check(bool(path), flag, expected, "none")
  return pathlib.Path(path)


def _review(images, reviews, split: str):
  """Returns the annotated images, and their labels as TFDS has them."""
  in_m = reviews.imagenet_m
  wanted = reviews.labels if split == "validation" else in_m
  errors.check(wanted is not None, reviews.path, "imagenet_m's images", "none")
  chosen = [image in wanted for image in images.image_ids.tolist()]
  expected = f"annotated images of {images.name}"
  errors.check(any(chosen), reviews.path, expected, 0)
  images = dataclasses.replace(
    images, image_ids=images.image_ids[chosen], labels=images.labels[chosen]
  )
  ids = images.image_ids.tolist()
  return images, {
    "label_codes": reviews_lib.build_codes(
      reviews.labels, ids, images.num_classes
    ),
    "left_out": np.array([i in reviews.problematic for i in ids]),
    "in_imagenet_m": np.array([i in in_m for i in ids]) if in_m else None,
  }


def _describe(entry, labels: np.ndarray, names, **more) -> source.Info:
  return source.Info(
    name=entry.name.replace("/", "-"),
    split=entry.split,
    num_examples=len(labels),
    image_shape=(None, None, 3),
    class_names=tuple(names),
    fingerprint=hashlib.sha256(labels.tobytes()).hexdigest()[:16],
    **more,
  )


def _open_labels(name, entry, places: Places) -> OpenSet:
  path, names = pathlib.Path(places.labels), ()
  if places.class_names:
    names = tuple(files.read_texts(pathlib.Path(places.class_names)))
    errors.check(bool(names), "--class_names", "at least one name", "none")
    expected, given = f"{len(names)} different names", len(set(names))
    errors.check(given == len(names), "--class_names", expected, given)
  labels, image_ids = _read_labels(path)

  def read(num_classes: int, may_be_more: bool):
    if may_be_more and not names:
      most = max((int(x) for x in labels if x.isdecimal()), default=0)
      num_classes = max(num_classes, min(most, 2**20) + 1)
    num_classes = len(names) or num_classes
    known = {text: {index} for index, text in enumerate(names)}
    found = np.array(
      [
        masks.find_class(f"{path}, label {row}", text, known, num_classes)
        for row, text in enumerate(labels)
      ],
      np.int32,
    )
    # Without ids the places in the file, which no other file can match.
    ids = image_ids or [f"{path.name}_{i}" for i in range(len(found))]
    class_names = names or [f"class {i}" for i in range(num_classes)]
    info = _describe(entry, found, class_names)
    return info, source.Examples(None, found, np.array(ids))

  info = None
  if names:
    info = read(len(names), False)[0]
  return OpenSet(name, entry, info, read)


def _read_labels(path: pathlib.Path) -> tuple[list[str], list[str] | None]:
  """Returns the labels of a file as texts, and image ids if it has them."""
  lines = files.read_texts(path)
  if path.suffix.lower() != ".csv":
    return [line.strip() for line in lines], None
  header, *rows = list(csv.reader(lines)) or [[]]
  ids = [i for i, column in enumerate(header) if column in files.IDS]
  if "label" not in header or any(len(row) != len(header) for row in rows):
    expected = f"a column label, perhaps one of {', '.join(files.IDS)}"
    raise errors.InputError(path, expected, ",".join(header)[:80] or "none")
  place = header.index("label")
  image_ids = [row[ids[0]] for row in rows] if ids else None
  if image_ids is not None:
    distinct = len(set(image_ids))
    expected = "every image once"
    given = f"{len(rows):,} lines of {distinct:,} images"
    errors.check(distinct == len(rows), path, expected, given)
  return [row[place].strip() for row in rows], image_ids
