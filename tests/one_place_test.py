"""Numbers of tables are formatted in one module, metrics in one registry.

Every text file has an encoding.
"""

import ast
import pathlib
import re

import pytest

import imgbench

ROOT = pathlib.Path(imgbench.__file__).parents[1]
FILES = {
  str(path.relative_to(ROOT)): path
  for folder in ("imgbench", "experiments")
  for path in sorted(ROOT.joinpath(folder).rglob("*.py"))
}
CONFIGS = [f"configs/{p.name}" for p in sorted(ROOT.glob("configs/*.py"))]
FORMATS, SPECS = "imgbench/tables/formats.py", "imgbench/metrics/specs.py"
# What makes tables and pages, where a number is a cell.
TABLES = (
  "imgbench/report/",
  "imgbench/papers/",
  "imgbench/launch/sweep_table/",
  "imgbench/bench/pages/",
  "imgbench/bench/row_text.py",
  "imgbench/bench/compare.py",
  "imgbench/bench/scaling.py",
  "imgbench/compare.py",
  "imgbench/cost.py",
  "imgbench/operating_points.py",
)
# A format of fractions or of a given number of digits: {x:.2f}, {x:,.0f}, ...
FORMAT = re.compile(r"[-+ z#0,]*\d*\.(\d+|\{\w+\})[efg%]|[-+ z#0,]*,?\.?0?%")


def formats_of(path: pathlib.Path) -> list[str]:
  """Returns the formats of numbers in f-strings and str.format strings."""
  found = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.FormattedValue) and node.format_spec:
      found.append(ast.unparse(node.format_spec)[2:-1])
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
      # Axes of Matplotlib take templates of x.
      found += re.findall(r"\{(?!x:)\w*:([^{}]+)\}", node.value)
  return [text for text in found if FORMAT.fullmatch(text)]


def test_formats_of_numbers_are_found():
  assert formats_of(FILES[FORMATS])


@pytest.mark.parametrize(
  "name", [n for n in FILES if n.startswith(TABLES) and n != FORMATS]
)
def test_numbers_of_tables_are_formatted_in_one_module(name):
  assert formats_of(FILES[name]) == []


def test_directions_of_metrics_are_in_the_registry():
  pattern = re.compile(
    r"(lower|higher|smaller)_is_better|_?LOWER\b\s*=|\bbetter="
  )
  places = {n for n, path in FILES.items() if pattern.search(path.read_text())}
  assert places == {SPECS}


# Modules and methods whose `open` is of no text file.
_BINARY = ("Image.", "archive.", "journal.", "os.open", "tarfile.")


def find_texts(path: pathlib.Path) -> list[str]:
  """Returns the calls of a file that read or write text without an encoding.

  The encoding would be that of the user's locale.
  """
  found = []
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if not isinstance(node, ast.Call) or ast.unparse(node).startswith(_BINARY):
      continue
    keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
    name = ast.unparse(node.func).rpartition(".")[2]
    modes = [keywords.get("mode"), *map(ast.unparse, node.args[:2])]
    binary = any(re.fullmatch(r"'[rwax+]*b[rwax+]*'", str(m)) for m in modes)
    opens = name in ("open", "fdopen", "NamedTemporaryFile") and not binary
    method = isinstance(node.func, ast.Attribute)
    reads = name in ("read_text", "write_text") and method
    if (opens or reads or keywords.get("text") == "True") and (
      "encoding" not in keywords
    ):
      found.append(f"line {node.lineno}: {ast.unparse(node)}")
  return found


@pytest.mark.parametrize("name", [*FILES, *CONFIGS])
def test_fault_14_texts_have_an_encoding(name):
  assert find_texts(ROOT / name) == []
