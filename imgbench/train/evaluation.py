"""The evaluations of a run: from section evaluation to evaluators."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any
import zlib

from absl import logging
import numpy as np

from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import data
from imgbench import errors
from imgbench import evaluators
from imgbench import parallel
from imgbench import registry
from imgbench import run_files
from imgbench.data import input_pipelines
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import classification
from imgbench.evaluators import reconstruction
from imgbench.evaluators import shift
from imgbench.evaluators import splits
from imgbench.labels import classes
from imgbench.labels import known_leaks
from imgbench.labels import masks
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import specs
from imgbench.parallel import arrays
from imgbench.train import compute as compute_lib


@dataclasses.dataclass(frozen=True)
class Plan:
  """The evaluations of a run, checked before anything is read.

  Attributes:
    sources: by alias.
    arguments: of each evaluator, by alias.
    shift: the sets whose drop from a base set is measured, or None.
    class_masks: subsets of classes that the config names a file for.
    protocol: how predictions are made, if not by one plain forward pass.
    known_leaks: images that the training data has too.
    thresholds: of anomaly detection, by alias of the set that is judged.
  """

  sources: Mapping[str, source.AnySource]
  arguments: Mapping[str, dict[str, Any]]
  shift: shift.Shift | None
  class_masks: Mapping[str, np.ndarray]
  protocol: str
  known_leaks: known_leaks.Known
  thresholds: Mapping[str, reconstruction.Threshold]

  def compare(
    self, evaluations: Mapping[str, base.Evaluation]
  ) -> dict[str, base.Evaluation]:
    """Returns the evaluations with the results that need two of them.

    Drops of shifted sets, and anomalies by a threshold of another set.
    """
    found = shift.add_drops(
      evaluations,
      self.shift,
      class_masks=self.class_masks,
      protocol=self.protocol,
    )
    suffixes = ("", run_files.EMA)
    return reconstruction.add_thresholds(found, self.thresholds, suffixes)


def plan(
  section: config_lib.EvaluationSection, train_info: source.Info
) -> Plan:
  """Returns the evaluations that a config asks for.

  Args:
    section: evaluation.
    train_info: of the training split, whose classes and shapes must be met.

  Raises:
    InputError: splits that do not fit or are evaluated twice, class masks that
      cannot be read.
  """
  with config_utils.prefix_errors("evaluation."):
    counts_lib.empty(train_info.num_classes, section.ks)
  # The classes of all splits are the same.
  class_masks = read_class_masks(section.class_masks, train_info)
  sources: dict[str, source.AnySource] = {}
  for alias, entry in section.sets.items():
    key = f"evaluation.sets.{alias}"
    split = data.open_split(
      key,
      "split",
      name=entry.name,
      split=entry.split,
      data_dir=entry.data_dir,
      options=entry.options,
    )
    with config_utils.prefix_errors(f"{key}."):
      evaluators.EVALUATORS[entry.type].check(split.info)
    _check_fits(key, split.info, train_info)
    for other, found in sources.items():
      if found.info.key == split.info.key:
        raise errors.InputError(
          key,
          "each data set and split once, as these name results",
          f"{split.info.key} as {other} too",
        )
    for name in class_masks:
      if name in split.info.subsets:
        raise errors.InputError(
          f"evaluation.class_masks.{name}",
          f"a name that is no subset of {split.info.key}",
          name,
        )
    sources[alias] = split
  return Plan(
    sources,
    arguments={
      alias: {
        "alpha": section.alpha,
        "class_masks": class_masks,
        **_find_arguments(alias, entry, sources[alias].info, class_masks),
      }
      for alias, entry in section.sets.items()
    },
    shift=section.shift,
    class_masks=class_masks,
    protocol=specs.MIRRORED if section.flip_average else "",
    known_leaks=read_known_leaks(section),
    thresholds=_find_thresholds(section),
  )


# Settings of a set that the type "reconstruction" has no use for, and that only
# it has, with their defaults.
_OF_CLASSES = {"probabilities": None, "restrict_classes": False}
_OF_IMAGES = {"abnormal": (), "threshold_from": "", "recall": 0.9}


def _find_arguments(
  alias: str,
  entry: config_lib.EvaluationSet,
  info: source.Info,
  class_masks: Mapping[str, np.ndarray],
) -> dict[str, Any]:
  """Returns the arguments of a set's evaluator that depend on its type."""
  reconstructs = evaluators.EVALUATORS[entry.type].reconstructs
  for name, default in (_OF_CLASSES if reconstructs else _OF_IMAGES).items():
    errors.check(
      getattr(entry, name) == default,
      f"evaluation.sets.{alias}.{name}",
      f"none with type {entry.type}",
      repr(getattr(entry, name)),
    )
  if not reconstructs:
    return {name: getattr(entry, name) for name in _OF_CLASSES}
  if not entry.abnormal:
    return {"abnormal": None}
  known = {**info.subsets, **class_masks}
  for i, name in enumerate(info.class_names):
    known.setdefault(name, np.arange(info.num_classes) == i)
  for name in entry.abnormal:
    if name not in known:
      raise errors.InputError(
        f"evaluation.sets.{alias}.abnormal",
        f"names of classes or subsets of {info.key}",
        repr(name),
        registry.near_names(name, known),
      )
  return {"abnormal": np.any([known[n] for n in entry.abnormal], axis=0)}


