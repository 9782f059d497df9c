"""Tests of multi-label accuracy of models and humans, and of its files."""

import json
import shutil

import numpy as np
from PIL import Image
import pytest

from imgbench import errors
from imgbench.experiments import multilabel
from imgbench.experiments.benchmarks.paper_scripts import clone
from imgbench.labels import classes
from imgbench.papers import program
from imgbench.papers.readers import datasets
from tests import raising
from tests.data import shared_files
from tests.experiments import scripts
from tests.papers import clones
from tests.papers import human_files

VAL, V2 = datasets.VALIDATION, datasets.MATCHED_FREQUENCY
MODELS = human_files.MODELS
# Both sets have the images of human_files, annotated ones that no human
# labeled, and one without annotations.
VAL_IDS = (
  *human_files.VALIDATION,
  *human_files.MORE,
  "ILSVRC2012_val_00000500.JPEG",
)
VAL_LABELS = (*human_files.CLASSES, 20, 30, 40)
V2_IDS, V2_LABELS = human_files.VERSION_2, human_files.CLASSES


def values(folder, name="table.csv"):
  """Returns (model, dataset, subset, metric) -> value as text."""
  return {
    (r["model"], r["dataset"], r["subset"], r["metric"]): r["value"]
    for r in scripts.csv_rows(folder, name)
  }


def _ranking(model, first, labels):
  """Returns int64 [N, 5], the file's answer first, then others."""
  rng = np.random.default_rng(len(model))
  top = [
    human_files.named_by(model, first + i, label) if i < 7 else label + 9
    for i, label in enumerate(labels)
  ]
  rest = (np.array(top)[:, None] + rng.permutation(9)[:4] + 1) % 1000
  return np.concatenate([np.array(top)[:, None], rest], axis=1)


@pytest.fixture(name="repo", scope="module")
def small_clone(tmp_path_factory):
  folder = tmp_path_factory.mktemp("clone")
  clone.write_class_info(folder)
  for name, ids, labels, first in (
    (VAL, VAL_IDS, VAL_LABELS, 0),
    (V2, V2_IDS, V2_LABELS, 7),
  ):
    clone.write_dataset(folder, name, ids, labels)
    for model in MODELS:
      ranking = _ranking(model, first, labels)
      clone.write_predictions(folder, name, model, ranking)
  return folder


@pytest.fixture(name="with_json", scope="module")
def run_with_json(repo, tmp_path_factory):
  out = tmp_path_factory.mktemp("json")
  path = human_files.write_json(out / "h.json")
  scripts.main(
    multilabel, out / "out", f"--repo={repo}", f"--annotations={path}"
  )
  return out / "out"


@pytest.fixture(name="with_pickle", scope="module")
def run_with_pickle(repo, tmp_path_factory):
  out = tmp_path_factory.mktemp("pickle")
  path = human_files.write_pickle(out / "h.pickle")
  scripts.main(
    multilabel, out / "out", f"--repo={repo}", f"--annotations={path}"
  )
  return out / "out"


def slow(annotations, originals, predicted, in_m, classes_of_subset):
  """Computes the four definitions image by image.

  Args:
    annotations: image -> state -> class indices, without problematic images.
    originals: image -> class.
    predicted: image -> class.
    in_m: images of ImageNet-M.
    classes_of_subset: the classes whose images count.

  Returns:
    metric -> value, None if undefined.
  """
  images = [i for i in annotations if originals[i] in classes_of_subset]
  state = {}
  for image in images:
    found = [
      name
      for name in ("correct", "unclear", "wrong")
      if predicted[image] in annotations[image].get(name, ())
    ]
    state[image] = found[0] if found else "unreviewed"
  result = {}
  for name in ("icml2020", "tfds", "imagenet_m", "lenient_mean"):
    right = {"correct"} if name == "icml2020" else {"correct", "unclear"}
    for suffix, accepted in (
      ("", right),
      (".bound_low", right),
      (".unreviewed", {"unreviewed"}),
      (".bound_high", right | {"unreviewed"}),
    ):
      hits = {image: state[image] in accepted for image in images}
      if name == "tfds":
        by_class = [
          [hits[image] for image in images if originals[image] == c]
          for c in classes_of_subset
        ]
        value = None
        if by_class and all(by_class):
          value = sum(sum(x) / len(x) for x in by_class) / len(by_class)
      else:
        chosen = [i for i in images if name != "imagenet_m" or i in in_m]
        value = sum(hits[i] for i in chosen) / len(chosen) if chosen else None
      result[f"multilabel_accuracy.{name}{suffix}"] = value
  return result


