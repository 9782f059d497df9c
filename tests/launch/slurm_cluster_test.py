"""Sweeps on a real SLURM cluster of two nodes on this machine."""

import pathlib
import tempfile

import numpy as np
import pytest

from tests.data import shared_files
from tests.data import tiny_tfds
from tests.launch import slurm_cluster
from tests.parallel import jobs
from tests.train import processes

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

QUICK = (*jobs.QUICK, "--executor=slurm")
TINY = """
from imgbench.configs import tiny

def get_config(arg=None):
  return tiny.get_config(arg)

def get_hyper(hyper):
  return hyper.sweep("seed", range(4))

def get_hyper_no_data(hyper):
  return hyper.sweep("data.train_split", ["nowhere"])

def get_hyper_one(hyper):
  return hyper.fixed("seed", 7)
"""
CIFAR = """
from imgbench.configs import cifar10_fast

def get_config(arg=None):
  return cifar10_fast.get_config(arg)

def get_hyper(hyper):
  return hyper.fixed("seed", 1)
"""


@pytest.fixture(scope="module")
def cluster():
  # Names of pytest's folders are too long for a socket.
  with (
    tempfile.TemporaryDirectory(prefix="imgbench-slurm-") as folder,
    slurm_cluster.started(pathlib.Path(folder)) as environment,
  ):
    yield slurm_cluster.Cluster(environment)


@pytest.fixture
def start(cluster, tmp_path):
  """Starts a tiny run on two nodes; returns the command and its workdir."""

  def started(steps: int):
    command = (*sweep_flags(tmp_path, TINY), "--sweep=one", "--nodes=2")
    command += (
      f"--config.steps.total={steps} steps",
      "--config.evaluation.every=never",
      "--config.checkpoint.every=never",
      "--config.parallel.devices=0",
    )
    run = cluster.launch(*command)
    assert run.returncode == 0, run.stderr
    workdir = tmp_path / "sweep" / "seed=7"
    cluster.wait_for(jobs.has_step(workdir, 6), tmp_path)
    return command, workdir

  yield started
  cluster.ask("scancel", "--me")
  cluster.wait_until_empty(tmp_path)


def sweep_flags(folder, config: str, name: str = "sweep") -> tuple[str, ...]:
  path = folder / "sweeps" / "of_a_test.py"
  path.parent.mkdir(exist_ok=True)
  path.write_text(config)
  return (f"--config={path}", f"--sweep_dir={folder / name}", *QUICK)


def submitted(run) -> int:
  """Returns the number in the last line that a launcher printed."""
  return int(run.stdout.splitlines()[-1].split()[0])


def notes(workdir) -> list[list[str]]:
  """Returns the notes of the batch script, without times."""
  lines = (workdir / "slurm.txt").read_text().splitlines()
  return [line.split(" ")[1:] for line in lines]


def test_four_runs_share_two_nodes(cluster, tmp_path):
  command = sweep_flags(tmp_path, TINY)
  run = cluster.launch(*command)
  assert run.returncode == 0, run.stderr
  assert submitted(run) == 4
  # All are queued or running, so nothing is submitted.
  again = cluster.launch(*command)
  assert again.returncode == 0, again.stderr
  assert submitted(again) == 0
  cluster.wait_until_empty(tmp_path)
  sweep_dir = tmp_path / "sweep"
  stands = cluster.launch("status", f"--sweep_dir={sweep_dir}")
  assert "4 runs: 4 done" in stands.stdout, slurm_cluster.logs(tmp_path)
  assert stands.returncode == 0
  used = set()
  for seed in range(4):
    workdir = sweep_dir / f"seed={seed}"
    launch = slurm_cluster.read_json(workdir / "launch.json")
    first, last = notes(workdir)
    assert first[:2] == [launch["job"], "start"]
    assert last == [launch["job"], "end", "0"]
    assert (launch["state"], launch["attempts"]) == ("done", 1)
    assert launch["started_at"] < launch["ended_at"]
    assert (workdir / "results.json").exists()
    used.add(first[2])
  assert used == set(slurm_cluster.NODES)


