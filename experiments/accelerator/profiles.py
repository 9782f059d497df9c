"""Summarizes profiler traces: time per operation on a device."""

from collections.abc import Iterator
import pathlib
import re

import jax

from imgbench.tables import formats
from imgbench.tables import table

# Lines of a device's plane with sequential operations, in order of preference;
# for a CPU those of its threads.
_LINES = ("XLA Ops", "Stream", "tf_XLA")
_PLANES = re.compile(r"^/device:(GPU|TPU):|^/host:CPU$")
# On CPUs it encloses or awaits operations.
_ENCLOSING = "ThunkExecutor"
_MOST = 15


def sum_operations(path: pathlib.Path) -> dict[str, tuple[float, int]]:
  """Returns time and count of operations, without numbers in their names.

  Args:
    path: an .xplane.pb file.

  Returns:
    Name -> seconds and number of events on all devices.
  """
  planes = [
    plane
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes
    if _PLANES.match(plane.name)
  ]
  devices = [p for p in planes if p.name.startswith("/device")] or planes
  found = {}
  for plane in devices:
    lines = list(plane.lines)
    names = [line.name or "" for line in lines]
    kinds = [k for k in _LINES if any(name.startswith(k) for name in names)]
    for line, name in zip(lines, names, strict=True):
      if not kinds or not name.startswith(kinds[0]):
        continue
      for event in line.events:
        if event.name.startswith(_ENCLOSING):
          continue
        name = re.sub(r"[._]\d+", "", event.name)
        seconds, count = found.get(name, (0.0, 0))
        found[name] = seconds + event.duration_ns / 1e9, count + 1
  return found


def _find_traces(folder: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
  """Yields the name of a point and its trace."""
  for point in sorted(path for path in folder.iterdir() if path.is_dir()):
    for path in sorted(point.rglob("*.xplane.pb"))[:1]:
      yield point.name.replace("_", " "), path


def format_tables(folder: pathlib.Path) -> str:
  """Returns a table for each trace of a benchmark; "" without traces."""
  tables = []
  for name, path in _find_traces(folder):
    found = sum_operations(path)
    total = sum(seconds for seconds, _ in found.values())
    largest = sorted(found.items(), key=lambda item: -item[1][0])[:_MOST]
    lines = tuple(
      (name, f"{100 * s / total:.1f}%", formats.seconds(s), str(count))
      for name, (s, count) in largest
      if total
    )
    header = ("operation", "share", "time", "events")
    caption = f"{name}: {formats.seconds(total)} in five steps"
    if lines:
      tables.append(table.from_cells(caption, header, lines).markdown())
  return "\n".join(tables)
