"""Tests of the fake ImageNet's files, without TFDS's builders."""

import collections
import dataclasses
import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile

import numpy as np
from PIL import Image
import pytest

from imgbench import errors
from imgbench.data import synthetic
from imgbench.labels import classes
from imgbench.labels import real
from imgbench.prepare.fake_imagenet import __main__ as fake_imagenet
from imgbench.prepare.fake_imagenet import drawing
from imgbench.prepare.fake_imagenet import label_files
from imgbench.prepare.fake_imagenet import plan as fake_imagenet_plan
from tests import raising
from tests.train import processes

WNIDS = classes.imagenet_classes().wnids
PLAN = fake_imagenet_plan.PicturePlan(
  image_size=(32, 24), train_per_class=3, num_classes=20
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp("fake")
  fake_imagenet.write(path, PLAN)
  return path


def members(path, data: bytes | None = None) -> dict[str, bytes]:
  """Returns name -> content of the files in a tar, without folders."""
  file = None if data is None else io.BytesIO(data)
  with tarfile.open(path, fileobj=file) as archive:
    return {
      member.name: archive.extractfile(member).read()
      for member in archive
      if member.isfile()
    }


def digests(path: pathlib.Path) -> dict[str, str]:
  return {
    file.name: hashlib.sha256(file.read_bytes()).hexdigest()
    for file in path.iterdir()
  }


def test_train_tar_holds_a_tar_per_class(folder):
  tars = members(folder / "ILSVRC2012_img_train.tar")
  assert list(tars) == [f"{WNIDS[label]}.tar" for label in PLAN.labels]
  for name, data in tars.items():
    wnid = name.removesuffix(".tar")
    files = members(name, data)
    assert list(files) == [f"{wnid}_{i}.JPEG" for i in (1, 2, 3)]
    for encoded in files.values():
      image = Image.open(io.BytesIO(encoded))
      assert (image.format, image.mode) == ("JPEG", "RGB")
      assert np.asarray(image).std() > 5


@pytest.mark.parametrize("num_classes", [1000, 20, 1])
def test_tfds_gives_the_validation_set_images_of_each_class(
  tmp_path, num_classes
):
  plan = dataclasses.replace(PLAN, num_classes=num_classes)
  path = tmp_path / "val.tar"
  fake_imagenet.write_validation(path, plan)
  with tarfile.open(path) as archive:
    names = archive.getnames()
    files = [member.name for member in archive if member.isfile()]
  # As imagenet_common.get_validation_labels does.
  labels = fake_imagenet_plan.validation_labels()
  label_of = dict(zip(sorted(names), labels, strict=False))
  twice = list(plan.labels[::20])
  found = sorted(label_of[name] for name in files)
  assert found == sorted([*plan.labels, *twice])
  assert len(plan.problematic) == len(twice)
  for name in files:  # and the label is the one that the image has in ImageNet
    assert labels[real.image_number(name) - 1] == label_of[name]


def test_classes_are_spread_evenly():
  assert PLAN.labels == tuple(range(0, 1000, 50))
  everything = dataclasses.replace(PLAN, num_classes=1000)
  assert everything.labels == tuple(range(1000))


def test_the_same_plan_gives_the_same_bytes(folder, tmp_path):
  fake_imagenet.write(tmp_path / "again", PLAN)
  assert digests(tmp_path / "again") == digests(folder)
  other = dataclasses.replace(PLAN, seed=1)
  fake_imagenet.write(tmp_path / "other", other)
  same = digests(tmp_path / "other").items() & digests(folder).items()
  assert {name for name, _ in same} == {"1percent.txt", "10percent.txt"}


def test_only_base_writes_two_tars(tmp_path):
  fake_imagenet.write(tmp_path, PLAN, only_base=True)
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    synthetic.MARK,
  ]


def test_the_mark_names_every_file_with_its_size(folder, tmp_path):
  sizes = {
    path.name: path.stat().st_size
    for path in folder.iterdir()
    if path.name != synthetic.MARK
  }
  assert synthetic.read(folder) == sizes and len(sizes) > 8
  # Writing a file again keeps the others in the mark.
  again = tmp_path / "again"
  shutil.copytree(folder, again)
  other = dataclasses.replace(PLAN, image_size=(200, 150))
  fake_imagenet.write(again, other, only_base=True)
  marked = synthetic.read(again)
  changed = {name for name in sizes if marked[name] != sizes[name]}
  assert marked.keys() == sizes.keys()
  assert changed <= {"ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"}
  train = again / "ILSVRC2012_img_train.tar"
  assert marked[train.name] == train.stat().st_size != sizes[train.name]


