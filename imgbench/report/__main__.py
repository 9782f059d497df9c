"""Renders a report again: python -m imgbench.report --workdir=DIR."""

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench import report

REQUIRED = ("workdir",)


def define_flags(flag_values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    "workdir", None, "Folder of a run.", flag_values=flag_values
  )


def main(argv: list[str]) -> int:
  """Writes the report and prints its path."""
  del argv
  print(report.write_report(flags.FLAGS.workdir))
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("report")
