"""Rows of the benchmarks: their columns; reading, writing and checking them.

A row is one point of the benchmark, measured in fresh processes, or one
quantity of a component benchmark, measured in rounds. It is a JSON object on a
line of `rows.jsonl`, flat except for the quantiles, the MFU per peak and `raw`,
the measurements of each process or round. `rows.csv` is written from it.

Columns are declared in MEASURED and COLUMNS only.
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
from imgbench import run_files
from imgbench import typed
from imgbench import writers

ROWS, CSV = "rows.jsonl", "rows.csv"
ENVIRONMENT, CONFIG = "environment.json", "config.json"

IMAGE_TASKS = ("train", "infer", "eval")
MICRO, TIME_TO_ACCURACY = "micro", "time_to_accuracy"
TASKS = (*IMAGE_TASKS, TIME_TO_ACCURACY, MICRO)
# Component benchmarks, whose rows are quantities.
QUANTITIES = ("step", "input", "metrics", "scaling", "papers")
FRAMEWORKS = ("imgbench", "torch-eager", "torch-compile")
OK = "ok"
STATUSES = (OK, "out_of_memory", "crashed", "refused", "timeout")

# Units of quantities.
MORE_IS_BETTER = ("images/s", "relative speed")
LESS_IS_BETTER = ("ms", "s", "bytes", "levels", "relative cost")

# Largest values of a key's numbers.
_MOST = {"batch": 2**31, "image_size": 2**16, "devices": 2**20, "target": 1.0}

# Tables of the page that show all columns declared for them.
EVERY_ROW, COMPILING = "every row", "compiling"


class RowColumn(NamedTuple):
  """A number of a row, of a process, or of both.

  Attributes:
    name: of the field, the JSON key and the CSV heading.
    kind: type of a value.
    unit: how pages show a value, see `formats.in_unit`.
    over: computes the row's value from those of its processes.
    title: heading on pages. A mapping has one for each name of its values; {}
      stands for the name.
    table: of the page that shows it; "": none by default.
  """

  name: str
  kind: Any
  unit: str = ""
  over: Callable[[list], Any] | None = None
  title: str | Mapping[str, str] = ""
  table: str = ""


_MANY, _NAMED = Sequence[float], Mapping[str, float]
_FIRST_STEP = RowColumn(  # without compiling
  "first_step_s", float, "s", statistics.median, "First step", COMPILING
)
# Measured by one fresh process, or in one round of a quantity.
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
  # Shared with the process of another folder that ran right before or after
  # this one; None if the folders were measured separately.
  RowColumn("pair", str),
  RowColumn("seed", int),  # of a training run
  RowColumn("seconds", float, "s"),  # of the run, target reached or not
  RowColumn("seconds_to_target", float, "s"),  # None: not reached
  RowColumn("final_accuracy", float),  # on the evaluation set
  RowColumn("value", float),  # of a quantity
)
# Columns of a row; None: not measured.
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
  # Median of the processes' medians, its interval, and the rate per device.
  RowColumn("images_per_s", float, "images/s"),
  RowColumn("images_per_s_low", float, "images/s"),
  RowColumn("images_per_s_high", float, "images/s"),
  RowColumn("images_per_s_per_device", float, "images/s"),
  RowColumn("interval_method", str),  # of all bounds of the row
  RowColumn("interval_coverage", float),
  # Of a microbenchmark; the median, least and largest of a quantity.
  RowColumn("rate", float),
  RowColumn("rate_low", float),
  RowColumn("rate_high", float),
  RowColumn("rate_unit", str),  # of these three
  RowColumn("work", float),  # of a call of a microbenchmark: FLOPs, bytes or 1
  # Mean over runs, if all reached the target.
  RowColumn("seconds_to_target", float, "s"),
  RowColumn("seconds_to_target_low", float, "s"),
  RowColumn("seconds_to_target_high", float, "s"),
  # Of the program, whose devices the key counts; None in older rows.
  RowColumn("num_processes", int),
  RowColumn(  # trained ones
    "params", int, "count", title="Parameters", table=EVERY_ROW
  ),
  # Analytic; forward, or forward and backward for training.
  RowColumn("flops_per_image", float),
  RowColumn(
    "flops_share_of_peak", _NAMED, "share", None, "MFU ({} peak)", EVERY_ROW
  ),
  # Of a step on one device, counted by the compiler.
  RowColumn("bytes_accessed", float, "bytes"),
  RowColumn(  # of the measured memory bandwidth
    "bandwidth_share", float, "share", None, "of bandwidth", EVERY_ROW
  ),
  # Implementation of attention, "plain" or "cudnn"; None for models without
  # it, for baselines and in older rows.
  RowColumn("attention", str),
  *(c for c in MEASURED if c.over and c is not _FIRST_STEP),
)


@dataclasses.dataclass(frozen=True)
class Key:
  """Identifies a point; rows of two folders are matched by all fields.

  Attributes:
    task: of TASKS or QUANTITIES.
    framework: of FRAMEWORKS.
    model: its name; None for microbenchmarks and quantities.
    batch: images per step, on all devices.
    image_size: side in pixels.
    dtype: of activations, e.g. "bfloat16", or of a microbenchmark's arrays.
    matmul_precision: as jax_default_matmul_precision, or "default".
    conv_precision: the same for convolutions.
    strategy: of `imgbench.parallel`.
    devices: number of devices.
    data: "device", "host" or "tfds".
    name: of a microbenchmark or quantity; of a config, for time to accuracy.
    size: of a microbenchmark, e.g. "4096x4096x4096" or "268435456 bytes".
    target: accuracy in [0, 1] for time to accuracy.
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
    """Returns e.g. "train resnet50 b64 224px bfloat16", without defaults."""
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
  """One point or quantity: its key, its status and the COLUMNS.

  Attributes:
    key: which point.
    status: of STATUSES; all but "ok" have a message.
    message: what went wrong, or a note for readers.
    batch_asked: original batch, if `fit_batch` made it smaller.
    processes: number of processes or rounds.
    environment: digest of `environment.json`, see `environment_digest`.
    raw: a `Process` for each of them, in the order measured.
  """

  def as_json(self) -> dict[str, Any]:
    """Returns the object of one line: key fields first, `raw` last."""
    fields = dataclasses.asdict(self)
    raw = [_drop_empty(process) for process in fields.pop("raw")]
    return {**fields.pop("key"), **fields, "raw": raw}


