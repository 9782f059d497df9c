"""Lowers the steps of every model in the tree that PYTHONPATH names.

python -P probe.py OUT MODE

Writes OUT/MODEL/STRATEGY.STEP.mlir.gz, the StableHLO of a step before any
compilation, and OUT/MODEL/state.txt, the paths, shapes, types and shardings of
the state. MODE is "whole"; "fast", where models are as shallow as their
settings allow, and the ResNets that differ only in depth are lowered under jit
alone; or "values": OUT/MODEL.json, the SHA-256 of each initial variable, which
has to be compiled and computed.

All that the probe takes from the project stands in IMPORTS and in `_build`;
where a module is renamed, the new name goes in front of the old one.
"""

import gzip
import hashlib
import importlib
import json
import pathlib
import sys

import jax
import numpy as np

IMPORTS = {
  "common": ("configs.common",),
  "programs": ("imgbench.bench.hlo.programs", "imgbench.bench.programs"),
}
_SGD = dict(name="sgd", momentum=0.9, nesterov=True, weight_decay=5e-5)
_ADAMW = {
  **{"model.dtype": "bfloat16", "ema.decay": 0.999},
  **{"augment.mixup": 0.2, "augment.cutmix": 1.0},
  "optim": dict(name="adamw", weight_decay=0.05, clip_norm=1.0),
}
_DROPS = {**_ADAMW, "model.drop_path": 0.1}
_CIFAR = {"data.name": "cifar10", "input": {}, "evaluation.input": {}}
# Model -> overrides of the config; together they reach most of the steps' code.
MODELS = {
  "cnn": {**_CIFAR, "augment.pad": 2, "augment.cutout": 8},
  "whitened": {**_CIFAR, "augment.flip": "alternating", "augment.pad": 4},
  "resnet18": {"loss.label_smoothing": 0.1},
  "resnet34": {"loss.name": "sigmoid"},
  "resnet50": {"model.dtype": "bfloat16"},
  "resnet101": {},
  "resnet152": {},
  "wide_resnet28_10": {"model.dropout": 0.3},
  "convnext_t": _DROPS,
  "efficientnet_b0": {"model.dropout": 0.2, "ema.decay": 0.99},
  "mlp_mixer_s16": _ADAMW,
  "mlp_mixer_b16": _DROPS,
  "vit_ti16": {**_DROPS, "model.dropout": 0.1},
  "vit_s16": {**_ADAMW, "evaluation.flip_average": True},
  "vit_b16": _ADAMW,
  "vit_l16": _ADAMW,
}
# The same for the fast form, in which depth is what costs time.
SHALLOW = {
  "wide_resnet28_10": {"model.depth": 10},
  "convnext_t": {"model.stage_sizes": (1, 1, 1, 1)},
  "efficientnet_b0": {
    "model.stages": ((1, 3, 1, 32, 1), (6, 3, 2, 16, 1), (6, 5, 2, 24, 2))
  },
  **{n: {"model.depth": 2} for n in MODELS if n.startswith(("mlp", "vit"))},
}
ONLY_DEEPER = ("resnet34", "resnet101", "resnet152")
STRATEGIES = {
  "jit": dict(devices=4),
  "pmap": dict(devices=4, strategy="pmap"),
  "fsdp": dict(devices=4, fsdp=2),
  "microbatches": dict(devices=1, microbatches=2),
}
# Statistics of BatchNorm by device, for one small model.
PER_DEVICE = {
  f"{name}_per_device": dict(STRATEGIES[name], batch_norm="per_device")
  for name in ("jit", "pmap")
}


def load(name: str):
  """Returns the first module of an entry of IMPORTS that is there."""
  for module in IMPORTS[name]:
    try:
      return importlib.import_module(module)
    except ModuleNotFoundError as error:
      missing = error
  raise missing


def _build(model: str, parallel: dict, mode: str):
  """Returns the steps of a model: imgbench.bench.programs.Steps."""
  config = load("common").base_config()
  # Lowering costs the same at all image sizes.
  load("common").use_imagenet(config, size=32)
  config.global_batch_size = config.evaluation.batch_size = 8
  config.model = dict(name=model, dtype="float32")
  config.optim = _SGD
  config.schedule = dict(name="warmup_cosine", peak=0.1, warmup="10 steps")
  if model == "whitened":
    load("common").use_whitened_muon(config)
  shallow = SHALLOW.get(model, {}) if mode == "fast" else {}
  for key, value in (MODELS[model] | shallow).items():
    section, _, name = key.rpartition(".")
    (config[section] if section else config)[name] = value
  config.parallel.update(parallel)
  return load("programs").build(config)


def lower(model: str, out: pathlib.Path, mode: str) -> None:
  """Writes the programs of a model and the shapes of its state."""
  strategies = STRATEGIES | (PER_DEVICE if model == "cnn" else {})
  if mode == "fast" and model in ONLY_DEEPER:
    strategies = {"jit": STRATEGIES["jit"]}
  state = []
  for name, parallel in strategies.items():
    steps = _build(model, parallel, mode)
    lowered = {"train": steps.lower_training, "eval": steps.lower_evaluation}
    if name == "jit":
      lowered["infer"] = steps.lower_inference
      compute = steps.compute
      lowered["init"] = lambda c=compute: jax.jit(c.model.init).lower(
        c.init_key
      )
    for step, lower_step in lowered.items():
      text = lower_step().as_text().encode()
      path = out / f"{name}.{step}.mlir.gz"
      path.write_bytes(gzip.compress(text, 1, mtime=0))
    shapes = jax.tree_util.tree_leaves_with_path(steps.compute.state_shapes())
    state += [
      f"{name} {jax.tree_util.keystr(path)} {x.shape} {x.dtype}"
      f" {x.sharding.spec}\n"
      for path, x in shapes
    ]
  (out / "state.txt").write_text("".join(state))


def initial_values(model: str) -> dict[str, str]:
  """Returns the digests of a model's variables at step 0, by path."""
  compute = _build(model, STRATEGIES["microbatches"], "values").compute
  variables = jax.jit(compute.model.init)(compute.init_key)
  return {
    jax.tree_util.keystr(path): hashlib.sha256(np.asarray(x)).hexdigest()
    for path, x in jax.tree_util.tree_leaves_with_path(variables)
  }


def main(out: str, mode: str, *models: str) -> None:
  """Does it for all models, or those named."""
  for model in models or MODELS:
    folder = pathlib.Path(out, model)
    if mode == "values":
      text = json.dumps(initial_values(model), indent=2)
      folder.with_suffix(".json").write_text(text)
    else:
      folder.mkdir(parents=True)
      lower(model, folder, mode)


if __name__ == "__main__":
  main(*sys.argv[1:])
