"""Points of a sweep: plain lists of dicts, dotted config key -> value.

A config file defines `get_hyper(hyper)`, or `get_hyper_NAME(hyper)` for
--sweep=NAME, which gets a `Hyper` and returns such a list:

  def get_hyper(hyper):
    return hyper.product([
      hyper.sweep("schedule.peak", [0.1, 0.2]),
      hyper.sweep("seed", range(3)),
    ])
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import hashlib
import itertools
import math
from typing import Any

from imgbench import errors

Point = dict[str, Any]
_DIGITS = 4  # of a drawn number; names of runs are made of them


class Hyper:
  """What `get_hyper` makes its points with."""

  def sweep(self, key: str, values: Iterable[Any]) -> list[Point]:
    """Returns a point for each value.

    Args:
      key: dotted, without "config.", e.g. "optim.weight_decay".
      values: of the config's type; NumPy's numbers become Python's.

    Raises:
      InputError: the key is not a string, or the values are one.
    """
    if not isinstance(key, str) or not key:
      raise errors.InputError("key", "a config key", repr(key))
    if isinstance(values, (str, Mapping)):
      raise errors.InputError(key, "a list of values", repr(values))
    return [{key: _plain(value)} for value in values]

  def fixed(self, key: str, value: Any) -> list[Point]:
    """Returns one point, to be combined with others by `product`."""
    return self.sweep(key, [value])

  def zipit(self, lists: Iterable[Sequence[Point]]) -> list[Point]:
    """Returns the first points of all lists as one, the second ones, ...

    Raises:
      InputError: lists of several lengths, or two values for one key.
    """
    lists = [list(points) for points in lists]
    lengths = [len(points) for points in lists]
    if len(set(lengths)) > 1:
      raise errors.InputError("zipit", "lists of equal length", lengths)
    return [_merged(points) for points in zip(*lists, strict=True)]

  def product(self, lists: Iterable[Sequence[Point]]) -> list[Point]:
    """Returns every combination; the last list varies fastest.

    Raises:
      InputError: two values for one key.
    """
    return [_merged(points) for points in itertools.product(*lists)]

  def chainit(self, lists: Iterable[Iterable[Point]]) -> list[Point]:
    """Returns the points of all lists, one list after the other."""
    return [dict(point) for points in lists for point in points]

  def sample(
    self,
    key: str,
    num: int,
    *,
    uniform: tuple[float, float] | None = None,
    log_uniform: tuple[float, float] | None = None,
    choice: Sequence[Any] | None = None,
    seed: int = 0,
  ) -> list[Point]:
    """Returns points with values drawn at random.

    Equal arguments give equal points everywhere, and a larger `num` only adds
    some. Keys are drawn independently of each other, so `zipit` of several
    samples is a random search. Numbers are rounded to 4 digits.

    Args:
      key: as of `sweep`.
      num: how many points.
      uniform: (low, high): each number between is as likely.
      log_uniform: (low, high), both positive: each logarithm is as likely.
      choice: values to choose from, each as likely.
      seed: another one gives other points.

    Raises:
      InputError: not one of the three, or bad bounds.
    """
    draw = _drawing(key, uniform, log_uniform, choice)
    return self.sweep(key, [draw(_fraction(seed, key, i)) for i in range(num)])


def _plain(value: Any) -> Any:
  """Lists become tuples, as configs have them, NumPy's numbers Python's."""
  if isinstance(value, (list, tuple)):
    return tuple(map(_plain, value))
  if isinstance(value, Mapping):
    return {name: _plain(v) for name, v in value.items()}
  if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
    return value.item()
  return value


def _merged(points: Iterable[Point]) -> Point:
  merged = {}
  for point in points:
    for key, value in point.items():
      if key in merged:
        given = f"{merged[key]!r} and {value!r}"
        raise errors.InputError(key, "one value in each point", given)
      merged[key] = value
  return merged


def _fraction(seed: int, key: str, index: int) -> float:
  """A random number in [0, 1): the same in all versions of all libraries."""
  digest = hashlib.sha256(f"{seed}/{key}/{index}".encode()).digest()
  return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _drawing(key, uniform, log_uniform, choice):
  """The function from [0, 1) to values that the arguments ask for."""
  given = [v for v in (uniform, log_uniform, choice) if v is not None]
  if len(given) != 1:
    expected = "one of uniform, log_uniform and choice"
    raise errors.InputError(key, expected, len(given))
  if choice is not None:
    values = list(choice)
    if not values:
      raise errors.InputError(f"{key}: choice", "one or more values", "none")
    return lambda fraction: values[int(fraction * len(values))]
  bounds = tuple(uniform or log_uniform or ())
  if len(bounds) != 2 or not bounds[0] < bounds[1]:
    raise errors.InputError(key, "bounds (low, high), low < high", bounds)
  if uniform is not None:
    return lambda fraction: _between(*bounds, fraction)
  if bounds[0] <= 0:
    raise errors.InputError(f"{key}: log_uniform", "positive bounds", bounds)
  low, high = map(math.log, bounds)
  return lambda fraction: _rounded(
    math.exp(low + (high - low) * fraction), *bounds
  )


def _between(low: float, high: float, fraction: float) -> float:
  return _rounded(low + (high - low) * fraction, low, high)


def _rounded(value: float, low: float, high: float) -> float:
  """To few digits, but not over the bounds."""
  return float(min(max(float(f"{value:.{_DIGITS}g}"), low), high))
