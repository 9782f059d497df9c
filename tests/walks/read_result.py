"""Prints a metric of a run's results: python read_result.py RUN METRIC."""

import json
import pathlib
import sys


def main(run: str, metric: str) -> None:
  """Prints key, value and number of images; fails if there is none."""
  results = json.loads(pathlib.Path(run, "results.json").read_text())
  found = {key: row for key, row in results.items() if key.endswith(metric)}
  assert found, sorted(results)
  for key, row in found.items():
    print(key, row["value"], row["n"])


if __name__ == "__main__":
  main(*sys.argv[1:])
