"""Tests of images in folders: layouts, splits, and what is no image."""

import os
import pathlib
import shutil

from absl import logging as absl_logging
import numpy as np
import pytest

from imgbench import cli
from imgbench import config as config_lib
from imgbench import data
from imgbench import errors
from imgbench.data import folder as folder_lib
from imgbench.data import source
from imgbench.train import loop
from imgbench.train import setup
from tests import raising
from tests.data import encoded_images
from tests.data import shared_files

CLASSES = ("ant", "bee", "cat")


def image(number: int, kind: str = "JPEG") -> bytes:
  rng = np.random.default_rng(number)
  shape = (18 + number % 5, 20 + number % 3, 3)
  return encoded_images.encode(rng.integers(0, 256, shape, np.uint8), kind)


def fill(root: pathlib.Path, count: int, first: int = 0) -> None:
  """Writes `count` images of each class, JPEG and PNG in turn."""
  for label, name in enumerate(CLASSES):
    (root / name).mkdir(parents=True)
    for i in range(count):
      kind, suffix = ("JPEG", "jpg") if i % 2 else ("PNG", "PNG")
      path = root / name / f"{i}.{suffix}"
      path.write_bytes(image(first + label * count + i, kind))


@pytest.fixture
def classes(tmp_path):
  """DIR/CLASS/FILE, 60 images."""
  fill(tmp_path / "images", 20)
  return tmp_path / "images"


@pytest.fixture
def divided(tmp_path):
  """DIR/train/CLASS/FILE and DIR/val/CLASS/FILE."""
  fill(tmp_path / "divided/train", 4)
  fill(tmp_path / "divided/val", 2, first=100)
  return tmp_path / "divided"


def build(root, split="train", **options):
  return data.build_source("folder", split, str(root), **options)


def ids(split) -> list[str]:
  return split.examples().image_id.tolist()


def test_a_divided_folder(divided):
  train, val = build(divided), build(divided, "validation")
  assert isinstance(train, source.EncodedSource)
  assert train.info.class_names == val.info.class_names == CLASSES
  assert (len(train), len(val)) == (12, 6)
  assert train.info.key == "folder:train" and train.info.streamed
  assert ids(val)[:3] == ["val/ant/0.PNG", "val/ant/1.jpg", "val/bee/0.PNG"]
  assert val.examples().label.tolist() == [0, 0, 1, 1, 2, 2]
  path = divided / "val/bee/1.jpg"
  assert val.read(3) == (path.read_bytes(), 1)
  assert str(path) in val.where(3)
  (divided / "val").rename(divided / "validation")
  assert len(build(divided, "val")) == 6


def test_a_folder_is_split_by_contents(classes):
  train, val = build(classes), build(classes, "validation")
  assert len(train) + len(val) == 60 and 0 < len(val) < 15
  assert not set(ids(train)) & set(ids(val))
  assert train.info.class_names == val.info.class_names == CLASSES
  half = build(classes, "validation", validation_share=0.5)
  assert 20 < len(half) < 40 and set(ids(val)) < set(ids(half))


def test_equal_files_are_in_the_same_split(classes):
  before = {name: ids(build(classes, name)) for name in ("train", "validation")}
  for split, names in before.items():
    for i, name in enumerate(names[:5]):
      shutil.copy(classes / name, classes / "cat" / f"copy_{split}_{i}.jpg")
  for split in before:
    added = set(ids(build(classes, split))) - set(before[split])
    assert added == {f"cat/copy_{split}_{i}.jpg" for i in range(5)}


def test_the_fingerprint_is_that_of_the_contents(classes, tmp_path):
  fingerprint = build(classes).info.fingerprint
  shutil.copytree(classes, tmp_path / "copy")
  for path in (tmp_path / "copy").rglob("*.*"):
    os.utime(path, (1, 1))
  assert build(tmp_path / "copy").info.fingerprint == fingerprint
  assert build(classes, "validation").info.fingerprint != fingerprint
  first = tmp_path / "copy" / ids(build(classes))[0]
  content = bytearray(first.read_bytes())
  content[30] ^= 1
  first.write_bytes(content)
  assert build(tmp_path / "copy").info.fingerprint != fingerprint
  shutil.copytree(classes, tmp_path / "renamed")
  (tmp_path / "renamed/ant").rename(tmp_path / "renamed/asp")
  assert build(tmp_path / "renamed").info.fingerprint != fingerprint


