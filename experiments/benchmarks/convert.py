"""Converts a file of an old component benchmark to a folder of rows.

imgbench bench convert --task=step \\
    --file=FILE.json --out=DIR

The file has facts, the environment, and the values of each quantity. The name
of a quantity gives its unit, and whether more is better.
"""

import json
import pathlib
import re
from typing import Any

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench.bench import quantities
from imgbench.bench import rows

REQUIRED = ("task", "file", "out")
# Pattern of a name -> unit; the first match counts.
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
    "task", None, rows.QUANTITIES, "Task of the rows.", flag_values=flag_values
  )
  flags.DEFINE_string("file", "", "File to convert.", flag_values=flag_values)
  quantities.define_flags(flag_values)


def find_unit(name: str) -> str:
  """Returns the unit of a quantity. Raises InputError."""
  for pattern, found in _UNITS:
    if re.search(pattern, name):
      return found
  raise errors.InputError("--file", "names that tell a unit", repr(name))


def convert(task: str, document: dict[str, Any], folder: pathlib.Path) -> None:
  """Writes a file's rows, facts and environment to a folder.

  Args:
    task: of the rows.
    document: contents of the file.
    folder: created if missing.

  Raises:
    InputError: another kind of file.
  """
  try:
    facts = dict(document)
    values = {n: row["values"] for n, row in facts.pop("rows").items()}
    machine = facts.pop("environment")
  except (AttributeError, KeyError, TypeError) as error:
    expected = "rows with values, and an environment"
    raise errors.InputError("--file", expected, repr(error)) from error
  found = {n: quantities.Samples(find_unit(n), v) for n, v in values.items()}
  quantities.write(folder, task, found, facts, machine)


def main(argv: list[str]) -> None:
  """Converts a file."""
  del argv
  values = flags.FLAGS
  quantities.check_out(values.out, values.task)
  try:
    document = json.loads(pathlib.Path(values.file).read_text(encoding="utf-8"))
  except (OSError, RecursionError, ValueError) as error:
    raise errors.InputError("--file", "a file of JSON", error) from error
  convert(values.task, document, pathlib.Path(values.out))


if __name__ == "__main__":
  commands.start("bench convert")
