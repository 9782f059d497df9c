"""Tests of published weights: the table, config.json, evaluate, the page."""

import csv
import json
import math
import re
import shutil

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import cli
from imgbench import config as config_lib
from imgbench import errors
from imgbench import evaluate
from imgbench import models
from imgbench.report import accuracies
from imgbench.report import inputs
from imgbench.train import loop
from imgbench.weights import convert
from imgbench.weights import maps
from imgbench.weights import published
from tests import raising
from tests.data import fake_folder
from tests.data import shared_files
from tests.report import imagenet_samples
from tests.train import processes

NAME = "timm/resnet18.a1_in1k"
HALF = ((0.5,) * 3, (0.5,) * 3)


def test_rows_of_timm_are_those_of_its_csv():
  path = shared_files.shared_path(
    "data", "imagenet", "published", "timm_results-imagenet.csv"
  )
  with open(path, encoding="utf-8") as file:
    rows = {(r["model"], int(r["img_size"])): r for r in csv.DictReader(file)}
  count = 0
  for name, found in published.PUBLISHED.items():
    library, _, model = name.partition("/")
    if library != "timm":
      continue
    row, count = rows[model, found.size], count + 1
    assert found.top1 == float(row["top1"]), name
    assert found.crop_fraction == float(row["crop_pct"]), name
    assert found.method == row["interpolation"], name
    vit = found.model.startswith(("vit", "mlp_mixer"))
    assert ((found.mean, found.std) == HALF) == vit
  assert count == 14


def test_the_page_on_weights_has_the_same_numbers():
  text = (processes.ROOT / "docs/weights.md").read_text()
  for name, found in published.PUBLISHED.items():
    library, _, short = name.partition("/")
    written = f"`{name}`" if library == "timm" else f"`{short}.pth`"
    (line,) = [x for x in text.splitlines() if x.startswith(f"| {written} |")]
    assert f"| {found.model} |" in line
    assert line.endswith(f"| {found.top1:.3f} |")
    assert any(re.fullmatch(m.models, found.model) for m in maps.MAPS.values())
    shorts = {0.875: 256, 0.9655: 232, 0.949: 236, 0.95: 235, 0.9: 248}
    side = math.floor(found.size / found.crop_fraction)
    assert side == shorts[found.crop_fraction], name


def write_resnet18(path, classes=1000):
  model = models.build_model(
    "resnet18",
    num_classes=classes,
    image_shape=(64, 64, 3),
    dtype=jnp.float32,
  )
  variables = jax.jit(model.init)(jax.random.key(0))
  np.savez(path, **convert.invert(variables, maps.MAPS["resnet"]))
  return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  return write_resnet18(tmp_path_factory.mktemp("hub, 1") / "model.npz")


def read(name, path):
  config = cli.read_config(f"evaluate:model={name},from={path}")
  return config_lib.parse(config)


def test_preprocessing_comes_from_the_table(weights):
  found = read("timm/resnet18.a1_in1k", weights)
  assert found.recipe.model.name == "resnet18"
  assert found.recipe.init.checkpoint == NAME
  assert (found.recipe.init.source, found.recipe.init.train) == (
    *(str(weights), False),
  )
  assert found.evaluation.input == dict(
    size=224, crop_fraction=0.95, method="bicubic"
  )
  assert len(found.evaluation.sets) == 9
  assert found.recipe.augment.std == (0.229, 0.224, 0.225)


def test_preprocessing_comes_from_config_json(weights, tmp_path):
  weights = shutil.copy(weights, tmp_path)
  described = {
    "architecture": "resnet18",
    "pretrained_cfg": {
      "input_size": [3, 160, 160],
      "crop_pct": 0.9,
      "interpolation": "bilinear",
      "mean": [0.5] * 3,
      "std": [0.5] * 3,
    },
  }
  path = tmp_path / "config.json"
  about = raising.about("--model")
  for text in ("", "[]", "{}", json.dumps(described | {"architecture": "x"})):
    path.write_text(text)
    with pytest.raises(errors.InputError, check=about):
      read("timm/resnet18.mine", weights)
  path.write_text(json.dumps(described))
  found = read("timm/resnet18.mine", weights)
  assert found.evaluation.input == dict(
    size=160, crop_fraction=0.9, method="bilinear"
  )
  assert found.recipe.augment.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
  ("args", "setting"),
  [
    (["--model=timm/resnet18.a1"], "RUN"),
    (["runs/a", f"--model={NAME}"], "RUN"),
    (["runs/a", "--from={weights}"], "RUN"),
    (["--from={weights}"], "--model"),
    (["--from={weights}", "--model=timm/resnet18.a9_in1k"], "--model"),
    (
      ["--from={weights}", "--model=timm/vit_small_patch16_224.augreg_in1k"],
      "weights",
    ),
    (["--from=absent.npz", f"--model={NAME}"], "absent.npz"),
  ],
)
def test_the_command_takes_weights(weights, monkeypatch, args, setting):
  values = flags.FlagValues()
  argv = ["imgbench evaluate", *(x.format(weights=weights) for x in args)]
  argv.append("--workdir=out")
  monkeypatch.setattr("sys.argv", argv)
  monkeypatch.setattr(cli.flags, "FLAGS", values)
  monkeypatch.setattr(evaluate.flags, "FLAGS", values)
  evaluate.define_flags(values)
  with pytest.raises(errors.InputError) as caught:
    evaluate.parse_flags(argv)
  assert caught.value.setting.endswith(setting)


def test_the_page_compares_with_the_published_top1(tmp_path):
  imagenet_samples.family(tmp_path, ("imagenet2012", "imagenet_a"), ("",))
  run = inputs.read(tmp_path)
  assert accuracies.build_published(run) == []
  path = tmp_path / "config.json"
  config = json.loads(path.read_text())
  path.write_text(json.dumps(config | {"init": {"checkpoint": NAME}}))
  run = inputs.read(tmp_path)
  (row,) = [
    r
    for r in run.results
    if r.subset == "all" and r.metric == "top1_accuracy" and "2012" in r.dataset
  ]
  (table,) = accuracies.build_published(run)
  ((name, source, there, here, apart),) = table.rows
  assert (name, there) == (NAME, "71.50") and "timm" in source
  assert here.startswith(f"{100 * row.value:.2f} [")
  assert float(apart) == pytest.approx(100 * row.value - 71.504, abs=0.006)


@pytest.mark.slow
def test_weights_are_evaluated_on_all_sets_of_imagenet(weights, tmp_path):
  """Synthetic images of 64 pixels; the weights are random."""
  text = f"evaluate:model={NAME},from={weights}"
  config = cli.read_config(
    text,
    [
      f"data.data_dir={fake_folder.prepared()}",
      *("input.size=64", "evaluation.input.size=64"),
      "evaluation.batch_size=100",
    ],
  )
  results = loop.train_and_evaluate(config, str(tmp_path / "out"))
  keys = {key.partition("/")[0] for key in results}
  assert len(keys) == 9 and "imagenet_a:test" in keys
  page = (tmp_path / "out/report.html").read_text()
  assert "Published accuracy" in page and "71.50" in page
  status = processes.read_json(tmp_path / "out", "status.json")
  assert (status["step"], status["state"]) == (0, "done")
  # A head of other classes would be random.
  other = write_resnet18(tmp_path / "other.npz", classes=10)
  config.init.source = str(other)
  about = raising.about("init.source: weights")
  with pytest.raises(errors.InputError, check=about):
    loop.train_and_evaluate(config, str(tmp_path / "again"))
