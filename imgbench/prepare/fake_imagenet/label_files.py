"""Writes the label files of a fake ImageNet: reviews, ReaL, subset lists."""

import functools
import json
import math
import pathlib

import numpy as np

from imgbench.labels import classes
from imgbench.prepare.fake_imagenet import plan as fake_imagenet_plan

_IMAGENET_M_SIZE = 68  # as in the real one


@functools.lru_cache(maxsize=2)
def draw_accepted_labels(seed: int) -> list[list[int]]:
  """Returns the correct labels of each of the 50,000 images: none to three.

  In most images they include the original label, alone or with others of the
  same ten.
  """
  labels = np.array(fake_imagenet_plan.validation_labels())
  rng = np.random.default_rng((seed, 5))
  chance = rng.random(len(labels))
  others = rng.integers(-5, 3, len(labels)).clip(0)
  # Nine numbers in random order are added to the last digit, modulo 10.
  steps = np.argsort(rng.random((len(labels), 9)), axis=1) + 1
  near = labels[:, None] // 10 * 10 + (labels[:, None] + steps) % 10
  found = np.column_stack([labels, near]).tolist()
  first = np.where((chance >= 0.06) & (chance < 0.1), 1, 0)  # label is wrong
  last = np.where(chance < 0.06, 0, np.where(first, 2, 1 + others))
  return [
    row[start:stop] for row, start, stop in zip(found, first, last, strict=True)
  ]


def write_real(
  path: pathlib.Path, plan: fake_imagenet_plan.PicturePlan
) -> None:
  """Writes real.json: a list of class indices for each of 50,000 images."""
  path.write_text(json.dumps(draw_accepted_labels(plan.seed)), encoding="utf-8")


def write_annotations(
  path: pathlib.Path, plan: fake_imagenet_plan.PicturePlan
) -> None:
  """Writes the keys of human_accuracy_v3.0.0.json that TFDS reads.

  All images are reviewed. The second image of a class is problematic, so every
  class has a good one; some of the good ones are ImageNet-M. An image of
  ImageNetV2 is included.
  """
  wnids = classes.imagenet_classes().wnids
  accepted = draw_accepted_labels(plan.seed)
  reviews, problematic, mistakes = {}, {}, []
  for number, (label, _) in plan.validation_pictures.items():
    rng = np.random.default_rng((plan.seed, 6, number))
    name = fake_imagenet_plan.validation_name(number)
    bad = number in plan.problematic
    correct = [] if bad else accepted[number - 1] or [label]
    lists = _draw_review(rng, label, correct)
    reviews[name] = {
      key: [wnids[i] for i in labels] for key, labels in lists.items() if labels
    }
    if bad:
      problematic[name] = "nothing to be seen"
    elif len(mistakes) < _IMAGENET_M_SIZE:
      mistakes.append(name)
  reviews["imagenetv2/0/0.jpeg"] = {"correct": [wnids[0]]}
  content = {
    "initial_annots": reviews,
    "problematic_images": problematic,
    "imagenet_m": mistakes,
  }
  path.write_text(json.dumps(content), encoding="utf-8")


def _draw_review(rng, label: int, correct: list[int]) -> dict[str, list[int]]:
  """Returns three disjoint lists; one contains the original label."""
  others = [i for i in rng.permutation(1000)[:8].tolist() if i not in correct]
  if label not in correct and label not in others:
    others.append(label)
  unclear = int(rng.integers(3))
  return {
    "correct": correct,
    "unclear": others[:unclear],
    "wrong": others[unclear:],
  }


def write_subset_list(
  path: pathlib.Path, plan: fake_imagenet_plan.PicturePlan, percent: int
) -> None:
  """Writes file names of a share of every class, at least one each."""
  count = math.ceil(percent / 100 * plan.train_per_class)
  names = [
    name for k in plan.labels for name, _ in plan.train_pictures(k)[:count]
  ]
  path.write_text("\n".join(names) + "\n", encoding="utf-8")
