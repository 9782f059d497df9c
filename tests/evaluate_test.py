"""Tests of `imgbench evaluate` and configs/evaluate.py: any run, as it was."""

import hashlib
import json
import pathlib
import shutil

from absl import flags
import pytest

from imgbench import checkpoints
from imgbench import cli
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import evaluate
from imgbench import run_files
from imgbench.configs import cifar10_fast
from imgbench.configs import common
from imgbench.configs import imagenet_vit_s16
from imgbench.configs import tiny
from imgbench.train import loop
from tests import raising
from tests.train import processes


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished run with averaged parameters; tests only read it."""
  # Folders of sweeps have such names.
  workdir = tmp_path_factory.mktemp("runs") / "seed=0,widths=8"
  config = tiny.get_config()
  config.ema.decay = 0.5
  config.checkpoint.keep = 4
  config.logging.report = False
  return workdir, loop.train_and_evaluate(config, str(workdir))


def hash_files(folder: pathlib.Path) -> dict[str, str]:
  return {
    str(path): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in folder.rglob("*")
    if path.is_file()
  }


def run(name, workdir, *overrides: str):
  """Returns the results of an evaluation."""
  overrides = ("logging.report=False", *overrides)
  config = cli.read_config(f"evaluate:from={name}", overrides)
  return loop.train_and_evaluate(config, str(workdir))


def find_values(workdir: pathlib.Path, step: int) -> dict[str, float]:
  """Returns the measurements of the validation set that a run logged."""
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  (record,) = [r for r in map(json.loads, lines) if r["step"] == step]
  return {k: v for k, v in record.items() if k.startswith("val")}


def test_the_results_are_those_of_the_run(finished, tmp_path):
  workdir, results = finished
  before = hash_files(workdir)
  assert run(workdir, tmp_path) == results
  assert {key.split("/")[0] for key in results} == {
    *("scenes:validation", "scenes+ema:validation"),
    *("scenes:v2", "scenes+ema:v2"),
  }
  assert hash_files(workdir) == before
  assert checkpoints.list_steps(tmp_path) == []
  assert run_files.read_status(tmp_path)["step"] == 16


def test_a_step_and_further_sets_without_training(finished, tmp_path):
  workdir, _ = finished
  results = run(
    f"{workdir}@8",
    tmp_path,
    "evaluation.sets.clean.split=train[:40]",
    "evaluation.sets.v2=",
  )
  assert run_files.read_status(tmp_path)["step"] == 8
  logged = find_values(workdir, 8)
  assert len(logged) > 10
  for name, value in logged.items():
    alias, metric = name.split("/")
    key = "scenes+ema" if alias == "val_ema" else "scenes"
    assert results[f"{key}:validation/all/{metric}"]["value"] == value, name
  assert results["scenes:train[:40]/all/top1_accuracy"]["n"] == 40
  assert not any(":v2/" in key for key in results)


def test_a_run_that_was_stopped_is_not_continued(finished, tmp_path):
  workdir, _ = finished
  stopped = tmp_path / "stopped"
  shutil.copytree(workdir, stopped)
  for step in ("12", "16"):
    shutil.rmtree(stopped / checkpoints.FOLDER / step)
  (stopped / run_files.RESULTS).unlink()
  config = cli.read_config(f"evaluate:from={stopped}")
  assert config.steps.total == "8 steps"
  # The newest, pinned: a damaged one is an error, not an earlier step.
  assert config.init.source == f"{stopped}@8"
  (newest,) = stopped.glob("checkpoints/8/state/manifest.ocdbt")
  newest.write_bytes(b"damaged")
  about = raising.about("init.source", given=f"{stopped}@8")
  with pytest.raises(errors.InputError, check=about):
    loop.train_and_evaluate(config, str(tmp_path / "out"))


@pytest.mark.parametrize("name", ["absent", "seed=0,widths=8@5"])
def test_a_run_without_the_checkpoint(finished, name):
  path = finished[0].parent / name
  about = raising.about("from", given=path)
  with pytest.raises(errors.InputError, check=about):
    cli.read_config(f"evaluate:from={path}")


def test_a_run_does_not_start_from_itself(finished):
  workdir, _ = finished
  config = tiny.get_config()
  config.update(json.loads((workdir / run_files.CONFIG).read_text()))
  config.init.source = f"{workdir}@8"
  about = raising.about(str(workdir / run_files.CONFIG))
  with pytest.raises(errors.InputError, check=about):
    loop.train_and_evaluate(config, str(workdir))


def read_as_run(config, folder: pathlib.Path, *overrides: str):
  """Returns the evaluation of a run with a config, parsed."""
  plain = config_utils.to_dict(config)
  # Of an older version.
  del plain["init"]
  plain["checkpoint"]["init_from"] = "runs/other"
  (folder / "checkpoints/30/state").mkdir(parents=True)
  for path in folder.glob("checkpoints/30"):
    (path / "_CHECKPOINT_METADATA").write_text("{}")
  (folder / run_files.CONFIG).write_text(json.dumps(plain))
  return config_lib.parse(cli.read_config(f"evaluate:from={folder}", overrides))


def test_sets_and_warmup_of_a_cifar_run(tmp_path):
  config = cifar10_fast.get_config()
  config.schedule.warmup = "1 epochs"
  key = "evaluation.sets.other.split"
  settings = read_as_run(config, tmp_path, f"{key}=test[:100]")
  assert set(settings.evaluation.sets) == {"test", "other"}
  assert settings.evaluation.flip_average
  assert settings.recipe.model.settings["widths"] == (48, 96)
  assert (settings.steps.total, settings.recipe.schedule.warmup) == (
    *("30 steps", "never"),
  )


@pytest.mark.parametrize("version", ["", ":5.1.0"])
def test_derived_sets_of_an_imagenet_run(tmp_path, version):
  config = imagenet_vit_s16.get_config()
  config.data.name += version
  config.evaluation.input.crop_fraction = 0.9
  derived = set(config.evaluation.sets)
  config.evaluation.sets = dict(
    held_out=dict(split="validation"),
    a=dict(name="mine", split="test"),
    r="",
  )
  config.evaluation.shift = {}
  found = read_as_run(config, tmp_path).evaluation
  assert set(found.sets) == (derived | {"held_out"}) - {"val", "r"}
  assert found.sets["a"].name == "mine"
  assert found.sets["real"].name == "imagenet2012_real"
  assert found.input["crop_fraction"] == 0.9
  assert found.shift.base == "held_out"
  assert set(found.shift.sets) == {"v2", "v2_threshold", "v2_top", "a"}


def test_without_a_run_it_is_a_config_of_imagenet():
  sets = cli.read_config("evaluate").evaluation.sets
  assert len(sets) == 9 and common.IMAGENET == "imagenet2012"


@pytest.mark.parametrize(
  ("args", "setting"),
  [
    ([], "RUN"),
    (["--config=tiny"], "RUN"),
    (["{run}", "--config=tiny"], "RUN"),
    (["{run}", "--config.steps.total=20 steps"], "--config.steps.total"),
    (
      ["{run}", "--config.init.source=other"],
      "--config.init.source",
    ),
    (["{run}@3"], "from"),
    (["--config.seed=1", "{run}"], "command line"),
  ],
)
def test_the_command_takes_a_run(finished, monkeypatch, args, setting):
  values = flags.FlagValues()
  argv = ["imgbench evaluate", *(x.format(run=finished[0]) for x in args)]
  argv.append("--workdir=out")
  monkeypatch.setattr("sys.argv", argv)
  monkeypatch.setattr(cli.flags, "FLAGS", values)
  monkeypatch.setattr(evaluate.flags, "FLAGS", values)
  evaluate.define_flags(values)
  with pytest.raises(errors.InputError, check=raising.about(setting)):
    evaluate.parse_flags(argv)


@pytest.mark.slow
def test_the_command_as_a_process(finished, tmp_path):
  """Also a second time, in a folder that has an error's traceback."""
  workdir, results = finished
  code = "from imgbench import commands as c; c.main()"
  args = ["-c", code, "evaluate", f"{workdir}@16", f"--workdir={tmp_path}"]
  failed = processes.run_python(*args, "--config.data.train_split=absent")
  assert failed.returncode == errors.EXIT_USAGE, failed.stderr
  assert (tmp_path / cli.TRACEBACK).exists()
  for _ in range(2):
    done = processes.run_python(*args)
    assert done.returncode == errors.EXIT_DONE, done.stderr
    found = processes.read_json(tmp_path, "results.json")
    assert found.keys() == results.keys()
    # Sums of floats depend on the XLA flags of these tests.
    for key, entry in found.items():
      counts = [(e["n"], e["correct"]) for e in (entry, results[key])]
      assert counts[0] == counts[1], key
      assert entry["value"] == pytest.approx(results[key]["value"], rel=1e-5)
  assert (tmp_path / "report.html").exists()
