"""Tests of the description of a config's model."""

import pathlib
import re

import jax.numpy as jnp
import pytest

import imgbench
from imgbench import cli
from imgbench import config as config_lib
from imgbench import describe
from imgbench import errors
from imgbench import models
from imgbench.models import description
from imgbench.models import flops
from tests import forked
from tests import raising


def parse(name, *overrides):
  return config_lib.parse(cli.read_config(name, overrides))


def test_images_and_classes_are_those_of_the_data():
  assert describe.find_input(parse("tiny")) == ((16, 16, 3), 24)
  assert describe.find_input(parse("tiny"), 32) == ((32, 32, 3), 24)
  assert describe.find_input(parse("tiny"), 0, 7) == ((16, 16, 3), 7)


def test_flags_replace_a_data_set_that_is_not_here(tmp_path):
  absent = f"data.data_dir={tmp_path}/absent"
  settings = parse("cifar10_resnet18", absent)
  assert describe.find_input(settings, 32, 10) == ((32, 32, 3), 10)
  check = raising.about("data.data_dir")
  with pytest.raises(errors.InputError, check=check) as caught:
    describe.find_input(settings, 32)
  assert "--image_size" in caught.value.fix
  assert "--num_classes" in caught.value.fix
  # The config says the size of images that have many.
  settings = parse("imagenet_resnet50", absent)
  assert describe.find_input(settings, 0, 1000) == ((224, 224, 3), 1000)


def test_the_settings_of_the_config_count():
  found = describe.describe_config(parse("tiny", "model.widths=(4, 4, 4, 4)"))
  assert found.layers[0].shape == (8, 8, 4)
  assert len(found.warnings) == 1  # The last stage has maps of 1x1.
  check = raising.about("model.image_shape", given="4x4")
  with pytest.raises(errors.InputError, check=check):
    describe.describe_config(parse("tiny", "model.widths=(4, 4, 4, 4)"), 4)


def test_the_last_line_has_the_sums():
  rows = [
    description.Layer("a", (4, 4, 8), 1000, 200, (3, 3)),
    description.Layer("b", (7,), 5, 40_000, (8, 8)),
  ]
  found = describe.build_table(description.Description(rows, []))
  assert found.cells == [
    ["a", "4x4x8", "1,000", "200", "3x3"],
    ["b", "7", "5", "40,000", "8x8"],
    ["total", "", "1,005", "40,200", ""],
  ]


@pytest.mark.slow
def test_parameters_are_those_of_the_readme():
  """For 1,000 classes at 224 pixels, Wide ResNet for CIFAR-10."""
  readme = pathlib.Path(imgbench.__file__).parents[1] / "README.md"
  pattern = r"^\| \[(`.*`)\]\(imgbench/models/\w+\.py\) \| ([\d., ]+) M \|"
  rows = re.findall(pattern, readme.read_text(), re.M)
  checked = 0
  for names, millions in rows:
    for name, expected in zip(
      re.findall(r"`(\w+)`", names), millions.split(", "), strict=True
    ):
      size, classes = (32, 10) if name.startswith("wide") else (224, 1000)
      shape = (size, size, 3)
      model = models.build_model(
        name, num_classes=classes, image_shape=shape, dtype=jnp.float32
      )
      cost = flops.count_cost(model, shape)
      assert f"{cost.params / 1e6:.1f}" == expected, name
      checked += 1
  any_width = {"whitened", "cnn", "mlp", "autoencoder"}
  assert checked == len(models.BUILDERS.keys() - any_width)


@pytest.mark.slow
def test_the_command_prints_layers_and_warnings(tmp_path):
  name, even = "imgbench.describe", "--config.model.stem_size=4"
  done, bad = forked.run_all([[name, "tiny", even], [name, "tinny"]], tmp_path)
  assert done.code == errors.EXIT_DONE, done.stderr
  lines = done.stdout.splitlines()
  assert lines[0].split()[0] == "layer"
  assert [line.split()[0] for line in lines[2:4]] == ["stem", "stem_norm"]
  (warning,) = [line for line in lines if line.startswith("warning: ")]
  assert re.search(r"\bstem\b.*\b4x4\b", warning)
  assert bad.code == errors.EXIT_USAGE
  assert len(bad.stderr.splitlines()) == 1