def test_cifar10_on_two_nodes(cluster, tmp_path):
  command = (
    *sweep_flags(tmp_path, CIFAR),
    f"--config.data.data_dir={cifar10(tmp_path)}",
    "--config.data.train_split=train[:1000]",
    "--config.evaluation.sets.test.split=test[:501]",
    "--config.global_batch_size=100",
    "--config.steps.total=1 epochs",
    "--config.parallel.devices=0",
    "--nodes=2",
    "--cpus_per_task=1",
    "--time=20",
  )
  run = cluster.launch(*command)
  assert run.returncode == 0, run.stderr
  cluster.wait_until_empty(tmp_path)
  stands = cluster.launch("status", f"--sweep_dir={tmp_path / 'sweep'}")
  assert "1 runs: 1 done" in stands.stdout, slurm_cluster.logs(tmp_path)
  workdir = tmp_path / "sweep" / "seed=1"
  (start, end) = notes(workdir)
  assert start[1:] == ["start", "127.0.0.[1-2]"] and end[1:] == ["end", "0"]
  environment = slurm_cluster.read_json(workdir / "environment.json")
  assert (environment["num_processes"], environment["num_devices"]) == (2, 2)
  results = slurm_cluster.read_json(workdir / "results.json")
  ours = results["cifar10:test[:501]/all/top1_accuracy"]
  assert ours["n"] == 501


def cifar10(folder) -> pathlib.Path:
  """Returns the folder of CIFAR-10, or of noise of its shape."""
  try:
    return shared_files.shared_path("data", "tfds_array_record")
  except pytest.skip.Exception:
    pass
  rng = np.random.default_rng(0)

  def records(count):
    return [
      tiny_tfds.serialize(
        {
          "image": tiny_tfds.encode(
            rng.integers(0, 256, (32, 32, 3), np.uint8)
          ),
          "label": i % 10,
          "id": f"made_{i}".encode(),
        }
      )
      for i in range(count)
    ]

  tiny_tfds.write(
    folder / "data",
    {"train": [records(1000)], "test": [records(501)]},
    name="cifar10",
    version="3.0.2",
    file_format="array_record",
    features={
      "id": tiny_tfds.text_feature(),
      "image": tiny_tfds.image_feature((32, 32, 3)),
      "label": tiny_tfds.label_feature(10),
    },
  )
  return folder / "data"


def test_a_stopped_run_saves_is_requeued_and_resumes(cluster, start, tmp_path):
  """Sends TERM to all processes, as --signal does before the time limit."""
  _, workdir = start(steps=60)
  job = slurm_cluster.read_json(workdir / "launch.json")["job"]
  cluster.ask("scancel", "--signal=TERM", job)
  cluster.wait_for(lambda: len(notes(workdir)) == 2, tmp_path)
  assert notes(workdir)[-1] == [job, "end", "75"]
  said = slurm_cluster.read_json(workdir / "status.json")
  assert said["state"] == "preempted" and 6 <= said["step"] < 60
  # Requeued as the same job, which is held for inspection.
  cluster.wait_for(
    lambda: any(q.startswith(f"{job} PENDING") for q in cluster.queue()),
    tmp_path,
  )
  cluster.ask("scontrol", "hold", job)
  stands = cluster.launch("status", f"--sweep_dir={tmp_path / 'sweep'}")
  assert stands.returncode == 1 and "preempted" in stands.stdout
  assert f"{job}  in the queue: " in stands.stdout
  assert len(notes(workdir)) == 2
  cluster.ask("scontrol", "release", job)
  cluster.wait_for(lambda: len(notes(workdir)) == 3, tmp_path)
  cluster.wait_until_empty(tmp_path)
  assert notes(workdir)[-1] == [job, "end", "0"]
  stands = cluster.launch("status", f"--sweep_dir={tmp_path / 'sweep'}")
  assert stands.returncode == 0, stands.stdout
  launch = slurm_cluster.read_json(workdir / "launch.json")
  assert (launch["state"], launch["attempts"]) == ("done", 2)
  # No step is missing or repeated.
  records = processes.read_metrics(workdir)
  steps = [r["step"] for r in records if "train/loss" in r]
  assert steps == list(range(3, 61, 3))
  assert f"step {said['step']}" in (workdir / "log.txt").read_text()


