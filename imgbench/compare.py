"""Compares finished runs on the images that they share.

imgbench compare runs/a runs/b --out=runs/a_and_b

RUN is the folder of a run, or of imgbench score. The first run is compared with
each other one, on all evaluation sets that both have: differences of accuracies
with paired intervals, the images that only one of them has right, McNemar's
exact and mid-p-values, adjusted by Holm over all rows, per subset and per
class. Runs that differ only in the seed are one group: its variance is split
into training noise and sampling of the test set. --out receives all rows as
CSV, a page, and contact sheets of images that only one run has right. Exit
codes: 0 done, 2 bad input.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
import json
import re
from typing import Any

from absl import flags
import numpy as np

from imgbench import cli
from imgbench import commands
from imgbench import config as config_lib
from imgbench import data
from imgbench import errors
from imgbench import paths
from imgbench import run_files
from imgbench import texts
from imgbench import writers
from imgbench.data import image_decode
from imgbench.data import source
from imgbench.labels import annotations
from imgbench.metrics import paired
from imgbench.metrics import seeds
from imgbench.papers import paired_table
from imgbench.report import inputs
from imgbench.tables import entries
from imgbench.tables import formats
from imgbench.tables import page
from imgbench.tables import table

PAGE = "comparison.html"
_TOP1 = "top1_accuracy"
_CLASS_MEANS = (
  "top1_accuracy.class_mean",
  "multilabel_accuracy.tfds",
  "real_accuracy.class_mean",
)
# The worst review of a top-1 prediction that is a hit, by metric.
_REVIEWS = {
  "multilabel_accuracy.icml2020": annotations.CORRECT,
  "multilabel_accuracy.tfds": annotations.UNCLEAR,
  "multilabel_accuracy.lenient_mean": annotations.UNCLEAR,
  "real_accuracy": annotations.CORRECT,
  "real_accuracy.class_mean": annotations.CORRECT,
}
_EXTREMES = 5  # classes shown on each side, by difference
Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class SharedSet:
  """An evaluation set of several runs, with its N images in one order.

  Attributes:
    key: e.g. "cifar10:test".
    class_names: K names.
    masks: subset -> bool [K], "all" first.
    label: int32 [N].
    predictions: run -> its predictions.
    hits: metric -> run -> bool [N].
    counted: metric -> bool [N], images that it counts.
  """

  key: str
  class_names: tuple[str, ...]
  masks: Mapping[str, np.ndarray]
  label: np.ndarray
  predictions: Mapping[str, inputs.Predictions]
  hits: Mapping[str, Mapping[str, np.ndarray]]
  counted: Mapping[str, np.ndarray]

  def name(self, label: int) -> str:
    """Returns the name of a class, or its number without names."""
    known = 0 <= label < len(self.class_names)
    return self.class_names[label] if known else f"class {label}"


def read_runs(given: Sequence[str]) -> dict[str, inputs.Run]:
  """Returns runs by the names of their folders, by paths if names repeat.

  Raises:
    InputError: fewer than two different runs, or one without results.
  """
  folders = [run_files.reach_finished(text, "RUN") for text in given]
  different = len({str(paths.make_absolute(folder)) for folder in folders})
  if different < max(2, len(folders)):
    expected = "the folders of two or more different runs"
    raise errors.InputError("RUN", expected, " ".join(given) or "none")
  names = [folder.name for folder in folders]
  if len(set(names)) < len(names):
    names = list(map(str, folders))
  runs = dict(zip(names, map(inputs.read, folders), strict=True))
  for run in runs.values():
    expected = f"the folder of a finished run, with {run_files.RESULTS}"
    errors.check(run.results is not None, "RUN", expected, run.workdir)
  return runs


def group_seeds(runs: Mapping[str, inputs.Run]) -> list[list[str]]:
  """Returns the names of runs, in groups that differ only in the seed."""
  found: dict[str, dict[str, Any]] = {}
  for name, run in runs.items():
    config = {key: run.config[key] for key in run.config if key != "seed"}
    text = json.dumps(config, sort_keys=True)
    found.setdefault(text, {})[name] = run.config.get("seed")
  groups: list[list[str]] = []
  for members in found.values():
    # The same seed twice is no second draw of the training noise.
    different = len(set(members.values())) == len(members)
    groups += [list(members)] if different else [[name] for name in members]
  return groups


def list_pairs(groups: Sequence[Any], all_pairs: bool) -> list[tuple[Any, Any]]:
  """Returns all pairs, or those with the first."""
  pairs = list(itertools.combinations(groups, 2))
  return pairs if all_pairs else pairs[: max(len(groups) - 1, 0)]


def match_sets(runs: Mapping[str, inputs.Run]):
  """Returns the sets that two or more runs share, and notes on the others.

  Raises:
    InputError: none is shared, or one has other images or labels in a run.
  """
  found: dict[str, dict[str, inputs.DatasetFiles]] = {}
  for name, run in runs.items():
    for dataset in run.datasets:
      if dataset.predictions is not None:
        found.setdefault(dataset.key, {})[name] = dataset
  training = {key for run in runs.values() for key in run.training}
  shared, notes = [], []
  for key, members in found.items():
    lacking = ", ".join(name for name in runs if name not in members)
    if key in training:
      notes.append(f"{key} is training data and not compared")
    elif lacking:
      notes.append(f"{key} is not evaluated by {lacking}")
    if key not in training and len(members) > 1:
      shared.append(_match_set(key, runs, members))
  expected = "runs with predictions on a common evaluation set"
  errors.check(bool(shared), "RUN", expected, "; ".join(notes) or "none")
  return shared, notes


def _match_set(
  key: str,
  runs: Mapping[str, inputs.Run],
  members: Mapping[str, inputs.DatasetFiles],
) -> SharedSet:
  (first, dataset), *_ = members.items()
  ids, label = dataset.predictions.image_id, dataset.predictions.label
  places = np.argsort(np.argsort(ids))
  predictions, counted = {}, {}
  hits: dict[str, dict[str, np.ndarray]] = {}
  for name, member in members.items():
    theirs = member.predictions
    size, common = (
      len(theirs.image_id),
      len(np.intersect1d(ids, theirs.image_id)),
    )
    if not len(ids) == size == common:
      expected = f"the {len(ids):,} different images of {first} in all runs"
      given = f"{size:,} in {name}, {common:,} of them the same"
      raise errors.InputError(f"{key}: image_id", expected, given)
    order = np.argsort(theirs.image_id)[places]
    arrays = {
      f: None if x is None else x[order] for f, x in vars(theirs).items()
    }
    predictions[name] = inputs.Predictions(**arrays)
    others = int((predictions[name].label != label).sum())
    expected = f"the labels of {first} in all runs"
    given = f"{others:,} of {size:,} others in {name}"
    errors.check(not others, f"{key}: label", expected, given)
    for row in runs[name].results:
      if (row.dataset, row.subset) == (key, "all"):
        right, counts = _find_hits(row, predictions[name])
        if right is not None:
          hits.setdefault(row.metric, {})[name] = right
          counted[row.metric] = counted.get(row.metric, True) & counts
  count = max(len(dataset.class_names), int(label.max()) + 1)
  masks = {"all": np.ones(count, bool)}
  masks |= inputs.read_subsets(runs[first].workdir, key, count)
  return SharedSet(
    key, dataset.class_names, masks, label, predictions, hits, counted
  )


def _find_hits(row: entries.Row, predictions: inputs.Predictions):
  """Returns bool [N] of hits and of images that count; None for no metric."""
  label, known = predictions.label, predictions.label >= 0
  top = re.fullmatch(r"top([1-5])_accuracy(\.class_mean)?", row.metric)
  if top:
    first = predictions.top5[:, : int(top[1])]
    return (first == label[:, None]).any(axis=1), known
  if row.metric not in _REVIEWS or predictions.review is None:
    return None, None
  if predictions.left_out is not None:
    known &= ~predictions.left_out
  elif row.n != len(label):
    return None, None  # Older files do not tell which images are left out.
  return predictions.review >= _REVIEWS[row.metric], known


def list_hits(
  shared: Sequence[SharedSet], by_class: bool = False
) -> list[paired_table.Hits]:
  """Returns the hits of sets by metric and subset of classes.

  Args:
    shared: the sets.
    by_class: top-1 accuracy only, by class: subsets are named by their index.
  """
  found = []
  for one in shared:
    for metric, by_name in one.hits.items():
      images = one.counted[metric]
      subsets = {
        name: images & mask[one.label] for name, mask in one.masks.items()
      }
      if by_class:
        classes = np.unique(one.label[images])
        subsets = {str(k): images & (one.label == k) for k in classes}
      if metric == _TOP1 if by_class else metric not in _CLASS_MEANS:
        found.append(paired_table.Hits(one.key, metric, by_name, subsets))
  return found


def compare_class_means(
  shared: Sequence[SharedSet], pairs: Sequence[Pair]
) -> list[dict[str, Any]]:
  """Returns rows of accuracies that are means over classes.

  Subsets with a class without images are left out: there they are undefined.
  """
  rows = []
  for one, (a, b), metric in itertools.product(shared, pairs, _CLASS_MEANS):
    hits = one.hits.get(metric, {})
    if a not in hits or b not in hits:
      continue
    size = len(one.masks["all"])
    joint = paired.joint_counts(
      hits[a], hits[b], one.label, size, one.counted[metric]
    )
    for subset, mask in one.masks.items():
      cells, count = joint[mask], joint[mask].sum(axis=1, keepdims=True)
      if count.size and count.all():
        both, only_a, only_b, _ = np.mean(cells / count, axis=0).tolist()
        found = paired.class_mean_difference_counts(cells)
        row = dict(model_a=a, model_b=b, dataset=one.key, subset=subset)
        row |= dict(metric=metric, n=int(count.sum()))
        row |= dict(value_a=both + only_a, value_b=both + only_b)
        names = ("difference", "ci_low", "ci_high", "ci_method")
        rows.append(row | dict(zip(names, found, strict=True)))
  return rows


def compare_seeds(
  shared: Sequence[SharedSet], groups: Sequence[Sequence[str]], all_pairs: bool
) -> list[dict[str, Any]]:
  """Returns rows of means over seeds, and of differences of two such means."""
  several = [names for names in groups if len(names) > 1]
  compared = [(names,) for names in several] + list_pairs(several, all_pairs)
  rows = []
  for one, sides in itertools.product(shared, compared):
    for metric, hits in one.hits.items():
      lacking = {name for names in sides for name in names} - hits.keys()
      if lacking or metric in _CLASS_MEANS:
        continue
      found = seeds.split_variance(
        *(np.stack([hits[n] for n in names]) for names in sides),
        mask=one.counted[metric],
      )
      titles = [f"{names[0]} and {len(names) - 1} more" for names in sides]
      row = dict(runs=" - ".join(titles), dataset=one.key, metric=metric)
      row |= dict(seeds=" + ".join(str(len(names)) for names in sides))
      rows.append(row | dataclasses.asdict(found))
  return rows


def list_disagreements(
  shared: Sequence[SharedSet], pairs: Sequence[Pair]
) -> list[dict[str, Any]]:
  """Returns the images that one run of a pair alone has right at top-1.

  By pair, set and run, those first of whose wrong prediction the other run is
  most sure.
  """
  rows = []
  for (a, b), one in itertools.product(pairs, shared):
    hits = one.hits.get(_TOP1, {})
    for right, wrong in ((a, b), (b, a)) if {a, b} <= hits.keys() else ():
      said = one.predictions[wrong]
      alone = hits[right] & ~hits[wrong] & one.counted[_TOP1]
      sure = np.nan_to_num(said.top5_prob[:, 0], nan=-1.0)
      order = np.argsort(-sure, kind="stable")
      for i in order[alone[order]].tolist():
        row = dict(model_a=a, model_b=b, dataset=one.key)
        row |= dict(image_id=str(said.image_id[i]), right=right, wrong=wrong)
        row |= dict(label=int(one.label[i]), predicted=int(said.top5[i, 0]))
        rows.append(row)
  return rows


def build_tables(
  rows: Sequence[Any], classes: Sequence[Any], means, of_seeds, shared
) -> dict[str, table.Table]:
  """Returns the tables to show, by title, without empty ones.

  Args:
    rows: of `paired_table.compare`.
    classes: of the same by class; those that differ most are shown.
    means: of `compare_class_means`.
    of_seeds: of `compare_seeds`.
    shared: the sets.
  """
  by_key = {one.key: one for one in shared}
  dataset, subset = table.Column("dataset", "data set"), table.Column("subset")
  metric = table.Column("metric", format=formats.metric_title)
  models = (table.Column("model_a", "a"), table.Column("model_b", "b"))
  n = table.number("n", format=formats.whole)

  def right(only: str, title: str) -> table.Column:
    share = lambda row: (row.both + getattr(row, only)) / row.n
    return table.number(share, title, formats.percent)

  def bounded(key: str, title: str) -> table.Column:
    names = (key, "ci_low", "ci_high")
    text = lambda row: formats.with_bounds(*(row[name] for name in names))
    return table.number(text, title)

  sides = right("only_a", "a, %"), right("only_b", "b, %")
  name = lambda row: by_key[row.dataset].name(int(row.subset))
  values = [
    table.number(f"value_{x}", f"{x}, %", formats.percent) for x in "ab"
  ]
  spreads = [
    table.number(key, title, lambda x: formats.percent(x, 3))
    for key, title in (
      ("training_std", "training noise"),
      ("sampling_std", "test-set sampling"),
    )
  ]
  extremes = paired_table.grid(
    _select_extremes(classes), table.Column(name, "class"), *sides
  )
  found = {
    "Paired comparisons": paired_table.grid(rows, subset, metric, *sides),
    "Means over classes": table.Table(
      "Accuracies as means over classes in percent, and differences in"
      " percentage points with 95% intervals (paired bootstrap within classes)",
      (*models, dataset, subset, metric, n, *values)
      + (bounded("difference", "a - b"),),
      means,
    ),
    "Seeds": table.Table(
      "Means over seeds in percent, or their differences, with 95% intervals"
      " over seeds and images, and the standard deviations of the means due to"
      " training noise and to the sampling of the test set",
      (table.Column("runs"), dataset, metric, table.number("seeds"), n)
      + (bounded("value", "mean"), *spreads),
      of_seeds,
    ),
    "Classes": dataclasses.replace(
      extremes,
      caption="Classes whose top-1 accuracy differs most; p-values are adjusted"
      " (Holm) over all classes",
    ),
  }
  return {title: one for title, one in found.items() if one.rows}


def _select_extremes(classes: Sequence[Any]) -> list[Any]:
  """Returns the classes of lowest and highest difference, by comparison."""
  key = lambda row: (row.dataset, row.model_a, row.model_b)
  found = []
  for _, group in itertools.groupby(sorted(classes, key=key), key):
    rows = sorted(group, key=lambda row: row.difference)
    found += [row for row in rows[:_EXTREMES] if row.difference < 0]
    found += [row for row in rows[-_EXTREMES:] if row.difference > 0]
  return found


def open_set(run: inputs.Run, key: str) -> source.AnySource:
  """Returns the data of a set of a run.

  Raises:
    InputError: the config names no such set, or its data are not there.
  """
  given = {"name": "", "data_dir": "", "options": {}} | run.config.get(
    "data", {}
  )
  section = config_lib.DataSection(
    given["name"], "", given["data_dir"], given["options"]
  )
  values = {"every": "never", "sets": {}} | run.config.get("evaluation", {})
  # Names in results are the sources': without a version, or as an option says.
  where, family = run.workdir / run_files.CONFIG, entries.family(key)
  missing = errors.InputError(where, f"a set {key}", "none")
  for alias, entry in config_lib.parse_sets(values, section).items():
    try:
      found = data.open_split(
        f"evaluation.sets.{alias}",
        "split",
        name=entry.name,
        split=entry.split,
        data_dir=entry.data_dir,
        options=entry.options,
      )
    except errors.InputError as error:
      missing = error
      continue
    if entries.family(found.info.key) == family:
      return found
  raise missing


def open_images(
  run: inputs.Run, key: str
) -> Callable[[str], np.ndarray | None]:
  """Returns a function from image id to uint8 [H, W, 3], None if unreadable.

  Raises:
    InputError: see `open_set`.
  """
  found = open_set(run, key)
  streamed = isinstance(found, source.EncodedSource)
  examples = found.examples() if streamed else found.load()
  places = {name: i for i, name in enumerate(examples.image_id.tolist())}

  def look_up(image_id: str) -> np.ndarray | None:
    from imgbench.papers import contact_sheet

    try:
      if not streamed:
        image = examples.image[places[image_id]]
        return np.broadcast_to(image, (*image.shape[:2], 3))
      encoded, _ = found.read(places[image_id])
      return contact_sheet.shrink(image_decode.open_image(encoded))
    except (KeyError, errors.InputError, *image_decode.UNREADABLE):
      return None

  return look_up


def draw_sheets(
  folder: paths.Folder,
  runs: Mapping[str, inputs.Run],
  shared: Sequence[SharedSet],
  disagreements: Sequence[Mapping[str, Any]],
  number: int,
) -> tuple[list[page.Block], list[str]]:
  """Writes contact sheets of disagreements; returns them, and notes.

  Args:
    folder: for the PNGs.
    runs: by name.
    shared: the sets.
    disagreements: of `list_disagreements`.
    number: largest number of images that one run has right, and the other.
  """
  # Matplotlib takes a third of a second to import; tables do not need it.
  from imgbench.papers import contact_sheet
  from imgbench.tables import pictures
  from imgbench.tables import themes

  blocks: list[page.Block] = []
  notes: list[str] = []
  for one in shared if number else ():
    try:
      look_up = open_images(runs[next(iter(one.predictions))], one.key)
    except errors.InputError as error:
      notes.append(
        f"{one.key} has no contact sheet without its images: {error}"
      )
      continue
    mine = [row for row in disagreements if row["dataset"] == one.key]
    key = lambda row: (row["model_a"], row["model_b"])
    for (a, b), group in itertools.groupby(mine, key):
      rows, shown = list(group), []
      for right in (a, b):
        for row in [r for r in rows if r["right"] == right][:number]:
          label, said = one.name(row["label"]), one.name(row["predicted"])
          lines = (f"{right} right: {label}", f"{row['wrong']}: {said}")
          image = look_up(row["image_id"])
          lines = (*lines, row["image_id"])
          shown.append(contact_sheet.Picture(image, lines))
      title = f"{one.key}: images that only {a} or only {b} has right"
      draw = contact_sheet.draw(title, shown)
      sheet = themes.render(draw, themes.LIGHT, photographs=True)
      name = f"disagreements_{len(blocks) + 1}.png"
      writers.write_output("--out", str(folder / name), sheet)
      caption = (
        f"{len(shown)} of {len(rows):,} such images, those first of which the"
        " wrong run is most sure. All are in disagreements.csv."
      )
      blocks.append(pictures.Figure(sheet, None, title, caption))
  return blocks, notes


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --out, --all_pairs, --images."""
  given = {"flag_values": flag_values}
  text = (
    "Folder for CSV files, a page and contact sheets; without it tables are"
  )
  flags.DEFINE_string("out", None, f"{text} printed only.", **given)
  text = "Compare every two runs, not only the first with each other one."
  flags.DEFINE_bool("all_pairs", False, text, **given)
  text = (
    "Largest number of images on a contact sheet that a run alone has right;"
  )
  flags.DEFINE_integer("images", 12, f"{text} 0: no sheets.", 0, **given)


