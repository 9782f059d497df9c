"""Tests of TFDS sets: formats, slices, identifiers, the decoded cache."""

import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from imgbench import errors
from imgbench.data import tfds
from tests import raising
from tests.data import shared_files
from tests.data import tiny_tfds

FORMATS = ("tfrecord", "array_record")


def _write(data_dir, file_format="tfrecord", train=(5, 4, 3), **options):
  """Writes 12 training examples in shards of those sizes, and 4 test ones."""
  records = tiny_tfds.examples(sum(train))
  shards = [[records.pop(0) for _ in range(size)] for size in train]
  splits = {"train": shards, "test": [tiny_tfds.examples(4, seed=1)]}
  return tiny_tfds.write(data_dir, splits, file_format=file_format, **options)


def test_cifar10_1_has_the_classes_of_cifar10(tmp_path):
  features = {
    "image": tiny_tfds.image_feature(),
    "label": tiny_tfds.label_feature(10),
  }
  folder = _write(tmp_path, name="cifar10_1", features=features)
  (folder / "label.labels.txt").unlink()
  source = tfds.TfdsSource("cifar10_1", "test", str(tmp_path))
  assert len(source.info.class_names) == 10
  assert source.info.class_names[::9] == ("airplane", "truck")
  assert source.load().label.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("file_format", FORMATS)
def test_info_and_examples(tmp_path, file_format):
  _write(tmp_path, file_format)
  source = tfds.TfdsSource("tiny", "train", str(tmp_path))
  assert source.info.key == "tiny:train"
  assert source.info.image_shape == (8, 8, 3)
  assert source.info.class_names == tiny_tfds.CLASS_NAMES
  assert not source.info.synthetic
  assert len(source) == source.info.num_examples == 12
  examples = source.load()
  np.testing.assert_array_equal(examples.image, tiny_tfds.images(12))
  np.testing.assert_array_equal(examples.label, np.arange(12) % 3)
  assert examples.label.dtype == np.int32
  assert examples.image_id[0] == "train_00000"
  assert examples.image_id[11] == "train_00011"
  assert not examples.image.flags.writeable
  for index in (11, 0, 5, 4, 8, 9):
    example = source[index]
    assert set(example) == {"image", "label"}
    np.testing.assert_array_equal(example["image"], examples.image[index])
    assert example["label"] == examples.label[index]
  for index in (-1, 12):
    with pytest.raises(IndexError):
      source[index]


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize(
  ("split", "expected"),
  [
    ("train[:50%]", range(6)),
    ("train[5:9]", range(5, 9)),
    ("train[3:10]", range(3, 10)),
    ("train[-2:]", range(10, 12)),
    ("train[8:]+train[:2]", [8, 9, 10, 11, 0, 1]),
    ("train[4:6]+train[6:7]", [4, 5, 6]),
  ],
)
def test_slices(tmp_path, file_format, split, expected):
  _write(tmp_path, file_format)
  source = tfds.TfdsSource("tiny", split, str(tmp_path))
  examples = source.load()
  images = tiny_tfds.images(12)[list(expected)]
  np.testing.assert_array_equal(examples.image, images)
  # Numbered by the place in the whole split, so that slices agree.
  assert examples.image_id.tolist() == [f"train_{i:05d}" for i in expected]
  for i, image in enumerate(images):
    np.testing.assert_array_equal(source[i]["image"], image)


def test_sum_of_splits(tmp_path):
  _write(tmp_path)
  source = tfds.TfdsSource("tiny", "test[1:]+train[:2]", str(tmp_path))
  assert source.load().image_id.tolist() == [
    "test_00001",
    "test_00002",
    "test_00003",
    "train_00000",
    "train_00001",
  ]


@pytest.mark.parametrize("field", ["id", "file_name"])
def test_identifier_is_the_features(tmp_path, field):
  records = [
    tiny_tfds.serialize(
      {
        "image": tiny_tfds.encode(image),
        "label": 0,
        field: f"näme-{i}".encode(),
      }
    )
    for i, image in enumerate(tiny_tfds.images(3))
  ]
  features = {
    "image": tiny_tfds.image_feature(),
    "label": tiny_tfds.label_feature(),
    field: tiny_tfds.text_feature(),
  }
  tiny_tfds.write(tmp_path, {"train": [records]}, features=features)
  source = tfds.TfdsSource("tiny", "train", str(tmp_path))
  assert source.load().image_id.tolist() == ["näme-0", "näme-1", "näme-2"]
  assert source[1][field] == "näme-1".encode()  # bytes, as in TFDS


