"""Paired times of both trees: their ratios, with intervals; never differences.

The demo and the papers are timed from start to end of the process, input and
benchmark by the rates they report, of few rounds and single processes: the
interval is over pairs, which alternate (A B, B A, ...).
"""

from collections.abc import Iterator
import json
import pathlib
import tempfile

import pytest

from imgbench import timing
from imgbench.bench import medians
from tests.freeze import items
from tests.freeze import trees

SLOWER = 1.03
_INPUT = ("-m", "imgbench.bench.input", "--nopeers", "--starts=0", "--rounds=2")
# Five minutes at its own settings: one process a point, no PyTorch, no
# microbenchmarks.
_BENCH = (
  *("-m", "imgbench.bench", "--config={tree}/configs/bench.py:quick"),
  *("--out=bench", "--config.frameworks=imgbench", "--config.micro.names=()"),
  *("--config.sampling.processes=1", "--config.sampling.most_processes=1"),
)


def _programs(base: trees.Tree) -> Iterator[tuple[str, tuple[str, ...]]]:
  yield "demo", items.DEMO
  try:
    yield from items.papers().items()
  except pytest.skip.Exception as absent:
    print(f"papers: not timed: {absent}")
  data = base.out / "imagenet/data"
  if data.is_dir():
    line = (*_INPUT, f"--data_dir={data}", "--size=32", "--out=input")
    yield "input", line
  else:
    print("input: not timed: needs item imagenet")
  yield "bench", _BENCH


def _measure(tree: trees.Tree, name: str, line) -> dict[str, float]:
  """Returns seconds of a run by what they are of."""
  with tempfile.TemporaryDirectory(prefix="freeze-") as text:
    folder = pathlib.Path(text)
    started = timing.clock()
    tree.run(folder, line, name=name)
    seconds = timing.clock() - started
    if name == "input":
      medians_of = _medians(folder / "input")
      return {
        f"input {key}": 1 / median
        for key, median in medians_of.items()
        if key.endswith("images_per_s")
      }
    if name == "bench":
      lines = (folder / "bench/rows.jsonl").read_text().splitlines()
      rows = [json.loads(line) for line in lines]
      return {
        f"bench {row['model']} {row['task']}": 1 / row["images_per_s"]
        for row in rows
      }
  return {name: seconds}


def _medians(path: pathlib.Path) -> dict[str, float]:
  """Returns the medians of a folder of rows, or of a file of older trees."""
  if path.is_file():
    rows = json.loads(path.read_text())["rows"]
    return {name: row["median"] for name, row in rows.items()}
  lines = (path / "rows.jsonl").read_text().splitlines()
  return {row["name"]: row["rate"] for row in map(json.loads, lines)}


def report(base: trees.Tree, new: trees.Tree, pairs: int) -> None:
  """Prints a line for each time: new over base, with a 95% t-interval."""
  for name, line in _programs(base):
    seconds: dict[trees.Tree, list[dict[str, float]]] = {base: [], new: []}
    # The first pair fills caches and does not count.
    for number in range(pairs + 1):
      for tree in (base, new) if number % 2 else (new, base):
        found = _measure(tree, name, line)
        seconds[tree] += [found] if number else []
    for key in seconds[base][0]:
      after, before = ([x[key] for x in seconds[t]] for t in (new, base))
      ratio = medians.paired_ratio(after, before)
      low, high, _ = ratio.interval(medians.COVERAGE)
      slower = ratio.ratio > SLOWER and low > 1
      print(
        f"time {key:40} {ratio.ratio:.3f} [{low:.3f}, {high:.3f}] of the base's"
        + (", SLOWER: explain it in the commit message" if slower else ""),
        flush=True,
      )
