"""Small files of reviewed mistakes and of their images."""

import json
import pathlib

import numpy as np

from imgbench.labels import classes
from imgbench.papers import records

FINE = "Fine-grained error"
OOV = "Fine-grained error with OOV"
SPURIOUS = "Spurious Correlation"


def name(number: int) -> str:
  return f"ILSVRC2012_val_{number:08d}.JPEG"


def entry(prediction, category, severity) -> dict:
  return {
    "top_prediction": prediction,
    "failure category": category,
    "failure severity": severity,
  }


# On a data set in which every label but that of image 3 is 0.
ENTRIES = {
  name(9): entry(3, SPURIOUS, "Major"),
  name(2): entry(1, FINE, "Minor"),
  name(1): entry(1, OOV, "Borderline"),
  name(4): entry(2, "Fine-grained with OOV", "Borderline"),
}
OTHERS = {
  name(9): entry(3, SPURIOUS, "Minor"),
  name(2): entry(7, FINE, "Minor"),
  name(1): entry(1, FINE, "Borderline"),
  name(3): entry(1, FINE, "Major"),
}
LABELS = {1: 0, 2: 0, 3: 600, 4: 0, 9: 0}


def dataset(labels: dict[int, int]) -> records.Dataset:
  return records.Dataset(
    name="imagenet-validation-original",
    image_ids=np.array([name(number) for number in labels]),
    labels=np.array(list(labels.values()), np.int32),
    class_names=classes.short_names(),
    subsets=classes.subsets(),
    path=pathlib.Path("val.json"),
  )


def write(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """Writes a clone and the file of its images; returns both paths."""
  repo = folder / "imagenet-mistakes"
  (repo / "metadata").mkdir(parents=True)
  wnids = classes.imagenet_classes().wnids
  for file, content in {
    "vit3b_mistakes": ENTRIES,
    "greedy_soups_mistakes": OTHERS,
    "class_confusion_wnids": [
      [wnids[0], wnids[1], 2],
      [wnids[0], wnids[2], 1],
      [wnids[0], wnids[3], 4],
    ],
  }.items():
    path = repo / "metadata" / f"{file}.json"
    path.write_text(json.dumps(content))
  images = [[name(number), wnids[label]] for number, label in LABELS.items()]
  path = folder / "imagenet-validation-original.json"
  path.write_text(json.dumps({"image_filenames": images}))
  return repo, path
