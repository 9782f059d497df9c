"""The command that a run prints puts its predictions into papers' tables."""

import csv
import shlex
import subprocess
import sys

import numpy as np

from imgbench.papers import own_sets
from imgbench.papers.readers import cifar
from imgbench.papers.readers import own
from tests.data import shared_files
from tests.train import processes


def parse(command: str) -> tuple[list[str], list[own.Spec]]:
  """Returns the words of a command, and its --predictions."""
  words = shlex.split(command.replace("\\\n", " "))
  values = [w.partition("=")[2] for w in words if w.startswith("--predictions")]
  return words, list(map(own.parse, values))


def test_the_end_of_a_run_needs_no_pandas():
  # The accelerator kit has none.
  code = (
    "import sys; sys.modules['pandas'] = None; from imgbench import check;"
    " from imgbench.papers import own_sets; own_sets.format_commands({}, 'run')"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


def test_sets_of_a_run_and_their_files():
  keys = (
    *("cifar10:test", "cifar10_1-v6:test", "scenes:test", "imagenet_a:test"),
    *("imagenet2012:validation", "imagenet2012+ema:validation"),
    *("imagenet2012_real:validation", "imagenet2012:validation[:5%]"),
  )
  real, synthetic = ({"definition": f"share{x}"} for x in ("", "; synthetic"))
  results = {f"{key}/all/top1_accuracy": real for key in keys}
  results["imagenet_v2-topimages:test/all/top1_accuracy"] = synthetic
  commands = own_sets.format_commands(results, "runs/a b/")
  (first, specs), (second, (cifar10,)) = map(parse, commands)
  assert (first[2], second[2]) == ("imagenet-v2", "cifar10-1")
  validation = "imagenet-validation-original"
  assert [(s.model, s.dataset, s.path.name) for s in (*specs, cifar10)] == [
    ("a b", validation, "imagenet2012-validation.npz"),
    ("a b+ema", validation, "imagenet2012_ema-validation.npz"),
    ("a b", "cifar10-test", "cifar10-test.npz"),
  ]
  assert str(cifar10.path.parent) == "runs/a b/predictions"


def test_the_printed_command_takes_a_real_run_s_predictions(tmp_path):
  """With a row of CIFAR-10.1 of images in the form of its repository."""
  data = shared_files.shared_path("data")
  repo, run, out = data / "CIFAR-10.1", tmp_path / "short", tmp_path / "out"
  done = processes.run_python(
    *("-m", "imgbench.main", f"--workdir={run}"),
    f"--config={processes.ROOT / 'configs/cifar10_fast.py'}",
    f"--config.data.data_dir={data / 'tfds'}",
    "--config.data.train_split=train[:2%]",
    *("--config.model.widths=(8,8)", "--config.global_batch_size=50"),
    *("--config.steps.total=3 steps", "--config.schedule.warmup=1 steps"),
    "--config.logging.report=False",
  )
  assert done.returncode == 0, done.stderr
  words, _ = parse(done.stdout[done.stdout.index("imgbench paper") :])
  images, logits = tmp_path / "v6.npy", tmp_path / "logits.npy"
  rng = np.random.default_rng(0)
  np.save(images, rng.integers(0, 256, (2000, 32, 32, 3), np.uint8))
  words[words.index("--repo=CIFAR-10.1")] = f"--repo={repo}"
  labels = f"--labels={repo / 'cifar10_test_labels.npy'}"
  words[words.index("--labels=test_batch.bin")] = labels
  predictions = f"--predictions=short@{cifar.V6}={logits}"
  for command in (
    ["predict", str(run), str(images), f"--out={logits}"],
    [*words[1:], predictions, f"--out={out}"],
  ):
    done = processes.run_python("-m", "imgbench", *command)
    assert done.returncode == 0, done.stderr
  with (out / "table.csv").open(newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["model"] == "short"]
  results = processes.read_json(run, "results.json")
  v6 = np.load(repo / "datasets/cifar10.1_v6_labels.npy")
  hits = (np.load(logits).argmax(axis=1) == v6).sum()
  of_test = results["cifar10:test/all/top1_accuracy"]["correct"]
  assert [int(row["correct"]) for row in rows] == [of_test, hits]
