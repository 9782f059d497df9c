"""Reads a pickle of plain data in a process of its own and prints it as JSON.

python -I -S unpickle_child.py MEMORY_BYTES CPU_S OUTPUT_BYTES < FILE

Unpickling runs code that a file names, so the unpickler knows nothing but plain
containers, strings and numbers. A few bytes may still ask for all memory or for
years of hashing: the kernel ends this process at its limits, and nothing larger
than OUTPUT_BYTES is printed. Only the standard library is imported.

JSON has no tuples, sets and bytes, and text keys only. A dictionary with text
keys is an object; any other container is a list that begins with its kind:
["tuple", 1, 2], ["dict", key, value, ..], ["bytes", text of Latin-1].

Exit codes: 0 and the JSON, or 1 and the reason.
"""

import collections
import json
import pickle
import resource
import sys
from typing import Any

# Sets have no opcode before protocol 4; ordered and default dictionaries never
# have one (ImageNetV2's all_candidates is an ordered one). All of these are
# built-in types, which a pickle cannot change.
_CONTAINERS = {
  "set": set,
  "frozenset": frozenset,
  "list": list,
  "dict": dict,
  "int": int,
  "float": float,
  "str": str,
}
_PLAIN = {
  **{("builtins", name): kind for name, kind in _CONTAINERS.items()},
  **{("__builtin__", name): kind for name, kind in _CONTAINERS.items()},
  ("collections", "OrderedDict"): dict,
  ("collections", "defaultdict"): collections.defaultdict,
}
_SEQUENCES = (list, tuple, set, frozenset)
_SCALARS = (str, int, float, bool, type(None))
_SHOWN = 200  # characters of a reason


class _Unpickler(pickle.Unpickler):
  """Builds plain data; `find_class` is the only way to anything else."""

  def find_class(self, module_name: str, global_name: str) -> Any:
    found = _PLAIN.get((module_name, global_name))
    if found is None:
      raise pickle.UnpicklingError(
        f"{module_name}.{global_name}, which is no plain data (it was not run)"
      )
    return found

  def persistent_load(self, pid: Any) -> Any:
    raise pickle.UnpicklingError("persistent ids")


def encode(value: Any) -> Any:
  """Returns plain data as what JSON has, see the module."""
  kind = type(value)
  if kind in _SCALARS:
    return value
  if kind in (dict, collections.defaultdict):
    if all(type(key) is str for key in value):
      return {key: encode(each) for key, each in value.items()}
    pairs = [encode(each) for pair in value.items() for each in pair]
    return ["dict", *pairs]
  if kind in _SEQUENCES:
    return [kind.__name__, *map(encode, value)]
  if kind is bytes:
    return ["bytes", value.decode("latin-1")]
  raise pickle.UnpicklingError(f"{kind.__name__}, which is no plain data")


def _set_limits(memory: int, cpu_s: int) -> None:
  for kind, soft, hard in (
    (resource.RLIMIT_AS, memory, memory),
    # SIGXCPU, which tells the reason, comes before SIGKILL.
    (resource.RLIMIT_CPU, cpu_s, cpu_s + 1),
    (resource.RLIMIT_CORE, 0, 0),
  ):
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
      soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


def main(argv: list[str]) -> int:
  """Prints the content of the pickle in standard input, or why it has none."""
  memory, cpu_s, most = map(int, argv[1:])
  _set_limits(memory, cpu_s)
  try:
    text = json.dumps(encode(_Unpickler(sys.stdin.buffer).load()))
  except MemoryError:
    return _refuse(f"one that takes more than {memory >> 20} MiB of memory")
  except RecursionError:
    return _refuse("containers nested too deeply")
  # Bytes that are no pickle raise many kinds of errors.
  except Exception as error:
    return _refuse(" ".join(str(error).split()) or type(error).__name__)
  if len(text) > most:
    return _refuse(f"{len(text)} bytes of plain data from so small a file")
  sys.stdout.write(text)
  return 0


def _refuse(reason: str) -> int:
  text = reason[:_SHOWN].encode("ascii", "replace").decode()
  sys.stdout.write("".join(c if c.isprintable() else " " for c in text))
  return 1


if __name__ == "__main__":
  sys.exit(main(sys.argv))
