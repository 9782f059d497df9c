"""The config of a run: a ConfigDict becomes frozen sections, checked here.

Programs parse a ConfigDict once; what they call takes sections or plain
arguments. Defaults are in configs/common.py and in signatures of builders.
"""

import collections.abc
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import inspect
import math
import re
import typing
from typing import Any

from absl import logging
import ml_collections
from ml_collections import config_dict

from imgbench import config_utils
from imgbench import data as data_lib
from imgbench import errors
from imgbench import losses
from imgbench import models
from imgbench import optim as optim_lib
from imgbench import plugins
from imgbench import registry
from imgbench import run_files
from imgbench import typed
from imgbench import writers
from imgbench.data import preprocess
from imgbench.data import source as source_lib
from imgbench.evaluators import EVALUATORS
from imgbench.evaluators import shift as shift_lib
from imgbench.metrics import diagnostics
from imgbench.metrics import reconstruction
from imgbench.metrics import specs
from imgbench.parallel import determinism

Settings = Mapping[str, Any]
GLOBAL, PER_DEVICE = "global", "per_device"  # statistics of BatchNorm


def _check_count(setting: str, count: int, least: int) -> None:
  expected = f"{least} to {config_utils.MOST}"
  errors.check(least <= count <= config_utils.MOST, setting, expected, count)


@dataclasses.dataclass(frozen=True)
class DataSection:
  """A data set.

  Attributes:
    name: of TFDS, or of `data.SOURCES`.
    train_split: e.g. "train" or "train[:90%]".
    data_dir: where TFDS has prepared the set.
    options: keywords of its source, e.g. the sizes of "scenes".
    balanced: whether each class is equally likely in training batches.
  """

  name: str
  train_split: str
  data_dir: str
  options: Settings
  balanced: bool = False


@dataclasses.dataclass(frozen=True)
class ModelSection:
  """A model.

  Attributes:
    name: of `models.BUILDERS`.
    dtype: of activations, "float32", "bfloat16" or "auto".
    settings: of its builder.
  """

  name: str
  dtype: str
  settings: Settings


@dataclasses.dataclass(frozen=True)
class Augment:
  """Normalization and augmentation.

  Attributes:
    mean: per channel, on a scale of 0 to 1.
    std: per channel, above 0.
    mixup: parameter of the Beta distribution, see `mixing.mix`; 0 for none.
    cutmix: parameter of the Beta distribution of CutMix; 0 for none.
    switch: probability of cutmix where both are on.
    settings: of `preprocess.sample`.
  """

  mean: Sequence[float]
  std: Sequence[float]
  mixup: float = 0.0
  cutmix: float = 0.0
  switch: float = 0.5
  settings: Settings = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LossSection:
  """A loss.

  Attributes:
    name: of `losses.LOSSES`.
    settings: of its builder.
    class_weights: "balanced", or weights of all classes in order, or of some by
      name, see `losses.find_class_weights`; "": none.
  """

  name: str = "softmax"
  settings: Settings = dataclasses.field(default_factory=dict)
  class_weights: str | Sequence[float] | Mapping[str, float] = ""


@dataclasses.dataclass(frozen=True)
class Ema:
  """Moving average of the variables.

  Attributes:
    decay: of the average, which is evaluated too; 0 for none.
  """

  decay: float

  def __post_init__(self):
    expected = "a number in [0, 1), 0 for none"
    errors.check(0 <= self.decay < 1, "decay", expected, self.decay)


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """An optimizer.

  Attributes:
    name: of `optim.OPTIMIZERS`.
    settings: of its builder.
  """

  name: str
  settings: Settings


