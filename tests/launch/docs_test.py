"""Commands in docs/launch.md have the flags that the programs have."""

import pathlib
import re
import shlex

from absl import flags
import pytest

from imgbench.launch import __main__ as launch
from imgbench.launch.sweep_table import __main__ as table

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "launch.md"


def _commands(name):
  """Returns the arguments of all calls of a command."""
  blocks = re.findall(r"```(?:bash|text)\n(.*?)```", DOCS.read_text(), re.S)
  text = "\n".join(blocks).replace("\\\n", " ")
  found = re.findall(rf"imgbench {name} (.*)", text)
  return [shlex.split(line) for line in found]


def _check(values, arguments):
  for argument in arguments:
    name = argument.lstrip("-").partition("=")[0]
    if argument.startswith("--") and not name.startswith("config."):
      assert name in values or name.removeprefix("no") in values, argument


@pytest.mark.parametrize("arguments", _commands("sweep(?! table)"))
def test_the_launcher_has_the_flags(arguments):
  values = flags.FlagValues()
  action = arguments[0] if arguments[0] in launch.ACTIONS else launch.RUN
  executors = [a.partition("=")[2] for a in arguments if "--executor=" in a]
  launch.define_flags(values, action, *executors)
  _check(values, arguments)


@pytest.mark.parametrize("arguments", _commands("sweep table"))
def test_the_table_has_the_flags(arguments):
  values = flags.FlagValues()
  table.define_flags(values)
  _check(values, arguments)


def test_all_executors_are_shown():
  text = " ".join(sum(_commands("sweep(?! table)"), []))
  for name in launch.EXECUTORS:
    assert f"--executor={name}" in text
