"""Reads predictions that any framework wrote.

Values are logits [N, K], probabilities [N, K] or a ranking: class indices
[N, k], the best first. The suffix of a file gives its format:

- `.npy`: one array;
- `.npz` and `.safetensors`: one array, or one with a name of KINDS, or of
  `scores`; an .npz may have `image_id` (or `ids`) [N]. predictions/*.npz of a
  run are such files;
- `.csv`: a line per image. Without a header, numbers. With one, an optional
  column of ids (of IDS), then scores of all classes, `logit_0`, ... or
  `prob_0`, ..., or ranked classes, `index_0`, ... or `label_0`, ...: indices,
  names or WordNet ids. These are the files of timm's inference.py; scores of
  the ranked classes alone are ignored.
"""

from collections.abc import Callable
from collections.abc import Sequence
import csv
import dataclasses
import pathlib
import re
from typing import NamedTuple

import numpy as np

from imgbench import errors
from imgbench import npz
from imgbench import texts
from imgbench.labels import masks
from imgbench.metrics import outcomes
from imgbench.papers.readers import own_files
from imgbench.papers.readers import predictions as arrays
from imgbench.weights import files as weights

LOGITS, PROBABILITIES, RANKING = "logits", "probabilities", "ranking"
# Name of an array -> what it has; the first that a file has is read.
KINDS = {
  "logits": LOGITS,
  "probs": PROBABILITIES,
  "probabilities": PROBABILITIES,
  "ranking": RANKING,
  "top5": RANKING,
}
_SCORES = "scores"
IDS = ("image_id", "id", "ids", "filename", "file_name")

_COLUMN = re.compile(r"(logit|prob|index|label)_?(\d*)")
_MOST = {"N": 10**8, "K": 2**20}
_ROWS = 4096  # checked at once
_SUM_ERROR = 0.02  # of 1,000 probabilities in float16


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
  """Predictions of N images.

  Attributes:
    path: of the file.
    kind: LOGITS, PROBABILITIES or RANKING.
    values: [N, K] or [N, k].
    image_ids: N, as the file spells them; None: rows are in another order that
      is known.
  """

  path: pathlib.Path
  kind: str
  values: np.ndarray
  image_ids: Sequence[str] | None = None

  def __len__(self) -> int:
    return len(self.values)

  def take(self, rows: np.ndarray) -> np.ndarray:
    """Returns float32 [n, K] logits, or int32 [n, k] classes, of rows [n].

    The softmax of the logarithm of probabilities is these probabilities.
    """
    found = self.values[rows]
    if self.kind == RANKING:
      return found.astype(np.int32)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
      if self.kind == PROBABILITIES:
        found = np.log(found.astype(np.float64))
      return found.astype(np.float32)


def read(
  path: pathlib.Path,
  kind: str = "",
  ids_path: str = "",
  names: Sequence[Sequence[str]] = (),
  background_first: bool = False,
) -> Predictions:
  """Returns the predictions of a file; the module lists the formats.

  Args:
    path: of the file.
    kind: LOGITS, PROBABILITIES or RANKING; "": as the file says, else integers
      are a ranking, rows in [0, 1] with the sum 1 are probabilities, and
      numbers some of which are outside [0, 1] are logits.
    ids_path: file of the image ids: text with a line for each, or .npy; "":
      none.
    names: texts that name classes, one of each K, for rankings in text.
    background_first: whether class 0 is none of the data set's classes, which
      follow it.

  Raises:
    InputError: another suffix, an unreadable or malformed file, no safe guess
      of the kind, classes twice in a row or below 0.
  """
  reader = _READERS.get(path.suffix.lower())
  if reader is None:
    expected = f"a suffix of {', '.join(_READERS)}"
    raise errors.InputError(path, expected, repr(path.suffix))
  values, stated, image_ids = reader(path, kind, names)
  if ids_path:
    errors.check(image_ids is None, "--ids", f"no ids in {path}", "ids")
    image_ids = read_texts(pathlib.Path(ids_path))
  if values.ndim == 1 and values.dtype.kind in "iu":  # Top-1 classes.
    values = values[:, None]
  if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
    expected = "numbers [N, K] or [N, k]"
    given = f"{values.dtype} {list(values.shape)}"
    raise errors.InputError(path, expected, given)
  if image_ids is not None and len(image_ids) != len(values):
    expected = f"{len(values):,} ids, one for each row of {path}"
    raise errors.InputError(ids_path or path, expected, f"{len(image_ids):,}")
  kind = kind or stated or _guess(path, values)
  check = {RANKING: _check_ranking, PROBABILITIES: _check_probabilities}
  if kind in check:
    check[kind](path, values)
  if background_first:
    values = _drop_first(path, values, kind)
  return Predictions(path, kind, values, image_ids)


