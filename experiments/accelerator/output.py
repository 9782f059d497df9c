"""Writes the results of a suite: few files, each of limited size.

accelerator.json has the stages, the host and every number; rows.jsonl,
environment.json, config.json and report.html are those of the benchmark;
profiles.md summarizes the traces. raw.tar.xz has logs and raw files,
traces.tar.xz the traces and compiled programs.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import pathlib
import shutil
import tarfile
from typing import Any

from absl import logging

from imgbench import run_files
from imgbench import writers
from imgbench.bench import rows
from imgbench.bench import runner
from imgbench.bench.pages import html_report
from imgbench.experiments.accelerator import measurements
from imgbench.experiments.accelerator import profiles
from imgbench.experiments.accelerator import stages
from imgbench.tables import table

RESULTS, PROFILES = "accelerator.json", "profiles.md"
RAW, TRACES = "raw.tar.xz", "traces.tar.xz"
# By priority: if fewer files are allowed, the last ones are left out.
FILES = (
  *(RESULTS, rows.ROWS, rows.ENVIRONMENT, rows.CONFIG, html_report.PAGE, RAW),
  *(PROFILES, TRACES),
)


@dataclasses.dataclass(frozen=True)
class Limits:
  """Limits of the results folder.

  Attributes:
    files: most files.
    file_bytes: largest size of each.
  """

  files: int = len(FILES)
  file_bytes: float = 16e6


def write(
  suite: stages.Suite,
  records: Sequence[dict[str, Any]],
  out: pathlib.Path,
  left_out: Sequence[str] = (),
) -> None:
  """Writes the small files, after each stage.

  Args:
    suite: settings of the run.
    records: of its stages.
    out: folder; its other files are kept.
    left_out: missing files with reasons.
  """
  out.mkdir(parents=True, exist_ok=True)
  try:
    found = measurements.collect(suite)
  except Exception as error:  # Later stages matter more than a table.
    logging.exception("no measurements")
    found, left_out = [], [*left_out, f"measurements: {error}"]
  writers.write_json(
    out / RESULTS,
    {
      "tiny": suite.tiny,
      "stages": list(records),
      "measurements": [dataclasses.asdict(one) for one in found],
      "host": run_files.read_json(suite.work / "host.json") or {},
      "environment": suite.environment,
      "left_out": list(left_out),
    },
  )
  for name in (rows.ENVIRONMENT, rows.CONFIG):
    if (suite.bench / name).exists():
      shutil.copy(suite.bench / name, out / name)
  sources = (suite.bench / rows.ROWS, suite.cifar / rows.ROWS)
  texts = [
    path.read_text(encoding="utf-8") for path in sources if path.exists()
  ]
  # A killed process may leave an incomplete line.
  whole = "".join(text[: text.rfind("\n") + 1] for text in texts)
  if whole:
    writers.write_atomically(out / rows.ROWS, whole)


def finish(
  suite: stages.Suite,
  records: Sequence[dict[str, Any]],
  out: pathlib.Path,
  limits: Limits,
) -> None:
  """Writes all files: also the page, the profiles and the archives."""
  write(suite, records, out)
  traces, page = suite.bench / runner.TRACES, suite.work / "page"
  unpacked = {traces, page, suite.work / "kit", suite.work / "lock"}
  left_out = _pack(suite.work, out / RAW, limits.file_bytes, unpacked)
  if traces.is_dir():
    left_out += _pack(traces, out / TRACES, limits.file_bytes)
  # A failure here must not lose results.
  others = ((html_report.PAGE, _write_page), (PROFILES, _write_profiles))
  for name, make in others:
    try:
      if (path := make(suite, out)) is not None:
        shutil.copy(path, out / name)
    except Exception as error:
      logging.exception("no %s", name)
      left_out.append(f"{name}: {error}")
  dropped = []
  for path in (out / name for name in FILES if (out / name).exists()):
    if FILES.index(path.name) >= limits.files:
      left_out.append(f"{path.name}: more than {limits.files} files")
    elif path.stat().st_size > limits.file_bytes:
      left_out.append(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    else:
      continue
    dropped.append(path)
  write(suite, records, out, left_out)
  for path in dropped:
    path.unlink()


def _write_page(suite: stages.Suite, out: pathlib.Path) -> pathlib.Path | None:
  """Writes the page of the rows in `out`, with the CIFAR-10 runs."""
  if not (out / rows.ROWS).exists():
    return None
  folder = suite.work / "page"
  folder.mkdir(exist_ok=True)
  for name in (rows.ROWS, rows.ENVIRONMENT, rows.CONFIG):
    if (out / name).exists():
      shutil.copy(out / name, folder / name)
  return html_report.write(folder)


def _write_profiles(
  suite: stages.Suite, out: pathlib.Path
) -> pathlib.Path | None:
  """Writes the tables of the traces."""
  del out
  traces = suite.bench / runner.TRACES
  text = profiles.format_tables(traces) if traces.is_dir() else ""
  if not text:
    return None
  path = suite.work / PROFILES
  writers.write_atomically(path, text)
  return path


def _pack(
  folder: pathlib.Path,
  archive: pathlib.Path,
  most_bytes: float,
  without: Iterable[pathlib.Path] = (),
) -> list[str]:
  """Packs a folder; leaves out the largest files until the archive fits.

  Returns:
    The files left out.
  """
  without, left_out = set(without), []
  files = [
    path
    for path in sorted(folder.rglob("*"))
    if path.is_file() and not without & {path, *path.parents}
  ]
  while True:
    with tarfile.open(archive, "w:xz", preset=1) as packed:
      for path in files:
        packed.add(path, path.relative_to(folder))
    if archive.stat().st_size <= most_bytes or not files:
      return left_out
    largest = max(files, key=lambda path: path.stat().st_size)
    files.remove(largest)
    left_out.append(f"{archive.name}: {largest.relative_to(folder)}")


def format_results(results: dict[str, Any]) -> str:
  """Returns the stages and their numbers for a terminal."""
  stage_rows = tuple(
    (r["stage"], r["status"], f"{r['seconds']:.0f} s", r["message"])
    for r in results["stages"]
  )
  header = ("stage", "status", "time", "message")
  ended = table.from_cells("Stages", header, stage_rows, num_left=len(header))
  device = results["environment"].get("device_kind", "unknown device")
  numbers = measurements.build_table(
    f"Measured on {device}", results["measurements"], not results["tiny"]
  )
  return f"{ended.text()}\n{numbers.text()}"
