"""Rows of the benchmarks: their columns, how they are read, written, checked.

A row is one point of the benchmark, measured in fresh processes, or one
quantity of a benchmark of our own parts, measured in rounds: a JSON object on a
line of `rows.jsonl`, flat but for the quantiles, the shares of peaks and `raw`,
which holds what each process or round measured. `rows.csv` is written from it.

A column is declared in MEASURED or COLUMNS and nowhere else.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import statistics
from typing import Any
from typing import NamedTuple

from imgbench import errors
from imgbench import typed
from imgbench import writers

ROWS, CSV = "rows.jsonl", "rows.csv"
ENVIRONMENT, CONFIG = "environment.json", "config.json"

IMAGE_TASKS = ("train", "infer", "eval")
MICRO, TIME_TO_ACCURACY = "micro", "time_to_accuracy"
TASKS = (*IMAGE_TASKS, TIME_TO_ACCURACY, MICRO)
# Benchmarks of our own parts, whose rows are of quantities.
QUANTITIES = ("step", "input", "metrics", "scaling", "papers")
FRAMEWORKS = ("imgbench", "torch-eager", "torch-compile")
OK = "ok"
STATUSES = (OK, "out_of_memory", "crashed", "refused", "timeout")

# Units of quantities.
MORE_IS_BETTER = ("images/s", "relative speed")
LESS_IS_BETTER = ("ms", "s", "bytes", "levels", "relative cost")

# Tables of the page that show columns by themselves.
EVERY_ROW, COMPILING = "every row", "compiling"


class RowColumn(NamedTuple):
  """A number of a row, of a process, or of both.

  Attributes:
    name: of the field; its key in JSON and heading in CSV.
    kind: type of a value.
    unit: how pages show a value, see `formats.in_unit`.
    over: makes the row's value of the processes' values of this name.
    title: heading on pages. Of numbers by name a heading for each name, or one
      with {} for the name.
    table: of the page that shows it; "" where none does by itself.
  """

  name: str
  kind: Any
  unit: str = ""
  over: Callable[[list], Any] | None = None
  title: str | Mapping[str, str] = ""
  table: str = ""


_MANY, _NAMED = Sequence[float], Mapping[str, float]
_FIRST_STEP = RowColumn(  # compiling aside
  "first_step_s", float, "s", statistics.median, "First step", COMPILING
)
# What one fresh process measures, or one round of a quantity.
MEASURED = (
  RowColumn("latencies_ms", _MANY, "ms"),  # steps waited for one by one
  RowColumn(
    "throughput_s", _MANY, "s"
  ),  # per step; rounds waited for at the end
  _FIRST_STEP,
  RowColumn("compile_s", float, "s"),  # lowering and compiling
  RowColumn("compile_cached", bool),  # whether the persistent cache had it
  RowColumn(  # of the fullest device
    "peak_memory_bytes", int, "bytes", max, "Memory", EVERY_ROW
  ),
  # The same text in the process of another folder that ran right before or
  # after this one; None where the folders were measured apart.
  RowColumn("pair", str),
  RowColumn("seed", int),  # of a training run
  RowColumn("seconds", float, "s"),  # of the run, whether it reached the target
  RowColumn("seconds_to_target", float, "s"),  # None: it did not
  RowColumn("final_accuracy", float),  # on the evaluation set
  RowColumn("value", float),  # of a quantity
)
# What a row has; None where it was not measured.
COLUMNS = (
  # Medians over processes.
  RowColumn("compile_cold_s", float, "s", title="Cold", table=COMPILING),
  RowColumn("compile_cached_s", float, "s", None, "From the cache", COMPILING),
  _FIRST_STEP,
  RowColumn(  # over the steps of all processes
    "latency_ms",
    _NAMED,
    "ms",
    title={"median": "Step, ms", "p90": "p90", "p99": "p99"},
    table=EVERY_ROW,
  ),
  # The median over the processes' medians, its interval, and it by device.
  RowColumn("images_per_s", float, "images/s"),
  RowColumn("images_per_s_low", float, "images/s"),
  RowColumn("images_per_s_high", float, "images/s"),
  RowColumn("images_per_s_per_device", float, "images/s"),
  RowColumn("interval_method", str),  # of all bounds of the row
  RowColumn("interval_coverage", float),
  # Of a microbenchmark, or the median, least and largest of a quantity.
  RowColumn("rate", float),
  RowColumn("rate_low", float),
  RowColumn("rate_high", float),
  RowColumn("rate_unit", str),  # of these three
  RowColumn("work", float),  # of a call of a microbenchmark: FLOPs, bytes or 1
  # The mean over runs, where all reached the target.
  RowColumn("seconds_to_target", float, "s"),
  RowColumn("seconds_to_target_low", float, "s"),
  RowColumn("seconds_to_target_high", float, "s"),
  RowColumn("params", int),  # trained ones
  # Analytic; forward, or forward and backward for training.
  RowColumn("flops_per_image", float),
  RowColumn(
    "flops_share_of_peak", _NAMED, "share", None, "of {} peak", EVERY_ROW
  ),
  # Of a step on one device, as the compiler counts them.
  RowColumn("bytes_accessed", float, "bytes"),
  RowColumn(  # of the measured memory bandwidth
    "bandwidth_share", float, "share", None, "of bandwidth", EVERY_ROW
  ),
  # Form in which the model's attention was computed, "plain" or "cudnn"; None
  # where it has none, of peers and in older rows.
  RowColumn("attention", str),
  *(c for c in MEASURED if c.over and c is not _FIRST_STEP),
)


@dataclasses.dataclass(frozen=True)
class PointKey:
  """What identifies a point; rows of two folders are matched by all of it.

  Attributes:
    task: of TASKS or QUANTITIES.
    framework: of FRAMEWORKS.
    model: its name; None for microbenchmarks and quantities.
    batch: images of a step over all devices.
    image_size: side in pixels.
    dtype: that of activations, e.g. "bfloat16"; of a microbenchmark's arrays.
    matmul_precision: as jax_default_matmul_precision, or "default".
    conv_precision: the same for convolutions.
    strategy: of `imgbench.parallel`.
    devices: how many.
    data: "device", "host" or "tfds".
    name: of a microbenchmark or quantity; of a config, for time to accuracy.
    size: of a microbenchmark, e.g. "4096x4096x4096" or "268435456 bytes".
    target: accuracy to be reached, in [0, 1], for time to accuracy.
  """

  task: str
  framework: str = "imgbench"
  model: str | None = None
  batch: int | None = None
  image_size: int | None = None
  dtype: str | None = None
  matmul_precision: str | None = None
  conv_precision: str | None = None
  strategy: str | None = None
  devices: int = 1
  data: str | None = None
  name: str | None = None
  size: str | None = None
  target: float | None = None

  def text(self) -> str:
    """E.g. "train resnet50 b64 224px bfloat16"; plain values are left out."""
    parts = [self.task, self.model, self.name, self.size]
    parts += [f"b{self.batch}" if self.batch else None]
    parts += [f"{self.image_size}px" if self.image_size else None, self.dtype]
    for what in ("matmul_precision", "conv_precision"):
      value = getattr(self, what)
      if value not in (None, "default"):
        parts.append(f"{what.removesuffix('_precision')}={value}")
    parts += [self.strategy if self.strategy != "jit" else None]
    parts += [f"{self.devices} devices" if self.devices != 1 else None]
    parts += [f"data={self.data}" if self.data not in (None, "device") else ""]
    parts += [f"to {self.target:g}" if self.target is not None else None]
    parts += [self.framework if self.framework != "imgbench" else None]
    return " ".join(part for part in parts if part)


def _list_fields(columns: Iterable[RowColumn]) -> list[tuple[str, Any, Any]]:
  return [
    (c.name, c.kind, ()) if c.kind == _MANY else (c.name, c.kind | None, None)
    for c in columns
  ]


Process = dataclasses.make_dataclass(
  "Process",
  _list_fields(MEASURED),
  frozen=True,
  namespace={"__module__": __name__},
)


class _Row:
  """One point or quantity: its key, COLUMNS, and what is around them.

  Attributes:
    key: which point.
    status: of STATUSES; all but "ok" have a message.
    message: what went wrong, or what a reader must know.
    batch_asked: where `fit_batch` made the batch smaller: what it was before.
    processes: how many processes, or rounds, the numbers are of.
    environment: digest of `environment.json`, see `environment_digest`.
    raw: a `Process` for each, in the order run.
  """

  def as_json(self) -> dict[str, Any]:
    """The object of one line: key fields first, `raw` last."""
    fields = dataclasses.asdict(self)
    raw = [_drop_empty(process) for process in fields.pop("raw")]
    return {**fields.pop("key"), **fields, "raw": raw}


Row = dataclasses.make_dataclass(
  "Row",
  [
    ("key", PointKey),
    ("status", str, OK),
    ("message", str, ""),
    ("batch_asked", int | None, None),
    ("processes", int, 0),
    *_list_fields(COLUMNS),
    ("environment", str, ""),
    ("raw", Sequence[Process], ()),
  ],
  bases=(_Row,),
  frozen=True,
  namespace={"__module__": __name__, "__doc__": _Row.__doc__},
)


class RowFolder(NamedTuple):
  """What a benchmark left: its rows, config and environment."""

  path: pathlib.Path
  rows: list[Row]
  environment: dict[str, Any]
  config: dict[str, Any]


def from_json(record: Mapping[str, Any]) -> Row:
  """Returns the checked row of one line.

  Fields that a row of an older version lacks take their defaults.

  Raises:
    InputError: unknown fields, wrong types, values that cannot be.
  """
  record = dict(record)
  raw = record.pop("raw", [])
  if not isinstance(raw, list):
    raise errors.InputError("raw", "a list", typed.show(raw))
  names = [field.name for field in dataclasses.fields(PointKey)]
  key = {name: record.pop(name) for name in names if name in record}
  processes = tuple(
    typed.build_dataclass(Process, values, f"raw[{i}].")
    for i, values in enumerate(raw)
  )
  key = typed.build_dataclass(PointKey, key)
  row = typed.build_dataclass(Row, record | {"key": key, "raw": processes})
  check(row)
  return row


def check(row: Row) -> None:
  """Raises InputError where a row contradicts itself or lacks what it needs."""
  key = row.key
  is_quantity, units = key.task in QUANTITIES, (row.rate_unit,)
  if is_quantity:
    units = (*MORE_IS_BETTER, *LESS_IS_BETTER)
  for what, value, known in (
    ("task", key.task, (*TASKS, *QUANTITIES)),
    ("framework", key.framework, FRAMEWORKS),
    ("status", row.status, STATUSES),
    ("rate_unit", row.rate_unit, units),
  ):
    if value not in known:
      raise errors.InputError(
        what, f"one of {', '.join(known)}", typed.show(value)
      )
  needs = ("model", "batch", "image_size")
  if key.task not in IMAGE_TASKS:
    needs = ("name",) + ("target",) * (key.task == TIME_TO_ACCURACY)
  for name in needs:
    if getattr(key, name) is None:
      raise errors.InputError(f"{name}: a row of task {key.task} needs it")
  if row.status != OK and not row.message:
    raise errors.InputError(f"message: status {row.status} needs one")
  if row.status == OK:
    _check_measured(row)
  least = -math.inf if is_quantity else 0
  for name in ("images_per_s", "rate", "seconds_to_target"):
    low, value, high = (getattr(row, name + e) for e in ("_low", "", "_high"))
    if low is not None and not (
      value is not None and high is not None and least < low <= value <= high
    ):
      raise errors.InputError(
        f"{name}: expected {least:g} < low <= value <= high, got {low}, {value}"
        f", {high}"
      )


def append(folder: pathlib.Path, row: Row) -> None:
  """Adds a checked row to the folder's rows.jsonl, see `append_line`."""
  record = row.as_json()
  # What is written can be read.
  from_json(json.loads(json.dumps(record, allow_nan=False)))
  append_line(folder / ROWS, record)