@dataclasses.dataclass(frozen=True)
class ScheduleSection:
  """A schedule of the learning rate.

  Attributes:
    name: of `optim.SCHEDULES`.
    warmup: a duration, e.g. "5 epochs".
    settings: of its builder.
  """

  name: str
  warmup: str = "never"
  settings: Settings = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Init:
  """Initial values of a run, at step 0 and with a fresh optimizer.

  Patterns are regular expressions that match whole names of parameters and
  running statistics, e.g. "head/dense/kernel".

  Attributes:
    source: RUN, RUN@STEP (the moving average, if it has one) or a file of
      weights, see docs/weights.md; "": random numbers.
    skip: patterns that keep their random values.
    map: pairs (pattern, replacement), applied to names in the source.
    freeze: patterns not to train; BatchNorm keeps statistics that match.
    layer_decay: learning rate of a block over that of the next one, in (0, 1].
    train: false: nothing is trained; `imgbench evaluate` sets it.
    checkpoint: name of published weights, whose top-1 the report compares with.
  """

  source: str = ""
  skip: Sequence[str] = ()
  map: Sequence[Sequence[str]] = ()
  freeze: Sequence[str] = ()
  layer_decay: float = 1.0
  train: bool = True
  checkpoint: str = ""

  def __post_init__(self):
    alone = [(pattern, "") for pattern in (*self.skip, *self.freeze)]
    try:
      for pattern, new in (*self.map, *alone):
        re.sub(pattern, new, "")  # Checks both.
    except (re.error, IndexError, TypeError, ValueError) as error:
      expected = "regular expressions, in map each with its replacement"
      raise errors.InputError("skip, map, freeze", expected, error) from error
    decay, expected = self.layer_decay, "a number in (0, 1]"
    errors.check(0 < decay <= 1, "layer_decay", expected, decay)
    given = bool(self.source) or self.train
    errors.check(given, "source", "a value with train=False", "none")


@dataclasses.dataclass(frozen=True)
class Recipe:
  """The computation of a training step, on any devices and data.

  Attributes:
    seed: of all random numbers, 0 to 4294967295.
    global_batch_size: images of a step, on all devices together.
    model, augment, loss, ema, optim, schedule, init: sections.
  """

  seed: int
  global_batch_size: int
  model: ModelSection
  augment: Augment
  loss: LossSection
  ema: Ema
  optim: Optimizer
  schedule: ScheduleSection
  prng: determinism.Prng = determinism.Prng()
  init: Init = Init()

  def __post_init__(self):
    # Keys of JAX would be those of the seed modulo 2**32.
    expected = "an integer from 0 to 4294967295"
    errors.check(0 <= self.seed < 2**32, "seed", expected, self.seed)
    _check_count("global_batch_size", self.global_batch_size, 1)


@dataclasses.dataclass(frozen=True)
class StepsSection:
  """Length of training.

  Attributes:
    total: a duration: "500 steps", "2 epochs" or "1e6 examples".
    per_dispatch: steps in one call on accelerators; 0 chooses.
  """

  total: str
  per_dispatch: int

  def __post_init__(self):
    _check_count("per_dispatch", self.per_dispatch, 0)


@dataclasses.dataclass(frozen=True)
class Logging:
  """Times of logging, and files to write.

  Attributes:
    every: a duration.
    tensorboard: whether to write event files.
    report: whether to write report.html and its figures.
    writers: of `writers.WRITERS`, which get the records too.
  """

  every: str
  tensorboard: bool
  report: bool
  writers: Sequence[str] = ()

  def __post_init__(self):
    known = [name for name in writers.WRITERS if name not in writers.OWN]
    for name in self.writers:
      if name not in known:
        near = registry.near_names(name, known) if known else ""
        expected = "names that plug-ins register"
        raise errors.InputError("writers", expected, repr(name), near)


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
  """A split to evaluate; what is absent is as in sections data, evaluation.

  Attributes:
    split: e.g. "validation".
    name: of the data set.
    data_dir: where TFDS has prepared the set.
    options: keywords of its source; of another split of the set in section
      data, those that differ.
    every: a duration.
    type: of `evaluators.EVALUATORS`.
    probabilities: whether to keep them for curves by class; None: if small.
    restrict_classes: whether to predict among the classes of the set only.
    on_bad_example: "stop" or "skip", if an example cannot be read or decoded.
    most_bad: examples that may be left out of all results.
    abnormal: classes or subsets of them whose images are anomalies, for type
      "reconstruction"; (): anomalies are not measured.
    threshold_from: alias of another set, on which the error is chosen above
      which images of this set are flagged; "": none are.
    recall: least share of the other set's anomalies that it flags, in (0, 1].
  """

  split: str
  name: str
  data_dir: str
  options: Settings
  every: str
  type: str = "classification"
  probabilities: bool | None = None
  restrict_classes: bool = False
  on_bad_example: str = "stop"
  most_bad: int = 100
  abnormal: Sequence[str] = ()
  threshold_from: str = ""
  recall: float = 0.9

  def __post_init__(self):
    reconstruction.check_share("recall", self.recall)
    if self.type not in EVALUATORS:
      known = f"one of {', '.join(EVALUATORS)}"
      raise errors.InputError("type", known, repr(self.type))
    source_lib.check_on_bad(self.on_bad_example, self.most_bad)


