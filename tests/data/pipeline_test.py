"""Tests of the pipeline: every example in its slot, in any stretch."""

import threading

import numpy as np
import pytest

from imgbench import errors
from imgbench.data import decode
from imgbench.data import encoded
from imgbench.data import order
from imgbench.data import pipeline
from imgbench.data import source
from tests import raising
from tests.data import tiny_tfds

SIZE = 6


def sizes(count: int):
  """Yields images of many sizes, each filled with its number."""
  rng = np.random.default_rng(0)
  for number in range(count):
    height, width = rng.integers(5, 30, 2)
    yield np.full((height, width, 3), number, np.uint8)


def write(folder, count=40, file_format="array_record", damaged=()):
  records = []
  for number, image in enumerate(sizes(count)):
    data = tiny_tfds.encode(image)
    if number in damaged:
      data = data[: len(data) // 2]
    fields = {"image": data, "label": number % 3}
    fields["file_name"] = f"{number}.png".encode()
    records.append(tiny_tfds.serialize(fields))
  tiny_tfds.write(
    folder,
    {"train": [records[:15], records[15:]]},
    file_format=file_format,
    features={
      "image": tiny_tfds.image_feature((None, None, 3)),
      "label": tiny_tfds.label_feature(),
      "file_name": tiny_tfds.text_feature(),
    },
  )
  return encoded.TfdsEncodedSource("tiny", "train", str(folder))


def whole(decoder, data, out, rng):
  """The whole image, and a random number in its first pixel."""
  decoder.crop_resize(data, out, lambda h, w: (0, 0, h, w), "bilinear")
  if rng is not None:
    out[0, 0, 0] = rng.integers(256)


def build(split, seed=None, **settings):
  return pipeline.Pipeline(
    split, whole, SIZE, decoder=decode.build_decoder(), seed=seed, **settings
  )


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
@pytest.mark.parametrize("threads", [1, 5])
def test_every_slot_holds_its_example(tmp_path, threads, file_format):
  split = write(tmp_path, file_format=file_format)
  orders = list(pipeline.evaluation_orders(40, 16))
  batches = list(build(split, threads=threads).batches(orders))
  assert [batch.image.shape for batch in batches] == [(16, 6, 6, 3)] * 3
  index = np.concatenate([batch.index for batch in batches])
  assert index.tolist() == [*range(40), *[39] * 8]
  image = np.concatenate([batch.image for batch in batches])
  assert (image == index[:, None, None, None]).all()
  label = np.concatenate([batch.label for batch in batches])
  assert (label == index % 3).all()


def stream(feed, start, steps, batch=7):
  """Returns batches of steps [start, start + steps) in a shuffled order."""
  examples = order.ExampleOrder(40, seed=3)
  orders = []
  for step in range(start, start + steps):
    part = examples.take(step * batch, batch)
    orders.append((part["index"], part["epoch"]))
  return list(feed.batches(orders))


@pytest.mark.parametrize("threads", [1, 4])
def test_what_is_drawn_depends_on_seed_epoch_and_example_alone(
  tmp_path, threads
):
  split = write(tmp_path)
  first = stream(build(split, seed=1, threads=1), 0, 20)
  again = stream(build(split, seed=1, threads=threads, prefetch=3), 9, 11)
  for a, b in zip(first[9:], again, strict=True):
    for field in ("image", "label", "index", "epoch"):
      np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
  other = stream(build(split, seed=2), 0, 20)
  drawn = lambda batches: np.concatenate([b.image[:, 0, 0, 0] for b in batches])
  assert (drawn(first) != drawn(other)).mean() > 0.9
  # An example is augmented differently in each epoch.
  seen = {}
  for batch in first:
    for i, number in enumerate(batch.index):
      seen.setdefault(int(number), []).append(int(batch.image[i, 0, 0, 0]))
  assert np.mean([len(set(values)) == len(values) for values in seen.values()])
  assert all(len(values) >= 3 for values in seen.values())


def test_a_damaged_image_is_named(tmp_path):
  split = write(tmp_path, damaged=[17])
  where = split.where(17)
  with pytest.raises(errors.InputError, check=raising.about(where)):
    list(build(split).batches(pipeline.evaluation_orders(40, 16)))
  for part in (
    "tiny:train",
    "example 17",
    "17.png",
    "example 2 of",
    "00001-of",
  ):
    assert part in where, part


def test_damaged_images_are_replaced_up_to_a_bound(tmp_path):
  split = write(tmp_path, damaged=[3, 16, 17])
  orders = list(pipeline.evaluation_orders(40, 8))
  skip = lambda most: source.BadExamples("input", "skip", most)
  batches = list(build(split, bad=skip(3)).batches(orders))
  # Each by the one before it in its batch, the first by the next good one.
  assert batches[0].image[3].max() == 2 and batches[0].label[3] == 2
  assert batches[2].image[0].max() == 18 and batches[2].label[1] == 0
  # Twice the same image is one bad image.
  assert len(list(build(split, bad=skip(3)).batches(orders * 2))) == 10
  with pytest.raises(errors.InputError) as caught:
    list(build(split, bad=skip(2)).batches(orders))
  assert caught.value.setting in map(split.where, (3, 16, 17))
  assert "input.most_bad=3" in caught.value.fix
  marked = build(split, bad=skip(3), replaces_bad=False).batches(orders)
  bad = np.concatenate([batch.bad for batch in marked])
  assert np.flatnonzero(bad).tolist() == [3, 16, 17]


def test_closing_stops_the_threads(tmp_path):
  split = write(tmp_path)
  before = threading.active_count()
  batches = build(split, threads=3, prefetch=4).batches(
    pipeline.evaluation_orders(40, 4)
  )
  next(batches)
  assert threading.active_count() > before
  batches.close()
  assert threading.active_count() == before


@pytest.mark.parametrize(
  "setting, value, expected",
  [
    ("threads", -1, "at least 0"),
    ("prefetch", 0, "at least 1"),
  ],
)
def test_bad_settings_are_named(tmp_path, setting, value, expected):
  about = raising.about(setting, expected=expected, given=value)
  with pytest.raises(errors.InputError, check=about):
    build(write(tmp_path), **{setting: value})
