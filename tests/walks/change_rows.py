"""Writes changed copies of a benchmark's rows, for the regression gate.

python change_rows.py ROWS
"""

from collections.abc import Callable
import json
import pathlib
import shutil
import sys


def slow_down(row: dict, factor: float) -> dict:
  """Returns a row all of whose times are longer."""
  raw = []
  for process in row["raw"]:
    raw.append(dict(process))
    for name in ("throughput_s", "latencies_ms"):
      raw[-1][name] = [factor * time for time in process[name]]
  return row | {"raw": raw}


CHANGES: dict[str, Callable[[list[dict]], list[dict]]] = {
  "one_of_twelve": lambda rows: rows[:-2] + rows[-1:],
  "one_in_common": lambda rows: rows[5:6],
  "slower_by_20_percent": lambda rows: [slow_down(r, 1.2) for r in rows],
  "times_1.4": lambda rows: [slow_down(r, 1.4) for r in rows],
}


def main(base: pathlib.Path) -> None:
  """Writes a folder of rows for each change."""
  rows = [json.loads(line) for line in (base / "rows.jsonl").open()]
  assert len(rows) == 12
  for name, change in CHANGES.items():
    folder = pathlib.Path(name)
    folder.mkdir()
    for file in ("config.json", "environment.json"):
      shutil.copy(base / file, folder)
    lines = [json.dumps(row) + "\n" for row in change(rows)]
    folder.joinpath("rows.jsonl").write_text("".join(lines))


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
