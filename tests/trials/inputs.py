"""Programs with a random value for one of their settings."""

import importlib
import pathlib
import random
import signal

from absl import flags
import pytest

from imgbench import cli
from imgbench import commands
from imgbench import config_utils
from tests import forked
from tests import trials
from tests.data import shared_files
from tests.train import processes

LIMIT_S = 120
_ROOT = processes.ROOT
_TINY = f"--config={_ROOT}/configs/tiny.py"
_RESULTS = f"{_ROOT}/experiments/results"
SHORT = ("--config.steps.total=2 steps", "--config.logging.report=False")
_CONFIG_SHARE = 0.7  # of the trials of a program with --config

VALUES = (
  *("", " ", "-", "-1", "0", "1", "2", "0.5", "nan", "inf", "-inf", "1e309"),
  *("1e18", str(2**31), str(2**32), str(2**63), "9" * 400, "0x10", "1_000"),
  *("None", "True", "[]", "()", "{}", "(1,)", "('a',)", "{'a': 1}", "[1, 'a']"),
  *("abc", "none", "all", "1e18 steps", "-2 steps", "2 steps", "3 epochs"),
  *("../../outside", "absent/absent", "/dev/null", "/proc/self/mem", "~"),
  *("a" * 5000, "é€漢", "\x1b[31mred", "a\nb", "a\tb", "%s%n", "{x}", "'", '"'),
  *("train[:0]", "train[5:2]", "val/none", "scenes:validation", "a=b", "a,b"),
  "[" * 2000,
)


def _list_programs(workdir: pathlib.Path) -> list[list[str]]:
  """Returns command lines, from the command's name, that run quickly.

  Args:
    workdir: of a finished run.
  """
  rows = f"{_RESULTS}/cpu_2_cores"
  programs = [
    # Most settings are those of training.
    *[["train", _TINY, *SHORT, "--workdir=run"]] * 8,
    ["sweep", _TINY, "--sweep_dir=sweep", "--dry_run"],
    ["sweep table", "--sweep_dir=sweep"],
    ["report", f"--workdir={workdir}"],
    [
      *("operating-points", f"--workdir={workdir}", "--class=0"),
      *("--dataset=scenes:validation", "--recall=0.9"),
    ],
    [
      *("bench", f"--config={_ROOT}/configs/bench.py:quick"),
      *("--out=bench", "--dry_run"),
    ],
    ["bench report", rows, "--out=page"],
    ["bench compare", rows, rows],
    ["prepare", "--dataset=cifar10", "--data_dir=data"],
    ["fake-imagenet", "--out=fake", "--image_size=8x8"],
  ]
  try:
    data = shared_files.shared_path("data")
  except pytest.skip.Exception:
    return programs
  v2 = f"--repo={data}/ImageNetV2"
  return [
    *programs,
    ["paper cifar10-1", f"--repo={data}/CIFAR-10.1", "--out=out"],
    ["paper imagenet-v2", v2, "--out=out"],
    ["paper multilabel", v2, "--out=out"],
    ["paper real-labels", v2, "--out=out"],
  ]


def draw_line(rng: random.Random, programs: list[list[str]]) -> list[str]:
  """Returns a program's command line with one random value."""
  line = rng.choice(programs)
  if _TINY in line and rng.random() < _CONFIG_SHARE:
    config = config_utils.to_dict(cli.read_config(_TINY.partition("=")[2]))
    names = [f"config.{key}" for key in config_utils.flatten(config)]
  else:
    names = _list_flags(line)
  if not names:
    return [*line[:-1], rng.choice(VALUES)]
  return [*line, f"--{rng.choice(sorted(names))}={rng.choice(VALUES)}"]


def _list_flags(line: list[str]) -> list[str]:
  """Returns the names of a program's own flags."""
  module = importlib.import_module(commands.COMMANDS[line[0]].module)
  values = flags.FlagValues()
  if hasattr(module, "define_flags_for"):
    module.define_flags_for(values, line)
  else:
    module.define_flags(values)
  # Absent peers are waited for.
  return [x for x in values if x not in ("num_processes", "process_id")]


def run(
  rng: random.Random, folder: pathlib.Path, workdir: pathlib.Path, count: int
) -> list[trials.Trial]:
  """Runs command lines with random values.

  Args:
    rng: chooses them.
    folder: where they run.
    workdir: of a finished run.
    count: number of trials.
  """
  programs = _list_programs(workdir)
  drawn = [draw_line(rng, programs) for _ in range(count)]
  lines = [[commands.COMMANDS[name].module, *rest] for name, *rest in drawn]
  outcomes = forked.run_all(lines, folder, LIMIT_S)
  return [
    trials.Trial("inputs", name, f"{name} ... {rest[-1]!r}", judge(done))
    for (name, *rest), done in zip(drawn, outcomes, strict=True)
  ]


def judge(done: forked.Outcome) -> str:
  """Returns what did not hold at the end of a program."""
  if done.code == -signal.SIGALRM:
    return f"not done in {LIMIT_S} s: {done.stderr[-300:]}"
  if "\x1b" in done.stdout:
    return "an escape character on the terminal"
  return trials.judge_end(done.code, done.stderr)
