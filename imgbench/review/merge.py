r"""Merges filled tables of imgbench review pending into annotations.

imgbench review merge reviews/pending.csv --reviewer=ada \
    --annotations=human_accuracy_v3.0.0.json --out=new.json

Writes the annotations in the form that TFDS's imagenet2012_multilabel reads,
and prints the numbers of new reviews; with --run also the multi-label accuracy
before and after. Exit codes: 0 done, 2 bad input.
"""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import json
from typing import Any

from absl import flags
from absl import logging

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import writers
from imgbench.labels import annotations
from imgbench.labels import review_database
from imgbench.labels import review_table
from imgbench.papers.readers import reviews as reviews_lib
from imgbench.review import pending
from imgbench.tables import formats
from imgbench.tables import table

SIDE = review_database.SIDE
_COLUMNS = ("image_id", "wnid", "state", "problematic", "note")
_STATES = (*reversed(reviews_lib.STATES), "don't know", "")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the program."""
  for name, text in {
    **pending.RUN_FLAGS,
    "annotations": "Annotations to add to, JSON or a database; unchanged.",
    "out": "File for the new annotations.",
    "reviewer": "Name to list with the reviews.",
  }.items():
    flags.DEFINE_string(name, None, text, flag_values=flag_values)


def merge(
  content: Mapping[str, Any], paths: Sequence[str], reviewer: str = ""
) -> tuple[dict[str, Any], collections.Counter[str]]:
  """Returns annotations with the reviews of tables, and counts of new reviews.

  Entries without reviews, and unknown keys, stay as they are. SIDE lists all
  reviews, also those that do not decide. Merging twice changes nothing.
  `content` is what `reviews.read` accepts.

  Raises:
    InputError: another layout, an unknown state, class or image, or a state or
      reason that differs from the annotations or from an earlier line.
  """
  annotated = dict(content["initial_annots"])
  problematic = dict(content["problematic_images"])
  reviews_lib.check_kind(SIDE, content.get(SIDE, []), list, "a list")
  side, seen = list(content.get(SIDE, [])), collections.Counter[str]()
  listed = set(map(json.dumps, side))
  columns = [(name,) for name in _COLUMNS]
  forms = {review_table.find_id(key): key for key in annotated}
  lines = (x for p in paths for x in review_table.iterate(p, columns))
  for where, row in lines:
    cells = {name: row[name].strip() for name in _COLUMNS}
    image, wnid, state, reason, _ = cells.values()
    image = forms.get(review_table.find_id(image), image)
    cells["image_id"] = image
    cells["state"] = state = state.lower().replace("’", "'")
    expected = f"state {', '.join(_STATES[:-1])}, or none"
    errors.check(state in _STATES, where, expected, repr(row["state"]))
    reviews_lib.class_index(where, wnid)
    errors.check(image in annotated, where, "an annotated image", repr(image))
    entry = annotated[image]
    why = annotations.find_reason(problematic.get(image, ""))
    was = next((s for s in _STATES[:3] if wnid in entry.get(s, ())), "")
    label = state if state in _STATES[:3] else ""
    for new, old in ((label, was), (reason, why)):
      expected = f"{old!r}, as in the annotations or an earlier line"
      errors.check("" in (old, new) or old == new, where, expected, repr(new))
    if label and not was:
      annotated[image] = {**entry, label: [*entry.get(label, ()), wnid]}
    if reason and not why:
      problematic[image] = reason
      seen["problematic images"] += 1
    cells = {k: v for k, v in (cells | {"reviewer": reviewer}).items() if v}
    if len(cells) > 2 + bool(reviewer) and json.dumps(cells) not in listed:
      side.append(cells)
      listed.add(json.dumps(cells))
      seen[state or "without a state"] += 1
  merged = {"initial_annots": annotated, "problematic_images": problematic}
  return {**content, **merged, **({SIDE: side} if side else {})}, seen


def measure(found, reviews: reviews_lib.Reviews) -> dict[str, float | None]:
  """Returns the accuracies of a run on the images that count."""
  _, result = pending.evaluate_reviewed(found, reviews)
  rows = reviews_lib.drop_unknown(result.measurements, reviews)
  return {metric: m.value for (*_, metric), m in rows.items()}


def merge_files(values: flags.FlagValues, given: list[str]) -> str:
  """Merges tables into --out; returns what to print. Raises InputError."""
  errors.check(bool(given), "FILE", "at least one filled table", "none")
  content = review_table.read_file(values.annotations)
  before = reviews_lib.read(values.annotations, content)
  merged, seen = merge(content, given, values.reviewer or "")
  after = reviews_lib.read(values.out, merged)
  lines = [f"{number:,} {what}" for what, number in sorted(seen.items())]
  if values.run:
    _, found = pending.read_run(values)
    both = [measure(found, reviews) for reviews in (before, after)]
    named = [name for name in both[0] if name.startswith("multilabel")]
    cells = [[n, *(formats.percent(x[n], 3) for x in both)] for n in named]
    header = ("metric, %", "before", "after")
    lines += ["", table.from_cells(found.key, header, cells).text()]
  writers.write_output("--out", values.out, json.dumps(merged) + "\n")
  return "\n".join(["new reviews:", *lines, f"wrote {values.out}"])


def parse_flags(argv: list[str]) -> list[str]:
  """Returns the program's name and the files. Raises InputError."""
  return cli.parse_flags(argv, ("annotations", "out"), positional=True)


def main(argv: list[str]) -> int:
  """Merges the tables that the command line names."""
  logging.set_verbosity(logging.WARNING)
  print(merge_files(flags.FLAGS, argv[1:]))
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("review merge")
