"""Reads the nouns of WordNet 3.0 from a user's files.

The Debian package wordnet-base has them; only data.noun is read.
"""

from collections.abc import Mapping
import pathlib
from typing import NamedTuple

from imgbench import errors

_UPWARD_POINTERS = {"@", "@i"}  # hypernym, instance hypernym


class Synset(NamedTuple):
  """A noun synset: its synonyms, the wnids of its hypernyms, its definition."""

  names: tuple[str, ...]
  hypernyms: tuple[str, ...]
  gloss: str


def read_utf8(path: pathlib.Path, expected: str) -> str:
  """Returns the text of a file; InputError says what is expected of it."""
  try:
    return path.read_text(encoding="utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise errors.InputError(path, expected, error) from error


def read_nouns(folder: pathlib.Path) -> dict[str, str]:
  """Returns the lines of WordNet's data.noun by wnid."""
  text = read_utf8(
    folder / "data.noun",
    "the database of WordNet 3.0 (Debian package wordnet-base)",
  )
  complete, where = text.endswith("\n"), f"{folder / 'data.noun'}"
  errors.check(complete, where, "a file with an end of its last line", "none")
  # The lines of the license, at the top, begin with blanks.
  lines = (line for line in text.split("\n") if line[:1].isdigit())
  return {f"n{line[:8]}": line for line in lines}


def find_synset(nouns: Mapping[str, str], wnid: str) -> Synset:
  """Returns a synset, parsed from a line of `read_nouns`.

  Fields of a line (wndb(5WN)): offset, file number, type, number of words (two
  hexadecimal digits), word and lexical id each, number of pointers (decimal),
  then for each: symbol, offset, part of speech, source/target; then the gloss.

  Raises:
    InputError: the synset is absent, or its line has other fields.
  """
  if wnid not in nouns:
    raise errors.InputError("data.noun", f"{wnid} of WordNet 3.0", "none")
  head, _, gloss = nouns[wnid].partition(" | ")
  fields, gloss = head.split(), gloss.partition('; "')[0].strip()
  try:
    after_words = 4 + 2 * int(fields[3], 16)
    words = fields[4:after_words:2]
    pointers = fields[after_words + 1 :]
    if len(pointers) != 4 * int(fields[after_words]) or not words:
      raise ValueError("fields and counts disagree")
  except (IndexError, ValueError) as error:
    where = f"data.noun: {wnid}"
    raise errors.InputError(where, "a synset of WordNet 3.0", error) from error
  hypernyms = tuple(
    f"n{offset}"
    for symbol, offset in zip(pointers[::4], pointers[1::4], strict=True)
    if symbol in _UPWARD_POINTERS
  )
  names = tuple(word.replace("_", " ") for word in words)
  return Synset(names, hypernyms, gloss)


def find_ancestors(nouns: Mapping[str, str], wnid: str) -> set[str]:
  """Returns `wnid` and every synset above it, along all its hypernyms."""
  reached = set()
  pending = [wnid]
  while pending:
    current = pending.pop()
    if current not in reached:
      reached.add(current)
      pending.extend(find_synset(nouns, current).hypernyms)
  return reached