def test_an_urgent_job_preempts_a_run(cluster, start, tmp_path):
  """SLURM itself requeues the job."""
  _, workdir = start(steps=600)  # Long enough for SLURM to decide.
  cluster.ask(
    *("sbatch", "--partition=urgent", "--nodes=2", "--wrap=true"),
    "--output=/dev/null",
  )
  cluster.wait_for(lambda: len(notes(workdir)) == 3, tmp_path)
  assert [note[1:] for note in notes(workdir)[1:]] == [
    ["end", "75"],
    ["start", "127.0.0.[1-2]"],
  ]
  cluster.wait_until_empty(tmp_path)
  stands = cluster.launch("status", f"--sweep_dir={tmp_path / 'sweep'}")
  assert stands.returncode == 0, stands.stdout


def test_a_cancelled_run_saves_and_the_same_command_resumes(
  cluster, start, tmp_path
):
  command, workdir = start(steps=3000)
  before = slurm_cluster.read_json(workdir / "launch.json")["job"]
  sweep_dir = f"--sweep_dir={tmp_path / 'sweep'}"
  ended = cluster.launch("cancel", sweep_dir)
  assert ended.stdout.startswith("1 jobs"), ended.stderr
  assert ended.returncode == 0
  cluster.wait_until_empty(tmp_path)
  # A cancelled job is not requeued.
  assert notes(workdir)[-1][1:] == ["end", "75"]
  stands = cluster.launch("status", sweep_dir)
  assert stands.returncode == 1 and "1 runs: 1 preempted" in stands.stdout
  assert slurm_cluster.read_json(workdir / "launch.json")["job"] == ""
  again = cluster.launch(*command)
  assert submitted(again) == 1, again.stderr
  cluster.wait_for(lambda: len(notes(workdir)) == 3, tmp_path)
  stands = cluster.launch("status", sweep_dir)
  assert "1 runs: 1 running" in stands.stdout, stands.stdout
  launch = slurm_cluster.read_json(workdir / "launch.json")
  assert launch["job"] not in ("", before) and launch["attempts"] == 2
  saved = slurm_cluster.read_json(workdir / "status.json")["step"]
  cluster.wait_for(
    lambda: f"step {saved}" in (workdir / "log.txt").read_text(), tmp_path
  )


def test_a_run_that_never_began_and_one_that_fails(cluster, tmp_path):
  name = 'a "sweep" of 100%A'  # special characters of sbatch
  command = (*sweep_flags(tmp_path, TINY, name), "--sweep=no_data")
  sweep_dir = tmp_path / name
  later = '--sbatch_args="--begin=now+1hour" --comment="of two words"'
  run = cluster.launch(*command, later)
  assert "in the queue" in run.stdout, run.stderr
  assert cluster.ask("squeue", "-h", "-o", "%k") == "of two words"
  stands = cluster.launch("cancel", f"--sweep_dir={sweep_dir}")
  assert stands.stdout.startswith("1 jobs"), stands.stderr
  assert stands.returncode == 0
  assert "1 runs: 1 waiting" in stands.stdout, stands.stdout
  assert "SLURM: cancelled" in stands.stdout
  run = cluster.launch(*command)
  assert submitted(run) == 1, run.stderr
  cluster.wait_until_empty(tmp_path)
  stands = cluster.launch("status", f"--sweep_dir={sweep_dir}")
  assert "1 runs: 1 failed" in stands.stdout, stands.stdout
  # The message is the last error of the run's log.
  assert "nowhere" in stands.stdout.replace("data.train_split=nowhere", "")
  workdir = sweep_dir / "data.train_split=nowhere"
  launch = slurm_cluster.read_json(workdir / "launch.json")
  assert (launch["exit_code"], launch["attempts"]) == (2, 1)
  # A failed run is submitted again.
  run = cluster.launch(*command, later)
  assert submitted(run) == 1, run.stderr
  cluster.ask("scancel", "--me")
