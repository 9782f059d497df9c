"""Tests of measurements and their JSON form."""

import dataclasses
import json
import math

import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import measurement
from tests import raising

ENTRY = {
  "n": 10,
  "correct": 9,
  "value": 0.9,
  "ci_low": 0.55,
  "ci_high": 0.99,
  "ci_method": "clopper_pearson",
  "definition": "share of examples",
}


def test_json_and_back():
  value = measurement.Measurement(**ENTRY)
  assert list(value.as_json().items()) == list(ENTRY.items())
  text = json.dumps(value.as_json(), allow_nan=False)
  assert measurement.from_json(json.loads(text)) == value


def test_undefined_and_without_interval():
  nothing = dict.fromkeys(
    ["correct", "value", "ci_low", "ci_high", "ci_method"]
  )
  value = measurement.from_json({**ENTRY, **nothing})
  assert value.value is None and value.as_json()["ci_low"] is None


@pytest.mark.parametrize(
  ("change", "setting", "given"),
  [
    ({"value": math.nan}, "value", "nan"),
    ({"ci_high": math.inf}, "ci_high", "inf"),
    ({"ci_low": "0.5"}, "ci_low", "'0.5'"),
    ({"ci_low": None}, "ci_low, ci_high, ci_method", None),
    ({"ci_method": None}, "ci_low, ci_high, ci_method", None),
    ({"extra": 1}, "fields", sorted([*ENTRY, "extra"])),
  ],
)
def test_bad_entries_are_refused(change, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    measurement.from_json({**ENTRY, **change})


def test_missing_field_is_refused():
  entry = {key: value for key, value in ENTRY.items() if key != "n"}
  check = raising.about("fields", given=sorted(entry))
  with pytest.raises(errors.InputError, check=check):
    measurement.from_json(entry)


def test_class_means_of_sets_that_lack_a_class_are_undefined():
  hits, count = np.array([5, 4, 0]), np.array([10, 8, 0])
  masks = {
    name: np.array(mask, bool)
    for name, mask in {
      "all": [1, 1, 1],
      "first": [1, 1, 0],
      "absent": [0, 0, 1],
      "none": [0, 0, 0],
    }.items()
  }
  measure = measurement.Measurer(0.05, "with crops")
  got = measure.class_means(hits, count, masks, "mean over classes")
  assert [(m.n, m.value) for m in got.values()] == [
    (18, None),
    (18, 0.5),
    (0, None),
    (0, None),
  ]
  assert "1 of 3" in got["all"].definition
  assert got["all"].definition.endswith("; with crops")
  assert got["first"] == measure.class_mean(
    hits[:2], count[:2], "mean over classes"
  )
  nothing = measure.class_means(hits, count, {"all": masks["all"]}, "mean")
  assert nothing["all"].value is None


def test_values_without_a_bootstrap_are_the_same():
  hits, count = np.array([1, 2, 0]), np.array([2, 3, 1])
  whole, fast = (measurement.Measurer(0.05, bootstrap=b) for b in (True, False))
  for name, args in {
    "proportion": (3, 6, "text"),
    "class_mean": (hits, count, "text"),
  }.items():
    wanted, found = (getattr(measure, name)(*args) for measure in (whole, fast))
    none = dict.fromkeys(("ci_low", "ci_high", "ci_method"))
    assert found == dataclasses.replace(wanted, **none)
    assert wanted.ci_low is not None
