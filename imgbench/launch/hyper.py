"""Points of a sweep: lists of dicts {dotted config key: value}.

A config file defines `get_hyper(hyper)`, or `get_hyper_NAME(hyper)` for
--sweep=NAME, which returns such a list built with a `Hyper`:

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
_DIGITS = 4  # of a sampled number; names of runs contain them


class Hyper:
  """Builds and combines lists of points."""

  def sweep(self, key: str, values: Iterable[Any]) -> list[Point]:
    """Returns a point for each value.

    Args:
      key: dotted, without "config.", e.g. "optim.weight_decay".
      values: of the config's type; NumPy scalars become Python numbers.

    Raises:
      InputError: the key is not a string, or the values are one.
    """
    if not isinstance(key, str) or not key:
      raise errors.InputError("key", "a config key", repr(key))
    if isinstance(values, (str, Mapping)):
      raise errors.InputError(key, "a list of values", repr(values))
    return [{key: _to_plain(value)} for value in values]

  def fixed(self, key: str, value: Any) -> list[Point]:
    """Returns a list of one point, for `product`."""
    return self.sweep(key, [value])

  def zipit(self, lists: Iterable[Sequence[Point]]) -> list[Point]:
    """Returns points that merge the first, second, ... points of all lists.

    Raises:
      InputError: the lengths differ, or a key has two values.
    """
    lists = [list(points) for points in lists]
    lengths = [len(points) for points in lists]
    if len(set(lengths)) > 1:
      raise errors.InputError("zipit", "lists of equal length", lengths)
    return [_merge(points) for points in zip(*lists, strict=True)]

  def product(self, lists: Iterable[Sequence[Point]]) -> list[Point]:
    """Returns every combination; the last list varies fastest.

    Raises:
      InputError: a key has two values.
    """
    return [_merge(points) for points in itertools.product(*lists)]

  def chainit(self, lists: Iterable[Iterable[Point]]) -> list[Point]:
    """Returns the points of all lists, one list after another."""
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
    """Returns points with random values.

    Equal arguments give equal points on all machines, and a larger `num` only
    adds points. Keys are sampled independently, so `zipit` of several samples
    is a random search. Numbers are rounded to 4 digits.

    Args:
      key: as of `sweep`.
      num: number of points.
      uniform: (low, high).
      log_uniform: (low, high), both positive; the logarithm is uniform.
      choice: values to choose from uniformly.
      seed: of the random numbers.

    Raises:
      InputError: not one of the three, or bad bounds.
    """
    draw = _build_draw(key, uniform, log_uniform, choice)
    return self.sweep(
      key, [draw(_draw_fraction(seed, key, i)) for i in range(num)]
    )


def _to_plain(value: Any) -> Any:
  """Returns lists as tuples, as in configs, NumPy scalars as Python numbers."""
  if isinstance(value, (list, tuple)):
    return tuple(map(_to_plain, value))
  if isinstance(value, Mapping):
    return {name: _to_plain(v) for name, v in value.items()}
  if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
    return value.item()
  return value


def _merge(points: Iterable[Point]) -> Point:
  merged = {}
  for point in points:
    for key, value in point.items():
      if key in merged:
        given = f"{merged[key]!r} and {value!r}"
        raise errors.InputError(key, "one value in each point", given)
      merged[key] = value
  return merged


def _draw_fraction(seed: int, key: str, index: int) -> float:
  """Returns a random number in [0, 1) that depends on no library version."""
  digest = hashlib.sha256(f"{seed}/{key}/{index}".encode()).digest()
  return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _build_draw(key, uniform, log_uniform, choice):
  """Returns a function from [0, 1) to values."""
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
  if uniform is None and bounds[0] <= 0:
    raise errors.InputError(f"{key}: log_uniform", "positive bounds", bounds)
  low, high = bounds if uniform is not None else map(math.log, bounds)

  def draw(fraction: float) -> float:
    value = low + (high - low) * fraction
    value = value if uniform is not None else math.exp(value)
    rounded = float(f"{value:.{_DIGITS}g}")
    return float(min(max(rounded, bounds[0]), bounds[1]))

  return draw