def _subsets():
  return {"all": range(1000)} | {
    name: np.flatnonzero(mask).tolist()
    for name, mask in classes.subsets().items()
  }


def _check(found, expected, model, dataset, subset):
  for metric, value in expected.items():
    text = found[model, dataset, subset, metric]
    wanted = "" if value is None else f"{value:.8f}"
    assert text == wanted, (model, dataset, subset, metric)


def test_four_definitions_like_counting_image_by_image(with_json):
  found = values(with_json)
  index = {w: i for i, w in enumerate(classes.imagenet_classes().wnids)}
  content = human_files.json_content()
  annotations = {
    image: {state: [index[w] for w in wnids] for state, wnids in states.items()}
    for image, states in content["initial_annots"].items()
    if image not in content["problematic_images"]
  }
  for dataset, ids, labels, first in (
    (VAL, VAL_IDS, VAL_LABELS, 0),
    (V2, V2_IDS, V2_LABELS, 7),
  ):
    originals = dict(zip(ids, labels, strict=True))
    chosen = {i: a for i, a in annotations.items() if i in originals}
    for model in MODELS:
      top = _ranking(model, first, labels)[:, 0].tolist()
      predicted = dict(zip(ids, top, strict=True))
      for subset, members in _subsets().items():
        expected = slow(
          chosen, originals, predicted, content["imagenet_m"], members
        )
        _check(found, expected, model, dataset, subset)
        images = [i for i in chosen if originals[i] in members]
        hits = sum(predicted[i] == originals[i] for i in images)
        text = found[model, dataset, subset, "top1_accuracy"]
        assert text == f"{hits / len(images):.8f}"


@pytest.mark.usefixtures("without_figures")
def test_every_class_with_an_image_defines_tfds(tmp_path):
  """Two images of each class, three of a tenth of them."""
  labels = np.repeat(np.arange(1000), np.where(np.arange(1000) % 10, 2, 3))
  ids = clone.image_ids(VAL, len(labels))
  rng = np.random.default_rng(0)
  rankings = {m: clones.ranking_of(labels, 0.7, i) for i, m in enumerate("ab")}
  repo = clones.write(tmp_path / "clone", {VAL: (labels, rankings)})
  wnids = classes.imagenet_classes().wnids
  annotations, as_wnids = {}, {}
  for i, image in enumerate(ids):
    top = int(rankings["a"][i, 0])
    states = {"correct": [int(labels[i])]}
    if top != labels[i]:
      states[str(rng.choice(["correct", "unclear", "wrong", "x"]))] = [top]
    states.pop("x", None)
    annotations[image] = states
    as_wnids[image] = {s: [wnids[c] for c in cs] for s, cs in states.items()}
  # A third image of class 0 is problematic: the class has others left.
  problematic = ids[0]
  del annotations[problematic]
  content = {
    "initial_annots": as_wnids,
    "problematic_images": {problematic: {}},
    "imagenet_m": ids[5:200:3],
  }
  path = human_files.write_json(tmp_path / "h.json", content)
  args = (f"--repo={repo}", f"--annotations={path}")
  scripts.main(multilabel, tmp_path / "out", *args)
  found = values(tmp_path / "out")
  originals = dict(zip(ids, labels.tolist(), strict=True))
  for model in "ab":
    predicted = dict(zip(ids, rankings[model][:, 0].tolist(), strict=True))
    expected = slow(
      annotations, originals, predicted, content["imagenet_m"], range(1000)
    )
    assert expected["multilabel_accuracy.tfds"] is not None
    _check(found, expected, model, VAL, "all")
  (row,) = [
    r
    for r in scripts.csv_rows(tmp_path / "out")
    if (r["model"], r["subset"]) == ("a", "all")
    and r["metric"] == "multilabel_accuracy.tfds"
  ]
  assert row["correct"] == "" and row["n"] == str(len(labels) - 1)
  assert row["ci_low"] < row["value"] < row["ci_high"]