def _find_thresholds(
  section: config_lib.EvaluationSection,
) -> dict[str, reconstruction.Threshold]:
  """Returns the choice of thresholds by alias. Raises InputError."""
  found = {}
  measured = [alias for alias, entry in section.sets.items() if entry.abnormal]
  for alias, entry in section.sets.items():
    errors.check(
      bool(entry.threshold_from) or entry.recall == _OF_IMAGES["recall"],
      f"evaluation.sets.{alias}.recall",
      "none without `threshold_from`",
      entry.recall,
    )
    if entry.threshold_from:
      others = [other for other in measured if other != alias]
      errors.check(
        alias in measured and entry.threshold_from in others,
        f"evaluation.sets.{alias}.threshold_from",
        "another set, and `abnormal` in both",
        repr(entry.threshold_from),
      )
      found[alias] = reconstruction.Threshold(
        entry.threshold_from, entry.recall
      )
  return found


def check_model(
  section: config_lib.EvaluationSection, best: str, reconstructs: bool
) -> None:
  """Raises InputError unless sets are evaluated as what a model returns.

  Args:
    section: evaluation.
    best: of section checkpoint.
    reconstructs: whether the model returns images.
  """
  what = "images" if reconstructs else "logits"
  for alias, entry in section.sets.items():
    errors.check(
      evaluators.EVALUATORS[entry.type].reconstructs == reconstructs,
      f"evaluation.sets.{alias}.type",
      f"a type for a model that returns {what}",
      repr(entry.type),
    )
  if reconstructs:
    for name in ("flip_average", "shift", "known_leaks"):
      value = getattr(section, name)
      errors.check(
        not value, f"evaluation.{name}", "none for images", repr(value)
      )
  alias, _, metric = best.partition("/")
  judged = section.sets.get(alias.removesuffix(run_files.EMA))
  known = set(reconstruction.OF_IMAGES)
  if not reconstructs or (judged and judged.abnormal):
    known.update(reconstruction.OF_ANOMALIES)
  errors.check(
    not best or (metric in known) == reconstructs,
    "checkpoint.best",
    f"a metric of {what} that this set has",
    repr(best),
  )


def read_known_leaks(
  section: config_lib.EvaluationSection,
) -> known_leaks.Known:
  """Returns the images of the list of section evaluation; none without it."""
  if not section.known_leaks:
    return known_leaks.Known()
  with config_utils.prefix_errors("evaluation.known_leaks: "):
    return known_leaks.read(section.known_leaks)