def test_fingerprint_is_of_the_data_alone(tmp_path):
  _write(tmp_path / "a")
  _write(tmp_path / "elsewhere")
  _write(tmp_path / "format", "array_record", train=(12,))
  _write(tmp_path / "version", version="1.0.1")

  def fingerprint(folder, split="train"):
    source = tfds.TfdsSource("tiny", split, str(tmp_path / folder))
    return source.info.fingerprint

  whole = fingerprint("a")
  assert whole == fingerprint("elsewhere") == fingerprint("format")
  assert whole == fingerprint("a", "train[:100%]")
  others = [
    fingerprint("version"),
    fingerprint("a", "test"),
    fingerprint("a", "train[1:]"),
    fingerprint("a", "train[:11]"),
    fingerprint("a", "train+test"),
  ]
  assert len({whole, *others}) == 6


def test_fingerprint_follows_the_examples(tmp_path):
  prints = set()
  for seed in range(3):
    folder = tmp_path / str(seed)
    tiny_tfds.write(folder, {"train": [tiny_tfds.examples(6, seed=seed)]})
    source = tfds.TfdsSource("tiny", "train", str(folder))
    prints.add(source.info.fingerprint)
  assert len(prints) == 3


def test_newest_version_or_the_one_asked_for(tmp_path):
  for version, count in (("2.9.0", 2), ("2.10.0", 3), ("1.0.0", 4)):
    tiny_tfds.write(
      tmp_path, {"train": [tiny_tfds.examples(count)]}, version=version
    )
  (tmp_path / "tiny" / "3.0.0.incompleteABC").mkdir()
  assert len(tfds.TfdsSource("tiny", "train", str(tmp_path))) == 3
  old = tfds.TfdsSource("tiny", "train", str(tmp_path), version="1.0.0")
  assert len(old) == 4


@pytest.mark.parametrize("file_format", FORMATS)
def test_source_survives_pickling_after_use(tmp_path, file_format):
  _write(tmp_path, file_format)
  source = tfds.TfdsSource("tiny", "train", str(tmp_path))
  before = source[7]["image"]
  copy = pickle.loads(pickle.dumps(source))
  np.testing.assert_array_equal(copy[7]["image"], before)
  assert copy.info.fingerprint == source.info.fingerprint


def test_large_images_are_decoded_by_threads(tmp_path):
  images = tiny_tfds.images(40, (128, 100, 3))
  records = [
    tiny_tfds.serialize({"image": tiny_tfds.encode(image), "label": 1})
    for image in images
  ]
  features = {
    "image": tiny_tfds.image_feature((128, 100, 3)),
    "label": tiny_tfds.label_feature(),
  }
  tiny_tfds.write(
    tmp_path,
    {"train": [records]},
    file_format="array_record",
    features=features,
  )
  source = tfds.TfdsSource("tiny", "train", str(tmp_path))
  np.testing.assert_array_equal(source.load().image, images)


def test_progress(tmp_path):
  _write(tmp_path)
  source = tfds.TfdsSource("tiny", "train", str(tmp_path))
  calls = []
  source.load(lambda done, total: calls.append((done, total)))
  assert calls == [(5, 12), (9, 12), (12, 12)]
  calls.clear()
  source.load(lambda done, total: calls.append((done, total)))
  assert calls == [(12, 12)]  # from the cache


def test_cached_examples_are_the_same(tmp_path, user_cache):
  _write(tmp_path)
  source = tfds.TfdsSource("tiny", "train", str(tmp_path))
  cold = source.load()
  assert len(list((user_cache / "decoded").iterdir())) == 1
  warm = tfds.TfdsSource("tiny", "train", str(tmp_path)).load()
  for field in ("image", "label", "image_id"):
    a, b = getattr(cold, field), getattr(warm, field)
    np.testing.assert_array_equal(a, b)
    assert a.dtype == b.dtype
  assert warm.label_codes is None
  assert not warm.image.flags.writeable


def test_cache_can_be_switched_off(tmp_path, user_cache):
  _write(tmp_path)
  tfds.TfdsSource("tiny", "train", str(tmp_path), cache=False).load()
  assert not (user_cache / "decoded").exists()


@pytest.mark.parametrize("manifest", ["[]", "null", '{"image": 1}'])
def test_fault_15_a_manifest_of_another_kind(tmp_path, user_cache, manifest):
  _write(tmp_path)
  source = tfds.TfdsSource("tiny", "train", str(tmp_path))
  source.load()
  (file,) = user_cache.glob("decoded/*/manifest.json")
  file.write_text(manifest)
  np.testing.assert_array_equal(source.load().image, tiny_tfds.images(12))


def test_cache_that_cannot_be_written_is_only_logged(
  tmp_path, user_cache, caplog
):
  _write(tmp_path)
  user_cache.parent.touch()  # a file where the folder should be
  source = tfds.TfdsSource("tiny", "train", str(tmp_path))
  np.testing.assert_array_equal(source.load().image, tiny_tfds.images(12))
  assert {record.levelname for record in caplog.records} == {"WARNING"}
  (text,) = [t for t in caplog.messages if "decoded" in t]
  assert str(user_cache) in text


