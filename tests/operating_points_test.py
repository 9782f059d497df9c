"""Tests of the choice of a class's threshold from the files of a run."""

import csv
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from imgbench import errors
from imgbench import operating_points
from imgbench import run_files
from imgbench.metrics import intervals
from imgbench.report import inputs
from tests import raising
from tests import written
from tests.data import shared_files
from tests.train import processes

KEY = "pond:test"
NAMES = ("cat", "frog", "dog")
# (probability of cat, frog, dog), label; frogs have 0.9, 0.8, 0.4 and 0.1.
EXAMPLES = (
  ((0.05, 0.9, 0.05), 1),
  ((0.1, 0.8, 0.1), 1),
  ((0.1, 0.4, 0.5), 1),
  ((0.8, 0.1, 0.1), 1),
  ((0.2, 0.6, 0.2), 2),
  ((0.2, 0.3, 0.5), 2),
  ((0.7, 0.2, 0.1), 0),
  ((0.9, 0.05, 0.05), 0),
)
PROBS = np.array([probs for probs, _ in EXAMPLES])
LABELS = np.array([label for _, label in EXAMPLES])


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run")
  broken = np.concatenate([PROBS, [[np.nan] * 3]])
  written.write(
    workdir,
    written.evaluation(KEY, NAMES, PROBS, LABELS),
    written.evaluation("pond:few", NAMES, PROBS, LABELS, keep=False),
    written.evaluation("pond:none", NAMES, PROBS, LABELS * 0),
    written.evaluation("pond:broken", NAMES, broken, np.append(LABELS, 1)),
    written.evaluation("pond:twins", ("a", "b", "a"), PROBS, LABELS),
  )
  return workdir


def read(workdir, key=KEY, name="frog"):
  scores = operating_points.read_scores(workdir, key)
  return scores.select(scores.find_class(name))


def found(point):
  return point.tp, point.fp, point.fn, point.tn


def run(*args):
  return subprocess.run(
    [sys.executable, "-m", "imgbench.operating_points", *map(str, args)],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
    cwd=pathlib.Path(__file__).parents[1],
  )


def test_scores_of_a_class_by_name_and_by_index(workdir):
  by_name, by_index = read(workdir), read(workdir, name="1")
  assert by_name.class_name == by_index.class_name == "frog"
  np.testing.assert_allclose(by_name.scores, PROBS[:, 1], rtol=1e-6)
  np.testing.assert_array_equal(by_name.positive, LABELS == 1)
  np.testing.assert_array_equal(by_index.scores, by_name.scores)


def test_thresholds_by_hand(workdir):
  target = read(workdir)
  point = operating_points.find_point(target, "recall", 0.75)
  assert point.threshold == 0.4 and found(point) == (3, 1, 1, 3)
  assert (point.recall, point.precision) == (0.75, 0.75)
  all_frogs = operating_points.find_point(target, "recall", 1.0)
  assert all_frogs.threshold == 0.1 and found(all_frogs) == (4, 3, 0, 1)
  sure = operating_points.find_point(target, "precision", 0.9)
  assert sure.threshold == 0.8 and found(sure) == (2, 0, 2, 4)
  given = operating_points.find_point(target, "threshold", 0.25)
  assert given.threshold == 0.25 and found(given) == (3, 2, 1, 2)
  argmax = operating_points.evaluate_argmax(target)
  assert found(argmax) == (2, 1, 2, 3)


def test_a_threshold_is_short_and_flags_the_same():
  rng = np.random.default_rng(0)
  scores = rng.random(400).astype(np.float32).astype(np.float64)
  positive = rng.random(400) < scores**3
  target = operating_points.ClassScores(
    KEY, 1, "frog", scores, positive, scores > 0.5
  )
  for wanted in (0.3, 0.9, 1.0):
    point = operating_points.find_point(target, "recall", wanted)
    flagged = np.sort(scores)[-point.flagged :]
    assert point.recall >= wanted
    assert np.sum(positive[scores > flagged[0]]) < wanted * positive.sum()
    assert len(repr(point.threshold)) <= 8  # of float32: up to 18
    assert point.threshold <= flagged[0]


