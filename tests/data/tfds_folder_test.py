"""Errors about TFDS folders and examples that cannot be read."""

import json
import os
import shutil

import pytest

from imgbench import data
from imgbench import errors
from imgbench.data import tfds
from imgbench.data import tfds_folder
from tests import raising
from tests.data import shared_files
from tests.data import tiny_tfds

FORMATS = ("tfrecord", "array_record")


@pytest.fixture
def data_dir(tmp_path):
  path = tmp_path / "data"
  path.mkdir()
  return path


def _refused(
  data_dir, setting, given=None, split="train", load=False, **options
):
  """Asserts an InputError on one line; returns it."""
  about = raising.about(str(setting), given=given)
  with pytest.raises(errors.InputError, check=about) as caught:
    source = tfds.TfdsSource("tiny", split, str(data_dir), **options)
    if load:
      source.load()
  assert "\n" not in str(caught.value)
  return caught.value


def _command(data_dir):
  return (
    'pip install "imgbench[prepare]" && imgbench prepare'
    f" --dataset=tiny --manual_dir=DIR --data_dir={data_dir}"
  )


def test_no_data_dir():
  error = _refused("", "data_dir", "none")
  assert "--config.data.data_dir=DIR" in error.fix
  assert error.fix.endswith(_command("DIR"))


def test_data_dir_in_a_bucket():
  error = _refused("gs://bucket/data", "data_dir", "gs://bucket/data")
  assert "gcsfuse" in error.fix


def test_folder_is_missing(data_dir):
  missing = data_dir / "nowhere"
  error = _refused(missing, "data_dir", missing)
  assert error.fix.endswith(_command(missing))


def test_folder_is_a_file(data_dir):
  (data_dir / "file").touch()
  _refused(data_dir / "file", "data_dir", data_dir / "file")


def test_data_set_is_missing(data_dir):
  error = _refused(data_dir, "data_dir")
  assert error.given.endswith("nothing")
  assert error.fix.endswith(_command(data_dir))
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]}, name="other")
  error = _refused(data_dir, "data_dir")
  assert "tiny" in error.expected and error.given.endswith(" other")
  assert error.fix.endswith(_command(data_dir))


def test_long_listings_are_cut(data_dir):
  for i in range(20):
    (data_dir / f"n{i:02d}").touch()
  error = _refused(data_dir, "data_dir")
  assert "n00, n01" in error.given and "n07 and 12 more" in error.given
  assert "n08" not in error.given


def test_data_dir_with_a_space_is_quoted(data_dir):
  folder = data_dir / "my data"
  assert f"--data_dir='{folder}'" in _refused(folder, "data_dir").fix


@pytest.mark.parametrize("level", ["tiny", "tiny/1.0.0"])
def test_data_dir_is_one_level_too_deep(data_dir, level):
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]})
  error = _refused(data_dir / level, "data_dir")
  assert "parent" in error.fix


def test_home_folder_is_expanded(data_dir, monkeypatch):
  monkeypatch.setenv("HOME", str(data_dir.parent))
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(2)]})
  assert len(tfds.TfdsSource("tiny", "train", "~/data")) == 2


def test_foreign_layout(data_dir):
  (data_dir / "tiny" / "train" / "cats").mkdir(parents=True)
  error = _refused(data_dir, data_dir / "tiny", "train")
  assert error.fix.endswith(_command(data_dir))


def test_other_version(data_dir):
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]})
  error = _refused(data_dir, data_dir / "tiny", "1.0.0", version="2.0.0")
  assert "2.0.0" in error.expected


def test_unfinished_preparation(data_dir):
  folder = tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]})
  folder.rename(folder.with_name("1.0.0.incompleteXYZ"))
  error = _refused(data_dir, data_dir / "tiny", "1.0.0.incompleteXYZ")
  assert error.fix.endswith(_command(data_dir))


def test_older_tfds(data_dir):
  folder = tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]})
  (folder / "features.json").unlink()
  error = _refused(data_dir, folder)
  assert "features.json" in error.expected and "TFDS 4" in error.expected
  assert error.fix.endswith(_command(data_dir))


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}'])
def test_unreadable_description(data_dir, file, text):
  folder = tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]})
  (folder / file).write_text(text)
  assert _refused(data_dir, folder).fix.endswith(_command(data_dir))


def test_another_data_sets_folder(data_dir):
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]}, name="other")
  shutil.move(data_dir / "other", data_dir / "tiny")
  _refused(data_dir, data_dir / "tiny/1.0.0/dataset_info.json", "other")


def test_other_file_format(data_dir):
  folder = tiny_tfds.write(
    data_dir,
    {"train": [tiny_tfds.examples(1)]},
    info={"fileFormat": "riegeli"},
  )
  error = _refused(data_dir, folder / "dataset_info.json", "riegeli")
  assert "array_record" in error.expected and "tfrecord" in error.expected


