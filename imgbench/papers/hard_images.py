"""Images that all models, all humans or both get wrong, and hard classes."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
from typing import NamedTuple

import numpy as np

from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.papers import records
from imgbench.papers.readers import people
from imgbench.tables import formats
from imgbench.tables import table

MODELS, PEOPLE, BOTH = "all_models", "all_people", "models_and_people"


class ImageRow(NamedTuple):
  """A row of mistakes.csv, see `image_rows`."""

  dataset: str
  image_id: str
  wnid: str
  class_name: str
  accepted: str
  wrong_by: str
  models: int
  models_wrong: int
  people: int
  people_wrong: int
  most_named: str | None
  named_by: int | None


class CountRow(NamedTuple):
  """A row of mistakes_by_subset.csv: images that a whole group gets wrong."""

  dataset: str
  subset: str
  wrong_by: str
  images: int
  n: int
  share: float | None


class HardClass(NamedTuple):
  """A row of hardest_classes.csv, see `class_rows`."""

  dataset: str
  class_index: int
  wnid: str
  class_name: str
  images: int
  models_accuracy: float | None
  people_accuracy: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
  """Answers of models, and of human labelers if any, on a data set.

  Attributes:
    dataset: the N images.
    codes: int8 [N, K], reviewed labels.
    models_named: integer [M, N], the class that each model names, -1 for none.
    models_right: bool [M, N].
    people_right: bool [P, N]; P may be 0.
    tells_states: whether correct labels are distinct from unclear ones.
  """

  dataset: records.Dataset
  codes: np.ndarray
  models_named: np.ndarray
  models_right: np.ndarray
  people_right: np.ndarray
  tells_states: bool = True

  def wrong_by(self) -> dict[str, np.ndarray]:
    """Returns MODELS, PEOPLE, BOTH -> bool [N], true if all are wrong.

    Groups without members are left out, and BOTH with either of them.
    """
    size = len(self.dataset)
    found = {
      name: ~right.any(axis=0)
      for name, right in (
        (MODELS, self.models_right.reshape(-1, size)),
        (PEOPLE, self.people_right.reshape(-1, size)),
      )
      if len(right)
    }
    if len(found) == 2:
      found[BOTH] = found[MODELS] & found[PEOPLE]
    return found


def image_rows(answers: Answers) -> list[ImageRow]:
  """Returns a row for each image that a whole group gets wrong.

  `accepted` are the correct labels, then the unclear ones in brackets;
  `most_named` is the class that most models name, ties going to the lowest.
  Images that models and humans get wrong come first, then by image id.
  """
  dataset, wrong = answers.dataset, answers.wrong_by()
  if not wrong:
    return []
  places = np.flatnonzero(np.any(list(wrong.values()), axis=0))
  table = classes.imagenet_classes()
  num_models, num_people = len(answers.models_right), len(answers.people_right)
  most_named = np.full(len(dataset), -1)
  if num_models:
    most_named = people.find_majority(
      list(answers.models_named), dataset.num_classes
    )
  order = [BOTH, MODELS, PEOPLE]
  rows = []
  for place in places:
    label, named = dataset.labels[place], most_named[place]
    groups = [name for name in order if name in wrong and wrong[name][place]]
    votes = int((answers.models_named[:, place] == named).sum())
    rows.append(
      ImageRow(
        dataset.name,
        str(dataset.image_ids[place]),
        table.wnids[label],
        dataset.class_names[label],
        _format_accepted(answers, place),
        groups[0],
        num_models,
        num_models - int(answers.models_right[:, place].sum()),
        num_people,
        num_people - int(answers.people_right[:, place].sum()),
        dataset.class_names[named] if named >= 0 else None,
        votes if named >= 0 else None,
      )
    )
  return sorted(rows, key=lambda row: (order.index(row.wrong_by), row.image_id))


def _format_accepted(answers: Answers, place: int) -> str:
  codes, names = answers.codes[place], answers.dataset.class_names
  style = "({})" if answers.tells_states else "{}"
  parts = [names[i] for i in np.flatnonzero(codes == annotations.CORRECT)]
  unclear = np.flatnonzero(codes == annotations.UNCLEAR)
  return "; ".join(parts + [style.format(names[i]) for i in unclear])


def count_rows(
  answers: Answers, subsets: Mapping[str, np.ndarray]
) -> list[CountRow]:
  """Returns the numbers of images that a whole group gets wrong.

  Args:
    answers: to count in.
    subsets: name -> bool [N]; an empty one has no share.
  """
  return [
    CountRow(
      answers.dataset.name,
      subset,
      name,
      int((wrong & mask).sum()),
      int(mask.sum()),
      float((wrong & mask).sum() / mask.sum()) if mask.any() else None,
    )
    for subset, mask in subsets.items()
    for name, wrong in answers.wrong_by().items()
  ]


def class_rows(answers: Answers) -> list[HardClass]:
  """Returns a row for each class with images, hardest first.

  An accuracy is the share of right (model, image) or (person, image) pairs over
  the images whose original label is the class. Classes are sorted by the
  models' accuracy, or by that of humans if there is no model.
  """
  dataset = answers.dataset
  count = np.bincount(dataset.labels, minlength=dataset.num_classes)
  accuracies = []
  for right in (answers.models_right, answers.people_right):
    hits = np.bincount(
      dataset.labels, right.sum(axis=0), minlength=dataset.num_classes
    )
    with np.errstate(invalid="ignore"):
      accuracies.append(hits / (count * len(right)) if len(right) else None)
  models, persons = accuracies
  key = models if models is not None else persons
  if key is None:
    return []
  wnids = classes.imagenet_classes().wnids
  return [
    HardClass(
      dataset.name,
      int(i),
      wnids[i],
      dataset.class_names[i],
      int(count[i]),
      None if models is None else float(models[i]),
      None if persons is None else float(persons[i]),
    )
    for i in sorted(np.flatnonzero(count), key=lambda i: (key[i], i))
  ]


def count_grid(rows: Sequence[CountRow], metric: str) -> table.Table:
  """Returns the counts as a table."""
  return table.Table(
    f"Images that all models, all humans or both get wrong ({metric})",
    (
      table.Column("dataset", "data set"),
      table.Column("subset"),
      table.Column("wrong_by", "wrong by", format=_words),
      table.number("images", format=formats.whole),
      table.number("n", "of", formats.whole),
      table.number("share", "%", formats.percent),
    ),
    rows,
  )


def _words(name: str) -> str:
  return name.replace("_", " ")


def class_grid(
  rows: Sequence[HardClass], metric: str, limit: int = 10
) -> table.Table:
  """Returns the hardest classes of each data set as a table."""
  groups = itertools.groupby(rows, lambda row: row.dataset)
  chosen = [r for _, of_set in groups for r in itertools.islice(of_set, limit)]
  shown = lambda share: "" if share is None else formats.percent(share, 1)
  columns = [
    table.Column("dataset", "data set"),
    table.Column("class_name", "class"),
    table.Column("wnid"),
    table.number("images", format=formats.whole),
    table.number("models_accuracy", "models", shown),
  ]
  if any(row.people_accuracy is not None for row in chosen):
    columns.append(table.number("people_accuracy", "humans", shown))
  return table.Table(
    f"Hardest classes: accuracy in percent ({metric})",
    columns,
    chosen,
  )