@dataclasses.dataclass(frozen=True)
class EvaluationSection:
  """Evaluations of a run.

  Attributes:
    every: a duration, for sets without their own.
    batch_size: images of all devices together.
    flip_average: test-time augmentation: whether logits are averaged over an
      image and its mirror (horizontal flip); results then say so.
    ks: top-k accuracies.
    alpha: intervals cover 1 - alpha.
    class_masks: name -> file of classes, a subset in all results.
    warnings: thresholds.
    input: settings of `input_pipelines.build_eval_pipeline`.
    shift: the sets whose drop from a base set is measured, or None.
    sets: by alias; "" instead of a set removes it.
    known_leaks: list of test images that the training data has too, of
      `imgbench leakage`, which warnings then mention; "": none.
  """

  every: str
  batch_size: int
  flip_average: bool
  ks: Sequence[int]
  alpha: float
  class_masks: Mapping[str, Any]
  warnings: diagnostics.Thresholds
  input: Settings
  shift: shift_lib.Shift | None
  sets: Mapping[str, EvaluationSet]
  known_leaks: str = ""

  def __post_init__(self):
    expected = "a number in (0, 1)"
    errors.check(0 < self.alpha < 1, "alpha", expected, self.alpha)
    _check_count("batch_size", self.batch_size, 1)
    for alias in self.sets:
      if alias in ("train", "time") or "/" in alias:
        raise errors.InputError(
          f"sets.{alias}", "a name without a slash, not train or time", alias
        )
    base = self.shift and self.shift.base
    if base and self.sets[base].restrict_classes:
      raise errors.InputError(
        "shift.base",
        "a set without restrict_classes",
        repr(base),
        "its predictions are counted among the classes of each set that it is"
        " compared with; evaluate it without",
      )


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """Times of saving, and checkpoints to keep.

  Attributes:
    every: a duration.
    keep: newest checkpoints that are kept, beside the best.
    best: SET/METRIC that chooses the best; "": none.
    asynchronous: whether training continues while a checkpoint is written.
  """

  every: str
  keep: int
  best: str
  asynchronous: bool

  def __post_init__(self):
    errors.check(self.keep >= 1, "keep", "at least 1", self.keep)


@dataclasses.dataclass(frozen=True)
class Parallel:
  """Distribution of a step over devices.

  Attributes:
    strategy: "jit" or "pmap".
    devices: how many, 0: all.
    fsdp: devices that share one copy of the state, under jit.
    batch_norm: statistics of the "global" batch or "per_device".
    microbatches: parts of a batch, computed one after the other; BatchNorm
      normalizes each alone, and its running statistics move with each.
  """

  strategy: str = "jit"
  devices: int = 0
  fsdp: int = 1
  batch_norm: str = GLOBAL
  microbatches: int = 1

  def __post_init__(self):
    if self.batch_norm not in (GLOBAL, PER_DEVICE):
      raise errors.InputError(
        "batch_norm", f"{GLOBAL} or {PER_DEVICE}", repr(self.batch_norm)
      )


@dataclasses.dataclass(frozen=True)
class Config:
  """All of a run.

  Attributes:
    recipe, data, steps, logging, evaluation, checkpoint, parallel: sections.
    input: settings of `input_pipelines.build_train_pipeline`.
    deterministic: whether equal runs end bit-equal on GPUs too, which costs
      time; on CPUs and TPUs they always do.
    plugins: modules that are imported first, see docs/extending.md.
  """

  recipe: Recipe
  data: DataSection
  input: Settings
  steps: StepsSection
  logging: Logging
  evaluation: EvaluationSection
  checkpoint: Checkpoint
  parallel: Parallel
  deterministic: bool
  plugins: Sequence[str] = ()

  def __post_init__(self):
    # Numbers of examples and steps are not known yet.
    check = config_utils.Durations(1, config_utils.MOST).steps
    check(self.steps.total, "steps.total")
    check = config_utils.Durations(1, config_utils.MOST, 1).steps
    check(self.recipe.schedule.warmup, "schedule.warmup")
    for name in ("logging", "evaluation", "checkpoint"):
      check(getattr(self, name).every, f"{name}.every")
    for alias, entry in self.evaluation.sets.items():
      check(entry.every, f"evaluation.sets.{alias}.every")
    weights = self.recipe.loss.class_weights
    fits = not weights or not self.data.balanced
    expected = "none with data.balanced=True"
    errors.check(fits, "loss.class_weights", expected, repr(weights))
    sets = list(self.evaluation.sets)
    if self.recipe.ema.decay:
      sets += [alias + run_files.EMA for alias in sets]
    alias, _, metric = self.checkpoint.best.partition("/")
    metrics = [name for name, spec in specs.METRICS.items() if spec.selects]
    if self.checkpoint.best and (alias not in sets or metric not in metrics):
      raise errors.InputError(
        "checkpoint.best",
        f"SET/METRIC with a set of {', '.join(sets) or 'none'} and a metric of"
        f" {', '.join(metrics)}",
        repr(self.checkpoint.best),
      )


