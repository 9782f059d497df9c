"""Tests that many processes do what one does."""

import json
import pathlib
import pickle
import shutil
import signal
import sys

import numpy as np
import pytest

from imgbench import errors
from imgbench.configs import tiny
from imgbench.data import order
from imgbench.parallel import processes
from imgbench.train import feeds
from imgbench.train import loop
from tests import raising
from tests.parallel import jobs
from tests.parallel import train_job
from tests.parallel import training_test
from tests.train import processes as runs
from tests.train import streamed_test

# Sums over devices are taken in another order, for sixteen steps of Adam.
CLOSE = {"rel": 1e-3, "abs": 1e-4}
# Of the two best probabilities: an example nearer than this may go either way.
MARGIN = 1e-4
WIDE = "--config.model.widths=(64,)"  # so that fsdp has something to cut
SELDOM = "--config.evaluation.every=never"


def run_alone(workdir, *overrides: str, devices: int = 1) -> None:
  """A tiny run in one process."""
  jobs.run(workdir, *overrides, count=1, devices=devices)


def metrics(workdir) -> dict[tuple[int, str], float]:
  """(step, name) -> value of metrics.jsonl, without times."""
  return {
    (record["step"], name): value
    for record in runs.read_metrics(workdir)
    for name, value in record.items()
  }


def counted(workdir) -> dict[str, tuple[int, int | None]]:
  """Integers of results.json."""
  results = runs.read_json(workdir, "results.json")
  return {name: (r["n"], r["correct"]) for name, r in results.items()}


