"""Tests of who imports whom, and that nothing needs TensorFlow."""

import ast
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import imgbench
from tests.train import processes

ROOT = pathlib.Path(imgbench.__file__).parent
MODULES = sorted(
  module.name
  for module in pkgutil.walk_packages([str(ROOT)], "imgbench.")
  # The latter is a library that ctypes loads.
  if not module.name.endswith(("__main__", "_turbo"))
)
# Package or module -> what of the project it may import.
LEAVES = {"errors", "registry"}
ALLOWED = {
  "metrics": LEAVES | {"metrics", "labels"},
  "labels": LEAVES | {"labels"},
  "losses": LEAVES,
  "models": LEAVES | {"models"},
  "optim": LEAVES,
  "parallel": LEAVES | {"parallel", "timing"},
  # Its programs, prepare and fake_imagenet, parse flags.
  "data": LEAVES | {"data", "labels", "cli", "parallel"},
  "evaluators": LEAVES | {"evaluators", "metrics", "parallel", "data"},
  "report": LEAVES | {"report", "cli", "paths", "writers", "run_files"},
  # Of bench it is the environment, see below.
  "testbed": LEAVES
  | {"testbed", "metrics", "labels", "report", "cli", "writers", "bench"},
  "timing": set(),
  "bench/environment": set(),
}


def imported(path: pathlib.Path) -> set[str]:
  """First parts, below imgbench, of what a file imports."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      if node.module == "imgbench":
        found |= {alias.name for alias in node.names}
      elif node.module.startswith("imgbench."):
        found.add(node.module.split(".")[1])
    elif isinstance(node, ast.Import):
      names = [a.name for a in node.names if a.name.startswith("imgbench")]
      found |= {(name.split(".") + [name])[1] for name in names}
  return found - {"imgbench"}


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_imports_point_one_way(part):
  path = ROOT / part
  files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
  for file in files:
    assert imported(file) <= ALLOWED[part], file


def test_nothing_imports_the_programs():
  """But the environment, which every run writes down, and what main needs."""
  for file in ROOT.rglob("*.py"):
    if file.parent.name == "bench":
      continue
    for node in ast.walk(ast.parse(file.read_text())):
      if isinstance(node, ast.ImportFrom) and node.module == "imgbench.bench":
        allowed = ["mfu"] if file.name == "main.py" else ["environment"]
        assert [alias.name for alias in node.names] == allowed, file
    programs = {"main", "experiments"}
    programs |= set() if file.parent.name == "launch" else {"launch"}
    assert not imported(file) & programs, file


def test_all_modules_import_together_without_tensorflow():
  """Flags that modules defined at import would clash here."""
  code = (
    f"import importlib, sys\nfor name in {MODULES!r}:\n"
    "  importlib.import_module(name)\n"
    "assert 'tensorflow' not in sys.modules"
  )
  result = subprocess.run(
    [sys.executable, "-c", code],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
