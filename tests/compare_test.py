"""Tests of the comparison of runs, on written ones."""

import csv
import itertools
import json
import types

from absl import flags
import numpy as np
from PIL import Image
import pytest
from scipy import stats

from imgbench import compare
from imgbench import data
from imgbench import errors
from imgbench.metrics import paired
from imgbench.papers import paired_table
from imgbench.report import inputs
from tests import raising
from tests import written
from tests.data import pipeline_test

OPTIONS = {
  "image_size": 16,
  "train_examples": 24,
  "validation_examples": 120,
  "v2_examples": 48,
}
KEY = "scenes:validation"
SPLIT = data.build_source("scenes", "validation", **OPTIONS)
LABEL = SPLIT.load().label
K = SPLIT.info.num_classes


def probabilities(draws, skill):
  """Returns float [N, K] with the label on top for a share of the images."""
  rng = np.random.default_rng(draws)
  probs = rng.dirichlet(np.ones(K), len(LABEL))
  probs[np.arange(len(LABEL)), LABEL] += rng.random(len(LABEL)) < skill
  return probs / probs.sum(axis=1, keepdims=True)


def write_run(workdir, draws, skill, rows=slice(None), **config):
  written.write(
    workdir, written.evaluate(SPLIT, probabilities(draws, skill), rows)
  )
  sets = {"val": {"split": "validation", "type": "multilabel"}}
  section = {"name": "scenes", "data_dir": "", "options": OPTIONS}
  written.write_config(
    workdir,
    data=section,
    evaluation={"every": "never", "sets": sets},
    skill=skill,
    **config,
  )
  return workdir


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """Two runs of one config with other seeds, the second in another order, and
  two of a better one."""
  folder = tmp_path_factory.mktemp("runs")
  order = np.random.default_rng(9).permutation(len(LABEL))
  return [
    write_run(folder / "a0", 0, 0.4, seed=0),
    write_run(folder / "a1", 1, 0.4, order, seed=1),
    write_run(folder / "b0", 2, 0.7, seed=0),
    write_run(folder / "b1", 3, 0.7, seed=1),
  ]


@pytest.fixture(scope="module")
def runs(folders):
  return compare.read_runs(list(map(str, folders)))


def run(monkeypatch, *given, **values):
  """Runs the program in this process; returns its exit code."""
  found = types.SimpleNamespace(
    **({"out": None, "all_pairs": False, "images": 0} | values)
  )
  monkeypatch.setattr(flags, "FLAGS", found)
  return compare.main(["compare", *map(str, given)])


def read_csv(path):
  with path.open(newline="") as file:
    return list(csv.DictReader(file))


def test_rows_agree_with_results_of_the_runs(runs):
  """Runs in another order of images are matched by id."""
  (shared,), notes = compare.match_sets(runs)
  assert (shared.key, notes) == (KEY, [])
  pairs = compare.list_pairs(list(runs), all_pairs=True)
  results = {
    name: {(r.metric, r.subset): r for r in found.results}
    for name, found in runs.items()
  }
  rows = paired_table.compare(compare.list_hits([shared]), pairs)
  means = compare.compare_class_means([shared], pairs)
  assert {row.metric for row in rows} == {
    "top1_accuracy",
    "top5_accuracy",
    "multilabel_accuracy.icml2020",
    "multilabel_accuracy.lenient_mean",
  }
  subsets = {"all", *SPLIT.info.subsets}
  assert {row.subset for row in rows} == subsets
  assert len(rows) == len(pairs) * 4 * len(subsets)
  for row in rows:
    a, b = (
      results[name][row.metric, row.subset]
      for name in (row.model_a, row.model_b)
    )
    assert a.n == b.n == row.n
    assert (a.correct, b.correct) == (
      row.both + row.only_a,
      row.both + row.only_b,
    )
    np.testing.assert_allclose(row.difference, a.value - b.value, atol=1e-12)
  assert {row["metric"] for row in means} == {
    "top1_accuracy.class_mean",
    "multilabel_accuracy.tfds",
  }
  for row in means:
    a, b = (
      results[row[side]][row["metric"], row["subset"]]
      for side in ("model_a", "model_b")
    )
    got = row["value_a"], row["value_b"], row["difference"]
    np.testing.assert_allclose(
      got, (a.value, b.value, a.value - b.value), atol=1e-12
    )
    assert row["n"] == a.n and row["ci_low"] <= got[2] <= row["ci_high"]


def test_p_values_are_those_of_scipy_and_holm_is_over_all_rows(runs):
  shared, _ = compare.match_sets(runs)
  pairs = compare.list_pairs(list(runs), all_pairs=False)
  assert pairs == [("a0", "a1"), ("a0", "b0"), ("a0", "b1")]
  for by_class in (False, True):
    rows = paired_table.compare(compare.list_hits(shared, by_class), pairs)
    for row in rows:
      size = row.only_a + row.only_b
      exact = mid = 1.0
      if size:
        exact = stats.binomtest(row.only_a, size).pvalue
        point = stats.binom.pmf(row.only_a, size, 0.5)
        mid = exact - point * (0.5 if row.only_a == row.only_b else 1)
      np.testing.assert_allclose((row.p_exact, row.p_mid), (exact, mid))
    adjusted = paired.holm([row.p_exact for row in rows])
    assert [row.p_exact_holm for row in rows] == adjusted.tolist()
  classes = {int(row.subset): row for row in rows if row.model_b == "b0"}
  assert sorted(classes) == list(range(K))
  assert sum(row.n for row in classes.values()) == len(LABEL)
  a, b = (shared[0].hits["top1_accuracy"][name] for name in ("a0", "b0"))
  for label, row in classes.items():
    assert row.only_b == np.sum(b & ~a & (label == LABEL))


