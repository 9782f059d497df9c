"""Turns the benchmark's config into points; checks all of it first."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from imgbench import cli
from imgbench import config_utils
from imgbench import errors
from imgbench import models
from imgbench import parallel
from imgbench.bench import measure
from imgbench.bench import micro
from imgbench.bench import model_work
from imgbench.bench import rows
from imgbench.bench import torch_peer
from imgbench.train import compute as compute_lib

OURS = "imgbench"
DTYPES = ("float32", "bfloat16")
PRECISIONS = (
  "default",
  "bfloat16",
  "tensorfloat32",
  "float32",
  "high",
  "highest",
)
SAME = "same"  # a convolution's precision: as the matrix products
STRATEGIES = ("jit", "pmap", model_work.FSDP)
DATA = ("device", "host", "tfds")
BASELINE_TASKS = ("train", "infer")

# List of names -> known names.
_NAMES = {
  "models": models.BUILDERS,  # Plug-ins add to it.
  "tasks": rows.IMAGE_TASKS,
  "frameworks": rows.FRAMEWORKS,
  "dtypes": DTYPES,
  "matmul_precisions": PRECISIONS,
  "conv_precisions": (SAME, *PRECISIONS),
  "strategies": STRATEGIES,
  "data": DATA,
}
_NUMBERS = ("batch_sizes", "image_sizes", "devices")
# Lists say what is measured and may grow; sections say how.
LISTS = (*_NAMES, *_NUMBERS, "per_model")
_PER_MODEL = ("batch_sizes", "image_sizes", "tasks", "dtypes")
SAMPLING = {
  "processes": 1,
  "most_processes": 1,
  "relative_width": 0,
  "row_s": 0,
  "process_s": 1,
  "memory_bytes": 0,
  "stopped_processes": 0,
}
_MICRO = ("names", "matmul_size", "copy_mib", "transfer_mib")
_RUNS = ("config", "metric", "target", "runs", "seed", "run_s", "overrides")
_TFDS = ("name", "split", "data_dir", "options")
# Section -> its keys; None: no section, or checked elsewhere.
SECTIONS = {
  **{name: None for name in LISTS},
  "plugins": None,
  "fit_batch": None,
  "compile_cache": None,
  "recipe": (
    *("seed", "num_classes", "model_settings", "augment", "loss", "ema"),
    *("optim", "schedule", "parallel", "tfds"),
  ),
  "timing": tuple(f.name for f in dataclasses.fields(measure.TimingPlan)),
  "sampling": tuple(SAMPLING),
  "micro": _MICRO,
  "time_to_accuracy": _RUNS,
}


@dataclasses.dataclass(frozen=True)
class Machine:
  """The machine of a benchmark.

  Attributes:
    platform: "cpu", "gpu" or "tpu".
    num_devices: seen by JAX, those of all processes.
    num_processes: that measure together.
  """

  platform: str
  num_devices: int
  num_processes: int = 1


@dataclasses.dataclass(frozen=True)
class Points:
  """Points to measure, in order.

  Attributes:
    micro: microbenchmarks, measured in one process.
    groups: points that differ in framework only, measured in turn, process by
      process.
    runs: for time to accuracy.
    left_out: points that a baseline has no counterpart for.
  """

  micro: list[rows.Key]
  groups: list[list[rows.Key]]
  runs: list[rows.Key]
  left_out: list[rows.Key]

  def all(self) -> list[rows.Key]:
    """Returns all points."""
    return [*self.micro, *itertools.chain(*self.groups), *self.runs]


def check(config: ml_collections.ConfigDict) -> dict[str, list]:
  """Returns the lists of a config; checks them and all other values.

  Names may be given in one text, "a,b".

  Raises:
    InputError: a value that is wrong by itself.
  """
  config_utils.check_sections(config, SECTIONS)
  lists = {
    name: _read_list(name, config[name]) for name in (*_NAMES, *_NUMBERS)
  }
  for model, section in config.per_model.items():
    key = f"per_model.{model}"
    _check_name(key, model, models.BUILDERS)
    for name, values in section.items():
      _check_name(f"{key}.{name}", name, _PER_MODEL)
      _read_list(name, values)
  _check_recipe(config.recipe, lists)
  for name, least in SAMPLING.items():
    _check_least(f"sampling.{name}", config.sampling[name], least)
  for name, value in config.timing.items():
    counts = ("least_steps", "most_steps", "rounds", "in_flight")
    _check_least(f"timing.{name}", value, 1 if name in counts else 0)
  _read_names("micro.names", config.micro.names, micro.NAMES)
  for name in _MICRO[1:]:
    _check_least(f"micro.{name}", config.micro[name], 0)
  return lists


def expand(config: ml_collections.ConfigDict, machine: Machine) -> Points:
  """Returns the points of a config on a machine.

  Raises:
    InputError: an unknown name, or an impossible combination of model and image
      size, of batch size and devices, or of precisions.
  """
  lists = check(config)
  checked = set()
  wanted, left_out = [], []
  for key in _list_combinations(config, lists, machine):
    if key.framework != OURS and not _has_counterpart(key, config.recipe):
      left_out.append(key)
      continue
    _check_point(key, config.recipe, machine, checked)
    wanted.append(key)
  baselines = [f for f in lists["frameworks"] if f != OURS]
  for framework in baselines:
    if lists["models"] and all(key.framework != framework for key in wanted):
      raise errors.InputError(
        "frameworks",
        f"points that {framework} can run",
        "none",
        f"add a task of {', '.join(BASELINE_TASKS)}, strategy jit on one"
        f" device, data=device and a model of {', '.join(torch_peer.MODELS)}",
      )
  section = config_utils.arguments(config.micro)
  section["names"] = _read_names("micro.names", section["names"], micro.NAMES)
  return Points(
    micro.list_keys(
      section,
      machine.platform,
      machine.num_devices,
      *_list_products(wanted, lists),
    ),
    _group_by_framework(wanted),
    _list_runs(config.time_to_accuracy, machine),
    left_out,
  )


def select_method(
  config: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """Returns the part of a config that says how points are measured.

  All rows of a folder share it; the lists of what is measured may grow.
  """
  what = (*LISTS, "plugins")
  return ml_collections.ConfigDict(
    {k: v for k, v in config.to_dict().items() if k not in what}
  )


def _list_products(
  keys: Iterable[rows.Key], lists: dict[str, list]
) -> tuple[list[str], list[str]]:
  """Returns dtypes and precisions of the matrix products: those of the points.

  Without any points: those of the lists.
  """
  pairs = [(k.dtype, k.matmul_precision) for k in keys] or list(
    itertools.product(lists["dtypes"], lists["matmul_precisions"])
  )
  return [d for d, _ in pairs], [p for _, p in pairs]


def _list_combinations(config, lists, machine) -> Iterator[rows.Key]:
  """Yields all combinations; those of baselines follow ours."""
  seen = set()
  for model in lists["models"]:
    section = config.per_model.get(model, {})
    own = {**lists, **{n: _read_list(n, v) for n, v in section.items()}}
    names = ("tasks", "dtypes", "matmul_precisions", "conv_precisions")
    names += ("strategies", "devices", "data", "image_sizes", "batch_sizes")
    for values in itertools.product(*(own[name] for name in names)):
      task, dtype, matmul, conv, strategy, devices, data, size, batch = values
      half = dtype == "bfloat16"
      for framework in lists["frameworks"]:
        key = rows.Key(
          task=task,
          framework=framework,
          model=model,
          batch=batch,
          image_size=size,
          dtype=dtype,
          # bfloat16 products have one precision.
          matmul_precision="default" if half else matmul,
          conv_precision=(
            "default" if half else matmul if conv == SAME else conv
          ),
          strategy=strategy,
          devices=devices or machine.num_devices,
          data=data,
        )
        if key not in seen:
          seen.add(key)
          yield key


def _has_counterpart(key: rows.Key, recipe) -> bool:
  return (
    key.model in torch_peer.MODELS
    and not recipe.model_settings.get(key.model)
    and key.task in BASELINE_TASKS
    and (key.strategy, key.devices, key.data) == ("jit", 1, "device")
  )


def _check_point(key: rows.Key, recipe, machine: Machine, checked: set) -> None:
  if key.framework != OURS:
    return
  if key.devices > machine.num_devices:
    expected = f"0 (all) to {machine.num_devices}"
    raise errors.InputError("devices", expected, key.devices)
  if machine.num_processes > 1:
    several = f"with {machine.num_processes} processes"
    if key.devices < machine.num_devices:
      expected = f"0 (all) {several}"
      raise errors.InputError("devices", expected, key.devices)
    if key.strategy == "pmap":
      expected = f"jit or {model_work.FSDP} {several}"
      raise errors.InputError("strategies", expected, key.strategy)
  if key.batch % key.devices:
    expected = f"multiples of the {key.devices} devices"
    raise errors.InputError("batch_sizes", expected, key.batch)
  if key.matmul_precision != key.conv_precision:
    raise errors.InputError(
      "conv_precisions",
      f"{SAME!r}, as JAX has one setting for both precisions",
      f"{key.conv_precision!r} for matmul {key.matmul_precision!r}",
    )
  if key.data == "tfds" and not recipe.tfds.name:
    expected = "a prepared data set for data=tfds"
    fix = "set recipe.tfds.data_dir too"
    raise errors.InputError("recipe.tfds.name", expected, "none", fix)
  if (key.model, key.image_size) not in checked:
    checked.add((key.model, key.image_size))
    _check_fits(key, recipe)


def _check_fits(key: rows.Key, recipe) -> None:
  """Builds the model for its image size, on the CPU of this process."""
  with config_utils.prefix_errors("recipe.model_settings."):
    settings = config_utils.arguments(recipe.model_settings.get(key.model, {}))
  try:
    models.build_model(
      key.model,
      num_classes=recipe.num_classes,
      image_shape=(key.image_size, key.image_size, 3),
      dtype=jnp.float32,
      **settings,
    )
  except errors.InputError as error:
    raise error.prefixed(f"{key.text()}: ") from error


def _check_recipe(recipe, lists) -> None:
  _check_least("recipe.num_classes", recipe.num_classes, 2)
  for name in recipe.tfds:
    _check_name(f"recipe.tfds.{name}", name, _TFDS)
  for model in recipe.model_settings:
    _check_name(f"recipe.model_settings.{model}", model, models.BUILDERS)
  if not lists["models"]:
    return
  # Sections that a training run has too are checked by the code of a run.
  key = rows.Key(
    task="train",
    model="cnn",
    batch=2,
    dtype="float32",
    image_size=32,
    strategy="jit",
  )
  plain = recipe.to_dict() | {"model_settings": {}}
  strategy = parallel.jit_strategy(jax.devices("cpu")[:1])
  with config_utils.prefix_errors("recipe."):
    section = {**plain["parallel"], "microbatches": 1}
    layout = model_work.build_layout(strategy, key.batch, section)
    info = model_work.synthetic_info(plain["num_classes"])
    built = model_work.build_recipe(key, plain)
    compute_lib.build(built, layout, info, (32, 32, 3), 1)


def _list_runs(section, machine: Machine) -> list[rows.Key]:
  if not section.config:
    return []
  if machine.num_processes > 1:
    expected = f"none with {machine.num_processes} processes"
    given = section.config
    raise errors.InputError("time_to_accuracy.config", expected, given)
  path = pathlib.Path(cli.find_config_file(section.config).partition(":")[0])
  if not path.is_file():
    raise errors.InputError("time_to_accuracy.config", "a config file", path)
  if not 0 < section.target <= 1:
    expected = "an accuracy in (0, 1]"
    raise errors.InputError("time_to_accuracy.target", expected, section.target)
  if "/" not in section.metric:
    expected = "SET/METRIC, e.g. test/top1_accuracy"
    given = repr(section.metric)
    raise errors.InputError("time_to_accuracy.metric", expected, given)
  for name in ("runs", "run_s"):
    _check_least(f"time_to_accuracy.{name}", section[name], 1)
  name = f"{section.config.rpartition('/')[2]} {section.metric}"
  return [
    rows.Key(
      task=rows.TIME_TO_ACCURACY,
      name=name,
      target=section.target,
      devices=machine.num_devices,
    )
  ]


def _group_by_framework(keys: Sequence[rows.Key]) -> list[list[rows.Key]]:
  groups: dict[rows.Key, list[rows.Key]] = {}
  for key in keys:
    place = dataclasses.replace(key, framework=OURS)
    groups.setdefault(place, []).append(key)
  return list(groups.values())


def _read_list(name: str, values: Any) -> list:
  if name not in _NUMBERS:
    return _read_names(name, values, _NAMES[name])
  if isinstance(values, str) or not isinstance(values, Iterable):
    values = (values,)
  for value in values:
    _check_least(name, value, 0 if name == "devices" else 1)
  return list(dict.fromkeys(values))


def _read_names(name: str, values: Any, known: Iterable[str]) -> list[str]:
  """Returns the names of a list without repeats; a text may hold several."""
  if isinstance(values, str) or not isinstance(values, Iterable):
    values = (values,)
  names = [part.strip() for v in values for part in str(v).split(",")]
  for part in names:
    _check_name(name, part, known)
  return list(dict.fromkeys(names))


def _check_name(key: str, name: str, known: Iterable[str]) -> None:
  if name not in known:
    raise errors.InputError(key, f"one of {', '.join(known)}", repr(name))


def _check_least(key: str, value: Any, least: float) -> None:
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or value < least:
    raise errors.InputError(key, f"a number of at least {least}", repr(value))
