"""Tests of the points of a config, and of bad configs."""

import pytest

from imgbench import errors
from imgbench import models
from imgbench.bench import points
from imgbench.bench import rows
from imgbench.bench import torch_peer
from imgbench.configs import bench
from tests import raising

ONE = points.Machine("cpu", 1)
FOUR = points.Machine("gpu", 4)


def config(arg=None, **lists):
  made = bench.get_config(arg)
  made.update({"frameworks": ("imgbench",), **lists})
  return made


def test_every_combination_is_a_point():
  made = config(
    models=("resnet18", "vit_ti16"),
    tasks=("train", "infer"),
    batch_sizes=(4, 8),
    image_sizes=(32, 64),
    strategies=("jit", "pmap", "fsdp"),
    data=("device", "host"),
  )
  found = points.expand(made, ONE).all()
  steps = [key for key in found if key.task != "micro"]
  assert len(steps) == len(set(steps)) == 2**5 * 3
  assert found[0].task == "micro"


def test_bfloat16_has_one_precision():
  made = config(
    models=("vit_ti16",),
    tasks=("infer",),
    dtypes=("float32", "bfloat16"),
    matmul_precisions=("default", "highest"),
  )
  found = points.expand(made, ONE)
  columns = lambda k: (k.dtype, k.matmul_precision, k.conv_precision)
  expected = [
    ("float32", "default", "default"),
    ("float32", "highest", "highest"),
    ("bfloat16", "default", "default"),
  ]
  assert [columns(k) for (k,) in found.groups] == expected
  # Each has the matrix product that it is read against.
  products = {(k.dtype, k.matmul_precision) for k in found.micro if k.dtype}
  assert {(d, p) for d, p, _ in expected} <= products


def test_all_devices_are_their_number():
  made = config(devices=(0, 2), batch_sizes=(8,), models=("resnet18",))
  found = points.expand(made, FOUR)
  assert {k.devices for group in found.groups for k in group} == {4, 2}
  assert [k.devices for k in found.micro if k.name == "all_reduce"] == [4]


def test_names_in_one_text():
  made = config(models=("resnet18, vit_ti16",), batch_sizes=(8,))
  made.micro.names = ("dispatch,memory_copy", "dispatch")
  found = points.expand(made, ONE)
  assert [key.name for key in found.micro] == ["dispatch", "memory_copy"]
  models = {key.model for group in found.groups for key in group}
  assert models == {"resnet18", "vit_ti16"}


def test_baselines_run_the_points_that_they_have_a_counterpart_for():
  made = config(
    models=("resnet18", "cnn"),
    frameworks=("imgbench", "torch-eager"),
    tasks=("train", "infer", "eval"),
    data=("device", "host"),
    image_sizes=(32,),
  )
  found = points.expand(made, ONE)
  pairs = [group for group in found.groups if len(group) == 2]
  assert [ours.task for ours, _ in pairs] == ["train", "infer"]
  assert {theirs.framework for _, theirs in pairs} == {"torch-eager"}
  assert len(found.left_out) == 2 * 3 * 2 - 2


def test_per_model_lists_replace_the_common_ones():
  made = config(models=("resnet18", "vit_ti16"), image_sizes=(64,))
  made.per_model.resnet18 = dict(image_sizes=(32,), batch_sizes=(1, 2))
  found = points.expand(made, ONE)
  sizes = {(k.model, k.image_size, k.batch) for g in found.groups for k in g}
  assert sizes == {
    ("resnet18", 32, 1),
    ("resnet18", 32, 2),
    ("vit_ti16", 64, 32),
  }


def test_names_on_the_command_line():
  made = config(models=("resnet18,vit_ti16",), tasks=("train, infer",))
  lists = points.check(made)
  assert lists["models"] == ["resnet18", "vit_ti16"]
  assert lists["tasks"] == ["train", "infer"]


@pytest.mark.parametrize("arg", [None, "quick", "full"])
def test_the_shipped_configs_are_right(arg):
  made = bench.get_config(arg)
  known = [m for m in made.models if m in models.BUILDERS]
  made.models = tuple(known)
  found = points.expand(made, ONE)
  for key in found.all():
    rows.check(rows.Row(key, "crashed", "not measured"))
  asked = [f for f in made.frameworks if f != "imgbench"]
  assert set(asked) <= {k.framework for g in found.groups for k in g}


