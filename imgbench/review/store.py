"""The SQLite database of reviews: creating, opening, transactions.

Tables are in migrations/*.sql. `PRAGMA application_id` tells the files of
imgbench, `PRAGMA user_version` is the number of the last migration.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import functools
import hashlib
import hmac
from importlib import resources
import json
import os
import pathlib
import secrets
import sqlite3
import time
from typing import Any

from imgbench import errors
from imgbench.labels import review_database

Class = tuple[int, str, str, str, str]  # id, wnid, name, gloss, subsets
ROLES = ("viewer", "labeler", "reviewer", "panel", "admin")
IMAGE = -1  # target of votes on the image as a whole
DONT_KNOW = 4  # state of a vote, beside those of labels.annotations
_BUSY_S = 10
_UNWRITABLE = (
  *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR),
  *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN),
)


class WriteError(errors.RunError):
  """The database cannot be written, perhaps for some time."""


def list_migrations() -> list[str]:
  """Returns the SQL of all migrations, the first one first."""
  folder = resources.files(__package__).joinpath("migrations")
  files = sorted(folder.iterdir(), key=lambda file: file.name)
  return [
    f.read_text(encoding="utf-8") for f in files if f.name.endswith(".sql")
  ]


def create(
  path: str | os.PathLike[str], classes: Sequence[Class] = ()
) -> sqlite3.Connection:
  """Returns a new database with classes. Raises InputError."""
  path = pathlib.Path(path)
  missing = not path.exists()
  errors.check(missing, "--db", "a new file", f"{path}, which exists")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = connect(path, "rwc")
    with transaction(connection):
      number = review_database.APPLICATION_ID
      connection.execute(f"PRAGMA application_id = {number}")
      _migrate(connection, 0)
      write_setting(connection, "secret", secrets.token_hex(32))
      query = "INSERT INTO class VALUES (?, ?, ?, ?, ?)"
      connection.executemany(query, classes)
  except (OSError, sqlite3.Error, WriteError) as error:
    raise errors.InputError(
      "--db", "a writable file", path, f"{error}"
    ) from error
  return connection


def open_database(path: str | os.PathLike[str]) -> sqlite3.Connection:
  """Returns a connection for reading and writing, migrated if it is older.

  Rows are `sqlite3.Row`; there is no open transaction, see `transaction`. It
  may move between threads, which take turns.

  Raises:
    InputError: no such file, damaged or foreign, or of a newer imgbench.
  """
  known = list_migrations()
  version = review_database.check(path, "--db", len(known))
  try:
    connection = connect(path)
    if version < len(known):
      with transaction(connection):
        # Another process may have been faster.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        _migrate(connection, version)
  except sqlite3.Error as error:
    raise errors.InputError(
      "--db", "a writable database", path, f"{error}"
    ) from error
  return connection


def connect(
  path: str | os.PathLike[str], mode: str = "rw"
) -> sqlite3.Connection:
  """Returns a connection without any check, see `open_database`."""
  path = pathlib.Path(path)
  connection = sqlite3.connect(
    f"{path.resolve().as_uri()}?mode={mode}",
    uri=True,
    timeout=_BUSY_S,
    isolation_level=None,
    check_same_thread=False,
  )
  connection.row_factory = sqlite3.Row
  for pragma in (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "trusted_schema = OFF",
  ):
    connection.execute(f"PRAGMA {pragma}")
  return connection


def _migrate(connection: sqlite3.Connection, version: int) -> None:
  """Runs the migrations after `version`; within a transaction."""
  for number, text in enumerate(list_migrations()[version:], version + 1):
    statement = ""
    for line in text.splitlines(keepends=True):
      statement += line
      if sqlite3.complete_statement(statement):
        connection.execute(statement)
        statement = ""
    connection.execute(f"PRAGMA user_version = {number}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
  """Commits what the block writes, all of it or nothing.

  Raises:
    WriteError: another process writes for too long, the disk is full.
  """
  try:
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")
  except BaseException as error:
    if connection.in_transaction:  # SQLite has ended it if the disk is full.
      connection.execute("ROLLBACK")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary one
    if code in _UNWRITABLE:
      text = f"the review database cannot be written: {error}"
      raise WriteError(text) from error
    raise


def read_setting(
  connection: sqlite3.Connection, name: str, default=None
) -> Any:
  """Returns a value of the table of settings."""
  query = "SELECT value FROM setting WHERE name = ?"
  row = connection.execute(query, (name,)).fetchone()
  return default if row is None else json.loads(row[0])


def write_setting(connection: sqlite3.Connection, name: str, value) -> None:
  """Writes a value, JSON, of the table of settings."""
  query = "INSERT OR REPLACE INTO setting VALUES (?, ?)"
  connection.execute(query, (name, json.dumps(value)))


def hide_name(secret: str, *parts: object) -> str:
  """Returns the public id of an image, or a number to order rows by.

  It tells nothing about `parts` to those who do not know the secret.
  """
  text = json.dumps([str(part) for part in parts])
  return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()[
    :20
  ]


def add_event(connection: sqlite3.Connection, kind: str, **columns) -> int:
  """Appends to the event log; returns the id of the event."""
  values = {"time": time.time(), "kind": kind} | columns
  names = ", ".join(values)
  marks = ", ".join(f":{name}" for name in values)
  query = f"INSERT INTO event ({names}) VALUES ({marks})"
  return connection.execute(query, values).lastrowid


@functools.cache
def _queries() -> dict[str, str]:
  file = resources.files(__package__) / "queries.sql"
  text = file.read_text(encoding="utf-8")
  parts = text.split("-- name: ")[1:]
  return {name: sql for name, _, sql in (p.partition("\n") for p in parts)}


def fetch(connection: sqlite3.Connection, query: str, **key) -> list[Any]:
  """Returns the rows of a query of queries.sql."""
  return connection.execute(_queries()[query], key).fetchall()
