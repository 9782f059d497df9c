"""Tests of preparing data sets: refused inputs, prepared sets, interruptions.

Those that run TFDS's builders need TensorFlow, or the folder that an earlier
run with it created on this machine (see `fake_folder`); else they skip.
"""

import collections
import importlib.util
import io
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets

from imgbench import data
from imgbench import errors
from imgbench.data import synthetic
from imgbench.data import tfds_folder
from imgbench.labels import classes
from imgbench.prepare import __main__ as prepare
from imgbench.prepare import build
from imgbench.prepare import files as prepare_files
from imgbench.prepare.fake_imagenet import __main__ as fake_imagenet
from imgbench.prepare.fake_imagenet import plan as fake_imagenet_plan
from tests import raising
from tests.data import fake_folder
from tests.data import tiny_tfds
from tests.train import processes

WNIDS = classes.imagenet_classes().wnids
VALIDATION_LABELS = fake_imagenet_plan.validation_labels()


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> pathlib.Path:
  """A manual_dir of a few small pictures."""
  folder = tmp_path_factory.mktemp("small")
  plan = fake_imagenet_plan.PicturePlan(image_size=(32, 24), num_classes=5)
  fake_imagenet.write(folder, plan)
  return folder


@pytest.fixture
def manual(small, tmp_path) -> pathlib.Path:
  """A copy of it to break."""
  return pathlib.Path(shutil.copytree(small, tmp_path / "manual"))


def refused(
  names, tmp_path, setting, manual_dir="", tensorflow=True, **options
) -> errors.InputError:
  """Returns the error of a preparation that must not have written anything.

  All checks precede the import of TensorFlow, which only seems installed.
  """
  find_spec = importlib.util.find_spec

  def pretended(name, *args):
    return tensorflow if name == "tensorflow" else find_spec(name, *args)

  with (
    pytest.MonkeyPatch.context() as patch,
    pytest.raises(
      errors.InputError, check=raising.about(str(setting))
    ) as caught,
  ):
    patch.setattr(importlib.util, "find_spec", pretended)
    list(prepare.prepare(names, tmp_path / "data", manual_dir, **options))
  assert "\n" not in str(caught.value)
  assert not list((tmp_path / "data").glob("*"))
  return caught.value


# Refused inputs.


def test_missing_tars_are_named_with_their_sizes(tmp_path):
  error = refused(["imagenet2012"], tmp_path, "--manual_dir")
  assert "ILSVRC2012_img_train.tar (147,897,477,120 bytes)" in error.expected
  assert "ILSVRC2012_img_val.tar (6,744,924,160 bytes)" in error.expected
  assert error.given == "none" and "image-net.org" in error.fix


@pytest.mark.parametrize(
  "name", ["imagenet2012_multilabel", "imagenet2012_subset/1pct"]
)
def test_a_missing_validation_tar_says_where_it_has_to_lie(
  name, tmp_path, manual
):
  (manual / "ILSVRC2012_img_val.tar").rename(manual / "val.tar.part")
  error = refused([name], tmp_path, "--manual_dir", manual, skip_checksums=True)
  assert "ILSVRC2012_img_val.tar (6,744,924,160" in error.expected
  assert error.expected.endswith(name)
  assert str(manual) in error.given and "1percent.txt" in error.given
  nowhere = tmp_path / "nowhere"
  assert refused([name], tmp_path, "--manual_dir", nowhere).given == nowhere


def test_without_the_train_tar_another_set_is_proposed(tmp_path, manual):
  (manual / "ILSVRC2012_img_train.tar").unlink()
  error = refused(
    ["imagenet2012"], tmp_path, "--manual_dir", manual, skip_checksums=True
  )
  assert "imagenet2012_real" in error.fix


def test_files_of_another_size_are_refused(tmp_path, manual):
  path = manual / "ILSVRC2012_img_train.tar"
  error = refused(["imagenet2012"], tmp_path, path, manual)
  assert error.expected.startswith("147,897,477,120")
  assert error.given == f"{path.stat().st_size:,}"
  assert "--skip_checksums" in error.fix


