"""Scores equal those of a run, and those of the paper scripts."""

import csv
import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.configs import tiny
from imgbench.evaluators import classification
from imgbench.metrics import specs
from imgbench.papers import evaluate
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.papers.readers import real_sets
from imgbench.train import loop
from tests import raising
from tests.data import shared_files
from tests.papers import clones
from tests.score import scoring

# Probabilities are float32, and their logarithms are rounded again.
TOLERANCE = 2e-5
PAGE = {
  *("results.json", "warnings.json", "per_class.csv"),
  *("calibration.json", "curves.json", "confusion.npz", "predictions"),
  *("config.json", "environment.json", "manifest.json"),
}


def check_equal(found: dict, wanted: dict) -> None:
  """Checks results.json value by value."""
  assert found.keys() == wanted.keys()
  for key, entry in wanted.items():
    assert found[key].keys() == entry.keys()
    for field, value in entry.items():
      if isinstance(value, float):
        # A short run hardly determines its temperature: errors grow.
        rel = 1e-3 if key.endswith("/temperature") else TOLERANCE
        value = pytest.approx(value, abs=TOLERANCE, rel=rel)
      assert found[key][field] == value, (key, field)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The folder of a tiny run, and its results."""
  folder = tmp_path_factory.mktemp("run") / "run"
  config = tiny.get_config()
  config.steps.total = "4 steps"
  config.evaluation.shift = dict(base="val", sets=("v2",))
  config.logging.report = False
  flag = scoring.write_config(
    folder.parent,
    "config.evaluation.shift = dict(base='val', sets=('v2',))",
    "tiny.get_config()",
  )
  results = loop.train_and_evaluate(config, str(folder))
  return folder, flag, results


def predictions_of(folder, split: str) -> dict[str, np.ndarray]:
  with np.load(folder / "predictions" / f"scenes-{split}.npz") as file:
    return dict(file)


def test_scores_of_a_run_s_predictions_are_its_results(run, tmp_path):
  folder, config, results = run
  stored = [
    folder / "predictions" / f"scenes-{split}.npz"
    for split in ("validation", "v2")
  ]
  found = scoring.run(
    *stored,
    *("--dataset=val", "--dataset=v2", config),
    f"--out={tmp_path / 'out'}",
  )
  check_equal(found, results)
  assert any(key.endswith("top1_accuracy.drop") for key in found)
  out = tmp_path / "out"
  assert {path.name for path in out.iterdir()} >= PAGE
  assert json.loads((out / "results.json").read_text()) == found
  for name in ("per_class.csv", "calibration.json", "curves.json"):
    assert (out / name).stat().st_size == pytest.approx(
      (folder / name).stat().st_size, rel=0.05
    )
  names = [
    {row["name"] for row in json.loads((f / "warnings.json").read_text())}
    for f in (out, folder)
  ]
  assert names[0] == names[1] - {"train_gap", "leakage"}


def test_logits_in_any_order_with_ids_have_the_same_results(run, tmp_path):
  folder, config, results = run
  stored = predictions_of(folder, "validation")
  rng = np.random.default_rng(0)
  order = rng.permutation(len(stored["label"]))
  # A constant for each row changes no probability.
  logits = np.log(stored["probs"][order]) + rng.normal(size=(len(order), 1))
  np.save(tmp_path / "logits.npy", logits.astype(np.float32))
  (tmp_path / "ids.txt").write_text("\n".join(stored["image_id"][order]))
  found = scoring.run(
    tmp_path / "logits.npy",
    *("--dataset=val", f"--ids={tmp_path / 'ids.txt'}", config),
    f"--out={tmp_path / 'out'}",
  )
  wanted = {k: v for k, v in results.items() if "scenes:validation" in k}
  check_equal(found, wanted)


def test_a_ranking_has_the_accuracies_and_no_probabilities(run, tmp_path):
  folder, config, results = run
  np.save(tmp_path / "top.npy", predictions_of(folder, "validation")["top5"])
  found = scoring.run(
    tmp_path / "top.npy",
    *("--dataset=val", config, f"--out={tmp_path / 'out'}"),
  )
  wanted = {k: v for k, v in results.items() if "scenes:validation" in k}
  lost = {k.rpartition("/")[2] for k in wanted.keys() - found.keys()}
  assert lost == {
    *("nll", "brier", "ece", "ece.equal_mass", "classwise_ece"),
    *("macro_average_precision", "macro_roc_auc"),
    *specs.SCALING,
  }
  check_equal(found, {k: v for k, v in wanted.items() if k in found})
  for name in ("calibration.json", "curves.json"):
    assert json.loads((tmp_path / "out" / name).read_text()) == {}
  command = tmp_path / "top.npy", "--dataset=val", config, "--probabilities"
  with pytest.raises(errors.InputError, check=raising.about("--probabilities")):
    scoring.run(*command, f"--out={tmp_path / 'other'}")


def test_probabilities_of_large_sets_are_kept_if_asked(
  run, tmp_path, monkeypatch
):
  folder, config, _ = run
  monkeypatch.setattr(classification, "MOST_PROBABILITIES", 0)
  path = folder / "predictions" / "scenes-validation.npz"
  for flags, kept in (((), False), (("--probabilities",), True)):
    out = tmp_path / str(kept)
    scoring.run(path, *("--dataset=val", config, f"--out={out}"), *flags)
    assert ("probs" in predictions_of(out, "validation")) == kept


def test_a_short_ranking_has_no_drop_to_some_classes(run, tmp_path):
  folder, *_ = run
  paths = [tmp_path / "val.npy", folder / "predictions" / "scenes-v2.npz"]
  np.save(paths[0], predictions_of(folder, "validation")["top5"])
  config = scoring.write_config(
    tmp_path,
    "config.evaluation.shift = dict(base='val', sets=('v2',));"
    "config.evaluation.sets.v2.restrict_classes = True",
    "tiny.get_config()",
  )
  given = (*paths, "--dataset=val", "--dataset=v2", config)
  with pytest.raises(errors.InputError, check=raising.about(str(paths[0]))):
    scoring.run(*given, f"--out={tmp_path / 'out'}")


def test_other_settings_do_not_overwrite_results(run, tmp_path):
  folder, config, _ = run
  stored = folder / "predictions" / "scenes-validation.npz"
  out = tmp_path / "out"
  command = [stored, "--dataset=val", config, f"--out={out}"]
  first = scoring.run(*command)
  assert scoring.run(*command) == first
  about = raising.about("--out", given=out)
  with pytest.raises(errors.InputError, check=about):
    scoring.run(*command, "--scores=ranking")
  about = raising.about("--out", given=folder)
  with pytest.raises(errors.InputError, check=about):
    scoring.run(*command[:-1], f"--out={folder}")


def test_a_network_is_right_for_9294_images_of_cifar10(tmp_path):
  shared = shared_files.shared_path("data")
  found = scoring.run(
    shared / "label-errors/cifar10_test_set_pyx.npy",
    "--dataset=cifar10:test",
    f"--labels={shared / 'CIFAR-10.1/cifar10_test_labels.npy'}",
    f"--repo={shared / 'CIFAR-10.1'}",
    *("--model=network", f"--out={tmp_path}"),
  )
  assert found["cifar10:test/all/top1_accuracy"]["correct"] == 9294
  ece = found["cifar10:test/all/ece"]
  assert 0.02 < ece["ci_low"] < ece["value"] < ece["ci_high"] < 0.05
  after, before = (
    {m: found[f"cifar10:test/all/{m}.{v}"]["value"] for m in ("nll", "ece")}
    for v in ("scaled", "unscaled")
  )
  assert after["nll"] < before["nll"] and after["ece"] < before["ece"]
  assert found["cifar10:test/all/temperature"]["ci_low"] > 1
  assert {path.name for path in tmp_path.iterdir()} >= {*PAGE, "report.html"}
  rows = read_csv(tmp_path / "public_ranks.csv")
  # 22 of the 30 models have more than 92.94%.
  (row,) = rows
  assert (row["model"], row["rank"], row["among"]) == ("network", "23", "30")


@pytest.mark.parametrize("tfds", [False, True])
def test_label_errors_of_cifar10(tmp_path, tfds):
  """In the order of the labels, and in that of TFDS, which is shuffled."""
  shared = shared_files.shared_path("data")
  found = scoring.run(
    shared / "label-errors/cifar10_test_set_pyx.npy",
    *("--dataset=cifar10:test", "--order=id", f"--out={tmp_path / 'out'}"),
    f"--data_dir={shared / 'tfds'}"
    if tfds
    else f"--labels={shared / 'CIFAR-10.1/cifar10_test_labels.npy'}",
    f"--label_errors={shared / 'label-errors/cifar10_mturk.json'}",
    scoring.write_config(tmp_path),
  )
  key = "cifar10:test/all/top1_accuracy"
  for variant in ("", ".corrected", ".corrected_or_both"):
    entry = found[key + variant]
    wanted = (9312, 9996) if variant else (9294, 10_000)
    assert (entry["correct"], entry["n"]) == wanted


def test_label_errors_are_of_sets_with_one_label(tmp_path):
  shared = shared_files.shared_path("data")
  path = tmp_path / "mine.npy"
  np.save(path, np.zeros((50_000, 1), int))
  with pytest.raises(
    errors.InputError, check=raising.about("--label_errors", given="real")
  ):
    scoring.run(
      *(path, "--dataset=real", f"--repo={shared / 'ImageNetV2'}"),
      f"--real={shared / 'reassessed-imagenet/real.json'}",
      f"--label_errors={shared / 'label-errors/imagenet_mturk.json'}",
      *(f"--out={tmp_path / 'out'}", scoring.write_config(tmp_path)),
    )


def test_label_errors_of_imagenet_in_the_order_of_public_predictions(tmp_path):
  """Numbers of hits by a loop over images and votes, without our code."""
  shared = shared_files.shared_path("data")
  repo, path = shared / "ImageNetV2", tmp_path / "mine.npy"
  folder = repo / "data/predictions/imagenet-validation-original"
  np.save(path, np.load(folder / "resnet50.npy"))
  found = scoring.run(
    *(path, "--dataset=val", f"--repo={repo}", f"--out={tmp_path / 'out'}"),
    f"--label_errors={shared / 'label-errors/imagenet_mturk.json'}",
    scoring.write_config(tmp_path),
  )
  key = "imagenet2012:validation/all/top1_accuracy"
  hits = {"": 38_065, ".corrected": 38_851, ".corrected_or_both": 39_260}
  assert {v: found[key + v]["correct"] for v in hits} == hits
  assert found[f"{key}.corrected"]["n"] == 50_000 - 293
  rows = read_csv(tmp_path / "out/public_ranks.csv")
  assert "top1_accuracy.corrected" in {row["metric"] for row in rows}


def test_multilabel_accuracy_on_imagenet_v2(tmp_path):
  repo = shared_files.shared_path("data", "ImageNetV2")
  images = datasets.read(repo / "data/datasets/imagenetv2-b-33.json")
  table, mine = tmp_path / "reviews.csv", tmp_path / "mine.npz"
  columns = "file_name,correct_multi_labels,unclear_multi_labels"
  lines = [f"{columns},wrong_multi_labels,is_problematic"]
  for i, name in enumerate(images.image_ids[:5000].tolist()):
    label = images.labels[i]
    lines.append(f"{name}.jpeg,{label} {(label + 1) % 1000},,,{i == 0}")
  table.write_text("\n".join(lines))
  top1 = (images.labels[:, None] + 1) % 1000
  np.savez(mine, image_id=images.image_ids, top5=top1)
  found = scoring.run(
    *(mine, "--dataset=v2", f"--repo={repo}", f"--annotations={table}"),
    f"--out={tmp_path / 'out'}",
    scoring.write_config(
      tmp_path,
      "common.use_imagenet(config); "
      "config.evaluation.sets.v2.type = 'multilabel'",
    ),
  )
  key = "imagenet_v2-matched-frequency:test/all"
  entry = found[f"{key}/multilabel_accuracy.icml2020"]
  assert (entry["correct"], entry["n"]) == (4999, 4999)
  assert found[f"{key}/top1_accuracy"]["correct"] == 0


def test_cifar10_1_has_the_drop_of_the_paper(tmp_path):
  repo = shared_files.shared_path("data", "CIFAR-10.1")
  labels = {
    "original": repo / "cifar10_test_labels.npy",
    "v4": repo / "datasets/cifar10.1_v4_labels.npy",
  }
  right, paths = {}, []
  for name, path in labels.items():
    folder = repo / f"model_predictions/{name}_predictions"
    top1 = np.array(
      json.loads((folder / "vgg16_keras_predictions.json").read_text())
    )
    right[name] = np.mean(top1 == np.load(path))
    paths.append(tmp_path / f"{name}.npy")
    np.save(paths[-1], top1)
  found = scoring.run(
    *paths,
    *("--dataset=cifar10:test", "--dataset=cifar10_1/v4:test"),
    *(f"--labels={labels['original']}", "--labels=", f"--repo={repo}"),
    *("--model=mine", f"--out={tmp_path / 'out'}"),
    scoring.write_config(tmp_path),
  )
  drop = found["cifar10_1-v4:test/all/top1_accuracy.drop"]["value"]
  assert drop == pytest.approx(right["original"] - right["v4"])
  (line,) = read_csv(tmp_path / "out/public_lines.csv")
  assert (line["base"], line["dataset"]) == ("cifar10-test", "cifar10.1-v4")
  # The 30 models of the paper lie close to the line.
  assert abs(float(line["above_the_line"])) < 0.02
  assert {r["among"] for r in read_csv(tmp_path / "out/public_ranks.csv")} == {
    "30"
  }


def test_a_table_of_reviews_serves_multilabel(tmp_path):
  shared = shared_files.shared_path("data")
  repo, name = shared / "ImageNetV2", datasets.VALIDATION
  reviews = shared / "imagenet/imagenet2012_multilabel.csv"
  command = (
    repo / f"data/predictions/{name}/resnet50.npy",
    *(f"--repo={repo}", f"--annotations={reviews}"),
    *("--model=mine", scoring.write_config(tmp_path)),
  )
  found = scoring.run(
    *command, "--dataset=val,multilabel", f"--out={tmp_path / 'out'}"
  )
  key = "imagenet2012_multilabel:validation/all/multilabel_accuracy"
  for definition, value in (("icml2020", 0.8516), ("tfds", 0.8508)):
    assert round(found[f"{key}.{definition}"]["value"], 4) == value
  assert f"{key}.imagenet_m" not in found
  check = raising.about(f"{reviews}")
  with pytest.raises(errors.InputError, check=check):
    scoring.run(
      *command, "--dataset=val,imagenet_m", f"--out={tmp_path / 'none'}"
    )


def read_csv(path) -> list[dict]:
  with path.open(newline="") as file:
    return list(csv.DictReader(file))


@pytest.mark.slow
def test_rankings_of_public_models_have_the_scores_of_the_papers(tmp_path):
  shared = shared_files.shared_path("data")
  repo, real = shared / "ImageNetV2", shared / "reassessed-imagenet/real.json"
  names = (datasets.VALIDATION, datasets.MATCHED_FREQUENCY)
  collection = clone.read(repo, datasets=names)
  sets = real_sets.read(real, {names[0]: collection.datasets[names[0]]})
  wanted = {
    key: value
    for part in evaluate.evaluate_all(
      collection.datasets, collection.predictions, sets
    )
    for key, value in part.items()
  }
  models = [p.model for p in collection.predictions[names[0]]]
  assert len(models) >= 39
  for model in models[::30]:
    files = [
      repo / "data/predictions" / name / f"{model}.npy" for name in names
    ]
    out = tmp_path / model
    found = scoring.run(
      *files,
      *("--dataset=val,real", "--dataset=v2", f"--repo={repo}"),
      *(f"--real={real}", f"--out={out}", "--model=mine"),
      scoring.write_config(tmp_path),
    )
    for key, name, metrics in (
      ("imagenet2012:validation", names[0], ("top1", "top5")),
      ("imagenet2012_real:validation", names[0], ("real", "real_top5")),
      ("imagenet_v2-matched-frequency:test", names[1], ("top1", "top5")),
    ):
      for metric in metrics:
        for subset in ("all", "dog", "object"):
          entry = found[f"{key}/{subset}/{metric}_accuracy"]
          of_paper = wanted[model, name, subset, f"{metric}_accuracy"]
          assert entry["correct"] == of_paper.correct
          assert entry["n"] == of_paper.n
    drop = found["imagenet_v2-matched-frequency:test/all/top1_accuracy.drop"]
    assert drop["value"] == pytest.approx(
      wanted[model, names[0], "all", "top1_accuracy"].value
      - wanted[model, names[1], "all", "top1_accuracy"].value
    )
    ranked = {
      (r["dataset"], r["metric"]): (int(r["rank"]), int(r["among"]))
      for r in read_csv(out / "public_ranks.csv")
    }
    values = [wanted[m, names[0], "all", "top1_accuracy"].value for m in models]
    own = wanted[model, names[0], "all", "top1_accuracy"].value
    assert ranked[names[0], "top1_accuracy"] == (
      1 + sum(v > own for v in values),
      len(models),
    )
    lines = read_csv(out / "public_lines.csv")
    assert {(r["base"], r["dataset"]) for r in lines} == {names}
    for row in lines:
      assert float(row["above_the_line"]) == pytest.approx(
        float(row["value"]) - float(row["on_the_line"]), abs=2e-8
      )


def test_published_rows_of_timm_rank_a_model(tmp_path):
  repo = clones.small(tmp_path / "clone")
  published = tmp_path / "results-imagenet.csv"
  published.write_text(
    "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,"
    "interpolation\n"
    'best,224,99.000,1.000,99.900,0.100,"1,013.01",1.0,bicubic\n'
    "best,288,99.500,0.500,99.900,0.100,1.0,1.0,bicubic\n"
    "worst,224,1.000,99.000,5.000,95.000,1.0,1.0,bicubic\n"
  )
  name = datasets.VALIDATION
  ranking = repo / "data/predictions" / name / "good.npy"
  command = [ranking, "--dataset=val", f"--repo={repo}"]
  about = raising.about("--model", given="good")
  with pytest.raises(errors.InputError, check=about):
    scoring.run(*command, f"--out={tmp_path / 'same'}")
  scoring.run(
    *command,
    *("--model=mine", f"--published={published}", f"--out={tmp_path / 'out'}"),
    scoring.write_config(tmp_path),
  )
  rows = read_csv(tmp_path / "out/public_ranks.csv")
  assert {r["metric"]: (r["rank"], r["among"]) for r in rows} == {
    # 2 rows of timm are better, "good" is equal.
    "top1_accuracy": ("3", "5"),
    "top5_accuracy": ("3", "5"),
  }


def test_images_with_equal_names_in_folders_are_found(tmp_path):
  repo = clones.small(tmp_path / "clone")
  dataset = datasets.read(repo / f"data/datasets/{datasets.VALIDATION}.json")
  ranking = np.load(
    repo / "data/predictions" / datasets.VALIDATION / "good.npy"
  )
  order = np.random.default_rng(1).permutation(len(dataset))
  lines = ["filename,index_0,index_1,prob_0,prob_1"]
  for row in order:
    first, second = ranking[row, :2]
    lines.append(f"n01/{dataset.image_ids[row]},{first},{second},0.6,0.2")
  (tmp_path / "timm.csv").write_text("\n".join(lines) + "\n")
  found = scoring.run(
    tmp_path / "timm.csv",
    *("--dataset=val", f"--repo={repo}", f"--out={tmp_path / 'out'}"),
    scoring.write_config(tmp_path),
  )
  entry = found["imagenet2012:validation/all/top1_accuracy"]
  assert entry["correct"] == int((ranking[:, 0] == dataset.labels).sum())
  assert "imagenet2012:validation/all/top5_accuracy" not in found