def _read_npy(path, kind, names):
  del kind, names
  return arrays.read_array(path, mmap=True), "", None


def _read_npz(path, kind, names):
  del names
  name, stated = _choose(path, npz.list_names(path), kind)
  expected = {name: npz.Expected("iuf", ("N", "K"))}
  expected |= {i: npz.Expected("USiu", ("N",)) for i in IDS}
  found = npz.read(path, expected, _MOST)
  ids = [found[i] for i in IDS if i in found]
  return found[name], stated, own_files.to_texts(ids[0]) if ids else None


def _read_safetensors(path, kind, names):
  del names
  found = weights.read_safetensors(path)
  name, stated = _choose(path, list(found), kind)
  return found[name], stated, None


def _choose(path, found: Sequence[str], kind: str) -> tuple[str, str]:
  """Returns the name of the array to read, and what it says that it has."""
  for name, stated in [*KINDS.items(), (_SCORES, "")]:
    if name in found and (not kind or stated in (kind, "")):
      return name, stated
  others = [name for name in found if name not in IDS]
  if len(others) == 1 and others[0] not in KINDS:
    return others[0], ""
  expected = f"one array, or one of {', '.join([*KINDS, _SCORES])}"
  if kind:
    expected += f" with --scores={kind}"
  given = f"{len(found)}: {', '.join(found)}"[:200]
  raise errors.InputError(path, expected, given)


def _read_csv(path, kind, names):
  # It takes half a second to import.
  import pandas as pd

  try:
    with path.open(encoding="utf-8-sig", newline="") as file:
      first = next(csv.reader(file), [])
    header = not all(map(texts.is_number, first))
    table = pd.read_csv(
      path,
      header=0 if header else None,
      # Ids and labels are text; an empty cell is no number.
      dtype=dict.fromkeys(filter(_is_text, first), str) if header else None,
      keep_default_na=False,
      na_values=["nan", "NaN", "NAN"],
      encoding="utf-8-sig",
    )
  except (OSError, ValueError, csv.Error) as error:
    given = errors.find_reason(error).splitlines()[0][:200]
    raise errors.InputError(path, "a CSV file in UTF-8", given) from error
  errors.check(len(table) > 0, path, "at least one row", "none")
  if not header:
    return _to_numbers(path, table), "", None
  ids = [name for name in table if name in IDS]
  image_ids = table[ids[0]].astype(str).tolist() if ids else None
  families = _find_families(path, table)
  classes, scores = (
    next(filter(families.get, pair), "")
    for pair in (("index", "label"), ("logit", "prob"))
  )
  if classes and scores and not kind:
    ranked, count = len(families[classes]), len(families[scores])
    if ranked != count:
      # The label may be the true one.
      expected = f"as many columns {scores} as {classes}, {ranked:,}"
      fix = f"set --scores to {LOGITS}, {PROBABILITIES} or {RANKING}"
      raise errors.InputError(f"{path}, line 1", expected, f"{count:,}", fix)
  if classes and kind in ("", RANKING):
    cells = table[families[classes]].to_numpy(str)
    if cells.shape[1] == 1 and cells[0, 0].startswith("["):
      cells = _split_lists(path, cells[:, 0])
    return _to_classes(path, cells, names), RANKING, image_ids
  if scores and kind != RANKING:
    stated = LOGITS if scores == "logit" else PROBABILITIES
    return _to_numbers(path, table[families[scores]]), stated, image_ids
  others = [str(name) for name in table if name not in IDS]
  for known in ([str(i) for i in range(len(others))], *map(list, names)):
    if others == known:
      return _to_numbers(path, table[table.columns[-len(others) :]]), "", None
  expected = (
    "columns logit_0, ..., prob_0, ..., index_0, ... or label_0, ..., or those"
    f" of all classes in order, after at most one of {', '.join(IDS)}"
  )
  raise errors.InputError(f"{path}, line 1", expected, ",".join(first)[:80])


