"""Prediction files with an image id in every row: npz, csv and jsonl.

`own` describes their formats.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import functools
import json
import pathlib
from typing import TextIO

import numpy as np

from imgbench import errors
from imgbench import registry
from imgbench.labels import classes
from imgbench.labels import real
from imgbench.papers import records


@dataclasses.dataclass(frozen=True)
class Keyed:
  """Predictions with their image ids.

  Attributes:
    image_ids: N, as the file spells them.
    ids: integer [N, k], or None.
    scores: floating point [N, K], or None.
    labels: integer [N], the original labels, or None.
    may_lack: whether -1 in `ids` means none.
  """

  image_ids: Sequence[str]
  ids: np.ndarray | None = None
  scores: np.ndarray | None = None
  labels: np.ndarray | None = None
  may_lack: bool = False


def _read_npz(path: pathlib.Path, dataset: records.Dataset) -> Keyed:
  try:
    with np.load(path, allow_pickle=False) as file:
      names = ("image_id", "top5", "scores", "label")
      found = {name: file[name] for name in names if name in file}
      known = ", ".join(file)
  # Damaged archives raise many kinds of errors.
  except Exception as error:
    given = (
      f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
    )
    wanted = "an .npz file with arrays of numbers and texts"
    raise errors.InputError(path, wanted, given) from error
  if "image_id" not in found or ("top5" in found) == ("scores" in found):
    wanted = "the arrays image_id and either top5 or scores"
    raise errors.InputError(path, wanted, known or "none")
  _check_npz(path, found, dataset)
  return Keyed(
    image_ids=_texts(found["image_id"]),
    ids=found.get("top5"),
    scores=found.get("scores"),
    labels=found.get("label"),
    may_lack=True,
  )


def _check_npz(
  path: pathlib.Path,
  found: Mapping[str, np.ndarray],
  dataset: records.Dataset,
) -> None:
  """Checks that the arrays fit together."""

  def fits(name: str, kinds: str, *shape: int | str) -> None:
    array = found.get(name)
    if array is None:
      return
    words = {"USiu": "text", "iu": "integer", "f": "floating-point"}
    got = array.shape
    same = len(got) == len(shape) and all(
      isinstance(size, str) or size == n
      for size, n in zip(shape, got, strict=True)
    )
    if not same or array.dtype.kind not in kinds:
      wanted = f"{words[kinds]} [{', '.join(map(str, shape))}]"
      given = f"{array.dtype} {list(got)}"
      raise errors.InputError(f"{path}: {name}", wanted, given)

  fits("image_id", "USiu", "N")
  size = len(found["image_id"])
  fits("label", "iu", size)
  fits("top5", "iu", size, "k")
  fits("scores", "f", size, dataset.num_classes)


def _texts(values: np.ndarray) -> list[str]:
  if values.dtype.kind == "S":
    values = np.char.decode(values, "utf-8", "replace")
  return values.astype(str).tolist()


def _read_csv(path: pathlib.Path, dataset: records.Dataset) -> Keyed:
  def rows(file: TextIO) -> Iterator[tuple[int, str, list[str]]]:
    lines = csv.reader(file, strict=True)
    header = next(lines, [])
    wanted = ["image_id", *(f"label{i}" for i in range(1, len(header)))]
    if header != wanted or len(header) < 2:
      wanted = "the header image_id,label1,...,labelk"
      given = repr(",".join(header))[:80]
      raise errors.InputError(f"{path}, line 1", wanted, given)
    for cells in lines:
      if len(cells) != len(header):
        where = f"{path}, line {lines.line_num}"
        raise errors.InputError(where, f"{len(header)} cells", len(cells))
      yield lines.line_num, cells[0], cells[1:]

  return _parse_lines(path, dataset, rows)


def _read_jsonl(path: pathlib.Path, dataset: records.Dataset) -> Keyed:
  def rows(file: TextIO) -> Iterator[tuple[int, str, list[int | str]]]:
    for number, line in enumerate(file, 1):
      where = f"{path}, line {number}"
      try:
        entry = json.loads(line, object_pairs_hook=real.distinct_keys)
      except errors.InputError as error:
        raise error.prefixed(f"{where}, ") from error
      except (RecursionError, ValueError) as error:
        raise errors.InputError(where, "a JSON object", error) from error
      fields = entry if isinstance(entry, dict) else {}
      name, labels = fields.get("image_id"), fields.get("labels")
      if not isinstance(name, str) or not isinstance(labels, list):
        wanted = "an object with image_id, a text, and labels, a list"
        raise errors.InputError(where, wanted, line.strip()[:80])
      yield number, name, labels

  return _parse_lines(path, dataset, rows)


def _parse_lines(
  path: pathlib.Path, dataset: records.Dataset, rows: Callable
) -> Keyed:
  """Returns image ids and class ids of lines (number, image id, labels)."""
  known = _label_names(dataset.num_classes)
  image_ids, ids = [], []
  try:
    with path.open(encoding="utf-8-sig", newline="") as file:
      for number, image_id, labels in rows(file):
        where = f"{path}, line {number}"
        if not labels or (ids and len(labels) != len(ids[0])):
          wanted = f"{len(ids[0]) if ids else 'at least 1'} labels"
          raise errors.InputError(where, wanted, len(labels))
        image_ids.append(image_id)
        ids.append([_class_id(where, text, known) for text in labels])
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    given = getattr(error, "strerror", None) or error
    raise errors.InputError(path, "lines of UTF-8 text", given) from error
  width = len(ids[0]) if ids else 0
  return Keyed(image_ids, np.array(ids, np.int16).reshape(len(ids), width))


READERS = {".npz": _read_npz, ".csv": _read_csv, ".jsonl": _read_jsonl}


@functools.cache
def _label_names(num_classes: int) -> Mapping[int | str, int]:
  """Returns all accepted spellings of the class ids."""
  known: dict[int | str, int] = {}
  for index in range(num_classes):
    known[index] = known[str(index)] = index
  wnids = classes.imagenet_classes().wnids
  if num_classes == len(wnids):
    known |= {wnid: index for index, wnid in enumerate(wnids)}
  return known


def _class_id(where: str, label, known: Mapping[int | str, int]) -> int:
  # Floats and truth values would find integers: 1.0 == True == 1.
  if type(label) in (int, str) and label in known:
    return known[label]
  wanted, fix = f"a class id in [0, {len({*known.values()})})", ""
  wnids = [name for name in known if str(name).startswith("n")]
  if wnids:
    wanted += " or a WordNet id"
    if str(label).startswith("n"):
      fix = registry.near_names(str(label), wnids)[:200]
  raise errors.InputError(where, wanted, repr(label)[:80], fix)
