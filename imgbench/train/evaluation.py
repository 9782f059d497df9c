"""Section evaluation of a config to evaluators."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

from absl import logging
import ml_collections
import numpy as np

from imgbench import config_utils
from imgbench import errors
from imgbench import evaluators
from imgbench import parallel
from imgbench import registry
from imgbench import run_files
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import classification
from imgbench.evaluators import shift
from imgbench.evaluators import splits
from imgbench.labels import classes
from imgbench.labels import masks
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import diagnostics
from imgbench.train import inputs

KEYS = (
  "every",
  "batch_size",
  "flip_average",
  "ks",
  "alpha",
  "class_masks",
  "warnings",
  "input",
  "shift",
  "sets",
)
# Of what a set's data are, as in section data, and how it is evaluated.
_SOURCE_KEYS = ("split", "name", "data_dir", "options")
_SET_KEYS = (
  "type",
  "every",
  "probabilities",
  "restrict_classes",
  *_SOURCE_KEYS,
)
# Evaluations of the moving average of the parameters, behind the alias.
_FLIPPED = "logits averaged over an image and its mirror"

BuildSource = Callable[[Any, str], source.Source]


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be evaluated, checked before anything is read.

  Attributes:
    sources: by alias.
    types: evaluator types by alias.
    arguments: of each evaluator, by alias.
    shift: the sets whose drop from a base set is measured, or None.
    class_masks: subsets of classes that the config names a file for.
    protocol: how predictions are made, if not by one plain forward pass.
  """

  sources: Mapping[str, source.Source]
  types: Mapping[str, Callable[..., base.Evaluator]]
  arguments: Mapping[str, dict[str, Any]]
  shift: shift.Shift | None
  class_masks: Mapping[str, np.ndarray]
  protocol: str

  def with_drops(
    self, evaluations: Mapping[str, base.Evaluation]
  ) -> dict[str, base.Evaluation]:
    """Returns the evaluations, the shifted ones with their drops."""
    return shift.with_drops(
      evaluations,
      self.shift,
      class_masks=self.class_masks,
      protocol=self.protocol,
    )


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
      types[alias].check(split.info)
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
      "restrict_classes": bool(entry.get("restrict_classes", False)),
    }
  return Plan(
    sources,
    types,
    arguments,
    shift=_shift(section),
    class_masks=class_masks,
    protocol=_FLIPPED if section.flip_average else "",
  )


def _shift(section) -> shift.Shift | None:
  found = shift.check(section.shift, section.sets)
  if found and section.sets[found.base].get("restrict_classes", False):
    raise errors.InputError(
      f"evaluation.shift.base: expected a set without restrict_classes, got"
      f" {found.base!r}. Its predictions are counted among the classes of each"
      " set that it is compared with; evaluate it without"
    )
  return found


def build_predict_fn(
  config: ml_collections.ConfigDict, apply: Callable, normalize: Callable
) -> base.PredictFn:
  """Returns how the evaluations of a run make logits of images."""

  def predict_fn(variables, images):
    images = normalize(images)
    logits, _ = apply(variables, images, False)
    if config.evaluation.flip_average:
      mirrored, _ = apply(variables, images[:, :, ::-1], False)
      logits = (logits + mirrored) / 2
    return logits

  return predict_fn


def build(
  plan: Plan,
  config: ml_collections.ConfigDict,
  strategy: parallel.Strategy,
  apply: Callable,
  normalize: Callable,
  load: Callable[[source.Source], source.Examples],
  fold: base.Fold,
) -> dict[str, base.Evaluator]:
  """Returns the evaluators by alias; reads their splits with `load`.

  Where parameters are averaged there is a second one of each, `<alias>_ema`.
  """
  predict_fn = build_predict_fn(config, apply, normalize)
  kinds = ("raw", "ema") if config.ema.decay else ("raw",)
  loaded = {
    alias: _split(found, config, strategy, load)
    for alias, found in plan.sources.items()
  }
  compared_masks = _compared_masks(plan, loaded)
  built = {}
  compiled_pass = None
  for alias, split in loaded.items():
    if compiled_pass is None:
      compiled_pass = base.CompiledPass(
        predict_fn,
        strategy,
        config.evaluation.batch_size,
        split.info.num_classes,
        tuple(config.evaluation.ks),
        fold,
      )
    is_base = plan.shift is not None and alias == plan.shift.base
    for kind in kinds:
      name = alias + (run_files.EMA if kind == "ema" else "")
      built[name] = plan.types[alias](
        split,
        compiled_pass=compiled_pass,
        protocol=plan.protocol,
        parameters=kind,
        compared_masks=compared_masks if is_base else (),
        **plan.arguments[alias],
      )
  return built


def _compared_masks(
  plan: Plan, loaded: Mapping[str, splits.Split]
) -> list[np.ndarray]:
  """The class masks under which the base set of drops is counted too.

  Those of the sets that are compared with it, each once: accuracies of 200-way
  and of 1,000-way predictions are no drop.
  """
  wanted = plan.shift.sets if plan.shift else ()
  masks = [
    classification.occurring(loaded[alias])
    for alias in wanted
    if plan.arguments[alias]["restrict_classes"]
  ]
  return list(np.unique(masks, axis=0)) if masks else []


def _split(found, config, strategy, load) -> splits.Split:
  if not found.info.streamed:
    return splits.ResidentSplit(found.info, load(found), strategy)
  decoded, _ = inputs.eval_pipeline(config.evaluation.input, found)
  logging.info("reading labels of %s: %d", found.info.key, len(found))
  return splits.StreamedSplit(found.info, found.examples(), strategy, decoded)


def trained_shares(
  plan: Plan,
  evaluators_by_alias: Mapping[str, base.Evaluator],
  train_source: source.Source | source.EncodedSource,
  train_ids: np.ndarray | None,
) -> dict[str, float]:
  """Returns by alias the share of a split that is trained on.

  Args:
    plan: of the evaluations.
    evaluators_by_alias: made from it.
    train_source: of the training split.
    train_ids: str [N], its image ids; None where it is streamed.
  """
  shares = {}
  for alias, evaluator in evaluators_by_alias.items():
    found = plan.sources[alias.removesuffix(run_files.EMA)]
    if found.info.name != train_source.info.name:
      shares[alias] = 0.0
    elif train_ids is None:
      shares[alias] = found.shared_with(train_source)
    else:
      seen = np.isin(evaluator.examples.image_id, train_ids)
      shares[alias] = float(seen.mean())
  return shares


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
  if info.streamed:
    return
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
        path, info.num_classes, info.class_names, _wnids(info)
      )
  return found


def _wnids(info: source.Info) -> tuple[str, ...]:
  imagenet = info.class_names == classes.short_names()
  return classes.imagenet_classes().wnids if imagenet else ()


def _evaluator_type(key: str, entry):
  wanted = entry.get("type", "classification")
  if wanted not in evaluators.EVALUATORS:
    raise errors.InputError(
      f"{key}.type: unknown type {wanted!r};"
      f" {registry.near_names(wanted, evaluators.EVALUATORS)}"
    )
  return evaluators.EVALUATORS[wanted]
