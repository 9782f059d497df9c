"""Tests of the embedded data set: its images, labels and reading."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from imgbench import errors
from imgbench.data import scene_source
from imgbench.labels import annotations
from imgbench.scenes import classes
from imgbench.scenes import domains
from imgbench.scenes import drawing
from imgbench.scenes import plan as scenes_plan
from tests import raising
from tests.labels import codes

SMALL = {"train_examples": 60, "validation_examples": 48, "v2_examples": 48}


def _plan(split="train", start=0, count=20_000, seed=0):
  return scenes_plan.make_plan(seed, domains.DOMAINS[split], start, count)


@pytest.fixture(scope="module")
def validation():
  return scene_source.ScenesSource("validation", **SMALL)


@pytest.fixture(scope="module")
def examples(validation):
  return validation.load()


def test_the_pictures_are_the_ones_of_this_version(examples):
  """Holds on every platform and NumPy: Philox words, IEEE float32, no sine.

  After a deliberate change of a drawing or a label: raise drawing.VERSION
  (fingerprints of runs depend on it), look at the images, then set the digest.
  """
  assert drawing.VERSION == 1
  shifted = scene_source.ScenesSource("v2", **SMALL).load()
  digest = hashlib.sha256()
  for part in (examples, shifted):
    for array in (part.image, part.label, part.label_codes):
      digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
  assert digest.hexdigest()[:16] == "1d6d8c1994b93b2d"


def test_load_gives_what_info_promises(validation, examples):
  info = validation.info
  assert (info.name, info.key) == ("scenes", "scenes:validation")
  assert info.synthetic and info.label_set == "reviewed"
  assert len(validation) == len(examples) == info.num_examples == 48
  assert examples.image.shape == (48, 48, 48, 3)
  assert examples.image.dtype == np.uint8
  assert examples.label.dtype == np.int32
  assert examples.label_codes.dtype == np.int8
  assert examples.left_out.dtype == np.bool_
  assert len(set(examples.image_id)) == 48
  assert examples.image_id[12] == "scenes_validation_00000012.png"


def test_each_example_is_its_row_of_load(validation, examples):
  for i in range(len(validation)):
    example = validation[i]
    np.testing.assert_array_equal(example["image"], examples.image[i])
    np.testing.assert_array_equal(
      codes.label_codes(example, classes.NUM_CLASSES),
      examples.label_codes[i],
    )
    assert example["original_label"] == examples.label[i]
    assert example["is_problematic"] == examples.left_out[i]
    assert example["file_name"].decode() == examples.image_id[i]


def test_fields_are_those_of_tfds(validation, tmp_path):
  builder = tfds.builder("imagenet2012_multilabel", data_dir=tmp_path)
  expected = builder.info.features.get_tensor_info()
  example = validation[0]
  assert set(example) == set(expected)
  assert isinstance(example.pop("file_name"), bytes)
  for name, value in example.items():
    assert value.dtype == expected[name].np_dtype, name
    assert value.ndim == len(expected[name].shape), name


def test_index_from_the_end_and_out_of_range(validation):
  np.testing.assert_array_equal(
    validation[-1]["image"], validation[47]["image"]
  )
  for index in (48, -49):
    with pytest.raises(IndexError, match="48"):
      validation[index]


def test_a_slice_has_the_same_images_for_any_sizes(examples):
  options = SMALL | {"validation_examples": 40}
  part = scene_source.ScenesSource("validation[25%:75%]", **options)
  loaded = part.load()
  np.testing.assert_array_equal(loaded.image, examples.image[10:30])
  np.testing.assert_array_equal(loaded.label_codes, examples.label_codes[10:30])
  np.testing.assert_array_equal(loaded.image_id, examples.image_id[10:30])
  np.testing.assert_array_equal(part[3]["image"], examples.image[13])


def test_a_sum_of_splits_is_read_in_order(examples):
  both = scene_source.ScenesSource("v2[:2]+validation[45:]", **SMALL)
  loaded = both.load()
  assert list(loaded.image_id) == [
    "scenes_v2_00000000.png",
    "scenes_v2_00000001.png",
    "scenes_validation_00000045.png",
    "scenes_validation_00000046.png",
    "scenes_validation_00000047.png",
  ]
  np.testing.assert_array_equal(loaded.image[2:], examples.image[45:])
  np.testing.assert_array_equal(both[4]["image"], examples.image[47])


def test_blocks_do_not_show(monkeypatch, examples):
  monkeypatch.setattr(scene_source, "_BLOCK_PIXELS", 7 * 48 * 48)
  seen = []
  again = scene_source.ScenesSource("validation", **SMALL).load(
    lambda done, total: seen.append((done, total))
  )
  np.testing.assert_array_equal(again.image, examples.image)
  assert seen[0] == (7, 48) and seen[-1] == (48, 48) and len(seen) == 7


def test_splits_and_seeds_share_no_picture(examples):
  def hashes(split, **options):
    images = scene_source.ScenesSource(split, **SMALL, **options).load().image
    return {hashlib.sha256(image.tobytes()).digest() for image in images}

  kinds = [
    {hashlib.sha256(image.tobytes()).digest() for image in examples.image},
    hashes("train"),
    hashes("v2"),
    hashes("validation", seed=1),
  ]
  assert [len(kind) for kind in kinds] == [48, 60, 48, 48]
  assert len(set.union(*kinds)) == 48 + 60 + 48 + 48


def test_no_two_plans_of_train_and_validation_are_alike():
  train, validation = _plan(count=16_000), _plan("validation", count=2_000)
  rows = np.concatenate([train.light, validation.light])
  assert len(np.unique(rows, axis=0)) == 18_000


@pytest.mark.parametrize("size", [16, 31, 96])
def test_other_sizes_show_the_same_scenes(size, examples):
  source = scene_source.ScenesSource(
    "validation", validation_examples=24, image_size=size
  )
  loaded = source.load()
  assert loaded.image.shape == (24, size, size, 3)
  np.testing.assert_array_equal(loaded.label_codes, examples.label_codes[:24])
  mean = lambda images: images.mean(axis=(1, 2))
  # Two sizes of one scene differ by noise and rounding.
  assert np.abs(mean(loaded.image) - mean(examples.image[:24])).mean() < 4.0


def test_original_label_is_correct_unless_problematic():
  for split in domains.DOMAINS:
    plan = _plan(split, count=5_000)
    own = plan.label_codes[np.arange(5_000), plan.original_label]
    assert (own[~plan.is_problematic] == annotations.CORRECT).all()
    of = lambda kind, own=own, plan=plan: own[plan.picture == kind]
    assert (of(scenes_plan.MISLABELLED) == annotations.WRONG).all()
    assert (of(scenes_plan.BLENDED) == annotations.UNCLEAR).all()
    assert (of(scenes_plan.NEGATIVE) == annotations.CORRECT).all()


def test_shares_are_in_the_stated_ranges():
  plan = _plan()
  codes = plan.label_codes
  assert 0.05 < plan.is_problematic.mean() < 0.07
  correct = (codes == annotations.CORRECT).sum(axis=1)
  unclear = (codes == annotations.UNCLEAR).sum(axis=1)
  wrong = (codes == annotations.WRONG).sum(axis=1)
  assert 0.35 < (correct > 1).mean() < 0.5
  assert 0.2 < (unclear > 0).mean() < 0.4
  assert 1.0 < wrong.mean() < 1.6
  for kind, share in enumerate(scenes_plan.PICTURE_SHARES):
    assert abs((plan.picture == kind).mean() - share) < 0.005
  # All of a dog's unclear breeds that are not in the scene come from mixing.
  dogs = plan.original_label < classes.NUM_DOGS
  things = plan.things
  mixed = np.bincount(
    things.example[things.donor != things.kind], minlength=20_000
  )
  assert 0.1 < mixed[dogs].mean() < 0.16 and not mixed[~dogs].any()


def test_every_run_of_24_examples_has_each_class_once():
  labels = _plan(start=48, count=240).original_label.reshape(10, 24)
  np.testing.assert_array_equal(
    np.sort(labels, axis=1), np.tile(np.arange(24), (10, 1))
  )
  assert len(np.unique(labels, axis=0)) == 10


def test_drawn_things_are_labelled():
  plan = _plan(count=3_000)
  things, codes = plan.things, plan.label_codes
  is_class = things.kind < classes.NUM_CLASSES
  drawn = np.zeros(codes.shape, bool)
  drawn[things.example[is_class], things.kind[is_class]] = True
  drawn[things.example[is_class], things.donor[is_class]] = True
  assert not (codes == annotations.CORRECT)[~drawn].any()
  assert not (codes == annotations.UNCLEAR)[~drawn].any()
  assert not (codes == annotations.WRONG)[drawn].any()
  hidden = drawn & (codes == annotations.UNREVIEWED)
  assert hidden.any() and hidden.sum() < 0.05 * drawn.sum()


def test_visible_share_of_hand_placed_things():
  x = np.array([[0.0], [0.0], [1.0]], np.float32)
  y = np.zeros((3, 1), np.float32)
  radius = np.array([[0.5], [0.25], [0.25]], np.float32)
  present = np.ones((3, 1), bool)

  def visible(second_in_front):
    front = np.array([[False], [second_in_front], [False]])
    found = scenes_plan._visible(x, y, radius, front, present)
    return found[:, 0].tolist()

  # Behind the main thing at the same place, the second one is hidden. The third
  # is cut in half by the edge of the image and touches none.
  assert visible(False) == [1.0, 0.0, 0.5]
  # In front of it, the second reaches 0.75 into the main one's width of 1.
  assert visible(True) == [0.25, 1.0, 0.5]


def test_confusions_name_three_other_classes_each():
  for label, others in enumerate(classes.CONFUSIONS):
    assert len({label, *others.tolist()}) == 4


def test_subsets_partition_the_classes(validation):
  masks = validation.info.subsets
  assert {name: int(mask.sum()) for name, mask in masks.items()} == {
    "dog": 6,
    "organism": 12,
    "object": 12,
    "organism_not_dog": 6,
    "not_dog": 18,
  }
  assert (masks["organism"] ^ masks["object"]).all()
  assert (masks["dog"] ^ masks["not_dog"]).all()
  total = sum(
    masks[name].astype(int) for name in ("dog", "organism_not_dog", "object")
  )
  assert (total == 1).all()
  names = np.array(validation.info.class_names)
  assert "beagle" in names[masks["dog"]]
  assert "frog" in names[masks["organism_not_dog"]]
  assert "ladder" in names[masks["object"]]
  assert len(set(names)) == validation.info.num_classes == 24


def test_fingerprint_tells_data_apart_and_nothing_else():
  def mark(split, **options):
    source = scene_source.ScenesSource(split, **(SMALL | options))
    return source.info.fingerprint

  assert mark("train") == mark("train[:100%]") == mark("train", v2_examples=9)
  different = {
    mark("train"),
    mark("v2"),
    mark("train[:50%]"),
    mark("train", seed=1),
    mark("train", image_size=32),
    mark("train", train_examples=61),
  }
  assert len(different) == 6


@pytest.mark.parametrize(
  ("split", "part"),
  [
    ("test", ""),
    ("trian[:10]", "'trian'"),
    ("train[:", "'train[:'"),
    ("train[:61]", "60 examples"),
    ("train[5:5]", ""),
    ("train[:9]+train[8:]", "example 8 of train"),
    ("", ""),
  ],
)
def test_bad_split(split, part):
  about = raising.about("split")
  with pytest.raises(errors.InputError, check=about) as caught:
    scene_source.ScenesSource(split, **SMALL)
  assert caught.value.given.startswith(repr(split))
  assert part in caught.value.given and "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "options",
  [
    {"train_examples": 0},
    {"v2_examples": 2.5},
    {"validation_examples": True},
    {"image_size": 15},
    {"image_size": 257},
    {"seed": -1},
    {"seed": 2**63},
    {"seed": "0"},
  ],
)
def test_bad_option(options):
  ((name, value),) = options.items()
  about = raising.about(name, given=repr(value))
  with pytest.raises(errors.InputError, check=about):
    scene_source.ScenesSource("train", **options)


def test_whole_splits_need_neither_tfds_nor_jax():
  code = (
    "import sys\n"
    "from imgbench.data import scene_source\n"
    "scene_source.ScenesSource('train')[0]\n"
    "heavy = {'jax', 'tensorflow', 'tensorflow_datasets', 'scipy'}\n"
    "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


def test_every_fourth_class_is_rare_in_training_data():
  options = dict(train_examples=480, image_size=16)
  make = lambda split, n: scene_source.ScenesSource(
    split, imbalance=n, **options
  )
  found = make("train", 5).load()
  counts = np.bincount(found.label, minlength=24)
  np.testing.assert_array_equal(counts, [4, 20, 20, 20] * 6)
  whole = make("train", 1).load()
  rows = np.isin(whole.image_id, found.image_id)
  np.testing.assert_array_equal(whole.image[rows], found.image)
  # The parts of a split are parts of its images.
  part = make("train[240:]", 5).load()
  assert set(part.image_id) < set(found.image_id)
  assert len(part) == len(found) / 2
  assert len(make("validation", 5)) == len(make("validation", 1))
  prints = {make("train", n).info.fingerprint for n in (1, 5, 6)}
  assert len(prints) == 3
  with pytest.raises(errors.InputError, check=raising.about("imbalance")):
    make("train", 0)


def test_only_objects_are_drawn_whatever_the_labels_say():
  options = dict(train_examples=600, image_size=16)
  whole = scene_source.ScenesSource("train", **options)
  some = scene_source.ScenesSource("train[24:]", only="object", **options)
  found = some.load()
  assert len(found) == len(some) == some.info.num_examples
  names = whole.load().image_id.tolist()
  places = [names.index(name) for name in found.image_id]
  assert places == sorted(places) and places[0] >= 24
  things = scenes_plan.make_plan(0, domains.DOMAINS["train"], 0, 600).things
  organisms = classes.subsets()["organism"]
  is_class = things.kind < classes.NUM_CLASSES
  shows = set(
    things.example[is_class][organisms[things.kind[is_class]]].tolist()
  )
  assert places == [i for i in range(24, 600) if i not in shows]
  # A label may be wrong, so it is no proof.
  assert any(organisms[found.label]) and found.left_out.any()
  for index in (0, len(some) - 1):
    one = some[index]
    assert one["file_name"].decode() == found.image_id[index]
    np.testing.assert_array_equal(one["image"], found.image[index])
  prints = {
    scene_source.ScenesSource("train", only=only, **options).info.fingerprint
    for only in ("", "object", "organism")
  }
  assert len(prints) == 3 and whole.info.fingerprint in prints
