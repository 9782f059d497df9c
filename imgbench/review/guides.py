"""Imports labeling guides into the database of a review.

imgbench review guide import imgbench/scenes/guide --db=reviews.db

Each NAME.md of the folder is a guide: a line "# Title", a line "Classes: wnid,
wnid", and Markdown. Its images are ![text](file.jpg) of the folder, JPEG or
PNG, or ![text](image:DATASET/NAME) of the database, which no labeling task may
have. All of a folder is imported, or nothing; a guide that changed becomes a
new revision. Exit codes: 0 done, 2 bad input.
"""

import contextlib
import functools
import hashlib
import json
import pathlib
import re
import sqlite3
import time

from absl import flags

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench.data import image_decode
from imgbench.review import images
from imgbench.review import status
from imgbench.review import store

define_flags = status.define_flags
_LARGEST = 4 << 20  # bytes of an image, and of a guide
_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_HEAD = re.compile(r"# (\S.*)\n\s*Classes: *(\S.*)\n((?s:.*))")
_IMAGE = re.compile(r"!\[([^\]]*)\]\(\s*([^)]*?)\s*\)")
_QUERY = (
  "SELECT public_id FROM image JOIN dataset ON dataset = dataset.id"
  " WHERE dataset.name = ? AND image.name = ? AND NOT EXISTS"
  " (SELECT 1 FROM task_image WHERE image = image.id)"
)


def _read(path: pathlib.Path, root: pathlib.Path, expected: str) -> bytes:
  """Returns a small file that is inside a folder."""
  try:
    inside = path.resolve().is_relative_to(root.resolve())
    errors.check(inside, f"{path}", f"a file in {root}", "one outside")
    with path.open("rb") as file:
      content = file.read(_LARGEST + 1)
  except errors.InputError:
    raise
  except (OSError, RuntimeError, ValueError) as error:  # Links in a loop, NUL.
    reason = errors.find_reason(error)
    raise errors.InputError(path, expected, reason) from error
  most = f"at most {_LARGEST >> 20} MiB"
  errors.check(len(content) <= _LARGEST, f"{path}", most, "more")
  return content


def _encode(path: pathlib.Path, root: pathlib.Path) -> bytes:
  """Returns a JPEG or PNG file without its metadata."""
  expected = f"a JPEG or PNG image of at most {_LARGEST >> 20} MiB"
  content = _read(path, root, expected)
  kind = image_decode.find_kind(content) or "another kind"
  errors.check(kind in ("JPEG", "PNG"), f"{path}", expected, kind)
  try:
    encoded, _ = images.encode(content)
  except Exception as error:  # Of many kinds.
    given = errors.describe(error)
    raise errors.InputError(path, expected, given) from error
  errors.check(len(encoded) <= _LARGEST, f"{path}", expected, "a larger one")
  return encoded


def import_guides(
  connection: sqlite3.Connection, folder: str | pathlib.Path
) -> list[str]:
  """Imports the guides of a folder; returns the names of those that changed.

  Raises:
    InputError: a bad file; then nothing is imported.
  """
  files = sorted(pathlib.Path(folder).glob("*.md"))
  errors.check(bool(files), f"{folder}", "a folder with NAME.md", "none")
  with store.transaction(connection):
    return [path.stem for path in files if _import(connection, path)]


def _import(connection: sqlite3.Connection, path: pathlib.Path) -> bool:
  """Imports a guide; returns whether it changed."""
  fits = _NAME.fullmatch(path.stem)
  expected = "a name of small letters, digits, _ and -"
  errors.check(fits is not None, f"{path}", expected, path.stem)
  expected = 'UTF-8 that begins with "# Title" and "Classes: wnid, wnid"'
  text = _read(path, path.parent, expected).decode(errors="replace")
  found = _HEAD.fullmatch(text)
  if found is None or "\ufffd" in text:
    raise errors.InputError(path, expected, "another text")
  title, listed, text = found.groups()
  classes = [wnid.strip() for wnid in listed.split(",")]
  known = {row[0] for row in connection.execute("SELECT wnid FROM class")}
  unknown = [wnid for wnid in classes if wnid not in known][:1]
  errors.check(not unknown, f"{path}", "classes of the database", unknown)
  replace = functools.partial(_place_image, connection, path)
  row = (title.strip(), _IMAGE.sub(replace, text), json.dumps(classes))
  query = (
    "SELECT revision, title, text, classes FROM guide WHERE name = ?"
    " ORDER BY revision DESC LIMIT 1"
  )
  revision, *last = connection.execute(query, (path.stem,)).fetchone() or (0,)
  if row == tuple(last):
    return False
  values = (path.stem, revision + 1, *row, time.time())
  connection.execute("INSERT INTO guide VALUES (?, ?, ?, ?, ?, ?)", values)
  return True


def _place_image(connection, path: pathlib.Path, found: re.Match[str]) -> str:
  """Returns an image's Markdown with its address on the server."""
  text, place = found.groups()
  if place.startswith("image:"):
    dataset, _, name = place.removeprefix("image:").partition("/")
    row = connection.execute(_QUERY, (dataset, name)).fetchone()
    expected = "images of the database that no labeling task has"
    errors.check(row is not None, f"{path}", expected, place)
    return f"![{text}](/images/{row[0]})"
  data = _encode(path.parent / place, path.parent)
  sha256 = hashlib.sha256(data).hexdigest()
  query = "INSERT OR IGNORE INTO guide_image VALUES (?, ?)"
  connection.execute(query, (sha256, data))
  return f"![{text}](/guide/images/{sha256})"


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; returns the program, "import" and a folder."""
  rest = cli.parse_flags(argv, ("db",), positional=True)
  expected, given = "import DIR", " ".join(rest[1:]) or "none"
  errors.check(len(rest) == 3 and rest[1] == "import", "guide", expected, given)
  return rest


def main(argv: list[str]) -> int:
  """Imports the folder that the command line names."""
  path = flags.FLAGS.db
  with contextlib.closing(store.open_database(path)) as connection:
    names = import_guides(connection, argv[2])
  print(f"{path}: {', '.join(names) or 'nothing new'}")
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("review guide")
