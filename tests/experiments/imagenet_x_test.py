"""Tests of the error ratios of ImageNet-X."""

import importlib.util
import json
import os
import pathlib

import numpy as np
import pytest

from imgbench import errors
from imgbench.experiments import imagenet_x
from imgbench.experiments.benchmarks.paper_scripts import clone
from imgbench.metrics import ratios
from imgbench.papers import program
from imgbench.papers.readers import datasets
from tests import raising
from tests.data import shared_files
from tests.experiments import scripts
from tests.papers import clones

VAL, FACTORS = clones.VALIDATION, imagenet_x.FACTORS
LABELS = np.arange(10)
NAMES = clone.image_ids(VAL, 10)


def entry(name, label, *factors):
  """An annotation as in the package's files."""
  values = {"file_name": name, "class": int(label)}
  values |= {factor: int(factor in factors) for factor in FACTORS}
  return values | {"justification": "it is", "one_word": "x"}


def write(folder, entries, typical):
  """Writes the files of annotations; returns the first one."""
  folder.mkdir(exist_ok=True, parents=True)
  lines = [json.dumps(one, separators=(",", ":")) for one in entries]
  (folder / imagenet_x.FILE).write_text("\n".join([*lines, ""]))
  text = "\n".join(["file_name", *typical, ""])
  (folder / imagenet_x.TYPICAL).write_text(text)
  return folder / imagenet_x.FILE


def small():
  """Of 10 images one is not annotated and one is typical; 8 count."""
  by_factor = {0: "pose", 1: "pose", 2: "pose", 3: "color", 4: "color"}
  found = [entry(NAMES[i], i, by_factor.get(i, "shape")) for i in range(9)]
  return found[::-1], [NAMES[8], NAMES[9]]


@pytest.fixture(name="inputs")
def small_inputs(tmp_path):
  """Public models are wrong on images 0, 3, 4, 8 and 9, and on 0."""
  rankings = {}
  for model, wrong in (("a", [0, 3, 4, 8, 9]), ("b", [0])):
    rankings[model] = np.stack([LABELS + k for k in range(5)], 1)
    rankings[model][wrong, 0] = 500
  repo = clones.write(tmp_path / "clone", {VAL: (LABELS, rankings)})
  write(tmp_path / "annotations", *small())
  return repo, tmp_path / "annotations"


def run(inputs, out, *args):
  flags = (f"--repo={inputs[0]}", f"--annotations={inputs[1]}")
  scripts.main(imagenet_x, out, *flags, *args)


def by_model_and_subset(out, name):
  return {(r["model"], r["subset"]): r for r in scripts.csv_rows(out, name)}


def test_ratios_by_hand(inputs, tmp_path, capsys):
  mine, out = tmp_path / "mine.csv", tmp_path / "out"
  lines = [f"{name},{(0, 999)[i == 3]}" for i, name in enumerate(NAMES)]
  mine.write_text("\n".join(["image_id,label1", *lines]))
  run(inputs, out, f"--predictions=mine@{VAL}={mine}")
  rows = by_model_and_subset(out, "table.csv")
  counts = lambda *key: (rows[key]["correct"], rows[key]["n"])
  # Wrong on 0, 3 and 4 of the 8; 8 is typical, and 9 is not annotated.
  assert counts("a", "all") == ("5", "8")
  assert counts("a", "pose") == ("2", "3")
  assert counts("a", "color") == ("0", "2")
  assert counts("mine", "all") == ("1", "8")
  found = by_model_and_subset(out, "ratios.csv")
  row = found["a", "pose"]
  assert [row[n] for n in ("n_base", "errors_base", "n", "errors")] == [
    *("8", "3", "3", "1")
  ]
  got = [float(row[name]) for name in ("ratio", "ci_low", "ci_high")]
  wanted = ratios.subset_error_ratio(2, 3, 5, 8)
  np.testing.assert_allclose(got, wanted, atol=1e-8)
  assert got[0] == pytest.approx((1 / 3) / (3 / 8))
  assert float(found["a", "color"]["ratio"]) == pytest.approx(8 / 3)
  assert found["b", "pose"]["ci_low"] == found["b", "style"]["ratio"] == ""
  manifest = json.loads((out / program.MANIFEST).read_text())
  assert "error ratio of b/style" in manifest["undefined"]
  assert {"error_ratios.png", "error_ratios.pdf"} < set(manifest["files"])
  assert sum(imagenet_x.TYPICAL in name for name in manifest["inputs"]) == 1
  printed = capsys.readouterr()
  assert "8 of 10 " in printed.err and "1 not in" in printed.err
  # Of 8 / 9 and 8 / 3.
  pose = next(x for x in printed.out.splitlines() if x.startswith("pose"))
  assert pose.split()[:4] == ["pose", "3,", "few", "1.78"]


