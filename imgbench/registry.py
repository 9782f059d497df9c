"""Registries of entries by name; errors suggest known names and settings."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import difflib
import inspect
from typing import Any
from typing import Generic
from typing import TypeVar

from imgbench import errors

Entry = TypeVar("Entry")
Built = TypeVar("Built")


class Registry(Mapping[str, Entry], Generic[Entry]):
  """Entries of one kind by name, in the order in which they were registered.

  Args:
    kind: what an entry is or builds, e.g. "model"; named in errors.
  """

  def __init__(self, kind: str):
    self._kind = kind
    self._entries: dict[str, Entry] = {}

  def register(self, name: str, entry: Entry | None = None):
    """Registers an entry; without one, returns a decorator that does.

    Raises:
      ValueError: the name is taken.
    """
    if entry is None:
      return lambda decorated: self.register(name, decorated)
    if name in self._entries:
      raise ValueError(f"{self._kind} {name!r} is registered already")
    self._entries[name] = entry
    return entry

  def build(
    self: "Registry[Callable[..., Built]]", name: str, /, **settings
  ) -> Built:
    """Returns what the builder of this name returns for keyword arguments.

    Raises:
      InputError: unknown name, unknown or missing setting, or one that the
        builder refuses.
    """
    return call(self.describe(name), self[name], **settings)

  def describe(self, name: str) -> str:
    """Returns e.g. "model 'cnn'". Raises InputError: an unknown name."""
    if name not in self:
      known = self.list_known()
      expected, near = f"a known {self._kind}", near_names(name, known)
      raise errors.InputError("name", expected, repr(name), near)
    return f"{self._kind} {name!r}"

  def list_known(self) -> list[str]:
    """Returns the names that errors suggest."""
    return list(self)

  def __getitem__(self, name: str) -> Entry:
    return self._entries[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._entries)

  def __len__(self) -> int:
    return len(self._entries)


def call(what: str, function: Callable[..., Built], /, **settings) -> Built:
  """Returns `function(**settings)`, its signature checked first.

  Args:
    what: the function as errors name it, e.g. "model 'cnn'".
    function: with explicit keyword arguments.
    **settings: its arguments.

  Raises:
    InputError: unknown or missing setting, or what the function refuses.
  """
  check_settings(what, inspect.signature(function).parameters, settings)
  return function(**settings)


def check_settings(
  what: str,
  parameters: Mapping[str, inspect.Parameter],
  settings: Mapping[str, Any],
) -> None:
  """Raises InputError unless settings are those of a signature.

  Args:
    what: the function as errors name it.
    parameters: of its signature, by name.
    settings: to be passed to it.
  """
  kinds = {parameter.kind for parameter in parameters.values()}
  takes_any = inspect.Parameter.VAR_KEYWORD in kinds
  for setting, value in settings.items():
    if setting not in parameters and not takes_any:
      near = near_keys(setting, parameters)
      given = repr(value)
      raise errors.InputError(setting, f"a setting of {what}", given, near)
  for setting, parameter in parameters.items():
    needed = parameter.default is inspect.Parameter.empty
    needed &= parameter.kind is not inspect.Parameter.VAR_KEYWORD
    if needed and setting not in settings:
      raise errors.InputError(setting, f"a value, which {what} needs", "none")


def near_names(name: str, known: Iterable[str]) -> str:
  """Returns the fix of an error about an unknown name: near ones, or all."""
  known = sorted(known)
  return suggest_near(name, known) or f"known: {', '.join(known)}"


def near_keys(key: str, known: Iterable[str]) -> str:
  """Returns the fix of an error about an unknown config key."""
  return suggest_near(key, known) or "imgbench config NAME lists all keys"


def suggest_near(name: str, known: Iterable[str]) -> str:
  """Returns a question with at most three near names; "" if none is near."""
  known = sorted(known)
  near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
  # A key misplaced in another section is near by its last part.
  tail = name.rpartition(".")[2]
  near = near or [k for k in known if k.rpartition(".")[2] == tail][:3]
  return f"did you mean {' or '.join(near)}?" if near else ""
