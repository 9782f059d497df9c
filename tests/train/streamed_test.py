"""Tests of runs whose images are decoded on the way, on a tiny TFDS folder."""

import logging
import signal

import numpy as np
import pytest

from configs import tiny
from imgbench import config as config_lib
from imgbench import errors
from imgbench import writers
from imgbench.data import encoded
from imgbench.data import input_pipelines
from imgbench.data import order
from imgbench.data import tfrecord_index
from imgbench.evaluators import base
from imgbench.parallel import processes as processes_lib
from imgbench.train import feeds
from imgbench.train import loop
from imgbench.train import setup
from tests import raising
from tests.data import pipeline_test
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
    ("checkpoint.init_from", "nowhere"),
  ],
)
def test_bad_settings_are_named(data_dir, tmp_path, key, value):
  config = make_config(data_dir, **{key.replace(".", "__"): value})
  with pytest.raises(errors.InputError) as raised:
    loop.train_and_evaluate(config, str(tmp_path))
  assert raised.value.setting == key


@pytest.fixture
def flipped_dir(tmp_path):
  """A set as TFRecords, with one bit of the label of example 3 flipped."""
  folder = tmp_path / "flipped"
  pipeline_test.write(folder, file_format="tfrecord")
  (path,) = folder.rglob("*.tfrecord-00000-of-00002")
  begin = int(tfrecord_index.Shard(path).offsets[3])
  data = bytearray(path.read_bytes())
  record = data[begin:]
  # After the name: tag and length of the feature, of its list, of its numbers.
  data[begin + record.index(b"label") + len(b"label") + 6] ^= 1
  path.write_bytes(data)
  return str(folder)


def test_fault_01_a_flipped_bit_ends_the_run(flipped_dir, tmp_path):
  config = make_config(flipped_dir)
  config.evaluation.sets, config.checkpoint.best = {}, ""
  with pytest.raises(errors.InputError) as raised:
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert "example 3 of" in raised.value.setting


def test_fault_01_a_damaged_record_is_replaced_in_training_if_asked(
  flipped_dir, tmp_path, caplog
):
  caplog.set_level(logging.WARNING, logger="absl")
  config = make_config(flipped_dir)
  config.input.on_bad_example = "skip"
  config.evaluation.sets, config.checkpoint.best = {}, ""
  loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert "1 of at most 100" in caplog.text


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
  config.checkpoint.update(init_from=str(tmp_path / "first"), best="")
  config.evaluation.sets = dict(
    other=dict(split="train[:30]", type="classification")
  )
  again = loop.train_and_evaluate(config, str(tmp_path / "second"))
  assert again == results
  assert sorted(p.name for p in (tmp_path / "first").rglob("*")) == before
