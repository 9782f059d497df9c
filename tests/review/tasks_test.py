"""Tests of the command of labeling tasks, and of groups of confused classes."""

import contextlib
import shutil

from absl import flags
import pytest

from imgbench import errors
from imgbench.review import labeling
from imgbench.review import store
from imgbench.review import tasks
from tests.review import sites
from tests.train import processes


@pytest.fixture
def path(tmp_path):
  sites.create(tmp_path / "a.db").close()
  return tmp_path / "a.db"


def run(path, *args, command="tasks"):
  code = "from imgbench import commands as c; c.main()"
  given = ("review", command, *args, f"--db={path}")
  return processes.run_python("-c", code, *given)


def call(monkeypatch, path, *args):
  """Runs the command in this process."""
  values = flags.FlagValues()
  tasks.define_flags(values)
  values(["tasks", f"--db={path}", *args])
  monkeypatch.setattr(tasks.flags, "FLAGS", values)
  assert tasks.main([]) == errors.EXIT_DONE


def read(path, query):
  with contextlib.closing(store.open_database(path)) as connection:
    return [tuple(row) for row in connection.execute(query)]


def test_tasks_on_the_command_line(path, tmp_path, monkeypatch):
  names = tmp_path / "names"
  names.write_text("000\n003\n\n004\n")
  for args in (
    ("--create=a", "--mode=training", "--sample=2", "--users=lea,ann"),
    ("--create=b", "--mode=evaluation", f"--images={names}", "--external"),
    ("--create=c", "--mode=evaluation", "--group=n00000002", "--part=3"),
    ("--access=b", "--users=ben"),
    ("--close=a",),
  ):
    call(monkeypatch, path, *args)
  query = "SELECT name, mode, part, external, active FROM task"
  assert read(path, query) == [
    ("a", "training", 10, 0, 0),
    ("b", "evaluation", 10, 1, 1),
    ("c", "evaluation", 3, 0, 1),
  ]
  query = "SELECT t.name, u.name FROM task_user JOIN task t ON t.id = task"
  query += " JOIN user u ON u.id = user ORDER BY 1, 2"
  assert read(path, query) == [("a", "ann"), ("a", "lea"), ("b", "ben")]
  query = "SELECT task, count(*) FROM task_image GROUP BY task"
  assert dict(read(path, query))[2] == 3
  done = run(path)
  assert (done.returncode, done.stderr) == (0, "")
  lines = done.stdout.splitlines()
  rows = [line.split() for line in lines if line[:2] in ("a ", "b ", "c ")]
  assert [row[:4] for row in rows[:2]] == [
    ["a", "training", "2", "10"],
    ["b", "evaluation", "3", "10"],
  ]
  assert rows[0][-1] == "closed" and rows[1][-4:] == ["ben", "0", "of", "3"]


@pytest.mark.parametrize(
  "args",
  [
    ("--create=a", "--mode=training"),
    ("--create=a", "--sample=2"),
    ("--create=a", "--mode=training", "--sample=9"),
    ("--create=a", "--mode=training", "--sample=2", "--users=zoe"),
    ("--create=a", "--mode=training", "--sample=2", "--dataset=other"),
    ("--create=a", "--mode=training", "--images=missing"),
    ("--create=a", "--close=a"),
    ("--close=a",),
    ("--access=a", "--users=lea"),
    ("--suggest", "--models=other"),
    ("--create=", "--mode=training", "--sample=2"),
    ("--create= ", "--mode=training", "--sample=2"),
    ("--close=",),
    ("--sample=2",),
    ("--suggest", "--seed=1"),
  ],
)
def test_bad_flags(path, monkeypatch, args):
  with pytest.raises(errors.InputError) as caught:
    call(monkeypatch, path, *args)
  assert "\n" not in str(caught.value)
  assert read(path, "SELECT count(*) FROM task") == [(0,)]


def test_guides_and_wordnet_on_the_command_line(path, tmp_path):
  folder = tmp_path / "guide"
  folder.mkdir()
  (folder / "fish.md").write_text("# Fish\nClasses: n00000000\ntext\n")
  done = run(path, "import", str(folder), command="guide")
  assert done.returncode == 0 and "fish" in done.stdout
  for command, args in (
    ("guide", ("import",)),
    ("guide", ("export", str(folder))),
    ("guide", ("import", str(tmp_path / "none"))),
    ("import", (f"--classes={folder}",)),
  ):
    shutil.copy(path, tmp_path / "b.db")
    done = run(path, *args, command=command)
    assert done.returncode == errors.EXIT_USAGE
    assert len(done.stderr.splitlines()) == 1


def add_errors(connection, label, other, number):
  """Adds images of a label that model 1 gives another class."""
  (row,) = connection.execute("SELECT max(id) FROM image")
  for index in range(row[0] + 1, row[0] + 1 + number):
    query = "INSERT INTO image (id, public_id, dataset, name, label)"
    values = (index, f"p{index}", f"x{index}", label)
    connection.execute(f"{query} VALUES (?, ?, 1, ?, ?)", values)
    query = "INSERT INTO model_prediction VALUES (1, ?, ?)"
    connection.execute(query, (index, other))


def test_groups_by_hand(tmp_path):
  database = sites.create(tmp_path / "a.db", 3, models=2)
  with contextlib.closing(database) as connection:
    connection.execute("DELETE FROM model_prediction")
    query = "INSERT INTO class (id, wnid, name) VALUES (?, ?, ?)"
    rows = [(i, f"n{i:08}", f"class {i}") for i in range(6, 20)]
    connection.executemany(query, rows)
    for label, other, number in ((0, 1, 5), (1, 0, 2), (2, 3, 4), (0, 0, 9)):
      add_errors(connection, label, other, number)
    find = lambda **given: labeling.suggest_groups(connection, "tiny", **given)
    found = find()
    assert [x["classes"] for x in found] == [
      *(["n00000000", "n00000001"], ["n00000002", "n00000003"])
    ]
    assert [x["errors"] for x in found] == [7, 4]
    assert found[0]["share"] == 7 / 11
    assert found[0]["names"] == list(sites.CLASSES[:2])
    # Images 1 to 3 have the labels 0 to 2.
    assert [x["images"] for x in found] == [18, 5]
    assert find(models=["net 1"]) == [] and len(find(most=1)) == 1
    # A chain of seven classes: a pair of each six, and no more than six.
    for label in range(6, 12):
      add_errors(connection, label, label + 1, 20 - label)
    found = find()
    assert [len(x["classes"]) for x in found] == [6, 2, 2]
    assert found[0]["classes"][0] == "n00000006"
    assert found[0]["errors"] == sum(20 - label for label in range(6, 11))
    # What reviewers called correct is no error.
    connection.execute(
      "INSERT INTO prediction (image, class, state)"
      " SELECT image, class, 3 FROM model_prediction JOIN image ON id = image"
      " WHERE label != class AND label = 2"
    )
    assert all("n00000002" not in x["classes"] for x in find())
    with pytest.raises(errors.InputError):
      find(models=["other"])
