"""Tests of runs whose images are decoded on the way, on a tiny TFDS folder."""

import json
import logging
import signal

import numpy as np
import pytest

from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import report
from imgbench import writers
from imgbench.configs import tiny
from imgbench.data import encoded
from imgbench.data import input_pipelines
from imgbench.data import order
from imgbench.data import tfrecord_index
from imgbench.evaluators import base
from imgbench.labels import classes
from imgbench.parallel import processes as processes_lib
from imgbench.train import feeds
from imgbench.train import loop
from imgbench.train import setup
from tests import raising
from tests.data import pipeline_test
from tests.data import shared_files
from tests.data import tiny_tfds
from tests.train import processes


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data")
  pipeline_test.write(folder)
  return str(folder)


def make_config(data_dir, **changes):
  config = tiny.get_config()
  config.logging.report = False
  config.data.update(name="tiny", train_split="train", data_dir=data_dir)
  config.data.options = {}
  config.input = dict(size=8, area=(0.3, 1.0))
  config.augment.update(flip="random", pad=0, mixup=0.3, cutmix=0.3)
  config.evaluation.input = dict(size=8)
  config.evaluation.sets = dict(
    val=dict(split="train[:30]", type="classification")
  )
  config.global_batch_size = 16
  config.ema.decay = 0.9
  config.steps.total = "10 steps"
  for key, value in changes.items():
    section, _, name = key.partition("__")
    config[section][name] = value
  return config


def test_trains_and_evaluates_raw_and_averaged_parameters(data_dir, tmp_path):
  results = loop.train_and_evaluate(make_config(data_dir), str(tmp_path))
  for name in ("tiny:train[:30]", "tiny+ema:train[:30]"):
    assert results[f"{name}/all/top1_accuracy"]["n"] == 30
  records = writers.read_lines(tmp_path / "metrics.jsonl")
  records = [r for r in records if "train/loss" in r]
  assert records
  assert all(0 <= r["train/input_wait_share"] <= 1 for r in records)
  raw, averaged = (
    results[f"tiny{kind}:train[:30]/all/nll"]["value"] for kind in ("", "+ema")
  )
  assert raw != averaged
  warnings = processes.read_json(tmp_path, "warnings.json")
  described = processes.read_json(tmp_path, "environment.json")
  # All of these were trained on.
  assert "tiny:train[:30]" in described["training_data"]
  assert not [w for w in warnings if w["name"] == "leakage"]
  with np.load(tmp_path / "predictions/tiny-train__30_.npz") as predictions:
    ids = sorted(predictions["image_id"])
  assert ids == sorted(f"{i}.png" for i in range(30))


def test_images_are_read_once_for_raw_and_averaged_parameters(data_dir):
  prepared = setup.prepare(config_lib.parse(make_config(data_dir)))
  split = prepared.data.plan.sources["val"]
  read, numbers = split.read, []

  def watched(index):
    numbers.append(index)
    return read(index)

  split.read = watched
  state = prepared.state
  variables = {"raw": state.variables, "ema": state.ema}
  found = base.run(prepared.evaluators, variables)
  assert list(found) == ["val", "val_ema"]
  assert all(len(e.outcomes.top1) == 30 for e in found.values())
  assert sorted(set(numbers)) == list(range(30))
  # The last batch of 32 is filled up.
  assert len(numbers) < 2 * 30
  prepared.training.feed.close()


@pytest.mark.parametrize("stop_at", [3, 7])
def test_a_broken_run_ends_in_the_bits_of_an_unbroken_one(
  data_dir, tmp_path, stop_at, monkeypatch
):
  config = make_config(data_dir)
  whole = loop.train_and_evaluate(config, str(tmp_path / "whole"))
  fed = []
  batch_at = feeds.StreamedFeed.batch_at

  def watched(self, step, count):
    if step == stop_at and not fed.count("stopped"):
      fed.append("stopped")
      signal.raise_signal(signal.SIGTERM)
    arrays = batch_at(self, step, count)
    fed.extend(arrays["index"].tolist())
    return arrays

  monkeypatch.setattr(feeds.StreamedFeed, "batch_at", watched)
  with pytest.raises(errors.Preempted):
    loop.train_and_evaluate(config, str(tmp_path / "broken"))
  broken = loop.train_and_evaluate(config, str(tmp_path / "broken"))
  assert broken == whole
  ids = [number for number in fed if number != "stopped"]
  feed = setup.prepare(config_lib.parse(config)).training.feed
  expected = [feed.batch_at(step, 1)["index"] for step in range(10)]
  feed.close()
  assert ids == np.concatenate(expected).tolist()


