"""Tests of reading a clone: names, orientation, absent and refused files."""

import pathlib

import numpy as np
import pytest

from imgbench import errors
from imgbench.experiments.benchmarks.paper_scripts import clone as testbed_clone
from imgbench.papers import records
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from tests import raising
from tests.data import shared_files
from tests.papers import clones

VALIDATION, V2 = clones.VALIDATION, clones.MATCHED_FREQUENCY


def put(repo, dataset, model, ranking):
  return testbed_clone.write_predictions(repo, dataset, model, ranking)


def ranking(repo, dataset, model):
  return np.load(repo / "data/predictions" / dataset / f"{model}.npy")


def test_what_is_there_is_read(tmp_path):
  repo = clones.small(tmp_path)
  found = clone.read(repo)
  # The order of the tables, not of the folder.
  assert list(found.datasets) == [VALIDATION, V2] == list(found.predictions)
  for name, of_models in found.predictions.items():
    assert [p.model for p in of_models] == ["good", "poor"]
    for p in of_models:
      assert p.dataset == name and p.ranking.dtype == np.int16
      np.testing.assert_array_equal(p.ranking, ranking(repo, name, p.model))
  assert found.own == frozenset()
  assert {path.name for path in found.files} == {
    "class_info.json",
    f"{VALIDATION}.json",
    f"{V2}.json",
    "good.npy",
    "poor.npy",
  }
  assert len(found.files) == 7 == len({*found.files})
  (note,) = found.notes
  absent = "imagenet-annotatedval20k-0, imagenetv2-a-44, imagenetv2-c-12"
  assert absent in note


def test_only_the_data_sets_that_are_asked_for(tmp_path):
  repo = clones.small(tmp_path)
  found = clone.read(repo, datasets=[V2])
  assert list(found.datasets) == [V2] == list(found.predictions)
  assert found.notes == ()
  check = raising.about("datasets", given="'v2'")
  with pytest.raises(errors.InputError, check=check):
    clone.read(repo, datasets=["v2"])
  check = raising.about("--repo", given=repo)
  with pytest.raises(errors.InputError, match="imagenetv2-a-44", check=check):
    clone.read(repo, datasets=[datasets.THRESHOLD])


def test_other_folders_and_files_are_counted(tmp_path):
  repo = clones.small(tmp_path)
  folder = repo / "data/predictions"
  for i in range(3):
    (folder / f"imagenetv2-b-{i}").mkdir()
  (folder / V2 / "notes.txt").write_text("")
  (folder / V2 / "._good.npy").write_bytes(b"left by another system")
  notes = clone.read(repo).notes
  assert "data/predictions has 3 " in notes[0]
  assert f"{V2}: 1 " in notes[2] and ".npy" in notes[2]


def test_the_suffix_is_no_part_of_a_name(tmp_path):
  repo = clones.small(tmp_path)
  folder = repo / "data/predictions" / V2
  (folder / "poor.npy").rename(folder / "poor_model.npy")
  found = clone.read(repo)
  assert [p.model for p in found.predictions[V2]] == ["good", "poor"]
  assert found.predictions[V2][1].path.name == "poor_model.npy"
  assert len(found.notes) == 1  # The model has both data sets.


def test_two_files_of_one_name_are_refused(tmp_path):
  repo = clones.small(tmp_path)
  put(repo, V2, "good_model", ranking(repo, V2, "good"))
  folder = repo / "data/predictions" / V2
  check = raising.about(str(folder), given="good.npy and good_model.npy")
  with pytest.raises(errors.InputError, check=check):
    clone.read(repo)
  put(repo, V2, "_model", ranking(repo, V2, "good"))
  check = raising.about(str(folder / "_model.npy"), given="'_model'")
  with pytest.raises(errors.InputError, check=check):
    clone.read(repo)


def test_models_that_lack_a_data_set_are_noted(tmp_path):
  repo = clones.small(tmp_path)
  for i in range(10):
    put(repo, VALIDATION, f"more{i}", ranking(repo, VALIDATION, "poor"))
  (repo / "data/predictions" / VALIDATION / "good.npy").unlink()
  notes = clone.read(repo).notes
  assert notes[1:] == (
    f"{VALIDATION}: no predictions of 1 model: good",
    f"{V2}: no predictions of 10 models: more0, more1, more2, more3, more4,"
    " more5, more6, more7 and 2 more",
  )


def turned_clone(folder):
  """With a model "upset" that is worst first in V2 only."""
  repo = clones.small(folder)
  for name, step in ((VALIDATION, 1), (V2, -1)):
    put(repo, name, "upset", ranking(repo, name, "good")[:, ::step])
  return repo


