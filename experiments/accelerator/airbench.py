"""Runs of a copy of airbench94_muon.py, by request.

python -m experiments.accelerator.airbench, and then `exchange.converse`

The script is K. Jordan's (KellerJordan/cifar10-airbench), which is read where
the user has it. On a GPU its training runs unchanged, compiled as it compiles
itself, but on the pixels that it is given: it finds them where it keeps its own
download. On a CPU it runs in float32, and smaller sizes can be asked for.
Seconds are those of the script's own clock: whitening, training and the final
evaluation.

Of this project it needs what `torch_peer` needs, and of its environment torch,
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
# What the rest of this module, or a patch, takes for granted.
FUNCTIONS = ("CifarNet", "main", "print_training_details")
_ASSUMED = ('CifarLoader("cifar10"', '.compile(mode="max-autotune")')
_BATCH_SIZE = 2000


class Patch(NamedTuple):
  """A text that the script has exactly `count` times, and its replacement."""

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
  """Stands for torch.cuda.Event on a CPU, where nothing is asynchronous."""

  def __init__(self, enable_timing: bool = False):
    del enable_timing
    self._at_s = 0.0

  def record(self) -> None:
    self._at_s = time.perf_counter()

  def elapsed_time(self, end: "HostEvent") -> float:
    """Returns milliseconds until another event."""
    return 1e3 * (end._at_s - self._at_s)


def list_patches(
  platform: str, compiled: bool, sizes: Mapping[str, Any]
) -> list[Patch]:
  """Returns what has to change in the script; nothing on a GPU, compiled.

  Args:
    platform: "cpu" or "gpu".
    compiled: whether torch.compile is used.
    sizes: "widths" of the three blocks, "epochs" and "batch_size"; those that
      are absent stay as published.
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
  """Returns the script's text with all changes made.

  Raises:
    Refused: a pattern is not there as often as expected: another version.
  """
  assumed = [Patch(old, old, text.count(old) or 1) for old in _ASSUMED]
  for old, new, count in [*assumed, *changes]:
    if (seen := text.count(old)) != count:
      raise exchange.Refused(
        f"the airbench script: expected {old.strip()!r} {count} times, found it"
        f" {seen} times; is it another version of {NAME}.py?"
      )
    text = text.replace(old, new)
  return text


def load(path: str, changes: list[Patch]) -> types.ModuleType:
  """Returns the patched script as a module whose main block has not run.

  Raises:
    Refused: it cannot be read or patched, or lacks a function.
  """
  try:
    text = pathlib.Path(path).read_text()
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
    raise exchange.Refused(f"the airbench script: has no {missing[0]}")
  return module


class Airbench:
  """The handlers of the process; `begin` comes first."""

  def begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the script and its data, and trains once on random labels.

    Args:
      request: "script", a path; "data", an .npz file with uint8 images
        [N, 32, 32, 3] and int labels [N] under train_images, train_labels,
        test_images and test_labels; "platform", "cpu" or "gpu"; "compile";
        "sizes", see `list_patches`.

    Returns:
      "environment", "key" with fields of `rows.PointKey`, and "warm_up_s".

    Raises:
      Refused: no PyTorch, no such device, another script.
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
      number of graphs that this run had to compile.
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
    """Graphs that torch.compile has made so far."""
    if not self._compiled:
      return 0
    from torch._dynamo import utils

    return utils.counters["stats"]["unique_graphs"]

  def _note(self, variables: Mapping[str, Any], is_final_entry: bool) -> None:
    """Takes the script's clock from what it would print."""
    if is_final_entry:
      self._seconds = variables["time_seconds"]

  def _place_data(self, path: str) -> None:
    """Puts the data where the script looks before it downloads any."""
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
  """PyTorch, with a torchvision that can be imported. Raises Refused."""
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
