"""Autoencoders train in the one loop: images are their targets."""

import jax
import numpy as np
import pytest

from imgbench import checkpoints
from imgbench import cli
from imgbench import config as config_lib
from imgbench import errors
from imgbench import predictor
from imgbench import writers
from imgbench.configs import evaluate
from imgbench.configs import scenes_autoencoder
from imgbench.configs import tiny
from imgbench.evaluators import reconstruction
from imgbench.train import loop
from imgbench.train import setup
from tests import raising
from tests.train import processes

VAL, V2 = "scenes:validation", "scenes:v2"


def get_config():
  """Returns 24 steps on 48 to 96 images of 16x16 pixels."""
  config = tiny.get_config()
  config.model = dict(
    name="autoencoder", dtype="float32", widths=(8,), code=4, noise=0.1
  )
  config.loss = dict(name="mse")
  config.schedule.name = "constant"
  del config.schedule["warmup"]
  detect = dict(type="reconstruction", abnormal=("organism",))
  config.evaluation.sets = dict(
    val=dict(split="validation", **detect),
    v2=dict(
      split="v2", every="never", threshold_from="val", recall=0.5, **detect
    ),
  )
  config.steps.total = "24 steps"
  config.checkpoint.best = "val/mse"
  return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Returns the folder of a run and its results."""
  folder = tmp_path_factory.mktemp("run")
  return folder, loop.train_and_evaluate(get_config(), str(folder))


def test_the_error_falls_and_the_best_has_the_lowest(run):
  folder, results = run
  records = processes.read_metrics(folder)
  assert not [r for r in records if "train/top1_accuracy" in r]
  logged = [r for r in records if "train/loss" in r]
  assert all(r["train/mse"] == r["train/loss"] for r in logged)
  measured = {r["step"]: r["val/mse"] for r in records if "val/mse" in r}
  assert list(measured) == [8, 16, 24]
  assert results[f"{VAL}/all/mse"]["value"] == measured[24] < measured[8]
  best = processes.read_json(folder, "status.json")["best"]
  assert best["value"] == min(measured.values())
  assert measured[best["step"]] == best["value"]


def test_results_say_n_range_and_where_the_threshold_is_from(run):
  _, results = run
  subsets = {"all", "normal", "abnormal", "object", "organism", "dog"}
  assert subsets <= {key.split("/")[1] for key in results}
  for key in (VAL, V2):
    whole = results[f"{key}/all/mse"]
    parts = [results[f"{key}/{s}/mse"] for s in ("normal", "abnormal")]
    assert whole["n"] == {VAL: 72, V2: 48}[key]
    # Problematic images are neither.
    counted = sum(part["n"] for part in parts)
    assert counted < whole["n"]
    assert whole["ci_low"] < whole["value"] < whole["ci_high"]
    area = results[f"{key}/all/anomaly_roc_auc"]
    assert area["n"] == counted and 0 <= area["value"] <= 1
    assert "[0, 1]" in results[f"{key}/all/psnr"]["definition"]
  assert f"{VAL}/all/anomaly_recall" not in results
  recall = results[f"{V2}/all/anomaly_recall"]
  assert recall["n"] == results[f"{V2}/abnormal/mse"]["n"]
  assert VAL in recall["definition"] and "50%" in recall["definition"]


def read_file(folder, key):
  """Returns the arrays of a data set's reconstructions."""
  name = f"{writers.make_file_key(key)}.npz"
  with np.load(folder / "reconstructions" / name) as file:
    return dict(file)


def test_the_files_agree_with_the_results(run):
  folder, results = run
  found = read_file(folder, V2)
  assert found["images"].shape == found["reconstructions"].shape
  # The pixels shown are rounded to 1/255.
  gaps = found["images"].astype(float) - found["reconstructions"]
  mse = np.mean((gaps / 255) ** 2, axis=(1, 2, 3))
  np.testing.assert_allclose(mse, found["mse"][found["shown"]], rtol=0.01)
  assert found["shown"][0] == np.argmax(found["mse"])
  threshold = results[f"{V2}/all/anomaly_threshold"]["value"]
  flagged = found["mse"].astype(float) > threshold
  tp = int((flagged & found["abnormal"]).sum())
  assert results[f"{V2}/all/anomaly_recall"]["correct"] == tp
  fp = int((flagged & found["normal"]).sum())
  precision = results[f"{V2}/all/anomaly_precision"]
  assert (precision["correct"], precision["n"]) == (tp, tp + fp)


def test_the_threshold_is_the_highest_with_the_recall_on_the_other_set(run):
  folder, results = run
  threshold = results[f"{V2}/all/anomaly_threshold"]["value"]
  found = read_file(folder, VAL)
  mse = found["mse"][found["normal"] | found["abnormal"]].astype(float)
  abnormal = found["mse"][found["abnormal"]].astype(float)
  assert np.mean(abnormal > threshold) >= 0.5
  assert np.mean(abnormal > mse[mse > threshold].min()) < 0.5


