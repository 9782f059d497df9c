"""Tests of TFDS sets that stay encoded, on folders as TFDS writes them."""

import numpy as np
import pytest

from imgbench import data
from imgbench import errors
from imgbench.data import encoded
from imgbench.data import source
from imgbench.data import tfds
from tests import raising
from tests.data import pipeline_test
from tests.data import tiny_tfds

LISTS = ("correct_multi_labels", "unclear_multi_labels", "wrong_multi_labels")


def sequence_feature():
  return {
    "pythonClassName": f"{tiny_tfds._CORE}.sequence_feature.Sequence",
    "sequence": {"feature": tiny_tfds.label_feature(), "length": "-1"},
  }


def bool_feature():
  return {
    "pythonClassName": f"{tiny_tfds._CORE}.scalar.Scalar",
    "tensor": {"shape": {}, "dtype": "bool", "encoding": "none"},
  }


def reviewed_record(number, lists, problematic):
  fields = tiny_tfds.tf_example_pb2.Example()
  feature = fields.features.feature
  image = tiny_tfds.encode(np.full((5 + number, 7, 3), number, np.uint8))
  feature["image"].bytes_list.value.append(image)
  feature["file_name"].bytes_list.value.append(f"{number}.png".encode())
  feature["original_label"].int64_list.value.append(number % 3)
  feature["is_problematic"].int64_list.value.append(int(problematic))
  for field, labels in zip(LISTS, lists, strict=True):
    feature[field].int64_list.value.extend(labels)
  return fields.SerializeToString(deterministic=True)


def write_reviewed(folder, members=(1,), lists=None):
  lists = lists or [([0, 2], [], [1]), ([1], [0, 0], []), ([2], [], [])]
  records = [
    reviewed_record(i, part, problematic=i == 2) for i, part in enumerate(lists)
  ]
  tiny_tfds.write(
    folder,
    {"validation": [records], "imagenet_m": [[records[i] for i in members]]},
    features={
      "image": tiny_tfds.image_feature((None, None, 3)),
      "file_name": tiny_tfds.text_feature(),
      "original_label": tiny_tfds.label_feature(),
      "is_problematic": bool_feature(),
      **{field: sequence_feature() for field in LISTS},
    },
  )
  names = "\n".join(tiny_tfds.CLASS_NAMES)
  for field in ("original_label", *LISTS):
    next(folder.rglob("features.json")).with_name(
      f"{field}.labels.txt"
    ).write_text(names)


def test_reads_bytes_labels_and_ids(tmp_path):
  split = pipeline_test.write(tmp_path)
  assert len(split) == 40 and split.info.streamed
  assert split.info.label_set is None and not split.info.subsets
  examples = split.examples()
  assert examples.image is None and examples.label_codes is None
  assert examples.label.tolist() == [i % 3 for i in range(40)]
  assert examples.image_id.tolist() == [f"{i}.png" for i in range(40)]
  for number, image in enumerate(pipeline_test.sizes(40)):
    assert split.read(number) == (tiny_tfds.encode(image), number % 3)


def test_the_second_reading_comes_from_the_cache(tmp_path, monkeypatch):
  split = pipeline_test.write(tmp_path)
  first = split.examples()
  monkeypatch.setattr(split, "_read_all", None)
  again = split.examples()
  for field in ("label", "image_id"):
    np.testing.assert_array_equal(getattr(first, field), getattr(again, field))


def test_fault_15_annotations_that_cannot_be_cached(
  tmp_path, user_cache, caplog
):
  split = pipeline_test.write(tmp_path)
  user_cache.parent.touch()  # A file in place of the folder.
  assert len(split.examples().label) == 40
  (record,) = caplog.records
  assert record.levelname == "WARNING"
  assert str(user_cache) in record.getMessage()


def test_build_source_takes_the_kind_that_fits(tmp_path):
  pipeline_test.write(tmp_path)
  split = data.build_source("tiny", "train[:50%]", str(tmp_path))
  assert isinstance(split, encoded.TfdsEncodedSource) and len(split) == 20
  tiny_tfds.write(tmp_path, {"train": [tiny_tfds.examples(4)]}, name="other")
  split = data.build_source("other", "train", str(tmp_path))
  assert isinstance(split, tfds.TfdsSource)


