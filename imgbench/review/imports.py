r"""Imports predictions, annotations and images into the database of a review.

imgbench review import --db=reviews.db --classes=/usr/share/wordnet
imgbench review import --db=reviews.db --repo=ImageNetV2 --annotated_only \
    --annotations=human_accuracy_v3.0.0.json \
    --predictions=mine@imagenetv2-b-33=mine.npy --predictions=runs/mine

All of a command is imported, or nothing; importing twice changes nothing. Exit
codes: 0 done, 2 bad input.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import contextlib
import pathlib
import sqlite3
import sys
from typing import Any

from absl import flags
from absl import logging
import numpy as np

from imgbench import commands
from imgbench import errors
from imgbench import paths
from imgbench import run_files
from imgbench import texts
from imgbench.labels import classes as classes_lib
from imgbench.labels import real as real_lib
from imgbench.labels import review_database
from imgbench.labels import review_table
from imgbench.metrics import summary
from imgbench.papers.readers import annotations_pickle
from imgbench.papers.readers import clone
from imgbench.papers.readers import own
from imgbench.prepare.fake_imagenet import plan
from imgbench.report import inputs
from imgbench.review import campaigns
from imgbench.review import hierarchy
from imgbench.review import images as images_lib
from imgbench.review import importer
from imgbench.review import status
from imgbench.review import store

REQUIRED = ("db",)
_ARGUMENTS = ("repo", "real", "near_duplicates", "predictions", "annotations")
_ARGUMENTS += ("images", "annotated_only", "campaign", "classes")
Labels = tuple[str, str, Any]  # where, data set or "", content


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the program."""
  for name, text in {
    "db": "The database, of imgbench review init.",
    "repo": f"Clone of {clone.URL}: its data sets, with all its models.",
    "real": "real.json of reassessed-imagenet: labels that are to be reviewed.",
    "classes": "Folder with data.noun of WordNet 3.0 (Debian package"
    " wordnet-base): definitions of the classes, and the groups above them.",
    "near_duplicates": "JSON {image: [near duplicates]}: a category of images.",
    "campaign": "Name of a campaign to create, of all unreviewed predictions,"
    " those of most effect first; one vote decides. The admin page creates"
    " others.",
  }.items():
    flags.DEFINE_string(name, None, text, flag_values=flag_values)
  for name, text in {
    "predictions": "FOLDER of a run, or of imgbench score or evaluate, or"
    f" NAME=FOLDER; with --repo also {own.FORM}; repeatable.",
    "annotations": "Reviewed labels: human_accuracy_v3.0.0.json,"
    " human_accuracy.pickle, a CSV of TFDS's fields, a database, or the folder"
    " of a run whose sets have them; repeatable.",
    "images": "SET=FOLDER or SET=NAME:SPLIT@DATA_DIR of TFDS: where the images"
    " of a data set are; repeatable.",
  }.items():
    flags.DEFINE_multi_string(name, [], text, flag_values=flag_values)
  text = "Leave out images of --repo that no annotations list."
  flags.DEFINE_bool("annotated_only", False, text, flag_values=flag_values)


def read_run(text: str, names: tuple[str, ...]) -> Iterable[importer.Images]:
  """Yields the evaluation sets of a run with its predictions.

  Args:
    text: FOLDER of a run, or NAME=FOLDER; by default the folder's name.
    names: of the classes of the database.

  Raises:
    InputError: no run with predictions, or of other classes.
  """
  name, _, folder = text.rpartition("=")
  run = inputs.read(run_files.reach_finished(folder, "--predictions"))
  name, workdir = (
    name or run.workdir.name,
    str(paths.make_absolute(run.workdir)),
  )
  found = [
    d for d in run.datasets if d.predictions and d.key not in run.training
  ]
  errors.check(bool(found), "--predictions", "a run with predictions", text)
  for dataset in found:
    same, where = dataset.class_names == names, f"{folder}: {dataset.key}"
    expected = f"classes of the database, {names[0]}, ..."
    errors.check(same, where, expected, f"{dataset.name(0)}, ...")
    first, _, split = dataset.key.partition(":")
    first, plus, variant = first.partition("+")
    given = dataset.predictions
    images = importer.Images(
      dataset=importer.name_dataset(f"{first}:{split}"),
      names=given.image_id.astype(str).tolist(),
      labels=given.label,
      models={name + plus + variant: (workdir, given.top5[:, 0])},
      spec={"run": workdir, "key": dataset.key},
      synthetic=dataset.key in run.synthetic,
    )
    yield images.take(given.label >= 0)


def read_collection(repo: str, specs: Sequence[str]):
  """Returns the data sets of a clone with all its models, and notes."""
  found = clone.read(repo, own=specs)
  sets = []
  for name, dataset in found.datasets.items():
    ranked = found.predictions[name]
    models = {p.model: (str(p.path), p.ranking[:, 0]) for p in ranked}
    key, names = importer.name_dataset(name), dataset.image_ids.tolist()
    sets.append(importer.Images(key, names, dataset.labels, models))
  return sets, found.notes


def read_labels(
  path: str, wnids: Sequence[str]
) -> tuple[list[Labels], list[importer.Images]]:
  """Returns reviewed labels of a file or run, and images that it describes.

  Raises:
    InputError: another file, or a run without reviewed labels.
  """
  if pathlib.Path(path).is_dir():
    found = list(_read_run_labels(path, wnids))
    expected = "a run whose sets have reviewed labels"
    errors.check(bool(found), "--annotations", expected, path)
    return found, []
  if pathlib.Path(path).suffix not in (".pickle", ".pkl"):
    return [(path, "", review_table.read_file(path))], []
  reviews, study = annotations_pickle.read(path)
  entries = {
    image: {s: [wnids[i] for i in ids] for s, ids in labels.items()}
    for image, labels in reviews.labels.items()
  }
  sets = [
    importer.Images(importer.name_dataset(name), s.image_ids, s.labels, {})
    for name, s in study.image_sets.items()
  ]
  problems = {
    i: reviews.reasons.get(i, "") for i in sorted(reviews.problematic)
  }
  return [(path, "", _content(entries, problems, None))], sets