def test_the_page_shows_inputs_beside_reconstructions(run):
  folder, _ = run
  page = (folder / "report.html").read_text()
  for key in map(writers.make_file_key, (VAL, V2)):
    assert (folder / f"errors_{key}.png").stat().st_size > 2000
    section = page.partition(f'id="images-{key}"')[2].partition("<section")[0]
    # Pairs of images, and the figure for light and dark pages.
    assert section.count("data:image/png") == 2 * reconstruction.SHOWN + 2
  assert not list(folder.glob("mistakes*"))


def test_a_checkpoint_is_evaluated_alone(run, tmp_path):
  folder, results = run
  config = evaluate.get_config(f"from={folder}@24")
  again = loop.train_and_evaluate(config, str(tmp_path))
  assert again == results


def test_its_predictions_are_no_classes(run):
  folder, _ = run
  with pytest.raises(errors.InputError, check=raising.about("RUN")):
    predictor.load(folder)


@pytest.mark.slow
def test_a_resumed_run_is_bit_identical(run, tmp_path):
  folder, results = run
  config = get_config()
  for steps in (12, 24):
    config.steps.total = f"{steps} steps"
    resumed = loop.train_and_evaluate(config, str(tmp_path))
  like = setup.prepare(config_lib.parse(config)).state
  states = [
    checkpoints.restore_other(f"{path}@24", like)[0]
    for path in (folder, tmp_path)
  ]
  jax.tree.map(np.testing.assert_array_equal, *states)
  assert resumed == results


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_devices_share_the_work(run, tmp_path, strategy):
  config = get_config()
  config.model.noise = 0.0
  config.logging.report = False
  config.parallel.update(strategy=strategy, devices=4)
  config.evaluation.batch_size = 12
  found = loop.train_and_evaluate(config, str(tmp_path / strategy))
  config.parallel.update(strategy="jit", devices=1)
  alone = loop.train_and_evaluate(config, str(tmp_path / "alone"))
  assert found.keys() == alone.keys()
  for key, value in alone.items():
    if key.endswith(("mse", "mae", "psnr")):
      assert found[key]["value"] == pytest.approx(value["value"], rel=1e-3)
      assert found[key]["n"] == value["n"]


@pytest.mark.parametrize(
  ("overrides", "setting"),
  [
    ({"loss.name": "softmax"}, "loss.name"),
    ({"model.name": "cnn"}, "loss.name"),
    ({"evaluation.sets.val.type": "classification"}, "S.val.abnormal"),
    (
      {"evaluation.sets.v2.type": "multilabel", "S.v2.abnormal": "()"},
      "S.v2.threshold_from",
    ),
    ({"S.val.restrict_classes": "True"}, "S.val.restrict_classes"),
    ({"S.val.abnormal": "('organsm',)"}, "S.val.abnormal"),
    ({"S.v2.threshold_from": "v2"}, "S.v2.threshold_from"),
    ({"S.val.abnormal": "()", "checkpoint.best": ""}, "S.v2.threshold_from"),
    ({"S.v2.recall": "0"}, "S.v2.recall"),
    ({"S.val.recall": "0.5"}, "S.val.recall"),
    ({"evaluation.known_leaks": "leaks.json"}, "evaluation.known_leaks"),
    ({"evaluation.flip_average": "True"}, "evaluation.flip_average"),
    ({"checkpoint.best": "val/top1_accuracy"}, "checkpoint.best"),
    ({"model.noise": "-1"}, "model.noise"),
    ({"model.widths": "(4, 4, 4, 4, 4)"}, "model.widths"),
    ({"data.options.only": "objekt"}, "data.options.only"),
  ],
)
def test_what_does_not_fit_is_refused_before_data_are_read(
  tmp_path, monkeypatch, overrides, setting
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "leaks.json").write_text("{}")
  path = tmp_path / "mine.py"
  path.write_text("from tests.train.reconstruction_test import get_config\n")
  long = lambda key: key.replace("S.", "evaluation.sets.", 1)
  texts = [f"{long(key)}={value}" for key, value in overrides.items()]
  monkeypatch.setattr(setup, "load", None)
  about = raising.about(long(setting))
  with pytest.raises(errors.InputError, check=about):
    setup.prepare(config_lib.parse(cli.read_config(str(path), texts)))


def test_a_classifier_is_not_judged_by_errors_of_images():
  config = tiny.get_config()
  config.checkpoint.best = "val/mse"
  about = raising.about("checkpoint.best", given="'val/mse'")
  with pytest.raises(errors.InputError, check=about):
    setup.prepare(config_lib.parse(config))


def test_a_threshold_is_not_judged_on_images_that_it_is_chosen_on():
  config = get_config()
  config.evaluation.sets.v2.split = "validation[:50%]"
  about = raising.about(
    "evaluation.sets.v2.threshold_from", given="val, which has 36 of 36"
  )
  with pytest.raises(errors.InputError, check=about):
    setup.prepare(config_lib.parse(config))


def test_the_shipped_config_trains_on_objects_alone():
  config = scenes_autoencoder.get_config()
  config.data.options.update(train_examples=2400, validation_examples=96)
  splits = setup.open_data(config_lib.parse(config))
  assert 0 < splits.split.info.num_examples < 1200
  sizes = {a: s.info.num_examples for a, s in splits.plan.sources.items()}
  assert sizes["val"] == sizes["judged"] == 48
