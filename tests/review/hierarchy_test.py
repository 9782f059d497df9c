"""Tests of the hierarchy of classes: WordNet's, that of scenes, and none."""

import contextlib

import pytest

from imgbench import errors
from imgbench.labels import classes as imagenet
from imgbench.review import hierarchy
from imgbench.review import imports
from imgbench.review import init
from imgbench.review import store
from imgbench.scenes import classes as scenes
from tests.experiments import derive_classes_test as wordnet
from tests.review import sites


@pytest.fixture
def database(tmp_path):
  """A database of classes of the tiny WordNet."""
  rows = [
    (0, "n02090000", "borzoi", "", "dog,organism"),
    (1, "n02090001", "Laika", "", "dog,organism"),
    (2, "n02090002", "cat", "", "organism"),
    (3, "n02090003", "dog lead", "", "object"),
  ]
  tmp_path.joinpath("data.noun").write_text(wordnet.TINY)
  with contextlib.closing(store.create(tmp_path / "a.db", rows)) as connection:
    yield connection


def show(tree):
  """Returns names of groups with what is in them."""
  return [
    (node["name"], show(node["children"])) if node["children"] else node["name"]
    for node in tree
  ]


def dump(connection):
  return [*connection.iterdump()]


def test_a_tree_by_hand(database, tmp_path):
  assert show(hierarchy.build_tree(database)) == [
    "dog lead",
    ("organisms", ["cat", ("dogs", ["borzoi", "Laika"])]),
  ]
  counts, _ = imports.import_files(database, classes=str(tmp_path))
  assert counts["groups"] == 3 and counts["events"] == 1
  # The borzoi is below entity and dog. Only "entity" is at the top.
  tree = hierarchy.build_tree(database)
  assert show(tree) == [
    "borzoi",
    "dog lead",
    ("organism", ["cat", ("dog", ["borzoi", "Laika"])]),
  ]
  organism = tree[2]
  assert (organism["count"], organism["class"]) == (3, None)
  assert organism["gloss"] == "it lives"
  paths = hierarchy.find_paths(tree, "n02090000")
  assert [[x["wnid"] for x in path] for path in paths] == [
    ["n02090000"],
    ["n00004475", "n02084071", "n02090000"],
  ]
  query = "SELECT gloss FROM class ORDER BY id"
  glosses = [row[0] for row in database.execute(query)]
  assert glosses[:2] == ["a dog | that runs", "the dog in space"]
  before = dump(database)
  counts, _ = imports.import_files(database, classes=str(tmp_path))
  assert dump(database) == before and not any(counts.values())


def test_groups_of_one_child_are_left_out(database):
  chain = [("a", ""), ("b", "a"), ("n02090000", "b"), ("c", "a")]
  chain += [("n02090001", "c"), ("n02090002", "c"), ("d", ""), ("e", "d")]
  with store.transaction(database):
    hierarchy.write(database, [(*row, row[0], "") for row in chain])
  tree = hierarchy.build_tree(database)
  assert show(tree) == ["borzoi", ("c", ["cat", "Laika"])]
  with store.transaction(database):  # A group above itself has an end.
    hierarchy.write(database, [("a", "a", "a", ""), ("a", "", "a", "")])
  assert hierarchy.build_tree(database) == []


@pytest.mark.parametrize("kind", ["none", "cut", "text", "line"])
def test_refused_files_change_nothing(database, tmp_path, kind):
  file = tmp_path / "data.noun"
  if kind == "none":
    file.unlink()
  elif kind == "cut":
    file.write_text(wordnet.TINY[:-20])
  elif kind == "text":
    file.write_bytes(b"\xff\xfe")
  else:
    file.write_text(wordnet.TINY.replace("0 002 @ 0000447", "0 003 @ 0000447"))
  before = dump(database)
  with pytest.raises(errors.InputError):
    imports.import_files(database, classes=str(tmp_path))
  assert dump(database) == before


def test_classes_that_wordnet_does_not_have(tmp_path):
  tmp_path.joinpath("data.noun").write_text(wordnet.TINY)
  with contextlib.closing(sites.create(tmp_path / "a.db")) as connection:
    with pytest.raises(errors.InputError, match="n00000000"):
      imports.import_files(connection, classes=str(tmp_path))
    connection.execute("UPDATE class SET wnid = 'husky' WHERE id = 4")
    with pytest.raises(errors.InputError, match="husky") as error:
      imports.import_files(connection, classes=str(tmp_path))
  assert error.value.setting == "--classes"


def test_all_of_imagenet(tmp_path):
  wordnet.require_wordnet()
  path = tmp_path / "a.db"
  with contextlib.closing(store.create(path, init.list_imagenet())) as database:
    counts, _ = imports.import_files(database, classes=str(wordnet.WORDNET))
    assert counts["groups"] == 860
    tree = hierarchy.build_tree(database)
    assert sum(node["count"] for node in tree) >= 1_000
    for wnid in imagenet.imagenet_classes().wnids:
      assert hierarchy.find_paths(tree, wnid)
    paths = hierarchy.find_paths(tree, "n02099601")
    assert {path[-2]["name"] for path in paths} == {"retriever"}
    (missing,) = database.execute("SELECT count(*) FROM class WHERE gloss = ''")
    assert missing[0] == 0


def test_scenes_have_their_own_tree(tmp_path):
  names = scenes.CLASS_NAMES
  rows = [(i, name, name, "", "") for i, name in enumerate(names)]
  with contextlib.closing(store.create(tmp_path / "a.db", rows)) as database:
    with store.transaction(database):
      hierarchy.write(database, hierarchy.list_groups(scenes.GROUPS))
    tree = hierarchy.build_tree(database)
  assert sum(node["count"] for node in tree) == len(names)
  for name in names:
    (path,) = hierarchy.find_paths(tree, name)
    assert path[-1]["class"] == names.index(name)
  (path,) = hierarchy.find_paths(tree, "husky")
  assert [node["name"] for node in path] == [
    *("organisms", "animals", "dogs", "husky")
  ]
