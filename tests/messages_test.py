"""The errors that the programs print equal those in messages.txt.

IMGBENCH_UPDATE_MESSAGES=1 pytest tests/messages_test.py rewrites the file:
review its diff.
"""

import os
import pathlib

import pytest

from tests import forked
from tests import messages
from tests.data import shared_files

GOLDEN = pathlib.Path(__file__).with_name("messages.txt")
SHARED = "{shared}"


def title(command) -> str:
  """Returns the first line of a command's entry in the file."""
  return "$ " + " ".join(command)


def read() -> dict[str, str]:
  """Returns title -> exit code and message, of the file."""
  entries = GOLDEN.read_text().split("\n\n") if GOLDEN.exists() else []
  return dict(entry.strip("\n").split("\n") for entry in entries)


def run_commands(folder: pathlib.Path) -> dict[str, str]:
  """Returns title -> exit code and message, of commands with their data."""
  try:
    shared = str(shared_files.shared_path("data"))
  except pytest.skip.Exception:
    shared = ""
  commands = [
    command
    for command in messages.COMMANDS
    if shared or SHARED not in " ".join(command)
  ]
  tree = str(messages.ROOT)
  lines = [
    [x.replace("{tree}", tree).replace(SHARED, shared) for x in command]
    for command in commands
  ]
  names = {tree: "{tree}", shared or SHARED: SHARED, str(folder): "{folder}"}
  return {
    title(command): f"{done.code} {messages.error_line(done.stderr, names)}"
    for command, done in zip(
      commands, forked.run_all(lines, folder), strict=True
    )
  }


def test_errors_are_those_of_the_file(tmp_path):
  printed = run_commands(tmp_path)
  titles = [title(command) for command in messages.COMMANDS]
  recorded = read()
  if os.environ.get("IMGBENCH_UPDATE_MESSAGES"):
    recorded |= printed
    GOLDEN.write_text("\n".join(f"{t}\n{recorded[t]}\n" for t in titles))
  assert list(recorded) == titles
  changed = [
    f"{name}\n- {recorded[name]}\n+ {line}"
    for name, line in printed.items()
    if line != recorded[name]
  ]
  assert not changed, "\n\n".join(["messages.txt differs", *changed])
