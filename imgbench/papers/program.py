"""Flags, output files and manifest of the paper scripts in `experiments`."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
import contextlib
import hashlib
import io
import pathlib
import sys
from typing import Any

from absl import flags
from absl import logging

from imgbench import cpus
from imgbench import environment
from imgbench import errors
from imgbench import texts
from imgbench import writers
from imgbench.tables import formats
from imgbench.tables import table

MANIFEST = "manifest.json"
OUT, PUBLISHED = "out", "published"
PREDICTIONS, ALLOW_REVERSED = "predictions", "allow_reversed"
_HELP = {
  OUT: "Folder for tables, figures and manifest.json; without it the main table"
  " is printed and nothing is written. Other files in it stay.",
  PUBLISHED: "CSV file of published figures to compare with ours; repeatable.",
  PREDICTIONS: "MODEL@DATASET=FILE: predictions of your model (.npy, .npz,"
  " .csv, .jsonl); repeatable.",
  ALLOW_REVERSED: "Model whose worst-first files are read from the last column"
  " to the first; without it they are left out; repeatable.",
}
COMMON = tuple(_HELP)

# Keys of `environment.collect`; no times, so that equal runs write equal bytes.
_FACTS = (
  "command",
  "imgbench",
  "commit",
  "python",
  "versions",
  "platform",
  "device_kind",
  "processor",
)


def define_flags(
  flag_values: flags.FlagValues,
  names: Sequence[str] = COMMON,
  several: Mapping[str, str] | None = None,
  **texts: str,
) -> None:
  """Defines the flags of a script.

  Args:
    flag_values: to define them in.
    names: those of COMMON that the script uses.
    several: flags that are repeatable, name -> help.
    **texts: flags with one text, name -> help.
  """
  common = {name: _HELP[name] for name in names}
  texts = {OUT: common.pop(OUT), **texts}
  for name, text in texts.items():
    flags.DEFINE_string(name, None, text, flag_values=flag_values)
  for name, text in (common | (several or {})).items():
    flags.DEFINE_multi_string(name, [], text, flag_values=flag_values)


class Output:
  """Collects the files of --out and writes them at the end.

  A run that fails leaves the folder unchanged. Equal input gives equal bytes.

  Args:
    out: folder, created if needed; None: nothing is written.

  Raises:
    InputError: the folder cannot be created.
  """

  def __init__(self, out: pathlib.Path | None):
    self._out = out
    self._files: dict[str, bytes] = {}
    self._inputs: dict[str, pathlib.Path] = {}
    self._notes: list[str] = []
    self._undefined: dict[str, str] = {}
    self._ending: list[str] = []
    self._replaced: list[str] = []
    if out is not None:
      with _name_out(out):
        out.mkdir(parents=True, exist_ok=True)

  @property
  def wanted(self) -> bool:
    """Returns whether files are written; if not, costly ones are skipped."""
    return self._out is not None

  def text(self, name: str, text: str) -> None:
    """Adds a text file; `name` with its suffix."""
    self._add(name, text.encode(errors="backslashreplace"))

  def csv(
    self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
  ) -> None:
    """Adds a CSV file, its cells formatted by `formats.exact`.

    Raises:
      ValueError: a row of another length, a number that is not finite.
    """
    cells = [map(formats.exact, row) for row in rows]
    named = [dict(zip(columns, row, strict=True)) for row in cells]
    self.text(name, table.csv_text(named, columns))

  def figure(
    self, name: str, draw: Callable, photographs: bool = False
  ) -> None:
    """Adds NAME.png and NAME.pdf.

    Args:
      name: without a suffix.
      draw: `themes.Theme` -> matplotlib Figure; not called if nothing is
        written.
      photographs: keep all colors in the PNG, see `themes.render`.
    """
    if not self.wanted:
      return
    # Matplotlib takes a third of a second to import; tables do not need it.
    from imgbench.tables import themes

    self._add(
      f"{name}.png", themes.render(draw, themes.LIGHT, photographs=photographs)
    )
    self._add(f"{name}.pdf", themes.render_pdf(draw, themes.LIGHT))

  def note(self, text: str) -> None:
    """Prints a note on standard error and adds it to the manifest."""
    print(texts.printable(f"note: {text}"), file=sys.stderr)
    self._notes.append(text)

  def inputs(self, paths: Iterable[pathlib.Path]) -> None:
    """Adds files that were read; the manifest has their SHA-256."""
    self._inputs |= {str(path): pathlib.Path(path) for path in paths}

  def read(self, files: Iterable[pathlib.Path], notes: Iterable[str]) -> None:
    """Adds files that were read, and notes on them."""
    self.inputs(files)
    for note in notes:
      self.note(note)

  def undefined(self, what: str, reason: str) -> None:
    """Adds to the manifest why a row has no value."""
    self._undefined[what] = reason

  def replace(self, pattern: str) -> None:
    """Has `write` remove files of an earlier run that it does not write."""
    self._replaced.append(pattern)

  def end_with(self, text: str) -> None:
    """Has `close` print a text at the end."""
    self._ending.append(text)

  def close(self) -> None:
    """Writes all files, the manifest last.

    Raises:
      InputError: the folder cannot be written.
    """
    if self._out is not None:
      self.write(self._out)
      print(f"wrote {len(self._files) + 1} files to {self._out}")
    for text in self._ending:
      print(text)

  def write(self, out: pathlib.Path) -> None:
    """Writes all files to a folder, the manifest last. Raises InputError."""
    facts = environment.collect()
    manifest = {
      **{name: facts[name] for name in _FACTS},
      "inputs": _digests(self._inputs),
      "notes": self._notes,
      "undefined": self._undefined,
      "files": sorted(self._files),
    }
    with _name_out(out):
      for name, data in self._files.items():
        writers.write_atomically(out / name, data)
      for path in (p for pattern in self._replaced for p in out.glob(pattern)):
        if path.name not in self._files:
          path.unlink()
      writers.write_json(out / MANIFEST, manifest)

  def _add(self, name: str, data: bytes) -> None:
    if name in self._files or name == MANIFEST:
      raise ValueError(f"{name}: written twice")
    self._files[name] = data


@contextlib.contextmanager
def _name_out(out: pathlib.Path) -> Iterator[None]:
  """Turns an error of the file system into one about --out."""
  try:
    yield
  except OSError as error:
    given = f"{out}: {error.strerror}"
    raise errors.InputError("--out", "a writable folder", given) from error


def _digests(paths: dict[str, pathlib.Path]) -> dict[str, str]:
  with futures.ThreadPoolExecutor(cpus.count_cpus()) as pool:
    return dict(
      sorted(zip(paths, pool.map(_sha256, paths.values()), strict=True))
    )


def _sha256(path: pathlib.Path) -> str:
  try:
    with path.open("rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  except OSError as error:
    raise errors.InputError(path, "a file to read", error.strerror) from error


def run(reproduce: Callable[[flags.FlagValues, Output], None], argv) -> int:
  """Runs a script, writes its files and prints its tables.

  Args:
    reproduce: called with the flags and the output.
    argv: unused.

  Returns:
    The exit code.
  """
  del argv
  values = flags.FLAGS
  if not values["verbosity"].present:
    # Info logs of libraries are of no use to a reader of tables.
    logging.set_verbosity(logging.WARNING)
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    output = Output(pathlib.Path(values.out) if values.out else None)
    reproduce(values, output)
    output.close()
  print(texts.printable_lines(printed.getvalue()), end="")
  return errors.EXIT_DONE
