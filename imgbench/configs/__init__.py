"""Shipped configs: configs/ of a checkout, copied here in an installation."""

import pathlib

if not pathlib.Path(__file__).with_name("common.py").exists():
  __path__.append(str(pathlib.Path(__file__).parents[2] / "configs"))


def list_files() -> dict[str, pathlib.Path]:
  """Returns name -> file of the shipped configs."""
  return {
    path.stem: path
    for folder in map(pathlib.Path, __path__)
    for path in sorted(folder.glob("*.py"))
    if path.stem not in ("__init__", "common")
  }
