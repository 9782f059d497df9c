"""Renders the report of a run again, from its files.

imgbench report runs/demo
"""

from absl import flags

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import report
from imgbench import run_files

REQUIRED = ("workdir",)


def define_flags(flag_values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    "workdir", None, "Folder of a run.", flag_values=flag_values
  )


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; a first argument is the value of --workdir."""
  return cli.parse_flags(cli.name_argument(argv, "workdir"), REQUIRED)


def main(argv: list[str]) -> int:
  """Writes the report and prints its path."""
  del argv
  cli.show_log()
  print(report.write_report(run_files.reach_finished(flags.FLAGS.workdir)))
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("report")
