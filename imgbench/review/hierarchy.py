"""The hierarchy above the classes of a database: WordNet's, or a small one."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
import re
import sqlite3
from typing import Any

from imgbench import errors
from imgbench.labels import wordnet
from imgbench.review import decide

Row = tuple[str, str, str, str]  # wnid, that of the parent, name, gloss
Group = tuple[str, str, Sequence[str]]  # name, group above it, classes
_SUBSETS = {"dog": "dogs", "organism": "organisms", "object": "objects"}
_WNID = re.compile("n[0-9]{8}")


def read_wordnet(
  folder: str, wnids: Iterable[str]
) -> dict[str, wordnet.Synset]:
  """Returns the synsets of classes and all above them, by wnid.

  Raises:
    InputError: wrong or damaged files, or classes that WordNet does not have.
  """
  others = [wnid for wnid in wnids if not _WNID.fullmatch(wnid)]
  expected = "a database whose classes are WordNet ids"
  errors.check(not others, "--classes", expected, others[:1])
  nouns = wordnet.read_nouns(pathlib.Path(folder))
  reached = {x for wnid in wnids for x in wordnet.find_ancestors(nouns, wnid)}
  return {wnid: wordnet.find_synset(nouns, wnid) for wnid in sorted(reached)}


def write_wordnet(
  connection: sqlite3.Connection, synsets: Mapping[str, wordnet.Synset]
) -> int:
  """Sets glosses of classes and the hierarchy; returns its number of groups.

  The number is 0 if all of it was there. Needs a transaction.
  """
  query = "UPDATE class SET gloss = ?1 WHERE wnid = ?2 AND gloss != ?1"
  glosses = [(synset.gloss, wnid) for wnid, synset in synsets.items()]
  connection.executemany(query, glosses)
  query = "SELECT wnid FROM class"
  classes = {row[0] for row in connection.execute(query)}
  rows: list[Row] = []
  for wnid, synset in synsets.items():
    text = ("", "") if wnid in classes else (synset.names[0], synset.gloss)
    rows += [(wnid, above, *text) for above in synset.hypernyms or ("",)]
  return write(connection, rows) and len(synsets.keys() - classes)


def list_groups(groups: Iterable[Group]) -> list[Row]:
  """Returns rows for groups that are written down."""
  rows: list[Row] = []
  for name, above, members in groups:
    rows.append((name, above, name, ""))
    rows += [(wnid, name, "", "") for wnid in members]
  return rows


def write(connection: sqlite3.Connection, rows: Iterable[Row]) -> bool:
  """Replaces the hierarchy, in a transaction; returns whether it changed."""
  rows, found = sorted(rows), connection.execute("SELECT * FROM hierarchy")
  if rows == sorted(map(tuple, found)):
    return False
  connection.execute("DELETE FROM hierarchy")
  query = "INSERT INTO hierarchy VALUES (?, ?, ?, ?)"
  connection.executemany(query, rows)
  return True


def build_tree(connection: sqlite3.Connection) -> list[dict[str, Any]]:
  """Returns the groups at the top, those with one child left out.

  Each is {wnid, name, gloss, class (id or None), guide, count (classes below
  it), children}; a class with several parents is below each of them. Without a
  hierarchy there are organisms, with dogs, and objects, as far as known.
  """
  classes = {
    row["wnid"]: row for row in connection.execute("SELECT * FROM class")
  }
  rows: list[Row] = [*map(tuple, connection.execute("SELECT * FROM hierarchy"))]
  if not rows:
    rows = [("dog", "organism", "dogs", "")]
    rows += [(x, "", _SUBSETS[x], "") for x in ("object", "organism")]
    for wnid, row in classes.items():
      inside = [x for x in _SUBSETS if x in row["subsets"].split(",")]
      rows.append((wnid, next(iter(inside), ""), "", ""))
  guides = decide.find_guides(connection)
  below: dict[str, set[str]] = {}
  texts = {}
  for wnid, above, *text in rows:
    below.setdefault(above, set()).add(wnid)
    texts[wnid] = text
  nodes: dict[str, Any] = {}

  def build(wnid: str) -> dict[str, Any] | None:
    if wnid in nodes:
      return nodes[wnid]
    nodes[wnid] = None  # If it is above itself.
    # Two children may be contracted to the same group.
    found = {x["wnid"]: x for x in map(build, below.get(wnid, ())) if x}
    own, text = classes.get(wnid), texts.get(wnid, ("", ""))
    if own is None and len(found) < 2 and wnid:
      nodes[wnid] = next(iter(found.values()), None)
      return nodes[wnid]
    inside[wnid] = {wnid} if own else set()
    inside[wnid] |= {c for x in found for c in inside[x]}
    nodes[wnid] = {
      **{"wnid": wnid, "name": own["name"] if own else text[0]},
      **{"gloss": own["gloss"] if own else text[1]},
      **{"class": own and own["id"], "guide": guides.get(wnid)},
      "count": len(inside[wnid]) - bool(own),
      "children": sorted(found.values(), key=lambda x: x["name"].casefold()),
    }
    return nodes[wnid]

  inside: dict[str, set[str]] = {}
  top = (build("") or {})["children"]
  return top[0]["children"] if len(top) == 1 and top[0]["children"] else top


def find_paths(
  tree: Sequence[dict[str, Any]], wnid: str
) -> list[list[dict[str, Any]]]:
  """Returns the ways from the top of a tree to a class, itself at the end."""
  paths = [[node] for node in tree if node["wnid"] == wnid]
  for node in tree:
    paths += [[node, *path] for path in find_paths(node["children"], wnid)]
  return paths
