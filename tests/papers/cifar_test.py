import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.papers import evaluate
from imgbench.papers.readers import cifar
from tests import raising
from tests.data import shared_files
from tests.papers import cifar_files


@pytest.fixture
def clone(tmp_path):
  return cifar_files.write(tmp_path)


def test_a_clone_is_read(clone):
  found = cifar.read(*clone)
  datasets, predictions = found.datasets, found.predictions
  assert list(datasets) == list(cifar.KNOWN)
  assert not found.notes and not found.own
  assert len(found.files) == len(set(found.files)) == 3 + 9
  for version, name in cifar_files.DATASETS.items():
    dataset = datasets[name]
    assert len(dataset) == cifar_files.SIZES[version]
    np.testing.assert_array_equal(dataset.labels, cifar_files.labels(version))
    assert [p.model for p in predictions[name]] == ["alpha", "beta", "gamma"]
    evaluator = evaluate.RankingEvaluator(dataset, ks=(1,))
    for p in predictions[name]:
      ((key, measured),) = evaluator(p).measurements.items()
      wrong = cifar_files.ERRORS[p.model][version]
      assert key[-1] == "top1_accuracy"
      assert measured.correct == len(dataset) - wrong


def test_image_ids_are_those_of_tfds_where_it_has_some(clone):
  datasets = cifar.read_datasets(*clone)
  first = {name: str(d.image_ids[0]) for name, d in datasets.items()}
  assert first == {
    "cifar10-test": "test_00000",
    "cifar10.1-v4": "cifar10.1-v4_00000",
    "cifar10.1-v6": "cifar10.1-v6_00000",
  }


def test_a_version_that_is_absent_is_left_out(clone):
  repo, labels = clone
  (repo / "datasets/cifar10.1_v6_labels.npy").unlink()
  found = cifar.read(repo, labels)
  assert list(found.datasets) == ["cifar10-test", "cifar10.1-v4"]
  assert found.notes == ("model_predictions: not read: v6_predictions",)


def test_a_model_that_lacks_a_set_is_noted(clone):
  repo, labels = clone
  folder = repo / "model_predictions/v4_predictions"
  (folder / "beta_predictions.json").unlink()
  found = cifar.read(repo, labels)
  there = [p.model for p in found.predictions["cifar10.1-v4"]]
  assert there == ["alpha", "gamma"]
  assert found.notes == ("cifar10.1-v4: no predictions of 1 model: beta",)


