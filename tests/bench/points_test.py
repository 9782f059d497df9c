"""From a config to points, and what is refused before anything runs."""

import pytest

from configs import bench
from imgbench import errors
from imgbench import models
from imgbench.bench import points
from imgbench.bench import rows
from imgbench.bench import torch_peer

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


def test_peers_stand_beside_what_they_have_a_counterpart_for():
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


def test_per_model_lists_stand_in_place():
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
  "lists, words",
  [
    ({"models": ("resnet19",)}, "models: unknown 'resnet19'; known: cnn"),
    ({"tasks": ("training",)}, "known: train, infer, eval"),
    ({"dtypes": ("float16",)}, "known: float32, bfloat16"),
    ({"strategies": ("xmap",)}, "known: jit, pmap, fsdp"),
    ({"data": ("disk",)}, "known: device, host, tfds"),
    ({"frameworks": ("tf",)}, "known: imgbench, torch-eager"),
    ({"matmul_precisions": ("low",)}, "matmul_precisions: unknown 'low'"),
    ({"batch_sizes": (0,)}, "batch_sizes: expected a number of at least 1"),
    ({"devices": (2,)}, "devices: expected 0 (all) to 1"),
    (
      {"models": ("vit_s16",), "image_sizes": (200,)},
      "patch_size: expected a divisor of both sides of images of 200x200",
    ),
    ({"conv_precisions": ("highest",)}, "JAX has one setting for both"),
    ({"data": ("tfds",)}, "recipe.tfds.name"),
    (
      {"frameworks": ("torch-compile",), "tasks": ("eval",)},
      "torch-compile has no point",
    ),
    ({"per_model": {"vit": {}}}, "per_model.vit: unknown 'vit'"),
    (
      {"per_model": {"vit_s16": {"data": ("host",)}}},
      "per_model.vit_s16.data",
    ),
  ],
)
def test_what_cannot_be_is_refused(lists, words):
  with pytest.raises(errors.InputError) as caught:
    points.expand(config(**lists), ONE)
  assert words in str(caught.value)


@pytest.mark.parametrize(
  "key, value, words",
  [
    ("recipe.optim.name", "sdg", "unknown optimizer 'sdg'"),
    ("recipe.loss.name", "hinge", "hinge"),
    ("recipe.num_classes", 1, "recipe.num_classes"),
    ("timing.rounds", 0, "timing.rounds: expected a number of at least 1"),
    ("timing.latency_s", "long", "timing.latency_s"),
    ("sampling.processes", 0, "sampling.processes"),
    ("micro.names", ("matmull",), "known: matmul, memory_copy"),
    ("time_to_accuracy.config", "nowhere.py", "no such file: nowhere.py"),
  ],
)
def test_values_are_checked(key, value, words):
  made = config()
  with made.ignore_type():
    made.update_from_flattened_dict({key: value})
  with pytest.raises(errors.InputError) as caught:
    points.expand(made, ONE)
  assert words in str(caught.value)


def test_unknown_keys_are_refused():
  made = config()
  made.sampling.proceses = 3
  with pytest.raises(errors.InputError, match="did you mean processes"):
    points.check(made)


def test_batches_are_divided_by_devices():
  made = config(batch_sizes=(6,), devices=(4,))
  with pytest.raises(errors.InputError, match="multiples of the 4 devices"):
    points.expand(made, FOUR)


def test_a_run_to_an_accuracy():
  made = config(models=())
  made.time_to_accuracy.update(
    config="configs/tiny.py", metric="val/top1_accuracy", target=0.5
  )
  (key,) = points.expand(made, ONE).runs
  assert key.text() == "time_to_accuracy tiny.py val/top1_accuracy to 0.5"
  made.time_to_accuracy.target = 50.0
  with pytest.raises(errors.InputError, match="an accuracy in"):
    points.expand(made, ONE)


def test_lists_may_grow_and_the_rest_says_how():
  hashes = {
    points.select_method(config(models=m)).to_json() for m in (("cnn",), ())
  }
  assert len(hashes) == 1
  other = config()
  other.timing.rounds = 9
  assert points.select_method(other).to_json() not in hashes


def test_peers_are_of_models_that_there_are():
  later = {"convnext_t", "efficientnet_b0", "mlp_mixer_b16"}
  assert set(torch_peer.MODELS) - later <= set(models.BUILDERS)
