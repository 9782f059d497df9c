"""What a person is told about folders and examples that cannot be read."""

import json
import os
import shutil

import pytest

from imgbench import errors
from imgbench.data import tfds
from imgbench.data import tfds_folder
from tests.data import tiny_tfds

FORMATS = ("tfrecord", "array_record")


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))


@pytest.fixture
def data_dir(tmp_path):
  path = tmp_path / "data"
  path.mkdir()
  return path


def _refused(data_dir, *parts, name="tiny", split="train", load=False, **kw):
  """Asserts an InputError on one line that holds `parts`; returns its text."""
  with pytest.raises(errors.InputError) as caught:
    source = tfds.TfdsSource(name, split, str(data_dir), **kw)
    if load:
      source.load()
  message = str(caught.value)
  assert "\n" not in message
  for part in parts:
    assert str(part) in message
  return message


def _command(data_dir, name="tiny"):
  return (
    'pip install "imgbench[prepare]" && python -m imgbench.data.prepare'
    f" --dataset={name} --manual_dir=DIR --data_dir={data_dir}"
  )


def test_no_data_dir():
  _refused("", "--config.data.data_dir=DIR", _command("DIR"))


def test_folder_is_missing(data_dir):
  missing = data_dir / "nowhere"
  _refused(missing, "there is no such folder", _command(missing))


def test_folder_is_a_file(data_dir):
  (data_dir / "file").touch()
  _refused(data_dir / "file", "there is no such folder")


def test_data_set_is_missing(data_dir):
  _refused(data_dir, "found nothing", _command(data_dir))
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]}, name="other")
  _refused(data_dir, "expected a folder tiny, found other", _command(data_dir))


def test_long_listings_are_cut(data_dir):
  for i in range(20):
    (data_dir / f"n{i:02d}").touch()
  message = _refused(data_dir, "n00, n01", "n07 and 12 more")
  assert "n08" not in message


def test_data_dir_with_a_space_is_quoted(data_dir):
  folder = data_dir / "my data"
  _refused(folder, f"--data_dir='{folder}'")


@pytest.mark.parametrize("level", ["tiny", "tiny/1.0.0"])
def test_data_dir_is_one_level_too_deep(data_dir, level):
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]})
  _refused(data_dir / level, "Give the folder that holds the data set's folder")


def test_home_folder_is_expanded(data_dir, monkeypatch):
  monkeypatch.setenv("HOME", str(data_dir.parent))
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(2)]})
  assert len(tfds.TfdsSource("tiny", "train", "~/data")) == 2


def test_foreign_layout(data_dir):
  (data_dir / "tiny" / "train" / "cats").mkdir(parents=True)
  _refused(
    data_dir, "expected a version folder", "found train", _command(data_dir)
  )


def test_other_version(data_dir):
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]})
  _refused(data_dir, "expected 2.0.0", "found 1.0.0", version="2.0.0")


def test_unfinished_preparation(data_dir):
  folder = tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]})
  folder.rename(folder.with_name("1.0.0.incompleteXYZ"))
  _refused(data_dir, "found 1.0.0.incompleteXYZ", _command(data_dir))


def test_older_tfds(data_dir):
  folder = tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]})
  (folder / "features.json").unlink()
  _refused(data_dir, "expected features.json", "TFDS 4", _command(data_dir))


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}'])
def test_unreadable_description(data_dir, file, text):
  folder = tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]})
  (folder / file).write_text(text)
  _refused(data_dir, folder, _command(data_dir))


def test_another_data_sets_folder(data_dir):
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(1)]}, name="other")
  shutil.move(data_dir / "other", data_dir / "tiny")
  _refused(data_dir, "its dataset_info.json says 'other'")


def test_other_file_format(data_dir):
  tiny_tfds.write(
    data_dir,
    {"train": [tiny_tfds.examples(1)]},
    info={"fileFormat": "riegeli"},
  )
  _refused(data_dir, "array_record, tfrecord", "got riegeli")


@pytest.mark.parametrize(
  "split", ["validation", "train[", "train[:5", "", "train[:9]", "train-test"]
)
def test_unknown_split(data_dir, split):
  tiny_tfds.write(
    data_dir,
    {"train": [tiny_tfds.examples(4)], "test": [tiny_tfds.examples(2)]},
  )
  _refused(data_dir, repr(split), "Known: test, train", split=split)


def test_empty_split(data_dir):
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(4)]})
  _refused(data_dir, "is empty", "train (4)", split="train[:0]")


@pytest.mark.parametrize("split", ["train+train", "train[:3]+train[2:]"])
def test_examples_twice(data_dir, split):
  tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(4)]})
  _refused(data_dir, "holds examples twice", split=split)


def _two_shards(data_dir, file_format):
  records = tiny_tfds.examples(6)
  folder = tiny_tfds.write(
    data_dir, {"train": [records[:3], records[3:]]}, file_format=file_format
  )
  return folder, folder / f"tiny-train.{file_format}-00001-of-00002"


@pytest.mark.parametrize("file_format", FORMATS)
def test_shard_is_missing(data_dir, file_format):
  _, shard = _two_shards(data_dir, file_format)
  shard.unlink()
  _refused(data_dir, shard.name, "Copy it there", _command(data_dir))
  # What a slice does not need may be missing.
  assert len(tfds.TfdsSource("tiny", "train[:3]", str(data_dir))) == 3


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("part", [0.0, 0.3, 0.97])
def test_shard_is_truncated(data_dir, file_format, part):
  _, shard = _two_shards(data_dir, file_format)
  size = int(shard.stat().st_size * part)
  os.truncate(shard, size)
  _refused(data_dir, shard, "truncated", f"{size}")


