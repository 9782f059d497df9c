"""Reads the labels of a database of imgbench review, with sqlite3 only."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import sqlite3

from imgbench import errors
from imgbench.labels import annotations

APPLICATION_ID = 0x494D4752  # "IMGR"
_MAGIC = b"SQLite format 3\0"
STATES = {
  annotations.CORRECT: "correct",
  annotations.UNCLEAR: "unclear",
  annotations.WRONG: "wrong",
}


def is_database(path: str | os.PathLike[str]) -> bool:
  """Returns whether a file is an SQLite database, by its first bytes."""
  try:
    with pathlib.Path(path).open("rb") as file:
      return file.read(len(_MAGIC)) == _MAGIC
  except OSError:
    return False


def check(path: str | os.PathLike[str], setting: str, newest: int) -> int:
  """Returns the version of a review database.

  Args:
    path: of the file.
    setting: flag or file that errors name.
    newest: highest version that is understood.

  Raises:
    InputError: no such file, damaged, of another program, or newer.
  """
  expected = "a database of imgbench review"
  if not is_database(path):
    exists = pathlib.Path(path).exists()
    given = f"{path}, another file" if exists else f"{path}, which is missing"
    fix = "imgbench review init --db=FILE makes one"
    raise errors.InputError(setting, expected, given, fix)
  try:
    with open_read_only(path) as connection:
      (kind,) = connection.execute("PRAGMA application_id").fetchone()
      (version,) = connection.execute("PRAGMA user_version").fetchone()
      (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
  except sqlite3.Error as error:
    raise errors.InputError(setting, expected, f"{path}: {error}") from error
  errors.check(kind == APPLICATION_ID, setting, expected, f"{path}, another's")
  errors.check(state == "ok", setting, expected, f"{path}, damaged: {state}")
  if not 1 <= version <= newest:
    limit = f"version 1 to {newest}"
    given, fix = f"{path}, version {version}", "use a newer imgbench"
    raise errors.InputError(setting, f"{expected}, {limit}", given, fix)
  return version


@contextlib.contextmanager
def open_read_only(
  path: str | os.PathLike[str],
) -> Iterator[sqlite3.Connection]:
  """Yields a connection that only reads, one state of the database."""
  uri = f"{pathlib.Path(path).resolve().as_uri()}?mode=ro"
  with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
    connection.execute("BEGIN")
    yield connection
