r"""Lists, creates and closes labeling tasks.

imgbench review tasks --db=reviews.db
imgbench review tasks --db=reviews.db --create=fish --mode=training \
    --dataset=imagenet2012:validation --group=n01440764,n01443537 \
    --sample=20 --users=ann,ben

Without other flags, it lists the tasks. --suggest prints groups of classes that
models confuse. Exit codes: 0 done, 2 bad input.
"""

import contextlib
import pathlib
import sqlite3

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench.review import labeling
from imgbench.review import store
from imgbench.tables import formats
from imgbench.tables import table

REQUIRED = ("db",)
# Actions, and the flags of each.
_ACTIONS = {
  "create": "dataset mode sample images subset group users seed part external",
  "access": "users",
  "close": "",
  "suggest": "dataset models",
}


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the program."""
  for name, kind, default, text in (
    ("db", "string", None, "The database, of imgbench review init."),
    ("create", "string", None, "Name of a task to create."),
    ("access", "string", None, "Name of a task that --users get, no others."),
    ("close", "string", None, "Name of a task to close; answers are kept."),
    ("suggest", "bool", False, "Print groups of classes that models confuse."),
    ("dataset", "string", None, "Name of a data set; default: the only one."),
    ("mode", "string", None, " or ".join(labeling.MODES)),
    ("sample", "integer", 0, "Number of images to draw; 0: all that fit."),
    ("images", "string", None, "File with the names of images, a line each."),
    ("subset", "string", "", "Images of a subset of the classes, such as dog."),
    ("group", "list", [], "Images of classes: their WordNet ids."),
    ("users", "list", [], "Names of those who may label."),
    ("seed", "integer", 0, "Seed of the order and of the sample."),
    ("part", "integer", 10, "Number of images of a part."),
    ("external", "bool", False, "Labelers may use other sources."),
    ("models", "list", [], "Names of models of --suggest; default: all."),
  ):
    define = getattr(flags, f"DEFINE_{kind}")
    define(name, default, text, flag_values=flag_values)


def find_dataset(connection: sqlite3.Connection, name: str | None) -> str:
  """Returns the name of a data set, by default the only one."""
  known = [row[0] for row in connection.execute("SELECT name FROM dataset")]
  found = known[0] if name is None and len(known) == 1 else f"{name}"
  expected = " or ".join(known) or "one that is imported"
  errors.check(found in known, "--dataset", expected, found)
  return found


def list_groups(connection: sqlite3.Connection, values) -> table.Table:
  """Returns the groups of --suggest."""
  dataset = find_dataset(connection, values.dataset)
  groups = labeling.suggest_groups(connection, dataset, values.models)
  header = ("classes", "errors", "share of errors", "images", "flag")
  cells = []
  for group in groups:
    names = "; ".join(name.partition(",")[0] for name in group["names"])
    numbers = [f"{group[name]:,}" for name in ("errors", "images")]
    numbers.insert(1, formats.share(group["share"]))
    cells.append([names, *numbers, f"--group={','.join(group['classes'])}"])
  return table.from_cells("Confused classes", header, cells)


def list_all(connection: sqlite3.Connection, values) -> table.Table:
  """Returns all tasks with the progress of their users."""
  del values
  told: dict[int, list[str]] = {}
  for user, name in connection.execute(
    "SELECT id, name FROM user ORDER BY name"
  ):
    for task in labeling.list_tasks(connection, user):
      text = f"{name} {task['done']:,} of {task['images']:,}"
      told.setdefault(task["id"], []).append(text)
  query = (
    "SELECT id, name, mode, part, external, active, (SELECT count(*)"
    " FROM task_image WHERE task = task.id) AS images FROM task ORDER BY id"
  )
  cells = []
  for row in connection.execute(query):
    users = told.get(row["id"], ["nobody"]) if row["active"] else ["closed"]
    other = "yes" if row["external"] else "no"
    numbers = [f"{row[name]:,}" for name in ("images", "part")]
    cells.append([row["name"], row["mode"], *numbers, other, ", ".join(users)])
  header = ("task", "mode", "images", "part", "other sources", "labelers")
  return table.from_cells("Labeling tasks", header, cells)


def create(connection: sqlite3.Connection, values) -> None:
  """Creates the task that the command line describes. Raises InputError."""
  names = []
  if values.images:
    from imgbench.score import files  # It imports JAX.

    lines = files.read_texts(pathlib.Path(values.images))
    names = [line.strip() for line in lines if line.strip()]
  chosen = values.sample or names or values.subset or values.group
  expected = "--sample, --images, --subset or --group"
  errors.check(bool(chosen), "--create", expected, "none")
  images = labeling.choose_images(
    connection,
    find_dataset(connection, values.dataset),
    **{"sample": values.sample, "seed": values.seed, "names": names},
    **{"subset": values.subset, "classes": values.group},
  )
  options = values.users, values.part, values.external
  labeling.create_task(connection, values.create, values.mode, images, *options)


def main(argv: list[str]) -> int:
  """Does what the flags say, and prints a table."""
  del argv
  values = flags.FLAGS
  given = [f"--{x}" for x in _ACTIONS if values[x].value not in (None, False)]
  one = f"one of {', '.join(_ACTIONS)}"
  errors.check(len(given) < 2, "command line", one, " ".join(given))
  own = {name for text in given for name in _ACTIONS[text[2:]].split()}
  others = {x for names in _ACTIONS.values() for x in names.split()} - own
  unused = [f"--{name}" for name in sorted(others) if values[name].present]
  fits = "those of an action, such as --create"
  errors.check(not unused, "flags", fits, " ".join(unused))
  with contextlib.closing(store.open_database(values.db)) as connection:
    found = dict(connection.execute("SELECT name, id FROM task").fetchall())
    name = values.close if values.access is None else values.access
    expected = " or ".join(found) or "a task; there is none"
    errors.check(name is None or name in found, "task", expected, name)
    with store.transaction(connection):
      if values.create is not None:
        create(connection, values)
      elif values.access is not None:
        labeling.set_access(connection, found[name], values.users)
      elif values.close is not None:
        query = "UPDATE task SET active = 0 WHERE id = ?"
        connection.execute(query, (found[name],))
    show = list_groups if values.suggest else list_all
    print(show(connection, values).text())
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("review tasks")
