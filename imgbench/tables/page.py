"""HTML pages from Jinja2 templates, and the blocks of a page.

A page is data: sections of blocks. The templates draw it; they are named by
their path in the package.
"""

import base64
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import json
import re
from typing import Any
from typing import Protocol

import jinja2
import markupsafe

import imgbench
from imgbench import texts
from imgbench.tables import formats
from imgbench.tables import table

_BLOCKS = "tables/templates/blocks.html.j2"
# A long name, without escaped characters, and the marks within it.
_NAME = re.compile(r"[^\s&;]{13,}")
_MARK = re.compile(r"(?<=\w)([_:+/=,]|\.(?=[a-z]))(?=\w)")


def render(name: str, /, **context: Any) -> str:
  """Returns a template with its variables filled in; all text is escaped.

  Args:
    name: path of the template in the package.
    **context: its variables; a missing one is an error.
  """
  return _environment().get_template(name).render(context)


def macros(name: str) -> Any:
  """Returns the macros of a template as functions that return markup."""
  return _environment().get_template(name).module


class Block(Protocol):
  """A part of a page; `table.Table` is one."""

  def html(self) -> markupsafe.Markup: ...


class Drawn:
  """Block drawn by the macro with the name of its class."""

  def html(self) -> markupsafe.Markup:
    return getattr(macros(_BLOCKS), type(self).__name__.lower())(self)


@dataclasses.dataclass(frozen=True)
class Heading(Drawn):
  """A heading below that of the section."""

  text: str | table.RichText


@dataclasses.dataclass(frozen=True)
class Paragraph(Drawn):
  """Sentences; `muted` ones are notes, `code` is a command."""

  text: str
  muted: bool = False
  code: bool = False


@dataclasses.dataclass(frozen=True)
class Values(Drawn):
  """Names and values, as two columns."""

  values: Mapping[str, str]
  code: bool = False


@dataclasses.dataclass(frozen=True)
class Folded(Drawn):
  """A block that a click on its title unfolds."""

  title: str
  block: Block


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page, linked in its navigation."""

  anchor: str
  title: str | table.RichText
  blocks: Sequence[Block]


def provenance(
  command: str, config: Mapping[str, Any], environment: Mapping[str, Any]
) -> list[Block]:
  """Returns the blocks of a run's command, config and environment."""
  found: list[Block] = [Paragraph(command, code=True)] if command else []
  for title, tree in (("Config", config), ("Environment", environment)):
    if tree:
      found.append(Folded(title, Values(_flat(tree), code=True)))
  return found


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
  """Returns values as text; keys of nested values are dotted."""
  flat: dict[str, str] = {}
  for name, value in tree.items():
    if isinstance(value, Mapping) and value:
      flat |= _flat(value, f"{prefix}{name}.")
    else:
      text = value if isinstance(value, str) else json.dumps(value)
      flat[f"{prefix}{name}"] = text
  return flat


@functools.cache
def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("imgbench", ""),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_printable,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.globals |= {"formats": formats, "version": imgbench.__version__}
  environment.filters["sha256"] = _sha256
  environment.filters["breakable"] = _mark_breaks
  return environment


def _printable(value: Any) -> Any:
  """Replaces control characters of text by spaces; markup is unchanged."""
  if isinstance(value, markupsafe.Markup):
    return value
  return texts.printable(str(value))


def _mark_breaks(text: Any) -> markupsafe.Markup:
  """Returns text whose long names may continue on a line after a mark."""
  escaped = markupsafe.escape(_printable(str(text)))
  add = lambda name: _MARK.sub(r"\1<wbr>", name[0])
  return markupsafe.Markup(_NAME.sub(add, escaped))


def _sha256(text: str) -> str:
  """Returns the digest with which a CSP allows an inline style."""
  return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
