"""Tests of runs whose workdir is in a bucket, on a server of this machine."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from etils import epath
import numpy as np
import pytest

from imgbench import bucket_lock
from imgbench import errors
from imgbench import living
from imgbench import paths
from imgbench import run_files
from imgbench import writers
from tests import raising
from tests.launch import buckets
from tests.launch import sweeps
from tests.parallel import jobs
from tests.train import processes

pytestmark = pytest.mark.skipif(
  bool(buckets.lacking()), reason=buckets.lacking() or "-"
)


@pytest.fixture(scope="module")
def bucket():
  with buckets.served() as found, pytest.MonkeyPatch.context() as patch:
    for name, value in buckets.variables(found.address).items():
      patch.setenv(name, value)
    yield found


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("unbroken")
  result = processes.run(workdir)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  return workdir


def address(folder: str) -> str:
  return f"gs://{buckets.NAME}/{folder}"


def check_same_run(bucket, folder: str, unbroken) -> None:
  """Checks that the bucket has the files that a run leaves on a disk."""
  on_disk = {str(p.relative_to(unbroken)) for p in unbroken.rglob("*")}
  last = "checkpoints/16/meta/metadata"
  for name in (last, "results.json", "warnings.json", "per_class.csv"):
    found = bucket.read(f"{folder}/{name}")
    if name == last:
      digests = lambda t: json.loads(json.loads(t)["text"])["digests"]
      assert digests(found) == digests((unbroken / name).read_bytes())
    else:
      assert found == (unbroken / name).read_bytes()
  clean = lambda text: [
    {k: v for k, v in json.loads(line).items() if not processes.is_time(k)}
    for line in text.splitlines()
  ]
  lines = bucket.read(f"{folder}/metrics.jsonl")
  assert clean(lines) == clean((unbroken / "metrics.jsonl").read_bytes())
  name = "predictions/scenes-validation.npz"
  with (
    np.load(io.BytesIO(bucket.read(f"{folder}/{name}"))) as a,
    np.load(unbroken / name) as b,
  ):
    for key in b.files:
      np.testing.assert_array_equal(a[key], b[key])
  names = [name for name in bucket.names(folder) if "events" not in name]
  outside = lambda names: {n for n in names if "checkpoints" not in n}
  wanted = {n for n in on_disk if (unbroken / n).is_file()} - {".lock"}
  assert outside(names) == {n for n in outside(wanted) if "events" not in n}


def test_files_are_written_and_cut_back(bucket):
  folder = paths.as_path(address("parts"))
  assert run_files.read_json(folder / "status.json") is None
  run_files.write_status(folder, run_files.RUNNING, step=1)
  run_files.write_status(folder, run_files.RUNNING, step=2)
  assert run_files.read_json(folder / "status.json")["step"] == 2
  writer = writers.MetricWriter(folder, 0)
  for step in (1, 2, 3):
    writer.write(step, {"train/loss": 1.0 / step})
  assert b"step" not in bucket.read("parts/metrics.jsonl")
  writer.flush()
  before = bucket.read("parts/metrics.jsonl")
  assert len(before.splitlines()) == 3
  writer.write(4, {"train/loss": 0.0})
  writer.close()
  writers.MetricWriter(folder, 3).close()
  assert bucket.read("parts/metrics.jsonl") == before
  assert any("events" in name for name in bucket.names("parts"))
  assert run_files.read_json(folder / "status.json")["state"] == "running"


def test_one_process_at_a_time(bucket):
  folder = paths.as_path(address("locked"))
  with run_files.locked(folder):
    assert bucket.read_json("locked/.lock")["process"]["pid"] == os.getpid()
    with (
      pytest.raises(errors.InputError, check=raising.about(str(folder))),
      run_files.locked(folder),
    ):
      pass
  assert bucket.names("locked") == []


def test_a_dead_owner_of_this_machine_is_seen_at_once(bucket):
  ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
  owner = {
    "token": "a",
    "beats": 0,
    "process": living.describe_process(ended.pid),
  }
  bucket.write("dead/.lock", json.dumps(owner).encode())
  folder = paths.as_path(address("dead"))
  given = f"process {ended.pid} on {owner['process']['host']}"
  check = raising.about(str(folder), given=given)
  with pytest.raises(errors.InputError, check=check):
    run_files.locked(folder).__enter__()
  ended.communicate()
  with run_files.locked(folder):
    assert bucket.read_json("dead/.lock")["token"] != "a"


def test_a_silent_owner_elsewhere_loses_the_lock(bucket, monkeypatch):
  monkeypatch.setattr(bucket_lock, "SILENT_S", 0.4)
  monkeypatch.setattr(bucket_lock, "LOOK_S", 0.1)
  process = {**living.describe_process(os.getpid()), "host": "elsewhere"}
  owner = {"token": "a", "beats": 0, "process": process}
  bucket.write("elsewhere/.lock", json.dumps(owner).encode())
  with run_files.locked(paths.as_path(address("elsewhere"))):
    assert bucket.read_json("elsewhere/.lock")["token"] != "a"


def test_a_live_owner_on_a_machine_of_this_name_keeps_the_lock(
  bucket, monkeypatch
):
  monkeypatch.setattr(bucket_lock, "LOOK_S", 0.1)
  process = {**living.describe_process(os.getpid()), "boot": "another"}
  owner = {"token": "a", "beats": 0, "process": process}
  bucket.write("named/.lock", json.dumps(owner).encode())
  beat = json.dumps({**owner, "beats": 1}).encode()
  timer = threading.Timer(0.5, bucket.write, ["named/.lock", beat])
  timer.start()
  check = raising.about(address("named"))
  with pytest.raises(errors.InputError, check=check):
    run_files.locked(paths.as_path(address("named"))).__enter__()
  timer.join()
  assert bucket.read_json("named/.lock")["token"] == "a"


def test_a_new_lock_is_kept(bucket, monkeypatch):
  process = living.describe_process(os.getpid())
  owner = {"token": "a", "beats": 0, "process": process}
  bucket.write("raced/.lock", json.dumps(owner).encode())
  read, seen = bucket_lock._Lock._read, []

  def read_late(lock):
    """Finds nothing at first, as between two owners."""
    seen.append(lock)
    return read(lock) if len(seen) > 1 else None

  monkeypatch.setattr(bucket_lock._Lock, "_read", read_late)
  check = raising.about(address("raced"))
  with pytest.raises(errors.InputError, check=check):
    run_files.locked(paths.as_path(address("raced"))).__enter__()
  assert bucket.read_json("raced/.lock")["token"] == "a"


def test_a_live_owner_updates_the_lock(bucket, monkeypatch):
  monkeypatch.setattr(bucket_lock, "BEAT_S", 0.05)
  with run_files.locked(paths.as_path(address("beats"))):
    deadline = time.monotonic() + sweeps.TIMEOUT_S
    while bucket.read_json("beats/.lock")["beats"] < 3:
      assert time.monotonic() < deadline
  assert bucket.names("beats") == []


@pytest.mark.parametrize(
  "text", ["s3://bucket/run", "gs://bucket", "gs:///run"]
)
def test_invalid_addresses(text):
  check = raising.about("folder", given=text)
  with pytest.raises(errors.InputError, check=check):
    paths.as_path(text)


def test_paths_of_one_type():
  for text in ("runs/x", "/runs/x", "gs://bucket/run"):
    path = paths.as_path(text)
    assert isinstance(path, epath.Path) and str(path / "a") == f"{text}/a"
    assert str(paths.as_path(f"{text}/")) == text
  assert paths.make_absolute(path) == path
  local = paths.make_absolute(paths.as_path("x"))
  assert str(local) == os.path.abspath("x")


class Unreachable:
  """File system whose requests raise, or block until the test ends."""

  def __init__(self, error=None):
    self._error = error
    self.ended = threading.Event()

  def info(self, path):
    if self._error is not None:
      raise self._error
    self.ended.wait()


@pytest.mark.parametrize(
  "error", [None, ConnectionRefusedError("refused"), PermissionError("denied")]
)
def test_fault_16_an_unreachable_bucket_is_an_error(monkeypatch, error):
  buckets_fs = Unreachable(error)
  monkeypatch.setattr(paths, "REACH_S", 0.1)
  monkeypatch.setattr(paths, "get_bucket_filesystem", lambda: buckets_fs)
  given = str(error) if error else "none in 0 s"
  check = raising.about("--workdir", given=given)
  with pytest.raises(errors.InputError, check=check):
    paths.reach(address("run"), "--workdir")
  buckets_fs.ended.set()


def test_fault_16_a_bucket_that_answers_is_reached(bucket):
  assert str(paths.reach(address("none"), "--workdir")) == address("none")
  assert paths.reach("gs://no-such-bucket/run") is not None


def test_fault_16_local_folders_are_not_asked(monkeypatch):
  monkeypatch.setattr(paths, "get_bucket_filesystem", None)
  assert str(paths.reach("runs/x")) == "runs/x"


@pytest.mark.slow
@pytest.mark.parametrize("silent", [False, True])
def test_fault_16_an_unreachable_bucket_is_one_line_in_15_s(silent):
  with socket.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]
    if not silent:  # Connections are refused.
      server.close()
    variables = buckets.variables(f"http://127.0.0.1:{port}")
    process = subprocess.Popen(
      processes.command(address("run")),
      env={**processes.environment(), **variables},
      stderr=subprocess.PIPE,
      text=True,
    )
    assert " devices " in process.stderr.readline()
    start = time.monotonic()
    _, log = process.communicate(timeout=sweeps.TIMEOUT_S)
    assert time.monotonic() - start < 15
  assert process.returncode == errors.EXIT_USAGE
  (line,) = log.splitlines()
  assert line.startswith("imgbench: error: --workdir: ")


def test_a_missing_bucket(bucket):
  folder = "gs://no-such-bucket/run"
  with (
    pytest.raises(errors.InputError, check=raising.about(folder)),
    run_files.locked(paths.as_path(folder)),
  ):
    pass


@pytest.fixture(scope="module")
def resumed(bucket):
  """Returns the folder of a run that was stopped and resumed."""
  process = processes.start(address("resumed"))
  sweeps.wait_for(lambda: bucket.steps("resumed"), process)
  process.send_signal(signal.SIGTERM)
  _, log = process.communicate(timeout=sweeps.TIMEOUT_S)
  assert process.returncode == errors.EXIT_PREEMPTED, log
  status = bucket.read_json("resumed/status.json")
  assert status["state"] == "preempted"
  assert status["step"] in bucket.steps("resumed")
  assert ".lock" not in bucket.names("resumed")
  result = processes.run(address("resumed"))
  assert result.returncode == errors.EXIT_DONE, result.stderr
  assert f"resuming at step {status['step']}" in result.stderr
  return "resumed"


@pytest.mark.slow
def test_stopped_and_resumed(bucket, unbroken, resumed):
  check_same_run(bucket, resumed, unbroken)
  again = processes.run(address(resumed))
  assert "is done already" in again.stderr and "top1_accuracy" in again.stdout


@pytest.mark.slow
def test_programs_read_a_run(bucket, resumed):
  page = bucket.read(f"{resumed}/report.html")
  bucket.write(f"{resumed}/report.html", b"-")
  program("imgbench.report", f"--workdir={address(resumed)}")
  assert len(bucket.read(f"{resumed}/report.html")) > len(page) // 2
  points = program(
    "imgbench.operating_points",
    f"--workdir={address(resumed)}",
    *("--dataset=scenes:validation", "--class=0", "--recall=0.5"),
  )
  assert "probability >=" in points


@pytest.mark.slow
def test_a_run_starts_from_one_in_the_bucket(bucket, resumed):
  init = f"--config.init.source={address(resumed)}"
  other = processes.run(address("from"), *jobs.QUICK, init)
  assert other.returncode == errors.EXIT_DONE, other.stderr
  assert "starting from step 16" in other.stderr


def program(name: str, *more: str) -> str:
  """Returns the output of a program that must succeed."""
  result = subprocess.run(
    [sys.executable, "-m", name, *more],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == errors.EXIT_DONE, result.stderr
  return result.stdout


@pytest.mark.slow
def test_killed_while_saving(bucket, unbroken):
  """An incomplete checkpoint is ignored, and so is the lock of a dead run."""
  workdir = address("killed")
  process = processes.start(workdir)
  half_saved = lambda: (
    bucket.steps("killed") and bucket.steps("killed", finished=False)
  )
  sweeps.wait_for(half_saved, process)
  process.kill()
  process.communicate()
  assert ".lock" in bucket.names("killed")
  whole = bucket.steps("killed")[-1]
  result = processes.run(workdir)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  assert f"resuming at step {whole}" in result.stderr
  check_same_run(bucket, "killed", unbroken)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_quarantined(bucket):
  workdir, short = address("damaged"), "--config.steps.total=8 steps"
  first = processes.run(workdir, *jobs.QUICK, short)
  assert first.returncode == errors.EXIT_DONE, first.stderr
  files = [
    name
    for name in bucket.names("damaged")
    if name.startswith("checkpoints/8/state/") and "/d/" in name
  ]
  for name in files:
    data = bytearray(bucket.read(f"damaged/{name}"))
    data[len(data) // 2] ^= 1
    bucket.write(f"damaged/{name}", bytes(data))
  longer = "--config.steps.total=9 steps"
  result = processes.run(workdir, *jobs.QUICK, longer)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  assert ": 8 (" in result.stderr and "damaged" in result.stderr
  assert "resuming at step 4" in result.stderr
  aside = bucket.names("damaged/damaged_checkpoints/8")
  assert "commit_success.txt" in aside
  assert bucket.steps("damaged") == [8, 9]


@pytest.mark.slow
def test_two_processes_share_a_bucket(bucket, tmp_path):
  command = processes.command(
    address("two"), *jobs.QUICK, "--config.parallel.devices=0"
  )
  job = jobs.Job(command, 2, 1, tmp_path / "first")
  job.wait_for(lambda: bucket.steps("two"))
  job.processes[1].send_signal(signal.SIGTERM)
  assert job.wait() == [errors.EXIT_PREEMPTED] * 2, job.logs()
  job = jobs.Job(command, 2, 1, tmp_path / "second")
  assert job.wait() == [errors.EXIT_DONE] * 2, job.logs()
  assert "resuming at step" in job.log(0)
  assert bucket.read_json("two/status.json")["state"] == "done"
  left = [n for n in bucket.names("two") if n.startswith(".")]
  assert left == []


@pytest.mark.slow
def test_a_sweep_and_its_table(bucket, tmp_path):
  seeds = """
    def get_hyper(hyper):
      return hyper.sweep("seed", [0, 1])
  """
  config = sweeps.config_file(tmp_path, seeds)
  more = ("--executor=local", "--jobs=2", *jobs.QUICK)
  result = sweeps.launch(address("seeds"), *more, config=config)
  assert result.returncode == errors.EXIT_DONE, result.stderr
  assert bucket.read_json("seeds/sweep.json")["executor"] == "local"
  assert b"step 16/16" in bucket.read("seeds/seed=0/log.txt")
  table = program("imgbench.launch.table", f"--sweep_dir={address('seeds')}")
  assert table.count("done") >= 2 and "scenes:validation" in table
  assert "table/table.csv" in bucket.names("seeds")