_RECIPE = tuple(field.name for field in dataclasses.fields(Recipe))
_REST = tuple(field.name for field in dataclasses.fields(Config))[1:]
# Absent in configs of older versions; all of its keys have defaults.
_OPTIONAL = ("prng", "init")
_ABSENT = {**dict.fromkeys(_OPTIONAL, {}), "plugins": ()}
_INIT_FROM = "init_from"  # of section checkpoint in older versions


def parse(config: ml_collections.ConfigDict) -> Config:
  """Returns the sections of a config.

  Args:
    config: as `configs.common.base_config`, filled.

  Raises:
    InputError: an unknown or missing key, a value of another type or out of
      range. Settings of models, optimizers and the like are checked by their
      builders, before data are read.
  """
  values = {**_ABSENT, **ml_collections.ConfigDict(config).to_dict()}
  plugins.load(values["plugins"])
  values["checkpoint"] = _drop_init_from(values.get("checkpoint"))
  config_utils.check_sections(values, dict.fromkeys((*_RECIPE, *_REST)))
  data = _build(DataSection, values["data"], "data.")
  kinds = {
    name: kind
    for name, kind in typing.get_type_hints(Config).items()
    if name in ("steps", "logging", "checkpoint", "parallel")
  }
  return Config(
    recipe=parse_recipe({name: values[name] for name in _RECIPE}),
    data=data,
    input=_tuples(values["input"], "input."),
    evaluation=_parse_evaluation(
      values["evaluation"], data, values["input"].get("size")
    ),
    deterministic=_check_bool("deterministic", values["deterministic"]),
    plugins=tuple(values["plugins"]),
    **{name: _build(kinds[name], values[name], f"{name}.") for name in kinds},
  )


def _drop_init_from(checkpoint: Any) -> Any:
  """Returns the section without the old key. Raises InputError: it is set."""
  if not _is_section(checkpoint):
    return checkpoint
  if given := checkpoint.get(_INIT_FROM):
    fix = "init.source replaces it and starts at step 0"
    key = f"checkpoint.{_INIT_FROM}"
    raise errors.InputError(key, "no value", repr(given), fix)
  return {k: v for k, v in checkpoint.items() if k != _INIT_FROM}


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
  """Returns the recipe of plain sections. Raises InputError, see `parse`."""
  for section, value in values.items():
    if section in (*_NAMED, "augment"):
      _check_settings(section, value)
  hints = typing.get_type_hints(Recipe)
  sections = {
    name: value
    if hints[name] is int
    else _build(hints[name], value, f"{name}.")
    for name, value in values.items()
  }
  return typed.build_dataclass(Recipe, sections)


def _parse_evaluation(
  values: Mapping[str, Any], data: DataSection, size: int | None
) -> EvaluationSection:
  """Returns the section; images have the size of training if it has none."""
  prefix = "evaluation."
  known = [field.name for field in dataclasses.fields(EvaluationSection)]
  config_utils.check_keys(_tuples(values, prefix), known, prefix)
  sets = parse_sets(values, data)
  shift = _tuples(values["shift"], f"{prefix}shift.")
  removed = [alias for alias in values["sets"] if alias not in sets]
  compared = shift.get("sets")
  if removed and isinstance(compared, tuple):
    kept = tuple(alias for alias in compared if alias not in removed)
    shift = {**shift, "sets": kept} if kept else {}
  built = {
    "input": ({} if size is None else {"size": size})
    | _tuples(values["input"], f"{prefix}input."),
    "sets": sets,
    "warnings": _build(
      diagnostics.Thresholds, values["warnings"], f"{prefix}warnings."
    ),
    "shift": shift_lib.check(shift, sets),
  }
  return _build(EvaluationSection, {**values, **built}, prefix)


