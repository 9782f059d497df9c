"""Texts from files and folders, made safe to show."""

import re

# Controls of terminals, ends of lines, marks that reorder a line, and halves of
# characters, which cannot be encoded.
_RAW = re.compile(
  "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
  """Returns a text as one line that a terminal shows as it is.

  Control characters, ends of lines and marks of writing direction become
  spaces.
  """
  return _RAW.sub(" ", text)


def printable_lines(text: str) -> str:
  """Returns lines after `printable`."""
  return "\n".join(map(printable, text.split("\n")))


def is_number(text: str) -> bool:
  """Returns whether `float` reads a text."""
  try:
    float(text)
  except ValueError:
    return False
  return True
