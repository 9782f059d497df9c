"""Tests of predictions from a run's workdir, and of the command `predict`."""

import csv
import json
import os
import pathlib
import shutil

import numpy as np
from PIL import Image
import pytest

import imgbench
from imgbench import checkpoints
from imgbench import errors
from imgbench import predict
from imgbench import predictor
from imgbench import writers
from imgbench.configs import tiny
from imgbench.data import scene_source
from imgbench.train import loop
from imgbench.train import start
from tests import raising
from tests.data import pipeline_test
from tests.train import processes
from tests.train import streamed_test

# Predictions are computed in other batches, and on another number of devices.
TOLERANCE = 1e-6


def make_config(**parallel):
  """Two steps, with averaged parameters that are evaluated too."""
  config = tiny.get_config()
  config.steps.total = "2 steps"
  config.checkpoint.every = "1 steps"
  config.logging.update(report=False, tensorboard=False)
  config.model.widths = (16, 32)  # Large enough to be sharded.
  config.schedule.warmup = "1 steps"
  config.ema.decay = 0.5
  config.evaluation.sets = dict(val=dict(split="validation"))
  config.parallel.update(parallel)
  return config


def train(folder, **parallel) -> str:
  config = make_config(**parallel)
  config.evaluation.flip_average = bool(parallel)
  loop.train_and_evaluate(config, str(folder))
  return str(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run on one device; tests only read it."""
  return train(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def images():
  """Returns the images that the runs evaluated, uint8 [72, 16, 16, 3]."""
  options = tiny.get_config().data.options.to_dict()
  return scene_source.ScenesSource("validation", **options).load().image


def read_predictions(run: str, key: str) -> dict[str, np.ndarray]:
  name = f"{writers.make_file_key(key)}.npz"
  with np.load(pathlib.Path(run, "predictions", name)) as found:
    return dict(found)


def check_same(found: predictor.Predictions, written) -> None:
  np.testing.assert_allclose(
    found.probabilities, written["probs"], atol=TOLERANCE
  )
  assert (found.classes()[:, 0] == written["top5"][:, 0]).all()


def list_files(folder: str) -> dict[str, int]:
  return {
    str(path): path.stat().st_mtime_ns
    for path in pathlib.Path(folder).rglob("*")
    if path.is_file()
  }


@pytest.mark.smoke
def test_predictions_are_those_of_the_run(run, images):
  before = list_files(run)
  averaged = imgbench.load(run)
  check_same(
    averaged.predict(images), read_predictions(run, "scenes+ema:validation")
  )
  raw = imgbench.load(run, ema=False)
  check_same(raw.predict(images), read_predictions(run, "scenes:validation"))
  assert (averaged.ema, raw.ema) == (True, False)
  assert list_files(run) == before


@pytest.mark.slow
@pytest.mark.parametrize(
  "parallel",
  [
    {"strategy": "pmap", "devices": 2},
    {"strategy": "jit", "devices": 4, "fsdp": 2},
  ],
)
def test_predictions_of_runs_on_several_devices(tmp_path, images, parallel):
  run = train(tmp_path, **parallel)
  found = imgbench.load(run, ema=False).predict(images)
  check_same(found, read_predictions(run, "scenes:validation"))


def test_pictures_in_files_of_a_streamed_set(tmp_path):
  """The crop is that of the evaluation, and the data are gone."""
  data_dir, pictures = tmp_path / "data", tmp_path / "pictures"
  split = pipeline_test.write(data_dir)
  pictures.mkdir()
  for index in range(30):
    pictures.joinpath(f"{index:02}.png").write_bytes(split.read(index)[0])
  config = streamed_test.make_config(str(data_dir))
  config.evaluation.input = dict(size=12, crop_fraction=0.7, method="bilinear")
  config.steps.total = "2 steps"
  config.ema.decay = 0.0
  workdir = str(tmp_path / "run")
  loop.train_and_evaluate(config, workdir)
  shutil.rmtree(data_dir)
  loaded = imgbench.load(workdir)
  assert loaded.image_shape == (12, 12, 3)
  assert loaded.class_names == split.info.class_names
  found = loaded.predict(predict.list_pictures([str(pictures)]))
  check_same(found, read_predictions(workdir, "tiny:train[:30]"))
  assert loaded.ema is False
  with pytest.raises(errors.InputError, check=raising.about("ema")):
    imgbench.load(workdir, ema=True)


def test_logits_of_an_array_in_a_file(run, images, tmp_path):
  path, out = tmp_path / "images.npy", tmp_path / "new" / "logits.npy"
  np.save(path, images)
  loaded = imgbench.load(run)
  predict.write_logits(str(out), loaded, [str(path)])
  logits = np.load(out)
  assert (logits.shape, logits.dtype) == ((72, 24), np.float32)
  np.testing.assert_array_equal(logits, loaded.predict(images).logits)
  out.unlink()
  out.symlink_to("/dev/full")
  for bad in (tmp_path, out):
    with pytest.raises(errors.InputError, check=raising.about("--out")):
      predict.write_logits(str(bad), loaded, [str(path)])
  path.write_bytes(b"no array")
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    predict.write_logits(str(out), loaded, [str(path)])


def test_shapes_and_batches(run, images, monkeypatch):
  loaded = imgbench.load(run)
  assert loaded.image_shape == (16, 16, 3)
  whole = loaded.predict(images)
  assert whole.logits.shape == (72, 24) and whole.logits.dtype == np.float32
  one = loaded.predict(images[3])
  np.testing.assert_allclose(one.logits, whole.logits[3:4], atol=1e-5)
  monkeypatch.setattr(predictor, "_BATCH", 32)
  parts = list(loaded.iterate(images))
  assert [len(part.logits) for part in parts] == [32, 32, 8]
  np.testing.assert_allclose(
    loaded.predict(images).logits, whole.logits, atol=1e-5
  )


def test_best_classes_with_ties_and_nan():
  logits = np.log(np.array([[1, 5, 2, 2], [1, 1, 1, 1]], np.float32))
  logits[1, 2] = np.nan
  found = predictor.Predictions(logits, ("a", "b", "c", "d"))
  assert found.classes(3).tolist()[0] == [1, 2, 3]
  ((first, _), (second, share)) = found.top(2)[0]
  assert (first, second) == ("b", "c")
  assert share == pytest.approx(0.2)
  assert found.probabilities.dtype == np.float32
  assert np.isnan(found.probabilities[1]).all()


def test_pictures_for_a_set_of_one_size(run, images, tmp_path):
  loaded = imgbench.load(run)
  paths = [tmp_path / f"{i}.png" for i in range(3)]
  for image, path in zip(images[:2], paths, strict=False):
    Image.fromarray(image).save(path)
  # The square in the middle of a wide picture.
  wide = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
  Image.fromarray(wide).save(paths[2])
  narrow = Image.fromarray(wide).resize((24, 16), Image.Resampling.BICUBIC)
  middle = narrow.crop((4, 0, 20, 16))
  same = np.stack([*images[:2], np.asarray(middle)])
  np.testing.assert_array_equal(
    loaded.predict(paths).logits, loaded.predict(same).logits
  )
  np.testing.assert_array_equal(
    loaded.predict(str(paths[0])).logits, loaded.predict(same[0]).logits
  )


def test_grey_is_that_of_pillow():
  rgb = np.random.default_rng(0).integers(0, 256, (4, 9, 9, 3), np.uint8)
  grey = [np.asarray(Image.fromarray(image).convert("L")) for image in rgb]
  np.testing.assert_array_equal(predictor._to_grey(rgb)[..., 0], grey)


@pytest.mark.parametrize(
  "images",
  [
    np.zeros((8, 8, 3), np.uint8),
    np.zeros((16, 16, 3), np.float32),
    np.zeros((16, 16), np.uint8),
    np.zeros((0, 16, 16, 3), np.uint8),
    [],
    [np.zeros((16, 16, 3), np.uint8)],
  ],
)
def test_wrong_arrays_are_refused(run, images):
  with pytest.raises(errors.InputError, check=raising.about("images")):
    imgbench.load(run).predict(images)


@pytest.mark.parametrize("content", [b"GIF89a", None, "cut"])
def test_damaged_and_missing_pictures_are_named(run, images, tmp_path, content):
  path = tmp_path / "1.png"
  Image.fromarray(images[0]).save(tmp_path / "0.png")
  if content == "cut":
    content = tmp_path.joinpath("0.png").read_bytes()[:-40]
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    imgbench.load(run).predict([tmp_path / "0.png", path])


def test_a_step_is_named(run):
  assert imgbench.load(f"{run}@1").step == 1
  assert imgbench.load(run).step == 2
  for wrong in (f"{run}@7", f"{run}/absent"):
    with pytest.raises(errors.InputError, check=raising.about("RUN")):
      imgbench.load(wrong)


def test_damaged_checkpoints_are_passed_over(run, tmp_path):
  copy = shutil.copytree(run, tmp_path / "copy")
  for path in copy.joinpath("checkpoints/2/meta").rglob("metadata"):
    path.write_text("{")
  assert imgbench.load(copy).step == 1
  shutil.rmtree(copy / "checkpoints/1")
  with pytest.raises(errors.InputError, check=raising.about("RUN")):
    imgbench.load(copy)


def test_checkpoints_of_older_versions(run, tmp_path):
  """They are refused, resume, and the next one can be loaded."""
  copy = shutil.copytree(run, tmp_path / "copy")
  for path in copy.glob("checkpoints/*/meta/metadata"):
    meta = checkpoints._unseal(json.loads(path.read_text()))
    del meta[start.DATA]
    path.write_text(json.dumps(checkpoints._seal(meta)))
  with pytest.raises(errors.InputError, check=raising.about("RUN")):
    imgbench.load(copy)
  config = make_config()
  config.steps.total = "3 steps"
  loop.train_and_evaluate(config, str(copy))
  assert imgbench.load(copy).step == 3


def test_the_config_is_needed(run, tmp_path):
  copy = shutil.copytree(run, tmp_path / "copy")
  (copy / "config.json").unlink()
  named = raising.about(str(copy / "config.json"))
  with pytest.raises(errors.InputError, check=named):
    imgbench.load(copy)


def test_import_needs_neither_jax_nor_numpy():
  done = processes.run_python(
    "-c",
    "import sys, imgbench; imgbench.load\n"
    "assert not {'jax', 'numpy', 'absl'} & set(sys.modules)",
  )
  assert done.returncode == 0, done.stderr


def test_folders_give_their_pictures(tmp_path):
  tmp_path.joinpath("b").mkdir()
  for name in ("2.PNG", "b/1.jpeg", "b/0.JPG", "notes.txt"):
    tmp_path.joinpath(name).touch()
  listed = predict.list_pictures(["x.jpg", str(tmp_path)])
  below = [os.path.relpath(path, tmp_path) for path in listed[1:]]
  assert listed[0] == "x.jpg" and below == ["2.PNG", "b/0.JPG", "b/1.jpeg"]
  tmp_path.joinpath("empty").mkdir()
  for arguments in ([], [""], [str(tmp_path / "empty")]):
    with pytest.raises(errors.InputError, check=raising.about("IMAGES")):
      predict.list_pictures(arguments)


def test_csv_has_a_row_for_each_class(run, images, tmp_path):
  paths = [str(tmp_path / f"a,{i}\udc80.png") for i in range(3)]
  for image, path in zip(images, paths, strict=False):
    Image.fromarray(image).save(path)
  out = tmp_path / "new/out.csv"
  loaded = imgbench.load(run)
  predict.write_csv(str(out), predict.predict(loaded, paths, 2))
  with out.open(newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
  names = [path.replace("\udc80", "\\udc80") for path in paths]
  assert [row["image"] for row in rows] == np.repeat(names, 2).tolist()
  assert [row["rank"] for row in rows] == ["1", "2"] * 3
  best = loaded.predict(paths).top(2)
  for row, (name, share) in zip(rows, sum(best, []), strict=True):
    assert row["class_name"] == name
    assert loaded.class_names[int(row["class_index"])] == name
    assert float(row["probability"]) == pytest.approx(share, rel=1e-6)
  with pytest.raises(errors.InputError, check=raising.about("--out")):
    predict.write_csv(str(tmp_path), [])


@pytest.mark.slow
def test_the_command_prints_a_line_per_picture(run, images, tmp_path):
  for i in range(3):
    Image.fromarray(images[i]).save(tmp_path / f"{i}.png")
  words = ("-m", "imgbench.predict", run, str(tmp_path), "--k=2", "--noema")
  done = processes.run_python(*words)
  assert done.returncode == errors.EXIT_DONE, done.stderr
  lines = done.stdout.splitlines()
  assert [line.split(": ")[0] for line in lines] == [
    str(tmp_path / f"{i}.png") for i in range(3)
  ]
  best = imgbench.load(run, ema=False).predict(images[:3]).classes()
  names = imgbench.load(run).class_names
  for line, (index,) in zip(lines, best, strict=True):
    assert names[index] in line and line.count("%") == 2
  tmp_path.joinpath("1.png").write_bytes(b"damaged")
  done = processes.run_python(*words)
  assert done.returncode == errors.EXIT_USAGE
  assert str(tmp_path / "1.png") in done.stderr.splitlines()[-1]