def test_non_finite_rows_are_never_flagged(workdir):
  target = read(workdir, "pond:broken")
  point = operating_points.find_point(target, "recall", 0.6)
  assert point.threshold == 0.4 and found(point) == (3, 1, 2, 3)
  sure = operating_points.find_point(target, "precision", 0.5)
  assert found(sure) == (4, 3, 1, 1)
  with pytest.raises(
    errors.InputError, check=raising.about("--recall", given=1.0)
  ) as error:
    operating_points.find_point(target, "recall", 1.0)
  assert "1 of 5" in error.value.expected
  for scores, counts in ((read(workdir), []), (target, ["1"])):
    said = operating_points.describe_caveats(scores, "threshold", 0.4)
    assert re.findall(r"\d+", said) == counts


@pytest.mark.parametrize(
  ("key", "name", "setting", "given", "fix"),
  [
    ("pond:tset", "frog", "--dataset", "pond:tset", "pond:test"),
    (KEY, "forg", "--class", "forg", "frog"),
    (KEY, "3", "--class", "3", ""),
    (KEY, "-1", "--class", "-1", ""),
    ("pond:twins", "a", "--class", None, "0, 2"),
  ],
)
def test_unknown_names_are_refused(workdir, key, name, setting, given, fix):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check) as error:
    read(workdir, key, name)
  assert fix in error.value.fix


def test_bad_files_are_refused(workdir, tmp_path):
  check = raising.about("--workdir", given=tmp_path)
  with pytest.raises(errors.InputError, check=check):
    read(tmp_path)
  with pytest.raises(errors.InputError) as error:
    read(workdir, "pond:few")
  assert "probabilities=True" in error.value.fix
  shutil.copy(workdir / run_files.RESULTS, tmp_path)
  path = tmp_path / "predictions" / "pond-test.npz"
  check = raising.about(str(path), given="no file")
  with pytest.raises(errors.InputError, check=check):
    read(tmp_path)
  path.parent.mkdir()
  np.savez(path, probs=np.zeros((3, 2)), label=np.zeros(2, int))
  check = raising.about(f"{path}: probs", given="float64 [3, 2]")
  with pytest.raises(errors.InputError, check=check):
    read(tmp_path)
  path.write_text("no arrays")
  with pytest.raises(errors.InputError, match=path.name):
    read(tmp_path)


@pytest.mark.parametrize(
  ("key", "rule", "wanted", "setting", "given"),
  [
    ("pond:none", "recall", 0.9, "--class", "frog"),
    (KEY, "recall", 0.0, "--recall", 0.0),
    (KEY, "precision", 1.1, "--precision", 1.1),
    (KEY, "threshold", float("nan"), "--threshold", "nan"),
    ("pond:twins", "precision", 0.99, "--precision", 0.99),
  ],
)
def test_unreachable_values_are_refused(
  workdir, key, rule, wanted, setting, given
):
  name = "0" if key == "pond:twins" else "frog"
  target = read(workdir, key, name)
  if key == "pond:twins":  # The surest one is wrong.
    target.positive[:] = target.scores == 0.7
    target.positive[np.argmin(target.scores)] = True
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    operating_points.find_point(target, rule, wanted)


def test_a_bad_alpha_is_refused(workdir):
  check = raising.about("--alpha", given=1.5)
  with pytest.raises(errors.InputError, check=check):
    operating_points.find_point(read(workdir), "recall", 0.5, alpha=1.5)