def test_a_file_that_is_not_whole_does_not_have_its_name(tmp_path, monkeypatch):
  def fail(*args, **kwargs):
    raise OSError("no space left on device")

  monkeypatch.setattr(drawing, "encode_picture", fail)
  with pytest.raises(OSError, match="no space"):
    fake_imagenet.write(tmp_path, PLAN)
  assert not (tmp_path / "ILSVRC2012_img_train.tar").exists()


def test_annotations_have_the_structure_that_tfds_reads(tmp_path):
  plan = dataclasses.replace(PLAN, num_classes=1000)
  path = tmp_path / "annotations.json"
  label_files.write_annotations(path, plan)
  content = json.loads(path.read_text())
  reviews = {
    name: review
    for name, review in content["initial_annots"].items()
    if name.startswith("ILSVRC2012_val_")
  }
  assert len(reviews) == 1050
  assert len(content["initial_annots"]) > len(reviews)  # and others
  assert len(content["imagenet_m"]) == 68
  assert set(content["imagenet_m"]) <= set(reviews)
  assert len(content["problematic_images"]) == 50
  assert set(content["problematic_images"]) <= set(reviews)
  assert not set(content["problematic_images"]) & set(content["imagenet_m"])
  kept, sizes = 0, collections.Counter()
  for name, review in reviews.items():
    assert all(review.values())  # a list that is empty is left out
    number = real.image_number(name) - 1
    label = WNIDS[fake_imagenet_plan.validation_labels()[number]]
    (code,) = [key for key, wnids in review.items() if label in wnids]
    kept += code == "correct"
    sizes[len(review.get("correct", []))] += 1
    assert ("correct" not in review) == (name in content["problematic_images"])
  assert 0.8 < kept / len(reviews) < 1
  assert sorted(sizes) == [0, 1, 2, 3]


def test_real_labels_are_read_as_the_real_ones(folder):
  sets = real.read(folder / "real.json")
  labels = fake_imagenet_plan.validation_labels()
  accepted = [label in found for label, found in zip(labels, sets, strict=True)]
  empty = [len(found) == 0 for found in sets]
  assert np.mean(empty) == pytest.approx(0.06, abs=0.01)  # 0.063 in ImageNet
  assert np.mean(accepted) == pytest.approx(0.90, abs=0.01)


@pytest.mark.parametrize("variant", list(fake_imagenet.V2_FILES))
def test_v2_files_lie_in_folders_of_class_indices(folder, variant):
  name, top, _ = fake_imagenet.V2_FILES[variant]
  files = members(folder / name)
  parts = [pathlib.PurePath(file).parts for file in files]
  assert {part[0] for part in parts} == {top}
  assert [int(part[1]) for part in parts] == list(PLAN.labels)
  for part, data in zip(parts, files.values(), strict=True):
    assert part[2] == hashlib.sha1(data).hexdigest() + ".jpeg"


def test_v2_variants_have_different_images(folder):
  found = [
    frozenset(members(folder / name).values())
    for name, _, _ in fake_imagenet.V2_FILES.values()
  ]
  assert len(frozenset.union(*found)) == 3 * PLAN.num_classes


@pytest.mark.parametrize(
  ("files", "labels"), [("a", range(0, 1000, 5)), ("r", range(2, 1000, 5))]
)
def test_a_and_r_have_200_classes(tmp_path, files, labels):
  plan = dataclasses.replace(PLAN, num_classes=1000)
  fake_imagenet.write_200_classes(tmp_path / "x.tar", plan, files)
  found = list(members(tmp_path / "x.tar"))
  assert found[0] == f"imagenet-{files}/README.txt"
  folders = [pathlib.PurePath(file).parts[:2] for file in found[1:]]
  assert folders == [(f"imagenet-{files}", WNIDS[label]) for label in labels]


def test_subset_lists_name_training_images(folder):
  names = {f"{WNIDS[label]}_1.JPEG" for label in PLAN.labels}
  for percent in (1, 10):
    lines = (folder / f"{percent}percent.txt").read_text().splitlines()
    assert len(lines) == 20 and set(lines) == names


