"""Scores predictions of any framework on a data set, as a run is evaluated.

imgbench score logits.npy --dataset=val,real,multilabel --data_dir=TFDS \\
    --out=runs/mine

FILE has logits or probabilities [N, K], or rankings [N, k] (class indices, the
best first): .npy, .npz, .csv or .safetensors. Its rows are in the order of the
set's file, or have image ids. Several files each get their --dataset, --ids and
--labels in turn:

imgbench score val.npy v2.npy --dataset=val,real --dataset=v2 \\
    --repo=ImageNetV2 --real=reassessed-imagenet/real.json --out=runs/mine

--out gets the files of a run's evaluation: results.json, warnings.json,
report.html, tables by class, calibration and curves. With --repo or --published
it also gets ranks among public models and distances from their regression
lines. docs/score.md has all formats. Exit codes: 0 done, 2 bad input, 3 a
requirement of --require does not hold.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

from absl import flags
from absl import logging
import numpy as np

from imgbench import check
from imgbench import cli
from imgbench import commands
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import environment
from imgbench import errors
from imgbench import paths
from imgbench import run_files
from imgbench import writers
from imgbench.configs import common
from imgbench.papers import program
from imgbench.papers import records
from imgbench.papers.readers import clone
from imgbench.report import terminal
from imgbench.score import files
from imgbench.score import passes
from imgbench.score import ranks
from imgbench.score import sets
from imgbench.train import evaluation
from imgbench.train import outputs

_SETTINGS = (
  *("dataset", "scores", "order", "ids", "labels", "class_names", "data_dir"),
  *("repo", "real", "annotations", "published", "model", "background_first"),
  "label_errors",
)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the program."""
  program.define_flags(
    flag_values,
    (program.OUT, program.PUBLISHED),
    several={
      "dataset": "Sets of a file, with commas: val, real, multilabel,"
      " imagenet_m, v2, v2_threshold, v2_top, a, r, another alias of --config,"
      " or NAME:SPLIT of TFDS. With --labels, any name. Repeatable, one for"
      " each file.",
      "ids": "Image ids of a file's rows: text with a line for each, or .npy."
      " Repeatable, one for each file, empty for none.",
      "labels": "Label file: .npy, text with a label on each line, or .csv with"
      " the column label and perhaps image_id. Repeatable as --ids.",
      "repo": "Clone of modestyachts/ImageNetV2 or of modestyachts/CIFAR-10.1:"
      " labels, if --data_dir is not given, and public models. Repeatable.",
    },
    out="Folder for the results; it must be new, or of the same command.",
    class_names="Text file with the names of the classes of --labels.",
    label_errors="JSON file of cleanlab/label-errors, votes about labels of the"
    " first set: adds accuracies on corrected labels.",
    data_dir="Folder with data sets that TFDS prepared.",
    real="real.json of google-research/reassessed-imagenet, with --repo.",
    annotations="human_accuracy_v3.0.0.json, a CSV of TFDS's fields or a"
    " database of imgbench review, with --repo, for multilabel.",
    model="Name of the model in tables; default: name of the first file.",
  )
  check.define_require_flag(flag_values)
  cli.define_config_flag(flag_values)
  flags.DEFINE_enum(
    "scores",
    None,
    (files.LOGITS, files.PROBABILITIES, files.RANKING),
    "What the files have; needed only where it is not certain.",
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    "order",
    passes.FILE,
    (passes.FILE, passes.ID),
    "Order of rows without ids: that of the set's file (TFDS: of its records;"
    " clones: of their lists), or sorted by image id.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "background_first",
    False,
    "Class 0 is a background class, which the data set lacks.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "probabilities",
    False,
    "Keep the probabilities of all classes of large sets, too.",
    flag_values=flag_values,
  )


def score(values: flags.FlagValues, given: Sequence[str]) -> dict[str, Any]:
  """Scores files and writes --out; returns the content of results.json.

  Args:
    values: the flags.
    given: paths of the files.

  Raises:
    InputError: bad files or flags, or --out has other results.
  """
  job = _check_flags(values, list(map(pathlib.Path, given)))
  config = _read_config(values)
  settings = config_lib.parse(config)
  section = settings.evaluation
  known = evaluation.read_known_leaks(section)
  folder = paths.reach(values.out, "--out")
  command = {
    "files": list(map(str, job.files)),
    **{name: values[name].value for name in _SETTINGS},
    "config_hash": config_utils.config_hash(config),
  }
  _check_out(folder, command)
  scored, of_file = _read_files(values, job, settings)
  with run_files.locked(folder, "--out"):
    output = program.Output(None)
    used = [*job.ids, *job.labels, values.real, values.annotations]
    used.append(values.label_errors)
    output.inputs([*job.files, *map(pathlib.Path, filter(None, used))])
    shift = passes.find_shift(scored, section, of_file)
    evaluations, built = passes.evaluate(
      scored, section, shift, values.probabilities
    )
    model = values.model or job.files[0].stem
    for note in _note_guessing(model, scored, evaluations):
      output.note(note)
    ranks.add(
      output, model, scored, evaluations, job.places[0], values.published
    )
    entries = {x.opened.name: x.opened.entry for x in scored}
    stored = {
      **config_utils.to_dict(config)["evaluation"],
      "sets": {name: dataclasses.asdict(x) for name, x in entries.items()},
      "shift": dataclasses.asdict(shift) if shift else {},
    }
    writers.write_json(
      folder / run_files.CONFIG,
      {
        "data": {"name": ", ".join(entries)},
        "evaluation": stored,
        "score": command,
      },
    )
    writers.write_json(folder / run_files.ENVIRONMENT, _describe(scored))
    results = outputs.write_results(
      folder,
      evaluations,
      built,
      dict.fromkeys(built, 0.0),
      [],
      section.warnings,
      known,
      with_report=settings.logging.report,
    )
    output.write(pathlib.Path(values.out))
  print(terminal.format_table(results, section.alpha))
  return results


