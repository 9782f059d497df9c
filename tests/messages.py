"""Command lines that the programs refuse, and what each prints.

python -m tests.messages FOLDER < lines

Runs command lines, a JSON list of lists, in processes that are forked after JAX
and the libraries are imported, and prints [exit code, standard error] of each.
"""

import json
import os
import pathlib
import re
import runpy
import subprocess
import sys
import warnings

from tests.train import processes

ROOT = processes.ROOT
# Imported before the processes are forked. None of them starts a device.
_LIBRARIES = (
  "imgbench.bench.runner",
  "imgbench.launch.sweep_table.text",
  "imgbench.papers.program",
  "imgbench.report.terminal",
  "imgbench.startup",
  "imgbench.train.loop",
  "matplotlib.pyplot",
)

_TINY = "--config={tree}/configs/tiny.py"
_MAIN = ("imgbench.main", "--workdir=run")
_LAUNCH = ("imgbench.launch", "--sweep_dir=sweep")
_PREPARE = ("imgbench.data.prepare", "--data_dir=data")
_POINTS = (
  *("imgbench.operating_points", "--workdir=absent"),
  *("--dataset=scenes:validation", "--class=0"),
)
_BENCH = ("imgbench.bench", "--out=bench")
_QUICK = "--config={tree}/configs/bench.py:quick"
_V2 = "--repo={shared}/ImageNetV2"

# Module and flags.
COMMANDS = (
  ("imgbench.main",),
  ("imgbench.main", _TINY),
  (*_MAIN, "--config=absent.py"),
  (*_MAIN, _TINY + ":fast"),
  (*_MAIN, _TINY, "--speed=9"),
  (*_MAIN, _TINY, "extra"),
  (*_MAIN, _TINY, "--config.modle.name=cnn"),
  (*_MAIN, _TINY, "--config.seed=many"),
  (*_MAIN, _TINY, "--config.model.name=cnm"),
  (*_MAIN, _TINY, "--config.model.dtype=float16"),
  (*_MAIN, _TINY, "--config.global_batch_size=-4"),
  (*_MAIN, _TINY, "--config.data.train_split=trian"),
  (*_MAIN, _TINY, "--config.data.name=cifar10", "--config.data.options={}"),
  (*_MAIN, _TINY, "--config.loss.label_smoothing=1.5"),
  (*_MAIN, _TINY, "--config.loss.name=hinge"),
  (*_MAIN, _TINY, "--config.checkpoint.best=val/nonsense"),
  (*_MAIN, _TINY, "--config.checkpoint.init_from=absent"),
  (*_MAIN, _TINY, "--config.parallel.strategy=shard"),
  (*_MAIN, _TINY, "--config.parallel.devices=64"),
  (*_MAIN, _TINY, "--config.steps.total=16 weeks"),
  (*_MAIN, _TINY, "--profile_steps=5:3"),
  ("imgbench.report",),
  ("imgbench.report", "--workdir=absent"),
  (*_POINTS, "--recall=0.9"),
  _POINTS,
  (*_BENCH, _QUICK, "--config.models=resnet19"),
  (*_BENCH, _QUICK, "--config.batch_sizes=0"),
  ("imgbench.bench.report", "absent"),
  ("imgbench.bench.compare", "absent", "absent"),
  (*_LAUNCH, _TINY, "--sweep=absent"),
  (*_LAUNCH, _TINY, "--executor=slrum"),
  (*_LAUNCH, _TINY, "--jobs=0"),
  ("imgbench.launch.table", "--sweep_dir=absent"),
  (*_PREPARE, "--dataset=cifar9"),
  ("imgbench.data.fake_imagenet", "--out=fake", "--image_size=big"),
  ("experiments.cifar10_1", "--repo=absent", "--labels=absent.npy"),
  ("experiments.imagenet_v2", "--repo=absent"),
  ("experiments.multilabel", _V2, "--multilabels=absent.json"),
  ("experiments.real_labels", _V2),
  ("experiments.error_analysis", "--repo=absent"),
)


def run_all(lines: list[list[str]], folder: pathlib.Path) -> list[list]:
  """Returns [exit code, standard error] of each line, run in `folder`."""
  done = subprocess.run(
    [sys.executable, "-m", "tests.messages", str(folder)],
    input=json.dumps(lines),
    env=processes.environment(),
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(done.stdout)


def error_line(text: str, names: dict[str, str]) -> str:
  """Returns the errors that a program printed, without paths and versions.

  Args:
    text: its standard error, with one error.
    names: path -> what replaces it.
  """
  line = " ".join(re.findall(r"^(?:imgbench: error|FATAL).*$", text, re.M))
  for path, name in names.items():
    line = line.replace(path, name)
  line = re.sub(r"0x[0-9a-f]+", "{address}", line)
  return re.sub(r"TFDS [\d.]+", "TFDS {version}", line)


def _run(line: list[str], folder: pathlib.Path) -> list:
  """Runs one command line in a process forked from this one."""
  folder.mkdir()
  path = folder / "stderr"
  child = os.fork()
  if child:
    _, status = os.waitpid(child, 0)
    return [os.waitstatus_to_exitcode(status), path.read_text()]
  code = 1
  try:
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
      os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    module, *arguments = line
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    code = 0
  except SystemExit as stop:
    code = stop.code or 0
  finally:
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
  """Runs the lines on standard input in folders of the one that is given."""
  folder = pathlib.Path(sys.argv[1])
  warnings.simplefilter("ignore")
  for name in _LIBRARIES:
    __import__(name)
  lines = json.load(sys.stdin)
  print(json.dumps([_run(x, folder / f"{i}") for i, x in enumerate(lines)]))


if __name__ == "__main__":
  main()
