"""Small clones of the public predictions, as the readers expect them."""

import json

import numpy as np

from imgbench.experiments.benchmarks.paper_scripts import clone
from imgbench.papers.readers import datasets

VALIDATION = datasets.VALIDATION
MATCHED_FREQUENCY = datasets.MATCHED_FREQUENCY
PLACES = {
  "dataset": "data/datasets/{}.json",
  "class_info": "data/metadata/class_info.json",
}


def labels_of(count, seed=0):
  """int64 [count], classes in any order."""
  return np.random.default_rng(seed).integers(0, 1000, count)


def ranking_of(labels, accuracy, seed=0, k=5):
  """int64 [N, k], different classes; the label is first for `accuracy`.

  Where it is not first it is at one of the other places, or at none.
  """
  rng = np.random.default_rng(seed)
  steps = rng.integers(1, 1000 // (k + 1), (len(labels), k)).cumsum(1)
  ranking = (labels[:, None] + steps) % 1000
  first = rng.random(len(labels)) < accuracy
  ranking[first, 0] = labels[first]
  place = rng.integers(1, k + 1, len(labels))
  for row in np.flatnonzero(~first & (place < k)):
    ranking[row, place[row]] = labels[row]
  return ranking


def write(folder, sets):
  """Writes a clone.

  Args:
    folder: for it.
    sets: name of a data set -> (int [N] labels, {file stem: array}).

  Returns:
    The folder.
  """
  clone.write_class_info(folder)
  (folder / "data/predictions").mkdir(parents=True)
  for name, (labels, files) in sets.items():
    ids = clone.image_ids(name, len(labels))
    clone.write_dataset(folder, name, ids, labels)
    for stem, array in files.items():
      clone.write_predictions(folder, name, stem, array)
  return folder


def small(folder, count=400):
  """Writes a clone of two sets and the models good and poor; returns it."""
  return write(
    folder,
    {
      name: (
        labels_of(count, seed),
        {
          "good": ranking_of(labels_of(count, seed), 0.9, seed),
          "poor": ranking_of(labels_of(count, seed), 0.4, seed + 1),
        },
      )
      for seed, name in enumerate((VALIDATION, MATCHED_FREQUENCY))
    },
  )


def dataset(folder, name=VALIDATION, count=20, seed=0):
  """Writes the list of images of a set alone and returns it, read."""
  ids = clone.image_ids(name, count)
  clone.write_dataset(folder, name, ids, labels_of(count, seed))
  return datasets.read(folder / PLACES["dataset"].format(name))


def change_json(path, change):
  """Rewrites a JSON file by what `change` returns, or does to it, if None."""
  content = json.loads(path.read_text())
  changed = change(content)
  path.write_text(json.dumps(content if changed is None else changed))
