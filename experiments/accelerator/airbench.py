"""Runs airbench94_muon.py on request.

python -m experiments.accelerator.airbench, with requests of `exchange.converse`

The script is K. Jordan's (KellerJordan/cifar10-airbench), read from the user's
copy. On a GPU its training runs unchanged and compiled as published, but on the
given pixels, which replace its download. On a CPU it runs in float32, and in
smaller sizes if requested. Seconds are from the script's clock: whitening,
training and the final evaluation.

It imports the same files of this project as `torch_peer`, and torch,
torchvision and NumPy.
"""

from collections.abc import Mapping
import importlib
import os
import pathlib
import sys
import tempfile
import time
import types
from typing import Any
from typing import NamedTuple

from imgbench.bench import exchange
from imgbench.bench import torch_peer

NAME = "airbench94_muon"
# Code of the script that this module relies on.
FUNCTIONS = ("CifarNet", "main", "print_training_details")
_ASSUMED = ('CifarLoader("cifar10"', '.compile(mode="max-autotune")')
_BATCH_SIZE = 2000


class Patch(NamedTuple):
  """A text that occurs `count` times in the script, and its replacement."""

  old: str
  new: str
  count: int = 1


_CPU = (
  Patch('torch.device("cuda")', 'torch.device("cpu")'),
  Patch("torch.cuda.Event(", "HostEvent(", 2),
  Patch("torch.cuda.synchronize()", "pass"),
  Patch("self.images.half()", "self.images.float()"),
  Patch("mod.half()", "mod.float()"),
)
_EAGER = (Patch("@torch.compile\n", "\n"),)


class HostEvent:
  """Replaces torch.cuda.Event on a CPU, where nothing is asynchronous."""

  def __init__(self, enable_timing: bool = False):
    del enable_timing
    self._at_s = 0.0

  def record(self) -> None:
    self._at_s = time.perf_counter()

  def elapsed_time(self, end: "HostEvent") -> float:
    """Returns milliseconds from this event to another."""
    return 1e3 * (end._at_s - self._at_s)


def list_patches(
  platform: str, compiled: bool, sizes: Mapping[str, Any]
) -> list[Patch]:
  """Returns the patches of the script; none if compiled on a GPU.

  Args:
    platform: "cpu" or "gpu".
    compiled: whether torch.compile is used.
    sizes: "widths" of the three blocks, "epochs" and "batch_size"; missing ones
      stay as published.
  """
  found = [*(_CPU if platform == "cpu" else ()), *(() if compiled else _EAGER)]
  if "widths" in sizes:
    text = "dict(block1={}, block2={}, block3={})".format
    found.append(Patch(text(64, 256, 256), text(*sizes["widths"])))
  if "epochs" in sizes:
    new = f"ceil({sizes['epochs']} * len(train_loader))"
    found.append(Patch("ceil(8 * len(train_loader))", new))
  if "batch_size" in sizes:
    text = "batch_size = {}\n".format
    found.append(Patch(text(_BATCH_SIZE), text(sizes["batch_size"])))
  return found


def apply_patches(text: str, changes: list[Patch]) -> str:
  """Returns the patched text of the script.

  Raises:
    Refused: a pattern occurs less or more often: another version.
  """
  assumed = [Patch(old, old, text.count(old) or 1) for old in _ASSUMED]
  for old, new, count in [*assumed, *changes]:
    if (seen := text.count(old)) != count:
      raise exchange.Refused(
        f"the airbench script: expected {old.strip()!r} {count} times, got"
        f" {seen} times; use another version of {NAME}.py"
      )
    text = text.replace(old, new)
  return text


