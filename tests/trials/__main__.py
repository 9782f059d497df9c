"""Random trials of faults.

python -m tests.trials --seed=0 --kills=40 --inputs=100 --hostile=20

Stops and damages runs and resumes them, gives the programs random values of
their settings, and lets them read damaged and hostile files. Prints a table of
what was tried and what held, and what did not hold. The code is 0 if all held,
else 1. Equal seeds try the same.
"""

import collections
from concurrent import futures
import pathlib
import random
import sys
import tempfile

from absl import app
from absl import flags

from imgbench.tables import table
from tests import trials
from tests.trials import hostile
from tests.trials import inputs
from tests.trials import kills

WORKERS = 2  # at a time
MOST_IN_CHAIN = 4

flags.DEFINE_integer("seed", 0, "Of the random choices.", lower_bound=0)
flags.DEFINE_integer("kills", 40, "Stops of runs.", lower_bound=0)
flags.DEFINE_integer("inputs", 100, "Bad settings.", lower_bound=0)
flags.DEFINE_integer("hostile", 20, "Hostile files.", lower_bound=0)
flags.DEFINE_string("folder", "", 'Keeps the files; "": a temporary folder.')


def run(folder: pathlib.Path) -> list[trials.Trial]:
  """Returns all trials; their files are in `folder`."""
  rng = random.Random(flags.FLAGS.seed)
  overrides = kills.draw_overrides(rng)
  unbroken = folder / "unbroken"
  run_s, first = kills.run_unbroken(unbroken, overrides)
  if first.problem:
    return [first]
  jobs = []
  left = flags.FLAGS.kills
  while left > 0:
    count = min(left, rng.randint(1, MOST_IN_CHAIN))
    arguments = (folder / f"chain{left}", unbroken, overrides, run_s, count)
    jobs.append((kills.run_chain, (_fork(rng), *arguments)))
    left -= count
  for family, count in (
    (inputs, flags.FLAGS.inputs),
    (hostile, flags.FLAGS.hostile),
  ):
    for worker in range(WORKERS):
      own = len(range(worker, count, WORKERS))
      place = folder / f"{family.__name__.rpartition('.')[2]}{worker}"
      if own:
        jobs.append((family.run, (_fork(rng), place, unbroken, own)))
  with futures.ThreadPoolExecutor(WORKERS) as pool:
    started = [pool.submit(job, *arguments) for job, arguments in jobs]
    return [first, *(trial for job in started for trial in job.result())]


def _fork(rng: random.Random) -> random.Random:
  """Returns an independent generator, so that threads try the same again."""
  return random.Random(rng.getrandbits(64))


def format_table(found: list[trials.Trial]) -> str:
  """Returns the table of trials that were made and held, as text."""
  tried = collections.Counter((t.family, t.kind) for t in found)
  held = collections.Counter((t.family, t.kind) for t in found if not t.problem)
  columns = [
    table.Column("family"),
    table.Column("kind"),
    table.Column("tried", numeric=True),
    table.Column("held", numeric=True),
  ]
  rows = [
    dict(family=family, kind=kind, tried=n, held=held[family, kind])
    for (family, kind), n in sorted(tried.items())
  ]
  return table.Table("", columns, rows).text()


def main(argv: list[str]) -> int:
  """Makes the trials; returns the exit code."""
  del argv
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(flags.FLAGS.folder or temporary)
    folder.mkdir(parents=True, exist_ok=True)
    found = run(folder.resolve())
  print(format_table(found))
  broken = [trial for trial in found if trial.problem]
  for trial in broken:
    print(f"\n{trial.family}, {trial.kind}: {trial.name}\n  {trial.problem}")
  return 1 if broken else 0


if __name__ == "__main__":
  sys.exit(app.run(main))
