"""What is run in each tree: one function for each item, one table of them."""

from collections.abc import Callable
from concurrent import futures
import dataclasses
import json
import pathlib
import shutil

from tests.data import fake_folder
from tests.data import shared_files
from tests.freeze import bad_inputs
from tests.freeze import comparing
from tests.freeze import probe
from tests.freeze import trees

_TINY = bad_inputs.TINY
_MAIN = ("-m", "imgbench.main")
DEMO = (*_MAIN, "--config={tree}/configs/scenes.py", "--workdir=run")
_VAL = "data/datasets/imagenet-validation-original.json"
_OWN = "data/predictions/imagenet-validation-original/resnet50.npy"


def papers() -> dict[str, tuple[str, ...]]:
  """Returns the command lines of the papers' scripts on the shared data."""
  shared = shared_files.shared_path("data")
  v2, imagenet, cifar = (
    shared / name for name in ("ImageNetV2", "imagenet", "CIFAR-10.1")
  )
  published = imagenet / "published"
  own = f"--predictions=mine@imagenet-validation-original={v2 / _OWN}"
  multilabel = ("multilabel", f"--repo={v2}")
  lines = {
    "cifar10_1": (
      *("cifar10_1", f"--repo={cifar}"),
      f"--labels={cifar / 'cifar10_test_labels.npy'}",
      f"--published={cifar / 'published.csv'}",
    ),
    "imagenet_v2": (
      *("imagenet_v2", f"--repo={v2}", own),
      f"--published={published / 'imagenetv2_paper_rows.csv'}",
      f"--published={published / 'imagenet_testbed_top1.csv'}",
    ),
    "real_labels": (
      *("real_labels", f"--repo={v2}", own),
      f"--real={shared / 'reassessed-imagenet/real.json'}",
      f"--published={published / 'timm_same_weights.csv'}",
    ),
    "multilabel": (
      *multilabel,
      f"--annotations={imagenet / 'multilabel_annotations.json'}",
    ),
    "multilabel_lists": (
      *multilabel,
      f"--multilabels={imagenet / 'eth_multilabel_3937.json'}",
    ),
    "error_analysis": (
      *("error_analysis", f"--dataset={v2 / _VAL}", own),
      f"--mistakes=vit3b={published / 'imagenet_mistakes_vit3b_mistakes.json'}",
      "--mistakes=soups="
      f"{published / 'imagenet_mistakes_greedy_soups_mistakes.json'}",
    ),
  }
  return {
    name: ("-m", f"experiments.{script}", *arguments)
    for name, (script, *arguments) in lines.items()
  }


def run_papers(tree, folder, base) -> None:
  del base
  for name, line in papers().items():
    tree.run(folder, [*line, f"--out={name}"], name=name)


def probe_of(mode: str):
  """Returns the item of a mode of `probe`."""

  def run(tree, folder, base) -> None:
    del base
    line = ["-P", probe.__file__, "models", mode]
    (folder / "models").mkdir()
    tree.run(folder, line, name="probe", devices=4)

  return run


def run_bench_tables(tree, folder, base) -> None:
  """Report and comparison of rows that the base has committed."""
  before = folder / "before"
  rows = base.root / "experiments/results/cpu_2_cores/bench_quick"
  shutil.copytree(rows, before)
  shutil.copytree(before, folder / "after")
  path = folder / "after/rows.jsonl"
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  for row in lines:
    slower = 2.0 if row["task"] == "train" else 1.0
    for process in row["raw"]:
      process["throughput_s"] = [slower * s for s in process["throughput_s"]]
  path.write_text("".join(json.dumps(row) + "\n" for row in lines))
  tree.run(folder, ["-m", "imgbench.bench.report", "before"])
  line = ["-m", "imgbench.bench.compare", "before", "after", "--json=out.json"]
  tree.run(folder, line, code=1)


def run_dry_runs(tree, folder, base) -> None:
  del base
  head = ("-m", "imgbench.launch", "--dry_run", "--sweep_dir=/sweep")
  tpu = ("--project=p", "--zone=us-west4-a", "--slices=2", "--spot")
  slurm = ("--partition=gpu", "--gpus_per_node=4", "--time=8:00:00", "--jobs=3")
  for name, more in {"local": ["--jobs=2"], "slurm": slurm, "tpu": tpu}.items():
    for config in ("tiny", "scenes"):
      line = [*head, f"--config={{tree}}/configs/{config}.py", *more]
      line.append(f"--executor={name}")
      tree.run(folder, line, name=f"{name}_{config}")


def run_demo(tree, folder, base) -> None:
  """The demo, its report with times taken out, and operating points."""
  del base
  tree.run(folder, DEMO)
  comparing.still_times(folder)
  tree.run(folder, ["-m", "imgbench.report", "--workdir=run"])
  for rule in ("recall=0.9", "precision=0.8", "threshold=0.5"):
    line = ["-m", "imgbench.operating_points", "--workdir=run", "--class=3"]
    line += ["--dataset=scenes:validation", f"--{rule}", f"--csv={rule}.csv"]
    tree.run(folder, line, name=rule)


def run_sweep(tree, folder, base) -> None:
  """Four tiny runs, and their table with times taken out."""
  del base
  line = ["-m", "imgbench.launch", _TINY, "--sweep_dir=sweep", "--jobs=1"]
  # Reports of runs hold times; other items compare them.
  tree.run(folder, [*line, "--config.logging.report=False"])
  # What it prints has times, and the table says all of it.
  (folder / "launch.out").unlink()
  comparing.still_times(folder)
  table = ["-m", "imgbench.launch.table", "--sweep_dir=sweep"]
  tree.run(folder, [*table, "--metrics=*/all/top1_accuracy,*/all/nll"])