def build_predict_fn(
  apply: Callable, normalize: Callable, flip_average: bool
) -> base.PredictFn:
  """Returns the function that computes the model's outputs of images.

  Args:
    apply: of the model.
    normalize: of `compute.Compute`.
    flip_average: whether outputs are averaged over an image and its mirror.
  """

  def predict_fn(variables, images):
    images = normalize(images)
    outputs, _ = apply(variables, images, False)
    if flip_average:
      mirrored, _ = apply(variables, images[:, :, ::-1], False)
      outputs = (outputs + mirrored) / 2
    return outputs

  return predict_fn


def build(
  plan: Plan,
  section: config_lib.EvaluationSection,
  compute: compute_lib.Compute,
  load: Callable[[source.Source, source.BadExamples], source.Examples],
  *,
  averaged: bool,
) -> dict[str, base.Evaluator]:
  """Returns the evaluators by alias; reads their splits.

  Args:
    plan: of the evaluations.
    section: evaluation.
    compute: of the run.
    load: reads a split whose images have one size; counts bad examples.
    averaged: whether parameters are averaged; then there is a second evaluator
      of each split, `<alias>_ema`.
  """
  predict_fn = build_predict_fn(
    compute.model.apply, compute.normalize, section.flip_average
  )
  loaded = {
    alias: _open_split(
      found,
      section.input,
      compute.strategy,
      load,
      source.BadExamples(
        f"evaluation.sets.{alias}",
        section.sets[alias].on_bad_example,
        section.sets[alias].most_bad,
      ),
    )
    for alias, found in plan.sources.items()
  }
  _check_thresholds_apart(plan, loaded)
  compared_masks = _find_compared_masks(plan, loaded)
  built = {}
  passes: dict[type, Any] = {}  # one per kind, so that it is compiled once
  for alias, split in loaded.items():
    evaluator = evaluators.EVALUATORS[section.sets[alias].type]
    if evaluator.pass_class not in passes:
      passes[evaluator.pass_class] = evaluator.pass_class(
        predict_fn,
        compute.strategy,
        section.batch_size,
        split.info.num_classes,
        tuple(section.ks),
        compute.fold_for_evaluation,
      )
    is_base = plan.shift is not None and alias == plan.shift.base
    for kind in ("raw", "ema") if averaged else ("raw",):
      name = alias + (run_files.EMA if kind == "ema" else "")
      built[name] = evaluator(
        split,
        compiled_pass=passes[evaluator.pass_class],
        protocol=plan.protocol,
        parameters=kind,
        **({"compared_masks": compared_masks} if is_base else {}),
        **plan.arguments[alias],
      )
  return built


def _check_thresholds_apart(
  plan: Plan, loaded: Mapping[str, splits.Split]
) -> None:
  """Raises InputError if a threshold is judged on images it is chosen on."""
  for alias, choice in plan.thresholds.items():
    judged, chosen = loaded[alias], loaded[choice.chosen_on]
    if judged.info.name == chosen.info.name:
      same = np.isin(judged.examples.image_id, chosen.examples.image_id)
      errors.check(
        not same.any(),
        f"evaluation.sets.{alias}.threshold_from",
        f"a set without images of {judged.info.key}",
        f"{choice.chosen_on}, which has {same.sum():,} of {len(same):,}",
      )


def _find_compared_masks(
  plan: Plan, loaded: Mapping[str, splits.Split]
) -> list[np.ndarray]:
  """Returns the class masks under which the base set of drops is counted too.

  Those of the sets that are compared with it, each once: the difference of
  200-way and 1,000-way accuracies is no drop.
  """
  wanted = plan.shift.sets if plan.shift else ()
  masks = [
    classification.find_occurring(loaded[alias])
    for alias in wanted
    if plan.arguments[alias]["restrict_classes"]
  ]
  return list(np.unique(masks, axis=0)) if masks else []