@pytest.mark.parametrize("suffix", [".json", ".bin"])
def test_other_files_of_labels(tmp_path, suffix):
  labels = np.array([3, 8, 0, 9])
  path = tmp_path / f"labels{suffix}"
  if suffix == ".json":
    path.write_text(json.dumps(labels.tolist()))
  else:
    records = np.full((4, 3073), 77, np.uint8)
    records[:, 0] = labels
    records.tofile(path)
  read = cifar.read_labels(path)
  assert read.dtype == np.int32
  np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize(
  ("name", "content", "setting", "given"),
  [
    ("a.npy", np.array([1, 10]), ", element 1", 10),
    ("a.npy", np.array([1, -1]), ", element 1", -1),
    ("a.npy", np.array([1.0]), "", "float64 [1]"),
    ("a.npy", np.array([[1]]), "", "int64 [1, 1]"),
    ("a.npy", np.array([], np.int32), "", "int32 [0]"),
    ("a.npy", np.array([None]), "", None),
    ("a.npy", b"no array", "", None),
    ("a.bin", b"123", "", "3 bytes"),
    ("a.json", b"{}", "", "a dict"),
    ("a.txt", b"1", "", "'.txt'"),
    ("a.npy", None, "", "FileNotFoundError: No such file or directory"),
  ],
)
def test_labels_that_are_refused(tmp_path, name, content, setting, given):
  path = tmp_path / name
  if isinstance(content, bytes):
    path.write_bytes(content)
  elif content is not None:
    np.save(path, content)
  check = raising.about(f"{path}{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    cifar.read_labels(path)


@pytest.mark.parametrize(
  ("content", "setting", "given"),
  [
    ("[1, 2]", "", 2),
    ("[1, 2.0]", ", element 1", 2.0),
    ("[true]", ", element 0", True),
    ("[1, null]", ", element 1", None),
    ("[[1]]", ", element 0", [1]),
    (str([1] * 29 + [10]), ", row 29, column 0 (both from 0)", 10),
    (str([-1] + [1] * 29), ", row 0, column 0 (both from 0)", -1),
    ('{"a": 1}', "", "a dict"),
    ("[1, 2", "", None),
  ],
)
def test_predictions_that_are_refused(clone, content, setting, given):
  repo, labels = clone
  path = repo / "model_predictions/v4_predictions/beta_predictions.json"
  path.write_text(content)
  check = raising.about(f"{path}{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    cifar.read(repo, labels)


def test_your_models(clone, tmp_path):
  mine = tmp_path / "mine.npy"
  np.save(mine, cifar_files.wrong("v4", 3)[:, None])
  scores = tmp_path / "scores.npz"
  wrong = cifar_files.wrong("original", 5)
  shuffled = np.random.default_rng(0).permutation(40)
  np.savez(
    scores,
    image_id=np.array([f"test_{i:05d}" for i in shuffled]),
    scores=np.eye(10, dtype=np.float32)[wrong[shuffled]],
  )
  found = cifar.read(
    *clone, [f"mine@cifar10.1-v4={mine}", f"mine@cifar10-test={scores}"]
  )
  assert found.own == {"mine"}
  assert found.notes == ("cifar10.1-v6: no predictions of 1 model: mine",)
  for name, hits in (("cifar10.1-v4", 27), ("cifar10-test", 35)):
    (p,) = (p for p in found.predictions[name] if p.model == "mine")
    assert (p.ranking[:, 0] == found.datasets[name].labels).sum() == hits
  assert {mine, scores} < set(found.files)


def test_your_model_that_guesses_is_noted(clone, tmp_path):
  mine = tmp_path / "mine.npy"
  np.save(mine, np.full((30, 1), 3))
  found = cifar.read(*clone, [f"mine@cifar10.1-v4={mine}"])
  assert any("guessing" in note for note in found.notes)


def test_your_model_that_is_worst_first_is_noted(clone, tmp_path):
  mine = tmp_path / "mine.npy"
  labels = cifar_files.labels("original")
  np.save(mine, (labels[:, None] + np.arange(1, 11)) % 10)
  found = cifar.read(*clone, [f"mine@cifar10-test={mine}"])
  (note,) = [note for note in found.notes if "worst first" in note]
  assert "mine on cifar10-test:" in note
  assert "for 0 of 40 " in note and "for 40;" in note


def test_names_that_clash_are_refused(clone, tmp_path):
  mine = tmp_path / "mine.npy"
  np.save(mine, np.full((30, 1), 3))
  for model, times, whose in (("alpha", 1, "clone"), ("mine", 2, "flag")):
    text = f"{model}@cifar10.1-v4={mine}"
    check = raising.about(f"--predictions={text}", given=model)
    with pytest.raises(errors.InputError, match=whose, check=check):
      cifar.read(*clone, [text] * times)


def test_records_of_tfds_do_not_pass_for_images_of_cifar10_1(clone, tmp_path):
  # TFDS shuffles CIFAR-10.1, whose images have no names.
  mine = tmp_path / "mine.npz"
  ids = np.array([f"test_{i:05d}" for i in range(30)])
  np.savez(mine, image_id=ids, top5=np.zeros((30, 1), int))
  check = raising.about(str(mine))
  with pytest.raises(errors.InputError, match="v4_00000", check=check):
    cifar.read(*clone, [f"mine@cifar10.1-v4={mine}"])


def test_labels_in_another_order_are_refused(clone):
  repo, path = clone
  np.save(path, np.sort(cifar_files.labels("original")))
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    cifar.read(repo, path)


def test_a_folder_that_is_no_clone(clone, tmp_path):
  check = raising.about("--repo", given=tmp_path)
  with pytest.raises(errors.InputError, match=cifar.URL, check=check):
    cifar.read_datasets(tmp_path, clone[1])
  folder = clone[0] / "model_predictions/v6_predictions"
  for path in folder.iterdir():
    path.rename(path.with_name(path.name.replace("_predictions", "")))
  check = raising.about(str(folder), given="alpha.json")
  with pytest.raises(errors.InputError, check=check):
    cifar.read(*clone)
  for path in folder.iterdir():
    path.unlink()
  check = raising.about(str(folder), given="none")
  with pytest.raises(errors.InputError, check=check):
    cifar.read(*clone)


def test_the_real_files():
  folder = shared_files.shared_path("data", "CIFAR-10.1")
  found = cifar.read(folder, folder / "cifar10_test_labels.npy")
  sizes = {name: len(dataset) for name, dataset in found.datasets.items()}
  assert sizes == {
    "cifar10-test": 10_000,
    "cifar10.1-v4": 2021,
    "cifar10.1-v6": 2000,
  }
  assert not found.notes
  assert {len(of_set) for of_set in found.predictions.values()} == {30}
