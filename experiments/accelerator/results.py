"""Checks a folder of results, and writes the README's table of all results.

imgbench accelerator results --check=experiments/results/h200
imgbench accelerator results --readme=README.md

Exit codes: 0 done, 2 an incomplete or wrong folder.
"""

from collections.abc import Sequence
import json
import pathlib
from typing import Any

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench.bench import rows
from imgbench.experiments import compile_only_v5e
from imgbench.experiments.accelerator import measurements
from imgbench.experiments.accelerator import output
from imgbench.experiments.accelerator import stages

FOLDER = stages.ROOT / "experiments" / "results"
BEGIN, END = "<!-- accelerators -->\n", compile_only_v5e.END
NONE = "No accelerator has been measured yet.\n"


REQUIRED = ()
# What reading a damaged file raises.
_DAMAGED = (
  AttributeError,
  LookupError,
  OSError,
  RecursionError,
  TypeError,
  ValueError,
)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --check and --readme."""
  flags.DEFINE_string(
    "check", "", "Folder of results to check.", flag_values=flag_values
  )
  flags.DEFINE_bool(
    "complete",
    False,
    "With --check, require every stage to be ok, or skipped with a reason.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "readme",
    "",
    "File whose table of accelerators to rewrite.",
    flag_values=flag_values,
  )


def check(folder: pathlib.Path, complete: bool = False) -> dict[str, Any]:
  """Returns the results of a folder, checked.

  Args:
    folder: written by the suite.
    complete: whether every stage must be ok, or skipped with a reason.

  Raises:
    InputError: a missing or broken file, no rows or numbers, or with `complete`
      a stage that is neither ok nor skipped.
  """
  path = folder / output.RESULTS
  try:
    results = json.loads(path.read_text(encoding="utf-8"))
    found = {record["stage"]: record for record in results["stages"]}
    known = [measurements.SuiteNumber(**one) for one in results["measurements"]]
    device = results["environment"].get("device_kind")
  except _DAMAGED as error:
    expected = "a file of experiments.accelerator"
    raise errors.InputError(path, expected, repr(error)) from error
  if not device:
    raise errors.InputError(path, "a device_kind", "none")
  read = {row.key.text() for row in rows.read_folder(folder).rows}
  if not read or not known:
    raise errors.InputError(folder, "rows and measurements", "none")
  for stage in stages.STAGES if complete else ():
    record = found.get(stage.name, {"status": "missing", "message": ""})
    skipped = record["status"] == "skipped" and record["message"]
    if record["status"] != "ok" and not skipped:
      raise errors.InputError(
        f"{path}, stage {stage.name}",
        "ok, or skipped with a reason",
        f"{record['status']}: {record['message']}",
      )
  return results


def format_tables(found: Sequence[dict[str, Any]]) -> str:
  """Returns a table for each device, or NONE."""
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
  found = [check(path.parent) for path in paths]
  return [one for one in found if not one["tiny"]]


def main(argv: list[str]) -> None:
  """Checks results or writes the README's table."""
  del argv
  values = flags.FLAGS
  if not values.check and not values.readme:
    raise errors.InputError("flags", "--check or --readme", "neither")
  if values.check:
    results = check(pathlib.Path(values.check), values.complete)
    print(output.format_results(results))
  if values.readme:
    path = pathlib.Path(values.readme)
    compile_only_v5e.write_table(path, format_tables(read_all()), BEGIN)


if __name__ == "__main__":
  commands.start("accelerator results")
