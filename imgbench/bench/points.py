"""From the benchmark's config to its points; all is refused here or never."""

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

from imgbench import config_utils
from imgbench import errors
from imgbench import models
from imgbench import parallel
from imgbench import registry
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

# Lists of names -> those that are known.
_NAMES = {
  "models": tuple(models.BUILDERS),
  "tasks": rows.IMAGE_TASKS,
  "frameworks": rows.FRAMEWORKS,
  "dtypes": DTYPES,
  "matmul_precisions": PRECISIONS,
  "conv_precisions": (SAME, *PRECISIONS),
  "strategies": STRATEGIES,
  "data": DATA,
}
_NUMBERS = ("batch_sizes", "image_sizes", "devices")
# Lists say what is measured, and may grow; sections say how.
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
# Section -> its keys; None: no section, or checked below.
SECTIONS = {
  **{name: None for name in LISTS},
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
  """What a benchmark runs on.

  Attributes:
    platform: "cpu", "gpu" or "tpu".
    num_devices: that JAX sees.
  """

  platform: str
  num_devices: int


@dataclasses.dataclass(frozen=True)
class Points:
  """What is to be measured, in its order.

  Attributes:
    micro: in one process each time.
    groups: of points that differ in their framework alone and are measured
      process by process in turn.
    runs: for time to accuracy.
    left_out: combinations of a peer that it has no counterpart for.
  """

  micro: list[rows.PointKey]
  groups: list[list[rows.PointKey]]
  runs: list[rows.PointKey]
  left_out: list[rows.PointKey]

  def all(self) -> list[rows.PointKey]:
    """Every point once."""
    return [*self.micro, *itertools.chain(*self.groups), *self.runs]


def check(config: ml_collections.ConfigDict) -> dict[str, list]:
  """Returns the lists of a config, checked; further values are checked too.

  Names may be given as "a,b" where they are one text.

  Raises:
    InputError: whatever in the config does not fit by itself.
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
    InputError: a combination that cannot be: of model and image size, of batch
      size and devices, of precisions; or an unknown name.
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
  peers = [f for f in lists["frameworks"] if f != OURS]
  for framework in peers:
    if lists["models"] and all(key.framework != framework for key in wanted):
      raise errors.InputError(
        f"frameworks: {framework} has no point; it needs one of the tasks"
        f" {', '.join(BASELINE_TASKS)}, strategy jit on one device, data=device and"
        f" a model of {', '.join(torch_peer.MODELS)}"
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

  Rows of one folder share it; what is measured may grow.
  """
  return ml_collections.ConfigDict(
    {k: v for k, v in config.to_dict().items() if k not in LISTS}
  )


def _list_products(
  keys: Iterable[rows.PointKey], lists: dict[str, list]
) -> tuple[list[str], list[str]]:
  """Dtypes and precisions of the matrix product: those of the points.

  Without any points: those that the lists name.
  """
  pairs = [(k.dtype, k.matmul_precision) for k in keys] or list(
    itertools.product(lists["dtypes"], lists["matmul_precisions"])
  )
  return [d for d, _ in pairs], [p for _, p in pairs]


def _list_combinations(config, lists, machine) -> Iterator[rows.PointKey]:
  """All of them, a batch after the other; peers next to ours."""
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
        key = rows.PointKey(
          task=task,
          framework=framework,
          model=model,
          batch=batch,
          image_size=size,
          dtype=dtype,
          # Its products have one precision.
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


def _has_counterpart(key: rows.PointKey, recipe) -> bool:
  return (
    key.model in torch_peer.MODELS
    and not recipe.model_settings.get(key.model)
    and key.task in BASELINE_TASKS
    and (key.strategy, key.devices, key.data) == ("jit", 1, "device")
  )


def _check_point(
  key: rows.PointKey, recipe, machine: Machine, checked: set
) -> None:
  if key.framework != OURS:
    return
  if key.devices > machine.num_devices:
    raise errors.InputError(
      f"devices: expected 0 (all) to {machine.num_devices}, which there are,"
      f" got {key.devices}"
    )
  if key.batch % key.devices:
    raise errors.InputError(
      f"batch_sizes: expected multiples of the {key.devices} devices, got"
      f" {key.batch}"
    )
  if key.matmul_precision != key.conv_precision:
    raise errors.InputError(
      f"conv_precisions: expected {SAME!r} or {key.matmul_precision!r} beside"
      f" matmul_precisions={key.matmul_precision}, got {key.conv_precision!r};"
      " JAX has one setting for both"
    )
  if key.data == "tfds" and not recipe.tfds.name:
    raise errors.InputError(
      "data=tfds: expected recipe.tfds.name and recipe.tfds.data_dir to say"
      " which prepared set is read, got no name"
    )
  if (key.model, key.image_size) not in checked:
    checked.add((key.model, key.image_size))
    _check_fits(key, recipe)


def _check_fits(key: rows.PointKey, recipe) -> None:
  """Builds a model for its image size, as this process can: on a CPU."""
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
    raise errors.InputError(f"{key.text()}: {error}") from error


def _check_recipe(recipe, lists) -> None:
  _check_least("recipe.num_classes", recipe.num_classes, 2)
  for name in recipe.tfds:
    _check_name(f"recipe.tfds.{name}", name, _TFDS)
  for model in recipe.model_settings:
    _check_name(f"recipe.model_settings.{model}", model, models.BUILDERS)
  if not lists["models"]:
    return
  # The sections that a run has, too, by the code that reads them.
  key = rows.PointKey(
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
    layout = registry.call(
      "recipe.parallel",
      compute_lib.build_layout,
      strategy=strategy,
      global_batch_size=key.batch,
      **{**plain["parallel"], "microbatches": 1},
    )
    info = model_work.synthetic_info(plain["num_classes"])
    built = model_work.build_recipe(key, plain)
    compute_lib.build(built, layout, info, (32, 32, 3), 1)


def _list_runs(section, machine: Machine) -> list[rows.PointKey]:
  if not section.config:
    return []
  path = pathlib.Path(section.config.partition(":")[0])
  if not path.is_file():
    raise errors.InputError(f"time_to_accuracy.config: no such file: {path}")
  if not 0 < section.target <= 1:
    raise errors.InputError(
      "time_to_accuracy.target: expected an accuracy in (0, 1], got"
      f" {section.target}"
    )
  if "/" not in section.metric:
    raise errors.InputError(
      "time_to_accuracy.metric: expected SET/METRIC, such as"
      f" test/top1_accuracy, got {section.metric!r}"
    )
  for name in ("runs", "run_s"):
    _check_least(f"time_to_accuracy.{name}", section[name], 1)
  name = f"{section.config.rpartition('/')[2]} {section.metric}"
  return [
    rows.PointKey(
      task=rows.TIME_TO_ACCURACY,
      name=name,
      target=section.target,
      devices=machine.num_devices,
    )
  ]


def _group_by_framework(
  keys: Sequence[rows.PointKey],
) -> list[list[rows.PointKey]]:
  groups: dict[rows.PointKey, list[rows.PointKey]] = {}
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
  """The names of a list, each once; a text may hold several."""
  if isinstance(values, str) or not isinstance(values, Iterable):
    values = (values,)
  names = [part.strip() for v in values for part in str(v).split(",")]
  for part in names:
    _check_name(name, part, known)
  return list(dict.fromkeys(names))


def _check_name(key: str, name: str, known: Iterable[str]) -> None:
  if name not in known:
    raise errors.InputError(
      f"{key}: unknown {name!r}; known: {', '.join(known)}"
    )


def _check_least(key: str, value: Any, least: float) -> None:
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or value < least:
    raise errors.InputError(
      f"{key}: expected a number of at least {least}, got {value!r}"
    )
