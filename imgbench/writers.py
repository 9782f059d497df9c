"""Metric writers: JSON lines and TensorBoard events; no TensorFlow."""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import json
import math
import os
import threading
import time
from typing import Any

from absl import logging

from imgbench import errors
from imgbench import paths
from imgbench import registry


def make_file_key(key: str) -> str:
  """A split's key in file names: "cifar10:test" becomes "cifar10-test"."""
  name = key.replace(":", "-", 1)
  return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def read_lines(path: paths.Folder) -> list[dict]:
  """Returns the records of a JSON-lines file.

  A last line that is cut off is left out: its process was killed. Other lines
  that hold no record are left out too, and logged.
  """
  records: list[dict] = []
  if not path.exists():
    return records
  lines = path.read_bytes().split(b"\n")
  for number, line in enumerate(lines, 1):
    try:
      record = json.loads(line)
    except (ValueError, RecursionError):
      record = None
    if isinstance(record, dict):
      records.append(record)
    elif number < len(lines):
      logging.warning("%s, line %d: a damaged record is left out", path, number)
  return records


def write_atomically(path: paths.Folder, text: str | bytes) -> None:
  """Replaces a file atomically: readers see the old one or the new one.

  Args:
    path: of the file.
    text: written as UTF-8; what it cannot encode, such as names of files in
      another encoding, is escaped.
  """
  if isinstance(text, str):
    data = text.encode(errors="backslashreplace")
  else:
    data = text
  if paths.is_bucket(path):
    paths.write_object(path, data)
    return
  # Threads of a process may write the same file.
  unique = f"{os.getpid()}.{threading.get_ident()}"
  temporary = path.with_name(f".{path.name}.{unique}.tmp")
  try:
    with temporary.open("wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_json(path: paths.Folder, value) -> None:
  write_atomically(path, format_json(value))


def format_json(value) -> str:
  """Returns the content of a JSON file."""
  return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_output(flag: str, path: str, content: str | bytes) -> None:
  """Writes the file that a flag names, and its folder.

  Raises:
    InputError: it cannot be written.
  """
  target = paths.as_path(path, flag)
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, content)
  except (OSError, ValueError) as error:  # ValueError: no name, as of "."
    given = f"{path}: {errors.find_reason(error)}"
    expected = "a file that can be written"
    raise errors.InputError(flag, expected, given) from error


WRITERS: registry.Registry = registry.Registry("metric writer")
OWN = ("jsonl", "tensorboard")


class MetricWriter:
  """Appends one record per logged step to each of several writers.

  Opening it drops the records of `metrics.jsonl` after `step`, from which the
  run resumes, so that a resumed run leaves the file of an unbroken one
  (TensorBoard hides its events of later steps). Buckets are written at `flush`.

  Args:
    workdir: folder of the run.
    step: later records are dropped.
    tensorboard: whether to write event files too.
    others: further names of WRITERS.
    config: of the run, as of `config_utils.to_dict`.
  """

  def __init__(
    self,
    workdir: paths.Folder,
    step: int,
    tensorboard: bool = True,
    others: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
  ):
    names = (*(OWN if tensorboard else OWN[:1]), *others)
    self._place, self._writers = paths.AppendFolder(workdir), []
    with contextlib.ExitStack() as stack:
      stack.callback(self._place.close)
      for name in names:
        settings = {"folder": self._place.folder, "step": step}
        if name not in OWN:
          settings["config"] = config
        writer = WRITERS.build(name, workdir=workdir, **settings)
        stack.callback(writer.close)
        self._writers.append(writer)
      self._place.upload()
      stack.pop_all()  # Nothing failed: `close` closes them.

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes one record, values that are not finite as null."""
    for writer in self._writers:
      writer.write(step, values)

  def flush(self) -> None:
    """Forces all records to disk, so that no checkpoint is ahead of them."""
    for writer in self._writers:
      writer.flush()
    self._place.upload()

  def close(self) -> None:
    """Flushes and closes all writers."""
    with contextlib.ExitStack() as stack:
      stack.callback(self._place.close)
      for writer in self._writers:
        stack.callback(writer.close)
      self.flush()


@WRITERS.register("jsonl")
class JsonLines:
  """Writes the lines of `metrics.jsonl`.

  Args:
    workdir: folder of the records written so far.
    folder: to write to.
    step: later records are dropped.
  """

  def __init__(self, *, workdir: paths.Folder, folder: paths.Folder, step: int):
    name = "metrics.jsonl"
    records = read_lines(workdir / name)
    steps = [record.get("step", 0) for record in records]
    kept = [
      record
      for record, at in zip(records, steps, strict=True)
      if isinstance(at, int) and at <= step
    ]
    write_atomically(folder / name, "".join(map(_line, kept)))
    self._file = (folder / name).open("a", encoding="utf-8")

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes one record."""
    self._file.write(_line({"step": step, **values}))
    self._file.flush()

  def flush(self) -> None:
    """Forces all records to disk."""
    self._file.flush()
    os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


@WRITERS.register("tensorboard")
class TensorBoard:
  """Writes a TensorBoard event file, in this thread.

  tensorboardX's SummaryWriter writes in another thread, which dies silently on
  a full disk; the next write then blocks.

  Args:
    workdir: not read.
    folder: to write to.
    step: the last one that is kept of an earlier run.
  """

  def __init__(self, *, workdir: paths.Folder, folder: paths.Folder, step: int):
    del workdir
    from tensorboardX import event_file_writer
    from tensorboardX import summary
    from tensorboardX.proto import event_pb2

    self._scalar = summary.scalar
    self._event = event_pb2.Event
    self._writer = event_file_writer.EventsWriter(str(folder / "events"))
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._add(step + 1, session_log=start)
    self.flush()

  def _add(self, step: int, **content) -> None:
    event = self._event(wall_time=time.time(), step=step, **content)
    self._writer.write_event(event)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes the finite values of one record."""
    for name, value in values.items():
      if value is not None and math.isfinite(value):
        self._add(step, summary=self._scalar(name, value))

  def flush(self) -> None:
    """Forces all events to disk."""
    self._writer.flush()

  def close(self) -> None:
    """Closes the file."""
    self._writer.close()


def _line(record: Mapping) -> str:
  clean = {
    name: None
    if isinstance(value, float) and not math.isfinite(value)
    else value
    for name, value in record.items()
  }
  return json.dumps(clean) + "\n"