Row = dataclasses.make_dataclass(
  "Row",
  [
    ("key", Key),
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
  """Results of a benchmark: its rows, config and environment."""

  path: pathlib.Path
  rows: list[Row]
  environment: dict[str, Any]
  config: dict[str, Any]


def from_json(record: Mapping[str, Any]) -> Row:
  """Returns the checked row of one line.

  Fields that are missing in rows of older versions get their defaults.

  Raises:
    InputError: unknown fields, wrong types or impossible values.
  """
  if not isinstance(record, Mapping):
    raise errors.InputError("", "an object of JSON", typed.show(record))
  record = dict(record)
  raw = record.pop("raw", [])
  if not isinstance(raw, list):
    raise errors.InputError("raw", "a list", typed.show(raw))
  names = [field.name for field in dataclasses.fields(Key)]
  key = {name: record.pop(name) for name in names if name in record}
  processes = tuple(
    typed.build_dataclass(Process, values, f"raw[{i}].")
    for i, values in enumerate(raw)
  )
  key = typed.build_dataclass(Key, key)
  row = typed.build_dataclass(Row, record | {"key": key, "raw": processes})
  check(row)
  return row


def check(row: Row) -> None:
  """Raises InputError if a row is inconsistent or incomplete."""
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
      expected = f"a value in rows of task {key.task}"
      raise errors.InputError(name, expected, "none")
  if row.status != OK and not row.message:
    raise errors.InputError("message", f"text for status {row.status}", "none")
  if row.status == OK:
    _check_measured(row)
  _check_possible(row)
  least = -math.inf if is_quantity else 0
  for name in ("images_per_s", "rate", "seconds_to_target"):
    low, value, high = (getattr(row, name + e) for e in ("_low", "", "_high"))
    if low is not None and not (
      value is not None and high is not None and least < low <= value <= high
    ):
      expected = f"{least:g} < low <= value <= high"
      raise errors.InputError(name, expected, f"{low}, {value}, {high}")


def append(folder: pathlib.Path, row: Row) -> None:
  """Appends a checked row to the folder's rows.jsonl, see `append_line`."""
  record = row.as_json()
  from_json(json.loads(json.dumps(record, allow_nan=False)))
  append_line(folder / ROWS, record)


def append_line(path: pathlib.Path, record: Mapping[str, Any]) -> None:
  """Appends a line of JSON to a file, safe on disk on return.

  Cuts off an incomplete last line of a killed process first.
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
  """Returns the rows of a rows.jsonl in order; none if the file is missing.

  A point that failed may be measured again: its last row counts. An incomplete
  last line is ignored.

  Raises:
    InputError: a line that is no row, or a point that succeeded twice.
  """
  if not path.is_file():
    return []
  found: dict[Key, Row] = {}
  # The line of a killed process has no end.
  *lines, _ = path.read_bytes().split(b"\n")
  for number, line in enumerate(lines, 1):
    place = f"{path}, line {number}"
    try:
      row = from_json(json.loads(line))
    except errors.InputError as error:
      raise error.prefixed(f"{place}: ") from error
    except (ValueError, TypeError, RecursionError) as error:
      raise errors.InputError(place, "an object of JSON", error) from error
    before = found.pop(row.key, None)
    if before is not None and before.status == OK:
      given = f"a second of {row.key.text()}"
      raise errors.InputError(place, "one successful row per point", given)
    found[row.key] = row
  return list(found.values())


def read_folder(path: pathlib.Path) -> RowFolder:
  """Returns the rows of a benchmark's folder with config and environment.

  Raises:
    InputError: no such folder, no rows in it, or broken files.
  """
  path = pathlib.Path(path)
  expected = f"a folder with {ROWS}"
  errors.check(not path.is_file(), path, expected, "a file")
  if not (path / ROWS).is_file():
    fix = f"measure by imgbench bench --out={path}"
    raise errors.InputError(path, expected, "none", fix)
  found = read(path / ROWS)
  if not found:
    raise errors.InputError(path / ROWS, "at least one whole row", "none")
  names = (ENVIRONMENT, CONFIG)
  documents = [run_files.read_json(path / name) or {} for name in names]
  return RowFolder(path, found, *documents)


def environment_digest(folder: pathlib.Path) -> str:
  """Returns 12 hex digits of the folder's environment.json."""
  data = (folder / ENVIRONMENT).read_bytes()
  return hashlib.sha256(data).hexdigest()[:12]


def write_csv(folder: pathlib.Path, rows: Iterable[Row]) -> pathlib.Path:
  """Writes rows.csv: the columns of a row, nested ones as `outer.inner`.

  `raw` is in rows.jsonl only; one cell of the CSV has the median step of each
  process, in milliseconds.
  """
  # Workers in an older checkout have this module, but not that one.
  from imgbench.tables import table

  path = folder / CSV
  writers.write_atomically(
    path, table.csv_text([_flatten(row) for row in rows])
  )
  return path


def _check_measured(row: Row) -> None:
  if not row.raw or row.processes != len(row.raw):
    expected = f"at least 1, and {len(row.raw)} as in raw"
    raise errors.InputError("processes", expected, row.processes)
  needed = dict.fromkeys(QUANTITIES, "value") | {TIME_TO_ACCURACY: "seed"}
  name = needed.get(row.key.task, "throughput_s")
  for process in row.raw:
    times = [*process.throughput_s, *process.latencies_ms]
    if not all(time > 0 for time in times):
      raise errors.InputError("raw", "times above 0", min(times))
    if getattr(process, name) in (None, (), []):
      raise errors.InputError("raw", f"{name} of each process", "none")


def _check_possible(row: Row) -> None:
  """Raises InputError for numbers that no machine measures."""
  for name, most in _MOST.items():
    value = getattr(row.key, name)
    if value is not None and not 0 < value <= most:
      raise errors.InputError(name, f"a number above 0, up to {most:g}", value)
  # A quantity may be a difference.
  signed = ("rate", "rate_low", "rate_high", "value")
  signed = signed if row.key.task in QUANTITIES else ()
  for measured in (row, *row.raw):
    for column in COLUMNS if measured is row else MEASURED:
      least = -math.inf if column.name in signed else 0
      for number in _list_numbers(getattr(measured, column.name)):
        if not (math.isfinite(number) and number >= least):
          expected = f"a finite number{', at least 0' * (least == 0)}"
          raise errors.InputError(column.name, expected, number)


def _list_numbers(value: Any) -> list[float]:
  if isinstance(value, Mapping):
    return list(value.values())
  if isinstance(value, list | tuple):
    return list(value)
  return [value] if isinstance(value, int | float) else []


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