def test_shares_of_other_splits(divided, tmp_path):
  train, val = build(divided), build(divided, "validation")
  assert train.shared_with(train) == 1 and val.shared_with(train) == 0
  linked = divided / "val/ant/linked.jpg"
  linked.symlink_to(divided / "train/ant/1.jpg")
  assert build(divided, "validation").shared_with(train) == 1 / 7
  fill(tmp_path / "other", 20)
  assert build(tmp_path / "other").shared_with(train) == 0


def test_what_counts_as_an_image(divided, caplog):
  ant = divided / "train/ant"
  (ant / ".hidden.jpg").write_bytes(b"")
  (ant / ".cache").mkdir()
  (ant / "notes.txt").write_text("no image")
  (ant / "no_suffix").write_bytes(image(1))
  (ant / "as_named.PNG").write_bytes(image(2))  # A JPEG.
  (ant / "other.gif").write_bytes(image(3, "GIF"))
  (divided / "train/labels.csv").write_text("a,b")
  (divided / "train/dog").symlink_to(divided / "val/cat")
  caplog.set_level(absl_logging.WARNING, logger="absl")
  found = build(divided)
  names = [n for n in ids(found) if n.startswith("train/ant")]
  assert sorted(n.removeprefix("train/ant/") for n in names) == [
    *("0.PNG", "1.jpg", "2.PNG", "3.jpg"),
    *("as_named.PNG", "no_suffix", "other.gif"),
  ]
  assert found.info.class_names == (*CLASSES, "dog")
  (record,) = caplog.records
  assert "2 files" in record.getMessage()


@pytest.mark.parametrize(
  ("change", "split", "setting"),
  [
    (lambda d: shutil.rmtree(d / "val"), "validation", "split"),
    (lambda d: shutil.copytree(d / "val", d / "validation"), "val", "split"),
    (lambda d: None, "test", "split"),
    (lambda d: (d / "train/dog").mkdir(), "train", "{}/train/dog"),
    (lambda d: (d / "val/dog").mkdir(), "validation", "{}/val"),
    (lambda d: (d / "train/ant/more").mkdir(), "train", "data_dir"),
    (lambda d: shutil.rmtree(d / "train"), "train", "data_dir"),
    (
      lambda d: [shutil.rmtree(d / "train" / name) for name in CLASSES[1:]],
      "train",
      "data_dir",
    ),
    (lambda d: shutil.rmtree(d), "train", "data_dir"),
  ],
)
def test_folders_that_do_not_fit(divided, change, split, setting):
  change(divided)
  about = raising.about(setting.format(divided))
  with pytest.raises(errors.InputError, check=about):
    build(divided, split)


@pytest.mark.parametrize(
  ("root", "options", "setting"),
  [
    ("", {}, "data_dir"),
    ("gs://bucket/images", {}, "data_dir"),
    ("images", {"validation_share": 0.0}, "validation_share"),
    ("images", {"validation_share": 1e-9}, "split"),
    ("images", {"result_name": "a/b"}, "result_name"),
    ("divided", {"validation_share": 0.2}, "validation_share"),
  ],
)
def test_options_that_do_not_fit(classes, divided, root, options, setting):
  root = root and str(divided.parent / root) if "://" not in root else root
  with pytest.raises(errors.InputError, check=raising.about(setting)):
    build(root, "validation", **options)


@pytest.mark.parametrize("share", ["half", "nan", True])
def test_an_option_has_the_type_of_its_annotation(classes, share):
  about = raising.about("validation_share", given=repr(share))
  with pytest.raises(errors.InputError, check=about):
    data.build_source("folder", "train", str(classes), validation_share=share)


