"""Builds the checked, named units of a sweep from a config's `get_hyper`."""

from collections.abc import Mapping
from collections.abc import Sequence
import hashlib
import os
import pathlib
import re
from typing import Any

import ml_collections

from imgbench import cli
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import paths
from imgbench import registry
from imgbench.launch import hyper
from imgbench.launch import units

_FUNCTION = "get_hyper"
# File systems allow 255 bytes; shorter names suit buckets and logs.
_MAX_NAME = 120
_UNSAFE = re.compile(r"[^A-Za-z0-9._=,+-]")


def load(config: str, sweep: str = "") -> list[hyper.Point]:
  """Returns the points that a config file defines.

  Args:
    config: file; options after a colon are ignored.
    sweep: NAME of its `get_hyper_NAME`; "": `get_hyper`.

  Raises:
    InputError: there is no such function, it fails or returns no points.
  """
  path = pathlib.Path(config.partition(":")[0])
  module = cli.load_config_module(str(path))
  known = [name for name in dir(module) if name.startswith(_FUNCTION)]
  name = f"{_FUNCTION}_{sweep}" if sweep else _FUNCTION
  if name not in known:
    sweeps = [k.removeprefix(_FUNCTION).lstrip("_") for k in known]
    fix = "see imgbench/launch/hyper.py"
    if any(sweeps):
      fix = registry.near_names(sweep, filter(None, sweeps))
    if "" in sweeps:
      fix += f"; omit --sweep for {_FUNCTION}"
    expected = f"the NAME of a {_FUNCTION}_NAME in {path}"
    raise errors.InputError("--sweep", expected, sweep or "none", fix)
  where = f"{path}: {name}"
  expected = "a list of points, dicts of config keys and values"
  try:
    points = list(getattr(module, name)(hyper.Hyper()))
  except errors.InputError as error:
    raise error.prefixed(f"{where}: ") from error
  except Exception as error:
    given = errors.describe(error, path.resolve().parent)
    raise errors.InputError(where, expected, given) from error
  if not points or not all(isinstance(point, Mapping) for point in points):
    raise errors.InputError(where, expected, points[:1] or "none")
  return points


def build(
  config: str,
  points: Sequence[hyper.Point],
  sweep_dir: str | os.PathLike,
  *,
  sweep: str = "",
  executor: str = "local",
  overrides: Mapping[str, Any] | None = None,
) -> units.Sweep:
  """Returns the sweep of points, each checked against the locked config.

  Args:
    config: file, with options after a colon.
    points: as of `load`.
    sweep_dir: folder of the sweep; not touched.
    sweep: NAME of the function that built the points.
    executor: its name.
    overrides: dotted key -> value, for all points.

  Raises:
    InputError: an unknown key, a value of another type, a swept key in
      `overrides`, or two points with one name.
  """
  folder, shared = (
    paths.as_path(sweep_dir, "--sweep_dir"),
    dict(overrides or {}),
  )
  _, base = _parse(config, shared, "the overrides of all points")
  found = {}
  for number, point in enumerate(points, 1):
    what = f"point {number} of {len(points)}"
    twice = sorted(point.keys() & shared.keys())
    if twice:
      key, expected = twice[0], "no override of a swept key"
      raise errors.InputError(f"--config.{key}", expected, shared[key])
    values, plain = _parse(config, {**shared, **point}, what)
    values = {key: values[key] for key in point}
    name = name_unit(values)
    # Some file systems ignore case.
    if name.lower() in found:
      other = dict(found[name.lower()].overrides)
      given = f"{dict(point)} and {other}, both named {name}"
      raise errors.InputError(what, "a point with its own name", given)
    with config_utils.prefix_errors(f"{what}: "):
      config_lib.parse(ml_collections.ConfigDict(plain))
    found[name.lower()] = units.Unit(name, values, folder / name)
  return units.Sweep(
    sweep_dir=folder,
    config=config,
    sweep=sweep,
    units=tuple(found.values()),
    executor=executor,
    overrides=shared,
    base=base,
  )


def _parse(
  config: str, overrides: Mapping[str, Any], what: str
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the overrides and the config as a run's command line sets them."""
  texts = [f"{key}={value}" for key, value in overrides.items()]
  with config_utils.prefix_errors(f"{what}: "):
    parsed = cli.read_config(config, texts)
  values = {key: _read_value(parsed, key) for key in overrides}
  for key, value in values.items():
    given = overrides[key]
    same = value == given and isinstance(value, bool) == isinstance(given, bool)
    if not same:
      raise errors.InputError(
        f"{what}: {key}", f"a value of type {type(value).__name__}", repr(given)
      )
  return values, config_utils.to_dict(parsed)


def _read_value(config, key: str) -> Any:
  value = config
  for part in key.split("."):
    value = value[part]
  return value.to_dict() if hasattr(value, "to_dict") else value


def name_unit(overrides: Mapping[str, Any]) -> str:
  """Returns a name of at most 120 letters, digits and ".,_=+-".

  It depends on the overrides only, not on their order. If characters other than
  spaces and the brackets of a tuple are lost, it ends with a digest.

  Args:
    overrides: dotted key -> value; none: "default".
  """
  if not overrides:
    return "default"
  parts = [
    f"{key}={_format_value(overrides[key])}" for key in sorted(overrides)
  ]
  text = ",".join(parts)
  name = _UNSAFE.sub("_", text)
  if name != text or len(name) > _MAX_NAME:
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = f"{name[: _MAX_NAME - len(digest) - 1]}-{digest}"
  return name


def _format_value(value: Any) -> str:
  if isinstance(value, (tuple, list)):
    return "+".join(map(_format_value, value))
  if isinstance(value, Mapping):
    return "+".join(
      f"{name}={_format_value(value[name])}" for name in sorted(value)
    )
  return str(value).replace(" ", "_")