def test_streamed_images_are_balanced_by_their_labels(data_dir):
  config = make_config(data_dir, data__balanced=True)
  training = setup.prepare(config_lib.parse(config)).training
  labels = encoded.TfdsEncodedSource("tiny", "train", data_dir).examples().label
  whole = order.ExampleOrder(40, 0, lambda: labels).take(0, 160)
  fed = [training.feed.batch_at(step, 1) for step in range(10)]
  training.feed.close()
  for name in ("index", "epoch"):
    joined = np.concatenate([batch[name] for batch in fed])
    np.testing.assert_array_equal(joined, whole[name])
  joined = np.concatenate([batch["label"] for batch in fed])
  np.testing.assert_array_equal(joined, labels[whole["index"]])


def test_processes_feed_the_same_batches_together(data_dir):
  """Also when a run goes on with another number of processes."""
  split = encoded.TfdsEncodedSource("tiny", "train", data_dir)

  def feed(process, count):
    decoded = input_pipelines.build_train_pipeline(split=split, seed=1, size=8)
    return feeds.StreamedFeed(
      order.ExampleOrder(40, 1),
      8,
      decoded,
      (8, 8, 3),
      processes_lib.share(8, process, count),
    )

  alone = feed(0, 1)
  whole = [alone.batch_at(step, 1) for step in range(7)]
  for count, start in ((2, 0), (4, 3)):
    feeds_of_all = [feed(i, count) for i in range(count)]
    for step in range(start, 7):
      parts = [one.batch_at(step, 1) for one in feeds_of_all]
      for name, expected in whole[step].items():
        joined = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(joined, expected)
    for one in feeds_of_all:
      one.close()
  alone.close()


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("input.size", 0),
    ("input.siz", 8),
    ("input.decoder", "gif"),
    ("input.on_bad_example", "go"),
    ("augment.mixup", -1.0),
    ("init.source", "nowhere"),
  ],
)
def test_bad_settings_are_named(data_dir, tmp_path, key, value):
  config = make_config(data_dir, **{key.replace(".", "__"): value})
  with pytest.raises(errors.InputError) as raised:
    loop.train_and_evaluate(config, str(tmp_path))
  assert raised.value.setting == key


def damage(path, begin):
  """Flips a bit of the label of the record that begins at this byte."""
  data = bytearray(path.read_bytes())
  # After the name: tag and length of the feature, of its list, of its numbers.
  data[data.index(b"label", int(begin)) + len(b"label") + 6] ^= 1
  path.write_bytes(data)


def write_flipped(tmp_path, file_format, damaged=()):
  """Writes a set with one bit of the label of example 3 flipped."""
  folder = tmp_path / "flipped"
  pipeline_test.write(folder, file_format=file_format, damaged=damaged)
  (path,) = folder.rglob(f"*.{file_format}-00000-of-00002")
  damage(path, path.read_bytes().index(b"3.png"))
  return str(folder)


@pytest.fixture
def flipped_dir(tmp_path):
  return write_flipped(tmp_path, "tfrecord")


def test_fault_01_a_flipped_bit_ends_the_run(flipped_dir, tmp_path):
  config = make_config(flipped_dir)
  config.evaluation.sets, config.checkpoint.best = {}, ""
  with pytest.raises(errors.InputError) as raised:
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert "example 3 of" in raised.value.setting
  assert "input.on_bad_example=skip" in raised.value.fix


def test_fault_01_a_damaged_record_is_replaced_in_training_if_asked(
  flipped_dir, tmp_path, caplog
):
  caplog.set_level(logging.WARNING, logger="absl")
  config = make_config(flipped_dir)
  config.input.on_bad_example = "skip"
  config.evaluation.sets, config.checkpoint.best = {}, ""
  loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert "1 of at most 100" in caplog.text


def faulty_config(data_dir, name, **entry):
  """Returns a config that evaluates a split with one bad example."""
  config = make_config(data_dir)
  config.input.on_bad_example = "skip"
  config.data.name = name
  config.evaluation.sets.val.update(entry)
  return config


