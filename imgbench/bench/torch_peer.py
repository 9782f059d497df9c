"""Steps of PyTorch models of timm and torchvision, for rows of baselines.

python -m imgbench.bench.torch_peer RESULT.json < REQUEST.json

It answers like `worker` and measures with the same code, but does not need JAX:
torch, torchvision and timm are enough. The CPU build of PyTorch works with the
other two if they are installed without dependencies.

The same as in our steps: batch and image size, images normalised on the device,
loss and optimizer, float32 weights and bfloat16 by autocast for training,
weights cast once for inference, and the row's precision of matrix products and
convolutions. Different: convolutional networks run channels_last, cuDNN tunes
its algorithms, and `torch-compile` compiles the model and its loss.
"""

import contextlib
import importlib.metadata
import os
import pathlib
import sys
import time
from typing import Any

from imgbench.bench import exchange
from imgbench.bench import measure
from imgbench.bench import memory

EAGER, COMPILE = "torch-eager", "torch-compile"
# Our name -> library, its name, settings. ViTs have no class token and average
# over patches, as ours. Neither library has a Wide ResNet 28-10.
_PLAIN_VIT = dict(class_token=False, global_pool="avg", fc_norm=False)
MODELS = {
  **{f"resnet{n}": ("torchvision", f"resnet{n}", {}) for n in (18, 34, 50)},
  **{f"resnet{n}": ("torchvision", f"resnet{n}", {}) for n in (101, 152)},
  "vit_ti16": ("timm", "vit_tiny_patch16_224", _PLAIN_VIT),
  "vit_s16": ("timm", "vit_small_patch16_224", _PLAIN_VIT),
  "vit_b16": ("timm", "vit_base_patch16_224", _PLAIN_VIT),
  "vit_l16": ("timm", "vit_large_patch16_224", _PLAIN_VIT),
  "convnext_t": ("timm", "convnext_tiny", {}),
  "efficientnet_b0": ("timm", "efficientnet_b0", {}),
  "mlp_mixer_b16": ("timm", "mixer_b16_224", {}),
}
# Models whose layers depend on the image size.
_SIZED = ("vit_", "mlp_mixer")
# Meaning of "default" in JAX: TF32 on GPUs that have it, else float32.
_DEFAULT = {"cuda": "tensorfloat32", "cpu": "float32"}
_PRECISIONS = {
  "float32": "highest",
  "highest": "highest",
  "tensorfloat32": "high",
  "high": "high",
  "bfloat16": "medium",
}


def describe(request: dict[str, Any]) -> dict[str, Any]:
  """Returns {"environment": versions and device}. Raises Refused."""
  del request
  torch = import_torch()
  versions = {}
  for name in ("torch", "torchvision", "timm"):
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = "absent"
  cuda = torch.cuda.is_available()
  return {
    "environment": {
      "versions": versions,
      "device": torch.cuda.get_device_name() if cuda else "cpu",
      "cuda": torch.version.cuda or "",
      "threads": torch.get_num_threads(),
    }
  }


def measure_step(request: dict[str, Any]) -> dict[str, Any]:
  """Measures a point; arguments and result as in `worker.measure_step`.

  The request's "platform" is the one that ours ran on: "cpu" or "gpu".
  """
  key, recipe = request["key"], request["recipe"]
  torch = import_torch()
  device = _choose_device(torch, request["platform"])
  _set_precision(torch, key, device)
  torch.manual_seed(recipe["seed"])
  if request["compile_cache"]:
    folder = pathlib.Path(request["compile_cache"]) / "inductor"
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
  model, channels_last = _build_model(torch, key, recipe)
  model = model.to(device)
  step = _Step(torch, model, channels_last, key, recipe, device)
  compile_s, cached = None, None
  if key["framework"] == COMPILE:
    compile_s, cached = _compile(torch, step)
  memory.reset_peak()
  plan = measure.TimingPlan(**request["plan"])
  times = measure.measure(step, step.wait, plan, time.perf_counter)
  cuda = device == "cuda"
  return {
    "process": {
      **times.to_process(),
      "compile_s": compile_s,
      "compile_cached": cached,
      "peak_memory_bytes": (
        torch.cuda.max_memory_allocated() if cuda else memory.read_peak_bytes()
      ),
    },
    "params": sum(p.numel() for p in model.parameters() if p.requires_grad),
    "bytes_accessed": None,
    "message": "channels_last" if channels_last else "",
  }


