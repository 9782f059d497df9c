"""The row of a benchmark: medians with their spread, raw values beside them."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
import statistics
from typing import Any

from absl import flags

from imgbench import environment
from imgbench import writers


@dataclasses.dataclass(frozen=True)
class Spread:
  """Values of one quantity measured several times in one run.

  Attributes:
    values: in the order measured; the unit stands in the row's key.
  """

  values: Sequence[float]

  @property
  def median(self) -> float:
    return statistics.median(self.values)

  def as_json(self) -> dict[str, Any]:
    return {
      "median": self.median,
      "min": min(self.values),
      "max": max(self.values),
      "n": len(self.values),
      "values": list(self.values),
    }

  def text(self, unit: str = "", digits: int = 4) -> str:
    show = lambda x: f"{x:.{digits}g}"
    return (
      f"{show(self.median)} {unit}".rstrip()
      + f"  [{show(min(self.values))}, {show(max(self.values))}]"
      + f"  n={len(self.values)}"
    )


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
  """The ratios of values measured side by side, pair by pair."""
  if len(above) != len(below):
    raise ValueError(
      f"expected as many values above as below, got {len(above)} and"
      f" {len(below)}"
    )
  return Spread([a / b for a, b in zip(above, below, strict=True)])


def define_out_flag(flag_values: flags.FlagValues) -> None:
  """Defines --out."""
  flags.DEFINE_string(
    "out", "", "JSON file of the rows; empty: none.", flag_values=flag_values
  )


def publish(
  rows: Mapping[str, Spread], facts: Mapping[str, Any], out: str
) -> None:
  """Prints rows and, unless `out` is empty, writes them there."""
  width = max(map(len, rows))
  for name, spread in rows.items():
    print(f"{name:{width}} {spread.text()}")
  if out:
    write(pathlib.Path(out), rows, facts, environment.collect())


def write(
  path: pathlib.Path,
  rows: Mapping[str, Spread],
  facts: Mapping[str, Any],
  machine: Mapping[str, Any],
) -> None:
  """Writes rows, what they are rows of, and the environment as one JSON."""
  path.parent.mkdir(parents=True, exist_ok=True)
  writers.write_json(
    path,
    {
      **facts,
      "rows": {name: spread.as_json() for name, spread in rows.items()},
      "environment": dict(machine),
    },
  )
