"""Exports the model of a run for programs without imgbench.

imgbench export runs/demo --format=stablehlo --out=demo.stablehlo

writes a function of images, uint8 [b, H, W, C] for any b, that returns logits,
float32 [b, K]: StableHLO for CPUs, NVIDIA GPUs and TPUs, with the parameters
and the normalization inside. `jax.export.deserialize(data).call(images)` runs
it. --format=safetensors writes the parameters alone, under names joined by "/".
--format=timm writes the parameters of a ResNet or ViT as timm names them. Each
gets a JSON file beside it, OUT.json: class names, image size, how images are
cropped, resized and normalized, the model's settings, and for timm the
arguments of its create_model.

It computes in float32 unless the run's model.dtype is bfloat16, and attention
without cuDNN.
"""

import importlib
import inspect
from typing import Any

from absl import flags
import jax
import jax.export
import jax.numpy as jnp
import numpy as np

import imgbench
from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import models
from imgbench import predict
from imgbench import predictor
from imgbench import startup
from imgbench import writers
from imgbench.models import vit
from imgbench.weights import convert
from imgbench.weights import maps

PLATFORMS = ("cpu", "cuda", "tpu")
# Format -> package that it needs.
FORMATS = {
  "stablehlo": "flatbuffers",
  **dict.fromkeys(("safetensors", "timm"), "safetensors.numpy"),
}


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --format, --out, --ema."""
  flags.DEFINE_enum(
    "format",
    "stablehlo",
    list(FORMATS),
    "Of the file.",
    flag_values=flag_values,
  )
  flags.DEFINE_string("out", None, "File to write.", flag_values=flag_values)
  predict.define_ema_flag(flag_values)


def import_package(name: str):
  """Returns a package of the extra `export`. Raises InputError."""
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise errors.InputError(
      "--format",
      f"a format whose package {name.partition('.')[0]} is installed",
      error,
      'run pip install "imgbench[export]"',
    ) from error


def to_stablehlo(model: predictor.Predictor) -> bytes:
  """Returns a serialized function of images uint8 [b, H, W, C]."""
  import_package(FORMATS["stablehlo"])
  (size,) = jax.export.symbolic_shape("b")
  images = jax.ShapeDtypeStruct((size, *model.image_shape), jnp.uint8)
  exported = jax.export.export(jax.jit(model.apply), platforms=PLATFORMS)
  return bytes(exported(images).serialize())


def to_safetensors(model: predictor.Predictor) -> bytes:
  """Returns the variables by name, such as "params/norm/scale"."""
  package = import_package(FORMATS["safetensors"])
  return package.save(
    {
      jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
      for path, leaf in jax.tree.leaves_with_path(model.variables)
    }
  )


def describe_timm(model: predictor.Predictor) -> dict[str, Any]:
  """Returns arguments of timm.create_model. Raises InputError: none fit."""
  name, get = model.description["model"]["name"], _settings(model)
  found = {"num_classes": len(model.class_names)}
  found["in_chans"] = model.image_shape[2]
  if (get.get("stem"), get.get("width")) == ("imagenet", 64):
    return {"model_name": name, **found}
  expected = "a ResNet with ImageNet's stem and width, or a ViT without MAP"
  fits = name.startswith("vit_") and get["pooling"] != "map"
  errors.check(fits, "--format=timm", expected, name)
  acts = {"gelu": "gelu_tanh", "gelu_exact": "gelu"}
  token = get["pooling"] == "token"
  return {
    "model_name": "vit_base_patch16_224",
    **found,
    **{k: get[k] for k in ("patch_size", "depth", "num_heads", "mlp_ratio")},
    "embed_dim": get["width"],
    "img_size": model.image_shape[:2],
    "class_token": token,
    "global_pool": "token" if token else "avg",
    "fc_norm": False,
    "act_layer": acts.get(get["activation"], get["activation"]),
  }


def to_timm(model: predictor.Predictor) -> bytes:
  """Returns the variables by timm's names, see `describe_timm`."""
  section = "timm_vit" if "img_size" in describe_timm(model) else "resnet"
  arrays = convert.invert(model.variables, maps.MAPS[section])
  get = _settings(model)
  if get.get("posemb") == "sincos2d":
    sides = (side // get["patch_size"] for side in model.image_shape[:2])
    first = int(get["pooling"] == "token")  # It has no position.
    table = vit.sincos2d(*sides, get["width"])
    arrays["pos_embed"] = np.pad(table, ((first, 0), (0, 0)))[None]
  return import_package(FORMATS["timm"]).save(arrays)


def _settings(model: predictor.Predictor) -> dict[str, Any]:
  """Returns the model's settings with defaults."""
  given = model.description["model"]
  parameters = inspect.signature(models.BUILDERS[given["name"]]).parameters
  return {key: p.default for key, p in parameters.items()} | given


def main(argv: list[str]) -> int:
  """Writes both files."""
  values = flags.FLAGS
  import_package(FORMATS[values.format])  # Before reading the checkpoint.
  cli.show_log()
  startup.log_start()
  model = predictor.load(argv[1], values.ema, portable=True)
  write = dict(stablehlo=to_stablehlo, safetensors=to_safetensors, timm=to_timm)
  writers.write_output("--out", values.out, write[values.format](model))
  described = {
    "format": values.format,
    "imgbench": imgbench.__version__,
    **model.description,
  }
  if values.format == "timm":
    described["timm"] = describe_timm(model)
  text = writers.format_json(described)
  writers.write_output("--out", f"{values.out}.json", text)
  print(values.out)
  return errors.EXIT_DONE


def parse_flags(argv: list[str]) -> list[str]:
  """Returns the program's name and RUN. Raises InputError."""
  flags.FLAGS.set_gnu_getopt()
  arguments = cli.parse_flags(argv, required=("out",), positional=True)
  if len(arguments) != 2:
    given = " ".join(arguments[1:]) or "none"
    raise errors.InputError("RUN", "the workdir of a run", given, "see --help")
  return arguments


if __name__ == "__main__":
  commands.start("export")
