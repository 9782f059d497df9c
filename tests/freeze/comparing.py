"""Whether two folders of outputs hold the same, times aside."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import gzip
from html import parser
import io
import json
import pathlib
import re
import tempfile
from typing import Any
from typing import NamedTuple

from array_record.python import array_record_module
import numpy as np
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from tests.train import processes

# Keys of what no two runs share: times, rates, processes, the commit.
_STILL = re.compile(
  r"(^|_)(s|ms|at)$|(^|_)images_per_s|^(commit|command|process|launcher)$"
)
# Files with times or names of processes in them, whose numbers are elsewhere,
# and of checkpoints all but what they say of their arrays.
_LEFT_OUT = re.compile(
  r"(^|/)(events\.out\.|\.lock$|launcher\.json$|log\.txt$)"
  r"|(^|/)checkpoints/(?!.*/meta/metadata$)"
)
_PROSE = (".html", ".out", ".txt", ".md", ".tex")
_SHOWN = 8  # differences of an item
_LONGEST = 200  # characters of a value that is shown

Rows = Iterator[tuple[str, Any]]


class Found(NamedTuple):
  """How many values were compared, and a line for each that differs.

  Attributes:
    count: values compared.
    differences: of anything but text.
    texts: of text whose numbers are equal.
  """

  count: int
  differences: list[str]
  texts: list[str] = []

  def lines(self) -> list[str]:
    """Returns the first differences."""
    more = len(self.differences) - _SHOWN
    lines = [f"  {line}" for line in self.differences[:_SHOWN]]
    return lines + ([f"  and {more} more"] if more > 0 else [])


def still(value: Any, key: str = "") -> Any:
  """Returns a JSON value with what depends on the clock set to constants."""
  if _STILL.search(key) or processes.is_time(key):
    return _constant(value)
  if isinstance(value, dict):
    return {k: still(v, k) for k, v in value.items()}
  return [still(v) for v in value] if isinstance(value, list) else value


def _constant(value: Any) -> Any:
  """Returns a value of the same type: that it is there is compared."""
  if isinstance(value, str):
    return "2026-01-01T00:00:00+00:00" if value else ""
  if isinstance(value, int | float):
    return type(value)(1)
  if isinstance(value, dict):
    return {k: _constant(v) for k, v in value.items()}
  return [_constant(v) for v in value] if isinstance(value, list) else value


def still_times(folder: pathlib.Path) -> None:
  """Sets times in the JSON files of runs to constants.

  What is then made from them, such as a report or a table, has no times either.
  """
  for name, path in _files(folder).items():
    text = path.read_text() if ".json" in name else ""
    texts = text.splitlines() if name.endswith(".jsonl") else [text]
    if name.endswith((".json", ".jsonl")):
      values = [still(json.loads(text)) for text in texts]
      indent = 2 if name.endswith(".json") else None
      path.write_text(
        "".join(f"{json.dumps(value, indent=indent)}\n" for value in values)
      )


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the files that are compared, by their names in the folder."""
  found = {
    path.relative_to(folder).as_posix(): path
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }
  return {n: path for n, path in found.items() if not _LEFT_OUT.search(n)}


def compare_folders(
  before: pathlib.Path, after: pathlib.Path, paths: Mapping[str, str]
) -> Found:
  """Returns how the files of two folders differ.

  Args:
    before: outputs of the base.
    after: those of the other tree, under the same names.
    paths: text -> what stands for it, of paths in either.
  """
  one, other = _files(before), _files(after)
  count, differences, texts = 0, [], []
  for name in one | other:
    if name not in one or name not in other:
      where = "base" if name in one else "new tree"
      differences.append(f"{name}: only in the {where}")
      continue
    data = one[name].read_bytes(), other[name].read_bytes()
    found = compare_bytes(name, *data, paths)
    count += found.count
    differences += found.differences
    texts += found.texts
  return Found(count, differences, texts)


def compare_bytes(
  name: str, before: bytes, after: bytes, paths: Mapping[str, str]
) -> Found:
  """Returns how two files of one name differ: keys, their order, and values."""
  suffix = pathlib.PurePath(name).suffix or pathlib.PurePath(name).name
  suffix = suffix.partition("-")[0]  # of shards: .array_record-00000-of-00001
  read = _READERS.get(suffix, _bytes)
  if before == after and suffix in (".gz", ".npz"):
    return Found(1, [])
  one, other = (dict(read(_named(data, paths))) for data in (before, after))
  show = lambda rows, key: str(rows.get(key, "absent")).strip()[:_LONGEST]
  # Lines may break elsewhere: the numbers of the whole file count.
  is_prose = suffix in _PROSE and _numbers(*one.values()) == _numbers(
    *other.values()
  )
  differences, texts = [], []
  for key in one | other:
    if key not in one or key not in other or one[key] != other[key]:
      line = f"{name}: {key}: {show(one, key)} -> {show(other, key)}"
      is_text = is_prose or _is_text(one.get(key), other.get(key))
      (texts if is_text else differences).append(line)
  if [k for k in one if k in other] != [k for k in other if k in one]:
    differences.append(f"{name}: keys in another order")
  return Found(len(one), differences, texts)


