"""Public predictions of many models, read from a clone of their repository.

The layout is that of modestyachts/ImageNetV2: data/datasets/<dataset>.json,
data/predictions/<dataset>/<model>.npy and data/metadata/class_info.json.
"""

from collections.abc import Collection as Names
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
import dataclasses
import math
import os
import pathlib

import numpy as np

from imgbench import cpus
from imgbench import errors
from imgbench import registry
from imgbench.metrics import outcomes
from imgbench.papers import records
from imgbench.papers.readers import datasets as datasets_lib
from imgbench.papers.readers import lfs
from imgbench.papers.readers import own as own_lib
from imgbench.papers.readers import predictions as predictions_lib

URL = "https://github.com/modestyachts/ImageNetV2"

_DATASETS = pathlib.Path("data", "datasets")
_PREDICTIONS = pathlib.Path("data", "predictions")
CLASS_INFO = pathlib.Path("data", "metadata", "class_info.json")
_SUFFIX = "_model"
_NAMES = f"names without a trailing {_SUFFIX}"
_CLONE = f"run `git clone --depth=1 {URL}`"
_DATA = f"a file of {URL}"
# The rows of your model are most likely in another order if it is right at most
# this many times as often as by guessing.
_GUESSING = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Collection:
  """Data sets and the predictions of many models for them.

  Attributes:
    datasets: those present by name, in the order of `datasets.KNOWN`.
    predictions: of each of these data sets, sorted by the name of the model.
    own: names of the models that were given by flags.
    notes: for readers of the numbers, one line each.
    files: all that were read.
  """

  datasets: Mapping[str, records.Dataset]
  predictions: Mapping[str, tuple[records.RankedPredictions, ...]]
  own: frozenset[str]
  notes: tuple[str, ...]
  files: tuple[pathlib.Path, ...]


def read(
  repo: str | os.PathLike[str],
  *,
  datasets: Sequence[str] = datasets_lib.KNOWN,
  own: Sequence[str] = (),
  allow_reversed: Sequence[str] = (),
) -> Collection:
  """Returns a clone's predictions for some data sets, and your models'.

  A data set needs its list of images, and predictions in the clone or in `own`.
  A file whose last column is right far more often than its first is left out,
  with a note.

  Args:
    repo: folder of the clone.
    datasets: names in `datasets.KNOWN`, at least one of them present.
    own: texts MODEL@DATASET=FILE, see `own`.
    allow_reversed: models whose reversed files are read from the last column to
      the first; their other files stay as they are.

  Raises:
    InputError: no such clone or an incomplete one, none of the data sets, two
      files of one model, a file that is refused (see `datasets`, `predictions`
      and `own`), or a flag that names an unknown data set or model.
  """
  repo = pathlib.Path(repo)
  for name in datasets:
    if name not in datasets_lib.KNOWN:
      wanted = f"some of {', '.join(datasets_lib.KNOWN)}"
      raise errors.InputError("datasets", wanted, repr(name))
  specs = [own_lib.parse(text) for text in own]
  allow_reversed = tuple(dict.fromkeys(allow_reversed))
  public = _find_public(repo, datasets)
  read_sets = _read_datasets(repo, datasets, public, specs)
  _check_models(public, specs, allow_reversed)
  jobs = [
    (path, dataset, model)
    for name, dataset in read_sets.items()
    for model, path in public.get(name, {}).items()
  ]
  # More threads than processors would only keep more files in memory.
  workers = min(cpus.count_cpus(), 8)
  with futures.ThreadPoolExecutor(workers) as pool:
    found = list(pool.map(lambda job: _read_file(*job), jobs))
  found += [own_lib.read(spec, read_sets) for spec in specs]
  notes = _note_folders(repo, datasets, public, read_sets)
  kept = _orient(found, read_sets, allow_reversed, notes)
  own_models = frozenset(spec.model for spec in specs)
  by_set = {
    name: tuple(
      sorted((p for p in kept if p.dataset == name), key=lambda p: p.model)
    )
    for name in read_sets
  }
  notes += note_missing(found, read_sets)
  notes += note_own(kept, read_sets, own_models)
  files = [repo / CLASS_INFO, *(d.path for d in read_sets.values())]
  files += [p.path for p in found]
  # A file of yours may serve two data sets.
  files = tuple(dict.fromkeys(files))
  return Collection(read_sets, by_set, own_models, tuple(notes), files)