def test_oddities_have_the_names_that_they_have_in_imagenet(tmp_path):
  plan = dataclasses.replace(PLAN, num_classes=1000, oddities=True)
  label = classes.index_of("n01739381")
  assert plan.train_pictures(label) == [
    ("n01739381_1309.JPEG", "cmyk"),
    ("n01739381_2.JPEG", "rgb"),
    ("n01739381_3.JPEG", "rgb"),
  ]
  label = classes.index_of("n02105855")
  assert plan.train_pictures(label)[0] == ("n02105855_2933.JPEG", "png")
  fake_imagenet.write_validation(tmp_path / "val.tar", plan)
  files = members(tmp_path / "val.tar")
  images = [Image.open(io.BytesIO(data)) for data in files.values()]
  kinds = [(image.format, image.mode) for image in images]
  assert kinds[:3] == [("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGB")]
  assert set(kinds[3:]) == {("JPEG", "RGB")}


def test_pictures_cost_what_photographs_cost():
  """110 KB at 500x375, amplitudes that fall about as 1/f."""
  encoded = [
    drawing.encode_picture(label, (500, 375), (0, label))
    for label in range(0, 1000, 50)
  ]
  assert 90_000 < np.mean([len(data) for data in encoded]) < 130_000
  sizes = {Image.open(io.BytesIO(data)).size for data in encoded}
  assert {(500, 375), (375, 500)} < sizes and len(sizes) > 4
  rng = np.random.default_rng(0)
  slopes = []
  for label in range(0, 1000, 100):
    picture = drawing.draw(label, 256, 256, rng, 1.0)
    grey = picture.mean(axis=2) * np.outer(np.hanning(256), np.hanning(256))
    amplitude = np.abs(np.fft.rfft2(grey))
    frequency = np.hypot(
      np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None]
    )
    middle = (frequency > 0.05) & (frequency < 0.4)
    slopes.append(
      np.polyfit(np.log(frequency[middle]), np.log(amplitude[middle]), 1)[0]
    )
  # Photographs: -1.2 to -0.8 (Field 1987; Tolhurst et al. 1992).
  assert -1.3 < np.mean(slopes) < -0.8


def test_there_is_something_to_learn_and_less_in_shifted_sets():
  """Nearest mean colour of training pictures, tested on other pictures."""

  def colours(label, number, strength):
    rng = np.random.default_rng((label, number))
    picture = drawing.draw(label, 48, 64, rng, strength)
    return picture.reshape(-1, 3).mean(axis=0)

  labels = range(5, 1000, 10)
  means = np.array(
    [np.mean([colours(k, i, 1.0) for i in range(4)], axis=0) for k in labels]
  )

  def accuracy(strength):
    tested = np.array([colours(k, 9, strength) for k in labels])
    distance = np.linalg.norm(tested[:, None] - means[None], axis=2)
    return np.mean(distance.argmin(axis=1) == np.arange(len(labels)))

  assert accuracy(1.0) > 0.15  # by chance 0.01
  assert accuracy(0.3) < accuracy(1.0) - 0.08


@pytest.mark.parametrize(
  ("setting", "value", "expected", "given"),
  [
    ("num_classes", 0, "1 to 1000", 0),
    ("train_per_class", 0, "1 to 10000", 0),
    ("seed", -1, f"0 to {2**31}", -1),
    ("image_size", (64, 8), "sides of 16 to 4096", "64x8"),
  ],
)
def test_bad_plan(setting, value, expected, given):
  about = raising.about(setting, expected=expected, given=given)
  with pytest.raises(errors.InputError, check=about):
    fake_imagenet_plan.PicturePlan(**{setting: value})


def run(*arguments) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, "-m", "imgbench.data.fake_imagenet", *arguments],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )


def test_program(folder, tmp_path):
  arguments = ["--image_size=32x24", "--train_per_class=3", "--classes=20"]
  result = run(f"--out={tmp_path}", *arguments)
  assert result.returncode == 0, result.stderr
  assert digests(tmp_path) == digests(folder)
  assert str(tmp_path / "real.json") in result.stdout


def test_program_refuses_a_bad_size_in_one_line(tmp_path):
  result = run(f"--out={tmp_path / 'x'}", "--image_size=64")
  assert result.returncode == errors.EXIT_USAGE
  assert "--image_size" in result.stderr and result.stderr.count("\n") == 1
  assert not (tmp_path / "x").exists()
