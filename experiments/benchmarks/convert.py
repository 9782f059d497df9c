"""Converts a file of an older benchmark of our own parts to a folder of rows.

python -m experiments.benchmarks.convert --task=step \
    --file=FILE.json --out=DIR

Such a file holds facts, the environment, and for each quantity its values. Its
unit and whether more of it is better follow from its name.
"""

import json
import pathlib
import re
from typing import Any

from absl import flags

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench.bench import quantities
from imgbench.bench import rows

REQUIRED = ("task", "file", "out")
# The first pattern that is found in a name tells its unit.
_UNITS = (
  (r"images_per_s(_per_core)?$", "images/s"),
  (r"(^|[_/])ms$", "ms"),
  (r"_bytes$", "bytes"),
  (r"_levels_off$", "levels"),
  (r"_s$", "s"),
  (r"_over_(floor|forward|bare)$|^streamed\w*_over_whole$", "relative cost"),
  (r"^share_outside_step|^wait_.*_share$", "relative cost"),
  (r"_over_|/efficiency$|/share_of_one_device$", "relative speed"),
)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --task, --file and --out."""
  flags.DEFINE_enum(
    "task", None, rows.QUANTITIES, "Of the rows.", flag_values=flag_values
  )
  flags.DEFINE_string("file", "", "To be converted.", flag_values=flag_values)
  quantities.define_flags(flag_values)


def find_unit(name: str) -> str:
  """Returns the unit of a quantity. Raises InputError."""
  for pattern, found in _UNITS:
    if re.search(pattern, name):
      return found
  raise errors.InputError(f"{name}: its name tells no unit")


def write_folder(
  task: str, document: dict[str, Any], folder: pathlib.Path
) -> None:
  """Writes the folder of a file.

  Args:
    task: of the rows.
    document: what the file holds.
    folder: made if it is not there.

  Raises:
    InputError: not such a file.
  """
  try:
    facts = dict(document)
    values = {n: row["values"] for n, row in facts.pop("rows").items()}
    machine = facts.pop("environment")
  except (AttributeError, KeyError, TypeError) as error:
    raise errors.InputError(
      "expected rows with values, and environment"
    ) from error
  found = {n: quantities.Samples(find_unit(n), v) for n, v in values.items()}
  quantities.write(folder, task, found, facts, machine)


def main(argv: list[str]) -> None:
  """Converts the file that is named."""
  del argv
  values = flags.FLAGS
  with cli.one_line_errors():
    quantities.check_out(values.out, values.task)
    try:
      document = json.loads(pathlib.Path(values.file).read_text())
    except (OSError, ValueError) as error:
      raise errors.InputError(f"--file={values.file}: {error}") from error
    write_folder(values.task, document, pathlib.Path(values.out))


if __name__ == "__main__":
  commands.start("bench convert")
