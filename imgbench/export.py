"""Exports the model of a run for programs without imgbench.

imgbench export runs/demo --format=stablehlo --out=demo.stablehlo

writes a function of images, uint8 [b, H, W, C] for any b, that returns logits,
float32 [b, K]: StableHLO for CPUs, NVIDIA GPUs and TPUs, with the parameters
and the normalization inside. `jax.export.deserialize(data).call(images)` runs
it. --format=safetensors writes the parameters alone, under names joined by "/".
Either gets a JSON file beside it, OUT.json: class names, image size, how images
are cropped, resized and normalized, and the model's settings.

It computes in float32 unless the run's model.dtype is bfloat16, and attention
without cuDNN.
"""

import importlib

from absl import flags
import jax
import jax.export
import jax.numpy as jnp
import numpy as np

import imgbench
from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import predict
from imgbench import predictor
from imgbench import startup
from imgbench import writers

PLATFORMS = ("cpu", "cuda", "tpu")
# Format -> package that it needs.
FORMATS = {"stablehlo": "flatbuffers", "safetensors": "safetensors.numpy"}


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


def main(argv: list[str]) -> int:
  """Writes both files."""
  values = flags.FLAGS
  import_package(FORMATS[values.format])  # Before reading the checkpoint.
  cli.show_log()
  startup.log_start()
  model = predictor.load(argv[1], values.ema, portable=True)
  write = {"stablehlo": to_stablehlo, "safetensors": to_safetensors}
  writers.write_output("--out", values.out, write[values.format](model))
  described = {
    "format": values.format,
    "imgbench": imgbench.__version__,
    **model.description,
  }
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
