"""Tests of frames of measurements."""

import json

import numpy as np
import pandas as pd
import pytest

from imgbench import errors
from imgbench.tables import frame
from tests import raising
from tests.papers import rows
from tests.train import processes

TOP1 = ("top1_accuracy", "top1_accuracy")
X = {"dataset": "x", "metric": TOP1[0]}


def entry(value, **changes):
  return {
    "n": 4,
    "correct": 3,
    "value": value,
    "ci_low": 0.1,
    "ci_high": 0.9,
    "ci_method": "clopper_pearson",
    "definition": "share of examples",
    **changes,
  }


RESULTS = {
  "set/config:test/all/top1_accuracy": entry(0.75),
  "set/config:test/dog/nll": entry(
    0.1 + 0.2, correct=None, ci_low=None, ci_high=None, ci_method=None
  ),
  "set/config:test/dog/top1_accuracy": entry(
    None, n=0, correct=None, ci_low=None, ci_high=None, ci_method=None
  ),
}


def test_results_come_back_as_they_were():
  found = frame.from_results(RESULTS, "mine")
  assert found.columns[:9].tolist() == list(frame.COLUMNS)
  assert found.model.tolist() == ["mine"] * 3
  assert found.dataset.unique().tolist() == ["set/config:test"]
  assert json.dumps(frame.to_results(found)) == json.dumps(RESULTS)
  assert frame.to_results(frame.from_results({}, "mine")) == {}
  other = frame.from_results(RESULTS, "other")
  with pytest.raises(ValueError, match="one model"):
    frame.to_results(pd.concat([found, other], ignore_index=True))


@pytest.mark.parametrize(
  ("key", "content", "setting", "given"),
  [
    ("top1_accuracy", entry(0.5), "", "'top1_accuracy'"),
    ("a:b/all/m", {"n": 3}, ": a:b/all/m: fields", ["n"]),
    ("a:b/all/m", entry(float("nan")), ": a:b/all/m: value", "nan"),
    ("a:b/all/m", None, ": a:b/all/m: fields", "None"),
  ],
)
def test_bad_results_are_refused(key, content, setting, given):
  check = raising.about(f"results.json{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    frame.from_results({key: content}, "mine")


def test_types():
  found = rows.of(rows.undefined("b", "x"), x={"a": 5})
  assert str(found.n.dtype) == str(found.correct.dtype) == "Int64"
  assert found.value.dtype == found.ci_low.dtype == np.float64
  assert found.correct.isna().tolist() == [False, True]
  first, second = frame.to_rows(found, ("model", "n", "correct", "value"))
  assert first == ("a", 100, 5, 0.05) and type(first.correct) is int
  assert second == ("b", 0, None, None)
  assert frame.to_rows(rows.of(), ("n",)) == []
  with pytest.raises(ValueError, match="two results"):
    rows.of(rows.row("a", "x", 3), x={"a": 5})


def test_lookups():
  found = rows.of(
    rows.undefined("d", "x"), x={"a": 5, "c": 50, "b": 50}, y={"e": 1}
  )
  of_x = frame.index_by_model(found, **X)
  assert of_x["a"].value == 0.05 and of_x["d"].value is None
  assert frame.index_by_model(found, dataset="z") == {}
  assert frame.sort_models(found, **X) == ["b", "c", "a", "d", "e"]
  cell = frame.build_cell(found, lambda row: str(row.correct), **X)
  assert [cell(m) for m in "ade"] == ["5", "None", ""]
  assert frame.to_dict(found[:1], correct="hits") == {
    ("a", "x", "all", TOP1[0], "hits"): 5
  }


def test_models_on_both_sets_are_side_by_side():
  found = rows.of(
    *(
      rows.row(model, dataset, hits, subset="dog")
      for model, dataset, hits in (("a", "x", 1), ("a", "y", 2))
    ),
    x={"b": 90, "a": 80, "only_x": 3},
    y={"a": 60, "b": 91, "only_y": 5},
  )
  both = frame.merge_pairs(found, [("x", "y"), ("y", "x")], [TOP1])
  names = ("base", "dataset", "subset", "model", "correct_base", "correct")
  assert frame.to_rows(both, names) == [
    ("x", "y", "all", "a", 80, 60),
    ("x", "y", "all", "b", 90, 91),
    ("x", "y", "dog", "a", 1, 2),
    ("y", "x", "all", "a", 60, 80),
    ("y", "x", "all", "b", 91, 90),
    ("y", "x", "dog", "a", 2, 1),
  ]
  assert frame.to_rows(frame.merge_pairs(found, [], [TOP1])) == []
  assert frame.to_rows(frame.merge_pairs(found, [("x", "z")], [TOP1])) == []


def test_ties_share_the_better_rank():
  got = frame.rank([0.5, 0.9, 0.7, 0.7, 0.1])
  np.testing.assert_array_equal(got, [4, 1, 2, 2, 5])
  assert len(frame.rank([])) == 0


def test_ranks_are_twins_of_counting():
  rng = np.random.default_rng(0)
  values, among = rng.integers(0, 8, 40) / 10, rng.random(40) < 0.7
  wanted = [1 + np.sum(values[among] > value) for value in values]
  np.testing.assert_array_equal(frame.rank(values, among), wanted)


def ranks_on(found, dataset, outside=frozenset()):
  """(models that ranks are among, model -> rank) on a data set."""
  chosen = frame.select(frame.add_ranks(found, outside), dataset=dataset)
  of_models = {
    row.model: row.rank for row in frame.to_rows(chosen) if row.rank is not None
  }
  (among,) = chosen.among.unique()
  return among, of_models


def test_ranks_do_not_depend_on_the_files_of_other_sets():
  found = rows.of(x={"a": 90, "b": 80, "c": 70}, y={"a": 60, "b": 70, "c": 50})
  without = found[(found.model != "b") | (found.dataset != "y")]
  wanted = (3, {"a": 1, "b": 2, "c": 3})
  assert ranks_on(found, "x") == ranks_on(without, "x") == wanted
  assert ranks_on(without, "y") == (2, {"a": 1, "c": 2})
  # Models outside get a rank but are not counted.
  assert ranks_on(found, "x", {"a"}) == (2, {"a": 1, "b": 1, "c": 2})
  more = rows.of(rows.undefined("d", "x"), x={"a": 90, "b": 80})
  assert ranks_on(more, "x") == (2, {"a": 1, "b": 2})


def test_metrics_and_training_do_not_need_pandas():
  code = (
    "import importlib, pkgutil, sys\n"
    "import imgbench.main, imgbench.metrics, imgbench.train\n"
    "for package in (imgbench.metrics, imgbench.train):\n"
    "  for module in pkgutil.iter_modules(package.__path__):\n"
    "    importlib.import_module(f'{package.__name__}.{module.name}')\n"
    "assert 'pandas' not in sys.modules"
  )
  result = processes.run_python("-c", code)
  assert result.returncode == 0, result.stderr