def digests(workdir) -> dict[str, int]:
  """Returns the digests of the arrays of the last checkpoint."""
  path = pathlib.Path(workdir) / "checkpoints/16/meta/metadata"
  return json.loads(json.loads(path.read_text())["text"])["digests"]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_streams_of_processes_are_disjoint_and_complete(count):
  size, batch = 48, 8
  examples = order.ExampleOrder(size, 3)
  whole = feeds.ResidentFeed(examples, batch).batch_at(0, 2 * size // batch)
  shares = [processes.share(batch, i, count) for i in range(count)]
  parts = [feeds.ResidentFeed(examples, batch, own) for own in shares]
  rows = np.concatenate(
    [
      part.batch_at(0, 2 * size // batch)["index"].reshape(-1, batch // count)
      for part in parts
    ],
    axis=1,
  )
  np.testing.assert_array_equal(rows.reshape(-1), whole["index"])
  epochs = rows.reshape(2, size)
  np.testing.assert_array_equal(np.sort(epochs), [np.arange(size)] * 2)


@pytest.mark.parametrize(
  "flags, setting, given",
  [
    (dict(address="host:1"), "--num_processes, --process_id", "none"),
    (dict(count=2, index=0), "--coordinator_address", "none"),
    (dict(address="host:1", count=2, index=2), "--process_id", 2),
    (dict(address="host", count=2, index=0), "--coordinator_address", "'host'"),
    (
      dict(address="host:1", count=2, index=0, silent_s=0),
      "--process_timeout_s",
      0,
    ),
  ],
)
def test_flags_that_do_not_fit(flags, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    processes.join(**flags)


def test_one_process_is_alone():
  assert processes.join() is processes.ALONE
  assert processes.join(count=1) is processes.ALONE


def test_two_processes_train_and_only_the_first_writes(tmp_path):
  short = "--config.steps.total=4 steps"
  job = jobs.run(tmp_path / "two", short, SELDOM)
  config = tiny.get_config()
  config.steps.total = "4 steps"
  config.evaluation.every = "never"
  config.logging.update(report=False, tensorboard=False)
  loop.train_and_evaluate(config, str(tmp_path / "one"))
  assert counted(tmp_path / "two") == counted(tmp_path / "one")
  expected = pytest.approx(metrics(tmp_path / "one"), **CLOSE)
  assert metrics(tmp_path / "two") == expected
  assert "scenes:validation" in job.log(0)
  assert "scenes:validation" not in job.log(1) and "step 3/4" not in job.log(1)
  assert runs.read_json(tmp_path / "two", "status.json")["state"] == "done"


@pytest.mark.slow
def test_steps_of_a_slurm_job_find_each_other(tmp_path):
  """And their finished run tells its results again."""
  short = "--config.steps.total=2 steps"
  job = jobs.start(tmp_path / "run", short, SELDOM, slurm=True)
  assert job.wait() == [0, 0], job.logs()
  assert "in 2 processes" in job.log(0) and "process 1 of 2" in job.log(1)
  again = jobs.run(tmp_path / "run", short, SELDOM)
  assert "is done already" in again.log(0)
  assert "top1_accuracy" in again.log(0)
  assert "top1_accuracy" not in again.log(1)
  assert "reading" not in again.logs()


@pytest.mark.slow
@pytest.mark.parametrize(
  "count, devices, names",
  [
    (2, 2, ["jit", "pmap", "fsdp", "pmap per device"]),
    # Other processes than above hold the parts of a parameter.
    (4, 1, ["fsdp"]),
  ],
)
def test_training_is_that_of_one_device(tmp_path, count, devices, names):
  """Loss and parameters of jit, pmap, fsdp; BatchNorm of both kinds."""
  jobs.run_script(
    pathlib.Path(train_job.__file__),
    *(f"--out={tmp_path}", "--names", *names),
    **dict(count=count, devices=devices, folder=tmp_path),
  )
  found = pickle.loads((tmp_path / "found.pickle").read_bytes())
  assert list(found) == names
  for name in names:
    expected = training_test.alone()
    if name == "pmap per device":
      # The same as in one process with as many devices.
      settings = {"devices": count * devices, **train_job.SETTINGS[name]}
      expected = training_test.train(training_test.config_of(**settings))
    training_test.assert_same(found[name], expected)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
  """A run of one process with one device; not changed by tests."""
  workdir = tmp_path_factory.mktemp("alone") / "whole"
  run_alone(workdir, WIDE)
  return workdir


@pytest.fixture(scope="module")
def saved_at_half(tmp_path_factory) -> pathlib.Path:
  """A run of two processes with two devices each, stopped at step 8 of 16.

  Tests resume copies of it.
  """
  folder = tmp_path_factory.mktemp("half") / "saved"
  job = jobs.start(folder, WIDE, "--config.parallel.fsdp=4", devices=2)
  job.wait_for(jobs.has_step(folder, 8))
  job.processes[1].send_signal(signal.SIGTERM)
  assert job.wait() == [errors.EXIT_PREEMPTED] * 2, job.logs()
  return folder


@pytest.mark.slow
def test_saved_by_two_restored_by_one_and_by_four(
  tmp_path, whole, saved_at_half
):
  """And from fsdp to one device, to pmap and to two processes with jit."""
  expected = pytest.approx(metrics(whole), **CLOSE)
  for name, count, devices, settings in (
    ("one", 1, 1, ()),
    ("four", 4, 1, ("--config.parallel.strategy=pmap",)),
    ("same", 2, 2, ("--config.parallel.fsdp=2",)),
  ):
    workdir = tmp_path / name
    shutil.copytree(saved_at_half, workdir)
    job = jobs.run(workdir, WIDE, *settings, count=count, devices=devices)
    assert "resuming at step" in job.log(0)
    assert metrics(workdir) == expected
    assert counted(workdir) == counted(whole)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_stopped_and_resumed_processes_end_like_unbroken_ones(
  tmp_path, strategy
):
  """Bit for bit, as one process does."""
  how = f"--config.parallel.strategy={strategy}"
  jobs.run(tmp_path / "whole", how)
  stopped = jobs.start(tmp_path / "stopped", how)
  stopped.wait_for(jobs.has_step(tmp_path / "stopped", 3))
  stopped.processes[1].send_signal(signal.SIGTERM)
  assert stopped.wait() == [errors.EXIT_PREEMPTED] * 2, stopped.logs()
  jobs.run(tmp_path / "stopped", how)
  assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")
  assert metrics(tmp_path / "stopped") == metrics(tmp_path / "whole")
  whole, again = (
    (tmp_path / name / "results.json").read_text()
    for name in ("whole", "stopped")
  )
  assert whole == again


@pytest.mark.slow
def test_a_damaged_shard_is_found_by_all(tmp_path, saved_at_half):
  saved = tmp_path / "run"
  shutil.copytree(saved_at_half, saved)
  steps = sorted(int(p.name) for p in (saved / "checkpoints").glob("[0-9]*"))
  newest = saved / "checkpoints" / str(steps[-1])
  # What the second process has written.
  for path in (newest / "state").rglob("*"):
    if path.is_file() and "process_1" in str(path):
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  job = jobs.run(saved, WIDE, "--config.parallel.fsdp=4", devices=2)
  assert f": {newest.name} (" in job.log(0) and "damaged" in job.log(0)
  assert f"resuming at step {steps[-2]}" in job.log(0)
  assert (saved / "damaged_checkpoints" / str(steps[-1])).is_dir()


@pytest.mark.slow
def test_a_checkpoint_is_evaluated_alike_by_any_number(tmp_path, whole):
  """Uneven last batches: 72 and 48 examples in batches of 32."""
  source = f"--config.init.source={whole}"
  begin = (WIDE, source, "--config.init.train=False")
  found = {}
  for name, count, devices, strategy in (
    ("1", 1, 1, "jit"),
    ("8", 1, 8, "jit"),
    ("2x4", 2, 4, "jit"),
    ("2x4 pmap", 2, 4, "pmap"),
  ):
    workdir = tmp_path / name
    how = f"--config.parallel.strategy={strategy}"
    jobs.run(workdir, *begin, how, count=count, devices=devices)
    found[name] = workdir
  differing = {
    name: _differing(found["1"], workdir) for name, workdir in found.items()
  }
  print("other predictions than one device's:", differing)
  for name, workdir in found.items():
    if not differing[name]:
      assert counted(workdir) == counted(found["1"])


@pytest.mark.slow
def test_processes_start_from_a_run_of_one(tmp_path):
  """Its batch is no multiple of the devices."""
  short = ("--config.steps.total=2 steps", SELDOM)
  odd = "--config.global_batch_size=15"
  jobs.run(tmp_path / "source", *short, odd, count=1)
  source = f"--config.init.source={tmp_path / 'source'}"
  for name, count in (("one", 1), ("two", 2)):
    jobs.run(tmp_path / name, *short, source, count=count)
  assert counted(tmp_path / "two") == counted(tmp_path / "one")
  expected = pytest.approx(metrics(tmp_path / "one"), **CLOSE)
  assert metrics(tmp_path / "two") == expected


_SKIPPING = """
from tests.train import streamed_test


def get_config():
  config = streamed_test.faulty_config(
    {folder!r}, "tiny", split="train", on_bad_example="skip"
  )
  config.steps.total = "2 steps"
  return config
"""


@pytest.mark.slow
def test_fault_01_processes_skip_the_same_examples(tmp_path):
  """A damaged record is known to all, an image to one that decodes it."""
  folder = streamed_test.write_flipped(tmp_path, "tfrecord", damaged=[20])
  config = tmp_path / "skipping.py"
  config.write_text(_SKIPPING.format(folder=folder))
  found = {}
  for count, devices in ((1, 2), (2, 1)):
    workdir = tmp_path / str(count)
    command = [sys.executable, "-m", "imgbench.main", f"--config={config}"]
    command += [f"--workdir={workdir}", "--config.parallel.devices=0"]
    logs = tmp_path / f"{count}.logs"
    job = jobs.Job(command, count, devices, logs)
    assert job.wait() == [0] * count, job.logs()
    found[count] = counted(workdir)
    results = runs.read_json(workdir, "results.json")
    assert results["tiny:train/all/skipped"]["value"] == 2
    with np.load(workdir / "predictions/tiny-train.npz") as arrays:
      assert len({*arrays["image_id"].tolist()} - {"3.png", "20.png"}) == 38
      assert len(arrays["image_id"]) == 38
  assert found[1] == found[2]


def _differing(one: pathlib.Path, other: pathlib.Path) -> list[str]:
  """Ids of examples predicted otherwise, all of them nearly ties."""
  ids = []
  for split in ("scenes-validation", "scenes-v2"):
    a, b = (np.load(w / f"predictions/{split}.npz") for w in (one, other))
    np.testing.assert_array_equal(a["image_id"], b["image_id"])
    margin = a["top5_prob"][:, 0] - a["top5_prob"][:, 1]
    differs = a["top5"][:, 0] != b["top5"][:, 0]
    assert (margin[differs] < MARGIN).all()
    ids += a["image_id"][differs].tolist()
  return ids