def _find_public(
  repo: pathlib.Path, datasets: Iterable[str]
) -> dict[str, dict[str, pathlib.Path]]:
  """Returns data set -> model -> file, of the folders that exist."""
  if not (repo / _PREDICTIONS).is_dir() or not (repo / _DATASETS).is_dir():
    wanted = f"a folder with {_DATASETS} and {_PREDICTIONS}"
    raise errors.InputError("--repo", wanted, repo, _CLONE)
  return {
    name: _find_models(repo / _PREDICTIONS / name)
    for name in datasets_lib.KNOWN
    if name in datasets and (repo / _PREDICTIONS / name).is_dir()
  }


def _find_models(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  models: dict[str, pathlib.Path] = {}
  for path in sorted(folder.glob("[!.]*.npy")):
    model = path.stem.removesuffix(_SUFFIX)
    if not model:
      raise errors.InputError(path, "a model's name", repr(path.stem))
    if model in models:
      raise errors.InputError(
        folder,
        f"one file of model {model} ({_NAMES})",
        f"{models[model].name} and {path.name}",
        "move one away",
      )
    models[model] = path
  return models


def _read_datasets(
  repo: pathlib.Path,
  names: Names[str],
  public: Mapping[str, Mapping[str, pathlib.Path]],
  specs: Sequence[own_lib.Spec],
) -> dict[str, records.Dataset]:
  wanted = {name for name, models in public.items() if models}
  for spec in specs:
    own_lib.check_dataset(spec, names)
    wanted.add(spec.dataset)
  if not wanted:
    wanted = f"a clone with predictions (.npy) for one of {', '.join(names)}"
    raise errors.InputError("--repo", wanted, repo, _CLONE)
  lfs.check(repo / CLASS_INFO, _DATA)
  datasets_lib.check_class_info(repo / CLASS_INFO)
  found = {}
  for name in datasets_lib.KNOWN:
    if name in wanted:
      path = repo / _DATASETS / f"{name}.json"
      lfs.check(path, _DATA)
      found[name] = datasets_lib.read(path)
  return found


def _check_models(
  public: Mapping[str, Mapping[str, pathlib.Path]],
  specs: Sequence[own_lib.Spec],
  allow_reversed: Iterable[str],
) -> None:
  """Raises InputError for names that clash or are unknown."""
  models = {model for files in public.values() for model in files}
  _check_own(models, specs)
  models |= {spec.model for spec in specs}
  for model in allow_reversed:
    if model not in models:
      near = registry.near_names(model, models)
      raise errors.InputError("--allow_reversed", "a model", model, near)


def _check_own(models: Names[str], specs: Sequence[own_lib.Spec]) -> None:
  spelled, seen = {}, set()
  for spec in specs:
    name = spec.model.removesuffix(_SUFFIX)
    if name in models or spec.model in models:
      wanted = f"a model that the clone does not have ({_NAMES})"
      raise errors.InputError(spec.flag, wanted, spec.model, own_lib.RENAME)
    if spelled.setdefault(name, spec.model) != spec.model:
      wanted = f"one spelling of a model ({_NAMES})"
      given = f"{spelled[name]} and {spec.model}"
      raise errors.InputError(spec.flag, wanted, given)
    if (spec.model, spec.dataset) in seen:
      wanted = f"one file of {spec.model} for {spec.dataset}"
      raise errors.InputError(spec.flag, wanted, "two")
    seen.add((spec.model, spec.dataset))


def _read_file(
  path: pathlib.Path, dataset: records.Dataset, model: str
) -> records.RankedPredictions:
  lfs.check(path, _DATA)
  return predictions_lib.read_ranking(path, dataset, model)


def _orient(
  found: Iterable[records.RankedPredictions],
  datasets: Mapping[str, records.Dataset],
  allow_reversed: Names[str],
  notes: list[str],
) -> list[records.RankedPredictions]:
  """Returns rankings best first, reversed if that is allowed; adds notes."""
  kept, turned = [], set()
  for p in found:
    dataset = datasets[p.dataset]
    if predictions_lib.seems_reversed(p, dataset):
      first, last = predictions_lib.count_end_hits(p, dataset)
      what = (
        f"{p.dataset}: {p.path.name} is stored worst first (its first column is"
        f" right for {first} images, its last for {last})"
      )
      if p.model not in allow_reversed:
        notes.append(
          f"{what} and is left out; --allow_reversed={p.model} reads its"
          " columns from last to first"
        )
        continue
      notes.append(
        f"{what}: its columns are read from last to first, as"
        f" --allow_reversed={p.model} allows"
      )
      p = predictions_lib.reverse_columns(p)
      turned.add(p.model)
    kept.append(_trim(p))
  notes += [
    f"--allow_reversed={model}: none of its files is stored worst first"
    for model in allow_reversed
    if model not in turned
  ]
  return kept


def _trim(p: records.RankedPredictions) -> records.RankedPredictions:
  """Returns the first 5 columns, all that any metric uses."""
  if p.ranking.shape[1] <= outcomes.TOP:
    return p
  ranking = np.ascontiguousarray(p.ranking[:, : outcomes.TOP])
  return dataclasses.replace(p, ranking=ranking)


def _note_folders(repo, datasets, public, read_sets) -> list[str]:
  folders = {
    path.name for path in (repo / _PREDICTIONS).iterdir() if path.is_dir()
  }
  notes = []
  others = folders - {*datasets_lib.KNOWN}
  if others:
    word = _count(others, "other folder", "other folders")
    notes.append(f"{_PREDICTIONS} has {word}: not read")
  absent = [name for name in datasets if name not in read_sets]
  if absent:
    notes.append(f"no predictions of {', '.join(absent)} in {_PREDICTIONS}")
  for name, models in public.items():
    files = [p for p in (repo / _PREDICTIONS / name).iterdir() if p.is_file()]
    strange = [p for p in files if p not in models.values()]
    strange = [p.name for p in strange if not p.name.startswith(".")]
    if strange:
      files = _count(strange, "file that does", "files that do")
      notes.append(f"{_PREDICTIONS / name}: {files} not end in .npy: not read")
  return notes


def note_missing(
  found: Iterable[records.RankedPredictions], datasets: Iterable[str]
) -> list[str]:
  """Returns a line for each data set that lacks some of the models."""
  found = list(found)
  models = {p.model for p in found}
  notes = []
  for name in datasets:
    lacking = sorted(models - {p.model for p in found if p.dataset == name})
    if lacking:
      more = f" and {len(lacking) - 8} more" if len(lacking) > 8 else ""
      notes.append(
        f"{name}: no predictions of {_count(lacking, 'model', 'models')}:"
        f" {', '.join(lacking[:8])}{more}"
      )
  return notes


def note_own(
  found: Iterable[records.RankedPredictions],
  datasets: Mapping[str, records.Dataset],
  own_models: Names[str],
) -> list[str]:
  """Returns lines on your models: missing or too few right predictions.

  Rows in another order, worst first, or other numbers of classes are the usual
  reasons.
  """
  notes = []
  for p in found:
    if p.model not in own_models:
      continue
    dataset = datasets[p.dataset]
    size = len(dataset)
    none = int((p.ranking[:, 0] == outcomes.NO_PREDICTION).sum())
    if none:
      notes.append(
        f"{p.model} on {p.dataset}: no prediction for {none} of {size} images"
        " (scores are not finite); they count as wrong"
      )
    hits, last = predictions_lib.count_end_hits(p, dataset)
    if predictions_lib.seems_reversed(p, dataset):
      notes.append(
        f"{p.model} on {p.dataset}: the first class of its rows is right for"
        f" {hits} of {size} images, the last one for {last}; is the file stored"
        " worst first?"
      )
    elif numbering := predictions_lib.find_numbering(p, dataset):
      renumber, right = numbering
      notes.append(
        f"{p.model} on {p.dataset}: right for {hits} of {size} images, but for"
        f" {right} if classes are numbered in the order of the folders '0',"
        " '1', '10', '100', ..., as by ImageFolder; write"
        f" {renumber} for each class c"
      )
    elif hits <= _count_guessed(size, dataset.num_classes):
      notes.append(
        f"{p.model} on {p.dataset}: right for {hits} of {size} images, as by"
        f" guessing; are its rows those of {dataset.path.name}?"
      )
  return notes


def _count_guessed(size: int, num_classes: int) -> float:
  """Returns how many right predictions are suspected to be guesses.

  By chance, with 4 standard errors; or, as whole classes may be at the same
  place in two orders, _GUESSING times that, but no accuracy above 10%.
  """
  chance = 1 / num_classes
  spread = 4 * math.sqrt(chance * (1 - chance) / size)
  return size * max(chance + spread, min(_GUESSING * chance, 0.1))


def _count(things: Names, one: str, several: str) -> str:
  return f"{len(things)} {one if len(things) == 1 else several}"