def parse_sets(
  values: Mapping[str, Any], data: DataSection
) -> dict[str, EvaluationSet]:
  """Returns the sets of section evaluation, without those a flag removed.

  Args:
    values: of the section: `sets`, and `every`, which they inherit.
    data: section with further defaults.

  Raises:
    InputError: an unknown key or a value of another type.
  """
  inherited = {
    "name": data.name,
    "data_dir": data.data_dir,
    "options": data.options,
    "every": values["every"],
  }
  sets = {}
  for alias, entry in _tuples(values["sets"], "evaluation.sets.").items():
    if entry == "":
      continue
    key = f"evaluation.sets.{alias}."
    entry = inherited | _tuples(entry, key)
    if entry["name"] == data.name and isinstance(entry["options"], Mapping):
      entry["options"] = {**data.options, **entry["options"]}
    sets[alias] = _build(EvaluationSet, entry, key)
  return sets


def _build(kind: type, values: Mapping[str, Any], prefix: str) -> Any:
  """Returns a section; keys that it has no field for are its settings."""
  values = _tuples(values, prefix)
  names = {field.name for field in dataclasses.fields(kind)} - {"settings"}
  if "settings" in kind.__annotations__:
    settings = {k: v for k, v in values.items() if k not in names}
    values = {k: v for k, v in values.items() if k in names}
    values["settings"] = settings
  return typed.build_dataclass(kind, values, prefix)


def _check_settings(section: str, values: Mapping[str, Any]) -> None:
  """Raises InputError for a name or settings that no builder takes."""
  prefix = f"{section}."
  values = _tuples(values, prefix)
  known = find_known_keys({section: values})
  parameters = {key.removeprefix(prefix): p for key, p in known.items()}
  name = _find_name({section: values}, section)
  with config_utils.prefix_errors(prefix):
    # An empty name is left open, until an override sets it.
    if section in _NAMED and name:
      what = _NAMED[section][0].describe(name)
      registry.check_settings(what, parameters, values)
    for setting, value in values.items():
      if setting in parameters:
        typed.check_plain(setting, value, parameters[setting].annotation)


def _check_bool(setting: str, value: Any) -> bool:
  errors.check(isinstance(value, bool), setting, "True or False", repr(value))
  return value