def test_the_program_prints_a_table_and_writes_it(workdir, tmp_path):
  place = (f"--workdir={workdir}", f"--dataset={KEY}", "--class=frog")
  path = tmp_path / "frog.csv"
  done = run(*place, "--recall=0.75", f"--csv={path}", "--alpha=0.1")
  assert done.returncode == errors.EXIT_DONE, done.stderr
  lines = done.stdout.splitlines()
  assert lines[0].startswith("pond:test: frog")
  assert re.findall(r"\d+", lines[0]) == ["1", "4", "8"]
  assert lines[2].count("90%") == 2
  assert lines[3].split()[2:7] == ["0.4", "4", "3", "1", "1"]
  assert lines[3].count("75.00% [24.86, 98.73]") == 2
  assert lines[4].split()[-10:-5] == ["3", "2", "2", "1", "66.67%"]
  assert "--threshold=0.4" in done.stdout
  assert max(map(len, lines)) <= 110
  with path.open(newline="") as file:
    chosen, plain = csv.DictReader(file)
  assert (chosen["threshold"], plain["threshold"]) == ("0.4", "")
  assert (chosen["true_positives"], chosen["precision"]) == ("3", "0.75")
  assert chosen["chosen_on_these_examples"] == "True"
  assert float(plain["recall"]) == 0.5


# Frogs have 0.85, 0.3 and 0.05; a dog has 0.45.
OTHERS = (
  ((0.1, 0.85, 0.05), 1),
  ((0.4, 0.3, 0.3), 1),
  ((0.9, 0.05, 0.05), 1),
  ((0.05, 0.45, 0.5), 2),
  ((0.8, 0.1, 0.1), 0),
)


@pytest.fixture(scope="module")
def two_splits(tmp_path_factory):
  """A run with several splits of one data set; one has no cat."""
  workdir = tmp_path_factory.mktemp("two")
  probs, labels = zip(*OTHERS, strict=True)
  written.write(
    workdir,
    written.evaluation(KEY, NAMES, PROBS, LABELS),
    written.evaluation("pond:other", NAMES, np.array(probs), labels),
    written.evaluation("pond:none", NAMES, PROBS[:5], LABELS[:5]),
  )
  return workdir


def judge(workdir, key, other, rule="recall", wanted=0.75, classes=range(3)):
  scores = [operating_points.read_scores(workdir, x) for x in (key, other)]
  return operating_points.judge(*scores, classes, rule, wanted)


def test_thresholds_of_one_split_judged_on_another_by_hand(two_splits):
  rows = judge(two_splits, KEY, "pond:other")
  assert [row["class_name"] for row in rows] == list(NAMES)
  (frog,) = judge(two_splits, KEY, "pond:other", classes=[1])
  assert frog == rows[1]
  assert (frog["dataset"], frog["chosen_on"]) == ("pond:other", KEY)
  # 0.4 finds 3 of the 4 frogs of the first split.
  assert frog["threshold"] == 0.4 and not frog["chosen_on_these_examples"]
  counts = ("true", "false")
  names = [f"{x}_{y}" for x in counts for y in ("positives", "negatives")]
  assert [frog[name] for name in names] == [1, 1, 1, 2]
  assert frog["recall"] == 1 / 3 and frog["precision"] == 0.5
  low, high = intervals.clopper_pearson(1, 3)
  assert (frog["recall_ci_low"], frog["recall_ci_high"]) == (low, high)


def test_a_class_without_a_threshold_has_the_reason(two_splits):
  # A frog has more of a cat, 0.9, than the only cat, 0.8.
  out_of_reach = ("pond:other", KEY, "precision", 0.9)
  no_example = ("pond:none", KEY)
  for given, setting in (
    (out_of_reach, "--precision"),
    (no_example, "--class"),
  ):
    cat, *others = judge(two_splits, *given)
    for name in ("threshold", "recall", "recall_ci_low", "true_positives"):
      assert cat[name] is None and others[0][name] is not None
    assert cat["flagged_if"] and "probability" not in cat["flagged_if"]
    with pytest.raises(errors.InputError, check=raising.about(setting)):
      judge(two_splits, *given, classes=[0])
  assert "at most 0.5," in judge(two_splits, *out_of_reach)[0]["flagged_if"]


