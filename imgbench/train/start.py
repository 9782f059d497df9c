"""Initial values of a run: another run or a weights file (section init)."""

from collections.abc import Mapping
import math
import re
from typing import Any

from absl import logging
from flax import traverse_util
import jax
import ml_collections
import numpy as np

from imgbench import checkpoints
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import parallel
from imgbench import paths
from imgbench import run_files
from imgbench.data import source
from imgbench.parallel import processes
from imgbench.train import compute as compute_lib
from imgbench.train import freezing
from imgbench.weights import convert
from imgbench.weights import files

# Key of a checkpoint's metadata: what a model needs besides its config, so that
# it can be used without the data.
DATA = "data"
_SETTING = "init.source"
_HEAD = f"params/{convert.HEAD}/"

Leaves = dict[str, np.ndarray]


def check(folder: paths.Folder, section: config_lib.Init) -> bool:
  """Returns whether a run starts from its source; it resumes without it.

  Args:
    folder: of the run.
    section: init, of its config.

  Raises:
    InputError: there is no such source.
  """
  if not section.source or checkpoints.list_steps(folder):
    return False
  if is_run(section):
    checkpoints.check_other(section.source)
  exists = paths.reach(section.source, _SETTING).exists() or is_run(section)
  errors.check(exists, _SETTING, "a file that exists", section.source)
  return True


def is_run(section: config_lib.Init) -> bool:
  """Returns whether the source is a run, perhaps with its export in it."""
  path = paths.reach(section.source, _SETTING)
  return not files.is_weights(path) or (path / checkpoints.FOLDER).exists()


def open_run(
  run: str, setting: str, portable: bool = False, devices: int = 1
) -> tuple[config_lib.Config, compute_lib.Compute, dict[str, Any]]:
  """Returns config, computation and data of a run, without reading its data.

  Args:
    run: RUN or RUN@STEP.
    setting: that names it.
    portable: whether dtype "auto" is float32.
    devices: 1, or 0 for all, which several processes need.

  Raises:
    InputError: no valid checkpoint, or one of an older version.
  """
  meta = checkpoints.read_other_meta(run, setting)
  data = meta.get(DATA)
  if data is None:
    raise errors.InputError(
      setting,
      "a checkpoint with class names and normalization",
      f"{run}, saved by an older version",
      "train it for some steps more, with a larger steps.total",
    )
  path = checkpoints.check_other(run, setting)[0] / run_files.CONFIG
  config = run_files.read_json(path)
  if not isinstance(config, dict):
    raise errors.InputError(path, "the config of the run", "none")
  config.get("checkpoint", {}).pop("init_from", None)  # Of older versions.
  if portable and config["model"].get("dtype") == "auto":
    config["model"]["dtype"] = "float32"
  with config_utils.prefix_errors(f"{path}: "):
    settings = config_lib.parse(ml_collections.ConfigDict(config))
  info = source.Info(
    name=data["name"],
    split=settings.data.train_split,
    num_examples=data["num_examples"],
    image_shape=tuple(data["image_shape"]),
    class_names=tuple(data["class_names"]),
    fingerprint=meta["data_fingerprint"],
  )
  height, width, channels = info.image_shape
  size = int(settings.input.get("size", 0))
  shape = (height or size, width or size, channels)
  strategy = parallel.create_strategy("jit", devices)
  # Nothing is trained: devices need not divide the batch.
  layout = compute_lib.build_layout(strategy, strategy.num_devices)
  batch_size = settings.recipe.global_batch_size
  calendar = config_utils.Durations(info.num_examples, batch_size)
  total = calendar.steps(settings.steps.total, "steps.total")
  compute = compute_lib.build(settings.recipe, layout, info, shape, total)
  return settings, compute, data


