r"""Makes the database of a review.

imgbench review init --db=reviews.db --repo=ImageNetV2

Its classes are ImageNet's or, with --classes=RUN, those of a run. --repo, a
clone of the repository of ImageNetV2, adds the definitions of ImageNet's
classes. Exit codes: 0 done, 2 bad input.
"""

import contextlib
import pathlib

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench import run_files
from imgbench.labels import classes
from imgbench.labels import real
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.report import inputs
from imgbench.review import hierarchy
from imgbench.review import store
from imgbench.scenes import classes as scenes

REQUIRED = ("db",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the program."""
  for name, default, text in (
    ("db", None, "File for the database."),
    ("classes", "imagenet", "imagenet, or the folder of a run."),
    ("repo", None, f"Clone of {clone.URL}, for definitions of the classes."),
  ):
    flags.DEFINE_string(name, default, text, flag_values=flag_values)


def list_imagenet(repo: str | None = None) -> list[store.Class]:
  """Returns ImageNet's classes, without definitions unless from a clone."""
  table, glosses = classes.imagenet_classes(), [""] * len(classes.short_names())
  if repo:
    path = pathlib.Path(repo, clone.CLASS_INFO)
    datasets.check_class_info(path)
    glosses = [str(entry.get("gloss", "")) for entry in real.read_json(path)]
  return _join(table.wnids, table.names, glosses, classes.subsets())


def list_run(folder: str) -> list[store.Class]:
  """Returns the classes of a run. Raises InputError: it has several lists."""
  run = inputs.read(run_files.reach_finished(folder, "--classes"))
  lists = {found.class_names for found in run.datasets}
  expected, given = "a run of one list of classes", f"{len(lists)} in {folder}"
  errors.check(len(lists) == 1, "--classes", expected, given)
  (names,) = lists
  if names == classes.short_names():
    return list_imagenet()
  subsets = inputs.read_subsets(run.workdir, run.datasets[0].key, len(names))
  return _join(names, names, [""] * len(names), subsets)


def _join(wnids, names, glosses, subsets) -> list[store.Class]:
  columns = zip(wnids, names, glosses, strict=True)
  inside = lambda i: ",".join(name for name, mask in subsets.items() if mask[i])
  return [(i, *row, inside(i)) for i, row in enumerate(columns)]


def main(argv: list[str]) -> int:
  """Makes the database that the command line names."""
  del argv
  values = flags.FLAGS
  imagenet = values.classes == "imagenet"
  fits = imagenet or not values.repo
  errors.check(fits, "--repo", "none for the classes of a run", values.repo)
  listed = list_imagenet(values.repo) if imagenet else list_run(values.classes)
  names = tuple(row[2] for row in listed)
  with contextlib.closing(store.create(values.db, listed)) as connection:
    if names == scenes.CLASS_NAMES:
      with store.transaction(connection):
        hierarchy.write(connection, hierarchy.list_groups(scenes.GROUPS))
  print(f"{values.db}: {len(listed):,} classes")
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("review init")
