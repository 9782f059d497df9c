"""Each plug-in of docs/extending.md runs with the command below it."""

import json
import pathlib
import re
import shlex
import subprocess
import sys
import types

import pytest

from imgbench import cli
from imgbench.train import loop
from tests import plugin_files
from tests.train import processes

TEXT = pathlib.Path(__file__).parents[2].joinpath("docs/extending.md")
EXAMPLES = re.findall(
  r'```python\n("""(\w+)\.py: .*?)```\n+```text\nimgbench train (.*?)```',
  TEXT.read_text(),
  re.DOTALL,
)
CODE = {name: code for code, name, _ in EXAMPLES}
FLAGS = {
  name: [
    word.removeprefix("--config.")
    for word in shlex.split(line)
    if word.startswith("--config.")
  ]
  for _, name, line in EXAMPLES
}
# The fast test runs the first of these together, the slow tests the others.
TOGETHER = ("linen_net", "sign_momentum", "poly_loss", "margin", "wandb_log")
AS_PROCESS = "text_log"


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The current folder, with all examples."""
  plugin_files.isolate(monkeypatch, *CODE)
  monkeypatch.chdir(tmp_path)
  return plugin_files.write(tmp_path, CODE)


class FakeWandb(types.ModuleType):
  """Keeps what is logged."""

  def __init__(self):
    super().__init__("wandb")
    self.settings, self.records, self.finished = {}, [], False

  def init(self, **settings):
    self.settings = settings
    return self

  def log(self, values, step):
    self.records.append({"step": step, **values})

  def finish(self):
    self.finished = True


def train(folder, overrides):
  config = cli.read_config("tiny", overrides)
  with config.unlocked():
    config.logging.report = False
  return loop.train_and_evaluate(config, str(folder / "run"))


def test_every_example_is_found():
  assert len(CODE) == TEXT.read_text().count("```python") == 9


def test_examples_work_together(folder, monkeypatch):
  wandb = FakeWandb()
  monkeypatch.setitem(sys.modules, "wandb", wandb)
  flags = [f for name in TOGETHER for f in FLAGS[name]]
  flags = [f for f in flags if not f.startswith("plugins=")]
  results = train(folder, [f"plugins={','.join(TOGETHER)}", *flags])
  records = processes.read_metrics(folder / "run")
  logged = (folder / "run/metrics.jsonl").read_text().splitlines()
  assert wandb.records == list(map(json.loads, logged)) and wandb.finished
  assert wandb.settings["config"]["model"]["name"] == "linen_net"
  for subset, n in (("all", 72), ("dog", 18)):
    margin = results[f"scenes:validation/{subset}/margin"]
    assert margin["n"] == n and margin["ci_method"] == "normal"
    assert margin["ci_low"] < margin["value"] < margin["ci_high"]
  best = processes.read_json(folder / "run", "status.json")["best"]
  assert best["metric"] == "val/margin"
  values = [r["val/margin"] for r in records if "val/margin" in r]
  assert best["value"] == max(values)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CODE.keys() - {*TOGETHER, AS_PROCESS}))
def test_an_example_runs(folder, name):
  results = train(folder, FLAGS[name])
  assert results and (folder / "run/results.json").is_file()


@pytest.mark.slow
def test_an_example_runs_in_a_process(folder):
  """With the console script, which does not put the folder on sys.path."""
  code = "import sys; sys.path.remove(''); from imgbench import commands"
  flags = [f"--config.{flag}" for flag in FLAGS[AS_PROCESS]]
  done = subprocess.run(
    [
      *(sys.executable, "-c", f"{code}; commands.main()", "train"),
      *("--config=tiny", "--workdir=run", *flags),
      "--config.logging.report=False",
    ],
    env=processes.environment(),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  lines = (folder / "run/text.log").read_text().splitlines()
  assert lines[0] == "cnn from step 0"
  assert len(lines) == 1 + len(processes.read_metrics(folder / "run"))