@pytest.mark.parametrize("name", ["gifset", "bmpset"])
def test_fault_01_an_image_of_another_format_ends_the_evaluation(
  tmp_path, name
):
  folder = str(shared_files.shared_path("data", "faults"))
  config = faulty_config(folder, name, split="train")
  prepared = setup.prepare(config_lib.parse(config))
  with pytest.raises(errors.InputError) as raised:
    list(prepared.evaluators["val"].split.batches(8))
  prepared.training.feed.close()
  # The setting that the error names is one that helps.
  assert "evaluation.sets.val.on_bad_example=skip" in raised.value.fix
  config.evaluation.sets.val.on_bad_example = "skip"
  results = loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert results[f"{name}:train/all/skipped"]["value"] == 1


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_fault_01_a_damaged_record_ends_the_evaluation(tmp_path, file_format):
  folder = write_flipped(tmp_path, file_format)
  config = faulty_config(folder, "tiny", split="train")
  with pytest.raises(errors.InputError) as raised:
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert "example 3 of" in raised.value.setting
  assert "evaluation.sets.val.on_bad_example=skip" in raised.value.fix


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_fault_01_bad_examples_are_masked_out_of_the_evaluation(
  tmp_path, file_format
):
  """Record 3 is damaged and image 20 cut off: neither is in any result."""
  folder = write_flipped(tmp_path, file_format, damaged=[20])
  config = faulty_config(
    folder, "tiny", split="train", on_bad_example="skip", most_bad=2
  )
  config.steps.total = "2 steps"
  # The same examples, of a set that is whole.
  others = "train[:3]+train[4:20]+train[21:]"
  pipeline_test.write(tmp_path / "whole", file_format=file_format)
  config.evaluation.sets.whole = dict(
    split=others, type="classification", data_dir=str(tmp_path / "whole")
  )
  results = loop.train_and_evaluate(config, str(tmp_path / "run"))
  good = [i for i in range(40) if i not in (3, 20)]
  for name in ("tiny", "tiny+ema"):
    skipped = results.pop(f"{name}:train/all/skipped")
    assert (skipped["value"], skipped["n"]) == (2, 40)
    top1 = results[f"{name}:train/all/top1_accuracy"]
    file = writers.make_file_key(f"{name}:train")
    path = tmp_path / "run/predictions" / f"{file}.npz"
    with np.load(path) as found:
      arrays = dict(found)
    assert arrays["image_id"].tolist() == [f"{i}.png" for i in good]
    assert arrays["label"].tolist() == [i % 3 for i in good]
    assert len(arrays["top5"]) == len(arrays["probs"]) == top1["n"] == 38
    hits = arrays["top5"][:, 0] == arrays["label"]
    assert top1["correct"] == hits.sum()
  keys = [key for key in results if ":train/" in key]
  assert len(keys) == len(results) / 2
  for key in keys:
    assert results[key] == results[key.replace("train", others)], key
  warnings = processes.read_json(tmp_path / "run", "warnings.json")
  assert [w["value"] for w in warnings if w["name"] == "skipped"] == [2, 2]
  # Damaged records and images count together.
  config.evaluation.sets.val.most_bad = 1
  prepared = setup.prepare(config_lib.parse(config))
  with pytest.raises(errors.InputError) as raised:
    list(prepared.evaluators["val"].split.batches(40))
  prepared.training.feed.close()
  assert "evaluation.sets.val.most_bad=2" in raised.value.fix


def test_fault_01_the_report_shows_the_images_of_the_predictions(
  tmp_path, monkeypatch
):
  folder = write_flipped(tmp_path, "tfrecord")
  config = faulty_config(folder, "tiny", split="train", on_bad_example="skip")
  config.update(steps=dict(total="2 steps"), ema=dict(decay=0.0))
  config.logging.report = True
  shown = []
  monkeypatch.setattr(
    report,
    "write_report",
    lambda workdir, lookup: shown.append(lookup("tiny:train", np.arange(39))),
  )
  loop.train_and_evaluate(config, str(tmp_path / "run"))
  # Each image is filled with its number.
  numbers = shown[0][:, 4, 4, 0].tolist()
  assert numbers == [i for i in range(40) if i != 3]


def test_fault_01_bad_examples_of_a_resumed_run(flipped_dir, tmp_path):
  """The setting that the error names may be changed when a run resumes."""
  old, new = {"input.on_bad_example": "stop"}, {"input.on_bad_example": "skip"}
  assert not config_utils.frozen_differences(old, new | {"input.most_bad": 3})


@pytest.mark.parametrize(
  ("key", "value"), [("on_bad_example", "go"), ("most_bad", -1)]
)
def test_fault_01_bad_settings_of_a_set_are_named(data_dir, key, value):
  config = make_config(data_dir)
  config.evaluation.sets.val[key] = value
  with pytest.raises(
    errors.InputError, check=raising.about(f"evaluation.sets.val.{key}")
  ):
    config_lib.parse(config)


@pytest.fixture
def resident_dir(tmp_path):
  """A set of images of one size whose record 3 is damaged."""
  records = tiny_tfds.examples(40)
  folder = tiny_tfds.write(
    tmp_path / "resident", {"train": [records[:15], records[15:]]}
  )
  (path,) = folder.glob("*.tfrecord-00000-of-00002")
  damage(path, tfrecord_index.Shard(path).offsets[3])
  return str(tmp_path / "resident")


def resident_config(data_dir, **entry):
  config = make_config(data_dir)
  config.input = dict(on_bad_example="skip")
  config.evaluation.input = {}
  config.evaluation.sets.val.update(split="train", **entry)
  config.augment.update(mixup=0.0, cutmix=0.0)
  return config


