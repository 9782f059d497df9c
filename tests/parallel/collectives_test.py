"""Tests that a compiled step tells other devices what it has to, no more.

For 8 CPU devices, and, where libtpu is installed, for 8 TPU chips that are not
here. What is needed is counted by hand in `imgbench.bench.hlo.need`.
"""

import importlib.util

import jax
import pytest

from imgbench import errors
from imgbench.bench import compile_only
from imgbench.bench.hlo import collectives
from imgbench.bench.hlo import programs
from imgbench.configs import tiny
from imgbench.models import layers
from imgbench.parallel import placement

pytestmark = pytest.mark.optimized

VIT = dict(
  name="vit_ti16",
  dtype="auto",
  patch_size=8,
  width=64,
  depth=1,
  num_heads=2,
)
CNN = dict(name="cnn", dtype="auto", widths=(16, 64), stem_size=3)
SUMS = (collectives.ALL_REDUCE, collectives.REDUCE_SCATTER)
BATCH = 32


def steps_of(model, devices=None, mixup=0.2, **settings):
  config = tiny.get_config()
  config.global_batch_size = config.evaluation.batch_size = BATCH
  config.model = model
  config.augment.mixup = mixup
  config.ema.decay = 0.9
  config.parallel.devices = 8
  config.parallel.update(settings)
  return programs.build(config, devices)


def elements(some, *kinds):
  return sum(one.elements for one in some if one.kind in kinds)


def assert_as_needed(found, needed, most_sums, slack):
  """Every number goes around once, in few sums and whole gathers.

  Args:
    found: of the compiled program.
    needed: see `need`.
    most_sums: collectives that sum.
    slack: numbers that may be summed beside those needed.
  """
  known = (*SUMS, collectives.ALL_GATHER, collectives.PERMUTE)
  assert {one.kind for one in found} <= set(known)
  for kind in (collectives.ALL_GATHER, collectives.PERMUTE):
    assert elements(found, kind) == elements(needed, kind)
  # A reduce-scatter among some devices and an all-reduce of the parts among
  # the others may be one all-reduce, as on CPUs.
  parts = sum(o.elements for o in needed if o.source.endswith("by part"))
  summed = elements(found, *SUMS)
  least = elements(needed, *SUMS) - parts
  assert least <= summed <= least + parts + slack
  assert sum(one.kind in SUMS for one in found) <= most_sums


def assert_only_params_are_gathered(found, steps):
  """By shape: those that are cut, and no activation, moment or average."""
  params = jax.tree.leaves(steps.compute.state_shapes().params)
  fsdp = steps.settings.parallel.fsdp
  spec = lambda x: placement.state_spec(x.shape, fsdp)
  cut = [x for x in params if spec(x) != jax.sharding.PartitionSpec()]
  gathered = [
    array.shape
    for one in found
    if one.kind == collectives.ALL_GATHER
    for array in one.arrays
  ]
  assert sorted(gathered) == sorted(x.shape for x in cut)


def leaves(steps):
  return len(jax.tree.leaves(steps.compute.state_shapes().params))


@pytest.mark.parametrize(
  "settings",
  [dict(), dict(fsdp=8), dict(fsdp=2), dict(strategy="pmap")],
  ids=str,
)
def test_a_step_without_batch_norm(settings):
  """One sum of the gradients, loss and hits; where cut also of their norm."""
  steps = steps_of(VIT, **settings)
  found = collectives.find(steps.lower_training().compile().as_text())
  assert_as_needed(found, steps.training_need(), 3, leaves(steps))
  assert_only_params_are_gathered(found, steps)


@pytest.mark.parametrize("settings", [dict(), dict(fsdp=8)], ids=str)
def test_batch_norm_sums_once_each_way(monkeypatch, settings):
  """Two sums a layer, between which the layers lie, and the gradients.

  Those of kernels are made in parts of each device's rows.
  """
  monkeypatch.setattr(layers, "POSITIONS_PER_PART", 64)
  steps = steps_of(CNN, mixup=0.0, **settings)
  found = collectives.find(steps.lower_training().compile().as_text())
  state = steps.compute.state_shapes()
  statistics = [x.size for x in jax.tree.leaves(state.model_state)]
  assert_as_needed(
    found,
    steps.training_need(),
    # Mean and variance of a layer go together.
    len(statistics) + 3,
    # Of the backward pass, where they are not the gradients themselves.
    sum(statistics) + leaves(steps),
  )


def test_statistics_per_device_are_averaged_at_the_end():
  steps = steps_of(CNN, mixup=0.0, batch_norm="per_device")
  found = collectives.find(steps.lower_training().compile().as_text())
  assert_as_needed(found, steps.training_need(), 3, leaves(steps))


@pytest.mark.parametrize(
  "settings", [dict(), dict(fsdp=8), dict(strategy="pmap")], ids=str
)
def test_an_evaluation_sums_its_counts(settings):
  steps = steps_of(VIT, **settings)
  found = collectives.find(steps.lower_evaluation().compile().as_text())
  assert_as_needed(found, steps.evaluation_need(), 1, 0)


@pytest.fixture(scope="module")
def chips():
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("libtpu is not installed: no compiler for TPUs")
  try:
    return compile_only.topology_devices("v5e:2x4")
  except errors.InputError as error:
    if "another process" in str(error):
      pytest.skip(str(error))
    raise


@pytest.mark.parametrize("settings", [dict(), dict(fsdp=8)], ids=str)
def test_the_same_for_tpus(chips, settings):
  """The compiler for TPUs knows the reduce-scatter; types are bfloat16."""
  steps = steps_of(VIT, chips, **settings)
  found = collectives.find(steps.lower_training().compile().as_text())
  needed = steps.training_need()
  assert_as_needed(found, needed, 6, leaves(steps))
  scattered = elements(found, collectives.REDUCE_SCATTER)
  assert (scattered > 0) == ("fsdp" in settings)
  gathered = [o for o in found if o.kind == collectives.ALL_GATHER]
  assert {o.dtypes for o in gathered} <= {"bf16"}
  # What is summed in float32 (norms, head) and what is summed everywhere and
  # then cut is little beside the rest.
  ratio = collectives.sum_sent(found) / collectives.sum_sent(needed)
  assert 1 <= ratio < 1.3
  evaluated = collectives.find(steps.lower_evaluation().compile().as_text())
  assert_as_needed(evaluated, steps.evaluation_need(), 1, 0)