@pytest.mark.parametrize(
  "split", ["validation", "train[", "train[:5", "", "train[:9]", "train-test"]
)
def test_unknown_split(data_dir, split):
  tiny_tfds.write(
    data_dir,
    {"train": [tiny_tfds.examples(4)], "test": [tiny_tfds.examples(2)]},
  )
  error = _refused(data_dir, "split", split=split)
  assert error.given.startswith(repr(split)) and "test, train" in error.expected


def test_empty_split(data_dir):
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(4)]})
  error = _refused(data_dir, "split", "'train[:0]'", split="train[:0]")
  assert "train (4)" in error.expected


@pytest.mark.parametrize("split", ["train+train", "train[:3]+train[2:]"])
def test_examples_twice(data_dir, split):
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(4)]})
  _refused(data_dir, "split", repr(split), split=split)


def _two_shards(data_dir, file_format):
  records = tiny_tfds.examples(6)
  folder = tiny_tfds.write(
    data_dir, {"train": [records[:3], records[3:]]}, file_format=file_format
  )
  return folder, folder / f"tiny-train.{file_format}-00001-of-00002"


@pytest.mark.parametrize("file_format", FORMATS)
def test_shard_is_missing(data_dir, file_format):
  folder, shard = _two_shards(data_dir, file_format)
  shard.unlink()
  error = _refused(data_dir, folder)
  assert shard.name in error.expected
  assert error.fix.endswith(_command(data_dir))
  # What a slice does not need may be missing.
  assert len(tfds.TfdsSource("tiny", "train[:3]", str(data_dir))) == 3


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("part", [0.0, 0.3, 0.97])
def test_shard_is_truncated(data_dir, file_format, part):
  _, shard = _two_shards(data_dir, file_format)
  size = int(shard.stat().st_size * part)
  os.truncate(shard, size)
  with pytest.raises(errors.InputError) as caught:
    tfds.TfdsSource("tiny", "train", str(data_dir))
  assert caught.value.setting.startswith(str(shard))
  assert str(size) in caught.value.given


@pytest.mark.parametrize("file_format", FORMATS)
def test_shard_may_not_be_read(data_dir, file_format):
  if os.geteuid() == 0:
    pytest.skip("root may read everything")
  _, shard = _two_shards(data_dir, file_format)
  shard.chmod(0)
  assert "chmod" in _refused(data_dir, shard, "none").fix


def test_shard_is_truncated_between_records(data_dir):
  _, shard = _two_shards(data_dir, "tfrecord")
  shard.write_bytes(tiny_tfds.tfrecord_bytes(tiny_tfds.examples(6)[3:5]))
  error = _refused(data_dir, shard)
  assert error.expected.startswith("3 ") and error.given.startswith("2 ")


@pytest.mark.parametrize("file_format", FORMATS)
def test_flipped_bit_in_the_data(data_dir, file_format):
  records = tiny_tfds.examples(40)
  folder = tiny_tfds.write(
    data_dir, {"train": [records]}, file_format=file_format
  )
  (shard,) = folder.glob("*-of-00001")
  data = bytearray(shard.read_bytes())
  data[data.index(b"IDAT", 3000) + 20] ^= 8
  shard.write_bytes(data)
  source = tfds.TfdsSource("tiny", "train", str(data_dir))
  with pytest.raises(errors.InputError) as caught:
    source.load()
  assert caught.value.setting.startswith(str(shard))
  assert "copy the file" in caught.value.fix


def _with_record(data_dir, setting="", **fields):
  """Returns the error of loading three good examples and another one."""
  good = tiny_tfds.examples(3)
  bad = tiny_tfds.serialize(fields)
  folder = tiny_tfds.write(data_dir, {"train": [[*good, bad]]})
  shard = folder / "tiny-train.tfrecord-00000-of-00001"
  return _refused(data_dir, setting or f"{shard}, example 3", load=True)


def test_image_of_another_shape(data_dir):
  image = tiny_tfds.encode(tiny_tfds.images(1, (8, 10, 3))[0])
  error = _with_record(data_dir, image=image, label=1)
  assert "8x8 (RGB)" in error.given and "8x10 (RGB)" in error.given


def test_example_of_another_shape_by_index(data_dir):
  image = tiny_tfds.encode(tiny_tfds.images(1, (9, 8, 3))[0])
  record = tiny_tfds.serialize({"image": image, "label": 1})
  tiny_tfds.write(data_dir, {"train": [[record]]})
  source = tfds.TfdsSource("tiny", "train", str(data_dir))
  with pytest.raises(errors.InputError) as caught:
    source[0]
  assert caught.value.setting.endswith(", example 0")
  assert "9x8" in caught.value.given


@pytest.mark.parametrize("label", [-5, 3, 2**40])
def test_label_out_of_range(data_dir, user_cache, label):
  image = tiny_tfds.encode(tiny_tfds.images(1)[0])
  error = _with_record(data_dir, "tiny:train", image=image, label=label)
  assert error.expected.endswith("[0, 3)")
  assert "train_00003" in error.given
  assert label == 2**40 or error.given.startswith(f"{label} ")
  assert not (user_cache / "decoded").exists()


