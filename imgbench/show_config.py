"""Prints every key of a run's config with its value and what it means.

imgbench config scenes --config.optim.name=adamw

A line is `key = value  # meaning`. Keys that the file does not set, but that
flags may set, are printed with their defaults.
"""

from collections.abc import Callable
import inspect
import json
import re
from typing import Any

from absl import flags

from imgbench import cli
from imgbench import commands
from imgbench import config as config_lib
from imgbench import config_utils

REQUIRED = ("config",)
_SECTION = re.compile(r"^(?:Args|Attributes):\n((?:  .*\n?|\n)*)", re.M)
_ENTRY = re.compile(r"^  (\w+(?:, \w+)*): ((?:.|\n   )*)", re.M)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --config."""
  cli.define_config_flag(flag_values)


def list_meanings(function: Callable) -> dict[str, str]:
  """Returns argument or attribute -> its text in a docstring, on one line."""
  found = {}
  for documented in (function, getattr(function, "__init__", None)):
    for section in _SECTION.findall((inspect.getdoc(documented) or "") + "\n"):
      for names, text in _ENTRY.findall(section):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
  return found


def list_keys(config: dict[str, Any]) -> list[tuple[str, Any, str]]:
  """Returns key, value and meaning of all keys that a config has or takes.

  Args:
    config: as of `config_utils.to_dict`.
  """
  values = config_lib.find_defaults(config) | config_utils.flatten(config)
  meanings = list_meanings(config_lib.Recipe)
  meanings |= list_meanings(config_lib.Config)
  for prefix, function, hidden in config_lib.find_signatures(config):
    for name, text in list_meanings(function).items():
      if name not in hidden:
        meanings.setdefault(prefix + name, text)
  return [(key, values[key], meanings.get(key, "")) for key in sorted(values)]


def main(argv: list[str]) -> None:
  """Prints the keys."""
  del argv
  for key, value, meaning in list_keys(
    config_utils.to_dict(flags.FLAGS.config)
  ):
    comment = f"  # {meaning}" if meaning else ""
    print(f"{key} = {json.dumps(value)}{comment}")


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; a first argument is the value of --config."""
  return cli.parse_flags(cli.name_argument(argv, "config"), required=REQUIRED)


if __name__ == "__main__":
  commands.start("config")
