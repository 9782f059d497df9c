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
from imgbench import npz
from imgbench import registry
from imgbench.labels import classes
from imgbench.labels import real
from imgbench.metrics import checks
from imgbench.papers import records

# A file may cover all of ImageNet's validation set for a part of it.
_MAX_IMAGES = 50_000


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
  names = npz.list_names(path)
  if "image_id" not in names or ("top5" in names) == ("scores" in names):
    wanted = "the arrays image_id and either top5 or scores"
    raise errors.InputError(path, wanted, ", ".join(names) or "none")
  arrays = {
    "image_id": npz.Expected("USiu", ("N",)),
    "label": npz.Expected("iuf", ("N",)),
    "top5": npz.Expected("iuf", ("N", "k")),
    "scores": npz.Expected("f", ("N", dataset.num_classes)),
  }
  most = {"N": max(len(dataset), _MAX_IMAGES), "k": dataset.num_classes}
  found = npz.read(path, arrays, most)
  for name in found.keys() & {"label", "top5"}:
    shape = arrays[name].shape
    found[name] = checks.integers(f"{path}: {name}", found[name], shape)
  return Keyed(
    image_ids=to_texts(found["image_id"]),
    ids=found.get("top5"),
    scores=found.get("scores"),
    labels=found.get("label"),
    may_lack=True,
  )


def to_texts(values: np.ndarray) -> list[str]:
  """Returns the elements of an array of texts or integers."""
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
    given = errors.find_reason(error)
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