def _find_families(path, table) -> dict[str, list[str]]:
  """Returns logit, prob, index or label -> its columns, by their numbers."""
  numbered: dict[str, list[tuple[int, str]]] = {}
  for name in table:
    found = _COLUMN.fullmatch(str(name))
    if found:
      numbered.setdefault(found[1], []).append((int(found[2] or 0), name))
  families = {}
  for family, columns in numbered.items():
    columns.sort()
    first = min(columns[0][0], 1)  # Some count from 1.
    numbers = list(range(first, first + len(columns)))
    fits = [number for number, _ in columns] == numbers
    expected = f"columns {family}_{first} to {family}_{numbers[-1]}"
    given = ", ".join(name for _, name in columns)[:80]
    errors.check(fits, f"{path}, line 1", expected, given)
    families[family] = [name for _, name in columns]
  return families


def _is_text(column: str) -> bool:
  return column in IDS or column.startswith(("index", "label"))


def _to_numbers(path, table) -> np.ndarray:
  for name, dtype in table.dtypes.items():
    if dtype.kind not in "fiu":
      rows = np.flatnonzero([not texts.is_number(str(x)) for x in table[name]])
      where = f"{path}, column {name}, row {rows[0] if len(rows) else 0}"
      given = repr(table[name].iloc[rows[0]])[:80] if len(rows) else dtype
      raise errors.InputError(where, "a number", given)
  return table.to_numpy()


def _split_lists(path, cells: np.ndarray) -> np.ndarray:
  """Returns texts [N, k] of cells such as "[3 14 15]", as timm writes them."""
  found = [cell.strip("[]").replace(",", " ").split() for cell in cells]
  sizes = sorted({len(row) for row in found})
  expected = "as many classes in every row"
  errors.check(len(sizes) == 1, path, expected, f"{sizes[0]} to {sizes[-1]}")
  return np.array(found)


def _to_classes(path, cells: np.ndarray, names) -> np.ndarray:
  """Returns int32 [N, k] of texts [N, k], each of which is looked up once."""
  known: dict[str, set[int]] = {}
  for spelled in names:
    for index, text in enumerate(spelled):
      known.setdefault(text, set()).add(index)
  count = len(names[0]) if names else 2**20
  distinct, first, places = np.unique(
    cells, return_index=True, return_inverse=True
  )
  found = [
    masks.find_class(
      f"{path}, row {row // cells.shape[1]}", text.strip(), known, count
    )
    for text, row in zip(distinct.tolist(), first.tolist(), strict=True)
  ]
  return np.array(found, np.int32)[places].reshape(cells.shape)


_READERS: dict[str, Callable] = {
  ".npy": _read_npy,
  ".npz": _read_npz,
  ".csv": _read_csv,
  ".safetensors": _read_safetensors,
}


