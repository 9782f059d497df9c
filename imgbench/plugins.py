"""Imports the modules of `config.plugins`, which register what they define."""

from collections.abc import Sequence
import importlib
import os
import pathlib
import sys
import traceback
from typing import Any

from imgbench import errors

_SETTING = "plugins"
_LOADED: dict[str, list[str]] = {}  # module -> folders where it may be


def load(names: Any, folders: Sequence[str] = ()) -> None:
  """Imports modules once, before registries are read.

  Args:
    names: full names of modules, as after `import`; one text may hold several,
      "a,b", as on the command line.
    folders: where they may be, besides the current folder and sys.path.

  Raises:
    InputError: no such module, or one that raises.
  """
  if not isinstance(names, list | tuple):
    expected = "a tuple of names of modules"
    raise errors.InputError(_SETTING, expected, repr(names))
  for name in ",".join(map(str, names)).split(","):
    if name and name not in _LOADED:
      places = [os.getcwd(), *folders]
      sys.path += [place for place in places if place not in sys.path]
      _import(name)
      _LOADED[name] = places


def list_loaded() -> list[dict[str, Any]]:
  """Returns arguments of `load`, for other processes."""
  return [{"names": [k], "folders": v} for k, v in _LOADED.items()]


def _import(name: str) -> None:
  importlib.invalidate_caches()  # The file may be new.
  try:
    importlib.import_module(name)
  except (Exception, SystemExit) as error:
    ours = (__file__, importlib.__file__)
    files = [
      frame.filename
      for frame in traceback.extract_tb(error.__traceback__)
      if frame.filename not in ours and not frame.filename.startswith("<")
    ]
    folder = pathlib.Path(files[0]).resolve().parent if files else None
    fix = errors.describe(error, folder)
    if isinstance(error, ModuleNotFoundError) and not files:
      fix += "; it may be in the current folder or on sys.path"
    expected = "a module that can be imported"
    raise errors.InputError(_SETTING, expected, repr(name), fix) from error
