"""Tests of the program: folders, resuming, bad input; real processes."""

import json
import subprocess
import sys
import types

import pytest

from imgbench import errors
from imgbench.bench import __main__ as program
from imgbench.bench import processes
from imgbench.bench import rows
from imgbench.configs import bench
from tests import raising
from tests.bench import model_work_test

FLAGS = types.SimpleNamespace(dry_run=False, profile=False, retry_failed=False)
ENVIRONMENT = {
  "host": "here",
  "device_kind": "chip",
  "versions": {"jax": "0.11.2"},
  "commit": "abc",
  "peers": {"versions": {"torch": "2"}},
}


def tiny():
  config = bench.get_config("quick")
  config.models = ("cnn",)
  config.recipe.model_settings.cnn = model_work_test.SETTINGS
  config.recipe.num_classes = 10
  config.image_sizes = (16,)
  config.batch_sizes = (4,)
  config.tasks = ("infer",)
  config.devices = (1,)
  config.frameworks = ("imgbench",)
  config.micro.names = ("dispatch",)
  config.timing.update(latency_s=0.01, round_s=0.01, rounds=1)
  config.sampling.update(processes=1, most_processes=1)
  return config


def test_rows_are_made_kept_and_added_to(tmp_path, capsys):
  folder = tmp_path / "out"
  found = program.run_benchmark(tiny(), folder, FLAGS)
  assert [row.status for row in found] == ["ok", "ok"]
  assert "infer cnn b4 16px float32" in capsys.readouterr().out
  environment = json.loads((folder / rows.ENVIRONMENT).read_text())
  assert environment["command"].startswith("imgbench bench")
  before = (folder / rows.ROWS).read_text()
  grown = tiny()
  grown.tasks = ("infer", "train")
  found = program.run_benchmark(grown, folder, FLAGS)
  assert [row.key.task for row in found] == ["micro", "infer", "train"]
  assert (folder / rows.ROWS).read_text().startswith(before)
  assert {row.environment for row in found} == {rows.environment_digest(folder)}
  assert rows.read_folder(folder).config["tasks"] == ["infer", "train"]


@pytest.mark.smoke
def test_a_dry_run_prints_the_points_and_writes_nothing(tmp_path, capsys):
  folder = tmp_path / "out"
  flags = types.SimpleNamespace(**{**vars(FLAGS), "dry_run": True})
  assert program.run_benchmark(tiny(), folder, flags) == []
  lines = capsys.readouterr().out.splitlines()
  assert lines == ["micro dispatch", "infer cnn b4 16px float32", "2 points"]
  assert not folder.exists()


@pytest.mark.parametrize(
  "change, given",
  [
    ({"host": "there"}, "host: here -> there"),
    ({"device_kind": "better"}, "device_kind: chip -> better"),
    ({"versions": {"jax": "0.12"}}, "versions.jax: 0.11.2 -> 0.12"),
    ({"commit": "def"}, "commit: abc -> def"),
    ({"peers": {"versions": {"torch": "3"}}}, "peers.versions.torch: 2 -> 3"),
  ],
)
def test_a_folder_of_another_machine_is_refused(tmp_path, change, given):
  known = {**ENVIRONMENT, "how": {"timing": {"rounds": 3}}}
  (tmp_path / rows.ENVIRONMENT).write_text(json.dumps(known))
  same = {"timing": {"rounds": 3}}
  program.check_folder(tmp_path, ENVIRONMENT | {"started_at": "now"}, same)
  check = raising.about("--out", given=given)
  with pytest.raises(errors.InputError, check=check):
    program.check_folder(tmp_path, ENVIRONMENT | change, same)
  check = raising.about("--out", given="config.timing.rounds: 3 -> 9")
  with pytest.raises(errors.InputError, check=check):
    program.check_folder(tmp_path, ENVIRONMENT, {"timing": {"rounds": 9}})


def test_baselines_may_be_installed_later(tmp_path):
  path = tmp_path / rows.ENVIRONMENT
  missing = ENVIRONMENT | {"peers": {"missing": "no torch"}}
  program._write_environment(path, missing | {"started_at": "then"})
  program.check_folder(tmp_path, ENVIRONMENT, {})
  program._write_environment(path, ENVIRONMENT | {"started_at": "now"})
  known = json.loads(path.read_text())
  assert known == ENVIRONMENT | {"started_at": "then"}
  # A run that asks for none leaves what is known of them.
  program._write_environment(path, ENVIRONMENT | {"peers": {}})
  assert json.loads(path.read_text()) == known


def test_bad_input_ends_in_one_line_before_anything_starts(tmp_path):
  command = [
    *(sys.executable, "-m", "imgbench.bench", "--config=configs/bench.py"),
    *(f"--out={tmp_path / 'out'}", "--config.models=resnet18,resnet55"),
  ]
  root = processes.Launcher().root
  ended = subprocess.run(command, capture_output=True, text=True, cwd=root)
  assert ended.returncode == errors.EXIT_USAGE
  (line,) = [x for x in ended.stderr.splitlines() if "error" in x]
  assert "models: expected" in line and "got 'resnet55'" in line
  assert not (tmp_path / "out").exists()


def test_missing_baselines_are_known_before():
  config = tiny()
  missing = lambda request, timeout_s: {
    "status": "refused",
    "message": "PyTorch cannot be imported",
  }
  assert program.describe_baselines(config, missing) == {}
  config.frameworks = ("imgbench", "torch-eager")
  found = program.describe_baselines(config, missing)
  assert found == {"missing": "PyTorch cannot be imported"}
