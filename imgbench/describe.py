"""Describes the layers of a config's model without training it.

imgbench describe tiny --config.model.stem_size=4

A line is a layer with its output shape, parameters, multiply-adds and receptive
field (rows x columns of the image that an output depends on, padding included).
Warnings follow: pixels that no layer reads, kernels that mostly meet padding,
stems with an even kernel. No images are read.
"""

from absl import flags
import jax.numpy as jnp

from imgbench import cli
from imgbench import commands
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import models
from imgbench.models import description
from imgbench.tables import table
from imgbench.train import setup

REQUIRED = ("config",)
_FIX = "or set --image_size and --num_classes"


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --config and what replaces the facts of a data set."""
  cli.define_config_flag(flag_values)
  for name, text in (
    ("image_size", "Side of the images; 0: that of the config."),
    ("num_classes", "Number of classes; 0: that of the data set."),
  ):
    flags.DEFINE_integer(name, 0, text, lower_bound=0, flag_values=flag_values)


def find_input(
  settings: config_lib.Config, image_size: int = 0, num_classes: int = 0
) -> tuple[tuple[int, int, int], int]:
  """Returns the shape (H, W, C) of a model's images, and its classes.

  Args:
    settings: of a run.
    image_size: instead of the config's; 0: none.
    num_classes: instead of those of the data set; 0: none.

  Raises:
    InputError: the data set is needed and cannot be opened.
  """
  size = image_size or settings.input.get("size", 0)
  if size and num_classes:
    return (size, size, len(settings.recipe.augment.mean)), num_classes
  try:
    info = setup.open_train_split(settings.data).info
  except errors.InputError as error:
    fix = "; ".join(filter(None, [error.fix, _FIX]))
    raise errors.InputError(
      error.setting, error.expected, error.given, fix
    ) from error
  height, width, channels = info.image_shape
  shape = (size or height, size or width, channels)
  if None in shape:
    given = f"images of many sizes in {info.key}"
    raise errors.InputError("input.size", "a size", given, _FIX)
  return shape, num_classes or info.num_classes


def describe_config(
  settings: config_lib.Config, image_size: int = 0, num_classes: int = 0
) -> description.Description:
  """Returns the layers of a run's model; see `find_input`."""
  shape, num_classes = find_input(settings, image_size, num_classes)
  section = settings.recipe.model
  with config_utils.prefix_errors("model."):
    model = models.build_model(
      section.name,
      num_classes=num_classes,
      image_shape=shape,
      dtype=jnp.float32,
      **section.settings,
    )
  return description.describe(model, shape)


def build_table(found: description.Description) -> table.Table:
  """Returns a table with a row for each layer, and their sums."""
  params = sum(layer.params for layer in found.layers)
  macs = sum(layer.macs for layer in found.layers)
  total = description.Layer("total", params=params, macs=macs)
  sides = lambda values: description.format_sides(values or ())
  columns = [
    table.Column("name", "layer"),
    table.number("shape", "output", sides),
    table.number("params", "parameters", "{:,}".format),
    table.number("macs", "multiply-adds", "{:,}".format),
    table.number("field", "receptive field", sides),
  ]
  return table.Table("", columns, [*found.layers, total])


def main(argv: list[str]) -> None:
  """Prints the table and the warnings."""
  del argv
  values = flags.FLAGS
  settings = config_lib.parse(values.config)
  found = describe_config(settings, values.image_size, values.num_classes)
  print("\n".join(build_table(found).lines("line")))
  for text in found.warnings:
    print(f"warning: {text}")


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; a first argument is the value of --config."""
  return cli.parse_flags(cli.name_argument(argv, "config"), required=REQUIRED)


if __name__ == "__main__":
  commands.start("describe")