def test_a_file_that_is_worst_first_is_left_out(tmp_path):
  found = clone.read(turned_clone(tmp_path))
  assert [p.model for p in found.predictions[V2]] == ["good", "poor"]
  assert len(found.predictions[VALIDATION]) == 3
  (note,) = found.notes[1:]
  assert f"{V2}: upset.npy" in note and "left out" in note
  assert "--allow_reversed=upset" in note


def test_allowed_files_are_turned_and_only_those(tmp_path):
  repo = turned_clone(tmp_path)
  # Unless named, another model stays out.
  put(repo, V2, "upset2", ranking(repo, V2, "upset"))
  found = clone.read(repo, allow_reversed=["upset", "good", "upset"])
  for name in (VALIDATION, V2):
    by_model = {p.model: p.ranking for p in found.predictions[name]}
    assert list(by_model) == ["good", "poor", "upset"]
    np.testing.assert_array_equal(by_model["upset"], by_model["good"])
    np.testing.assert_array_equal(by_model["good"], ranking(repo, name, "good"))
  turned, left_out, useless = found.notes[1:4]
  assert f"{V2}: upset.npy" in turned and "left out" not in turned
  assert "--allow_reversed=upset" in turned
  assert f"{V2}: upset2.npy" in left_out and "left out" in left_out
  assert "--allow_reversed=good:" in useless


def test_an_unknown_model_in_allow_reversed_is_refused(tmp_path):
  repo = turned_clone(tmp_path)
  check = raising.about("--allow_reversed", given="upsett")
  with pytest.raises(errors.InputError, check=check) as raised:
    clone.read(repo, allow_reversed=["upsett"])
  assert "upset?" in raised.value.fix


def test_a_refused_file_ends_the_reading(tmp_path):
  repo = clones.small(tmp_path)
  put(repo, V2, "long", ranking(repo, VALIDATION, "good")[:-1])
  path = repo / "data/predictions" / V2 / "long.npy"
  check = raising.about(str(path))
  with pytest.raises(errors.InputError, match="400 rows", check=check):
    clone.read(repo)


@pytest.mark.parametrize(
  "part",
  [
    f"data/predictions/{V2}/good.npy",
    f"data/datasets/{V2}.json",
    "data/metadata/class_info.json",
  ],
)
def test_pointers_of_git_lfs_are_refused(tmp_path, part):
  repo = clones.small(tmp_path)
  (repo / part).write_text(
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 400128\n"
  )
  check = raising.about(str(repo / part))
  with pytest.raises(errors.InputError, match="git lfs", check=check):
    clone.read(repo)


@pytest.mark.parametrize(
  "part", [f"data/datasets/{V2}.json", "data/metadata/class_info.json"]
)
def test_a_file_that_the_clone_lacks_is_named(tmp_path, part):
  repo = clones.small(tmp_path)
  (repo / part).unlink()
  check = raising.about(str(repo / part), given="No such file or directory")
  with pytest.raises(errors.InputError, check=check):
    clone.read(repo)


def test_folders_that_are_no_clone_are_refused_with_a_fix(tmp_path):
  empty = clones.write(tmp_path / "a", {V2: (clones.labels_of(4), {})})
  for repo in (tmp_path, tmp_path / "absent", empty):
    check = raising.about("--repo", given=repo)
    with pytest.raises(errors.InputError, match=clone.URL, check=check):
      clone.read(repo)


def test_real_clone():
  found = clone.read(shared_files.shared_path("data", "ImageNetV2"))
  top1 = {
    (p.model, name): 100 * np.mean(p.ranking[:, 0] == dataset.labels)
    for name, dataset in found.datasets.items()
    for p in found.predictions[name]
  }
  assert len(top1) == 80 and len(found.notes) == 1  # None is worst first.
  assert round(top1["resnet50", VALIDATION], 2) == 76.13
  assert round(top1["resnet50", V2], 2) == 63.33
  assert round(top1["pnasnet_large_tf", VALIDATION], 2) == 82.86
  assert round(top1["pnasnet_large_tf", V2], 2) == 72.19


@pytest.mark.parametrize(
  ("num_classes", "size", "hits", "noted"),
  [
    (3, 300, 100, True),
    (3, 300, 268, False),
    (10, 10_000, 998, True),
    (10, 10_000, 2_500, False),
    (1000, 50_000, 150, True),
    (1000, 50_000, 500, False),
  ],
)
def test_models_that_guess_are_noted(num_classes, size, hits, noted):
  labels = np.arange(size) % num_classes
  other = (labels + 1 + np.arange(size) % 2) % num_classes
  images = records.Dataset(
    "set",
    np.arange(size).astype(str),
    labels.astype(np.int32),
    tuple(map(str, range(num_classes))),
    {},
    pathlib.Path("set"),
  )
  top = np.where(np.arange(size) < hits, labels, other).astype(np.int16)
  one = records.RankedPredictions("mine", "set", top[:, None], images.path)
  notes = clone.note_own([one], {"set": images}, {"mine"})
  assert len(notes) == noted