def check_same_examples(key: str, image_ids: np.ndarray) -> None:
  """Checks that all processes skip the same examples of their copies.

  Args:
    key: of the split.
    image_ids: str [N], those that this process evaluates.

  Raises:
    InputError: other examples are damaged in another process, in all of them.
  """
  digest = zlib.crc32("\n".join(image_ids.tolist()).encode())
  own = np.array([[len(image_ids), digest]], np.uint32)
  found = np.asarray(arrays.gather_rows(own))
  if (found != found[0]).any():
    raise errors.InputError(
      key,
      "the same damaged examples in all processes",
      f"{', '.join(map(str, found[:, 0]))} examples without damage",
      "copy its files again",
    )


def _open_split(
  found: source.AnySource,
  settings: Mapping[str, Any],
  strategy: parallel.Strategy,
  load: Callable[[source.Source, source.BadExamples], source.Examples],
  bad: source.BadExamples,
) -> splits.Split:
  if not isinstance(found, source.EncodedSource):
    examples = load(found, bad)
    if bad.skips:
      check_same_examples(found.info.key, examples.image_id)
    return splits.ResidentSplit(found.info, examples, strategy, bad.skips)
  with config_utils.prefix_errors("evaluation.input."):
    decoded = registry.call(
      "evaluation.input",
      input_pipelines.build_eval_pipeline,
      split=found,
      bad=bad,
      **settings,
    )
  logging.info("reading labels of %s: %d", found.info.key, len(found))
  examples = found.examples(bad=bad)
  if bad.skips:
    check_same_examples(found.info.key, examples.image_id)
  return splits.StreamedSplit(
    found.info, examples, strategy, decoded, bad.skips
  )


def find_trained_shares(
  plan: Plan,
  evaluators_by_alias: Mapping[str, base.Evaluator],
  train_split: source.AnySource,
  train_ids: np.ndarray | None,
) -> dict[str, float]:
  """Returns by alias the fraction of a split that is trained on.

  Args:
    plan: of the evaluations.
    evaluators_by_alias: built from it.
    train_split: for training.
    train_ids: str [N], its image ids; None where it is streamed.
  """
  shares: dict[str, float] = {}
  for alias, evaluator in evaluators_by_alias.items():
    found = plan.sources[alias.removesuffix(run_files.EMA)]
    if found.info.name != train_split.info.name:
      shares[alias] = 0.0
    elif train_ids is not None:
      seen = np.isin(evaluator.examples.image_id, train_ids)
      shares[alias] = float(seen.mean())
    else:
      assert isinstance(found, source.EncodedSource)
      assert isinstance(train_split, source.EncodedSource)
      shares[alias] = found.shared_with(train_split)
  return shares


def _check_fits(key: str, info: source.Info, train_info: source.Info) -> None:
  if info.class_names != train_info.class_names:
    raise errors.InputError(
      key, f"the classes of {train_info.key}", f"others in {info.key}"
    )
  if not info.streamed and info.image_shape != train_info.image_shape:
    raise errors.InputError(
      key,
      f"images {list(train_info.image_shape)} as in {train_info.key}",
      f"{list(info.image_shape)} in {info.key}",
    )


def read_class_masks(
  section: Mapping[str, Any], info: source.Info
) -> dict[str, np.ndarray]:
  """Returns the subsets of classes that the config names a file for."""
  found = {}
  for name, path in section.items():
    key = f"evaluation.class_masks.{name}"
    if name == "all" or "/" in name or not isinstance(path, str):
      raise errors.InputError(
        key,
        "a name other than all, without a slash, and the path of a file of"
        " classes",
        repr(path),
      )
    imagenet = info.class_names == classes.short_names()
    wnids = classes.imagenet_classes().wnids if imagenet else ()
    with config_utils.prefix_errors(f"{key}: "):
      found[name] = masks.read_class_mask(
        path, info.num_classes, info.class_names, wnids
      )
  return found