def test_majority_of_models_and_undefined_values(with_json):
  found = values(with_json)
  metric = "multilabel_accuracy.icml2020"
  # Validation: alexnet errs on 0 to 3, resnet50 on 0 and 1, vgg16 on 0 and 2.
  assert found["models_majority", VAL, "all", metric] == f"{3 / 8:.8f}"
  manifest = json.loads((with_json / program.MANIFEST).read_text())
  undefined = manifest["undefined"]
  key = f"table.csv: all classifiers/{VAL}/all/multilabel_accuracy.tfds"
  assert "992 of 1000 classes" in undefined[key]
  assert any("models_majority" in k and "top5" in k for k in undefined)
  assert any("8 of its 10" in n for n in manifest["notes"])
  kept = [path for path in manifest["inputs"] if path.endswith("h.json")]
  assert len(kept) == 1


def test_files_of_all_images(with_json):
  names = {path.name for path in with_json.iterdir()}
  assert names == {
    "ceilings.csv",
    "drops.csv",
    "fits.csv",
    "hardest_classes.csv",
    "label_counts.pdf",
    "label_counts.png",
    "manifest.json",
    "mistakes.csv",
    "mistakes_by_subset.csv",
    f"multilabel-{VAL}.pdf",
    f"multilabel-{VAL}.png",
    f"multilabel-{V2}.pdf",
    f"multilabel-{V2}.png",
    "paired.csv",
    "ranks.csv",
    "robustness.csv",
    "statistics.csv",
    "summary.csv",
    "table.csv",
    "table.md",
    "table.tex",
  }
  assert len(scripts.csv_rows(with_json, "paired.csv")) == 2 * 6
  # All get validation image 0 and the two that no human labeled wrong.
  rows = scripts.csv_rows(with_json, "mistakes.csv")
  assert [r["image_id"] for r in rows if r["dataset"] == VAL] == [
    VAL_IDS[0],
    *human_files.MORE,
  ]
  summary = {
    (r["dataset"], r["subset"], r["metric"]): r
    for r in scripts.csv_rows(with_json, "summary.csv")
  }
  best = summary[VAL, "all", "multilabel_accuracy.icml2020"]
  assert (best["best_model"], best["worst_model"]) == ("resnet50", "alexnet")
  assert best["models"] == "3"


def test_humans_and_models(with_pickle):
  found = values(with_pickle, "people_table.csv")
  metric = "multilabel_accuracy.icml2020"
  assert found["human_b", VAL, "all", metric] == f"{4 / 6:.8f}"
  assert found["human_b", V2, "all", metric] == "1.00000000"
  assert found["resnet50", V2, "all", metric] == f"{3 / 6:.8f}"
  assert found["human_b", VAL, "dog", metric] == "0.00000000"
  assert found["human_b", VAL, "not_dog", metric] == "1.00000000"
  # Even images are fast: 0, 2 and 4 (over midnight) of the validation set.
  assert found["human_b", VAL, "fast", metric] == f"{2 / 3:.8f}"
  rows = scripts.csv_rows(with_pickle, "people_table.csv")
  (row,) = [
    r
    for r in rows
    if (r["model"], r["dataset"], r["subset"], r["metric"])
    == ("human_b", VAL, "fast", metric)
  ]
  assert row["n"] == "3"
  # Two of three humans err on image 0 only.
  assert found["people_majority", VAL, "all", metric] == f"{5 / 6:.8f}"
  assert found["human_majority", VAL, "all", metric] == f"{5 / 6:.8f}"
  assert found["models_majority", VAL, "all", metric] == f"{3 / 6:.8f}"
  assert "fv_4k" not in {r["model"] for r in rows}
  best = {
    (r["dataset"], r["subset"], r["kind"], r["metric"]): r
    for r in scripts.csv_rows(with_pickle, "people_summary.csv")
  }
  # human_b gets both dogs wrong, and no image of ImageNetV2.
  human = best[V2, "dog", "person", metric]
  assert (human["models"], human["best"]) == ("3", "1.00000000")
  model = best[VAL, "all", "model", metric]
  assert (model["best_model"], model["drop"]) == ("resnet50", f"{1 / 6:.8f}")
  assert model["drop_low"] < model["drop"] < model["drop_high"]
  # The rows of all images are there as well.
  assert values(with_pickle)["resnet50", VAL, "all", metric] == f"{4 / 8:.8f}"