def _read_run_labels(folder: str, wnids: Sequence[str]) -> Iterable[Labels]:
  run = inputs.read(run_files.reach_finished(folder, "--annotations"))
  for dataset in run.datasets:
    if not dataset.predictions or "+" in dataset.key:
      continue
    if dataset.key in run.training:
      continue
    found = images_lib.open_source({"run": folder, "key": dataset.key})
    if found.info.label_set != summary.REVIEWED:
      continue
    examples = images_lib.read_examples(found)
    names, codes = examples.image_id.tolist(), examples.label_codes
    entries: dict[str, dict[str, list[str]]] = {}
    for row in np.flatnonzero(codes.any(axis=1)).tolist():
      entries[names[row]] = {
        state: [wnids[i] for i in np.flatnonzero(codes[row] == code).tolist()]
        for code, state in review_database.STATES.items()
        if code in codes[row]
      }
    out = set(examples.image_id[examples.left_out].tolist())
    in_m = examples.in_imagenet_m
    slice_m = None if in_m is None else examples.image_id[in_m].tolist()
    content = _content(entries, {i: "" for i in entries if i in out}, slice_m)
    yield (
      f"{folder}: {dataset.key}",
      importer.name_dataset(dataset.key),
      content,
    )


def _content(entries, problems, slice_m) -> dict[str, Any]:
  names = ("initial_annots", "problematic_images", "imagenet_m")
  return dict(zip(names, (entries, problems, slice_m), strict=True))


def import_files(
  connection: sqlite3.Connection,
  *,
  repo: str | None = None,
  predictions: Sequence[str] = (),
  annotations: Sequence[str] = (),
  real: str | None = None,
  near_duplicates: str | None = None,
  images: Sequence[str] = (),
  annotated_only: bool = False,
  campaign: str | None = None,
  classes: str | None = None,
) -> tuple[dict[str, int], Sequence[str]]:
  """Imports files; returns the numbers of new rows, and notes.

  Files are read before the transaction begins. The arguments are the flags.

  Raises:
    InputError: a bad file; then nothing is imported.
  """
  found = connection.execute("SELECT wnid, name FROM class ORDER BY id")
  wnids, names = zip(*map(tuple, found), strict=True)
  if wnids == classes_lib.imagenet_classes().wnids:
    names = classes_lib.short_names()
  labels, sets, notes, specs = [], [], (), []
  for path in annotations:
    some, described = read_labels(path, wnids)
    labels, sets = labels + some, sets + described
  for text in predictions:
    head, equals, _ = text.partition("=")
    if equals and "@" in head:
      errors.check(bool(repo), text, "its data set in --repo", "none")
      specs.append(text)
    else:
      sets += read_run(text, names)
  if repo:
    public, notes = read_collection(repo, specs)
    sets = public + sets
  accepted = real_lib.read(real) if real else ()
  near = real_lib.read_json(near_duplicates) if near_duplicates else {}
  parts = [text.partition("=") for text in images]
  places = [(name, images_lib.parse(where)) for name, _, where in parts]
  for _, spec in places:
    images_lib.open_images(spec)
  for where, _, content in labels:
    importer.check_content(where, content)
  synsets = hierarchy.read_wordnet(classes, wnids) if classes else {}
  given = (
    repo,
    real,
    near_duplicates,
    classes,
    *predictions,
    *annotations,
    *images,
  )
  before = status.count(connection)
  with store.transaction(connection):
    writer = importer.Importer(connection, " ".join(filter(None, given)))
    if annotated_only:
      listed = {*writer.annotated}
      for _, _, content in labels:
        listed |= set(map(review_table.find_id, content["initial_annots"]))
      find = review_table.find_id
      sets = [
        s.take(np.array([find(n) in listed for n in s.names])) for s in sets
      ]
    groups = hierarchy.write_wordnet(connection, synsets) if synsets else 0
    for some in sets:
      writer.add(some)
    for where, dataset, content in labels:
      writer.add_annotations(where, content, dataset)
    writer.add_suggestions(
      (plan.validation_name(i), labels) for i, labels in enumerate(accepted, 1)
    )
    writer.add_near_duplicates(f"{near_duplicates}", near)
    for name, spec in places:
      writer.set_images(name, spec)
    writer.finish()
    if campaign is not None:
      campaigns.create(connection, campaign, "single", priority="effect")
  after = status.count(connection) | {"groups": groups}
  before["groups"] = 0
  return {name: n - before[name] for name, n in after.items()}, notes


def main(argv: list[str]) -> int:
  """Imports the files that the command line names."""
  del argv
  values = flags.FLAGS
  logging.set_verbosity(logging.WARNING)
  with contextlib.closing(store.open_database(values.db)) as connection:
    given = {name: values[name].value for name in _ARGUMENTS}
    counts, notes = import_files(connection, **given)
  for note in notes:
    print(texts.printable(f"note: {note}"), file=sys.stderr)
  told = [f"{number:+,} {name}" for name, number in counts.items() if number]
  print("\n".join([f"{values.db}:", *(told or ["nothing new"])]))
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("review import")