def test_runs_that_differ_in_the_seed_are_a_group(runs):
  groups = compare.group_seeds(runs)
  assert groups == [["a0", "a1"], ["b0", "b1"]]
  shared, _ = compare.match_sets(runs)
  rows = compare.compare_seeds(shared, groups, all_pairs=False)
  (difference,) = [
    row
    for row in rows
    if row["metric"] == "top1_accuracy" and row["seeds"] == "2 + 2"
  ]
  hits = shared[0].hits["top1_accuracy"]
  of_runs = {name: found.mean() for name, found in hits.items()}
  np.testing.assert_allclose(
    difference["value"],
    (of_runs["a0"] + of_runs["a1"] - of_runs["b0"] - of_runs["b1"]) / 2,
  )
  training = sum(
    np.var([of_runs[name] for name in names], ddof=1) / 2 for names in groups
  )
  np.testing.assert_allclose(difference["training_std"] ** 2, training)
  # The same seed twice is no group: nothing else tells the runs apart.
  twins = {"a": runs["a0"], "b": runs["a0"], "c": runs["b0"]}
  assert compare.group_seeds(twins) == [["a"], ["b"], ["c"]]
  again = {"a": runs["a0"], "b": runs["a1"], "c": runs["a0"]}
  assert compare.group_seeds(again) == [["a"], ["b"], ["c"]]


def test_files_of_a_comparison(folders, tmp_path, monkeypatch, capsys):
  out = tmp_path / "out"
  assert run(monkeypatch, *folders, out=str(out), images=2) == 0
  printed = capsys.readouterr().out
  assert printed.count(KEY) > 20 and str(out) in printed
  rows = read_csv(out / "paired.csv")
  # Runs of one group are not tested against each other.
  compared = {(row["model_a"], row["model_b"]) for row in rows}
  assert compared == {("a0", "b0"), ("a0", "b1")}
  assert len(read_csv(out / "classes.csv")) == 2 * K
  assert len(read_csv(out / "seeds.csv")) == 3 * 4
  images = read_csv(out / "disagreements.csv")
  top1 = [
    row
    for row in rows
    if (row["subset"], row["metric"]) == ("all", "top1_accuracy")
  ]
  assert len(images) == sum(
    int(row["only_a"]) + int(row["only_b"]) for row in top1
  )
  labels = dict(zip(SPLIT.load().image_id.tolist(), LABEL, strict=True))
  for row in images:
    assert int(row["label"]) == labels[row["image_id"]] != int(row["predicted"])
  assert len(list(out.glob("disagreements_*.png"))) == 2
  page = (out / "comparison.html").read_text()
  assert page.count("<img") == 2 and page.count("<table") == 4


def test_without_the_data_there_is_no_sheet(folders, tmp_path, monkeypatch):
  gone = []
  for folder in folders[::2]:
    gone.append(tmp_path / folder.name)
    gone[-1].symlink_to(folder)
  config = json.loads((folders[0] / "config.json").read_text())
  config["data"]["name"] = "cifar10"
  original = inputs.read
  broken = lambda path: types.SimpleNamespace(
    **{**vars(original(path)), "config": config, "training": ()}
  )
  monkeypatch.setattr(inputs, "read", broken)
  out = tmp_path / "out"
  assert run(monkeypatch, *gone, out=str(out), images=4) == 0
  assert not list(out.glob("*.png"))
  assert (out / "comparison.html").read_text().count("<img") == 0


def test_images_of_an_encoded_set(tmp_path):
  """An image that is damaged, or no longer there, is None."""
  split = pipeline_test.write(tmp_path)
  ids = split.examples().image_id.tolist()
  config = {
    "data": {"name": "tiny", "data_dir": str(tmp_path), "options": {}},
    "evaluation": {"sets": {"val": {"split": "train"}, "old": ""}},
  }
  found = inputs.Run(tmp_path, config, {}, {}, (), (), (), ())
  look_up = compare.open_images(found, "tiny+ema:train")
  sizes = [look_up(name).shape for name in ids]
  assert sizes == [image.shape for image in pipeline_test.sizes(len(ids))]
  assert look_up("absent") is None
  with pytest.raises(errors.InputError):
    compare.open_images(found, "tiny:test")


