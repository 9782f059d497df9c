"""Writes synthetic folders in the layout of the public collections.

They are for the benchmark of the paper scripts and for tests, which run without
the real files.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import hashlib
import json
import pathlib

import numpy as np

from imgbench.labels import classes
from imgbench.papers.readers import datasets

NUM_CLASSES = 1000

# Images per class in the public sets.
IMAGES_PER_CLASS = {
  datasets.VALIDATION: 50,
  datasets.VALIDATION_20K: 20,
  datasets.MATCHED_FREQUENCY: 10,
  datasets.THRESHOLD: 10,
  datasets.TOP_IMAGES: 10,
}
# Difficulty relative to validation, in standard deviations of the difficulty of
# images.
_HARDER = {datasets.MATCHED_FREQUENCY: 0.45, datasets.THRESHOLD: 0.15}
_RIVALS = 8


def write(
  folder: pathlib.Path, models: int, per_class: int = 50, seed: int = 0
) -> None:
  """Writes a clone of graded models that mostly fail on the same images.

  Next to data/ it writes real.json and annotations.json, which has the
  structure of human_accuracy_v3.0.0.json.

  Args:
    folder: created if missing.
    models: number of models.
    per_class: images per class in the validation set; other sets in proportion,
      with at least 1.
    seed: of all random numbers.
  """
  rng = np.random.default_rng(seed)
  write_class_info(folder)
  ids, labels, hard, rivals = {}, {}, {}, {}
  for name, size in sizes(per_class).items():
    count = size // NUM_CLASSES
    if name == datasets.VALIDATION_20K:  # A part of the validation set.
      of_class = np.arange(NUM_CLASSES)[:, None] * per_class
      part = (of_class + np.arange(count)).reshape(-1)
      ids[name] = [ids[datasets.VALIDATION][i] for i in part]
      for values in (labels, hard, rivals):
        values[name] = values[datasets.VALIDATION][part]
    else:
      labels[name] = np.repeat(np.arange(NUM_CLASSES), count)
      ids[name] = image_ids(name, len(labels[name]))
      hard[name] = rng.standard_normal(len(labels[name]))
      hard[name] += _HARDER.get(name, 0.0)
      gaps = rng.integers(1, NUM_CLASSES // _RIVALS, (len(hard[name]), _RIVALS))
      rivals[name] = (labels[name][:, None] + gaps.cumsum(1)) % NUM_CLASSES
    write_dataset(folder, name, ids[name], labels[name])
  for number, strength in enumerate(np.linspace(-0.2, 1.3, models)):
    for name in IMAGES_PER_CLASS:
      ranking = _ranking(labels[name], rivals[name], strength - hard[name], rng)
      write_predictions(folder, name, f"model_{number:02}", ranking)
  name = datasets.VALIDATION
  _write_real(folder, ids[name], labels[name], rivals[name], rng)
  name = datasets.VALIDATION_20K
  _write_annotations(folder, ids[name], labels[name], rivals[name], rng)


def sizes(per_class: int) -> dict[str, int]:
  """Returns the number of images that `write` gives each set."""
  return {
    name: NUM_CLASSES * max(1, count * per_class // 50)
    for name, count in IMAGES_PER_CLASS.items()
  }


def image_ids(dataset: str, count: int) -> list[str]:
  """Returns ids like those of the public sets."""
  if dataset in (datasets.VALIDATION, datasets.VALIDATION_20K):
    return [f"ILSVRC2012_val_{i + 1:08}.JPEG" for i in range(count)]
  return [
    hashlib.sha1(f"{dataset} {i}".encode()).hexdigest() for i in range(count)
  ]


def write_class_info(folder: pathlib.Path) -> None:
  """Writes data/metadata/class_info.json."""
  table = classes.imagenet_classes()
  _write_json(
    folder / "data" / "metadata" / "class_info.json",
    [
      {"cid": i, "wnid": wnid, "synset": names.split(", "), "gloss": ""}
      for i, (wnid, names) in enumerate(
        zip(table.wnids, table.names, strict=True)
      )
    ],
  )


def write_dataset(
  folder: pathlib.Path, name: str, ids: Sequence[str], labels: Sequence[int]
) -> None:
  """Writes data/datasets/<name>.json."""
  wnids = classes.imagenet_classes().wnids
  images = [[i, wnids[k]] for i, k in zip(ids, labels, strict=True)]
  _write_json(
    folder / "data" / "datasets" / f"{name}.json", {"image_filenames": images}
  )


def write_predictions(
  folder: pathlib.Path, dataset: str, model: str, ranking: np.ndarray
) -> pathlib.Path:
  """Writes data/predictions/<dataset>/<model>.npy and returns its path."""
  path = folder / "data" / "predictions" / dataset / f"{model}.npy"
  path.parent.mkdir(parents=True, exist_ok=True)
  np.save(path, ranking)
  return path


def _ranking(labels, rivals, margin, rng) -> np.ndarray:
  """Returns int64 [N, 5], with the label ranked higher for larger margins.

  Args:
    labels: int [N].
    rivals: int [N, 8], distinct other classes per image.
    margin: float [N], strength of the model minus difficulty of the image.
    rng: generator.
  """
  noisy = margin + 0.5 * rng.standard_normal(len(labels))
  # First above 0, then one place lower for every 0.35.
  place = np.clip(np.ceil(-noisy / 0.35), 0, 5).astype(int)
  order = np.argsort(rng.random(rivals.shape) + np.arange(_RIVALS) / 4, axis=1)
  others = np.take_along_axis(rivals, order, axis=1)
  columns = np.arange(5)[None, :]
  after = columns > place[:, None]
  ranking = np.where(after, others[:, columns[0] - 1], others[:, :5])
  ranking = np.where(columns == place[:, None], labels[:, None], ranking)
  return ranking.astype(np.int64)


def _write_real(folder, ids, labels, rivals, rng) -> None:
  sets: list[list[int]] = [[] for _ in ids]
  more = rng.choice(4, len(ids), p=[0.06, 0.78, 0.12, 0.04])
  for name, label, rival, count in zip(ids, labels, rivals, more, strict=True):
    # Empty, the label alone, or some of its rivals with it.
    found = [int(label), *map(int, rival)][:count]
    sets[int(name[15:23]) - 1] = found
  _write_json(folder / "real.json", sets)


def _write_annotations(folder, ids, labels, rivals, rng) -> None:
  wnids = classes.imagenet_classes().wnids
  states = ("correct", "wrong", "unclear")
  drawn = rng.choice(3, rivals.shape, p=[0.15, 0.8, 0.05])
  initial = {}
  for i, name in enumerate(ids):
    found: Mapping[str, list[str]] = {"correct": [wnids[labels[i]]]}
    # The last two rivals have not been reviewed.
    for rival, state in zip(rivals[i, :-2], drawn[i], strict=False):
      found.setdefault(states[state], []).append(wnids[rival])
    initial[name] = found
  chosen = [ids[i] for i in rng.permutation(len(ids))]
  _write_json(
    folder / "annotations.json",
    {
      "initial_annots": initial,
      "problematic_images": dict.fromkeys(chosen[: len(ids) // 16], "drawn"),
      "imagenet_m": chosen[-68:],
    },
  )


def _write_json(path: pathlib.Path, value) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value), encoding="utf-8")
