"""Renders a report again: python -m imgbench.report --workdir=DIR."""

from absl import app
from absl import flags

from imgbench import cli
from imgbench import errors
from imgbench import report


def define_flags(flag_values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    "workdir", None, "Folder of a run.", flag_values=flag_values
  )
  flags.mark_flag_as_required("workdir", flag_values=flag_values)


def main(argv) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"expected flags only, got {argv[1]!r}")
  with cli.one_line_errors():
    print(report.write_report(flags.FLAGS.workdir))
  return errors.EXIT_DONE


def run() -> None:
  define_flags(flags.FLAGS)
  app.run(main)


if __name__ == "__main__":
  run()