def test_a_class_named_train_is_no_split(classes):
  (classes / "cat").rename(classes / "train")
  assert build(classes).info.class_names == ("ant", "bee", "train")


def read_config(root, *overrides):
  return cli.read_config(
    "folder",
    [
      *(f"data.data_dir={root}", "input.size=8", "model.name=cnn"),
      *(
        "global_batch_size=4",
        "steps.total=2 steps",
        "schedule.warmup=1 steps",
      ),
      *("logging.report=False", "parallel.devices=1", *overrides),
    ],
  )


def test_a_run_on_a_folder_without_its_bad_images(divided, tmp_path):
  cat = divided / "val/cat"
  (cat / "empty.jpg").touch()
  (cat / "gif.jpg").write_bytes(image(3, "GIF"))
  (cat / "gone.jpg").symlink_to(cat / "absent.jpg")
  (cat / "cut.jpg").write_bytes(image(4)[:-40])
  config = read_config(divided)
  settings = config_lib.parse(config)
  assert settings.evaluation.input["size"] == 8  # That of training.
  prepared = setup.prepare(settings)
  with pytest.raises(errors.InputError) as raised:
    list(prepared.evaluators["val"].split.batches(4))
  prepared.training.feed.close()
  assert "evaluation.sets.val.on_bad_example=skip" in raised.value.fix
  assert "val/cat" in raised.value.setting
  skip = "evaluation.sets.val.on_bad_example=skip"
  config = read_config(divided, skip)
  results = loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert results["folder:validation/all/skipped"]["value"] == 4
  assert results["folder:validation/all/top1_accuracy"]["n"] == 6
  with np.load(tmp_path / "run/predictions/folder-validation.npz") as found:
    assert found["image_id"].tolist() == [
      f"val/{name}/{file}" for name in CLASSES for file in ("0.PNG", "1.jpg")
    ]


def test_the_size_of_images_is_asked_for_first(classes):
  config = cli.read_config(
    "tiny", ["data.name=folder", f"data.data_dir={classes}"]
  )
  with pytest.raises(errors.InputError, check=raising.about("input.size")):
    setup.open_data(config_lib.parse(config))


def test_a_second_folder_has_its_own_name(classes, divided):
  config = read_config(divided)
  config.unlock()
  config.evaluation.sets.other = dict(
    split="validation",
    data_dir=str(classes),
    options=dict(result_name="other"),
  )
  plan = setup.open_data(config_lib.parse(config)).plan
  keys = [found.info.key for found in plan.sources.values()]
  assert sorted(keys) == ["folder:validation", "other:validation"]


@pytest.mark.parametrize("name", ["gifset", "bmpset"])
def test_the_kind_of_an_image_in_a_prepared_set_is_named(name):
  root = shared_files.shared_path("data", "faults")
  config = read_config(
    root, f"data.name={name}", "evaluation.sets.val.split=train"
  )
  prepared = setup.prepare(config_lib.parse(config))
  with pytest.raises(errors.InputError) as raised:
    list(prepared.evaluators["val"].split.batches(4))
  prepared.training.feed.close()
  assert f"a {name[:3].upper()} image" in str(raised.value.given)
  assert "example " in raised.value.setting and name in raised.value.setting


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP"])
def test_kinds_of_images(kind):
  from imgbench.data import image_decode

  assert image_decode.find_kind(image(0, kind)[:16]) == kind
  assert image_decode.find_kind(b"") is None
  assert image_decode.find_kind(b"BM is no image, ") is None


def test_listing_reads_no_whole_file(classes, monkeypatch):
  monkeypatch.setattr(pathlib.Path, "read_bytes", None)
  with pytest.raises(TypeError):  # The sample of the fingerprint.
    build(classes)
  monkeypatch.setattr(
    folder_lib.FolderSource, "_compute_fingerprint", lambda self: ""
  )
  assert len(build(classes)) > 0