@pytest.mark.parametrize(
  "lists, setting, given",
  [
    ({"models": ("resnet19",)}, "models", "'resnet19'"),
    ({"tasks": ("training",)}, "tasks", "'training'"),
    ({"dtypes": ("float16",)}, "dtypes", "'float16'"),
    ({"strategies": ("xmap",)}, "strategies", "'xmap'"),
    ({"data": ("disk",)}, "data", "'disk'"),
    ({"frameworks": ("tf",)}, "frameworks", "'tf'"),
    ({"matmul_precisions": ("low",)}, "matmul_precisions", "'low'"),
    ({"batch_sizes": (0,)}, "batch_sizes", 0),
    ({"devices": (2,)}, "devices", 2),
    ({"conv_precisions": ("highest",)}, "conv_precisions", None),
    ({"data": ("tfds",)}, "recipe.tfds.name", "none"),
    (
      {"frameworks": ("torch-compile",), "tasks": ("eval",)},
      "frameworks",
      "none",
    ),
    ({"per_model": {"vit": {}}}, "per_model.vit", "'vit'"),
    (
      {"per_model": {"vit_s16": {"data": ("host",)}}},
      "per_model.vit_s16.data",
      "'data'",
    ),
  ],
)
def test_impossible_points_are_refused(lists, setting, given):
  with pytest.raises(
    errors.InputError, check=raising.about(setting, given=given)
  ):
    points.expand(config(**lists), ONE)


def test_models_that_do_not_fit_their_images_are_refused():
  with pytest.raises(errors.InputError) as caught:
    points.expand(config(models=("vit_s16",), image_sizes=(200,)), ONE)
  assert "vit_s16" in str(caught.value) and "patch_size" in str(caught.value)


@pytest.mark.parametrize(
  "key, value, given",
  [
    ("recipe.num_classes", 1, 1),
    ("recipe.loss.name", "hinge", "'hinge'"),
    ("recipe.optim.name", "sdg", "'sdg'"),
    ("recipe.parallel.batch_norm", "local", "'local'"),
    ("timing.rounds", 0, 0),
    ("timing.latency_s", "long", "'long'"),
    ("sampling.processes", 0, 0),
    ("micro.names", ("matmull",), "'matmull'"),
    ("time_to_accuracy.config", "nowhere.py", "nowhere.py"),
  ],
)
def test_values_are_checked(key, value, given):
  made = config()
  with made.ignore_type():
    made.update_from_flattened_dict({key: value})
  with pytest.raises(errors.InputError, check=raising.about(key, given=given)):
    points.expand(made, ONE)


def test_sections_of_the_recipe_are_checked():
  made = config()
  made.recipe.optim.name = "sdg"
  with pytest.raises(errors.InputError) as caught:
    points.expand(made, ONE)
  assert "recipe" in str(caught.value) and "'sdg'" in str(caught.value)


def test_unknown_keys_are_refused():
  made = config()
  made.sampling.proceses = 3
  with pytest.raises(errors.InputError) as caught:
    points.check(made)
  assert "sampling.proceses" in str(caught.value)


def test_batches_are_divided_by_devices():
  made = config(batch_sizes=(6,), devices=(4,))
  check = raising.about("batch_sizes", given=6)
  with pytest.raises(errors.InputError, check=check):
    points.expand(made, FOUR)


def test_a_run_to_an_accuracy():
  made = config(models=())
  made.time_to_accuracy.update(
    config="configs/tiny.py", metric="val/top1_accuracy", target=0.5
  )
  (key,) = points.expand(made, ONE).runs
  assert key.text() == "time_to_accuracy tiny.py val/top1_accuracy to 0.5"
  made.time_to_accuracy.target = 50.0
  check = raising.about("time_to_accuracy.target", given=50.0)
  with pytest.raises(errors.InputError, check=check):
    points.expand(made, ONE)


def test_lists_may_grow_and_the_rest_says_how():
  hashes = {
    points.select_method(config(models=m)).to_json() for m in (("cnn",), ())
  }
  assert len(hashes) == 1
  other = config()
  other.timing.rounds = 9
  assert points.select_method(other).to_json() not in hashes


def test_baselines_are_of_registered_models():
  later = {"convnext_t", "efficientnet_b0", "mlp_mixer_b16"}
  assert set(torch_peer.MODELS) - later <= set(models.BUILDERS)