def append_line(path: pathlib.Path, record: Mapping[str, Any]) -> None:
  """Adds a line of JSON to a file, safe on disk on return.

  What a killed process left of a last line is cut off first.
  """
  with path.open("a+b") as file:
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
    file.write(_line(record))
    file.flush()
    os.fsync(file.fileno())


def write(folder: pathlib.Path, rows: Iterable[Row]) -> None:
  """Replaces rows.jsonl."""
  lines = [_line(row.as_json()) for row in rows]
  writers.write_atomically(folder / ROWS, b"".join(lines))


def _line(record: Mapping[str, Any]) -> bytes:
  return json.dumps(record, allow_nan=False).encode() + b"\n"


def read(path: pathlib.Path) -> list[Row]:
  """Returns the rows of a rows.jsonl in their order; none without the file.

  A point that did not succeed may be measured again: its last row counts. A
  torn last line is left out.

  Raises:
    InputError: a line that is no row, or a point that succeeded twice.
  """
  if not path.is_file():
    return []
  found: dict[PointKey, Row] = {}
  # What a killed process left has no end of line.
  *lines, _ = path.read_bytes().split(b"\n")
  for number, line in enumerate(lines, 1):
    try:
      row = from_json(json.loads(line))
    except (ValueError, TypeError) as error:
      raise errors.InputError(f"{path}, line {number}: {error}") from error
    before = found.pop(row.key, None)
    if before is not None and before.status == OK:
      raise errors.InputError(
        f"{path}, line {number}: a second row of {row.key.text()}; each point"
        " has one"
      )
    found[row.key] = row
  return list(found.values())


