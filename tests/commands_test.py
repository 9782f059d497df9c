"""Tests of the command table: names, modules, help and start."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys
import types

from absl import flags
import pytest

import imgbench
from imgbench import commands
from imgbench import environment
from imgbench import errors
from tests.train import processes

ROOT = pathlib.Path(imgbench.__file__).parents[1]
FLAGS = re.MULTILINE | re.DOTALL
# Started by other programs, or without imgbench in the environment; __main__
# starts all commands.
WORKERS = {
  "experiments.accelerator.airbench",
  "experiments.accelerator.cifar_worker",
  "experiments.accelerator.kit",
  "experiments.benchmarks.input.ours",
  "imgbench.__main__",
  "imgbench.bench.torch_peer",
  "imgbench.bench.worker",
  "imgbench.launch.local.child",
  "imgbench.papers.readers.unpickle_child",
}


def imgbench_command(*args: str) -> subprocess.CompletedProcess:
  """Runs the console script."""
  return processes.run_python(
    *("-c", "from imgbench import commands as c; c.main()"),
    *args,
  )


def installed_command(folder, *args: str) -> subprocess.CompletedProcess:
  """Runs the console script where Python can only import imgbench."""
  code = (
    "import importlib.util as util, sys\n"
    "path, *sys.argv = sys.argv[1:]\n"
    "spec = util.spec_from_file_location('imgbench', path + '/__init__.py',"
    " submodule_search_locations=[path])\n"
    "sys.modules['imgbench'] = module = util.module_from_spec(spec)\n"
    "spec.loader.exec_module(module)\n"
    "from imgbench import commands\n"
    "commands.main()"
  )
  package = str(pathlib.Path(imgbench.__file__).parent)
  environment = processes.environment()
  environment.pop("PYTHONPATH", None)
  return subprocess.run(
    [sys.executable, "-P", "-c", code, package, "imgbench", *args],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
    cwd=folder,
  )


def started_by(path: pathlib.Path) -> list[str]:
  """Returns the names of commands that a file starts as a program."""
  return [
    node.args[0].value
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Call)
    and ast.unparse(node.func) == "commands.start"
    and isinstance(node.args[0], ast.Constant)
  ]


def module_path(name: str) -> pathlib.Path:
  """Returns the file that `python -m name` runs."""
  name = name.removeprefix("imgbench.") if ".experiments." in name else name
  path = ROOT / name.replace(".", "/")
  if path.is_dir():
    return path / "__main__.py"
  return path.with_suffix(".py")


@pytest.mark.parametrize("name", sorted(commands.COMMANDS))
def test_every_command_has_its_parts(name, monkeypatch):
  command = commands.COMMANDS[name]
  monkeypatch.setattr(sys, "argv", [name])
  module = importlib.import_module(command.module)
  values = flags.FlagValues()
  module.define_flags(values)
  assert callable(module.main)
  if not hasattr(module, "parse_flags"):
    assert set(module.REQUIRED) <= set(values)
  assert started_by(module_path(command.module)) == [name]
  assert len(command.help) <= 60
  # --help begins with the docstring.
  assert f"\nimgbench {name} " in module.__doc__
  # A line that ends in one backslash is joined to the next one.
  assert max(map(len, module.__doc__.splitlines())) <= 80


def test_every_program_is_in_the_table():
  """Only workers have their own entry code."""
  found = set()
  for folder in ("imgbench", "experiments"):
    for path in ROOT.joinpath(folder).rglob("*.py"):
      if '__name__ == "__main__"' in path.read_text() and not started_by(path):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.add(".".join(parts))
  assert found == WORKERS


def test_documented_commands_are_in_the_table():
  texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
  texts += sorted(ROOT.joinpath("docs").glob("*.md"))
  texts += sorted(ROOT.joinpath("configs").glob("*.py"))
  names = set()
  for path in texts:
    code = re.findall(
      r"^ *```\w+\n(.*?)^ *```|`([^`\n]+)`", path.read_text(), FLAGS
    )
    lines = "\n".join(map("".join, code))
    if path.suffix == ".py":
      lines = path.read_text().replace("Command: ", "")
    pattern = r"^ *imgbench ([a-z][\w-]*)(?: ([a-z][\w-]*))?"
    for first, second in re.findall(pattern, lines, re.MULTILINE):
      both = f"{first} {second}"
      names.add(both if both in commands.COMMANDS else first)
  assert len(names) > 20
  assert names <= set(commands.COMMANDS)


def test_old_modules_start_a_command():
  text = ROOT.joinpath("Makefile").read_text()
  names = set(re.findall(r"-m ((?:imgbench|experiments)[\w.]*)", text))
  assert names
  for name in names:
    assert len(started_by(module_path(name))) == 1, name


def test_help_lists_the_commands_and_imports_little():
  code = (
    "import sys\nfrom imgbench import commands\n"
    "sys.argv = ['imgbench', '--help']\ncommands.main()\n"
    "assert not {'jax', 'numpy', 'pandas'} & set(sys.modules)"
  )
  done = processes.run_python("-c", code)
  assert done.returncode == 0, done.stderr
  listed = re.findall(r"^  (\S+(?: \S+)?)  ", done.stdout, re.MULTILINE)
  assert listed == list(commands.COMMANDS)


def test_a_command_of_two_words_gets_its_own_flags():
  done = imgbench_command("bench", "compare", "--help")
  assert "--tolerance:" in done.stdout
  assert "--workdir:" not in done.stdout


def test_positional_arguments_reach_the_command():
  folder = ROOT / "experiments/results/cpu_2_cores/bench_quick"
  done = imgbench_command("bench", "compare", str(folder), str(folder))
  assert done.returncode == errors.EXIT_DONE, done.stderr
  done = imgbench_command("bench", "compare", str(folder))
  assert done.returncode == errors.EXIT_USAGE


def test_results_name_the_command(monkeypatch):
  """As it was typed, also after `python -m`."""
  main = types.SimpleNamespace(__spec__=types.SimpleNamespace(name=""))
  monkeypatch.setitem(sys.modules, "__main__", main)
  for name, first, expected in (
    (
      "imgbench.__main__",
      "/a/__main__.py review merge",
      "imgbench review merge",
    ),
    ("imgbench.bench.__main__", "/a/bench/__main__.py", "imgbench.bench"),
    ("experiments.multilabel", "/a/multilabel.py", "experiments.multilabel"),
  ):
    main.__spec__.name = name
    monkeypatch.setattr(sys, "argv", [first, "a b"])
    assert environment.collect_software()["command"] == (
      f"python -m {expected} 'a b'"
    )


@pytest.mark.smoke
@pytest.mark.parametrize("args", [["trian"], ["paper", "v2"]])
def test_unknown_commands_are_refused_in_one_line(args):
  done = imgbench_command(*args)
  assert done.returncode == errors.EXIT_USAGE
  assert len(done.stderr.splitlines()) == 1
  assert args[0] in done.stderr


def test_without_a_name_it_trains():
  done = imgbench_command("--config=configs/tiny.py")
  assert done.returncode == errors.EXIT_USAGE
  assert "--workdir" in done.stderr


def test_commands_of_experiments_start_in_any_folder(tmp_path):
  done = installed_command(tmp_path, "size", "--base=HEAD")
  assert done.returncode == errors.EXIT_DONE, done.stderr
  assert "imgbench/models" in done.stdout


def test_help_begins_with_the_programs_own_description():
  for name, module in (
    (["-m", "imgbench.data.prepare"], "imgbench.prepare.__main__"),
    (
      ["-m", "experiments.benchmarks.size"],
      "imgbench.experiments.benchmarks.size",
    ),
  ):
    done = processes.run_python(*name, "--help")
    first = importlib.import_module(module).__doc__.splitlines()[0]
    assert first in done.stdout