def test_the_fit_is_through_the_models(with_pickle):
  lines = [
    r
    for r in scripts.csv_rows(with_pickle, "people_fits.csv")
    if (r["subset"], r["metric"], r["scale"], r["models"])
    == ("all", "multilabel_accuracy.icml2020", "plain", "all")
  ]
  (line,) = lines
  assert line["n"] == "3"
  x, y = np.array([2, 4, 4]) / 6, np.array([1, 3, 3]) / 6
  slope, intercept = np.polyfit(x, y, 1)
  assert float(line["slope"]) == pytest.approx(slope, abs=1e-8)
  rows = {
    (r["model"], r["subset"], r["metric"]): r
    for r in scripts.csv_rows(with_pickle, "people_robustness.csv")
  }
  row = rows["human_b", "all", "multilabel_accuracy.icml2020"]
  expected = slope * 4 / 6 + intercept
  assert float(row["on_the_line"]) == pytest.approx(expected, abs=1e-8)
  assert float(row["above_the_line"]) == pytest.approx(1 - expected, abs=1e-8)


def test_human_mistakes(with_pickle):
  rows = scripts.csv_rows(with_pickle, "people_mistakes.csv")
  assert [(r["dataset"], r["image_id"], r["wrong_by"]) for r in rows] == [
    (VAL, VAL_IDS[0], "models_and_people"),
    (V2, V2_IDS[1], "all_models"),
    (V2, V2_IDS[2], "all_models"),
  ]
  assert rows[0]["people_wrong"] == rows[0]["people"] == "3"
  counts = {
    (r["dataset"], r["subset"], r["wrong_by"]): r["images"]
    for r in scripts.csv_rows(with_pickle, "people_mistakes_by_subset.csv")
  }
  assert counts[VAL, "all", "models_and_people"] == "1"
  assert counts[VAL, "dog", "all_people"] == "1"
  assert counts[V2, "all", "all_people"] == "0"


@pytest.mark.usefixtures("without_figures")
def test_humans_without_a_clone(tmp_path):
  path = human_files.write_pickle(tmp_path / "h.pickle")
  args = (f"--annotations={path}", "--pair=human_a,alexnet")
  scripts.main(multilabel, tmp_path / "out", *args)
  names = {p.name for p in (tmp_path / "out").iterdir()}
  # It is the only section, so its files have the main names.
  assert {"table.csv", "fits.csv", "paired.csv", "statistics.csv"} <= names
  assert not [name for name in names if name.startswith("people_")]
  assert "human_a" in {
    row["model"] for row in scripts.csv_rows(tmp_path / "out")
  }
  rows = scripts.csv_rows(tmp_path / "out", "paired.csv")
  assert {(r["model_a"], r["model_b"]) for r in rows} == {
    ("human_a", "alexnet")
  }
  subsets = {r["subset"] for r in rows}
  assert subsets == {*_subsets(), "fast"}
  (row,) = [r for r in rows if (r["dataset"], r["subset"]) == (VAL, "all")]
  assert (row["only_a"], row["only_b"], row["n"]) == ("3", "0", "6")
  assert float(row["p_exact"]) == 0.25