def _tuples(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
  """Returns a section with tuples for lists. Raises InputError: no section."""
  if not isinstance(values, Mapping):
    raise errors.InputError(prefix.rstrip("."), "a section", repr(values))
  for name, value in values.items():
    _check_finite(f"{prefix}{name}", value)
  return {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in values.items()
  }


def _check_finite(setting: str, value: Any) -> None:
  """Raises InputError for NaN and infinity, alone or in a sequence."""
  for item in value if isinstance(value, list | tuple) else ():
    _check_finite(setting, item)
  if isinstance(value, float):
    errors.check(math.isfinite(value), setting, "a finite number", value)


# Section -> registry; arguments of builders that do not come from the config.
_NAMED: Mapping[str, tuple[registry.Registry, tuple[str, ...]]] = {
  "model": (
    models.BUILDERS,
    ("num_classes", "image_shape", "dtype", "statistics"),
  ),
  "optim": (optim_lib.OPTIMIZERS, ("schedule",)),
  "schedule": (optim_lib.SCHEDULES, ("total_steps", "warmup_steps")),
  "loss": (losses.LOSSES, ()),
}


_MASKS, _SETS = "evaluation.class_masks", "evaluation.sets."
_SET_OPTIONS = re.compile(r"evaluation\.sets\.[^.]+\.options\..*")

# Arguments of preprocess.sample that are no settings.
_SAMPLED = ("images", "index", "epoch", "step_key", "whole_batch")


def find_known_keys(
  config: Mapping[str, Any],
) -> dict[str, inspect.Parameter]:
  """Returns what the sections of a config take, by dotted key.

  Args:
    config: of a run, whole or not; other sections give nothing.

  Returns:
    Parameters with types and defaults, whether or not the config sets them.
  """
  found = {}
  for prefix, function, hidden in find_signatures(config):
    for name, parameter in inspect.signature(function).parameters.items():
      if name not in hidden and parameter.kind is not parameter.VAR_KEYWORD:
        found[prefix + name] = parameter
  return found


def find_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns default values by dotted key, as JSON has them."""
  defaults = {
    key: _to_json(parameter.default)
    for key, parameter in find_known_keys(config).items()
    # Those of a set's options are in section data.
    if parameter.default is not parameter.empty
    and not _SET_OPTIONS.fullmatch(key)
  }
  checkpoint, steps = config.get("checkpoint"), config.get("steps")
  if _is_section(checkpoint) and _is_section(steps):
    source = checkpoint.get(_INIT_FROM) or ""
    # Older versions evaluated a run so.
    if source.endswith(f"@{str(steps.get('total')).removesuffix(' steps')}"):
      defaults |= {"init.source": source, "init.train": False}
  return defaults


def _to_json(value: Any) -> Any:
  return [*map(_to_json, value)] if isinstance(value, tuple) else value


def find_signatures(
  config: Mapping[str, Any],
) -> Iterator[tuple[str, Any, Sequence[str]]]:
  """Yields what takes the keys of a config.

  Args:
    config: see `find_known_keys`.

  Yields:
    Prefix of the keys, callable with a docstring, and its arguments that are no
    keys.
  """
  kinds = {**typing.get_type_hints(Recipe), **typing.get_type_hints(Config)}
  del kinds["recipe"]  # No section.
  for section, kind in kinds.items():
    # Configs of benchmarks have other sections.
    there = _is_section(config.get(section))
    there |= section in _OPTIONAL and "steps" in config
    if there and dataclasses.is_dataclass(kind):
      yield f"{section}.", kind, ("settings",)
  for section, (builders, hidden) in _NAMED.items():
    builder = builders.get(_find_name(config, section))
    if builder is not None:
      yield f"{section}.", builder, hidden
  if _is_section(config.get("data")):
    yield _find_source("data.", _find_name(config, "data"))
  fixed = ("self", "split", "seed", "bad")
  for section, function, hidden in (
    ("optim", optim_lib.build_optimizer, ("name", "schedule")),
    ("schedule", optim_lib.build_schedule, ("name", "total_steps")),
    ("augment", preprocess.sample, _SAMPLED),
  ):
    if section in config:
      yield f"{section}.", function, hidden
  if "input" in config:
    from imgbench.data import input_pipelines

    yield "input.", input_pipelines.build_train_pipeline, fixed
  if "evaluation" in config:
    from imgbench.data import input_pipelines

    yield "evaluation.input.", input_pipelines.build_eval_pipeline, fixed
    yield "evaluation.warnings.", diagnostics.Thresholds, ()
    yield "evaluation.shift.", shift_lib.Shift, ()
    for alias, entry in config["evaluation"].get("sets", {}).items():
      if _is_section(entry):
        prefix = f"evaluation.sets.{alias}."
        yield prefix, EvaluationSet, ()
        name = entry.get("name") or _find_name(config, "data")
        yield _find_source(prefix, name)


def _find_source(prefix: str, name: str) -> tuple[str, Any, Sequence[str]]:
  """Returns what takes the options of a data set, see `find_signatures`."""
  # Imported here: benchmarks run without decoders and TFDS.
  from imgbench.data import encoded

  # Both sources of sets that TFDS prepares take the same options.
  source = data_lib.SOURCES.get(name) or encoded.TfdsEncodedSource
  return f"{prefix}options.", source, ("name", "split", "data_dir")


def _is_section(values: Any) -> bool:
  return isinstance(values, Mapping | ml_collections.ConfigDict)


def _find_name(config: Mapping[str, Any], section: str) -> str:
  values = config.get(section)
  # Sections of benchmarks may be lists.
  return str(values.get("name") if hasattr(values, "get") else None)


def extend(
  config: ml_collections.ConfigDict, overrides: Mapping[str, str]
) -> None:
  """Prepares a config so that each override of a key that it takes can be set.

  Adds keys and sections that the config lacks and builders take. A section
  whose name is overridden loses the settings that its new builder does not
  take. A warning names what the file chose for another optimizer.

  Args:
    config: read from its file, not locked.
    overrides: dotted key -> text, of the command line.
  """
  _drop_init_from({_INIT_FROM: overrides.get(f"checkpoint.{_INIT_FROM}")})
  optimizer = _find_name(config, "optim")
  for section in (*_NAMED, "data"):
    name = overrides.get(f"{section}.name")
    if name is not None and _is_section(config.get(section)):
      _rename(config, section, name)
  sets = config.get("evaluation", {}).get("sets")
  if _is_section(sets):
    _change_sets(sets, overrides)
  known = find_known_keys(config)
  for key, text in overrides.items():
    section, _, name = key.rpartition(".")
    if key.startswith((_SETS, _MASKS)):
      parts = [f"--config.{key}", "names of letters, digits and _", text]
      errors.check(all(map(str.isidentifier, key.split("."))), *parts)
    is_mask = section == _MASKS and _has_key(config, section)
    kind = str if is_mask else key in known and _find_type(known[key])
    if not kind:
      continue
    values = config
    for part in section.split("."):
      if part not in values:
        values[part] = {}
      values = values[part]
    if name not in values or values.get_type(name) is not kind:
      _set_type(values, name, kind)
  if optimizer and optimizer != _find_name(config, "optim"):
    _warn_inherited(config, overrides, optimizer)


def _change_sets(
  sets: ml_collections.ConfigDict, overrides: Mapping[str, str]
) -> None:
  """Adds sets whose split is given; lets an empty text remove one."""
  for key, text in overrides.items():
    alias, _, field = key.removeprefix(_SETS).partition(".")
    if not key.startswith(_SETS):
      continue
    if field == "split" and not sets.get(alias):
      _set_type(sets, alias, ml_collections.ConfigDict)
    elif not field and not text and alias in sets:
      _set_type(sets, alias, str)


def _set_type(values: ml_collections.ConfigDict, name: str, kind: type) -> None:
  """Lets a flag give a key a value of a type."""
  if name in values:
    del values[name]
  is_section = kind is ml_collections.ConfigDict
  values[name] = {} if is_section else config_dict.placeholder(kind)


@functools.cache  # Points of a sweep have the same text.
def _warn(text: str) -> None:
  logging.warning("%s", text)


def _warn_inherited(
  config: ml_collections.ConfigDict, overrides: Mapping[str, str], before: str
) -> None:
  """Warns if the learning rate was chosen for another optimizer."""
  if "schedule.peak" in overrides or not _has_key(config, "schedule.peak"):
    return
  kept = {
    f"{section}.{name}": value
    for section in ("schedule", "optim")
    for name, value in config[section].items()
    if name != "name" and f"{section}.{name}" not in overrides
  }
  values = ", ".join(f"{key}={value}" for key, value in kept.items())
  _warn(
    f"config.optim.name={config.optim.name} keeps values that the file chose"
    f" for {before}: {values}; --config.schedule.peak sets the learning rate"
  )


def _has_key(config: ml_collections.ConfigDict, key: str) -> bool:
  section, _, name = key.rpartition(".")
  try:
    return name in (_find_section(config, section) if section else config)
  except (AttributeError, KeyError, TypeError):
    return False


def _rename(config: ml_collections.ConfigDict, section: str, name: str) -> None:
  if name == config[section].get("name"):
    return
  if section in _NAMED and name not in _NAMED[section][0]:
    return  # The builder refuses an unknown name.
  config[section].name = name
  path = "data.options" if section == "data" else section
  known, settings = find_known_keys(config), _find_section(config, path)
  dropped = [key for key in settings if f"{path}.{key}" not in known]
  for key in dropped:
    del settings[key]
  if dropped:
    logging.info(
      "config.%s.name=%s: settings of the file that it does not take are left"
      " out: %s",
      section,
      name,
      ", ".join(dropped),
    )


def _find_section(config, path: str) -> ml_collections.ConfigDict:
  for part in path.split("."):
    config = config[part]
  return config


def _find_type(parameter: inspect.Parameter) -> type | None:
  """Returns the type of a setting's flag; None: not one that a flag can have.

  Flags of the type object take any Python literal, None too.
  """
  annotation = parameter.annotation
  origin = typing.get_origin(annotation)
  if origin in (tuple, collections.abc.Sequence):
    return tuple
  if origin is collections.abc.Mapping:
    return ml_collections.ConfigDict
  kinds = typing.get_args(annotation) or (annotation,)
  kind = next((k for k in (bool, int, float, str) if k in kinds), None)
  return object if kind and type(None) in kinds else kind
