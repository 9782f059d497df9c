"""Frames of measurements: merges, ranks, sorts and lookups in pandas.

A frame has one row per measurement of a model: COLUMNS, then `ci_method` and
`definition`. It never holds examples: outcomes, bootstraps and paired tests
are NumPy. `n` and `correct` are nullable integers, other numbers float64; an
undefined value is NaN.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import operator
from typing import Any

import numpy as np
import pandas as pd

from imgbench import errors
from imgbench.metrics import measurement
from imgbench.tables import entries

KEY = ("model", "dataset", "subset", "metric")
AXIS = KEY[1:]  # models are compared on these
COLUMNS = (*KEY, "n", "correct", "value", "ci_low", "ci_high")

Key = tuple[str, str, str, str]
Measurements = Mapping[Key, measurement.Measurement]
Pairs = Iterable[tuple[str, str]]

_FIELDS = tuple(f.name for f in dataclasses.fields(measurement.Measurement))
_DTYPES = dict.fromkeys(("n", "correct"), "Int64") | dict.fromkeys(
  ("value", "ci_low", "ci_high"), "float64"
)


def from_measurements(*results: Measurements) -> pd.DataFrame:
  """Returns the frame of measurements by (model, dataset, subset, metric).

  Raises:
    ValueError: two measurements of the same thing.
  """
  fields = operator.attrgetter(*_FIELDS)
  cells = [(*key, *fields(m)) for part in results for key, m in part.items()]
  found = pd.DataFrame(cells, columns=[*KEY, *_FIELDS]).astype(_DTYPES)
  if found.duplicated(list(KEY)).any():
    raise ValueError("a model has two results on one data set")
  return found


def from_results(
  results: Mapping[str, Mapping[str, Any]], model: str
) -> pd.DataFrame:
  """Returns the frame of a results.json.

  Args:
    results: content of the file, <name>:<split>/<subset>/<metric> -> entry.
    model: name of the run in the frame.

  Raises:
    InputError: a key or an entry of another form.
  """
  found: dict[Key, measurement.Measurement] = {}
  for key, entry in results.items():
    axes = entries.split_key(key)
    try:
      found[model, *axes] = measurement.from_json(entry)
    except errors.InputError as error:
      raise error.prefixed(f"results.json: {key}: ") from error
  return from_measurements(found)


def to_results(found: pd.DataFrame) -> dict[str, dict[str, Any]]:
  """Returns the content of the results.json of a frame of one model.

  Raises:
    ValueError: measurements of several models.
  """
  if found.model.nunique() > 1:
    raise ValueError(f"expected one model, got {found.model.unique()}")
  return {
    "/".join((row.dataset, row.subset, row.metric)): {
      field: getattr(row, field) for field in _FIELDS
    }
    for row in to_rows(found)
  }


def to_rows(
  found: pd.DataFrame, columns: Sequence[str] | None = None
) -> list[Any]:
  """Returns rows as named tuples of Python values, None where undefined."""
  plain = found[list(found.columns if columns is None else columns)]
  plain = plain.astype(object)
  plain = plain.where(plain.notna(), None)
  return list(plain.itertuples(index=False, name="Row"))


def select(found: pd.DataFrame, **what: str) -> pd.DataFrame:
  """Returns the rows that have these values."""
  chosen = np.ones(len(found), bool)
  for name, value in what.items():
    chosen &= (found[name] == value).to_numpy(bool)
  return found[chosen]


def index_by_model(found: pd.DataFrame, **what: str) -> dict[str, Any]:
  """Returns model -> its selected row, see `to_rows`."""
  return {row.model: row for row in to_rows(select(found, **what))}


def build_cell(
  found: pd.DataFrame, text: Callable[[Any], str], **what: str
) -> Callable[[str], str]:
  """Returns a function from model to the text of its row, "" without one."""
  of_model = index_by_model(found, **what)
  return lambda model: text(of_model[model]) if model in of_model else ""


def sort_models(found: pd.DataFrame, **what: str) -> list[str]:
  """Returns all models by descending value, then name; undefined ones last.

  Args:
    found: rows of all the models.
    **what: selects the value of each.
  """
  values = select(found, **what).set_index("model").value
  values = values.reindex(sorted(found.model.unique()))
  return values.sort_values(ascending=False, kind="stable").index.tolist()


def to_dict(
  found: pd.DataFrame, **fields: str
) -> dict[tuple[str, ...], float | None]:
  """Returns (*KEY, field) -> number; `fields` maps columns to field names."""
  return {
    (*row[: len(KEY)], name): row[len(KEY) + i]
    for row in to_rows(found, (*KEY, *fields))
    for i, name in enumerate(fields.values())
  }


def merge_pairs(
  found: pd.DataFrame, pairs: Pairs, metrics: Pairs
) -> pd.DataFrame:
  """Returns the rows of models on both of two data sets, merged.

  Args:
    found: to look in.
    pairs: (base, dataset).
    metrics: (metric on the base, metric on the data set).

  Returns:
    The columns of `found`, with `base` and `base_metric`; columns of the base
    end in _base. Sorted by pair, subset (in the order of `found`), metric and
    model.
  """
  metrics = list(metrics)
  axes = pd.DataFrame(
    [
      (*pair, *metric, i, j)
      for i, pair in enumerate(pairs)
      for j, metric in enumerate(metrics)
    ],
    columns=["base", "dataset", "base_metric", "metric", "_pair", "_metrics"],
  )
  first = found.rename(columns={"dataset": "base", "metric": "base_metric"})
  both = axes.merge(first, on=["base", "base_metric"])
  both = both.merge(found, on=list(KEY), suffixes=("_base", ""))
  subsets = {name: i for i, name in enumerate(found.subset.unique())}
  both = both.assign(_subset=both.subset.map(subsets))
  places = ["_pair", "_subset", "_metrics"]
  both = both.sort_values([*places, "model"], kind="stable", ignore_index=True)
  return both.drop(columns=places)


def rank(values, among=None) -> np.ndarray:
  """Returns the rank of each value: 1 + how many of `among` are greater.

  The greatest is 1, and equal values share the better rank (1, 2, 2, 4).

  Args:
    values: float [M], finite.
    among: bool [M], the ranked models; None: all. Any other model gets the
      rank that it would have among them.

  Returns:
    int64 [M], at least 1.
  """
  values = np.asarray(values, np.float64)
  among = np.ones(len(values), bool) if among is None else np.asarray(among)
  counted = np.sort(values[among])
  return 1 + len(counted) - np.searchsorted(counted, values, side="right")


def add_ranks(
  found: pd.DataFrame, outside: Iterable[str] = frozenset()
) -> pd.DataFrame:
  """Returns the rows with their `rank` on each data set.

  A rank on one data set does not depend on rows of the others.

  Args:
    found: rows to rank for each data set, subset and metric.
    outside: models that are not counted in the ranks of the others.

  Returns:
    The rows with `rank`, undefined where the value is, and `among`: the number
    of models counted.
  """
  defined = found.value.notna()
  known = found.assign(counted=defined & ~found.model.isin(list(outside)))
  groups = known.groupby(list(AXIS), sort=False)
  places = groups.value.transform(lambda v: rank(v, known.counted[v.index]))
  among = groups.counted.transform("sum")
  return found.assign(rank=places.astype("Int64").where(defined), among=among)