class _Step:
  """Starts a step on one batch on the device each time it is called."""

  def __init__(self, torch, model, channels_last, key, recipe, device):
    self._torch, self._device = torch, device
    self._train = key["task"] == "train"
    half = key["dtype"] == "bfloat16"
    shape = (key["batch"], 3, key["image_size"], key["image_size"])
    images = torch.randn(shape, device=device)
    if channels_last:
      model = model.to(memory_format=torch.channels_last)
      images = images.to(memory_format=torch.channels_last)
    self._labels = torch.randint(
      recipe["num_classes"], (key["batch"],), device=device
    )
    self._autocast = contextlib.nullcontext
    if half and self._train:
      self._autocast = lambda: torch.autocast(device, torch.bfloat16)
    elif half:
      model, images = model.to(torch.bfloat16), images.to(torch.bfloat16)
    self._images = images
    model.train(self._train)
    smoothing = recipe["loss"]["label_smoothing"]
    loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)

    def forward(images, labels):
      with self._autocast():
        logits = model(images)
        return loss(logits, labels) if self._train else logits.float()

    self.forward = forward
    if self._train:
      self._optimizer = _create_optimizer(torch, model.parameters(), recipe)

  def __call__(self):
    if self._train:
      self._optimizer.zero_grad(set_to_none=True)
      result = self.forward(self._images, self._labels)
      result.backward()
      self._optimizer.step()
    else:
      with self._torch.inference_mode():
        result = self.forward(self._images, self._labels)
    if self._device != "cuda":
      return result
    done = self._torch.cuda.Event()
    done.record()
    return done

  def wait(self, result) -> None:
    """Returns when the step has ended; on a CPU, at once."""
    if self._device == "cuda":
      result.synchronize()


def _compile(torch, step: _Step) -> tuple[float, bool]:
  """Returns seconds of the first call, which compiles, and if it was cached."""
  from torch._dynamo import utils

  step.forward = torch.compile(step.forward)
  started = time.perf_counter()
  step.wait(step())
  seconds = time.perf_counter() - started
  hits = sum(
    count
    for name, count in utils.counters["inductor"].items()
    if name.endswith("cache_hit")
  )
  misses = utils.counters["inductor"]["fxgraph_cache_miss"]
  return seconds, hits > 0 and not misses


def _build_model(torch, key, recipe) -> tuple[Any, bool]:
  """Returns the model and whether it runs channels_last."""
  name, size = key["model"], key["image_size"]
  library, theirs, settings = MODELS[name]
  if recipe["model_settings"].get(name):
    raise exchange.Refused(
      f"{name}: {library} has no counterpart with recipe.model_settings"
    )
  define_operators(torch)
  classes = recipe["num_classes"]
  try:
    if library == "torchvision":
      import torchvision

      return torchvision.models.get_model(theirs, num_classes=classes), True
    import timm
  except ImportError as error:
    raise exchange.Refused(f"{library} cannot be imported: {error}") from error
  sized = {"img_size": size} if name.startswith(_SIZED) else {}
  model = timm.create_model(theirs, num_classes=classes, **sized, **settings)
  return model, not sized


def _create_optimizer(torch, parameters, recipe):
  section = dict(recipe["optim"])
  name, rate = section.pop("name"), recipe["schedule"]["peak"]
  if name == "sgd":
    defaults = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.0}
    kind = torch.optim.SGD
  elif name == "adamw":
    defaults = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
    kind = torch.optim.AdamW
  else:
    raise exchange.Refused(f"optim.name: expected sgd or adamw, got {name}")
  unknown = set(section) - set(defaults)
  if unknown:
    raise exchange.Refused(f"{name}: unknown setting optim.{min(unknown)}")
  settings = defaults | section
  if name == "adamw":
    settings["betas"] = settings.pop("b1"), settings.pop("b2")
  return kind(parameters, lr=rate, **settings)


def _choose_device(torch, platform: str) -> str:
  if platform == "cpu":
    return "cpu"
  if platform == "gpu" and torch.cuda.is_available():
    return "cuda"
  raise exchange.Refused(
    f"PyTorch {torch.__version__} does not run on the {platform} that imgbench"
    " runs on"
  )


def _set_precision(torch, key, device: str) -> None:
  matmul, conv = key["matmul_precision"], key["conv_precision"]
  matmul, conv = (
    _DEFAULT[device] if name == "default" else name for name in (matmul, conv)
  )
  torch.set_float32_matmul_precision(_PRECISIONS[matmul])
  if device == "cuda":
    torch.backends.cudnn.allow_tf32 = _PRECISIONS[conv] != "highest"
    torch.backends.cudnn.benchmark = True


def define_operators(torch) -> None:
  """Defines operators of torchvision, in case it is for another PyTorch."""
  signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
  for name in ("nms", "qnms"):
    if "torchvision" in sys.modules or hasattr(torch.ops.torchvision, name):
      continue
    torch.library.define(f"torchvision::{name}", signature)


def import_torch():
  """Returns the module torch. Raises Refused if it is not installed."""
  try:
    import torch
  except ImportError as error:
    raise exchange.Refused(
      f"PyTorch cannot be imported by {sys.executable}: {error}; see"
      " docs/bench.md"
    ) from error
  return torch


HANDLERS = {"environment": describe, "step": measure_step}


if __name__ == "__main__":
  exchange.serve(HANDLERS, sys.argv)
