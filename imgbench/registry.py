"""Builders by name: unknown names and settings are answered with the known."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import difflib
import inspect
from typing import Any

from imgbench import errors


def build(
  kind: str, builders: Mapping[str, Callable], name: str, /, **settings
) -> Any:
  """Returns `builders[name](**settings)`.

  Args:
    kind: what is built, e.g. "model"; named in errors.
    builders: name -> function with explicit keyword arguments.
    name: one of the builders.
    **settings: arguments of the builder.

  Raises:
    InputError: unknown name, unknown or missing setting, or what the builder
      itself refuses.
  """
  if name not in builders:
    raise errors.InputError(
      f"unknown {kind} {name!r}; known: {', '.join(sorted(builders))}"
    )
  return call(f"{kind} {name!r}", builders[name], **settings)


def call(what: str, function: Callable, /, **settings) -> Any:
  """Returns `function(**settings)`, its signature checked first.

  Args:
    what: the function as errors name it, e.g. "model 'cnn'".
    function: with explicit keyword arguments.
    **settings: its arguments.

  Raises:
    InputError: unknown or missing setting, or what the function refuses.
  """
  parameters = inspect.signature(function).parameters
  kinds = {parameter.kind for parameter in parameters.values()}
  takes_any = inspect.Parameter.VAR_KEYWORD in kinds
  for setting in settings:
    if setting not in parameters and not takes_any:
      raise errors.InputError(
        f"{what} has no setting {setting!r}; {near_names(setting, parameters)}"
      )
  for setting, parameter in parameters.items():
    needed = parameter.default is inspect.Parameter.empty
    needed &= parameter.kind is not inspect.Parameter.VAR_KEYWORD
    if needed and setting not in settings:
      raise errors.InputError(f"{what} needs a value for {setting!r}, got none")
  return function(**settings)


def near_names(name: str, known: Iterable[str]) -> str:
  """The end of an error about an unknown name: the near ones, or all."""
  known = sorted(known)
  near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
  # A key misplaced in another section is near by its last part.
  tail = name.rpartition(".")[2]
  near = near or [k for k in known if k.rpartition(".")[2] == tail][:3]
  if near:
    return f"did you mean {' or '.join(near)}?"
  return f"known: {', '.join(known)}"