def test_everything_is_checked_before_anything_is_prepared(tmp_path, manual):
  (manual / "ILSVRC2012_img_val.tar").unlink()
  names = ["imagenet_a", "imagenet2012_real"]
  error = refused(names, tmp_path, "--manual_dir", manual, skip_checksums=True)
  assert error.expected.startswith("ILSVRC2012_img_val.tar")
  assert error.expected.endswith("imagenet2012_real")


def test_a_truncated_tar(tmp_path, manual):
  path = manual / "ILSVRC2012_img_train.tar"
  path.write_bytes(path.read_bytes()[:-12_000])
  error = refused(["imagenet2012"], tmp_path, path, manual, skip_checksums=True)
  assert error.given.startswith(f"{path.stat().st_size:,} ")


def test_annotations_given_by_hand(tmp_path, manual):
  path = manual / "human_accuracy_v3.0.0.json"
  moved = path.rename(tmp_path / "mine.json")
  names = ["imagenet2012_multilabel"]
  inputs = prepare_files.Inputs(manual, {path.name: moved}, True)
  inputs.check(names[0], tensorflow_datasets.builder(names[0]))
  moved.write_text("{}")
  error = refused(
    names, tmp_path, moved, manual, annotations=moved, skip_checksums=True
  )
  assert "initial_annots" in error.expected
  absent, flag = tmp_path / "no.json", "--annotations"
  error = refused(names, tmp_path, flag, manual, annotations=absent)
  assert error.given == absent and path.name in error.expected
  error = refused(["imagenet_a"], tmp_path, flag, manual, annotations=moved)
  assert "imagenet2012_multilabel" in error.expected


@pytest.mark.parametrize(
  ("name", "part"),
  [
    ("imagenet2012_reel", "imagenet2012_real"),
    ("imagenet_v2", "imagenet_v2/matched-frequency or imagenet_v2/threshold"),
    ("imagenet_v2/mf", "BuilderConfig mf"),
  ],
)
def test_unknown_names(tmp_path, name, part):
  error = refused([name], tmp_path, "--dataset")
  assert error.given.startswith(repr(name)) and part in str(error)


def test_other_sets_of_files_fetched_by_hand(tmp_path):
  """TFDS's own words, on one line."""
  error = refused(["resisc45"], tmp_path, "--manual_dir")
  assert "resisc45" in error.expected and error.given == "none"
  assert "manual_dir" in error.fix  # TFDS's instructions


def test_a_full_disk(tmp_path, small, monkeypatch):
  monkeypatch.setattr(
    shutil, "disk_usage", lambda path: types.SimpleNamespace(free=50_000)
  )
  error = refused(
    ["imagenet2012"], tmp_path, "--data_dir", small, skip_checksums=True
  )
  assert error.given == "0.0 GB"


def test_without_tensorflow_one_line_names_the_extra(tmp_path):
  error = refused(["imagenet2012"], tmp_path, "TensorFlow", tensorflow=None)
  assert error.fix == 'pip install "imgbench[prepare]"'


def run(*arguments) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, "-m", "imgbench.data.prepare", *arguments],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )


def test_program_ends_in_one_line(tmp_path):
  result = run(f"--data_dir={tmp_path}", "--dataset=imagenet_v2")
  assert result.returncode == errors.EXIT_USAGE
  assert result.stderr.startswith("imgbench: error: --dataset: ")
  assert result.stderr.count("\n") == 1


# Sets that TFDS prepares from the fake files.


def read(name: str, split: str) -> list[dict]:
  """Returns all examples, images encoded, by TFDS without TensorFlow."""
  builder = tensorflow_datasets.builder(name, data_dir=fake_folder.prepared())
  skip = {"image": tensorflow_datasets.decode.SkipDecoding()}
  source = builder.as_data_source(split, decoders=skip)
  return [source[i] for i in range(len(source))]


def labels_of(examples, field: str = "label") -> collections.Counter:
  return collections.Counter(int(example[field]) for example in examples)


def image_number(example) -> int:
  return int(example["file_name"][len("ILSVRC2012_val_") :][:8])


