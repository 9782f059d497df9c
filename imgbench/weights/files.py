"""Reads files of weights: .safetensors, .npz and PyTorch's."""

import json

import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench import npz
from imgbench import paths

# In folders of the hub; the first that exists is read.
IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")
# Where training programs keep the weights.
_NESTED = ("state_dict", "model")
_DTYPES = {"BOOL": np.dtype(bool), "BF16": np.dtype(jnp.bfloat16)}
_DTYPES |= {f"F{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)}
_DTYPES |= {f"I{8 * n}": np.dtype(f"<i{n}") for n in (1, 2, 4, 8)}
_DTYPES |= {f"U{8 * n}": np.dtype(f"<u{n}") for n in (1, 2, 4, 8)}


def read_file(path: paths.Folder) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by name, float32, integers or bool.

  Half precision is refused: converting it is exact, but the file is rounded, so
  published accuracies need not hold, and an export would have other bytes.

  Args:
    path: .safetensors, .npz, or a PyTorch file (.pth, .pt, .bin), which needs
      torch and runs no code; or a folder with one of IN_FOLDERS.

  Raises:
    InputError: no such file, another format, a damaged file, a pickle with
      code, or other floats.
  """
  if path.is_dir():
    found = [path / n for n in IN_FOLDERS if (path / n).exists()]
    expected = f"a folder with {' or '.join(IN_FOLDERS)}"
    errors.check(bool(found), path, expected, "neither")
    path = found[0]
  suffix, expected = path.suffix.lower(), f"a suffix of {', '.join(_READERS)}"
  errors.check(suffix in _READERS, path, expected, repr(suffix))
  arrays = _READERS[suffix](path)
  for name, array in arrays.items():
    if array.dtype != np.float32 and array.dtype.kind not in "iub":
      fix = "convert its floats to float32 and save them as .safetensors"
      given = f"{array.dtype} in {name}"
      raise errors.InputError(path, "float32 weights", given, fix)
  return arrays


def is_weights(path: paths.Folder) -> bool:
  """Returns whether a path is of weights: by suffix, or a folder with some."""
  held = any((path / name).exists() for name in IN_FOLDERS)
  return path.suffix.lower() in _READERS or held


def read_safetensors(path: paths.Folder) -> dict[str, np.ndarray]:
  """Returns all arrays. Raises InputError: a damaged file."""
  arrays, end = {}, 0
  try:
    data = memoryview(path.read_bytes())  # Its parts are no copies.
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8:start]))
    header.pop("__metadata__", None)
    for name, it in sorted(header.items(), key=lambda i: i[1]["data_offsets"]):
      first, last = it["data_offsets"]
      if first != end:
        raise ValueError(f"{name} starts at byte {first}, not at {end}")
      part, end = data[start + first : start + last], last
      array = np.frombuffer(part, _DTYPES[it["dtype"]])
      arrays[name] = array.reshape(it["shape"])
    if start + end != len(data):
      raise ValueError(f"{len(data)} bytes, not {start + end}")
  except Exception as error:  # Damaged files raise many kinds of errors.
    given = f"{type(error).__name__}: {errors.find_reason(error)}"[:200]
    expected = "a whole .safetensors file of arrays that NumPy knows"
    raise errors.InputError(path, expected, given) from error
  return arrays


def _read_torch(path: paths.Folder) -> dict[str, np.ndarray]:
  try:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in _NESTED:
      state = state[key] if isinstance(state.get(key), dict) else state
    half = lambda t: t.view(torch.int16).numpy().view(jnp.bfloat16)
    return {
      name: half(t) if t.dtype == torch.bfloat16 else t.detach().numpy()
      for name, t in state.items()
    }
  except ImportError as error:
    fix = "install torch, or convert the file to .safetensors"
    expected = "the package torch, which reads it"
    raise errors.InputError(path, expected, "none", fix) from error
  except Exception as error:  # It raises many kinds.
    given = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
    expected = "a whole PyTorch file of arrays alone, without code"
    raise errors.InputError(path, expected, given) from error


_READERS = {
  ".safetensors": read_safetensors,
  ".npz": npz.read_all,
  **dict.fromkeys((".pth", ".pt", ".bin"), _read_torch),
}