def test_the_weak_are_not_drawn_but_noted(with_pickle):
  manifest = json.loads((with_pickle / program.MANIFEST).read_text())
  (note,) = [n for n in manifest["notes"] if n.startswith("people: ")]
  # The three models, their majority and human_b; the others have 5 of 6.
  assert "70%" in note and "(all: 5, " in note


@pytest.mark.usefixtures("without_figures")
def test_sets_of_equal_images_are_compared_once(repo, tmp_path, capsys):
  folder = tmp_path / "clone"
  shutil.copytree(repo, folder)
  ids, labels = VAL_IDS[:-1], VAL_LABELS[:-1]
  name = datasets.VALIDATION_20K
  clone.write_dataset(folder, name, ids, labels)
  for model in MODELS:
    ranking = _ranking(model, 0, labels)
    clone.write_predictions(folder, name, model, ranking)
  path = human_files.write_json(tmp_path / "h.json")
  args = (f"--repo={folder}", f"--annotations={path}")
  scripts.main(multilabel, tmp_path / "out", *args)
  out = tmp_path / "out"
  assert {row["dataset"] for row in scripts.csv_rows(out)} == {VAL, name, V2}
  for file in ("paired.csv", "mistakes.csv", "hardest_classes.csv"):
    assert {row["dataset"] for row in scripts.csv_rows(out, file)} == {
      VAL,
      V2,
    }, file
  assert len(scripts.csv_rows(out, "paired.csv")) == 2 * 6
  printed = capsys.readouterr()
  assert f"note: {name}: same " in printed.err
  assert f" as {VAL};" in printed.err
  assert datasets.TITLES[name] not in (out / "table.md").read_text()


@pytest.mark.usefixtures("without_figures")
def test_your_model_and_humans(repo, tmp_path):
  path = human_files.write_pickle(tmp_path / "h.pickle")
  args = [f"--repo={repo}", f"--annotations={path}"]
  for dataset, labels in ((VAL, VAL_LABELS), (V2, V2_LABELS)):
    file = tmp_path / f"{dataset}.npy"
    np.save(file, np.array(labels)[:, None])
    args.append(f"--predictions=mine@{dataset}={file}")
  scripts.main(multilabel, tmp_path / "out", *args)
  metric = "multilabel_accuracy.icml2020"
  for name in ("table.csv", "people_table.csv"):
    found = values(tmp_path / "out", name)
    assert found["mine", V2, "all", metric] == "1.00000000"
    assert found["mine", VAL, "all", metric] == "1.00000000"
  for name in ("fits.csv", "people_fits.csv"):
    assert {r["n"] for r in scripts.csv_rows(tmp_path / "out", name)} == {"3"}
  # Neither the majority nor "all models" include it.
  rows = scripts.csv_rows(tmp_path / "out", "mistakes.csv")
  assert {r["models"] for r in rows} == {"3"}


@pytest.mark.usefixtures("without_figures")
def test_published_figures_are_compared_on_their_images(repo, tmp_path, capsys):
  path = human_files.write_pickle(tmp_path / "h.pickle")
  figures = tmp_path / "people.csv"
  figures.write_text(
    "subset,classifier,kind,val,v2\n"
    "all,human_b,human,66.67,100.00\n"
    "all,resnet50,model,66.67,50.01\n"
    "fast,human_b,human,66.67,\n"
  )
  top1 = tmp_path / "top1.csv"
  top1.write_text("model,val,imagenetv2-matched-frequency\nresnet50,1,2\n")
  args = (f"--repo={repo}", f"--annotations={path}")
  args += (f"--published={figures}", f"--published={top1}")
  scripts.main(multilabel, tmp_path / "out", *args)
  printed = capsys.readouterr()
  assert printed.out.splitlines()[-1].startswith("1 of 5 ")
  assert "note: 2 published" in printed.err
  rows = scripts.csv_rows(tmp_path / "out", "comparison.csv")
  assert [r["verdict"] for r in rows].count("differs") == 1


