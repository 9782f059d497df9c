"""Tests of the input benchmark on small files: rows, batches."""

import itertools
import multiprocessing
import subprocess
import sys
import time

import numpy as np
import pytest

from imgbench import errors
from imgbench import timing
from imgbench.bench import rows as rows_lib
from imgbench.data import decode
from imgbench.data import turbo
from imgbench.experiments.benchmarks.input import __main__ as input_bench
from imgbench.experiments.benchmarks.input import ours as input_ours
from imgbench.experiments.benchmarks.input import peers as baselines
from imgbench.experiments.benchmarks.input import rounds
from tests import raising
from tests.data import tiny_tfds
from tests.train import processes

# 28 / 0.875 is whole, so that every tool takes the same pixels.
IMAGES, BATCH, SIZE = 20, 8, 28
ROWS = (
  "decode_whole_simplejpeg_images_per_s",
  "decode_whole_pillow_cpu_over_simplejpeg",
  "decode_crop_opencv_cpu_ms",
  "decode_crop_simplejpeg_over_simplejpeg_fast",
  "decode_crop_simplejpeg_over_pillow",
  "train_imgbench_images_per_s",
  "train_imgbench_images_per_s_per_core",
  "train_imgbench_cpu_ms",
  "eval_imgbench_images_per_s",
  "wait_1.0x_ms",
  "wait_2.0x_share",
)
ROWS_ONCE = (
  "start_process_s",
  "start_first_batch_s",
  "resume_process_s",
  "resume_first_batch_s",
  "resume_order_of_imagenet_s",
  "memory_range_bytes",
  "memory_growth_bytes",
)


def photo(number: int) -> np.ndarray:
  """Returns a smooth picture; size and content depend on the number."""
  rng = np.random.default_rng(number)
  height, width = rng.integers(40, 70, 2)
  y, x = np.arange(height)[:, None, None], np.arange(width)[:, None]
  waves = np.sin(y / rng.uniform(9, 20, 3) + x / rng.uniform(9, 20, 3))
  return (127.5 + 90 * waves + rng.uniform(-30, 30)).astype(np.uint8)


def write(folder, image_format="JPEG"):
  records = []
  for number in range(IMAGES):
    data = tiny_tfds.encode(photo(number), image_format)
    fields = {"image": data, "label": number % 3}
    records.append(tiny_tfds.serialize(fields))
  tiny_tfds.write(
    folder,
    {"train": [records[:7], records[7:]]},
    file_format="array_record",
    features={
      "image": tiny_tfds.image_feature((None, None, 3)),
      "label": tiny_tfds.label_feature(),
    },
  )
  return folder


def open_work(data_dir, **settings):
  return input_ours.open_work(
    **{
      "data_dir": str(data_dir),
      "dataset": "tiny",
      "split": "train",
      "images": IMAGES,
      "batch": BATCH,
      "size": SIZE,
      **settings,
    }
  )