@pytest.mark.parametrize("file_format", FORMATS)
def test_shard_may_not_be_read(data_dir, file_format):
  if os.geteuid() == 0:
    pytest.skip("root may read everything")
  _, shard = _two_shards(data_dir, file_format)
  shard.chmod(0)
  _refused(data_dir, shard, "permissions")


def test_shard_is_truncated_between_records(data_dir):
  _, shard = _two_shards(data_dir, "tfrecord")
  shard.write_bytes(tiny_tfds.tfrecord_bytes(tiny_tfds.examples(6)[3:5]))
  _refused(data_dir, shard, "expected 3 examples", "found 2")


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
  _refused(data_dir, shard, "damaged", "Copy the file anew", load=True)


def _with_record(data_dir, load=True, **fields):
  good = tiny_tfds.examples(3)
  bad = tiny_tfds.serialize(fields)
  tiny_tfds.write(data_dir, {"train": [[*good, bad]]})
  return _refused(data_dir, load=load)


def test_image_of_another_shape(data_dir):
  image = tiny_tfds.encode(tiny_tfds.images(1, (8, 10, 3))[0])
  message = _with_record(data_dir, image=image, label=1)
  assert "example 3" in message
  assert "expected an image of 8x8 (RGB), got 8x10 (RGB)" in message


def test_example_of_another_shape_by_index(data_dir):
  image = tiny_tfds.encode(tiny_tfds.images(1, (9, 8, 3))[0])
  record = tiny_tfds.serialize({"image": image, "label": 1})
  tiny_tfds.write(data_dir, {"train": [[record]]})
  source = tfds.TfdsSource("tiny", "train", str(data_dir))
  with pytest.raises(errors.InputError, match="got 9x8"):
    source[0]


@pytest.mark.parametrize("label", [-5, 3, 2**40])
def test_label_out_of_range(data_dir, label):
  image = tiny_tfds.encode(tiny_tfds.images(1)[0])
  message = _with_record(data_dir, image=image, label=label)
  assert "expected labels in [0, 3)" in message
  assert "train_00003" in message
  assert label == 2**40 or f"got {label}" in message
  assert not (data_dir.parent / "user_cache" / "imgbench" / "decoded").exists()


@pytest.mark.parametrize("missing", ["image", "label"])
def test_record_without_a_field(data_dir, missing):
  fields = {"image": tiny_tfds.encode(tiny_tfds.images(1)[0]), "label": 1}
  del fields[missing]
  assert "example 3" in _with_record(data_dir, **fields)


def test_image_that_is_none(data_dir):
  message = _with_record(data_dir, image=b"text", label=0)
  assert "neither JPEG nor PNG" in message


def test_identifiers_that_repeat(data_dir):
  features = {
    "image": tiny_tfds.image_feature(),
    "label": tiny_tfds.label_feature(),
    "id": tiny_tfds.text_feature(),
  }
  records = tiny_tfds.examples(3, id=b"same")
  tiny_tfds.write(data_dir, {"train": [records]}, features=features)
  _refused(data_dir, "a different id for each image", "'same'", load=True)


def _with_features(data_dir, **features):
  tiny_tfds.write(
    data_dir, {"train": [tiny_tfds.examples(3)]}, features=features
  )
  return _refused(data_dir)


@pytest.mark.parametrize("missing", ["image", "label"])
def test_set_without_a_feature(data_dir, missing):
  features = {
    "image": tiny_tfds.image_feature(),
    "label": tiny_tfds.label_feature(),
  }
  del features[missing]
  message = _with_features(data_dir, **features)
  assert f"expected the feature {missing!r}" in message
  assert "not an image classification set" in message


def test_label_that_is_no_class(data_dir):
  message = _with_features(
    data_dir, image=tiny_tfds.image_feature(), label=tiny_tfds.text_feature()
  )
  assert "'label' of type ClassLabel, got image (Image), label" in message


def test_images_of_many_sizes(data_dir):
  message = _with_features(
    data_dir,
    image=tiny_tfds.image_feature((None, None, 3)),
    label=tiny_tfds.label_feature(),
  )
  assert "expected images of one size, got [None, None, 3]" in message


def test_images_of_another_type(data_dir):
  message = _with_features(
    data_dir,
    image=tiny_tfds.image_feature(dtype="uint16"),
    label=tiny_tfds.label_feature(),
  )
  assert "expected uint8 images of 1 or 3 channels, got uint16" in message


def test_one_line():
  assert tfds_folder.one_line("a\n  b\tc") == "a b c"
  assert tfds_folder.one_line("x" * 300, 10) == "xxxxxxx..."


def test_description_names_the_split_sizes(data_dir):
  folder = tiny_tfds.write(data_dir, {"train": [tiny_tfds.examples(4)]})
  info = json.loads((folder / "dataset_info.json").read_text())
  info["splits"][0]["shardLengths"] = ["5"]
  (folder / "dataset_info.json").write_text(json.dumps(info))
  _refused(data_dir, "expected 5 examples", "found 4")
