"""Checks for clashing and absent names of classifiers."""

from collections.abc import Iterable
import pathlib

from imgbench import errors
from imgbench.papers.readers import clone
from imgbench.papers.readers import own as own_lib
from imgbench.papers.readers import people as people_lib

# Names of the majorities that `sections` adds.
PEOPLE_MAJORITY, MODELS_MAJORITY = "people_majority", "models_majority"
_OURS = (PEOPLE_MAJORITY, MODELS_MAJORITY)


def check(
  collection: clone.Collection | None,
  study: people_lib.HumanStudy | None = None,
  path: pathlib.Path | None = None,
) -> None:
  """Raises InputError if two classifiers would have one name.

  Args:
    collection: models of a clone, and yours.
    study: humans and models of human_accuracy.pickle.
    path: that file.
  """
  kinds = {} if study is None else study.kinds
  for name in _OURS:
    if name in kinds:
      expected = f"names other than {', '.join(_OURS)}"
      raise errors.InputError(f"{path}: annot_data", expected, name)
  if collection is None:
    return
  for p in (p for found in collection.predictions.values() for p in found):
    own = p.model in collection.own
    kind = kinds.get(p.model)
    if p.model in _OURS:
      expected = f"names other than {', '.join(_OURS)}"
    elif kind is not None and (own or kind != people_lib.MODEL):
      expected = f"no name of a {kind} of {path}"
    else:
      continue
    raise errors.InputError(p.path, expected, p.model, own_lib.RENAME)


def note_absent(own: Iterable[str], datasets: Iterable[str]) -> list[str]:
  """Returns a note on each of your models that lacks all data sets."""
  return [
    f"{name} is not compared with humans: it has no predictions for"
    f" {' or '.join(datasets)}"
    for name in sorted(own)
  ]


def compare_labels(
  study: people_lib.HumanStudy, collection: clone.Collection
) -> list[str]:
  """Returns a note on models that are in both the file and the clone."""
  same, differing = set(), {}
  for name, images in study.image_sets.items():
    if name not in collection.datasets:
      continue
    ids = collection.datasets[name].image_ids.tolist()
    place = {image: i for i, image in enumerate(ids)}
    if any(image not in place for image in images.image_ids):
      continue
    rows = [place[image] for image in images.image_ids]
    for p in collection.predictions[name]:
      if p.model in study.named[name]:
        same.add(p.model)
        other = p.ranking[rows, 0] != study.named[name][p.model]
        differing[p.model] = differing.get(p.model, 0) + int(other.sum())
  if not same:
    return []
  both = f"{len(same)} models are in the file of human labels and in the clone"
  most = max(differing, key=lambda model: (differing[model], model))
  if not differing[most]:
    return [f"{both}, with the same classes"]
  return [
    f"{both}; {sum(map(bool, differing.values()))} of them name another class"
    f" for some images, at most {differing[most]:,} ({most}); comparisons with"
    " humans use the file"
  ]