def _numbers(*values: Any) -> list[str]:
  return re.findall(r"\d+(?:[.,]\d+)*", " ".join(map(str, values)))


def _is_text(one: Any, other: Any) -> bool:
  """Whether two values are text with the same numbers."""
  both = (one, other)
  words = all(isinstance(v, str) and re.search("[A-Za-z]", v) for v in both)
  return words and _numbers(one) == _numbers(other)


def _named(data: bytes, paths: Mapping[str, str]) -> bytes:
  for text, other in paths.items():
    data = data.replace(text.encode(), other.encode())
  return data


def _bytes(data: bytes) -> Rows:
  yield "bytes", data


def _json(data: bytes) -> Rows:
  yield from _leaves(still(json.loads(data)))


def _json_lines(data: bytes) -> Rows:
  for number, line in enumerate(data.splitlines()):
    yield from _leaves(still(json.loads(line)), f"line {number + 1}")


def _metadata(data: bytes) -> Rows:
  """Of a checkpoint: step, position and the digest of each array."""
  yield from _leaves(still(json.loads(json.loads(data)["text"])))


def _leaves(value: Any, path: str = "") -> Rows:
  """Yields (path, text of the value); 1 and 1.0 differ, as in the file."""
  if isinstance(value, list):
    value = dict(enumerate(value))
  if not isinstance(value, dict) or not value:
    yield path, json.dumps(value)
    return
  for key, child in value.items():
    yield from _leaves(child, f"{path}/{key}")


def _lines(data: bytes) -> Rows:
  for number, line in enumerate(data.decode().splitlines(keepends=True)):
    yield f"line {number + 1}", line


def _html(data: bytes) -> Rows:
  reader = _Text()
  reader.feed(data.decode())
  yield from enumerate(reader.texts)


class _Text(parser.HTMLParser):
  """Collects the text of a page."""

  def __init__(self):
    super().__init__()
    self.texts = []
    self._hidden = False

  def handle_starttag(self, tag, attrs):
    self._hidden = tag in ("style", "script")

  def handle_endtag(self, tag):
    self._hidden = False

  def handle_data(self, data):
    if data.strip() and not self._hidden:
      self.texts.append(" ".join(data.split()))


def _arrays(data: bytes) -> Rows:
  with np.load(io.BytesIO(data)) as arrays:
    for name in arrays.files:
      yield (
        name,
        (arrays[name].shape, arrays[name].dtype, arrays[name].tobytes()),
      )
  yield "bytes", data


def _records(data: bytes) -> Rows:
  """Examples of ArrayRecord; the order of their features differs by run."""
  with tempfile.NamedTemporaryFile(suffix=".array_record") as file:
    file.write(data)
    file.flush()
    reader = array_record_module.ArrayRecordReader(file.name)
    for number, record in enumerate(reader.read_all()):
      features = tf_example_pb2.Example.FromString(record).features.feature
      for key in sorted(features):
        yield (number, key), features[key].SerializeToString()
    reader.close()


def _picture(data: bytes) -> Rows:
  yield "size", Image.open(io.BytesIO(data)).size


def _stablehlo(data: bytes) -> Rows:
  yield from _lines(stablehlo(gzip.decompress(data).decode()).encode())


def stablehlo(text: str) -> str:
  """Returns a program with functions and the module named by numbers.

  Their names are those of Python functions. Targets of custom calls, which
  also begin with @, stay; what results are called in Python is left out.
  """
  text = re.sub(r'jax\.result_info = "(?:[^"\\]|\\.)*"', "", text)
  numbers = {}

  def rename(match):
    if match["call"]:
      return match[0]
    return f"@{numbers.setdefault(match['name'], len(numbers))}"

  symbol = r'(?P<call>custom_call )?@(?P<name>"[^"]*"|[\w.$-]+)'
  return re.sub(symbol, rename, text)


_READERS: Mapping[str, Callable[[bytes], Rows]] = {
  ".json": _json,
  ".jsonl": _json_lines,
  "metadata": _metadata,
  ".html": _html,
  ".npz": _arrays,
  ".array_record": _records,
  ".png": _picture,
  ".pdf": lambda data: iter([("is there", bool(data))]),
  ".gz": _stablehlo,
  **dict.fromkeys((".out", ".csv", ".txt", ".md", ".tex"), _lines),
}