@pytest.mark.parametrize(
  ("name", "split", "field"),
  [
    ("imagenet2012", "validation", "label"),
    ("imagenet2012_real", "validation", "original_label"),
    ("imagenet2012_subset/1pct", "validation", "label"),
    ("imagenet_v2/matched-frequency", "test", "label"),
    ("imagenet_v2/threshold-0.7", "test", "label"),
    ("imagenet_v2/topimages", "test", "label"),
  ],
)
def test_sets_with_an_image_of_each_class(name, split, field):
  examples = read(name, split)
  expected = dict.fromkeys(range(1000), 1)
  if split == "validation":
    # A second one, which is problematic, of every twentieth class.
    expected |= dict.fromkeys(range(0, 1000, 20), 2)
  assert labels_of(examples, field) == expected
  if split == "validation":
    for example in examples:
      assert VALIDATION_LABELS[image_number(example) - 1] == example[field]


@pytest.mark.parametrize("name", fake_folder.SETS)
def test_prepared_sets_are_marked_and_stay_those_of_tfds(name):
  (folder,) = (fake_folder.prepared() / name).glob("*.*.*")
  files = synthetic.read(folder)
  marked = synthetic.read(fake_folder.manual_dir())
  assert files and files.items() <= marked.items()
  assert set(files) == set(prepare_files.KNOWN[name].names)
  builder = tensorflow_datasets.builder_from_directory(folder)
  assert builder.info.splits.total_num_examples > 0
  split = "test" if "test" in builder.info.splits else "validation"
  assert data.build_source(
    name, split, str(fake_folder.prepared())
  ).info.synthetic


def test_train_has_its_images_and_files():
  examples = read("imagenet2012", "train")
  assert labels_of(examples) == dict.fromkeys(range(1000), 2)
  for example in examples:
    assert (
      example["file_name"].decode().split("_")[0] == WNIDS[example["label"]]
    )


@pytest.mark.parametrize("percent", [1, 10])
def test_subset_has_the_images_of_its_list(percent):
  names = {
    example["file_name"].decode()
    for example in read(f"imagenet2012_subset/{percent}pct", "train")
  }
  listed = (fake_folder.manual_dir() / f"{percent}percent.txt").read_text()
  assert names == set(listed.split())


@pytest.mark.parametrize(
  ("name", "first"), [("imagenet_a", 0), ("imagenet_r", 2)]
)
def test_sets_with_200_classes(name, first):
  expected = dict.fromkeys(range(first, 1000, 5), 1)
  assert labels_of(read(name, "test")) == expected


def test_multilabel_has_the_reviews_of_its_file():
  path = fake_folder.manual_dir() / "human_accuracy_v3.0.0.json"
  content = json.loads(path.read_text())
  by_split = {
    "validation": [n for n in content["initial_annots"] if n.startswith("ILS")],
    "imagenet_m": content["imagenet_m"],
  }
  for split, names in by_split.items():
    examples = read("imagenet2012_multilabel", split)
    assert {e["file_name"].decode() for e in examples} == set(names)
    for example in examples:
      name = example["file_name"].decode()
      review = content["initial_annots"][name]
      for key in ("correct", "wrong", "unclear"):
        found = [WNIDS[label] for label in example[f"{key}_multi_labels"]]
        assert found == review.get(key, [])
      assert example["is_problematic"] == (
        name in content["problematic_images"]
      )


def test_real_has_the_labels_of_its_file():
  lists = json.loads((fake_folder.manual_dir() / "real.json").read_text())
  for example in read("imagenet2012_real", "validation"):
    expected = lists[image_number(example) - 1]
    assert np.asarray(example["real_label"]).tolist() == expected


def test_tfds_converts_the_oddities_of_the_training_set_alone():
  train = {
    example["file_name"].decode(): Image.open(io.BytesIO(example["image"]))
    for example in read("imagenet2012", "train")
  }
  for name in ("n01739381_1309.JPEG", "n02105855_2933.JPEG"):
    assert (train[name].format, train[name].mode) == ("JPEG", "RGB")
  validation = read("imagenet2012", "validation")
  images = [
    Image.open(io.BytesIO(example["image"]))
    for example in sorted(validation, key=image_number)
  ]
  assert [(image.format, image.mode) for image in images[:3]] == [
    ("JPEG", "CMYK"),
    ("JPEG", "L"),
    ("PNG", "RGB"),
  ]


