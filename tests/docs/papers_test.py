"""docs/papers.md agrees with the scripts' flags, files and columns."""

import importlib
import pathlib
import re

from absl import flags
import pytest

from imgbench import commands as table
from imgbench.papers import comparison
from imgbench.papers import fits
from imgbench.papers import frequencies
from imgbench.papers import hard_images
from imgbench.papers import paired_table
from imgbench.papers import review_statistics
from imgbench.papers import study
from imgbench.papers.machine_accuracy import results
from imgbench.papers.mistakes import counted
from imgbench.papers.mistakes import grids
from imgbench.papers.readers import own
from imgbench.tables import frame

ROOT = pathlib.Path(__file__).parents[2]
TEXT = ROOT.joinpath("docs/papers.md").read_text()
# Those that read published files, and not other programs beside them.
SCRIPTS = sorted(
  path.stem
  for path in ROOT.joinpath("experiments").glob("*.py")
  if "program.run, reproduce" in path.read_text()
)
COLUMNS = {
  "table.csv": frame.COLUMNS,
  **{f"{name}.csv": columns for name, columns in study.COLUMNS.items()},
  "fits.csv": fits.COLUMNS,
  "frequency.csv": frame.COLUMNS,
  "frequency_drops.csv": frequencies.DROP_COLUMNS,
  "comparison.csv": comparison.COLUMNS,
  "paired.csv": paired_table.COLUMNS,
  "robustness.csv": results.ROBUSTNESS_COLUMNS,
  "summary.csv": results.Summary._fields,
  "statistics.csv": review_statistics.COLUMNS,
  "ceilings.csv": review_statistics.CEILINGS,
  "mistakes.csv": hard_images.ImageRow._fields,
  "mistakes_by_subset.csv": hard_images.CountRow._fields,
  "hardest_classes.csv": hard_images.HardClass._fields,
  "overlap.csv": counted.Overlap._fields,
  "pairs.csv": grids.PAIR_COLUMNS,
}


def commands() -> list[list[str]]:
  """Returns all commands as lists of words, without `imgbench`."""
  blocks = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
  lines = "".join(blocks).replace("\\\n", " ").splitlines()
  lines = [line for line in lines if line.startswith("imgbench paper ")]
  return [line.split()[1:] for line in lines]


def module_of(words: list[str]) -> str:
  return table.COMMANDS[" ".join(words[:2])].module


def flags_of(name: str) -> flags.FlagValues:
  module = importlib.import_module(name)
  values = flags.FlagValues()
  module.define_flags(values)
  return values


def test_every_script_is_described():
  rows = re.findall(r"^\| `experiments\.(\w+)` \|", TEXT, re.MULTILINE)
  assert sorted(rows) == SCRIPTS
  assert {module_of(words) for words in commands()} == {
    f"imgbench.experiments.{name}" for name in SCRIPTS
  }
  of_files = re.findall(r"^\| `(\w+)` \| `\w+\.csv`", TEXT, re.MULTILINE)
  assert sorted(of_files) == SCRIPTS


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_parse(words):
  values = flags_of(module_of(words))
  assert values(["paper", *words[2:]]) == ["paper"]
  for text in values.predictions:
    own.parse(text)


def test_flags_that_are_named_exist():
  names = (*SCRIPTS, "all_papers")
  known = set().union(
    *(set(flags_of(f"imgbench.experiments.{n}")) for n in names)
  )
  named = set(re.findall(r"--(\w+)", TEXT)) - {"depth"}
  assert named <= known


def test_columns_are_those_of_the_files():
  rows = re.findall(r"^\| `(\w+\.csv)` \| (`.*`) \|$", TEXT, re.MULTILINE)
  found = {name: tuple(re.findall(r"`(\w+)`", cells)) for name, cells in rows}
  assert found == {name: tuple(columns) for name, columns in COLUMNS.items()}
