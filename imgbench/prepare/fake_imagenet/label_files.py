"""The label files of a fake ImageNet: reviews, ReaL and lists of a subset."""

import functools
import json
import math
import pathlib

import numpy as np

from imgbench.labels import classes
from imgbench.prepare.fake_imagenet import plan as fake_imagenet_plan

_IMAGENET_M_SIZE = 68  # of the real one


@functools.lru_cache(maxsize=2)
def accepted_labels(seed: int) -> list[list[int]]:
  """Returns the labels that hold for each of the 50,000 images: none to three.

  In most images the original label does, by itself or with others of its ten.
  """
  labels = np.array(fake_imagenet_plan.validation_labels())
  rng = np.random.default_rng((seed, 5))
  chance = rng.random(len(labels))
  others = rng.integers(-5, 3, len(labels)).clip(0)
  # Nine numbers in random order are added to the label, modulo its ten.
  steps = np.argsort(rng.random((len(labels), 9)), axis=1) + 1
  near = labels[:, None] // 10 * 10 + (labels[:, None] + steps) % 10
  found = np.column_stack([labels, near]).tolist()
  first = np.where((chance >= 0.06) & (chance < 0.1), 1, 0)  # label is wrong
  last = np.where(chance < 0.06, 0, np.where(first, 2, 1 + others))
  return [
    row[start:stop] for row, start, stop in zip(found, first, last, strict=True)
  ]


def write_real(path: pathlib.Path, plan: fake_imagenet_plan.Plan) -> None:
  """Writes real.json: for each of 50,000 images a list of class indices."""
  path.write_text(json.dumps(accepted_labels(plan.seed)))


def write_annotations(
  path: pathlib.Path, plan: fake_imagenet_plan.Plan
) -> None:
  """Writes the keys of human_accuracy_v3.0.0.json that TFDS reads.

  All images are reviewed. The second ones of a class are problematic, so that
  every class has a good one; some of these are ImageNet-M. Images of ImageNetV2
  stand there too.
  """
  wnids = classes.imagenet_classes().wnids
  accepted = accepted_labels(plan.seed)
  reviews, problematic, mistakes = {}, {}, []
  for number, (label, _) in plan.validation_pictures.items():
    rng = np.random.default_rng((plan.seed, 6, number))
    name = fake_imagenet_plan.validation_name(number)
    bad = number in plan.problematic
    correct = [] if bad else accepted[number - 1] or [label]
    lists = _review(rng, label, correct)
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
  path.write_text(json.dumps(content))


def _review(rng, label: int, correct: list[int]) -> dict[str, list[int]]:
  """Returns three lists that share no label; the original one is in one."""
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
  path: pathlib.Path, plan: fake_imagenet_plan.Plan, percent: int
) -> None:
  """Writes file names of so much of every class: one picture at least."""
  count = math.ceil(percent / 100 * plan.train_per_class)
  names = [
    name for k in plan.labels for name, _ in plan.train_pictures(k)[:count]
  ]
  path.write_text("\n".join(names) + "\n")
