"""Runs `imgbench score` in the process of the test."""

import pathlib

from absl import flags

from imgbench.score import __main__ as score


def write_config(
  folder: pathlib.Path,
  text: str = "common.use_imagenet(config)",
  base: str = "common.base_config()",
) -> str:
  """Writes a config without a page; returns its flag.

  Args:
    folder: for it.
    text: lines that change `config`, from column 2.
    base: what `config` is first.
  """
  path = folder / "config.py"
  path.write_text(
    "from imgbench.configs import common\n"
    "from imgbench.configs import tiny\n"
    "def get_config():\n"
    f"  config = {base}\n"
    f"  {text}\n"
    "  config.logging.report = False\n"
    "  return config\n"
  )
  return f"--config={path}"


def run(*args: object) -> dict:
  """Returns the results of a command line."""
  values = flags.FlagValues()
  score.define_flags(values)
  _, *given = values(["imgbench", *map(str, args)])
  return score.score(values, given)