def run_bad_inputs(tree, folder, base) -> None:
  del base
  shared = str(shared_files.shared_path("data"))

  def call(numbered):
    number, line = numbered
    place = folder / f"{number:02}"
    place.mkdir()
    line = ["-m", *(a.replace("{shared}", shared) for a in line)]
    tree.run(place, line, name="program", code=None)
    done = place / "program.out"
    code, stderr, *stdout = done.read_text().splitlines()
    if code == "exit code 0":
      raise ValueError(f"{' '.join(line)}: expected to be refused")
    # The sentences may change: whether there are any is compared.
    done.write_text(f"{code}\n{stderr}\nstdout {bool(stdout)}\n")

  with futures.ThreadPoolExecutor(2) as pool:
    list(pool.map(call, enumerate(bad_inputs.COMMANDS, 1)))


# Workdir -> what makes it, and on how many devices.
_WRITTEN = {
  "ema": (("--config.ema.decay=0.9",), 1),
  "devices": (("--config.parallel.devices=2",), 2),
  "pmap": (
    ("--config.parallel.devices=2", "--config.parallel.strategy=pmap"),
    2,
  ),
}


def write_checkpoints(tree, folder, base) -> None:
  """Workdirs of runs that stopped half-way, and of one that is done."""
  del base
  for name, (more, devices) in _WRITTEN.items():
    line = [*_MAIN, _TINY, f"--workdir={name}", *more]
    half = "--config.steps.total=8 steps"
    tree.run(folder, [*line, half], name=f"{name}_half", devices=devices)
  line = [*_MAIN, _TINY, "--workdir=done", *_WRITTEN["ema"][0]]
  tree.run(folder, line, name="done")


def run_resumed(tree, folder, base) -> None:
  """Workdirs of the base: resumed, evaluated, reported."""
  shutil.copytree(base.out / "checkpoints", folder, dirs_exist_ok=True)
  for name, (more, devices) in _WRITTEN.items():
    line = [*_MAIN, _TINY, f"--workdir={name}", *more]
    tree.run(folder, line, name=name, devices=devices)
  comparing.still_times(folder)
  tree.run(folder, ["-m", "imgbench.report", "--workdir=done"])
  evaluate = [*_MAIN, _TINY, *_WRITTEN["ema"][0], "--workdir=evaluated"]
  evaluate.append("--config.checkpoint.init_from=done")
  tree.run(folder, evaluate, name="evaluated")
  # As a run that is done prints its results again.
  line = [*_MAIN, _TINY, "--workdir=done", *_WRITTEN["ema"][0]]
  tree.run(folder, line, name="again")
  comparing.still_times(folder)
  for name in ("ema", "devices", "pmap", "evaluated"):
    line = ["-m", "imgbench.report", f"--workdir={name}"]
    tree.run(folder, line, name=f"report_{name}")


def run_fake_imagenet(tree, folder, base) -> None:
  """The fake ImageNet drawn, prepared, trained on, and evaluated again."""
  python = fake_folder.python_with_tensorflow()
  draw = ["-m", "imgbench.data.fake_imagenet", "--out=manual", "--oddities"]
  draw += ["--image_size=64x48", "--train_per_class=2"]
  tree.run(folder, draw)
  prepare = ["-m", "imgbench.data.prepare", "--skip_checksums"]
  prepare += ["--manual_dir=manual", "--data_dir=data"]
  prepare.append(f"--dataset={','.join(fake_folder.SETS)}")
  tree.run(folder, prepare, python=python)
  data = "--config.data.data_dir=data"
  line = [*_MAIN, "--config={tree}/configs/imagenet_fake.py", data]
  tree.run(folder, [*line, "--workdir=run"])
  comparing.still_times(folder / "run")
  tree.run(folder, ["-m", "imgbench.report", "--workdir=run"])
  shutil.copytree(base.out / "imagenet/run", folder / "old")
  evaluate = "--config={tree}/configs/evaluate.py:from=old"
  line = [*_MAIN, evaluate, data, "--workdir=evaluated"]
  tree.run(folder, line, name="evaluated")
  comparing.still_times(folder / "evaluated")
  line = ["-m", "imgbench.report", "--workdir=evaluated"]
  tree.run(folder, line, name="report_evaluated")


@dataclasses.dataclass(frozen=True)
class Item:
  """Something that is compared.

  Attributes:
    run: (tree, folder, base tree) -> None; leaves files in the folder.
    fast: whether it belongs to the fast form.
    needs: item whose output of the base `run` reads; "": none.
    of_base: only run in the base, for others to read.
  """

  run: Callable[[trees.Tree, pathlib.Path, trees.Tree], None]
  fast: bool = False
  needs: str = ""
  of_base: bool = False


ITEMS = {
  "models": Item(probe_of("fast"), fast=True),
  "papers": Item(run_papers, fast=True),
  "bench_tables": Item(run_bench_tables, fast=True),
  "dry_runs": Item(run_dry_runs, fast=True),
  "deep_models": Item(probe_of("whole")),
  "initial_values": Item(probe_of("values")),
  "checkpoints": Item(write_checkpoints, of_base=True),
  "resumed": Item(run_resumed, needs="checkpoints"),
  "demo": Item(run_demo),
  "sweep": Item(run_sweep),
  "bad_inputs": Item(run_bad_inputs),
  "imagenet": Item(run_fake_imagenet, needs="imagenet"),
}