def run(folder, *arguments):
  return subprocess.run(
    [
      *(sys.executable, "-m", "imgbench.bench.input", f"--data_dir={folder}"),
      *("--dataset=tiny", "--nopeers", f"--batch={BATCH}", f"--size={SIZE}"),
      *arguments,
    ],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.slow
def test_prints_and_writes_every_row(tmp_path):
  out = tmp_path / "rows" / "input"
  result = run(
    write(tmp_path / "data"),
    *(f"--images={IMAGES}", "--rounds=2", "--starts=1", f"--out={out}"),
  )
  assert result.returncode == 0, result.stderr
  folder = rows_lib.read_folder(out)
  found = {row.key.name: row for row in folder.rows}
  names = ROWS if turbo.missing() else (*ROWS, "decode_crop_turbo_cpu_ms")
  counts = dict.fromkeys(names, 2) | dict.fromkeys(ROWS_ONCE, 1)
  for name, count in counts.items():
    assert name in result.stdout
    assert found[name].processes == count, name
  for name in ROWS[:9] + ROWS_ONCE[:-2]:
    assert found[name].rate_low > 0, name
  assert found["memory_bytes"].processes == 10
  assert folder.config["images"] == IMAGES and folder.environment["commit"]
  assert folder.config["decoder_version"] == decode.build_decoder().version


def test_a_folder_that_is_not_there_ends_in_one_line(tmp_path):
  result = run(tmp_path / "nothing")
  assert result.returncode == 2
  assert "error: --data_dir: " in result.stderr.splitlines()[-1]


def test_an_unknown_decoder_ends_in_one_line(tmp_path):
  result = run(write(tmp_path), "--images=8", "--decoder=djpeg")
  assert result.returncode == 2
  assert "decoder: " in result.stderr.splitlines()[-1]


def test_more_images_than_there_are_are_refused(tmp_path):
  write(tmp_path)
  with pytest.raises(
    errors.InputError, check=raising.about("--images", given=21)
  ):
    open_work(tmp_path, images=21)


def test_an_image_that_is_no_jpeg_is_named(tmp_path):
  work = open_work(write(tmp_path, "PNG"))
  check = raising.about(work.split.where(0), given="another format")
  with pytest.raises(errors.InputError, check=check):
    input_bench.check_jpegs(work)


def ours(
  train=input_ours.stream_training, evaluate=input_ours.stream_evaluation
):
  return {"other": baselines.InputBaseline((), train, evaluate, "")}


def changed(stream, image=lambda image: image, label=lambda label: label):
  def build(work):
    for images, labels in stream(work):
      yield image(images), label(labels)

  return build


TRAIN, EVAL = input_ours.stream_training, input_ours.stream_evaluation


@pytest.mark.parametrize(
  "baseline, words",
  [
    (ours(changed(TRAIN, lambda x: x[:, :-1])), r"\(8, 27, 28, 3\)"),
    (ours(changed(TRAIN, lambda x: x / 255)), "float64"),
    (ours(changed(TRAIN, label=lambda x: x + 3)), "labels"),
    (ours(TRAIN, changed(EVAL, lambda x: x[:, 1:])), "evaluation"),
    (ours(TRAIN, changed(EVAL, label=lambda x: x[::-1])), "examples"),
    (ours(TRAIN, changed(EVAL, lambda x: x[::-1])), "crops"),
  ],
)
def test_a_baseline_with_other_batches_is_refused(tmp_path, baseline, words):
  with pytest.raises(errors.RunError, match=f"^other: .*{words}"):
    input_bench.compare(open_work(write(tmp_path)), baseline)


def test_our_own_batches_are_no_level_off(tmp_path):
  rows = input_bench.compare(open_work(write(tmp_path)), ours())
  assert rows["eval_other_levels_off"].values == [0.0]


@pytest.mark.parametrize("name", sorted(baselines.BASELINES))
def test_installed_baselines_make_the_same_batches(tmp_path, name):
  if baselines.find_versions()[name] is None:
    pytest.skip(f"{name} is not installed")
  (tmp_path / "copy").mkdir()
  work = open_work(write(tmp_path / "data"), folder=str(tmp_path / "copy"))
  baselines.copy(work)
  rows = input_bench.compare(work, {name: baselines.BASELINES[name]})
  assert rows[f"eval_{name}_levels_off"].values[0] < 6


def test_pytorchs_images_are_ours_in_evaluation(tmp_path):
  """Needs Pillow only; boxes and rounding are those of torchvision."""
  (tmp_path / "copy").mkdir()
  work = open_work(write(tmp_path / "data"), folder=str(tmp_path / "copy"))
  baselines.copy(work)
  files = baselines._JpegFiles(work, train=False)
  assert len(files) == IMAGES
  image, label = next(input_ours.stream_evaluation(work))
  for index in range(BATCH):
    theirs, their_label = files[index]
    assert their_label == label[index] == index % 3
    assert np.abs(theirs.astype(int) - image[index]).max() <= 3


def test_batches_of_indices_never_end(tmp_path):
  work = open_work(write(tmp_path))
  take = lambda train, count: list(
    itertools.islice(baselines._Batches(work, train), count)
  )
  passes = take(False, 6)
  assert sum(passes[:3], []) == sum(passes[3:], []) == list(range(IMAGES))
  train = take(True, 5)
  assert all(len(batch) == BATCH for batch in train)
  assert sorted(sum(train, [])) == sorted(2 * list(range(IMAGES)))


def test_each_is_warmed_and_timed_in_rotated_order(monkeypatch):
  now = {"clock": 0.0, "cpu": 0.0}
  monkeypatch.setattr(timing, "clock", lambda: now["clock"])
  monkeypatch.setattr(rounds, "read_cpu_seconds", lambda: now["cpu"])
  monkeypatch.setattr(rounds, "settle", lambda: None)
  seen = []

  def tool(name, seconds, images):
    def call():
      seen.append(name)
      now["clock"] += seconds
      now["cpu"] += 2 * seconds

    return rounds.Tool(call, lambda: seen.append(name.upper()), images)

  tools = {"a": tool("a", 0.5, 10), "b": tool("b", 2.0, 20)}
  rows = rounds.measure("x", tools, 2)
  assert "".join(seen) == "AaBb" + "BbAa" + "AaBb"
  assert rows["x_a_images_per_s"].values == [20, 20]
  assert rows["x_b_cpu_ms"].values == [200, 200]
  assert rows["x_a_over_b"].values == [2, 2]
  assert rows["x_b_cpu_over_a"].values == [2, 2]


def test_the_time_of_workers_counts():
  context = multiprocessing.get_context("spawn")
  worker = context.Process(target=sum, args=(range(10**10),))
  worker.start()
  try:
    others = lambda: rounds.read_cpu_seconds() - time.process_time()
    deadline = time.monotonic() + 20
    while others() < 0.1 and time.monotonic() < deadline:
      time.sleep(0.05)
    assert others() >= 0.1
  finally:
    worker.kill()
    worker.join()


def test_waiting_is_what_a_consumer_waits():
  def slow():
    while True:
      time.sleep(0.02)
      yield np.zeros(3, np.uint8), None

  waited_s = input_bench._consume(slow(), 3, 0.0)
  assert waited_s >= 0.06
