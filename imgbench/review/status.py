"""Prints how far a review is.

imgbench review status --db=reviews.db

Exit codes: 0 done, 2 bad input.
"""

from collections.abc import Callable
from collections.abc import Iterable
import datetime
import functools
import sqlite3

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench.labels import review_database
from imgbench.tables import formats
from imgbench.tables import table

REQUIRED = ("db",)
_COUNTS = {
  "images": "image",
  "annotated": "image WHERE entry IS NOT NULL OR EXISTS"
  " (SELECT 1 FROM prediction WHERE image = image.id AND state != 0)",
  "problematic": "image WHERE problematic IS NOT NULL",
  "image-class pairs": "prediction",
  "open predictions": "prediction JOIN image ON image = image.id WHERE"
  " state = 0 AND prediction.panel = 0 AND problematic IS NULL",
  "for the panel": "prediction WHERE panel",
  "categories": "category",
  "models": "model",
  "predictions of models": "model_prediction",
  "users": "user WHERE active",
  "votes": "vote",
  "events": "event",
}
_CAMPAIGNS = (
  "SELECT name, policy, votes, ifnull(sum(NOT open), 0), count(image)"
  " FROM campaign LEFT JOIN item ON campaign = campaign.id AND NOT control"
  " WHERE active GROUP BY campaign.id"
)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the program."""
  text = "The database, of imgbench review init."
  flags.DEFINE_string("db", None, text, flag_values=flag_values)


def count(connection: sqlite3.Connection) -> dict[str, int]:
  """Returns numbers of rows; open predictions include original labels."""
  return {
    name: connection.execute(f"SELECT count(*) FROM {of}").fetchone()[0]
    for name, of in _COUNTS.items()
  }


def describe(connection: sqlite3.Connection) -> Iterable[table.Table]:
  """Yields the tables to print."""
  cells = [[name, f"{n:,}"] for name, n in count(connection).items()]
  query = "SELECT id, kind, time FROM event ORDER BY id DESC LIMIT 1"
  for number, kind, time in connection.execute(query):
    when = datetime.datetime.fromtimestamp(time, datetime.UTC)
    cells.append([f"last event ({kind})", f"{number:,}, {when:%F %T} UTC"])
  yield table.from_cells("Review", ("quantity", "number"), cells)
  rows = [
    [name, policy, f"{votes}", formats.counted(decided, images)]
    for name, policy, votes, decided, images in connection.execute(_CAMPAIGNS)
  ]
  if rows:
    header = ("campaign", "policy", "votes", "decided images")
    yield table.from_cells("Campaigns", header, rows)


def run(show: Callable[..., Iterable[table.Table]], argv: list[str]) -> int:
  """Prints tables of the database that the command line names."""
  del argv
  path = flags.FLAGS.db
  review_database.check(path, "--db", review_database.NEWEST)
  with review_database.open_read_only(path) as connection:
    print("\n\n".join(found.text() for found in show(connection)))
  return errors.EXIT_DONE


main = functools.partial(run, describe)


if __name__ == "__main__":
  commands.start("review status")
