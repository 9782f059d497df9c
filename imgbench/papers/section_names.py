"""Names of classifiers side by side: which clash and which are absent."""

from collections.abc import Iterable
import pathlib

from imgbench import errors
from imgbench.papers.readers import clone
from imgbench.papers.readers import people as people_lib

# Of the rows that are made here.
PEOPLE_MAJORITY, MODELS_MAJORITY = "people_majority", "models_majority"
_OURS = (PEOPLE_MAJORITY, MODELS_MAJORITY)


def check(
  collection: clone.Collection | None,
  study: people_lib.HumanStudy | None = None,
  path: pathlib.Path | None = None,
) -> None:
  """Raises InputError for names that would stand for two classifiers.

  Args:
    collection: models of a clone, and one's own.
    study: classifiers of the file of people's labels.
    path: that file.
  """
  kinds = {} if study is None else study.kinds
  for name in _OURS:
    if name in kinds:
      raise errors.InputError(
        f"{path}: annot_data: expected no classifier {name}, which is what a"
        " majority is called here"
      )
  if collection is None:
    return
  for p in (p for found in collection.predictions.values() for p in found):
    own = p.model in collection.own
    kind = kinds.get(p.model)
    if p.model in _OURS:
      taken = "as a majority is called here"
    elif kind is not None and (own or kind != people_lib.MODEL):
      taken = f"as a {kind} of {path} is called"
    else:
      continue
    source = "--predictions" if own else "the clone"
    raise errors.InputError(
      f"{p.path}: {source} has a model {p.model}, {taken}; give it another name"
    )


def note_absent(own: Iterable[str], datasets: Iterable[str]) -> list[str]:
  """Returns a note on each of one's own models that lacks all data sets."""
  return [
    f"{name} does not stand beside people: it has no predictions of"
    f" {' or '.join(datasets)}"
    for name in sorted(own)
  ]


def compare_labels(
  study: people_lib.HumanStudy, collection: clone.Collection
) -> list[str]:
  """Returns a note on models that the file and the clone call alike."""
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
  both = (
    f"{len(same)} models are in the file of people's labels and in the clone"
  )
  most = max(differing, key=lambda model: (differing[model], model))
  if not differing[most]:
    return [f"{both} and name the same classes in both"]
  return [
    f"{both}; {sum(map(bool, differing.values()))} of them name another class"
    f" for some images, at most {differing[most]:,} ({most}); beside people the"
    " file's labels are used"
  ]
