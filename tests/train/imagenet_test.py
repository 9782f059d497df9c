"""ImageNet in miniature, end to end: prepared by TFDS, trained, evaluated."""

import json
import re

import numpy as np
import pytest

from imgbench import cli
from imgbench.configs import imagenet_fake
from imgbench.report import inputs
from imgbench.report import overview
from imgbench.report import recommendations
from imgbench.train import loop
from tests.data import fake_folder

pytestmark = pytest.mark.slow
VALIDATION = "imagenet2012_multilabel:validation"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A short run of the config, evaluated on every version."""
  config = imagenet_fake.get_config()
  config.data.data_dir = str(fake_folder.prepared())
  config.steps.total = "60 steps"
  workdir = tmp_path_factory.mktemp("imagenet")
  return workdir, loop.train_and_evaluate(config, str(workdir))


def tfds_definition(predictions, annotations, wnids):
  """The numbers that TFDS documents, from the files, image by image."""
  by_class = {k: [] for k in range(len(wnids))}
  for name, label, top in zip(
    predictions["image_id"],
    predictions["label"],
    predictions["top5"][:, 0],
    strict=True,
  ):
    if name in annotations["problematic_images"]:
      continue
    lists = annotations["initial_annots"][name]
    accepted = lists.get("correct", []) + lists.get("unclear", [])
    by_class[int(label)].append(wnids[top] in accepted)
  assert all(by_class.values())
  return float(np.mean([np.mean(hits) for hits in by_class.values()]))


@pytest.mark.parametrize("parameters", ["", "+ema"])
def test_multilabel_accuracy_is_what_tfds_documents(finished, parameters):
  from imgbench.labels import classes

  workdir, results = finished
  path = fake_folder.manual_dir() / "human_accuracy_v3.0.0.json"
  annotations = json.loads(path.read_text())
  key = VALIDATION.replace(":", f"{parameters}:")
  name = key.replace(":", "-")
  name = name.replace("+", "_")
  with np.load(workdir / f"predictions/{name}.npz") as predictions:
    expected = tfds_definition(
      predictions, annotations, classes.imagenet_classes().wnids
    )
  entry = results[f"{key}/all/multilabel_accuracy.tfds"]
  assert entry["value"] == pytest.approx(expected, rel=1e-12)
  assert entry["n"] == 1000 and expected > 0


def test_every_version_is_evaluated_once(finished):
  _, results = finished
  sizes = {
    "imagenet2012:validation": 1050,
    "imagenet2012_real:validation": 1050,
    VALIDATION: 1050,
    "imagenet2012_multilabel:imagenet_m": 68,
    "imagenet_v2-matched-frequency:test": 1000,
    "imagenet_v2-threshold-0.7:test": 1000,
    "imagenet_v2-topimages:test": 1000,
    "imagenet_a:test": 200,
    "imagenet_r:test": 200,
  }
  for key, size in sizes.items():
    for name in (key, key.replace(":", "+ema:")):
      assert results[f"{name}/all/top1_accuracy"]["n"] == size, name
  real = results["imagenet2012_real:validation/all/real_accuracy"]
  assert 900 < real["n"] < 1050


def test_the_three_recommendations_are_there(finished):
  workdir, results = finished
  for subset in ("dog", "organism", "object"):
    assert f"{VALIDATION}/{subset}/top1_accuracy" in results
  drop = results["imagenet_v2-matched-frequency:test/all/top1_accuracy.drop"]
  base = results["imagenet2012:validation/all/top1_accuracy"]["value"]
  here = results["imagenet_v2-matched-frequency:test/all/top1_accuracy"]
  assert drop["value"] == pytest.approx(base - here["value"])
  assert drop["ci_low"] <= drop["value"] <= drop["ci_high"]
  page = (workdir / "report.html").read_text()
  for words in (recommendations.TITLE, recommendations.KINDS):
    assert words in page
  assert "organisms except dogs" in page


def test_results_and_report_say_that_the_images_are_drawn(finished):
  workdir, results = finished
  described = json.loads((workdir / "environment.json").read_text())
  assert set(described["synthetic"]) == set(described["data"])
  assert "imagenet2012:train" in described["synthetic"]
  for key, entry in results.items():
    assert "synthetic" in entry["definition"], key
  page = (workdir / "report.html").read_text()
  banner = page.partition("Synthetic data:")[2].partition("</div>")[0]
  assert "imagenet_v2-topimages:test" in banner
  *sections, _ = re.findall("<section.*?</section>", page, re.S)
  assert len(sections) > 8
  assert {text.count("synthetic") for text in sections} == {1}


def test_the_page_shows_each_image_once(finished):
  run = inputs.read(finished[0])
  base = "imagenet2012:validation"
  for key in (VALIDATION, "imagenet2012_real:validation"):
    assert run.repeats[key] == base
  assert [dataset.key for dataset in run.charted] == [
    base,
    "imagenet_v2-matched-frequency:test",
    "imagenet_v2-threshold-0.7:test",
    "imagenet_v2-topimages:test",
    "imagenet_a:test",
    "imagenet_r:test",
  ]
  assert run.charted[0].predictions.review is not None
  tiles = overview.build_header(run)["tiles"]
  shown = [tile.heading.partition(" on ")[2] for tile in tiles]
  assert shown == [
    base,
    *sorted([VALIDATION, "imagenet2012_real:validation"], key=shown.index),
    "imagenet_v2-matched-frequency:test",
  ]


def test_imagenet_a_is_compared_with_200_way_predictions(finished):
  workdir, results = finished
  classes = np.unique(saved(workdir, "imagenet_a-test")["label"])
  label = saved(workdir, "imagenet2012-validation")["label"]
  start = results["imagenet_a:test/all/top1_accuracy.base"]
  assert start["n"] == np.isin(label, classes).sum() == 250
  assert "; only the 200 classes of imagenet_a:test" in start["definition"]
  # Fewer classes to confuse it with: no hit is lost.
  top1 = saved(workdir, "imagenet2012-validation")["top5"][:, 0]
  assert start["correct"] >= (top1 == label)[np.isin(label, classes)].sum()
  drop = results["imagenet_a:test/all/top1_accuracy.drop"]
  here = results["imagenet_a:test/all/top1_accuracy"]["value"]
  assert drop["value"] == pytest.approx(start["value"] - here)
  assert "on both sets only the 200 classes" in drop["definition"]


def saved(workdir, name):
  """The predictions of a set."""
  with np.load(workdir / f"predictions/{name}.npz") as predictions:
    return dict(predictions)


def test_only_classes_of_the_set_are_predicted(finished):
  workdir, _ = finished
  with np.load(workdir / "predictions/imagenet_a-test.npz") as predictions:
    assert np.isin(predictions["top5"], predictions["label"]).all()
    assert len(set(predictions["label"])) == 200


def test_a_checkpoint_is_evaluated_on_every_version(finished, tmp_path):
  """By configs/evaluate.py, which only reads the other run."""
  workdir, results = finished
  texts = ["logging.report=False"]
  config = cli.read_config(f"evaluate:from={workdir}", texts)
  assert loop.train_and_evaluate(config, str(tmp_path)) == results