def test_published_figures_of_humans_without_humans(repo, tmp_path, capsys):
  path = human_files.write_json(tmp_path / "h.json")
  figures = tmp_path / "people.csv"
  figures.write_text(
    "subset,classifier,kind,val,v2\n"
    "all,human_b,human,66.67,100.00\n"
    "all,resnet50,model,66.67,50.01\n"
  )
  args = (f"--repo={repo}", f"--annotations={path}", f"--published={figures}")
  scripts.main(multilabel, tmp_path / "out", *args)
  # The figures are on other images than all annotated ones.
  last = capsys.readouterr().out.splitlines()[-1]
  assert last.startswith("0 of 0 ")
  assert last.endswith(", 4 absent")
  # They are shown as published.
  text = (tmp_path / "out/table.md").read_text()
  assert "| human_b    | person |    66.67 |     100.00 | -33.33 |" in text
  assert text.count("as published in people.csv") == 2
  assert (tmp_path / "out/people_published.png").stat().st_size > 1000
  rows = scripts.csv_rows(tmp_path / "out", "summary.csv")
  (row,) = [r for r in rows if (r["kind"], r["dataset"]) == ("person", VAL)]
  assert (row["best"], row["drop"]) == ("0.66670000", "-0.33330000")
  assert (row["source"], row["drop_low"]) == ("people.csv", "")


@pytest.mark.usefixtures("without_figures")
def test_lists_of_labels(repo, tmp_path, capsys):
  lists = {VAL_IDS[0]: [151, 153], VAL_IDS[3]: [700], "other": [1]}
  path = tmp_path / "lists.json"
  path.write_text(json.dumps(lists))
  args = (f"--repo={repo}", f"--multilabels={path}")
  scripts.main(multilabel, tmp_path / "out", *args)
  found = values(tmp_path / "out")
  prefix = "multilabel_accuracy."
  assert found["alexnet", VAL, "all", f"{prefix}lenient_mean"] == "0.50000000"
  assert found["resnet50", VAL, "all", f"{prefix}lenient_mean"] == "1.00000000"
  for metric in ("icml2020", "imagenet_m", "tfds", "lenient_mean.unreviewed"):
    assert found["alexnet", VAL, "all", prefix + metric] == ""
  printed = capsys.readouterr()
  assert f"{VAL}: {prefix}icml2020" in printed.err
  assert f"{V2}: left out" in printed.err


def test_pictures(repo, tmp_path, capsys):
  path = human_files.write_json(tmp_path / "h.json")
  folder = tmp_path / "images"
  folder.mkdir()
  Image.new("RGB", (50, 40), (9, 90, 190)).save(folder / VAL_IDS[0])
  (folder / human_files.MORE[0]).write_bytes(b"no image")
  args = (f"--repo={repo}", f"--annotations={path}", f"--images={folder}")
  scripts.main(multilabel, tmp_path / "out", *args)
  assert (tmp_path / f"out/mistakes-{VAL}.png").stat().st_size > 1000
  assert not (tmp_path / f"out/mistakes-{V2}.png").exists()
  printed = capsys.readouterr()
  assert "1 of 3 " in printed.err
  assert f"{folder / human_files.MORE[0]}: " in printed.err
  manifest = json.loads((tmp_path / "out" / program.MANIFEST).read_text())
  assert str(folder / VAL_IDS[0]) in manifest["inputs"]
  assert str(folder / human_files.MORE[0]) not in manifest["inputs"]


@pytest.mark.usefixtures("without_figures")
def test_equal_runs_write_equal_bytes(repo, with_pickle, tmp_path):
  path = human_files.write_pickle(tmp_path / "h.pickle")
  scripts.main(
    multilabel, tmp_path / "out", f"--repo={repo}", f"--annotations={path}"
  )
  first, second = scripts.texts(with_pickle), scripts.texts(tmp_path / "out")
  assert {n for n in set(first) - set(second)} == {
    f"{name}.{ending}"
    for name in (
      f"multilabel-{VAL}",
      f"multilabel-{V2}",
      "label_counts",
      "people",
      "people_more_subsets",
    )
    for ending in ("png", "pdf")
  }
  assert {n for n in second if first[n] != second[n]} == {program.MANIFEST}


