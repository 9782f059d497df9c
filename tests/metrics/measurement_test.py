"""Tests of measurements and their JSON form."""

import json
import math

import pytest

from imgbench.metrics import measurement

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
  "change, message",
  [
    ({"value": math.nan}, "value: expected a finite number"),
    ({"ci_high": math.inf}, "ci_high: expected a finite number"),
    ({"ci_low": None}, "together"),
    ({"ci_method": None}, "together"),
    ({"extra": 1}, "expected the fields"),
  ],
)
def test_bad_entries_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    measurement.from_json({**ENTRY, **change})


def test_missing_field_is_refused():
  entry = {key: value for key, value in ENTRY.items() if key != "n"}
  with pytest.raises(ValueError, match="expected the fields"):
    measurement.from_json(entry)