def test_fault_01_a_damaged_record_of_a_resident_set(resident_dir, tmp_path):
  config = resident_config(resident_dir)
  with pytest.raises(errors.InputError) as raised:
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert "evaluation.sets.val.on_bad_example=skip" in raised.value.fix
  config.evaluation.sets.val.on_bad_example = "skip"
  results = loop.train_and_evaluate(config, str(tmp_path / "run"))
  for name in ("tiny", "tiny+ema"):
    assert results[f"{name}:train/all/skipped"]["value"] == 1
    assert results[f"{name}:train/all/top1_accuracy"]["n"] == 39
    file = writers.make_file_key(f"{name}:train")
    path = tmp_path / "run/predictions" / f"{file}.npz"
    with np.load(path) as found:
      assert found["image_id"].tolist() == [
        f"train_{i:05d}" for i in range(40) if i != 3
      ]
  config.input = {}
  with pytest.raises(errors.InputError) as raised:
    loop.train_and_evaluate(config, str(tmp_path / "other"))
  assert "example 3 of" in raised.value.setting
  assert "input.on_bad_example=skip" in raised.value.fix


def test_images_of_one_size_need_no_input_section(tmp_path):
  config = tiny.get_config()
  config.input = dict(size=8)
  about = raising.about("input", given=["size"])
  with pytest.raises(errors.InputError, check=about):
    loop.train_and_evaluate(config, str(tmp_path))


def test_another_run_is_evaluated_from_its_checkpoint(data_dir, tmp_path):
  config = make_config(data_dir)
  results = loop.train_and_evaluate(config, str(tmp_path / "first"))
  before = sorted(p.name for p in (tmp_path / "first").rglob("*"))
  config.init = dict(source=str(tmp_path / "first"), train=False)
  config.checkpoint.best = ""
  config.evaluation.sets = dict(
    other=dict(split="train[:30]", type="classification")
  )
  again = loop.train_and_evaluate(config, str(tmp_path / "second"))
  assert again == results
  assert sorted(p.name for p in (tmp_path / "first").rglob("*")) == before


def write_imagenet_v2(data_dir, ids) -> None:
  """Writes images of classes 0 to 2, named as TFDS names them."""
  wnids = classes.imagenet_classes().wnids
  records = [
    tiny_tfds.serialize(
      {
        "image": tiny_tfds.encode(image),
        "label": i % 3,
        "file_name": f"{i % 3}/{ids[i]}.jpeg".encode(),
      }
    )
    for i, image in enumerate(pipeline_test.sizes(len(ids)))
  ]
  features = {
    "image": tiny_tfds.image_feature((None, None, 3)),
    "label": tiny_tfds.label_feature(len(wnids)),
    "file_name": tiny_tfds.text_feature(),
  }
  folder = tiny_tfds.write(
    data_dir, {"test": [records]}, name="imagenet_v2", features=features
  )
  (folder / "label.labels.txt").write_text("\n".join(wnids))


def test_multilabel_accuracy_on_imagenet_v2_in_a_run(tmp_path):
  ids = [f"{i:040x}" for i in range(12)]
  write_imagenet_v2(tmp_path, ids)
  wnids = classes.imagenet_classes().wnids
  annotated = {
    ("{}", "{}.jpeg", "9/{}.jpg")[i % 3].format(name): {
      "correct": [wnids[i % 3]],
      "unclear": wnids[6:900],
    }
    for i, name in enumerate(ids[:10])
  }
  path = tmp_path / "reviews.json"
  content = {"initial_annots": annotated, "problematic_images": {ids[9]: ""}}
  path.write_text(json.dumps(content))
  config = make_config(str(tmp_path), data__name="imagenet_v2")
  entry = dict(split="test", type="multilabel")
  config.evaluation.sets = dict(
    v2=dict(entry, options={"annotations": str(path)})
  )
  config.data.train_split = "test"
  config.steps.total, config.global_batch_size = "4 steps", 8
  config.ema.decay, config.checkpoint.best = 0.0, ""
  config.augment.update(mixup=0.0, cutmix=0.0)
  results = loop.train_and_evaluate(config, str(tmp_path / "run"))
  with np.load(tmp_path / "run/predictions/imagenet_v2-test.npz") as file:
    found = dict(file)
  assert [name[2:42] for name in found["image_id"]] == ids
  assert np.flatnonzero(found["left_out"]).tolist() == [9, 10, 11]
  top1 = found["top5"][:9, 0]
  hits = (top1 == np.arange(9) % 3) | ((top1 >= 6) & (top1 < 900))
  entry = results["imagenet_v2:test/all/multilabel_accuracy.lenient_mean"]
  assert (entry["correct"], entry["n"]) == (hits.sum(), 9)
  assert results["imagenet_v2:test/all/top1_accuracy"]["n"] == 12