@pytest.mark.parametrize(
  "mine, other, share",
  [
    ("train", "train", 1.0),
    ("train[30:]", "train[:30]", 0.0),
    ("train[10:20]", "train[:15]", 0.5),
    ("train[:10]+train[20:30]", "train[5:25]", 0.5),
  ],
)
def test_what_two_splits_share(tmp_path, mine, other, share):
  pipeline_test.write(tmp_path)
  splits = [
    encoded.TfdsEncodedSource("tiny", name, str(tmp_path))
    for name in (mine, other)
  ]
  assert splits[0].shared_with(splits[1]) == share


def test_reviewed_label_sets(tmp_path):
  write_reviewed(tmp_path)
  split = encoded.TfdsEncodedSource("tiny", "validation", str(tmp_path))
  assert split.info.label_set == "reviewed"
  examples = split.examples()
  assert examples.label.tolist() == [0, 1, 2]
  assert examples.label_codes.tolist() == [[3, 1, 3], [2, 3, 0], [0, 0, 3]]
  assert examples.left_out.tolist() == [False, False, True]
  assert examples.in_imagenet_m.tolist() == [False, True, False]
  members = encoded.TfdsEncodedSource("tiny", "imagenet_m", str(tmp_path))
  assert members.examples().in_imagenet_m.tolist() == [True]


def test_a_class_in_several_lists_counts_as_the_best(tmp_path):
  lists = [([0], [0, 1], [1, 2]), ([1], [], [1])]
  write_reviewed(tmp_path, lists=lists)
  split = encoded.TfdsEncodedSource("tiny", "validation", str(tmp_path))
  codes = split.examples().label_codes
  assert codes.tolist() == [[3, 2, 1], [0, 3, 0]]


def test_a_label_that_no_class_has_is_refused(tmp_path):
  write_reviewed(tmp_path, lists=[([0], [7], []), ([1], [], [])])
  split = encoded.TfdsEncodedSource("tiny", "validation", str(tmp_path))
  about = raising.about("tiny:validation, label set of 0.png", given=7)
  with pytest.raises(errors.InputError, check=about):
    split.examples()


def test_a_training_label_that_no_class_has_is_refused(tmp_path):
  image = tiny_tfds.encode(np.zeros((5, 7, 3), np.uint8))
  record = tiny_tfds.serialize({"image": image, "label": 3})
  features = {
    "image": tiny_tfds.image_feature((None, None, 3)),
    "label": tiny_tfds.label_feature(),
  }
  tiny_tfds.write(tmp_path, {"train": [[record]]}, features=features)
  split = encoded.TfdsEncodedSource("tiny", "train", str(tmp_path))
  assert "example 0 (train_00000;" in split.where(0)
  with pytest.raises(
    errors.InputError, check=raising.about(split.where(0), given=3)
  ):
    split.read(0)


def test_a_set_without_labels_is_refused(tmp_path):
  folder = tiny_tfds.write(
    tmp_path,
    {"train": [tiny_tfds.examples(2)]},
    features={"image": tiny_tfds.image_feature((None, None, 3))},
  )
  about = raising.about(f"{folder}/features.json", given="image (Image)")
  with pytest.raises(errors.InputError, check=about):
    encoded.TfdsEncodedSource("tiny", "train", str(tmp_path))


def test_fault_01_label_sets_without_a_damaged_record(tmp_path):
  write_reviewed(tmp_path)
  (path,) = tmp_path.rglob("*validation*-of-00001")
  data = bytearray(path.read_bytes())
  data[data.index(b"1.png")] ^= 1
  path.write_bytes(data)
  split = encoded.TfdsEncodedSource("tiny", "validation", str(tmp_path))
  with pytest.raises(source.DamagedRecord):
    split.examples()
  for most in (0, 1, 1):
    bad = source.BadExamples("set", "skip", most)
    if not most:
      with pytest.raises(
        errors.InputError, check=raising.about(split.where(1))
      ):
        split.examples(bad=bad)
      continue
    examples = split.examples(bad=bad)
    assert examples.place.tolist() == [0, 2]
    assert examples.label.tolist() == [0, 2]
    assert examples.image_id.tolist() == ["0.png", "2.png"]
    assert examples.label_codes.tolist() == [[3, 1, 3], [0, 0, 3]]
    assert examples.left_out.tolist() == [False, True]
    assert examples.in_imagenet_m.tolist() == [False, False]
