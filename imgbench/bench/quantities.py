"""Quantities measured by the component benchmarks, as rows.

Each is a row of its benchmark's task: the median over rounds of one process,
the least and the largest, and all values in `raw`.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any
from typing import NamedTuple

from absl import flags
from absl import logging

from imgbench import environment
from imgbench import errors
from imgbench import paths
from imgbench import writers
from imgbench.bench import rows
from imgbench.bench import summaries
from imgbench.bench.pages import row_tables


class Samples(NamedTuple):
  """Values of one quantity, one per round.

  Attributes:
    unit: one of those in `rows`.
    values: in the order measured.
  """

  unit: str
  values: Sequence[float]


def ratio(unit: str, above: Sequence[float], below: Sequence[float]) -> Samples:
  """Returns the ratios of values measured side by side, pair by pair."""
  return Samples(unit, [a / b for a, b in zip(above, below, strict=True)])


def interleave(
  tools: Mapping[str, Callable[[], Any]], rounds: int, what: str
) -> dict[str, list[Any]]:
  """Returns the results of each tool in all counted rounds.

  Args:
    tools: called once per round, in rotating order, so that none always follows
      the same one.
    rounds: number of counted rounds, after one for warm-up.
    what: name of the measurement in the log.
  """
  results = {name: [] for name in tools}
  for number in range(rounds + 1):
    items = list(tools.items())
    cut = number % len(items)
    for name, run in items[cut:] + items[:cut]:
      result = run()
      if number:
        results[name].append(result)
    logging.info("%s: round %d of %d", what, number, rounds)
  return results


def define_flags(
  flag_values: flags.FlagValues, **integers: tuple[int, int, str]
) -> None:
  """Defines --out and integer flags: name=(default, least value, help)."""
  for name, (default, least, text) in integers.items():
    flags.DEFINE_integer(name, default, text, least, flag_values=flag_values)
  flags.DEFINE_string(
    "out", "", "Folder for the rows; empty: none.", flag_values=flag_values
  )


def check_out(out: str, task: str) -> None:
  """Raises InputError if --out is no folder or has rows of another task."""
  if not out:
    return
  paths.check_writable(paths.as_path(out, "--out"), "--out")
  path = pathlib.Path(out)
  tasks = {row.key.task for row in rows.read(path / rows.ROWS)}
  if tasks - {task}:
    found = f"rows of task {', '.join(tasks)}"
    expected = f"a folder for rows of task {task}"
    raise errors.InputError("--out", expected, f"{out}, {found}")


def as_rows(
  task: str, found: Mapping[str, Samples], digest: str = ""
) -> list[rows.Row]:
  """Returns one row per quantity."""
  return [
    summaries.build_row(
      rows.Key(task, name=name),
      [rows.Process(value=value) for value in samples.values],
      summaries.Facts(rate_unit=samples.unit),
      environment=digest,
    )
    for name, samples in found.items()
  ]


def publish(
  task: str, found: Mapping[str, Samples], facts: Mapping[str, Any], out: str
) -> None:
  """Prints rows, and writes them unless `out` is empty."""
  print("\n".join(row_tables.build_quantities(as_rows(task, found)).lines()))
  if out:
    write(pathlib.Path(out), task, found, facts, environment.collect())


def write(
  folder: pathlib.Path,
  task: str,
  found: Mapping[str, Samples],
  facts: Mapping[str, Any],
  machine: Mapping[str, Any],
) -> None:
  """Writes rows, facts (as config) and environment into a folder."""
  folder.mkdir(parents=True, exist_ok=True)
  writers.write_json(folder / rows.ENVIRONMENT, dict(machine))
  writers.write_json(folder / rows.CONFIG, dict(facts))
  digest = rows.environment_digest(folder)
  rows.write(folder, as_rows(task, found, digest))


def read(folder: pathlib.Path) -> dict[str, Samples]:
  """Returns the quantities of a folder by name. Raises InputError."""
  return {
    row.key.name: Samples(row.rate_unit, [p.value for p in row.raw])
    for row in rows.read_folder(folder).rows
  }
