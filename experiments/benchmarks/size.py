"""Prints code lines per folder, at a base commit and now.

imgbench size [--base=COMMIT] [--depth=2]

Counts the lines of `imgbench`, `experiments` and `configs` that are neither
blank nor comments, docstrings or imports.
"""

import ast
import collections
from collections.abc import Iterable
import io
import pathlib
import subprocess
import tokenize

from absl import flags

import imgbench
from imgbench import commands
from imgbench import errors
from imgbench.tables import table

ROOT = pathlib.Path(imgbench.__file__).parents[1]
FOLDERS = ("imgbench", "experiments", "configs")
REQUIRED = ("base",)
AIM = 26_000  # code lines of all folders
# The largest parts that keep the code above the aim, and why they stay.
LARGEST = {
  "imgbench/papers": "readers of six public collections that check every field",
  "imgbench/bench": "fresh processes, intervals over them, baselines, programs"
  " compiled for absent devices",
  "imgbench/launch": "three executors, each with stop and resume",
  "imgbench/scenes": "the embedded data set, drawn",
  "imgbench/prepare": "downloads and checks of public data sets, and synthetic"
  " ones",
  "experiments/accelerator": "the suite for one session on a device, which is"
  " newer than the aim",
  "experiments/benchmarks": "comparisons of our parts with other libraries",
}
_NO_CODE = (
  tokenize.COMMENT,
  tokenize.NL,
  tokenize.NEWLINE,
  tokenize.INDENT,
  tokenize.DEDENT,
  tokenize.ENDMARKER,
)


def count_code_lines(source: str) -> int:
  """Returns the number of code lines of a Python file."""
  lines = set()
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type not in _NO_CODE:
      lines.update(range(token.start[0], token.end[0] + 1))
  for node in ast.walk(ast.parse(source)):
    body = getattr(node, "body", None)
    if isinstance(body, list) and _is_docstring(body[:1], node):
      lines -= set(range(body[0].lineno, body[0].end_lineno + 1))
    elif isinstance(node, ast.Import | ast.ImportFrom):
      lines -= set(range(node.lineno, node.end_lineno + 1))
  return len(lines)


def _is_docstring(first: list[ast.stmt], parent: ast.AST) -> bool:
  kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
  return (
    bool(first)
    and isinstance(parent, kinds)
    and isinstance(first[0], ast.Expr)
    and isinstance(first[0].value, ast.Constant)
    and isinstance(first[0].value.value, str)
  )


def count_by_folder(
  files: Iterable[tuple[str, str]], depth: int
) -> collections.Counter[str]:
  """Returns folder -> code lines of (path, text) pairs.

  Args:
    files: paths relative to the repository, with their text.
    depth: how many parts of a path name a folder.
  """
  counts = collections.Counter()
  for path, source in files:
    folder = "/".join(pathlib.PurePosixPath(path).parent.parts[:depth])
    counts[folder] += count_code_lines(source)
  return counts


def _read_files() -> Iterable[tuple[str, str]]:
  for folder in FOLDERS:
    for path in sorted(ROOT.joinpath(folder).rglob("*.py")):
      yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def _read_files_at(commit: str) -> Iterable[tuple[str, str]]:
  names = _git("ls-tree", "-r", "--name-only", commit, *FOLDERS).splitlines()
  for name in names:
    if name.endswith(".py"):
      yield name, _git("show", f"{commit}:{name}")


def _git(*args: str) -> str:
  done = subprocess.run(
    ["git", "-C", str(ROOT), *args],
    capture_output=True,
    text=True,
    encoding="utf-8",
  )
  if done.returncode:
    raise errors.InputError("--base", "a commit", done.stderr.strip())
  return done.stdout


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --base and --depth."""
  flags.DEFINE_string(
    "base", "a68fa0b", "Commit to compare with.", flag_values=flag_values
  )
  flags.DEFINE_integer(
    "depth",
    2,
    "Parts of a path that name a folder.",
    lower_bound=1,
    flag_values=flag_values,
  )


def main(argv: list[str]) -> int:
  """Prints the table."""
  del argv
  values = flags.FLAGS
  base = count_by_folder(_read_files_at(values.base), values.depth)
  now = count_by_folder(_read_files(), values.depth)
  columns = {values.base: base, "now": now}
  body = [
    (name, *(f"{count[name]:,}" for count in columns.values()))
    for name in sorted(base | now)
  ]
  body.append(("all", *(f"{c.total():,}" for c in columns.values())))
  title = "Code lines (no blank lines, comments, docstrings, imports)"
  print(table.from_cells(title, ("folder", *columns), body).text())
  if values.depth == 2 and now.total() > AIM:
    print(f"\n{now.total() - AIM:,} above the aim of {AIM:,}; largest parts:")
    for name, reason in LARGEST.items():
      print(f"{now[name]:,} {name}: {reason}")
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("size")
