"""Rows of the accelerator benchmark: what is in one, read, written, checked.

A row is one point of the benchmark, measured in fresh processes: a JSON object
on a line of `rows.jsonl`, flat but for the quantiles, the shares of peaks and
`raw`, which holds what each process measured. `rows.csv` is written from it.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import statistics
from typing import Any
from typing import NamedTuple

from imgbench import errors
from imgbench import writers
from imgbench.bench import typed

ROWS, CSV = "rows.jsonl", "rows.csv"
ENVIRONMENT, CONFIG = "environment.json", "config.json"

IMAGE_TASKS = ("train", "infer", "eval")
MICRO, TIME_TO_ACCURACY = "micro", "time_to_accuracy"
TASKS = (*IMAGE_TASKS, TIME_TO_ACCURACY, MICRO)
FRAMEWORKS = ("imgbench", "torch-eager", "torch-compile")
OK = "ok"
STATUSES = (OK, "out_of_memory", "crashed", "refused", "timeout")


@dataclasses.dataclass(frozen=True)
class Key:
  """What identifies a point; rows of two folders are matched by all of it.

  Attributes:
    task: of TASKS.
    framework: of FRAMEWORKS.
    model: its name; None for microbenchmarks.
    batch: images of a step over all devices.
    image_size: side in pixels.
    dtype: that of activations, e.g. "bfloat16"; of a microbenchmark's arrays.
    matmul_precision: as jax_default_matmul_precision, or "default".
    conv_precision: the same for convolutions.
    strategy: of `imgbench.parallel`.
    devices: how many.
    data: "device", "host" or "tfds".
    name: of a microbenchmark; of a config, for time to accuracy.
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


@dataclasses.dataclass(frozen=True)
class Process:
  """What one fresh process measured.

  Attributes:
    latencies_ms: of each step, waited for before the next one.
    throughput_s: seconds per step of each round, waited for at its end.
    first_step_s: seconds of the first step, compiling aside.
    compile_s: seconds of lowering and compiling.
    compile_cached: whether the persistent cache held the program.
    peak_memory_bytes: of the fullest device.
    pair: the same text in the process of another folder that ran right before
      or after this one; None where the folders were measured apart.
    seed: of a training run, for time to accuracy.
    seconds: of the run, whether or not it reached the target.
    seconds_to_target: None where the run did not reach it.
    final_accuracy: on the evaluation set, when the run ended.
  """

  latencies_ms: Sequence[float] = ()
  throughput_s: Sequence[float] = ()
  first_step_s: float | None = None
  compile_s: float | None = None
  compile_cached: bool | None = None
  peak_memory_bytes: int | None = None
  pair: str | None = None
  seed: int | None = None
  seconds: float | None = None
  seconds_to_target: float | None = None
  final_accuracy: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
  """One point; a number that was not measured is None.

  Attributes:
    key: which point.
    status: of STATUSES; all but "ok" have a message.
    message: what went wrong, or what a reader must know.
    batch_asked: where `fit_batch` made the batch smaller: what it was before.
    processes: how many the numbers are of.
    compile_cold_s, compile_cached_s, first_step_s: medians over processes.
    latency_ms: "median", "p90" and "p99" over the steps of all processes.
    images_per_s: median over the processes' medians; `_low` and `_high` are
      its interval, `_per_device` is it by device.
    interval_method, interval_coverage: how all bounds of the row were made.
    rate: of a microbenchmark, in `rate_unit` ("FLOP/s", "bytes/s", "calls/s").
    work: of one call of a microbenchmark: FLOPs, bytes or 1.
    seconds_to_target: mean over runs; None where one did not reach it.
    params: number of trained parameters.
    flops_per_image: analytic; forward, or forward and backward for training.
    flops_share_of_peak: name of a peak -> share of it in [0, 1].
    bytes_accessed: of a step on one device, as the compiler counts them.
    bandwidth_share: of the measured memory bandwidth.
    attention: form in which the model's attention was computed, "plain" or
      "cudnn"; None where it has none, of peers and in older rows.
    peak_memory_bytes: largest over processes.
    environment: digest of `environment.json`, see `environment_digest`.
    raw: what each process measured, in the order run.
  """

  key: Key
  status: str = OK
  message: str = ""
  batch_asked: int | None = None
  processes: int = 0
  compile_cold_s: float | None = None
  compile_cached_s: float | None = None
  first_step_s: float | None = None
  latency_ms: Mapping[str, float] | None = None
  images_per_s: float | None = None
  images_per_s_low: float | None = None
  images_per_s_high: float | None = None
  images_per_s_per_device: float | None = None
  interval_method: str | None = None
  interval_coverage: float | None = None
  rate: float | None = None
  rate_low: float | None = None
  rate_high: float | None = None
  rate_unit: str | None = None
  work: float | None = None
  seconds_to_target: float | None = None
  seconds_to_target_low: float | None = None
  seconds_to_target_high: float | None = None
  params: int | None = None
  flops_per_image: float | None = None
  flops_share_of_peak: Mapping[str, float] | None = None
  bytes_accessed: float | None = None
  bandwidth_share: float | None = None
  attention: str | None = None
  peak_memory_bytes: int | None = None
  environment: str = ""
  raw: Sequence[Process] = ()

  def as_json(self) -> dict[str, Any]:
    """The object of one line: key fields first, `raw` last."""
    fields = dataclasses.asdict(self)
    raw = [_without_empty(process) for process in fields.pop("raw")]
    return {**fields.pop("key"), **fields, "raw": raw}


