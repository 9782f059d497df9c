"""Published figures on CIFAR-10.1 that combine several models.

`published` reads such a figure with its quantity as field and no data set; this
module computes ours.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import re

from imgbench.papers import comparison
from imgbench.papers import published

NUM_PUBLIC = 30  # models of the public collection

_QUANTITIES = "|".join(published.CIFAR_QUANTITIES)
_DIFFERENCE = re.compile(rf"({_QUANTITIES}) difference")
_EXTREME = re.compile(rf"(lowest|smallest|highest|largest) ({_QUANTITIES})")
_WITH_CUTOUT = "_cutout16"


def combine_models(
  figures: Iterable[published.PublishedFigure],
  ours: comparison.Ours,
  models: Sequence[str],
) -> dict[published.FigureKey, float | None]:
  """Returns our numbers for the figures that combine several models.

  These are differences between two models ("A minus B", or a model trained
  with Cutout and the same without it), the lowest and the highest of some
  ("A|B|C") or of "all 30", and the number of models.

  Args:
    figures: published ones, of any kind.
    ours: numbers of single models.
    models: the public ones present. Figures of all 30 need exactly 30.
  """
  found = {}
  for figure in figures:
    if not figure.key.dataset:
      value = _value(figure.key, ours, sorted(models))
      if value is not None:
        found[figure.key] = value
  return found


def _value(
  key: published.FigureKey, ours, models: Sequence[str]
) -> float | None:
  chosen = _choose(key.model, models)
  if chosen is None:
    return None
  if key.field == "count":
    return len(chosen)
  difference = _DIFFERENCE.fullmatch(key.field)
  extreme = _EXTREME.fullmatch(key.field)
  if not difference and not extreme:
    return None
  quantity = difference.group(1) if difference else extreme.group(2)
  dataset, field = published.CIFAR_QUANTITIES[quantity]
  values = [
    ours.get(published.FigureKey(model, dataset, key.subset, key.metric, field))
    for model in chosen
  ]
  if not values or None in values:
    return None
  if extreme:
    least = extreme.group(1) in ("lowest", "smallest")
    return min(values) if least else max(values)
  return values[0] - values[1] if len(values) == 2 else None


def _choose(text: str, models: Sequence[str]) -> Sequence[str] | None:
  if text == f"all {NUM_PUBLIC}":
    return models if len(models) == NUM_PUBLIC else None
  if text.endswith(_WITH_CUTOUT):
    return [text, text.removesuffix(_WITH_CUTOUT)]
  return re.split(r" minus |\|", text)
