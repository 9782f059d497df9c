"""Compares models with timm's and torchvision's that have the same weights.

imgbench weights-parity --out=docs/weights.md

Architectures are real, weights and running statistics random. timm writes
.safetensors, torchvision .pth; imgbench reads them, both compute logits in
float32, and the library reads what imgbench exports. An .npz with big_vision's
names is read by imgbench and by timm. The table has bounds, measured values are
printed; if a bound does not hold, the exit code is 3 and no table is written.
"""

import functools
import importlib
import pathlib
import sys
import tempfile

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from imgbench import commands
from imgbench import errors
from imgbench import models
from imgbench.bench import exchange
from imgbench.bench import torch_peer
from imgbench.experiments import compile_only_v5e
from imgbench.weights import convert
from imgbench.weights import files
from imgbench.weights import maps

REQUIRED = ("out",)
BEGIN = "<!-- weights_parity -->\n"
BOUND = 2e-5  # of max |a - b| / max |b|
SIZES = (224, 160)
HEADS = {"vit_ti16": 3, "vit_s16": 6, "vit_b16": 12}
_SUFFIXES = {"timm": ".safetensors", "torchvision": ".pth"}
# Our model, library, its model, file, section of maps.toml.
CASES = [
  (ours, library, name, _SUFFIXES[library] if names.torch else ".npz", section)
  for section, names in maps.MAPS.items()
  for peer, ours in names.peers.items()
  for library, name in [peer.split("/")]
]


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --out."""
  text = "Document whose table is replaced."
  flags.DEFINE_string("out", None, text, flag_values=flag_values)


def import_torch():
  """Returns PyTorch, for which timm and torchvision are imported too."""
  try:
    torch = torch_peer.import_torch()
    torch_peer.define_operators(torch)
    for name in ("timm", "torchvision", "safetensors.torch"):
      importlib.import_module(name)
    return torch
  except (ImportError, exchange.Refused) as error:
    fix = "use .venv-bench-peers, which `make test-peers` makes"
    expected = "torch, timm and torchvision"
    raise errors.InputError("environment", expected, error, fix) from error


def build_peer(case, size: int):
  """Returns the model of timm or torchvision with 1000 classes."""
  _, library, name, suffix, section = case
  key = "img_size" if library == "timm" else "image_size"
  settings = {key: size} if name.startswith(("vit", "mixer")) else {}
  if suffix == ".npz":
    pool = maps.MAPS[section].settings["pooling"].replace("gap", "avg")
    settings |= {"class_token": False, "global_pool": pool, "fc_norm": False}
    settings["act_layer"] = "gelu_tanh"
  if library == "timm":
    return sys.modules["timm"].create_model(name, **settings).eval()
  return sys.modules["torchvision"].models.get_model(name, **settings).eval()


def fill(arrays, outputs: int) -> dict[str, np.ndarray]:
  """Returns noise for arrays by name; `outputs` is that axis of a kernel."""
  rng, filled = np.random.default_rng(0), {}
  for name, array in arrays.items():
    shape, norm = array.shape, name.endswith(("weight", "scale"))
    kernel = len(shape) > 1 and shape[0] > 1
    scale = (np.prod(shape) / shape[outputs]) ** -0.5 if kernel else 0.2
    noise = rng.normal(float(norm and len(shape) == 1), scale, shape)
    if name.endswith("running_var"):
      noise = rng.uniform(0.5, 2.0, shape)
    filled[name] = noise.astype(np.float32)
    if name.endswith("num_batches_tracked"):
      filled[name] = np.zeros(shape, np.int64)
  return filled


@functools.cache
def build_ours(name: str, size: int, section: str):
  """Returns shapes of the variables, and the compiled model."""
  settings, shape = maps.MAPS[section].settings, (size, size, 3)
  model = models.build_model(
    name, num_classes=1000, image_shape=shape, dtype=jnp.float32, **settings
  )
  apply = jax.jit(lambda variables, x: model.apply(variables, x, False)[0])
  return jax.eval_shape(model.init, jax.random.key(0)), apply


def compare(case, size: int, folder: pathlib.Path) -> tuple[float, bool]:
  """Returns max |a - b| / max |b| of logits, and if arrays came back equal."""
  torch, package = import_torch(), sys.modules["safetensors.torch"]
  ours, _, _, suffix, section = case
  peer = build_peer(case, size)
  shapes, apply = build_ours(ours, size, section)
  heads, path = HEADS.get(ours, 1), folder / f"weights{suffix}"
  if suffix == ".npz":
    blank = jax.tree.map(lambda x: np.zeros(x.shape, bool), shapes)
    given = fill(convert.invert(blank, maps.MAPS[section], heads), -1)
    np.savez(path, **{f"params/{name}": a for name, a in given.items()})
    peer.load_pretrained(str(path))
  else:
    given = fill(peer.state_dict(), 0)
    state = {name: torch.from_numpy(a) for name, a in given.items()}
    peer.load_state_dict(state)
    save = torch.save if suffix == ".pth" else package.save_file
    save(state, path)
  arrays = files.read_file(path)
  names = convert.choose(arrays, ours)
  variables = convert.convert(arrays, names, shapes, heads)
  back = convert.invert(variables, names, heads)
  same = back.keys() == given.keys()
  if suffix != ".npz":
    state = {name: torch.from_numpy(array) for name, array in back.items()}
    peer.load_state_dict(package.load(package.save(state)))
    back = {name: tensor.numpy() for name, tensor in peer.state_dict().items()}
  same &= all(back[name].tobytes() == a.tobytes() for name, a in given.items())
  images = np.random.default_rng(1).normal(size=(2, size, size, 3))
  images = images.astype(np.float32)
  with torch.inference_mode():
    expected = peer(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
  expected, got = expected.numpy(), np.asarray(apply(variables, images))
  return float(np.abs(got - expected).max() / np.abs(expected).max()), same


def main(argv: list[str]) -> int:
  """Compares all and writes the table."""
  del argv
  path = pathlib.Path(flags.FLAGS.out)
  fits = path.is_file() and BEGIN in path.read_text(encoding="utf-8")
  errors.check(fits, "--out", f"a file with the line {BEGIN.strip()}", path)
  lines = ["| model | library | file | image sizes | logits | arrays |"]
  lines, holds = [*lines, f"|{' --- |' * 6}"], True
  sizes = ", ".join(map(str, SIZES))
  for case in CASES:
    ours, library, theirs, suffix, section = case
    for size in SIZES:
      with tempfile.TemporaryDirectory() as folder:
        error, same = compare(case, size, pathlib.Path(folder))
      holds &= error <= BOUND and same
      print(f"{ours} {section} {suffix} {size}: {error:.1e}, equal: {same}")
    row = (ours, f"{library} {theirs}", f"{suffix}, `{section}`", sizes)
    lines.append(f"| {' | '.join(row)} | {BOUND:.0e} | bit-equal |")
  if not holds:
    return errors.EXIT_CHECK
  compile_only_v5e.write_table(path, "\n".join([*lines, ""]), BEGIN)
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("weights-parity")