@pytest.mark.parametrize("missing", ["image", "label"])
def test_record_without_a_field(data_dir, missing):
  fields = {"image": tiny_tfds.encode(tiny_tfds.images(1)[0]), "label": 1}
  del fields[missing]
  assert _with_record(data_dir, **fields).fix.endswith(_command(data_dir))


def test_image_that_is_none(data_dir):
  assert "b'text'" in _with_record(data_dir, image=b"text", label=0).given


def test_identifiers_that_repeat(data_dir):
  features = {
    "image": tiny_tfds.image_feature(),
    "label": tiny_tfds.label_feature(),
    "id": tiny_tfds.text_feature(),
  }
  records = tiny_tfds.examples(3, id=b"same")
  tiny_tfds.write(data_dir, {"train": [records]}, features=features)
  error = _refused(data_dir, "tiny:train", load=True)
  assert " id " in error.expected and "'same'" in error.given


def _with_features(data_dir, **features):
  folder = tiny_tfds.write(
    data_dir, {"train": [tiny_tfds.examples(3)]}, features=features
  )
  return _refused(data_dir, folder / "features.json")


@pytest.mark.parametrize("missing", ["image", "label"])
def test_set_without_a_feature(data_dir, missing):
  features = {
    "image": tiny_tfds.image_feature(),
    "label": tiny_tfds.label_feature(),
  }
  del features[missing]
  error = _with_features(data_dir, **features)
  assert repr(missing) in error.expected
  assert (
    error.given
    == {
      "image": "label (ClassLabel)",
      "label": "image (Image)",
    }[missing]
  )


def test_label_that_is_no_class(data_dir):
  error = _with_features(
    data_dir, image=tiny_tfds.image_feature(), label=tiny_tfds.text_feature()
  )
  assert "'label'" in error.expected and "ClassLabel" in error.expected
  assert error.given == "image (Image), label (Text)"


def test_images_of_many_sizes(data_dir):
  error = _with_features(
    data_dir,
    image=tiny_tfds.image_feature((None, None, 3)),
    label=tiny_tfds.label_feature(),
  )
  assert error.given == [None, None, 3]


def test_images_of_another_type(data_dir):
  error = _with_features(
    data_dir,
    image=tiny_tfds.image_feature(dtype="uint16"),
    label=tiny_tfds.label_feature(),
  )
  assert "uint8" in error.expected and error.given == "uint16 [8, 8, 3]"


def test_one_line():
  assert tfds_folder.one_line("a\n  b\tc") == "a b c"
  assert tfds_folder.one_line("x" * 300, 10) == "xxxxxxx..."


def test_description_names_the_split_sizes(data_dir):
  folder = tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(4)]})
  info = json.loads((folder / "dataset_info.json").read_text())
  info["splits"][0]["shardLengths"] = ["5"]
  (folder / "dataset_info.json").write_text(json.dumps(info))
  error = _refused(data_dir, folder / "tiny-train.tfrecord-00000-of-00001")
  assert error.expected.startswith("5 ") and error.given.startswith("4 ")


def test_fault_18_a_folder_of_a_newer_tfds():
  faults = shared_files.shared_path("data", "faults")
  path = faults / "newer" / "1.0.0"
  with pytest.raises(
    errors.InputError, check=raising.about(str(path))
  ) as found:
    tfds_folder.open_folder("newer", str(faults))
  assert found.value.fix.startswith("pip install -U tensorflow-datasets")


@pytest.fixture
def versions_dir(tmp_path):
  """The set tiny in versions 1.0.0, 2.0.0 and 10.0.0 of 1, 2 and 3 images."""
  for count, version in enumerate(("1.0.0", "2.0.0", "10.0.0"), 1):
    tiny_tfds.write(
      tmp_path, {"train": [tiny_tfds.examples(count)]}, version=version
    )
  return str(tmp_path)


@pytest.mark.parametrize(
  ("name", "options", "count"),
  [
    ("tiny", {}, 3),
    ("tiny:2.0.0", {}, 2),
    ("tiny:1.0.0", {"version": "1.0.0"}, 1),
    ("tiny", {"version": "2.0.0"}, 2),
  ],
)
def test_a_version_is_part_of_the_name(versions_dir, name, options, count):
  split = data.build_source(name, "train", versions_dir, **options)
  assert split.info.num_examples == count
  assert split.info.key == "tiny:train"


def test_a_missing_version_names_those_that_are_there(versions_dir):
  with pytest.raises(errors.InputError) as raised:
    data.build_source("tiny:3.0.0", "train", versions_dir)
  assert raised.value.setting == f"{versions_dir}/tiny"
  assert "3.0.0" in raised.value.expected
  assert raised.value.given == "1.0.0, 2.0.0, 10.0.0"
  assert "data.name=tiny:10.0.0" in raised.value.fix
  assert "imgbench prepare --dataset=tiny" in raised.value.fix


@pytest.mark.parametrize(
  ("name", "options"), [("tiny:2.0.0", {"version": "1.0.0"}), ("tiny:", {})]
)
def test_two_versions_and_none_are_refused(versions_dir, name, options):
  about = raising.about("version")
  with pytest.raises(errors.InputError, check=about):
    data.build_source(name, "train", versions_dir, **options)
