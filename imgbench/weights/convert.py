"""Converts weights of other libraries to variables of our models, and back.

`choose` finds the names of a file, `convert` needs the shapes of a model that
was built with their `settings`, from jax.eval_shape(model.init, key).
"""

from collections.abc import Iterable
from collections.abc import Mapping
import re
from typing import Any

from flax import traverse_util
import jax
import numpy as np

from imgbench import errors
from imgbench import registry
from imgbench.weights import maps

HEAD, POSITIONS = "head", "posemb"  # of our models
_UNUSED = "num_batches_tracked"  # a counter that evaluation does not use
_LISTED = 3  # names in an error
# Of big_vision's weights, the optimizer's state is beside them.
_PREFIXES = ("params/", "opt/target/")

Arrays = Mapping[str, np.ndarray]


def choose(arrays: Arrays, model: str) -> maps.Map:
  """Returns the map of a file for one of our models. Raises InputError."""
  known = [m for m in maps.MAPS.values() if re.fullmatch(m.models, model)]
  for names in known:
    if names.sign in _normalize(arrays, names):
      return names
  signs = " or ".join(names.sign for names in known)
  expected = f"weights of {model}, with {signs or 'a map'}"
  raise errors.InputError("weights", expected, _list(arrays))


def convert(
  arrays: Arrays,
  names: maps.Map,
  shapes: Any,
  num_heads: int = 1,
  skip: Iterable[str] = (),
) -> dict[str, Any]:
  """Returns variables of our model with the values of a file.

  Args:
    arrays: of the file.
    names: see `choose`.
    shapes: of the model's variables.
    num_heads: of a ViT.
    skip: patterns of parameters to leave out of the result, e.g. "head/.*";
      the file may lack them or have another shape.

  Raises:
    InputError: arrays are missing, left over or of another shape.
  """
  arrays = _normalize(arrays, names)
  leaves = traverse_util.flatten_dict(shapes, sep="/")
  blank = {k: np.broadcast_to(False, v.shape) for k, v in leaves.items()}
  skipped = lambda path: any(re.fullmatch(p, _cut(path)) for p in skip)
  kept = {path: leaf for path, leaf in blank.items() if not skipped(path)}
  known = _to_theirs(blank, names, num_heads)
  check(arrays, known, _to_theirs(kept, names, num_heads))
  taken = {}
  for path, leaf in kept.items():
    name, form, place = names.find(_cut(path))
    array = arrays[name]
    if form == "part":
      array = array[place * leaf.shape[-1] :][: leaf.shape[-1]]
    if names.torch and array.ndim in (2, 4):
      array = np.moveaxis(array, (0, 1), (-1, -2))
    taken[path] = np.ascontiguousarray(array).reshape(leaf.shape)
  return traverse_util.unflatten_dict(taken, sep="/")


def fit_shapes(arrays: Arrays, names: maps.Map, shapes: Any) -> Any:
  """Returns shapes of the model with the head and positions of a file."""
  arrays = _normalize(arrays, names)
  leaves = traverse_util.flatten_dict(shapes, sep="/")
  for path, leaf in leaves.items():
    if path.startswith(f"params/{HEAD}/") or path == f"params/{POSITIONS}":
      array = arrays.get(names.find(_cut(path))[0])
      if array is not None and array.ndim == len(leaf.shape):
        flip = -1 if names.torch and array.ndim == 2 else 1
        shape = array.shape[::flip]
        leaves[path] = jax.ShapeDtypeStruct(shape, leaf.dtype)
  return traverse_util.unflatten_dict(leaves, sep="/")


def invert(
  variables: Any, names: maps.Map, num_heads: int = 1
) -> dict[str, np.ndarray]:
  """Returns arrays of the library. Raises InputError: it lacks a parameter."""
  leaves = traverse_util.flatten_dict(variables, sep="/")
  arrays = _to_theirs(leaves, names, num_heads)
  for name in [n for n in arrays if n.endswith("running_var")]:
    arrays[name.replace("running_var", _UNUSED)] = np.zeros((), np.int64)
  return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def _cut(path: str) -> str:
  return path.partition("/")[2]  # without "params" or "batch_stats"


def _to_theirs(leaves, names, num_heads) -> dict[str, np.ndarray]:
  parts: dict[str, dict[int, np.ndarray]] = {}
  for path, leaf in leaves.items():
    try:
      name, form, place = names.find(_cut(path))
    except KeyError as error:
      expected = "parameters that the other library has"
      raise errors.InputError("model", expected, path) from error
    array = np.asarray(leaf)
    if names.torch and array.ndim in (2, 4):
      array = np.moveaxis(array, (-1, -2), (0, 1))
    if form == "C11" or (form == "1x1" and array.ndim == 2):
      array = array[..., None, None]
    elif form == "last":
      array = array.reshape(*array.shape[:-1], num_heads, -1)
    elif form == "first" and array.ndim == 2:
      array = array.reshape(num_heads, -1, array.shape[-1])
    parts.setdefault(name, {})[place if form == "part" else 0] = array
  join = lambda found: np.concatenate([found[i] for i in sorted(found)])
  return {k: join(v) if len(v) > 1 else v[min(v)] for k, v in parts.items()}


def _normalize(arrays: Arrays, names: maps.Map) -> dict[str, np.ndarray]:
  """Returns arrays under the map's names, with the blocks of a scan apart."""
  begins = lambda prefix: any(name.startswith(prefix) for name in arrays)
  prefix = next(filter(begins, _PREFIXES), "")
  found = {}
  for name, array in arrays.items():
    if name.endswith(_UNUSED) or not name.startswith(prefix):
      continue
    name = name.removeprefix(prefix)
    for pattern, new in names.renames:
      name = re.sub(pattern, new, name)
    before, scan, after = name.partition("/encoderblock/")
    for index, part in enumerate(array) if scan else ():
      found[f"{before}/encoderblock_{index}/{after}"] = part
    found |= {} if scan else {name: array}
  return found


def check(arrays: Arrays, known: Arrays, needed: Arrays) -> None:
  """Raises InputError; names that are near those left over come first.

  `known` may be given, `needed` must be, in their shapes.
  """
  missing, surplus = needed.keys() - arrays, arrays.keys() - known
  near = {name: registry.suggest_near(name, surplus) for name in missing}
  shape = lambda some, name: list(some[name].shape)
  found = {
    "missing": [
      f"{name} ({near[name]})" if near[name] else name
      for name in sorted(missing, key=lambda name: (not near[name], name))
    ],
    "of another shape": [
      f"{name} {shape(arrays, name)} instead of {shape(needed, name)}"
      for name in sorted(needed.keys() & arrays)
      if shape(arrays, name) != shape(needed, name)
    ],
    "left over": sorted(surplus),
  }
  given = "; ".join(f"{len(v)} {k}: {_list(v)}" for k, v in found.items() if v)
  fix = "skip parameters, or choose the model of the file"
  if given:
    expected = f"the {len(needed)} arrays of the model"
    raise errors.InputError("weights", expected, given, fix)


def _list(names: Iterable[str]) -> str:
  names = list(names)
  return ", ".join(names[:_LISTED]) + ", ..." * (len(names) > _LISTED)