@pytest.mark.parametrize("others", [{}, {"a": "gone"}])
def test_images_of_a_set_whose_results_have_another_name(tmp_path, others):
  """Another set, whose data are gone, hides nothing."""
  for split, name in itertools.product(("train", "val"), "ab"):
    folder = tmp_path / split / name
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(folder / "1.png")
  sets = {
    **{alias: {"data_dir": str(tmp_path / x)} for alias, x in others.items()},
    "val": {"options": {"result_name": "mine"}},
  }
  sets = {alias: {"split": "val", **entry} for alias, entry in sets.items()}
  data_section = {"name": "folder", "data_dir": str(tmp_path), "options": {}}
  config = {"data": data_section, "evaluation": {"sets": sets}}
  found = inputs.Run(tmp_path, config, {}, {}, (), (), (), ())
  look_up = compare.open_images(found, "mine:validation")
  (split,) = {data.build_source("folder", "val", str(tmp_path))}
  assert look_up(split.examples().image_id[0]).shape == (6, 8, 3)


def test_two_seeds_alone_are_compared(folders, tmp_path, monkeypatch):
  out = tmp_path / "out"
  assert run(monkeypatch, *folders[:2], out=str(out)) == 0
  rows = read_csv(out / "paired.csv")
  assert {(row["model_a"], row["model_b"]) for row in rows} == {("a0", "a1")}
  assert {row["seeds"] for row in read_csv(out / "seeds.csv")} == {"2"}


def _change(workdir, size=None, **arrays):
  """Replaces arrays of predictions, or keeps the first rows of all."""
  path = workdir / "predictions" / "scenes-validation.npz"
  with np.load(path) as file:
    found = {**file, **arrays}
  np.savez(path, **{name: array[:size] for name, array in found.items()})


def test_other_images_or_labels_are_refused(folders, tmp_path):
  first, size = folders[0], len(LABEL)
  fewer = write_run(tmp_path / "fewer", 5, 0.5)
  _change(fewer, size=100)
  others = write_run(tmp_path / "others", 5, 0.5)
  ids = SPLIT.load().image_id.astype("U40")
  ids[:7] = [f"new_{i}" for i in range(7)]
  _change(others, image_id=ids)
  doubled = write_run(tmp_path / "doubled", 5, 0.5)
  ids = SPLIT.load().image_id.copy()
  ids[:2] = ids[2]
  _change(doubled, image_id=ids)
  labels = LABEL.copy()
  labels[:3] = (labels[:3] + 1) % K
  relabelled = write_run(tmp_path / "relabelled", 5, 0.5)
  _change(relabelled, label=labels)
  for workdir, what, counts in (
    (fewer, "image_id", (100, 100)),
    (others, "image_id", (size, size - 7)),
    (doubled, "image_id", (size, size - 2)),
    (relabelled, "label", (3, size)),
  ):
    found = compare.read_runs([str(first), str(workdir)])
    check = raising.about(f"{KEY}: {what}")
    with pytest.raises(errors.InputError, check=check) as error:
      compare.match_sets(found)
    for count in counts:
      assert str(count) in error.value.given


def test_runs_without_a_common_set_are_refused(folders, tmp_path):
  other = tmp_path / "other"
  rng = np.random.default_rng(0)
  probs = rng.dirichlet(np.ones(3), 8)
  written.write(
    other, written.evaluation("pond:test", "abc", probs, np.arange(8) % 3)
  )
  found = compare.read_runs([str(folders[0]), str(other)])
  with pytest.raises(errors.InputError, check=raising.about("RUN")):
    compare.match_sets(found)


def test_files_without_subsets_and_images_left_out(folders, tmp_path):
  """Older runs have neither; accuracies against label sets are left out."""
  old = []
  for name, seed in (("x", 1), ("y", 2)):
    workdir = write_run(tmp_path / name, seed, 0.5)
    for path in (
      workdir / "predictions" / "scenes-validation.npz",
      workdir / "confusion.npz",
    ):
      with np.load(path) as file:
        kept = {
          k: v for k, v in file.items() if k != "left_out" and "subset" not in k
        }
      np.savez(path, **kept)
    old.append(str(workdir))
  shared, _ = compare.match_sets(compare.read_runs(old))
  (one,) = shared
  assert list(one.masks) == ["all"]
  assert set(one.hits) == {
    "top1_accuracy",
    "top5_accuracy",
    "top1_accuracy.class_mean",
  }


def test_bad_runs_are_refused(folders, tmp_path):
  first = str(folders[0])
  unfinished = tmp_path / "unfinished"
  written.write_config(unfinished, seed=0)
  for given in (
    [],
    [first],
    [first, f"{first}/"],
    [first, str(unfinished)],
    [first, f"{folders[1]}@8"],
  ):
    with pytest.raises(errors.InputError, check=raising.about("RUN")):
      compare.read_runs(given)


def test_names_are_paths_where_folders_have_the_same(folders, tmp_path):
  nested = tmp_path / "other" / folders[0].name
  write_run(nested, 5, 0.5)
  found = compare.read_runs([str(folders[0]), str(nested)])
  assert list(found) == [str(folders[0]), str(nested)]


def test_pairs():
  names = ["a", "b", "c", "d"]
  assert compare.list_pairs(names, all_pairs=True) == list(
    itertools.combinations(names, 2)
  )
  assert compare.list_pairs([], all_pairs=False) == []
