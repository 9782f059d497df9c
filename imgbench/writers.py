"""Metric writers: JSON lines and TensorBoard events; no TensorFlow."""

from collections.abc import Mapping
import json
import math
import os
import pathlib


def file_key(key: str) -> str:
  """A split's key in file names: "cifar10:test" becomes "cifar10-test"."""
  name = key.replace(":", "-", 1)
  return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def read_lines(path: pathlib.Path) -> list[dict]:
  """The whole records of a JSON-lines file; a torn last line is left out."""
  records = []
  if not path.exists():
    return records
  for line in path.read_text().splitlines():
    try:
      records.append(json.loads(line))
    except json.JSONDecodeError:
      break
  return records


def write_atomically(path: pathlib.Path, text: str | bytes) -> None:
  """Replaces a file at once: readers see the old or the new, never a part."""
  data = text.encode() if isinstance(text, str) else text
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with temporary.open("wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value) -> None:
  write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


class MetricWriter:
  """Appends one record per logged step to `metrics.jsonl` and TensorBoard.

  Opening it cuts both back to `step`, the step that the run goes on from, so
  that a resumed run leaves the file of an unbroken one.
  """

  def __init__(
    self, workdir: pathlib.Path, step: int, tensorboard: bool = True
  ):
    self._path = workdir / "metrics.jsonl"
    kept = [r for r in read_lines(self._path) if r["step"] <= step]
    write_atomically(self._path, "".join(map(_line, kept)))
    self._file = self._path.open("a")
    self._events = None
    if tensorboard:
      import tensorboardX

      self._events = tensorboardX.SummaryWriter(
        logdir=str(workdir), purge_step=step + 1 if step else None
      )

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes one record; a value that is not finite is written as null."""
    self._file.write(_line({"step": step, **values}))
    self._file.flush()
    if self._events is not None:
      for name, value in values.items():
        if value is not None:
          self._events.add_scalar(name, value, step)

  def flush(self) -> None:
    """Forces all to disk, so that a checkpoint never is ahead of it."""
    self._file.flush()
    os.fsync(self._file.fileno())
    if self._events is not None:
      self._events.flush()

  def close(self) -> None:
    self.flush()
    self._file.close()
    if self._events is not None:
      self._events.close()


def _line(record: Mapping) -> str:
  clean = {
    name: None
    if isinstance(value, float) and not math.isfinite(value)
    else value
    for name, value in record.items()
  }
  return json.dumps(clean) + "\n"