def read_texts(path: pathlib.Path) -> list[str]:
  """Returns the elements of an .npy file [N], or the lines of a text file."""
  if path.suffix.lower() == ".npy":
    found = arrays.read_array(path)
    if found.ndim != 1 or found.dtype.kind not in "USiu":
      given = f"{found.dtype} {list(found.shape)}"
      raise errors.InputError(path, "texts or integers [N]", given)
    return own_files.to_texts(found)
  try:
    return path.read_text(encoding="utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    given = errors.find_reason(error)
    raise errors.InputError(path, "lines of UTF-8 text", given) from error


class _Facts(NamedTuple):
  """Facts about the finite rows of scores.

  Attributes:
    whole: all numbers are integers.
    outside: some are not in [0, 1], rounding aside.
    bad: rows that are no probabilities: outside, or with another sum than 1.
  """

  whole: bool
  outside: bool
  bad: np.ndarray


def _inspect(values: np.ndarray) -> _Facts:
  whole, outside, bad = True, False, []
  for start in range(0, len(values), _ROWS):
    some = np.asarray(values[start : start + _ROWS], np.float64)
    finite = np.isfinite(some).all(axis=1)
    some = some[finite]
    # In float32, exp(x - logsumexp(x)) may be 1.00001.
    fits = ((some >= 0) & (some <= 1 + _SUM_ERROR)).all(axis=1)
    whole &= bool((some == np.round(some)).all())
    outside |= not fits.all()
    fits &= abs(some.sum(axis=1) - 1) <= _SUM_ERROR
    bad.append(start + np.flatnonzero(finite)[~fits])
  return _Facts(whole, outside, np.concatenate(bad))


def _guess(path, values: np.ndarray) -> str:
  """Returns the kind of numbers. Raises InputError if it is not certain."""
  if values.dtype.kind in "iu":
    return RANKING
  facts = _inspect(values)
  if not facts.whole and facts.outside:
    return LOGITS
  if not facts.whole and not len(facts.bad):
    return PROBABILITIES
  given = "whole numbers" if facts.whole else "numbers in [0, 1], sums not 1"
  kinds = f"{LOGITS}, {PROBABILITIES} or {RANKING}"
  expected = f"values that are certainly {kinds}"
  raise errors.InputError(path, expected, given, f"set --scores to {kinds}")


def _check_probabilities(path, values: np.ndarray) -> None:
  """Raises InputError unless finite rows are in [0, 1] and have the sum 1."""
  bad = _inspect(values).bad
  if len(bad):
    cells = np.asarray(values[bad[0]], np.float64)
    raise errors.InputError(
      f"{path}, row {bad[0]}",
      "probabilities in [0, 1] with the sum 1",
      f"the least {cells.min():.6g}, the sum {cells.sum():.6g}; {len(bad):,}"
      " such rows",
      f"set --scores={LOGITS} if they are none",
    )


def _check_ranking(path, values: np.ndarray) -> None:
  if values.dtype.kind not in "iu":
    expected = "integers, which a ranking has"
    raise errors.InputError(path, expected, values.dtype)
  try:
    # The number of classes is checked with the data set.
    outcomes.check_ranking(values.astype(np.int64), 2**31)
  except errors.InputError as error:
    raise error.prefixed(f"{path}: ") from error


def _drop_first(path, values: np.ndarray, kind: str) -> np.ndarray:
  """Returns the values without class 0, the next classes numbered from 0.

  Of a ranking, the columns that are still known in all rows.
  """
  if kind != RANKING:
    return values[:, 1:]
  shifted = values.astype(np.int64) - 1
  # The others keep their order; what is unknown now comes last.
  order = np.argsort(values == 0, axis=1, kind="stable")
  shifted = np.take_along_axis(np.maximum(shifted, -1), order, axis=1)
  width = values.shape[1] - int((values == 0).any())
  if not width:
    expected = "a class other than the background, 0, in every row"
    given = f"{int((values == 0).sum()):,} rows without one"
    raise errors.InputError(path, expected, given)
  return shifted[:, :width]
