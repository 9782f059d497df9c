"""Derives the table of the 1,000 ImageNet classes from WordNet 3.0.

imgbench derive-classes --wordnet=/usr/share/wordnet

The Debian package wordnet-base has the files (only data.noun is read). Rule:
follow the hypernym and instance-hypernym pointers of a class upwards; it is an
organism if they reach n00004475 (organism, being), and a dog if they reach
n02084071 (dog, domestic dog). The counts must equal those of Shankar et al.
2020: 410 organisms, 590 objects, 118 dogs.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import importlib.util
import pathlib
import re
from typing import NamedTuple

from absl import flags

import imgbench
from imgbench import commands
from imgbench import errors
from imgbench import writers
from imgbench.labels import wordnet as wordnet_lib
from imgbench.tables import table

ORGANISM = "n00004475"
DOG = "n02084071"
EXPECTED_COUNTS = {"organism": 410, "object": 590, "dog": 118}
NUM_CLASSES = 1000
TABLE = pathlib.Path(imgbench.__file__).with_name("labels") / (
  "imagenet_classes.csv"
)
COLUMNS = (  # of (index, DerivedClass)
  table.Column(lambda row: row[0], "index"),
  table.Column(lambda row: row[1].wnid, "wnid"),
  table.Column(lambda row: ", ".join(row[1].names), "names"),
  table.Column(lambda row: int(row[1].is_organism), "is_organism"),
  table.Column(lambda row: int(row[1].is_dog), "is_dog"),
)


class DerivedClass(NamedTuple):
  """A row of the table, without its index."""

  wnid: str
  names: tuple[str, ...]
  is_organism: bool
  is_dog: bool


def read_wnids(path: pathlib.Path, count: int = NUM_CLASSES) -> list[str]:
  """Returns the ids of a file with one WordNet id per line.

  Raises:
    InputError: unless these are `count` distinct ids (n and eight digits) in
      ascending order: the position of an id is its class index.
  """
  lines = wordnet_lib.read_utf8(path, "one WordNet id per line").splitlines()
  for number, line in enumerate(lines, 1):
    where = f"{path}, line {number}"
    if not re.fullmatch("n[0-9]{8}", line):
      raise errors.InputError(where, f"an id like {DOG}", repr(line))
    if number > 1 and line <= lines[number - 2]:
      given = f"{line} after {lines[number - 2]}"
      raise errors.InputError(where, "distinct ids in ascending order", given)
  if len(lines) != count:
    raise errors.InputError(path, f"{count} ids", len(lines))
  return lines


def find_tfds_wnids() -> pathlib.Path:
  """Returns the list of ids in tensorflow-datasets, without importing it."""
  spec = importlib.util.find_spec("tensorflow_datasets")
  if spec is None or spec.origin is None:
    fix = "or install tensorflow-datasets, whose list is the default"
    raise errors.InputError("--wnids", "a file of ids", "none", fix)
  folder = pathlib.Path(spec.origin).parent
  return folder / "datasets" / "imagenet2012" / "labels.txt"


def derive(
  nouns: Mapping[str, str], wnids: Iterable[str]
) -> list[DerivedClass]:
  """Returns the rows of the table, in the order of `wnids`."""
  rows = []
  for wnid in wnids:
    above = wordnet_lib.find_ancestors(nouns, wnid)
    names = wordnet_lib.find_synset(nouns, wnid).names
    rows.append(DerivedClass(wnid, names, ORGANISM in above, DOG in above))
  return rows


def count_kinds(rows: Sequence[DerivedClass]) -> dict[str, int]:
  """Returns the numbers of organisms, objects and dogs."""
  organisms = sum(row.is_organism for row in rows)
  dogs = sum(row.is_dog for row in rows)
  return {
    "organism": organisms,
    "object": len(rows) - organisms,
    "dog": dogs,
  }


def to_csv(rows: Sequence[DerivedClass]) -> bytes:
  """Returns the table as CSV; equal rows give equal bytes."""
  return table.Table("", COLUMNS, list(enumerate(rows))).csv().encode()


def write_table(
  wordnet: pathlib.Path, wnids: pathlib.Path, output: pathlib.Path
) -> str:
  """Writes the table; returns its path and counts as text.

  Args:
    wordnet: folder with data.noun of WordNet 3.0.
    wnids: file of the 1,000 ids, sorted.
    output: the CSV file.

  Raises:
    InputError: an input is absent or malformed, the counts differ from the
      published ones, or the output cannot be written.
  """
  rows = derive(wordnet_lib.read_nouns(wordnet), read_wnids(wnids))
  found = count_kinds(rows)
  if found != EXPECTED_COUNTS:
    raise errors.InputError(
      f"{wordnet} and {wnids}",
      f"WordNet 3.0 and the ImageNet classes with the counts {EXPECTED_COUNTS}",
      found,
    )
  writers.write_output("--output", str(output), to_csv(rows))
  words = ", ".join(f"{name} {count}" for name, count in found.items())
  return f"{output}: {words}"


REQUIRED = ("wordnet",)


def define_flags(flag_values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    "wordnet", None, "Folder with data.noun.", flag_values=flag_values
  )
  flags.DEFINE_string(
    "wnids",
    None,
    "File with one WordNet id per line (default: the list of the installed"
    " tensorflow-datasets).",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "output", str(TABLE), "The table to write.", flag_values=flag_values
  )


def main(argv: list[str]) -> int:
  """Writes the table."""
  del argv
  args = flags.FLAGS
  wnids = pathlib.Path(args.wnids) if args.wnids else find_tfds_wnids()
  wordnet, output = pathlib.Path(args.wordnet), pathlib.Path(args.output)
  print(write_table(wordnet, wnids, output))
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("derive-classes")