def test_splits_that_share_images_are_refused(two_splits, workdir):
  for folder, other in ((two_splits, KEY), (workdir, "pond:twins")):
    with pytest.raises(errors.InputError, check=raising.about("--judge")):
      judge(folder, KEY, other)
  found = operating_points.read_scores(two_splits, KEY).files
  part = {
    name: None if array is None else array[:3]
    for name, array in vars(found.predictions).items()
  }
  same = inputs.Predictions(**part)
  moved = {**part, "top5_prob": part["top5_prob"] / 2}
  others = inputs.Predictions(**moved)
  for key, predictions, shared in (
    ("pond+ema:part", others, True),
    ("lake:test", same, True),  # the same images under another name
    ("lake:test", others, False),  # equal ids, other predictions
    ("pond:test", None, False),
  ):
    other = inputs.DatasetFiles(key, predictions=predictions)
    assert inputs.share_images(found, other) == shared
    assert inputs.share_images(other, found) == shared


def test_all_classes_of_real_probabilities_against_loops(tmp_path):
  shared = shared_files.shared_path("data")
  probs = np.load(shared / "label-errors/cifar10_test_set_pyx.npy")
  labels = np.load(shared / "CIFAR-10.1/cifar10_test_labels.npy")
  names = [f"class {k}" for k in range(10)]
  parts = {"a:test": slice(5000), "b:half": slice(5000, None)}
  for key, part in parts.items():
    pair = written.evaluation(key, names, probs[part], labels[part])
    written.write(tmp_path / key[0], pair)
  a, b = (operating_points.read_scores(tmp_path / key[0], key) for key in parts)
  rows = operating_points.judge(a, b, range(10), "recall", 0.95)
  for k, row in enumerate(rows):
    own = np.sort(a.probs[labels[:5000] == k, k])[::-1]
    least = own[int(np.ceil(0.95 * len(own))) - 1]
    below = np.max(a.probs[:, k][a.probs[:, k] < least])
    assert below < row["threshold"] <= least
    flagged = b.probs[:, k] >= row["threshold"]
    assert row["true_positives"] == np.sum(flagged & (labels[5000:] == k))
    assert row["false_positives"] == np.sum(flagged & (labels[5000:] != k))
    assert row["recall"] == pytest.approx(0.95, abs=0.04)


def test_the_program_judges_all_classes_or_one(two_splits, tmp_path):
  path = tmp_path / "all.csv"
  place = (two_splits, f"--choose={KEY}", "--judge=pond:other")
  done = run(*place, "--recall=0.75", f"--csv={path}", "--class=all")
  assert done.returncode == errors.EXIT_DONE, done.stderr
  lines = done.stdout.splitlines()
  assert re.findall(r"(\d+) of (\d+)", lines[0]) == [("2", "3")]
  assert [line.split()[0] for line in lines[2:]] == ["class", *NAMES]
  with path.open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert [row["class_name"] for row in rows] == list(NAMES)
  assert {row["chosen_on"] for row in rows} == {KEY}
  alone = run(*place, "--recall=0.75", "--class=frog")
  assert alone.stdout.splitlines()[-1].split() == lines[4].split()
  for args, message in (
    ((*place, "--threshold=0.5"), "--threshold"),
    ((*place, "--recall=0.5", f"--dataset={KEY}"), "--dataset"),
    ((*place[:2], "--recall=0.5"), "--judge"),
    ((*place, "--recall=1.5"), "--recall"),
  ):
    done = run(*args)
    assert done.returncode == errors.EXIT_USAGE, done
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_bad_flags_end_in_one_line(workdir, tmp_path):
  file = tmp_path / "file"
  file.touch()
  place = (f"--workdir={workdir}", f"--dataset={KEY}", "--class=frog")
  for args, message in (
    (place, "--precision"),
    ((*place, "--recall=1", "--threshold=0.5"), "--recall and --threshold"),
    ((*place, "--recall=0.5", f"--csv={file}/x"), f"{file}/x"),
    (place[:2], "--class"),
  ):
    done = run(*args)
    assert done.returncode == errors.EXIT_USAGE, done
    assert message in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