def change(**values):
  return lambda entries, _: entries[0].update(values)


@pytest.mark.parametrize(
  ("edit", "given"),
  [
    (lambda entries, _: entries.append(entries[3]), NAMES[5]),
    (change(file_name="n03633091_15528.JPEG"), "n03633091_15528.JPEG"),
    (change(**{"class": 7}), NAMES[8]),
    (change(pose=2), NAMES[8]),
    (change(glare=1), "missing or unknown: glare"),
    (lambda entries, _: [e.pop("pose") for e in entries], None),
    (lambda entries, _: entries[0].pop("pose"), NAMES[8]),
    (lambda entries, _: entries.clear(), None),
  ],
)
def test_bad_annotations_are_refused(inputs, edit, given):
  entries, typical = small()
  edit(entries, typical)
  path = write(inputs[1], entries, typical)
  with pytest.raises(
    errors.InputError, check=raising.about(str(path), given=given)
  ):
    run(inputs, None)


def test_bad_files_are_refused(inputs, monkeypatch):
  (inputs[1] / imagenet_x.TYPICAL).unlink()
  path = inputs[1] / imagenet_x.FILE
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    run(inputs, None)
  with pytest.raises(errors.InputError, check=raising.about("--annotations")):
    run((inputs[0], inputs[0]), None)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(errors.InputError, check=raising.about("--annotations")):
    imagenet_x.find_annotations(None)


def test_the_installed_package_is_found_and_not_imported(tmp_path, monkeypatch):
  package = tmp_path / "imagenet_x"
  path = write(package / "annotations", *small())
  (package / "__init__.py").write_text("raise ValueError")
  monkeypatch.syspath_prepend(tmp_path)
  assert imagenet_x.find_annotations(None) == path
  for given in (package, path.parent, path):
    assert imagenet_x.find_annotations(str(given)) == path


@pytest.mark.usefixtures("without_figures")
def test_the_public_models(tmp_path):
  repo = shared_files.shared_path("data", "ImageNetV2")
  dataset = datasets.read(repo / f"data/datasets/{VAL}.json")
  pairs = list(zip(dataset.image_ids, dataset.labels, strict=True))
  entries = [entry(*p, FACTORS[i % 16]) for i, p in enumerate(pairs[:40_000])]
  write(tmp_path / "x", entries, dataset.image_ids[:100])
  run((repo, tmp_path / "x"), tmp_path / "out")
  found = by_model_and_subset(tmp_path / "out", "ratios.csv")
  assert len(found) == 40 * 16
  ranking = np.load(repo / f"data/predictions/{VAL}/resnet50.npy")
  wrong = ranking[100:40_000, 0] != dataset.labels[100:40_000]
  factor = np.arange(100, 40_000) % 16
  for i, name in enumerate(FACTORS):
    wanted = wrong[factor == i].mean() / wrong.mean()
    assert float(found["resnet50", name]["ratio"]) == pytest.approx(wanted)


@pytest.mark.usefixtures("without_figures")
def test_the_real_annotations(tmp_path):
  """Version 0.0.7; the counts are those of its authors' results."""
  given = os.environ.get("IMGBENCH_IMAGENET_X")
  if given is None and importlib.util.find_spec("imagenet_x") is None:
    pytest.skip("no package imagenet-x (or set IMGBENCH_IMAGENET_X)")
  path = imagenet_x.find_annotations(given)
  repo = shared_files.shared_path("data", "ImageNetV2")
  run((repo, pathlib.Path(path)), tmp_path)
  rows = by_model_and_subset(tmp_path, "table.csv")
  assert rows["resnet50", "all"]["n"] == "46110"
  assert rows["resnet50", "multiple_objects"]["n"] == "40"
  # results/val/top_factor/imagenet_testbed/class of facebookresearch/imagenetx.
  for model, subset, value in (
    ("xception", "all", 0.7752114508783344),
    ("xception", "multiple_objects", 0.65),
  ):
    assert float(rows[model, subset]["value"]) == pytest.approx(value)