def test_damaged_cache_is_rebuilt(tmp_path, user_cache, caplog):
  _write(tmp_path)
  source = tfds.TfdsSource("tiny", "train", str(tmp_path))
  source.load()
  (file,) = user_cache.glob("decoded/*/image.npy")
  data = bytearray(file.read_bytes())
  data[-5] ^= 16
  file.write_bytes(data)
  np.testing.assert_array_equal(source.load().image, tiny_tfds.images(12))
  (record,) = caplog.records
  assert record.levelname == "WARNING"
  assert str(file.parent) in record.getMessage()
  caplog.clear()
  np.testing.assert_array_equal(source.load().image, tiny_tfds.images(12))
  assert not caplog.text


def test_cache_follows_the_contents_of_the_shards(tmp_path):
  count = 60  # more than the fingerprint samples
  folder = tiny_tfds.write(tmp_path, {"train": [tiny_tfds.examples(count)]})
  source = tfds.TfdsSource("tiny", "train", str(tmp_path))
  fingerprint, old = source.info.fingerprint, source.load()
  shard = folder / "tiny-train.tfrecord-00000-of-00001"
  stat = shard.stat()
  records = tiny_tfds.examples(count)
  assert len(records[1]) == len(records[2])
  records[1], records[2] = records[2], records[1]
  shard.write_bytes(tiny_tfds.tfrecord_bytes(records))
  os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
  source = tfds.TfdsSource("tiny", "train", str(tmp_path))
  assert source.info.fingerprint == fingerprint  # its limit, and a reason
  np.testing.assert_array_equal(source.load().image[1], old.image[2])


_REAL_READ = """
import json, sys
events = []
sys.addaudithook(
  lambda name, args: events.append(name) if name.startswith("socket.") else None
)
from imgbench import data
for folder in sys.argv[1:]:
  source = data.build_source("tiny", "train", folder)
  assert len(source.load()) == 12
  assert source[3]["image"].shape == (8, 8, 3)
loaded = [m for m in sys.modules if m.split(".")[0] == "tensorflow"]
print(json.dumps({"loaded": loaded, "network": events}))
"""


def test_a_real_read_needs_neither_tensorflow_nor_network(tmp_path):
  folders = []
  for file_format in FORMATS:
    _write(tmp_path / file_format, file_format)
    folders.append(str(tmp_path / file_format))
  done = subprocess.run(
    [sys.executable, "-c", _REAL_READ, *folders],
    capture_output=True,
    text=True,
    check=False,
    cwd=pathlib.Path(__file__).parents[2],
  )
  assert done.returncode == 0, done.stderr
  seen = json.loads(done.stdout.splitlines()[-1])
  assert seen == {"loaded": [], "network": []}


REAL = ("data/tfds", "data/tfds_array_record")


def test_real_formats_hold_the_same_examples():
  sources = [
    tfds.TfdsSource("cifar10", "test", str(shared_files.shared_path(folder)))
    for folder in REAL
  ]
  a, b = (source.load() for source in sources)
  assert len(a) == 10_000
  assert sources[0].info == sources[1].info
  for field in ("image", "label", "image_id"):
    np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
  assert np.bincount(a.label).tolist() == [1000] * 10
  canonical = np.load(
    shared_files.shared_path("data/CIFAR-10.1/cifar10_test_labels.npy")
  )
  np.testing.assert_array_equal(a.label[np.argsort(a.image_id)], canonical)


@pytest.mark.parametrize("split", ["train[5000:5300]", "test[99%:]"])
def test_real_slices_equal_what_tfds_itself_reads(split):
  import tensorflow_datasets

  folders = [str(shared_files.shared_path(folder)) for folder in REAL]
  theirs = tensorflow_datasets.data_source(
    "cifar10", split=split, data_dir=folders[1]
  )
  for folder in folders:
    ours = tfds.TfdsSource("cifar10", split, folder)
    examples = ours.load()
    assert len(ours) == len(theirs)
    for i in range(0, len(ours), 7):
      expected, one = theirs[i], ours[i]
      assert set(one) == set(expected)
      assert one["id"] == expected["id"] == examples.image_id[i].encode()
      assert one["label"] == expected["label"] == examples.label[i]
      np.testing.assert_array_equal(one["image"], expected["image"])
      np.testing.assert_array_equal(one["image"], examples.image[i])


def test_real_training_slice_is_the_official_one():
  folder = str(shared_files.shared_path(REAL[0]))
  source = tfds.TfdsSource("cifar10", "train[:90%]", folder)
  assert source.info.num_examples == 45_000
  assert source.info.class_names[3] == "cat"
  assert source[0]["id"] == b"train_16399"
  with pytest.raises(errors.InputError, check=raising.about("split")) as caught:
    tfds.TfdsSource("cifar10", "validation", folder)
  assert "test, train" in caught.value.expected
