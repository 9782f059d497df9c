"""Tests of the tables of ReaL accuracy."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.experiments import real_labels
from imgbench.experiments.benchmarks.paper_scripts import clone
from imgbench.papers import program
from tests import raising
from tests.data import shared_files
from tests.experiments import scripts
from tests.papers import clones

VAL = clones.VALIDATION
REAL, CLASS_MEAN = "real_accuracy", "real_accuracy.class_mean"


def row_of(folder, model, metric, subset="all"):
  (found,) = [
    row
    for row in scripts.csv_rows(folder)
    if (row["model"], row["metric"], row["subset"]) == (model, metric, subset)
  ]
  return found


@pytest.fixture(name="inputs", scope="module")
def small_inputs(tmp_path_factory):
  """Two images of each class; the second of a class has two ReaL labels.

  The first image of class 0 has none.
  """
  folder = tmp_path_factory.mktemp("inputs")
  labels = np.repeat(np.arange(1000), 2)
  good = clones.ranking_of(labels, 0.9)
  repo = clones.write(
    folder / "clone",
    {VAL: (labels, {"good": good, "poor": clones.ranking_of(labels, 0.4, 1)})},
  )
  sets = [[7]] * 50_000
  by_image = {}
  for i, name in enumerate(clone.image_ids(VAL, len(labels))):
    of_image = [int(labels[i])]
    if i % 2:
      of_image.append(int(good[i, 0] + 1) % 1000)
    by_image[i] = [] if i == 0 else of_image
    number = int(name.split("_")[2].split(".")[0])
    sets[number - 1] = by_image[i]
  (folder / "real.json").write_text(json.dumps(sets))
  return repo, folder / "real.json", good, by_image


@pytest.fixture(name="written", scope="module")
def written_files(inputs, tmp_path_factory):
  """Files and completed process of a run."""
  out = tmp_path_factory.mktemp("written")
  flags = (f"--repo={inputs[0]}", f"--real={inputs[1]}", f"--out={out}")
  done = scripts.run("real_labels", *flags)
  assert done.returncode == errors.EXIT_DONE, done.stderr
  return out, done


def test_numbers_by_hand(inputs, written):
  _, _, good, by_image = inputs
  out, done = written
  first = [good[i, 0] in by_image[i] for i in range(1, 2000)]
  any_of_five = [
    bool({*good[i].tolist()} & {*by_image[i]}) for i in range(1, 2000)
  ]
  found = row_of(out, "good", REAL)
  assert (found["n"], found["correct"]) == ("1999", str(sum(first)))
  found = row_of(out, "good", "real_top5_accuracy")
  assert (found["n"], found["correct"]) == ("1999", str(sum(any_of_five)))
  by_class = [first[0]] + [
    (first[2 * c - 1] + first[2 * c]) / 2 for c in range(1, 1000)
  ]
  found = row_of(out, "good", CLASS_MEAN)
  assert found["correct"] == "" and found["n"] == "1999"
  assert found["value"] == f"{np.mean(by_class):.8f}"
  assert found["ci_low"] < found["value"] < found["ci_high"]
  assert "1 of 2,000 " in done.stderr
  assert "ReaL, class mean" in done.stdout


def test_files(inputs, written, tmp_path):
  repo, real, *_ = inputs
  scripts.main(real_labels, tmp_path, f"--repo={repo}", f"--real={real}")
  files, again = scripts.texts(written[0]), scripts.texts(tmp_path)
  manifest = json.loads(files[program.MANIFEST])
  assert str(real) in manifest["inputs"]
  for texts in (files, again):
    texts[program.MANIFEST] = b""
  assert files == again
  figure = f"{REAL}-{VAL}"
  assert set(files) == {
    "table.csv",
    "table.md",
    "table.tex",
    "ranks.csv",
    "fits.csv",
    "statistics.csv",
    "manifest.json",
    *(f"label_counts{end}" for end in (".png", ".pdf")),
    *(f"{figure}{end}" for end in (".png", ".pdf")),
    *(f"{figure}-subsets{end}" for end in (".png", ".pdf")),
  }
  rows = scripts.csv_rows(tmp_path, "fits.csv")
  assert (rows[0]["base_metric"], rows[0]["metric"]) == ("top1_accuracy", REAL)


@pytest.mark.usefixtures("without_figures")
def test_a_class_without_images_is_undefined(tmp_path):
  repo = clones.small(tmp_path / "clone", count=40)
  (tmp_path / "real.json").write_text(json.dumps([[1]] * 50_000))
  flags = (f"--repo={repo}", f"--real={tmp_path / 'real.json'}")
  scripts.main(real_labels, tmp_path / "out", *flags)
  assert row_of(tmp_path / "out", "good", CLASS_MEAN)["value"] == ""
  assert row_of(tmp_path / "out", "good", REAL)["value"]
  manifest = json.loads((tmp_path / "out" / program.MANIFEST).read_text())
  reason = manifest["undefined"][f"good/{VAL}/all/{CLASS_MEAN}"]
  assert "of 1000 classes" in reason


def test_bad_input_is_refused(inputs, tmp_path):
  repo, real, *_ = inputs
  short = tmp_path / "short.json"
  short.write_text("[[1]]")
  for args, setting in (
    ([f"--real={short}"], str(short)),
    ([f"--real={tmp_path}/no.json"], f"{tmp_path}/no.json"),
    (
      [f"--real={real}", "--predictions=a@imagenetv2-b-33=b"],
      "--predictions=a@imagenetv2-b-33=b",
    ),
  ):
    check = raising.about(setting)
    with pytest.raises(errors.InputError, check=check):
      scripts.main(real_labels, None, f"--repo={repo}", *args)
  done = scripts.run("real_labels", f"--repo={repo}")
  assert done.returncode == errors.EXIT_USAGE, done
  assert "--real" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.usefixtures("without_figures")
def test_the_shared_files(tmp_path):
  repo = shared_files.shared_path("data", "ImageNetV2")
  real = shared_files.shared_path("data", "reassessed-imagenet", "real.json")
  timm = shared_files.shared_path(
    *("data", "imagenet", "published", "timm_same_weights.csv")
  )
  flags = (f"--repo={repo}", f"--real={real}", f"--published={timm}")
  scripts.main(real_labels, tmp_path, *flags)
  found = row_of(tmp_path, "resnet50", REAL)
  assert found["n"] == "46837"
  _, *sizes = scripts.csv_rows(tmp_path, "statistics.csv")
  assert [int(row["count"]) for row in sizes] == [
    *(3163, 39_394, 5408, 1319, 411, 161, 88, 41, 13, 2)
  ]
  assert round(100 * float(found["value"]), 2) == 82.96
  counted = [
    row
    for row in scripts.csv_rows(tmp_path, "comparison.csv")
    if row["ours"] and not row["note"]
  ]
  assert len(counted) == 13 * 4
  assert all(abs(float(row["difference"])) < 0.04 for row in counted)
