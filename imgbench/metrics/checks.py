"""Argument checks; each error names the argument.

`floats`, `integers` and `flags` are the entries for arrays of other tools:
HDF5 and FITS store the other byte order, MATLAB stores labels as float64, and
many store bool as uint8. JAX arrays, traced or not, are only checked.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench.labels import annotations


def shape(name: str, array, expected: Sequence[int | str]) -> None:
  """Raises InputError unless `array` has the expected shape.

  Args:
    name: of the argument, for the message.
    array: NumPy or JAX array, traced or not.
    expected: a size per axis; text such as "B" stands for any size.
  """
  got = np.shape(array)
  fits = len(got) == len(expected) and all(
    isinstance(e, str) or e == g for e, g in zip(expected, got, strict=True)
  )
  if not fits:
    wanted = ", ".join(str(e) for e in expected)
    is_column = len(expected) == 1 and got.count(1) == len(got) - 1 > 0
    fix = "use numpy.ravel" if is_column else ""
    raise errors.InputError(name, f"shape [{wanted}]", list(got), fix)


def kind(name: str, array, expected: type, word: str) -> None:
  """Raises InputError unless the dtype is of a kind, e.g. np.integer."""
  dtype = getattr(array, "dtype", None) or np.asarray(array).dtype
  # NumPy does not count bfloat16 as floating, JAX does.
  if not jnp.issubdtype(dtype, expected):
    raise errors.InputError(name, word, dtype)


def floats(name: str, array, expected: Sequence[int | str]):
  """Returns floating-point numbers that JAX takes. Raises InputError.

  Args:
    name: of the argument, for the message.
    array: NumPy array of any byte order, or JAX array.
    expected: see `shape`.
  """
  array = _native(array)
  shape(name, array, expected)
  kind(name, array, jnp.floating, "a floating-point type")
  # JAX has no longer type.
  return array.astype(np.float64) if array.dtype.itemsize > 8 else array


def integers(name: str, array, expected: Sequence[int | str]):
  """Returns integers that JAX takes; whole floats of NumPy become int64.

  For arguments and errors see `floats`.
  """
  array = _native(array)
  shape(name, array, expected)
  # Beyond this bound float64 skips integers.
  if _is_host(array, "f") and np.all(
    (np.abs(array) <= 2**53) & (array == np.trunc(array))
  ):
    return array.astype(np.int64)
  kind(name, array, jnp.integer, "an integer type")
  return array


def flags(name: str, array, expected: Sequence[int | str]):
  """Returns bool; numbers 0 and 1 of NumPy become it.

  For arguments and errors see `floats`.
  """
  array = _native(array)
  shape(name, array, expected)
  if _is_host(array, "iuf") and np.all((array == 0) | (array == 1)):
    return array.astype(np.bool_)
  kind(name, array, jnp.bool_, "bool")
  return array


def _is_host(array, kinds: str) -> bool:
  """Returns whether it is a NumPy array of one of these kinds of dtype."""
  return isinstance(array, np.ndarray) and array.dtype.kind in kinds


def _native(array):
  """Returns a JAX array as it is, others as NumPy array in native order."""
  if isinstance(array, jax.Array):
    return array
  array = np.asarray(array)
  return array.astype(array.dtype.newbyteorder("="), copy=False)


def fits_int32(name: str, array) -> None:
  """Raises InputError if integers of a NumPy array would overflow int32."""
  limits = np.iinfo(np.int32)
  if not isinstance(array, np.ndarray) or np.can_cast(array.dtype, np.int32):
    return
  bad = (array < limits.min) | (array > limits.max)
  if bad.any():
    raise errors.InputError(name, "values that fit int32", array[bad][0])


def labels_in_range(name: str, labels: np.ndarray, num_classes: int) -> None:
  """Raises InputError unless all labels, on the host, are in [0, K)."""
  bad = (labels < 0) | (labels >= num_classes)
  if bad.any():
    first = int(np.argmax(bad))
    expected = f"a label in [0, {num_classes})"
    raise errors.InputError(f"{name}[{first}]", expected, labels[first])


def review_codes(name: str, codes: np.ndarray) -> None:
  """Raises InputError unless all are codes of `labels.annotations`."""
  low, high = codes.min(initial=0), codes.max(initial=0)
  if low < annotations.UNREVIEWED or high > annotations.CORRECT:
    expected = f"codes in [{annotations.UNREVIEWED}, {annotations.CORRECT}]"
    raise errors.InputError(name, expected, low if low < 0 else high)


def at_least(name: str, values, least, word: str) -> None:
  """Raises InputError if an element is below that of `least`."""
  short = np.flatnonzero(values < least)
  if short.size:
    first = short[0]
    expected = f"at least {word}, {least[first]}"
    raise errors.InputError(f"{name}[{first}]", expected, values[first])
