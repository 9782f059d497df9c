"""Renders a report again: python -m imgbench.report --workdir=DIR."""

from absl import app
from absl import flags

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import report


def define_flags(flag_values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    "workdir", None, "Folder of a run.", flag_values=flag_values
  )
  flags.mark_flag_as_required("workdir", flag_values=flag_values)


# Bad flags end with code 1.
parse_flags = app.parse_flags_with_usage


def main(argv) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"expected flags only, got {argv[1]!r}")
  with cli.one_line_errors():
    print(report.write_report(flags.FLAGS.workdir))
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("report")
