"""Tests of builders by name."""

import pytest

from imgbench import errors
from imgbench import registry
from tests import raising


def build_thing(*, size, rate=0.1):
  return size, rate


def build_any(*, size, **settings):
  return size, settings


BUILDERS = registry.Registry("part")
BUILDERS.register("thing", build_thing)
BUILDERS.register("any", build_any)


def test_settings_are_arguments():
  assert BUILDERS.build("thing", size=3) == (3, 0.1)
  assert BUILDERS.build("any", size=3, what=1) == (3, {"what": 1})


@pytest.mark.parametrize(
  ("name", "settings", "setting", "given", "near"),
  [
    ("thin", {}, "name", "'thin'", "thing"),
    ("thing", {"size": 1, "rat": 2}, "rat", 2, "rate"),
    ("thing", {"rate": 2}, "size", "none", ""),
    ("any", {}, "size", "none", ""),
  ],
)
def test_errors_name_what_is_known(name, settings, setting, given, near):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, match=near, check=check):
    BUILDERS.build(name, **settings)


def test_a_name_is_registered_once():
  parts = registry.Registry("part")
  assert parts.register("thing")(build_thing) is build_thing
  assert dict(parts) == {"thing": build_thing}
  with pytest.raises(ValueError):
    parts.register("thing", build_any)


def test_near_names():
  known = ["model.name", "optim.momentum", "seed"]
  assert registry.near_names("modle.name", known) == "did you mean model.name?"
  assert registry.near_names("steps.momentum", known) == (
    "did you mean optim.momentum?"
  )
  assert registry.near_names("zzz", known).startswith("known: model.name")
