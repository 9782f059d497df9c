"""Evaluates predictions of files with the evaluators of a run."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib

import numpy as np

from imgbench import config as config_lib
from imgbench import errors
from imgbench import evaluators
from imgbench import parallel
from imgbench.data import input_pipelines
from imgbench.data import pipeline
from imgbench.data import source
from imgbench.evaluators import base
from imgbench.evaluators import classification
from imgbench.evaluators import shift as shift_lib
from imgbench.evaluators import splits
from imgbench.papers import records
from imgbench.papers.readers import own
from imgbench.score import files
from imgbench.score import sets
from imgbench.train import evaluation

FILE, ID = "file", "id"  # orders of rows


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
  """A set with its predictions.

  Attributes:
    opened: the set.
    info: of the split.
    examples: N of them, with images if they are in memory.
    found: predictions of the file.
    rows: int64 [N], the row of each example in the file.
  """

  opened: sets.OpenSet
  info: source.Info
  examples: source.Examples
  found: files.Predictions
  rows: np.ndarray

  @property
  def dataset(self) -> records.Dataset:
    """The images, as readers of public predictions take them."""
    return describe_images(self.info, self.examples)


class _Rows:
  """Rows of a file in batches, as `pipeline.Pipeline` yields images."""

  def __init__(self, scored: Scored):
    self._scored = scored

  def batches(self, orders):
    """Yields a batch for each (index, epoch)."""
    scored = self._scored
    for index, epoch in orders:
      yield pipeline.Batch(
        image=scored.found.take(scored.rows[index]),
        label=scored.examples.label[index],
        index=index,
        epoch=epoch,
        bad=np.zeros(len(index), bool),
      )


def describe_images(
  info: source.Info, examples: source.Examples
) -> records.Dataset:
  """Returns the images of a split with their labels."""
  return records.Dataset(
    name=info.key,
    image_ids=examples.image_id,
    labels=examples.label,
    class_names=info.class_names,
    subsets={},
    path=pathlib.Path(info.key),
  )


def match(
  found: files.Predictions, opened: Sequence[sets.OpenSet], order: str
) -> list[Scored]:
  """Returns the sets that a file is scored on, which share images.

  Args:
    found: predictions of the file.
    opened: the sets. Without ids in the file its rows are the images of the
      first one; the others have these images, or some of them.
    order: of such rows, FILE: that of the set, or ID: sorted by image id.

  Raises:
    InputError: another number of rows or of classes, images missing, doubled
      or unknown.
  """
  scored: list[Scored] = []
  image_ids = found.image_ids
  for one in opened:
    ranked, count = found.kind == files.RANKING, found.values.shape[1]
    if ranked:
      count = int(found.values.max(initial=0)) + 1
    info, examples = one.read(count, ranked)
    _check_classes(found, info)
    if image_ids is None:
      if len(found) != len(examples):
        expected = f"{len(examples):,} rows, an image of {info.key} each"
        fix = "or give ids: --ids"
        raise errors.InputError(found.path, expected, f"{len(found):,}", fix)
      places = np.arange(len(examples))
      if order == ID:
        places = np.argsort(examples.image_id, kind="stable")
      image_ids = examples.image_id[places].tolist()
      rows = np.argsort(places)
    else:
      dataset = describe_images(info, examples)
      spelled = spell(image_ids, dataset.image_ids)
      rows = own.find_order(found.path, spelled, dataset)
    scored.append(Scored(one, info, examples, found, rows))
  return scored


def spell(image_ids: Sequence[str], wanted: np.ndarray) -> list[str]:
  """Returns image ids as a set spells them, where only folder or suffix differ.

  Args:
    image_ids: of a file.
    wanted: str [N], those of the set.
  """
  known = set(wanted.tolist())
  by_stem: dict[str, str | None] = {}
  for name in known:
    stem = pathlib.PurePosixPath(name).stem
    by_stem[stem] = None if stem in by_stem else name  # None: ambiguous.
  spelled = []
  for given in image_ids:
    name = given
    if given not in known:
      path = pathlib.PurePosixPath(given)
      name = by_stem.get(path.stem) or by_stem.get(path.name) or given
      if name == given and path.stem.startswith("ILSVRC2012_val_"):
        name = f"{path.stem}.JPEG"  # Another image of the validation set.
    spelled.append(name)
  return spelled


def _check_classes(found: files.Predictions, info: source.Info) -> None:
  count = info.num_classes
  if found.kind == files.RANKING:
    outside = (found.values >= count).any(axis=1)
    if outside.any():
      given = f"{found.values.max()}, and others in {outside.sum():,} rows"
      expected = f"classes below {count:,}, as {info.key} has"
      raise errors.InputError(found.path, expected, given)
    return
  given = found.values.shape[1]
  if given != count:
    expected = f"{count:,} columns, a class of {info.key} each"
    fix = "--background_first drops the first" if given == count + 1 else ""
    raise errors.InputError(found.path, expected, f"{given:,}", fix)


def evaluate(
  scored: Sequence[Scored],
  section: config_lib.EvaluationSection,
  shift: shift_lib.Shift | None,
  probabilities: bool = False,
) -> tuple[dict[str, base.Evaluation], dict[str, base.Evaluator]]:
  """Returns evaluations, with drops, and evaluators by name of the set.

  Args:
    scored: the sets.
    section: has coverage, k and masks of classes.
    shift: the sets whose drop from a base set is measured, or None.
    probabilities: whether to keep those of all classes of large sets, too.

  Raises:
    InputError: a ranking of some classes for a set of some classes.
  """
  strategy = parallel.create_strategy("jit")
  masks = evaluation.read_class_masks(section.class_masks, scored[0].info)
  built: dict[str, base.Evaluator] = {}
  passes: dict[tuple, base.CompiledPass] = {}
  for one in scored:
    entry, count = one.opened.entry, one.info.num_classes
    ranked = one.found.values.shape[1] * (one.found.kind == files.RANKING)
    known = ranked if 0 < ranked < count else np.inf
    if evaluators.EVALUATORS[entry.type].reconstructs:
      setting = f"evaluation.sets.{one.opened.name}.type"
      expected = "a type for predictions of classes"
      raise errors.InputError(setting, expected, repr(entry.type))
    is_base = shift is not None and one.opened.name == shift.base
    compared = _find_masks(scored, shift) if is_base else []
    if (entry.restrict_classes or compared) and known < count:
      whose = "a shifted set" if compared else one.info.key
      expected = (
        f"scores, or rankings of all {count:,} classes, as only those of"
        f" {whose} are predicted"
      )
      fix = f"--dataset={entry.name}:{entry.split} predicts among all"
      if compared:
        fix = "score that set alone"
      raise errors.InputError(one.found.path, expected, ranked, fix)
    ks = tuple(k for k in section.ks if k <= known)
    errors.check(bool(ks), "evaluation.ks", f"a k up to {ranked}", section.ks)
    key = count, ranked, ks
    if key not in passes:
      passes[key] = base.CompiledPass(
        lambda variables, rows: rows,
        strategy,
        section.batch_size,
        count,
        ks,
        ranked=ranked,
      )
    split = splits.StreamedSplit(one.info, one.examples, strategy, _Rows(one))
    built[one.opened.name] = evaluators.EVALUATORS[entry.type](
      split,
      compiled_pass=passes[key],
      alpha=section.alpha,
      class_masks=masks,
      probabilities=probabilities or entry.probabilities,
      restrict_classes=entry.restrict_classes,
      compared_masks=compared,
    )
  for one in scored:
    built[one.opened.name].images = _find_images(one, section.input)
  found = base.run(built, {classification.RAW: {}})
  return shift_lib.add_drops(found, shift, class_masks=masks), built


def find_shift(
  scored: Sequence[Scored],
  section: config_lib.EvaluationSection,
  of_file: Sequence[int],
) -> shift_lib.Shift | None:
  """Returns the drops of the config, or those from the first file's first set.

  The latter only if no set is of the config.

  Args:
    scored: the sets.
    section: of the config.
    of_file: number of the file of each set.
  """
  names = [one.opened.name for one in scored]
  if any(name in section.sets for name in names):
    wanted = section.shift
    shifted = wanted and [name for name in wanted.sets if name in names]
    if not shifted or wanted.base not in names:
      return None
    return shift_lib.Shift(wanted.base, tuple(shifted))
  first = scored[0]
  shifted = [
    one.opened.name
    for one, number in zip(scored, of_file, strict=True)
    if number and one.info.class_names == first.info.class_names
  ]
  return shift_lib.Shift(names[0], tuple(shifted)) if shifted else None


def _find_masks(scored, shift: shift_lib.Shift) -> list[np.ndarray]:
  masks = [
    classification.find_occurring(one)
    for one in scored
    if one.opened.name in shift.sets and one.opened.entry.restrict_classes
  ]
  return list(np.unique(masks, axis=0)) if masks else []


def _find_images(one: Scored, settings: Mapping):
  """Returns indices [n] -> uint8 images, for the page; None without images."""
  images = one.opened.images
  if images is None:
    return None
  if not isinstance(images, source.EncodedSource):
    return lambda indices: one.examples.image[indices]
  decoded = input_pipelines.build_eval_pipeline(split=images, **settings)

  def look_up(indices):
    index = np.asarray(indices, np.int32)
    (batch,) = decoded.batches([(index, np.zeros_like(index))])
    return batch.image

  return look_up