class Folder(NamedTuple):
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
    raise errors.InputError(f"raw: expected a list, got {typed.shown(raw)}")
  key = {f: record.pop(f) for f in _names(Key) if f in record}
  made = [typed.made(Process, p, f"raw[{i}].") for i, p in enumerate(raw)]
  row = typed.made(
    Row, record | {"key": typed.made(Key, key), "raw": tuple(made)}
  )
  check(row)
  return row


def check(row: Row) -> None:
  """Raises InputError where a row contradicts itself or lacks what it needs."""
  key = row.key
  for what, value, known in (
    ("task", key.task, TASKS),
    ("framework", key.framework, FRAMEWORKS),
    ("status", row.status, STATUSES),
  ):
    if value not in known:
      raise errors.InputError(
        f"{what}: expected one of {', '.join(known)}, got {typed.shown(value)}"
      )
  needs = ("name",) if key.task in (MICRO, TIME_TO_ACCURACY) else ("model",)
  needs += ("batch", "image_size") if key.task in IMAGE_TASKS else ()
  needs += ("target",) if key.task == TIME_TO_ACCURACY else ()
  for name in needs:
    if getattr(key, name) is None:
      raise errors.InputError(f"{name}: a row of task {key.task} needs it")
  if row.status != OK and not row.message:
    raise errors.InputError(f"message: status {row.status} needs one")
  if row.status == OK:
    _check_measured(row)
  for name in ("images_per_s", "rate", "seconds_to_target"):
    low, value, high = (getattr(row, name + e) for e in ("_low", "", "_high"))
    if low is not None and not (
      value is not None and high is not None and 0 < low <= value <= high
    ):
      raise errors.InputError(
        f"{name}: expected 0 < low <= value <= high, got {low}, {value}, {high}"
      )


def append(folder: pathlib.Path, row: Row) -> None:
  """Adds a checked row to the folder's rows.jsonl, safe on disk on return.

  What a killed process left of a last line is cut off first.
  """
  line = json.dumps(row.as_json(), allow_nan=False)
  from_json(json.loads(line))  # What is written can be read.
  path = folder / ROWS
  with path.open("a+b") as file:
    file.seek(0)
    whole = file.read().rfind(b"\n") + 1
    file.truncate(whole)
    file.write(line.encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())


def read(path: pathlib.Path) -> list[Row]:
  """Returns the rows of a rows.jsonl in their order; none without the file.

  A point that did not succeed may be measured again: its last row counts. A
  torn last line is left out.

  Raises:
    InputError: a line that is no row, or a point that succeeded twice.
  """
  if not path.is_file():
    return []
  found: dict[Key, Row] = {}
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


def read_folder(path: pathlib.Path) -> Folder:
  """Returns the rows of a benchmark's folder with config and environment.

  Raises:
    InputError: no such folder, no rows in it, broken files.
  """
  path = pathlib.Path(path)
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
  return Folder(path, found, *documents)


def environment_digest(folder: pathlib.Path) -> str:
  """Returns 12 hex digits of the folder's environment.json."""
  data = (folder / ENVIRONMENT).read_bytes()
  return hashlib.sha256(data).hexdigest()[:12]


def write_csv(folder: pathlib.Path, rows: Iterable[Row]) -> pathlib.Path:
  """Writes rows.csv: the columns of a row, nested ones as `outer.inner`.

  `raw` stays in rows.jsonl; the CSV has the median step of each process, in
  milliseconds behind one another in one cell.
  """
  flat = [_flat(row) for row in rows]
  columns = dict.fromkeys(name for record in flat for name in record)
  buffer = io.StringIO()
  writer = csv.DictWriter(buffer, list(columns), lineterminator="\n")
  writer.writeheader()
  writer.writerows(flat)
  path = folder / CSV
  writers.write_atomically(path, buffer.getvalue())
  return path


def _check_measured(row: Row) -> None:
  if not row.raw or row.processes != len(row.raw):
    raise errors.InputError(
      f"processes: expected that of raw, {len(row.raw)}, and at least 1, got"
      f" {row.processes}"
    )
  is_run = row.key.task == TIME_TO_ACCURACY
  for process in row.raw:
    times = [*process.throughput_s, *process.latencies_ms]
    if not all(time > 0 for time in times):
      raise errors.InputError("raw: expected times above 0")
    if not is_run and not process.throughput_s:
      raise errors.InputError("raw: a process has no throughput_s")
    if is_run and process.seed is None:
      raise errors.InputError("raw: a run has no seed")


def _names(kind: type) -> list[str]:
  return [field.name for field in dataclasses.fields(kind)]


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
  return {k: v for k, v in values.items() if v is not None and v != ()}


def _flat(row: Row) -> dict[str, Any]:
  record, flat = row.as_json(), {}
  del record["raw"]
  for name, value in record.items():
    if isinstance(value, Mapping):
      flat |= {f"{name}.{inner}": item for inner, item in value.items()}
    elif name not in ("latency_ms", "flops_share_of_peak"):
      flat[name] = value
  flat["step_ms_by_process"] = " ".join(
    f"{1e3 * statistics.median(process.throughput_s):.6g}"
    for process in row.raw
    if process.throughput_s
  )
  return flat