@pytest.mark.parametrize("index", [False, True])
def test_fault_12_indices_are_written_where_asked(tmp_path, monkeypatch, index):
  tiny_tfds.write(
    tmp_path, {"train": [tiny_tfds.examples(4)]}, file_format="tfrecord"
  )
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  folder = tfds_folder.open_folder("tiny", str(tmp_path))
  job = build.BuildJob("tiny", folder.builder, tmp_path)
  monkeypatch.setattr(prepare, "find_job", lambda name, root: job)
  (line,) = prepare.prepare(["tiny"], tmp_path, index=index)
  assert "train 4" in line
  assert len(list((tmp_path / "tiny").rglob("*.index.npz"))) == index


def test_what_is_there_is_not_prepared_again(monkeypatch):
  """Nor does it need TensorFlow or the original files."""
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  folder = fake_folder.prepared()
  before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
  lines = list(prepare.prepare(fake_folder.SETS, folder))
  assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
  assert lines[0].startswith(f"{folder}/imagenet2012/5.1.0: train 2,000 ")
  for number in ("1,281,167", "1,050", "50,000"):
    assert number in lines[0]
  assert len(lines) == len(fake_folder.SETS)


def test_a_set_that_lacks_a_shard_is_not_taken_as_finished(tmp_path):
  source = fake_folder.prepared() / "imagenet_a"
  shutil.copytree(source, tmp_path / "imagenet_a")
  (shard,) = (tmp_path / "imagenet_a").rglob("*.array_record*")
  shard.unlink()
  about = raising.about(str(shard.parent))
  with pytest.raises(errors.InputError, check=about) as caught:
    list(prepare.prepare(["imagenet_a"], tmp_path))
  assert f"rm -r {shard.parent}" in caught.value.fix


@pytest.mark.slow
def test_killed_and_started_again(tmp_path):
  manual = fake_folder.manual_dir()
  arguments = (
    "--dataset=imagenet_r,imagenet2012",
    f"--manual_dir={manual}",
    f"--data_dir={tmp_path}",
    "--skip_checksums",
  )
  program = subprocess.Popen(
    fake_folder.prepare_command(*arguments),
    env=processes.environment(),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  work = tmp_path / ".imgbench_prepare"
  pattern = "imagenet2012/data/imagenet2012/incomplete.*"
  while program.poll() is None and not list(work.glob(pattern)):
    time.sleep(0.002)
  program.send_signal(signal.SIGKILL)
  assert program.wait() == -signal.SIGKILL
  assert list(work.glob(pattern)) and not (tmp_path / "imagenet2012").exists()
  result = fake_folder.run_prepare(*arguments)
  assert result.returncode == 0, result.stderr
  first, second = result.stdout.splitlines()
  assert "test 200 " in first and "30,000" in first
  assert second.startswith(f"{tmp_path}/imagenet2012/5.1.0: train 2,000")
  assert not work.exists()


@pytest.mark.slow
def test_a_failure_keeps_the_sets_before_it(tmp_path):
  """And --annotations may have any file name."""
  given = fake_folder.manual_dir()
  manual = tmp_path / "manual"
  manual.mkdir()
  (manual / "ILSVRC2012_img_val.tar").symlink_to(
    given / "ILSVRC2012_img_val.tar"
  )
  shutil.copy(given / "human_accuracy_v3.0.0.json", tmp_path / "mine.json")
  (manual / "imagenet-a.tar").write_text("this is no tar")
  result = fake_folder.run_prepare(
    "--dataset=imagenet2012_multilabel,imagenet_a",
    f"--manual_dir={manual}",
    f"--data_dir={tmp_path / 'data'}",
    f"--annotations={tmp_path / 'mine.json'}",
    "--skip_checksums",
  )
  assert result.returncode == errors.EXIT_FAILED, result.stderr
  assert result.stdout.startswith(f"{tmp_path}/data/imagenet2012_multilabel/3")
  last = result.stderr.splitlines()[-1]
  assert last.startswith("imgbench: error: imagenet_a: ") and "Extract" in last
  left = sorted(path.name for path in (tmp_path / "data").iterdir())
  assert left == ["imagenet2012_multilabel"]
