"""Tests of section evaluation: what it asks for is what is measured."""

import json

import ml_collections
import numpy as np
import pytest

from imgbench import config as config_lib
from imgbench import errors
from imgbench.configs import tiny
from imgbench.metrics import specs
from imgbench.train import compute
from imgbench.train import evaluation
from imgbench.train import loop
from imgbench.train import setup
from tests import raising

KEY = "scenes:validation"


def open_split(config):
  return setup.open_data(config_lib.parse(config)).split


def config_with(**changes):
  config = tiny.get_config()
  config.logging.report = False
  config.steps.total = "2 steps"
  config.evaluation.update(ml_collections.ConfigDict(changes))
  return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A run with every setting other than usual."""
  workdir = tmp_path_factory.mktemp("run")
  # A class by its index and one by its name.
  names = open_split(config_with(sets={})).info.class_names
  mask = workdir / "pair.txt"
  mask.write_text(f"3\n{names[5]}  # by name\n")
  config = config_with(
    ks=[1, 2, 20],
    alpha=0.5,
    class_masks=dict(pair=str(mask)),
    warnings=dict(baseline_skill=0.0, named_classes=0, train_gap=1.0),
  )
  config.evaluation.sets.v2.probabilities = False
  results = loop.train_and_evaluate(config, str(workdir / "run"))
  return workdir / "run", results


def test_any_k(finished):
  _, results = finished
  correct = [results[f"{KEY}/all/top{k}_accuracy"]["correct"] for k in (2, 20)]
  assert results[f"{KEY}/all/top1_accuracy"]["correct"] <= correct[0]
  assert correct[0] < correct[1]
  assert f"{KEY}/all/top5_accuracy" not in results


@pytest.mark.parametrize("flip_average", [False, True])
def test_definitions_name_test_time_augmentation(flip_average):
  settings = config_lib.parse(config_with(flip_average=flip_average))
  info = open_split(config_with()).info
  plan = evaluation.plan(settings.evaluation, info)
  assert plan.protocol == (specs.MIRRORED if flip_average else "")


def test_alpha_sets_the_width_of_intervals(finished, tmp_path):
  _, results = finished
  usual = loop.train_and_evaluate(config_with(), str(tmp_path / "usual"))
  key = f"{KEY}/all/top1_accuracy"
  assert usual[key]["correct"] == results[key]["correct"]
  assert usual[key]["ci_low"] < results[key]["ci_low"]


def test_a_file_of_classes_is_a_subset(finished):
  workdir, results = finished
  with np.load(workdir / "predictions/scenes-validation.npz") as predictions:
    label, top1 = predictions["label"], predictions["top5"][:, 0]
  mine = np.isin(label, [3, 5])
  entry = results[f"{KEY}/pair/top1_accuracy"]
  assert entry["n"] == mine.sum() > 0
  assert entry["correct"] == (top1 == label)[mine].sum()
  assert "scenes:v2/pair/top1_accuracy" in results


def test_warnings_follow_their_settings(finished):
  workdir, _ = finished
  rows = json.loads((workdir / "warnings.json").read_text())
  assert not [row for row in rows if row["name"] == "low_recall"]


def test_probabilities_are_kept_unless_told_otherwise(finished):
  workdir, results = finished
  with np.load(workdir / "predictions/scenes-validation.npz") as predictions:
    probs, top5 = predictions["probs"], predictions["top5"]
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probs.argmax(axis=1), top5[:, 0])
    np.testing.assert_allclose(
      probs.max(axis=1), predictions["top5_prob"][:, 0], rtol=1e-5
    )
  with np.load(workdir / "predictions/scenes-v2.npz") as predictions:
    assert "probs" not in predictions
  assert f"{KEY}/all/macro_average_precision" in results
  assert "scenes:v2/all/macro_average_precision" not in results


def test_norms_are_folded_on_accelerators_only(tmp_path, monkeypatch):
  """The form for GPUs and TPUs, run on a CPU; averaged parameters too."""
  config = config_with()
  config.ema.decay = 0.5
  probs = []
  for name in ("plain", "folded"):
    loop.train_and_evaluate(config, str(tmp_path / name))
    file = "predictions/scenes_ema-validation.npz"
    with np.load(tmp_path / name / file) as predictions:
      probs.append(predictions["probs"])
    monkeypatch.setattr(
      compute.Compute, "fold_for_evaluation", compute.Compute.fold
    )
  np.testing.assert_allclose(*probs, rtol=1e-4)
  assert (probs[0] != probs[1]).any()


def test_a_base_set_is_predicted_among_the_classes_of_the_other(tmp_path):
  """Its accuracy, from the probabilities that were written."""
  config = config_with(shift=dict(base="val", sets=("v2",)))
  config.evaluation.sets.val.type = "classification"
  config.evaluation.sets.v2.update(split="v2[:10]")
  config.evaluation.sets.v2.restrict_classes = True
  config.ema.decay = 0.5
  results = loop.train_and_evaluate(config, str(tmp_path))
  for name in ("scenes", "scenes+ema"):
    file = name.replace("+", "_")
    with np.load(tmp_path / f"predictions/{file}-validation.npz") as kept:
      label, probs = kept["label"], kept["probs"]
    with np.load(tmp_path / f"predictions/{file}-v2__10_.npz") as kept:
      classes = np.unique(kept["label"])
      assert np.isin(kept["top5"], classes).all()
    assert len(classes) == 10
    mine = np.isin(label, classes)
    top1 = classes[probs[:, classes].argmax(axis=1)]
    start = results[f"{name}:v2[:10]/all/top1_accuracy.base"]
    assert start["n"] == mine.sum()
    assert start["correct"] == (top1 == label)[mine].sum()
    # Among all classes others are right.
    assert start["correct"] != (probs.argmax(axis=1) == label)[mine].sum()
    here = results[f"{name}:v2[:10]/all/top1_accuracy"]["value"]
    drop = results[f"{name}:v2[:10]/all/top1_accuracy.drop"]
    assert drop["value"] == pytest.approx(start["value"] - here)
    assert f"only the 10 classes of {name}:v2[:10]" in drop["definition"]


@pytest.mark.parametrize(
  "changes, setting",
  [
    (dict(ks=[0]), "ks"),
    (dict(alpha=1.0), "alpha"),
    (
      dict(class_masks=dict(frogs="nowhere.txt")),
      "class_masks.frogs: nowhere.txt",
    ),
    (
      dict(
        shift=dict(base="val", sets=("v2",)),
        sets=dict(
          val=dict(split="validation", restrict_classes=True),
          v2=dict(split="v2"),
        ),
      ),
      "shift.base",
    ),
    (dict(class_masks={"all": "x"}), "class_masks.all"),
    (dict(class_masks=dict(frogs=3)), "class_masks.frogs"),
    (dict(warnings=dict(recal_gap=0.1)), "warnings.recal_gap"),
    (dict(warnings=dict(recall_gap=-1.0)), "warnings.recall_gap"),
    (
      dict(sets=dict(val=dict(split="validation", probabilities="yes"))),
      "sets.val.probabilities",
    ),
  ],
)
def test_bad_settings_are_named_before_data_are_read(changes, setting):
  config = config_with(**changes)
  about = raising.about(f"evaluation.{setting}")
  with pytest.raises(errors.InputError, check=about):
    setup.open_data(config_lib.parse(config))


def test_a_mask_may_not_take_the_name_of_a_subset(tmp_path):
  path = tmp_path / "dogs.txt"
  path.write_text("0\n")
  config = config_with(class_masks=dict(dog=str(path)))
  about = raising.about("evaluation.class_masks.dog", given="dog")
  with pytest.raises(errors.InputError, check=about):
    setup.open_data(config_lib.parse(config))


def test_fault_01_processes_with_other_damaged_examples_end(monkeypatch):
  ids = np.array(["a", "b", "c"])
  evaluation.check_same_examples("toy:test", ids)
  for other in ([[2, 5]], [[3, 5]]):
    monkeypatch.setattr(
      evaluation.arrays,
      "gather_rows",
      lambda own, other=other: np.concatenate([own, np.uint32(other)]),
    )
    with pytest.raises(errors.InputError, check=raising.about("toy:test")):
      evaluation.check_same_examples("toy:test", ids)