def read_folder(path: pathlib.Path) -> RowFolder:
  """Returns the rows of a benchmark's folder with config and environment.

  Raises:
    InputError: no such folder, no rows in it, broken files.
  """
  path = pathlib.Path(path)
  if path.is_file():
    raise errors.InputError(
      f"{path}: expected a folder with {ROWS}, got a file; one that an older"
      " benchmark wrote is converted by experiments.benchmarks.convert"
    )
  if not (path / ROWS).is_file():
    raise errors.InputError(
      f"{path}: no {ROWS} here; expected a folder that python -m imgbench.bench"
      " --out= has written"
    )
  found = read(path / ROWS)
  if not found:
    raise errors.InputError(f"{path / ROWS}: holds no whole row")
  documents = []
  for name in (ENVIRONMENT, CONFIG):
    try:
      text = (path / name).read_text() if (path / name).is_file() else "{}"
      documents.append(json.loads(text))
    except ValueError as error:
      raise errors.InputError(f"{path / name}: {error}") from error
  return RowFolder(path, found, *documents)


def environment_digest(folder: pathlib.Path) -> str:
  """Returns 12 hex digits of the folder's environment.json."""
  data = (folder / ENVIRONMENT).read_bytes()
  return hashlib.sha256(data).hexdigest()[:12]