BOTH = "--annotations, --multilabels"


@pytest.mark.parametrize(
  ("flags", "setting", "given"),
  [
    ([], BOTH, "neither"),
    (["--annotations=a", "--multilabels=b"], BOTH, "both"),
    (["--annotations={json}"], "--repo", "none"),
    (["--annotations={pickle}", "--predictions=a@b=c"], "--repo", "none"),
    (["--annotations={json}", "--repo=nowhere"], "--repo", "nowhere"),
    (
      ["--annotations={json}", "--repo={repo}", "--pair=alexnet"],
      "--pair",
      "'alexnet'",
    ),
    (
      ["--annotations={json}", "--repo={repo}", "--pair=alexnet,human_a"],
      "--pair",
      "'human_a'",
    ),
    (
      ["--annotations={json}", "--repo={repo}", "--images=nowhere"],
      "--images",
      "nowhere",
    ),
  ],
)
def test_bad_flags_are_refused(repo, tmp_path, flags, setting, given):
  places = {
    "repo": repo,
    "json": human_files.write_json(tmp_path / "h.json"),
    "pickle": human_files.write_pickle(tmp_path / "h.pickle"),
  }
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    scripts.main(multilabel, None, *(flag.format(**places) for flag in flags))


def test_bad_files_are_named(repo, tmp_path):
  path = human_files.write_json(tmp_path / "h.json")
  for flag, setting in (
    (f"--multilabels={path}", f"{path}, 'initial_annots'"),
    (f"--annotations={tmp_path}/no", f"{tmp_path}/no"),
  ):
    with pytest.raises(errors.InputError, check=raising.about(setting)):
      scripts.main(multilabel, None, flag, f"--repo={repo}")


def test_reviews_of_other_images_are_refused(repo, tmp_path):
  path = tmp_path / "lists.json"
  path.write_text('{"other": [1]}')
  args = (f"--repo={repo}", f"--multilabels={path}")
  check = raising.about(str(path), given="1 other images")
  with pytest.raises(errors.InputError, check=check):
    scripts.main(multilabel, None, *args)


def test_as_a_program(repo, tmp_path):
  path = human_files.write_json(tmp_path / "h.json")
  done = scripts.run(
    "multilabel",
    f"--repo={repo}",
    f"--annotations={path}",
    "--pair=vgg16,alexnet",
  )
  assert done.returncode == 0, done.stderr
  assert "multilabel_accuracy.icml2020" in done.stdout
  assert "Paired comparisons" in done.stdout
  failed = scripts.run("multilabel")
  assert failed.returncode == 2
  assert failed.stderr.count("\n") == 1


@pytest.mark.usefixtures("without_figures")
def test_shared_lists_like_counting_image_by_image(tmp_path):
  """3,937 real sets of labels; two models counted in plain Python."""
  repo = shared_files.shared_path("data", "ImageNetV2")
  path = shared_files.shared_path(
    "data", "imagenet", "eth_multilabel_3937.json"
  )
  args = (f"--repo={repo}", f"--multilabels={path}")
  scripts.main(multilabel, tmp_path / "out", *args)
  found = values(tmp_path / "out")
  lists = json.loads(path.read_text())
  images = json.loads((repo / f"data/datasets/{VAL}.json").read_text())[
    "image_filenames"
  ]
  wnids = sorted(
    entry["wnid"]
    for entry in json.loads(
      (repo / "data/metadata/class_info.json").read_text()
    )
  )
  counted = {"resnet50": None, "pnasnet_large_tf": None}
  for model in counted:
    predictions = np.load(repo / f"data/predictions/{VAL}/{model}.npy").tolist()
    right = top1 = top5 = dogs = dogs_right = 0
    for (name, wnid), row in zip(images, predictions, strict=True):
      if name not in lists:
        continue
      label = wnids.index(wnid)
      hit = row[0] in lists[name]
      right += hit
      top1 += row[0] == label
      top5 += label in row
      dogs += 151 <= label <= 268
      dogs_right += hit and 151 <= label <= 268
    size = len(lists)
    for metric, subset, value in (
      ("multilabel_accuracy.lenient_mean", "all", right / size),
      ("multilabel_accuracy.lenient_mean.bound_low", "all", right / size),
      ("multilabel_accuracy.lenient_mean", "dog", dogs_right / dogs),
      ("top1_accuracy", "all", top1 / size),
      ("top5_accuracy", "all", top5 / size),
    ):
      assert found[model, VAL, subset, metric] == f"{value:.8f}"
    counted[model] = right
  assert size == 3937 and counted["resnet50"] < counted["pnasnet_large_tf"]