def parse_flags(argv: list[str]) -> list[str]:
  """Returns the program's name and the runs. Raises InputError."""
  return cli.parse_flags(argv, required=(), positional=True)


def main(argv: list[str]) -> int:
  """Prints the tables and writes --out."""
  values = flags.FLAGS
  runs = read_runs(argv[1:])
  shared, notes = match_sets(runs)
  groups = group_seeds(runs)
  group_of = {name: i for i, names in enumerate(groups) for name in names}
  pairs = list_pairs(list(runs), values.all_pairs)
  if len(groups) > 1:
    pairs = [(a, b) for a, b in pairs if group_of[a] != group_of[b]]
  rows = paired_table.compare(list_hits(shared), pairs)
  classes = paired_table.compare(list_hits(shared, by_class=True), pairs)
  means = compare_class_means(shared, pairs)
  of_seeds = compare_seeds(shared, groups, values.all_pairs)
  tables = build_tables(rows, classes, means, of_seeds, shared)
  print("\n".join(found.text() for found in tables.values()))
  if values.out:
    folder = paths.as_path(values.out, "--out")
    images = list_disagreements(shared, pairs)
    by_key = {one.key: one for one in shared}
    cells = lambda rows: [
      dict(zip(paired_table.COLUMNS, row, strict=True))
      for row in paired_table.cells(rows)
    ]
    of_classes = cells(classes)
    for row in of_classes:
      row["class_name"] = by_key[row["dataset"]].name(int(row["subset"]))
    for name, content in (
      ("paired", cells(rows)),
      ("classes", of_classes),
      ("class_means", means),
      ("seeds", of_seeds),
      ("disagreements", images),
    ):
      text = table.csv_text(content, exact=True)
      writers.write_output("--out", str(folder / f"{name}.csv"), text)
    sheets, more = draw_sheets(folder, runs, shared, images, values.images)
    notes += more
    blocks: dict[str, Sequence[page.Block]] = {
      t: [x] for t, x in tables.items()
    }
    blocks["Images that one run has right"] = sheets
    blocks["Notes"] = [page.Paragraph(note) for note in notes]
    text = page.render(
      "tables/templates/base.html.j2",
      title=f"{', '.join(runs)} – imgbench",
      kicker="imgbench comparison of runs",
      heading=", ".join(runs),
      facts={name: str(run.workdir) for name, run in runs.items()},
      sections=[
        page.Section(f"part-{i}", title, found)
        for i, (title, found) in enumerate(blocks.items())
      ],
      coverage=inputs.format_coverage(0.05),
    )
    writers.write_output("--out", str(folder / PAGE), text)
    print(f"wrote {folder / PAGE}")
  for note in notes:
    print(texts.printable(f"note: {note}"))
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("compare")
