"""Section evaluation of a config to evaluators."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

import ml_collections
import numpy as np

from imgbench import config_utils
from imgbench import errors
from imgbench import evaluators
from imgbench import parallel
from imgbench import registry
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.labels import masks
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import diagnostics

KEYS = (
  "every",
  "batch_size",
  "flip_average",
  "ks",
  "alpha",
  "class_masks",
  "warnings",
  "sets",
)
# Of what a set's data are, as in section data, and how it is evaluated.
_SOURCE_KEYS = ("split", "name", "data_dir", "options")
_SET_KEYS = ("type", "every", "probabilities", *_SOURCE_KEYS)

BuildSource = Callable[[Any, str], source.Source]


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be evaluated, checked before anything is read.

  Attributes:
    sources: by alias.
    types: evaluator types by alias.
    arguments: of each evaluator, by alias.
  """

  sources: Mapping[str, source.Source]
  types: Mapping[str, Callable[..., base.Evaluator]]
  arguments: Mapping[str, dict[str, Any]]


def thresholds(config: ml_collections.ConfigDict) -> diagnostics.Thresholds:
  """Returns those of `evaluation.warnings`. Raises InputError."""
  return registry.call(
    "config section evaluation.warnings",
    diagnostics.Thresholds,
    **config_utils.arguments(config.evaluation.warnings),
  )


def plan(
  config: ml_collections.ConfigDict,
  train_info: source.Info,
  build_source: BuildSource,
) -> Plan:
  """Returns what `evaluation` asks for.

  Args:
    config: of the run.
    train_info: of the training split, whose classes and shapes must be met.
    build_source: (section, split) -> source.

  Raises:
    InputError: unknown keys or types, splits that do not fit or are asked for
      twice, class masks that cannot be read.
  """
  section = config.evaluation
  if not 0 < section.alpha < 1:
    raise errors.InputError(
      f"evaluation.alpha: expected a number in (0, 1), got {section.alpha}"
    )
  with config_utils.errors_name("evaluation"):
    counts_lib.empty(train_info.num_classes, section.ks)
  # The classes of all splits are the same.
  class_masks = _class_masks(section.class_masks, train_info)
  sources, types, arguments = {}, {}, {}
  for alias, entry in section.sets.items():
    key = f"evaluation.sets.{alias}"
    _check_entry(key, alias, entry)
    types[alias] = _evaluator_type(key, entry)
    data = ml_collections.ConfigDict(
      {**config.data, **{k: v for k, v in entry.items() if k in _SOURCE_KEYS}}
    )
    with config_utils.errors_name(key):
      split = build_source(data, entry.split)
    _check_fits(key, split.info, train_info)
    twins = [a for a, s in sources.items() if s.info.key == split.info.key]
    if twins:
      raise errors.InputError(
        f"{key}: {split.info.key} is evaluated as {twins[0]} already; results"
        " are named by data set and split"
      )
    for name in class_masks:
      if name in split.info.subsets:
        raise errors.InputError(
          f"evaluation.class_masks.{name}: {split.info.key} has a subset of"
          " that name"
        )
    sources[alias] = split
    arguments[alias] = {
      "alpha": section.alpha,
      "class_masks": class_masks,
      "probabilities": entry.get("probabilities", None),
    }
  return Plan(sources, types, arguments)


def build(
  plan: Plan,
  config: ml_collections.ConfigDict,
  strategy: parallel.JitStrategy,
  apply: Callable,
  normalize: Callable,
  load: Callable[[source.Source], source.Examples],
) -> dict[str, base.Evaluator]:
  """Returns the evaluators by alias; reads their splits with `load`."""
  flip = config.evaluation.flip_average

  def predict_fn(variables, images):
    images = normalize(images)
    logits, _ = apply(variables, images, False)
    if flip:
      mirrored, _ = apply(variables, images[:, :, ::-1], False)
      logits = (logits + mirrored) / 2
    return logits

  built = {}
  compiled_pass = None
  for alias, split in plan.sources.items():
    if compiled_pass is None:
      compiled_pass = base.CompiledPass(
        predict_fn,
        strategy,
        config.evaluation.batch_size,
        split.info.num_classes,
        tuple(config.evaluation.ks),
      )
    built[alias] = plan.types[alias](
      load(split),
      split.info,
      compiled_pass=compiled_pass,
      strategy=strategy,
      protocol="logits averaged over an image and its mirror" if flip else "",
      **plan.arguments[alias],
    )
  return built


def _check_entry(key: str, alias: str, entry) -> None:
  for name in entry:
    if name not in _SET_KEYS:
      near = registry.near_names(name, _SET_KEYS)
      raise errors.InputError(f"{key}.{name}: unknown config key; {near}")
  if "split" not in entry:
    raise errors.InputError(f"{key}.split: expected a split, not there")
  if alias in ("train", "time") or "/" in alias:
    raise errors.InputError(
      f"{key}: the names train and time, and a slash, are taken"
    )
  probabilities = entry.get("probabilities", None)
  if probabilities not in (None, True, False):
    raise errors.InputError(
      f"{key}.probabilities: expected True, False or None, got"
      f" {probabilities!r}"
    )


def _check_fits(key: str, info: source.Info, train_info: source.Info) -> None:
  if info.class_names != train_info.class_names:
    raise errors.InputError(
      f"{key}: {info.key} has other classes than {train_info.key}"
    )
  if info.image_shape != train_info.image_shape:
    raise errors.InputError(
      f"{key}: {info.key} has images {list(info.image_shape)}, expected"
      f" {list(train_info.image_shape)} as in {train_info.key}"
    )


def _class_masks(section, info: source.Info) -> dict[str, np.ndarray]:
  """Subsets of classes that the config names a file for."""
  found = {}
  for name, path in section.items():
    key = f"evaluation.class_masks.{name}"
    if name == "all" or "/" in name or not isinstance(path, str):
      raise errors.InputError(
        f"{key}: expected a name other than all, without a slash, and the path"
        f" of a file of classes, got {path!r}"
      )
    with config_utils.errors_name(key):
      found[name] = masks.read_class_mask(
        path, info.num_classes, info.class_names
      )
  return found


def _evaluator_type(key: str, entry):
  wanted = entry.get("type", "classification")
  if wanted not in evaluators.EVALUATORS:
    raise errors.InputError(
      f"{key}.type: unknown type {wanted!r};"
      f" {registry.near_names(wanted, evaluators.EVALUATORS)}"
    )
  return evaluators.EVALUATORS[wanted]
