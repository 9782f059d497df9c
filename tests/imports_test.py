"""Tests of who imports whom, and that nothing needs TensorFlow."""

import ast
import pathlib
import pkgutil

import pytest

import imgbench
from imgbench import commands
from tests.train import processes

ROOT = pathlib.Path(imgbench.__file__).parent
REPOSITORY = ROOT.parent
# Modules that start a program under the path that it had before it moved.
MOVED = {
  "imgbench/bench/input.py",
  "imgbench/bench/metrics.py",
  "imgbench/bench/report.py",
  "imgbench/bench/step.py",
  "imgbench/bench/testbed.py",
  "imgbench/data/fake_imagenet.py",
  "imgbench/data/prepare.py",
  "imgbench/labels/derive_classes.py",
  "imgbench/launch/table.py",
}
FILES = [
  path
  for folder in ("imgbench", "experiments")
  for path in sorted(REPOSITORY.joinpath(folder).rglob("*.py"))
  if str(path.relative_to(REPOSITORY)) not in MOVED
]
MODULES = sorted(
  {
    module.name
    for module in pkgutil.walk_packages([str(ROOT)], "imgbench.")
    # The latter is a library that ctypes loads.
    if not module.name.endswith(("__main__", "_turbo"))
  }
  | {command.module for command in commands.COMMANDS.values()}
)
# Packages and top-level modules, the lowest first: each imports itself and
# those of the lines above. `commands` names programs by strings.
LAYERS = (
  {"cpus", "texts"},
  {"errors", "timing", "host_memory", "environment", "cache", "progress"},
  {"jax_options", "streams", "living", "peaks", "plugins", "registry", "paths"},
  {"configs", "labels", "losses", "npz", "typed"},
  {
    "config_utils",
    "metrics",
    "models",
    "optim",
    "parallel",
    "scenes",
  },
  {"writers", "interrupts", "weights"},
  {"bucket_lock", "checkpoints", "data", "tables"},
  {"run_files"},
  {"evaluators"},
  {"config"},
  {"cli"},
  {"commands"},
  {"papers", "prepare", "report"},
  {"check", "train"},
  {"predictor", "startup"},
  {"predict"},
  {
    "bench",
    "compare",
    "describe",
    "export",
    "launch",
    "main",
    "operating_points",
    "score",
    "show_config",
  },
  {"cost", "evaluate", "leakage", "review"},
  {"experiments"},
)


def part(module: str) -> str:
  """The package or top-level module that a module belongs to."""
  names = module.split(".")
  return names[0] if names[0] != "imgbench" or not names[1:] else names[1]


def imported(path: pathlib.Path) -> set[str]:
  """Parts of the project that a file imports, inside functions too."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      if node.module == "imgbench":
        found |= {alias.name for alias in node.names}
      else:
        found.add(part(node.module))
    elif isinstance(node, ast.Import):
      found |= {part(alias.name) for alias in node.names}
  return found & set().union(*LAYERS)


def own_part(path: pathlib.Path) -> str:
  names = path.relative_to(REPOSITORY).with_suffix("").parts
  return part(".".join(names))


def test_every_part_is_in_one_layer():
  listed = [name for layer in LAYERS for name in layer]
  assert len(listed) == len(set(listed))
  # The package's own __init__ holds its version, its __main__ starts a command.
  own = {"__init__", "__main__"}
  assert {own_part(path) for path in FILES} - own == set(listed)


@pytest.mark.smoke
@pytest.mark.parametrize("level", range(len(LAYERS)))
def test_layers_import_only_lower_ones(level):
  below = set().union(*LAYERS[:level])
  for path in FILES:
    own = own_part(path)
    if own in LAYERS[level]:
      assert imported(path) <= below | {own}, path


def test_no_module_has_the_name_of_another_package():
  packages = {
    path.parent.name: path.parent for path in FILES if path.stem == "__init__"
  }
  for path in FILES:
    assert path.stem not in packages, (path, packages[path.stem])


def test_moved_modules_only_start_their_program():
  """`python -m` of the old path keeps working."""
  for name in MOVED:
    tree = ast.parse(REPOSITORY.joinpath(name).read_text())
    (_, imports, guarded) = tree.body
    assert ast.unparse(imports) == "from imgbench import commands"
    (call,) = guarded.body
    assert ast.unparse(call.value.func) == "commands.start"
    assert call.value.args[0].value in commands.COMMANDS


def test_all_modules_import_together_without_tensorflow():
  """Flags that modules defined at import would clash here."""
  code = (
    f"import importlib, sys\nfor name in {MODULES!r}:\n"
    "  importlib.import_module(name)\n"
    "assert 'tensorflow' not in sys.modules"
  )
  result = processes.run_python("-c", code)
  assert result.returncode == 0, result.stderr