@pytest.fixture(name="with_table", scope="module")
def run_with_the_real_table(tmp_path_factory):
  repo = shared_files.shared_path("data", "ImageNetV2")
  name = "imagenet2012_multilabel.csv"
  path = shared_files.shared_path("data", "imagenet", name)
  out = tmp_path_factory.mktemp("table")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(program.Output, "wanted", False)
    scripts.main(multilabel, out, f"--repo={repo}", f"--annotations={path}")
  return out


def test_the_real_table_has_the_counts_of_its_description(with_table):
  counts = {
    row["quantity"]: int(row["count"])
    for row in scripts.csv_rows(with_table, "statistics.csv")
    if row["dataset"] == VAL
  }
  assert counts["images_reviewed"] == 20_000
  assert counts["images_problematic"] == 1308
  assert counts["images_counted"] == 18_692
  assert counts["images_with_several_correct_labels"] == 3497
  pairs = [counts[f"pairs_{x}"] for x in ("correct", "unclear", "wrong")]
  assert pairs == [23_390, 144, 52_650]
  kinds = [counts[f"images_problematic: {x}"] for x in "ABMZ"]
  assert kinds == [305, 392, 160, 451]
  sizes = [counts[f"images_with_{i}_correct_labels"] for i in range(10)]
  assert sizes == [0, 15_195, 2659, 562, 209, 50, 16, 0, 0, 1]
  rows = scripts.csv_rows(with_table, "ceilings.csv")
  total = lambda name: sum(int(row[name]) for row in rows)
  assert len(rows) == 1000
  assert (total("images"), total("reviewed_images")) == (18_692, 20_000)
  # A: 15,499 images, M: 3,497 and 91; B and Z have another label or none.
  assert total("original_correct") == 18_691
  assert total("reviewed_original_correct") == 15_499 + 3497 + 91


def test_real_models_have_the_published_multilabel_accuracy(with_table):
  path = ("imagenet", "published", "eth_non_problematic_stats_all.csv")
  table = shared_files.shared_path("data", *path)
  published = {
    row["model_dir_id"].removeprefix("torchvision--"): row
    for row in scripts.csv_rows(table.parent, table.name)
  }
  ours = {
    (row["model"], row["metric"]): row
    for row in scripts.csv_rows(with_table)
    if row["subset"] == "all"
  }
  same = {
    model: row
    for (model, metric), row in ours.items()
    if metric == "top1_accuracy" and model in published
    # The others are newer weights, or resized in another way.
    if row["correct"] == published[model]["num_group_correct"]
  }
  assert len(same) == 11 and {"resnet18", "vgg19_bn", "densenet121"} < {*same}
  for model in same:
    tfds = 100 * float(ours[model, "multilabel_accuracy.tfds"]["value"])
    expected = float(published[model]["mla_all"])
    assert tfds == pytest.approx(expected, abs=1e-4)
  best_to_worst = sorted(
    (-float(row["value"]), model)
    for (model, metric), row in ours.items()
    if metric == "multilabel_accuracy.icml2020"
    and not model.startswith(("fv_", "models_"))
  )
  accuracy = lambda place: round(-100 * best_to_worst[place][0], 2)
  assert len(best_to_worst) == 39
  assert (best_to_worst[-1][1], accuracy(-1)) == ("alexnet", 64.51)
  assert accuracy(19) == 86.01