def load(path: str, changes: list[Patch]) -> types.ModuleType:
  """Returns the patched script as a module, without running its main block.

  Raises:
    Refused: it cannot be read or patched, or a function is missing.
  """
  try:
    text = pathlib.Path(path).read_text(encoding="utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise exchange.Refused(f"the airbench script: {error}") from error
  module = types.ModuleType(NAME)
  module.HostEvent = HostEvent
  # torch.compile looks functions up by their module.
  sys.modules[NAME] = module
  arguments, sys.argv = sys.argv, [path]  # The script reads its own text.
  try:
    exec(compile(apply_patches(text, changes), path, "exec"), vars(module))
  finally:
    sys.argv = arguments
  missing = [name for name in FUNCTIONS if not hasattr(module, name)]
  if missing:
    text = f"the airbench script: expected a function {missing[0]}, got none"
    raise exchange.Refused(text)
  return module


class Airbench:
  """Request handlers; `begin` comes first."""

  def begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
    """Loads script and data, and trains once on random labels.

    Args:
      request: "script", a path; "data", an .npz file with uint8 images
        [N, 32, 32, 3] and int labels [N] under train_images, train_labels,
        test_images and test_labels; "platform", "cpu" or "gpu"; "compile";
        "sizes", see `list_patches`.

    Returns:
      "environment", "key" with fields of `rows.Key`, and "warm_up_s".

    Raises:
      Refused: no PyTorch, no such device, or another script.
    """
    started = time.perf_counter()
    self._torch = torch = _import_torch()
    cuda = request["platform"] == "gpu"
    if cuda and not torch.cuda.is_available():
      raise exchange.Refused(
        f"PyTorch {torch.__version__} does not run on the gpu that imgbench"
        " runs on"
      )
    sizes = request["sizes"]
    self._compiled = compiled = request["compile"]
    changes = list_patches(request["platform"], compiled, sizes)
    self._script = load(request["script"], changes)
    self._script.print_training_details = self._note
    self._seconds = 0.0
    self._place_data(request["data"])
    model = self._script.CifarNet().to("cuda" if cuda else "cpu")
    self._model = model.to(memory_format=torch.channels_last)
    if compiled:
      self._model.compile(mode="max-autotune")
    self._script.main("warmup", self._model)
    return {
      "environment": {
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "",
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
      },
      "key": {
        "framework": "torch-compile" if compiled else "torch-eager",
        "name": NAME,
        "batch": sizes.get("batch_size", _BATCH_SIZE),
        "image_size": 32,
        "dtype": "float16" if cuda else "float32",
        "devices": 1,
      },
      "warm_up_s": time.perf_counter() - started,
    }

  def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
    """Trains with the request's "seed".

    Returns:
      "seconds" of the script's clock, "accuracy" in [0, 1], and "compiled", the
      number of graphs that this run compiled.
    """
    before = self._count_graphs()
    self._torch.manual_seed(request["seed"])
    accuracy = self._script.main(request["seed"], self._model)
    return {
      "seconds": self._seconds,
      "accuracy": accuracy,
      "compiled": self._count_graphs() - before,
    }

  def _count_graphs(self) -> int:
    """Returns the number of graphs that torch.compile has compiled."""
    if not self._compiled:
      return 0
    from torch._dynamo import utils

    return utils.counters["stats"]["unique_graphs"]

  def _note(self, variables: Mapping[str, Any], is_final_entry: bool) -> None:
    """Reads the script's clock from the values that it prints."""
    if is_final_entry:
      self._seconds = variables["time_seconds"]

  def _place_data(self, path: str) -> None:
    """Writes the data to the folder of the script's downloads."""
    import numpy as np

    self._folder = tempfile.TemporaryDirectory(prefix="airbench-")
    folder = pathlib.Path(self._folder.name) / "cifar10"
    folder.mkdir()
    with np.load(path) as arrays:
      for split in ("train", "test"):
        data = {
          "images": self._torch.from_numpy(arrays[f"{split}_images"]),
          "labels": self._torch.from_numpy(arrays[f"{split}_labels"]).long(),
          "classes": [],
        }
        self._torch.save(data, folder / f"{split}.pt")
    os.chdir(folder.parent)


def _import_torch():
  """Returns PyTorch and makes torchvision importable. Raises Refused."""
  torch = torch_peer.import_torch()
  try:
    importlib.import_module("torchvision")
  except ImportError as error:
    raise exchange.Refused(f"no torchvision: {error}") from error
  except RuntimeError:  # It is built for another PyTorch.
    for name in [n for n in sys.modules if n.startswith("torchvision")]:
      del sys.modules[name]
    torch_peer.define_operators(torch)
    importlib.import_module("torchvision")
  return torch


if __name__ == "__main__":
  baseline = Airbench()
  exchange.converse({"begin": baseline.begin, "run": baseline.run})
