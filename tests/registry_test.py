"""Tests of builders by name."""

import pytest

from imgbench import errors
from imgbench import registry


def build_thing(*, size, rate=0.1):
  return size, rate


def build_any(*, size, **settings):
  return size, settings


BUILDERS = {"thing": build_thing, "any": build_any}


def test_settings_are_arguments():
  build = lambda name, **kw: registry.build("part", BUILDERS, name, **kw)
  assert build("thing", size=3) == (3, 0.1)
  assert build("any", size=3, what=1) == (3, {"what": 1})


@pytest.mark.parametrize(
  ("name", "settings", "message"),
  [
    ("thin", {}, "unknown part 'thin'; known: any, thing"),
    ("thing", {"size": 1, "rat": 2}, "no setting 'rat'; did you mean rate"),
    ("thing", {"rate": 2}, "part 'thing' needs a value for 'size'"),
    ("any", {}, "part 'any' needs a value for 'size'"),
  ],
)
def test_errors_say_what_is_known(name, settings, message):
  with pytest.raises(errors.InputError, match=message):
    registry.build("part", BUILDERS, name, **settings)


def test_near_names():
  known = ["model.name", "optim.momentum", "seed"]
  assert registry.near_names("modle.name", known) == "did you mean model.name?"
  assert registry.near_names("steps.momentum", known) == (
    "did you mean optim.momentum?"
  )
  assert registry.near_names("zzz", known).startswith("known: model.name")
