"""Names of weights in other libraries, which maps.toml lists and explains."""

import functools
import pathlib
import re
import tomllib
from typing import Any
from typing import NamedTuple

_TORCH = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_TORCH |= {"mean": "running_mean", "var": "running_var"}
_OURS = re.compile(r"\{(\w):?([\w|]*)\}")
_THEIRS = re.compile(r"\{(\d?)(\w)([+-]\d)?\}")


class Map(NamedTuple):
  """A section of maps.toml."""

  models: str
  sign: str
  names: str
  settings: dict[str, Any] = {}
  torch: bool = True
  renames: tuple[tuple[str, str], ...] = ()
  peers: dict[str, str] = {}

  def find(self, path: str) -> tuple[str, str, int]:
    """Returns name, form and place of a parameter, e.g. "head/dense/kernel".

    Raises:
      KeyError: the library has none.
    """
    module, _, leaf = path.rpartition("/")
    end = f".{_TORCH.get(leaf, leaf)}" if self.torch else f"/{leaf}"
    for pattern, words, name, form in _parse(self.names):
      for ours, rest in ((path, ""), (module, end)):
        if found := pattern.fullmatch(ours):
          values = found.groupdict()
          values |= {key: w.index(values[key]) for key, w in words.items()}
          fill = functools.partial(_fill, values)
          name = (_THEIRS.sub(fill, name) + rest).replace("_.", "_")
          return name, form, values.get("c", 0)
    raise KeyError(path)


@functools.cache
def _parse(names: str) -> list[tuple[re.Pattern, dict, str, str]]:
  """Returns pattern of ours, words of fields, name and form of each line."""
  parsed = []
  for line in names.strip().splitlines():
    ours, name, form = (line + " ").split(" ")[:3]
    words = {key: w.split("|") for key, w in _OURS.findall(ours) if w}
    parsed.append((re.compile(_OURS.sub(_to_group, ours)), words, name, form))
  return parsed


def _to_group(hit: re.Match) -> str:
  key, words = hit.groups()
  return f"(?P<{key}>{words or ('[a-z]+' if key == 'w' else '[0-9]+')})"


def _fill(values: dict[str, Any], hit: re.Match) -> str:
  times, key, plus = hit.groups()
  if not times and not plus:
    return str(values[key])
  return str(int(times or 1) * int(values[key]) + int(plus or 0))


_FILE = pathlib.Path(__file__).with_name("maps.toml")
_SECTIONS = tomllib.loads(_FILE.read_text(encoding="utf-8"))
MAPS = {
  key: Map(**{**it, "names": _SECTIONS.get(it["names"], it)["names"]})
  for key, it in _SECTIONS.items()
}
