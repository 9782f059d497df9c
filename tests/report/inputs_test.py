"""Reading the files of a run: broken ones are rejected by name."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import annotations
from imgbench.report import inputs
from tests import raising
from tests import written
from tests.report import imagenet_samples
from tests.report import samples

TOY = ("toy:test", ("ant", "bee", "cow"), 60, 0.7, 5)


@pytest.fixture
def workdir(tmp_path):
  return samples.write(tmp_path / "toy", [samples.Sample(*TOY)], "imgbench")


def entry(**changes):
  return {**samples.accuracy(3, 4, "share"), **changes}


def test_rows_keep_what_the_file_says(workdir):
  run = inputs.read(workdir)
  row = run.results[0]
  assert (row.dataset, row.subset, row.metric, row.n) == (
    "toy:test",
    "all",
    "top1_accuracy",
    60,
  )
  assert run.datasets[0].class_names == ("ant", "bee", "cow")
  assert sum(c.n for c in run.datasets[0].classes) == 60
  assert run.datasets[0].confusion.sum() == 60
  assert run.datasets[0].predictions.top5.shape == (60, 5)


@pytest.mark.parametrize(
  "content, named",
  [
    ("{", ["JSON"]),
    ("[]", ["dict", "list"]),
    ('{"toy/top1_accuracy": {}}', ["toy/top1_accuracy"]),
    ('{"toy:test/all/nll": {"n": 3}}', ["toy:test/all/nll", '{"n": 3}']),
    ('{"toy:test/all/nll": 3}', ["toy:test/all/nll", "got 3"]),
    (
      json.dumps({"toy:test/all/nll": entry(value="high")}),
      ["toy:test/all/nll", "value", "high"],
    ),
    (
      json.dumps({"toy:test/all/nll": entry(value=float("nan"))}),
      ["toy:test/all/nll", "value", "nan"],
    ),
    (
      json.dumps({"toy:test/all/nll": entry(n=None)}),
      ["toy:test/all/nll", "n", "None"],
    ),
  ],
)
def test_broken_results_are_rejected(workdir, content, named):
  (workdir / "results.json").write_text(content)
  with pytest.raises(errors.InputError, match="results.json") as caught:
    inputs.read(workdir)
  assert all(text in str(caught.value) for text in named)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "name", ["confusion.npz", "predictions/toy-test.npz", "per_class.csv"]
)
def test_other_broken_files_are_rejected_by_name(workdir, name):
  (workdir / name).write_text("dataset,n\ntoy:test,x\n")
  check = raising.about(str(workdir / name))
  with pytest.raises(errors.InputError, check=check):
    inputs.read(workdir)


def test_arrays_that_do_not_fit_are_rejected(workdir):
  path = workdir / "predictions" / "toy-test.npz"
  np.savez(path, label=np.zeros(3, int))
  check = raising.about(str(path), given="no image_id, top5, top5_prob")
  with pytest.raises(errors.InputError, check=check):
    inputs.read(workdir)
  np.savez(workdir / "confusion.npz", **{"toy-test": np.zeros((2, 2), int)})
  check = raising.about(f"{workdir / 'confusion.npz'}: toy:test", given=[2, 2])
  with pytest.raises(errors.InputError, check=check):
    inputs.read(workdir)


def test_folder_without_a_run_is_rejected(tmp_path):
  with pytest.raises(errors.InputError, check=raising.about(str(tmp_path))):
    inputs.read(tmp_path)


def test_coverage_is_that_of_the_config(workdir):
  assert inputs.read(workdir).coverage == "95%"
  (workdir / "config.json").write_text('{"evaluation": {"alpha": 0.1}}')
  assert inputs.read(workdir).coverage == "90%"


def test_files_of_probabilities_are_read(workdir):
  samples.write_probabilities(workdir, [samples.Sample(*TOY)])
  (dataset,) = inputs.read(workdir).datasets
  assert sum(dataset.reliability.count) == 60
  assert len(dataset.reliability.edges) == 16
  assert [curve.positives for curve in dataset.curves] == [20, 20, 20]
  assert dataset.curves[0].recall[-1] == 1


def test_areas_of_classes_are_read_where_they_are(workdir):
  assert inputs.read(workdir).datasets[0].classes[0].average_precision is None
  path = workdir / "per_class.csv"
  head, first, *rest = path.read_text().splitlines()
  lines = [f"{head},average_precision,roc_auc", f"{first},0.25,"]
  path.write_text("\n".join(lines + [f"{line},," for line in rest]))
  row = inputs.read(workdir).datasets[0].classes[0]
  assert (row.average_precision, row.roc_auc) == (0.25, None)


def test_probabilities_of_all_classes_are_not_needed(workdir):
  path = workdir / "predictions" / "toy-test.npz"
  with np.load(path) as file:
    arrays = dict(file)
  # Reading it would raise.
  np.savez(path, **arrays, probs=np.array([{}], object))
  assert inputs.read(workdir).datasets[0].predictions.label.shape == (60,)


def test_the_base_set_is_named_by_the_config(tmp_path):
  names = ("imagenet2012", "imagenet_v2-matched-frequency")
  workdir, _ = imagenet_samples.family(tmp_path / "run", names, share=0.01)
  run = inputs.read(workdir)
  base_of = lambda name: run.base_of(f"{name}:test")
  assert base_of("imagenet_v2-matched-frequency") == "imagenet2012:validation"
  averaged = base_of("imagenet_v2-matched-frequency+ema")
  assert averaged == "imagenet2012+ema:validation"
  assert base_of("imagenet_v2-matched-frequency+other") == ""
  path = workdir / "config.json"
  config = json.loads(path.read_text())
  # A set may have its name from section data; a slash is no part of a key.
  del config["evaluation"]["sets"]["imagenet2012"]["name"]
  config["data"]["name"] = "imagenet2012:5.1.0"
  path.write_text(json.dumps(config))
  key = "imagenet_v2-matched-frequency:test"
  assert inputs.read(workdir).base_of(key) == "imagenet2012:validation"
  for evaluation in ({}, {"shift": {"base": "x"}}, {"sets": {}, "shift": {}}):
    path.write_text(json.dumps({**config, "evaluation": evaluation}))
    assert inputs.read(workdir).base_of(key) == ""


def test_figures_are_of_the_first_parameters(tmp_path):
  names = ("imagenet2012", "imagenet_v2-matched-frequency")
  workdir, _ = imagenet_samples.family(tmp_path / "run", names, share=0.01)
  run = inputs.read(workdir)
  assert [dataset.key for dataset in run.datasets] == [
    "imagenet2012:validation",
    "imagenet2012+ema:validation",
    "imagenet_v2-matched-frequency:test",
    "imagenet_v2-matched-frequency+ema:test",
  ]
  charted = [dataset.key for dataset in run.charted]
  assert charted == [dataset.key for dataset in run.datasets[::2]]
  assert run.training == ()


BINS = {
  "edges": [0, 0.5, 1],
  "count": [0, 2],
  "confidence": [None, 0.75],
  "accuracy": [None, 1.0],
  "ece": 0.25,
}
CURVE = {
  "class_index": 1,
  "class_name": "bee",
  "average_precision": 0.5,
  "positives": 2,
  "recall": [0.5, 1],
  "precision": [1, 0.5],
}


@pytest.mark.parametrize(
  "name, value, field, given",
  [
    ("calibration", [], "", "[]"),
    (
      "calibration",
      {**BINS, "edges": [0, 1]},
      ": edges",
      "edges 2, count 2, confidence 2, accuracy 2",
    ),
    ("calibration", {**BINS, "count": [0, "2"]}, ": count", "[0, '2']"),
    ("calibration", {**BINS, "accuracy": [None, None]}, ": accuracy", "null"),
    ("calibration", {**BINS, "ece": None}, ": ece", "None"),
    ("curves", 3, "", "3"),
    ("curves", [{**CURVE, "recall": [1]}], ": recall", "1"),
    ("curves", [{**CURVE, "precision": [1, None]}], ": precision", "[1, None]"),
    ("curves", [{**CURVE, "positives": "x"}], ": positives", "'x'"),
  ],
)
def test_broken_files_of_probabilities_are_rejected(
  workdir, name, value, field, given
):
  for file, good in (("calibration", BINS), ("curves", [CURVE])):
    content = value if file == name else good
    (workdir / f"{file}.json").write_text(json.dumps({"toy:test": content}))
  setting = f"{workdir / name}.json: toy:test{field}"
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    inputs.read(workdir)


def test_fault_22_class_names_are_read_back_as_they_were(tmp_path):
  names = ("=1+1", "-", "@a\tb")
  probs = np.eye(3)[[0, 1, 2, 2]]
  written.write(
    tmp_path, written.evaluation("pond:test", names, probs, [0, 1, 2, 0])
  )
  (dataset,) = inputs.read(tmp_path).datasets
  assert dataset.class_names == names
  assert tuple(row.class_name for row in dataset.classes) == names


def test_the_same_images_are_found_and_share_their_reviews(tmp_path):
  workdir, drawn = imagenet_samples.family(tmp_path / "run", share=0.3)
  run = inputs.read(workdir)
  key = lambda name: f"imagenet2012{name}:validation"
  assert run.repeats == {
    key(f"_{name}{variant}"): key(variant)
    for name in ("multilabel", "real")
    for variant in ("", "+ema")
  }
  assert [dataset.key for dataset in run.charted] == [
    "imagenet2012:validation",
    *(f"{name}:test" for name in imagenet_samples.SHIFTED),
  ]
  base, reviewed = drawn[0], drawn[1]
  review = run.charted[0].predictions.review
  half = len(reviewed.label)
  assert 0 < half < len(base.label)
  assert (review[:half] == reviewed.review).all()
  assert (review[half:] == annotations.UNREVIEWED).all()
  assert run.charted[1].predictions.review is None


@pytest.mark.parametrize("changed", ["label", "image_id", "top5_prob"])
def test_other_labels_images_or_predictions_are_another_set(workdir, changed):
  drawn = [samples.Sample(f"{name}:test", *TOY[1:]) for name in ("a", "b")]
  samples.write(workdir, drawn, "imgbench")
  assert inputs.read(workdir).repeats == {"b:test": "a:test"}
  values = getattr(drawn[1], changed)
  setattr(drawn[1], changed, np.roll(values, 1, axis=0))
  samples.write(workdir, drawn, "imgbench")
  run = inputs.read(workdir)
  assert run.repeats == {} and len(run.charted) == 2
