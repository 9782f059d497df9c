"""Checks a folder of results, and writes the README's table from all of them.

python -m experiments.accelerator.results --check=experiments/results/h200
python -m experiments.accelerator.results --readme=README.md

Exit codes: 0 done, 2 a folder that does not hold what it should.
"""

from collections.abc import Sequence
import json
import pathlib
from typing import Any

from absl import flags

from experiments import compile_only_v5e
from experiments.accelerator import measurements
from experiments.accelerator import output
from experiments.accelerator import stages
from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench.bench import rows

FOLDER = stages.ROOT / "experiments" / "results"
BEGIN, END = "<!-- accelerators -->\n", compile_only_v5e.END
NONE = "No accelerator has been measured yet.\n"


REQUIRED = ()


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --check and --readme."""
  flags.DEFINE_string(
    "check", "", "Folder of results to check.", flag_values=flag_values
  )
  flags.DEFINE_bool(
    "complete",
    False,
    "With --check: every stage has to be ok, or skipped with a reason.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "readme",
    "",
    "File whose table of accelerators is rewritten.",
    flag_values=flag_values,
  )


def read_checked(
  folder: pathlib.Path, complete: bool = False
) -> dict[str, Any]:
  """Returns the results of a folder, checked.

  Args:
    folder: that the suite wrote.
    complete: whether every stage has to be ok, or skipped with a reason.

  Raises:
    InputError: a missing or broken file, no rows or no numbers, or a stage that
      is neither ok nor skipped where `complete`.
  """
  path = folder / output.RESULTS
  try:
    results = json.loads(path.read_text())
    found = {record["stage"]: record for record in results["stages"]}
    known = [
      measurements.SuiteMeasurement(**one) for one in results["measurements"]
    ]
    device = results["environment"].get("device_kind")
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise errors.InputError(
      f"{path}: expected what experiments.accelerator wrote, got {error!r}"
    ) from error
  if not device:
    raise errors.InputError(f"{path}: expected a device_kind, got none")
  read = {row.key.text() for row in rows.read_folder(folder).rows}
  if not read or not known:
    raise errors.InputError(f"{folder}: expected rows and numbers, got none")
  for stage in stages.STAGES if complete else ():
    record = found.get(stage.name, {"status": "missing", "message": ""})
    skipped = record["status"] == "skipped" and record["message"]
    if record["status"] != "ok" and not skipped:
      raise errors.InputError(
        f"{path}: stage {stage.name}: expected ok, or skipped with a reason,"
        f" got {record['status']}: {record['message']}"
      )
  return results


def format_tables(found: Sequence[dict[str, Any]]) -> str:
  """Returns a table for each device, or the sentence that there is none."""
  return "\n".join(map(_format_device, found)) or NONE


def _format_device(results: dict[str, Any]) -> str:
  environment, host = results["environment"], results["host"]
  versions = environment["versions"] | host.get("versions", {})
  count = environment.get("num_devices", 1)
  parts = [f"jax {versions['jax']}", f"commit {environment['commit']}"]
  if "torch" in versions:
    parts.insert(1, f"PyTorch {versions['torch']}")
  caption = f"{count} × {environment['device_kind']} ({', '.join(parts)})"
  # Microbenchmarks and the rest are in the rows and on the page.
  main = [
    one
    for one in results["measurements"]
    if one["value"] is not None
    and (one["stage"] != "facts" or one["name"].startswith("matmul"))
  ]
  return measurements.build_table(caption, main, not results["tiny"]).markdown()


def read_all(folder: pathlib.Path = FOLDER) -> list[dict[str, Any]]:
  """Returns the results of all accelerators in a folder. Raises InputError."""
  paths = sorted(folder.glob(f"*/{output.RESULTS}"))
  found = [read_checked(path.parent) for path in paths]
  return [one for one in found if not one["tiny"]]


def main(argv: list[str]) -> None:
  """Does what the flags say."""
  del argv
  values = flags.FLAGS
  with cli.one_line_errors():
    if not values.check and not values.readme:
      raise errors.InputError("expected --check or --readme, got neither")
    if values.check:
      results = read_checked(pathlib.Path(values.check), values.complete)
      print(output.format_results(results))
    if values.readme:
      path = pathlib.Path(values.readme)
      compile_only_v5e.write_table(path, format_tables(read_all()), BEGIN)


if __name__ == "__main__":
  commands.start("accelerator results")