def write_csv(folder: pathlib.Path, rows: Iterable[Row]) -> pathlib.Path:
  """Writes rows.csv: the columns of a row, nested ones as `outer.inner`.

  `raw` stays in rows.jsonl; the CSV has the median step of each process, in
  milliseconds, one after another in one cell.
  """
  # Processes that measure an older checkout have this module, not that one.
  from imgbench.tables import table

  path = folder / CSV
  writers.write_atomically(
    path, table.csv_text([_flatten(row) for row in rows])
  )
  return path


def _check_measured(row: Row) -> None:
  if not row.raw or row.processes != len(row.raw):
    raise errors.InputError(
      f"processes: expected that of raw, {len(row.raw)}, and at least 1, got"
      f" {row.processes}"
    )
  needed = dict.fromkeys(QUANTITIES, "value") | {TIME_TO_ACCURACY: "seed"}
  name = needed.get(row.key.task, "throughput_s")
  for process in row.raw:
    times = [*process.throughput_s, *process.latencies_ms]
    if not all(time > 0 for time in times):
      raise errors.InputError("raw: expected times above 0")
    if getattr(process, name) in (None, (), []):
      raise errors.InputError(f"raw: a process has no {name}")


def _drop_empty(values: Mapping[str, Any]) -> dict[str, Any]:
  return {k: v for k, v in values.items() if v is not None and v != ()}


def _flatten(row: Row) -> dict[str, Any]:
  record, flat = row.as_json(), {}
  del record["raw"]
  named = {column.name for column in COLUMNS if column.kind == _NAMED}
  for name, value in record.items():
    if name not in named:
      flat[name] = value
    elif value is not None:
      flat |= {f"{name}.{inner}": item for inner, item in value.items()}
  flat["step_ms_by_process"] = " ".join(
    f"{1e3 * statistics.median(process.throughput_s):.6g}"
    for process in row.raw
    if process.throughput_s
  )
  return flat
