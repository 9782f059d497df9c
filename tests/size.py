"""Lines of code, docstrings, comments and blanks per package.

python -m tests.size

Each line counts once: a line with code and a comment is code, a blank line in a
docstring is docstring. `imgbench size` compares code lines with a commit.
"""

import ast
import collections
import io
import pathlib
import tokenize

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("imgbench", "experiments", "configs")
KINDS = ("code", "docstring", "comment", "blank")
_LAYOUT = (
  tokenize.NL,
  tokenize.NEWLINE,
  tokenize.INDENT,
  tokenize.DEDENT,
  tokenize.ENDMARKER,
)


def count_lines(source: str) -> collections.Counter[str]:
  """Returns kind -> number of lines of a Python file."""
  kinds = dict.fromkeys(range(1, len(source.splitlines()) + 1), "blank")
  # In this order a line that a token begins or ends on is code.
  tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
  for token in sorted(tokens, key=lambda t: t.type != tokenize.COMMENT):
    kind = "comment" if token.type == tokenize.COMMENT else "code"
    if token.type not in _LAYOUT:
      for line in range(token.start[0], token.end[0] + 1):
        kinds[line] = kind
  for node in ast.walk(ast.parse(source)):
    described = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    if described and ast.get_docstring(node, clean=False) is not None:
      first = node.body[0]
      for line in range(first.lineno, first.end_lineno + 1):
        kinds[line] = "docstring"
  return collections.Counter(kinds.values())


def count_packages(root: pathlib.Path) -> dict[str, collections.Counter[str]]:
  """Returns package -> kind -> lines, packages of two parts at most."""
  counts = collections.defaultdict(collections.Counter)
  for folder in FOLDERS:
    for path in root.joinpath(folder).rglob("*.py"):
      package = "/".join(path.relative_to(root).parent.parts[:2])
      counts[package].update(count_lines(path.read_text()))
  return dict(sorted(counts.items()))


def main() -> None:
  """Prints the table."""
  counts = count_packages(ROOT)
  counts["all"] = sum(counts.values(), collections.Counter())
  width = max(map(len, counts))
  print(f"{'package':{width}}", *(f"{kind:>9}" for kind in (*KINDS, "lines")))
  for package, kinds in counts.items():
    cells = (*(kinds[kind] for kind in KINDS), kinds.total())
    print(f"{package:{width}}", *(f"{cell:>9,}" for cell in cells))


if __name__ == "__main__":
  main()
