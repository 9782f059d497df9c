"""Tests of the checks of tars, checksums and annotations, file by file."""

import hashlib
import pathlib
import tarfile
import types

import pytest
import tensorflow_datasets

from imgbench import errors
from imgbench.prepare import files
from imgbench.prepare.fake_imagenet import plan
from tests import raising


def write_tar(path: pathlib.Path, names) -> None:
  with tarfile.open(path, "w") as archive:
    for name in names:
      archive.addfile(tarfile.TarInfo(name))


@pytest.mark.parametrize(
  ("names", "expected", "given"),
  [
    # The first image is missing: every label would be that of another image.
    (range(2, 10), "00000001.JPEG as number 1 of", plan.validation_name(2)),
    ([1, 2, 4], "00000003.JPEG as number 3 of", plan.validation_name(4)),
    ([1, 2, 2], "00000003.JPEG as number 3 of", plan.validation_name(2)),
    ([], "1 images", "0"),
  ],
)
def test_a_validation_tar_with_gaps(tmp_path, names, expected, given):
  path = tmp_path / "ILSVRC2012_img_val.tar"
  write_tar(path, map(plan.validation_name, names))
  about = raising.about(str(path), given=given)
  with pytest.raises(errors.InputError, check=about) as caught:
    files.check_validation_tar(path, None)
  assert expected in caught.value.expected


def test_a_validation_tar_packed_anew(tmp_path):
  path = tmp_path / "ILSVRC2012_img_val.tar"
  write_tar(path, ["val", "val/ILSVRC2012_val_00000001.JPEG"])
  about = raising.about(str(path), given="val")
  with pytest.raises(errors.InputError, check=about):
    files.check_validation_tar(path, None)


def test_number_of_validation_images(tmp_path):
  path = tmp_path / "ILSVRC2012_img_val.tar"
  write_tar(path, map(plan.validation_name, [2, 1, 3]))
  files.check_validation_tar(path, None)
  files.check_validation_tar(path, 3)
  for count in (2, 4):
    # Names are in order, so the number of images is what is wrong.
    about = raising.about(str(path), expected=f"{count} images", given=3)
    with pytest.raises(errors.InputError, check=about):
      files.check_validation_tar(path, count)


@pytest.mark.parametrize(
  ("names", "given"),
  [
    (["n01440764", "n01440764/1.JPEG"], "n01440764"),
    (["n01440764.tar", "n00000001.tar"], "n00000001.tar"),
    (["n01440764.tar", "n01440764.tar"], "2 of 1 classes"),
    (["n01440764.tar"], "1 of 1 classes"),
  ],
)
def test_a_train_tar_of_another_structure(tmp_path, names, given):
  path = tmp_path / "ILSVRC2012_img_train.tar"
  write_tar(path, names)
  about = raising.about(str(path), given=given)
  with pytest.raises(errors.InputError, check=about):
    files.check_train_tar(path, 1000)


def test_a_wrong_checksum_is_refused_and_a_right_one_taken(tmp_path):
  content = b"drawn by a program"
  (tmp_path / "imagenet-a.tar").write_bytes(content)

  def check(digest):
    url = "https://example.org/imagenet-a.tar"
    info = types.SimpleNamespace(
      size=len(content), checksum=digest, filename="imagenet-a.tar"
    )
    builder = types.SimpleNamespace(url_infos={url: info})
    files.Inputs(tmp_path).check("imagenet_a", builder)

  right = hashlib.sha256(content).hexdigest()
  check(right)
  about = raising.about(f"{tmp_path}/imagenet-a.tar", given=right)
  with pytest.raises(errors.InputError, check=about):
    check("0" * 64)


def test_annotations_are_verified_against_the_published_checksum(tmp_path):
  builder = tensorflow_datasets.builder("imagenet2012_multilabel")
  about = files.list_published("imagenet2012_multilabel", builder)
  known = about[files.ANNOTATIONS]
  assert known.size == 200_417_830 and known.sha256.startswith("d5b2b6111f")


@pytest.mark.parametrize(
  ("content", "expected", "given"),
  [
    ("{", "JSON", ""),
    ("[]", "initial_annots, problematic_images, imagenet_m", "list"),
    ('{"initial_annots": {}}', "imagenet_m", "['initial_annots']"),
    (
      '{"initial_annots": {}, "problematic_images": {}, "imagenet_m": ["x"]}',
      "imagenet_m",
      "'x' and 0 more",
    ),
  ],
)
def test_annotations_of_another_structure(tmp_path, content, expected, given):
  path = tmp_path / "annotations.json"
  path.write_text(content)
  about = raising.about(str(path))
  with pytest.raises(errors.InputError, check=about) as caught:
    files.check_annotations(path)
  assert expected in caught.value.expected and given in caught.value.given
