r"""Exports the labels of a review, or its events.

imgbench review export --db=reviews.db --out=human_accuracy.json

The JSON is what TFDS's imagenet2012_multilabel reads; csv has a line for each
reviewed label, jsonl for each event. Exit codes: 0 done, 2 bad input.
"""

import json
import sqlite3

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench import writers
from imgbench.labels import review_database
from imgbench.papers.readers import reviews as reviews_lib
from imgbench.tables import table

REQUIRED = ("db", "out")
_FORMATS = ("json", "csv", "jsonl")
_EVENTS = (  # A later column replaces an earlier one of its name.
  "SELECT event.*, user.name AS user, image.name AS image, campaign.name AS"
  " campaign, ifnull(wnid, target) AS target FROM event"
  " LEFT JOIN user ON user = user.id LEFT JOIN image ON image = image.id"
  " LEFT JOIN campaign ON event.campaign = campaign.id"
  " LEFT JOIN class ON target = class.id"
  " WHERE event.id <= ifnull(?, event.id) ORDER BY event.id"
)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the program."""
  for name, text in {
    "db": "The database, of imgbench review init.",
    "out": "File to write.",
    "at": "Number of an event or name of a release: labels as they were then.",
  }.items():
    flags.DEFINE_string(name, None, text, flag_values=flag_values)
  text = "Labels as JSON or CSV, or events as JSON lines."
  flags.DEFINE_enum("format", "json", _FORMATS, text, flag_values=flag_values)


def export(path: str, form: str = "json", at: str | None = None) -> str:
  """Returns a file with the labels or events of a database.

  Equal databases give equal bytes. Where ImageNet-M is unknown the JSON has an
  empty list, as TFDS reads no null.

  Args:
    path: of the database.
    form: "json", "csv" or "jsonl".
    at: see `review_database.read`.

  Raises:
    InputError: a bad database, an unknown event, or labels that TFDS cannot
      read.
  """
  if form == "jsonl":
    review_database.check(path, "--db", review_database.NEWEST)
    with review_database.open_read_only(path) as connection:
      return _format_events(connection, at)
  content = review_database.read(path, at)
  if form == "csv":
    return _format_pairs(content)
  # All classes are known: imports refuse others.
  annotated, slice_m = content["initial_annots"], content["imagenet_m"] or []
  fits = lambda image: image.startswith("ILSVRC2012_val_")
  others = [i for i in slice_m if i not in annotated or not fits(i)]
  expected = "annotated images of the validation set"
  reviews_lib.check_known("imagenet_m", expected, others)
  return json.dumps(content | {"imagenet_m": slice_m}) + "\n"


def _format_pairs(content) -> str:
  columns = ("image_id", "wnid", "state", "problematic")
  rows = []
  for image, entry in content["initial_annots"].items():
    problem = content["problematic_images"].get(image)
    text = "" if problem is None else review_database.describe_problem(problem)
    for state in review_database.STATES.values():
      rows += [(image, wnid, state, text) for wnid in entry.get(state, ())]
  named = (dict(zip(columns, row, strict=True)) for row in rows)
  return table.csv_text(named, columns)


def _format_events(connection: sqlite3.Connection, at: str | None) -> str:
  found = connection.execute(
    _EVENTS, (review_database.find_event(connection, at),)
  )
  names = [column[0] for column in found.description]
  lines = (json.dumps(dict(zip(names, row, strict=True))) for row in found)
  return "".join(f"{line}\n" for line in lines)


def main(argv: list[str]) -> int:
  """Writes the file that the command line names."""
  del argv
  values = flags.FLAGS
  text = export(values.db, values.format, values.at)
  writers.write_output("--out", values.out, text)
  print(f"wrote {values.out}")
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("review export")