@dataclasses.dataclass(frozen=True)
class _Job:
  """Files to score; for each the names of its sets, and its other files."""

  files: Sequence[pathlib.Path]
  names: Sequence[Sequence[str]]
  ids: Sequence[str]
  labels: Sequence[str]
  places: Sequence[sets.Places]


def _check_flags(values, given: Sequence[pathlib.Path]) -> _Job:
  """Returns the files; all are there and have their sets."""
  errors.check(bool(given), "FILE", "at least one file", "none")
  for path in given:
    errors.check(path.is_file(), "FILE", "a file", path)
  expected = f"{len(given)}, one for each file"
  names = [[x for x in text.split(",") if x] for text in values.dataset]
  fits = len(names) == len(given) and all(names)
  errors.check(fits, "--dataset", expected, ", ".join(values.dataset) or "none")
  found = []
  for flag in ("ids", "labels"):
    texts = values[flag].value or [""] * len(given)
    errors.check(len(texts) == len(given), f"--{flag}", expected, len(texts))
    found.append(texts)
  ids, labels = found
  for some, path in zip(names, labels, strict=True):
    one = len(some) == 1 or not path
    errors.check(one, "--labels", "one set", ",".join(some))
  used = not values.class_names or any(labels)
  errors.check(used, "--class_names", "--labels with it", "none")
  clones = tuple(map(pathlib.Path, values.repo))
  common_to_all = (values.real, values.annotations, values.class_names)
  places = [sets.Places(clones, path, *common_to_all) for path in labels]
  places[0].check()
  return _Job(given, names, ids, labels, places)


def _read_files(
  values, job: _Job, settings: config_lib.Config
) -> tuple[list[passes.Scored], list[int]]:
  """Returns the sets with their predictions, and the number of their file."""
  # All sets before the first file, which may be large.
  opened = [
    [sets.open_set(name, settings, places) for name in names]
    for names, places in zip(job.names, job.places, strict=True)
  ]
  if values.label_errors:
    opened[0][0] = sets.correct_labels(opened[0][0], values.label_errors)
  scored: list[passes.Scored] = []
  of_file: list[int] = []
  for number, path in enumerate(job.files):
    found = files.read(
      path,
      values.scores or "",
      job.ids[number],
      opened[number][0].class_texts,
      values.background_first,
    )
    logging.info("%s: %s %s", path, found.kind, list(found.values.shape))
    fits = not values.probabilities or found.kind != files.RANKING
    expected = f"none with a ranking, as in {path}"
    errors.check(fits, "--probabilities", expected, True)
    scored += passes.match(found, opened[number], values.order)
    of_file += [number] * len(opened[number])
  keys, names = set(), set()
  for one in scored:
    twice = one.info.key in keys or one.opened.name in names
    errors.check(not twice, "--dataset", "each set once", one.info.key)
    keys.add(one.info.key)
    names.add(one.opened.name)
  return scored, of_file


def _read_config(values):
  """Returns --config, without it that of the sets of ImageNet."""
  config = values.config
  if config is None:
    config = common.base_config()
    common.use_imagenet(config)
  if values.data_dir:
    with config.unlocked():
      config.data.data_dir = values.data_dir
  return config


def _check_out(folder: paths.Folder, command: dict[str, Any]) -> None:
  """Raises InputError if a folder has a run, or results of other settings."""
  names = (run_files.CONFIG, run_files.RESULTS)
  if not any((folder / name).exists() for name in names):
    return
  old = run_files.read_json(folder / run_files.CONFIG)
  old = old.get("score") if isinstance(old, dict) else None
  if old != command:
    expected = "a new folder, or one with results of the same command"
    raise errors.InputError("--out", expected, folder, "give another folder")


def _note_guessing(model, scored, evaluations) -> list[str]:
  """Returns lines on sets where predictions are right as by guessing."""
  notes = []
  for one in scored:
    top = evaluations[one.opened.name].outcomes.top5.astype(np.int16)
    dataset = one.dataset
    found = records.RankedPredictions(model, dataset.name, top, dataset.path)
    of_set = clone.note_own([found], {dataset.name: dataset}, {model})
    if of_set and one.found.image_ids is None:
      of_set.append(f"{dataset.name}: rows without ids have an order: --order")
    notes += of_set
  return notes


def _describe(scored: Sequence[passes.Scored]) -> dict[str, Any]:
  return {
    **environment.collect(),
    "data": {
      one.info.key: {
        "num_examples": one.info.num_examples,
        "fingerprint": one.info.fingerprint,
      }
      for one in scored
    },
    "synthetic": [one.info.key for one in scored if one.info.synthetic],
    "training_data": [],
  }


def main(argv: list[str]) -> int:
  """Scores the files that the command line names."""
  cli.show_log()
  required = check.parse(flags.FLAGS.require)
  score(flags.FLAGS, argv[1:])
  return check.end(check.check_run(flags.FLAGS.out, required))


def parse_flags(argv: list[str]) -> list[str]:
  """Returns the program's name and the files. Raises InputError."""
  return cli.parse_flags(argv, required=("dataset", "out"), positional=True)


if __name__ == "__main__":
  commands.start("score")