def read(
  recipe: config_lib.Recipe,
  shapes: Mapping[str, Any],
  group: processes.Group = processes.ALONE,
  classes: tuple[str, ...] = (),
) -> Leaves:
  """Returns the values that a run starts with, by name.

  Names have their collection: "params/head/dense/kernel". A head of other
  classes is left out, position embeddings are resampled.

  Args:
    recipe: of the run.
    shapes: of its variables.
    group: of its processes.
    classes: of its data; a run of as many others is named in the log.

  Raises:
    InputError: leaves that are missing, left over or of another shape.
  """
  section = recipe.init
  wanted = traverse_util.flatten_dict(dict(shapes), sep="/")
  names = {path: path.partition("/")[2] for path in wanted}
  matched = freezing.match("init.skip", section.skip, names.values())
  skipped = {path for path in wanted if names[path] in matched}
  if is_run(section):
    given, theirs = _read_run(section, group)
  else:
    theirs = classes
    with config_utils.prefix_errors(f"{_SETTING}: "):
      given = _read_file(recipe, shapes)
  if section.train:
    skipped |= _find_other_head(given, wanted)
  given = {k: v for k, v in given.items() if k not in skipped}
  if any(path.startswith(_HEAD) for path in given) and theirs != classes:
    advice = "init.skip=('head/.*',) starts a new one"
    logging.warning("the head is of other classes; %s", advice)
  path = f"params/{convert.POSITIONS}"
  if path in given and path in wanted:
    first = int("params/token" in wanted)
    given[path] = resample(given[path], wanted[path].shape[1], first)
  needed = {k: v for k, v in wanted.items() if k not in skipped}
  with config_utils.prefix_errors(f"{_SETTING}: "):
    convert.check(given, wanted, needed)
  return given


def _read_run(
  section: config_lib.Init, group: processes.Group
) -> tuple[Leaves, tuple[str, ...]]:
  """Returns the values of a run, and its classes."""
  count = 1 if group is processes.ALONE else 0
  _, compute, data = open_run(section.source, _SETTING, devices=count)
  # Whole on each device of all processes.
  sharding = parallel.create_strategy("jit", count).replicated
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    compute.state_shapes(),
  )
  state, meta = checkpoints.restore_other(section.source, like, group)
  logging.info("starting from step %d of %s", meta["step"], section.source)
  leaves = traverse_util.flatten_dict(state.ema or state.variables, sep="/")
  renamed = {}
  for path, leaf in leaves.items():
    collection, _, name = path.partition("/")
    path = f"{collection}/{_rename(section, name)}"
    renamed[path] = np.asarray(jax.device_get(leaf))
  return renamed, tuple(data["class_names"])


def _rename(section: config_lib.Init, name: str) -> str:
  for pattern, new in section.map:
    name = re.sub(pattern, new, name)
  return name


def _read_file(recipe: config_lib.Recipe, shapes: Any) -> Leaves:
  section, model = recipe.init, recipe.model
  found = files.read_file(paths.reach(section.source))
  arrays = {_rename(section, name): array for name, array in found.items()}
  names = convert.choose(arrays, model.name)
  known = config_lib.find_known_keys({"model": {"name": model.name}})
  settings = {key.removeprefix("model."): p.default for key, p in known.items()}
  settings |= model.settings
  wrong = {k: v for k, v in names.settings.items() if settings[k] != v}
  if wrong:
    given = ", ".join(f"{key}={settings[key]}" for key in wrong)
    expected = " ".join(f"--config.model.{k}={v}" for k, v in wrong.items())
    raise errors.InputError("model", expected, given)
  fitted = convert.fit_shapes(arrays, names, shapes)
  heads = settings.get("num_heads", 1)
  found = convert.convert(arrays, names, fitted, heads, section.skip)
  logging.info("starting from %s", section.source)
  return traverse_util.flatten_dict(found, sep="/")


def _find_other_head(given: Leaves, wanted: Mapping[str, Any]) -> set[str]:
  """Returns the paths of a head whose classes are others in number."""
  paths = {p for p in given if p.startswith(_HEAD)}
  for path in sorted(paths & wanted.keys()):
    old, new = given[path].shape, wanted[path].shape
    if old[:-1] == new[:-1] and old != new:
      logging.info("a new head: %d classes instead of %d", new[-1], old[-1])
      return paths
  return set()


def resample(array: np.ndarray, tokens: int, first: int = 0) -> np.ndarray:
  """Returns position embeddings for another image size.

  Args:
    array: float32 [1, T, F], of a square grid.
    tokens: of the result; not that of a square: `array` is returned.
    first: tokens without a place, which are kept, such as the class token.

  Source: bicubic with antialiasing, as timm's `resample_abs_pos_embed`.
  """
  old, new = (math.isqrt(n - first) for n in (array.shape[1], tokens))
  counts = old**2 + first, new**2 + first
  if old == new or counts != (array.shape[1], tokens):
    return array
  grid = array[:, first:].reshape(1, old, old, -1)
  shape = (1, new, new, grid.shape[-1])
  resized = np.asarray(jax.image.resize(grid, shape, "bicubic"))
  places = resized.reshape(1, new * new, -1)
  return np.concatenate([array[:, :first], places], axis=1)
