"""Tests of whole runs until a target."""

import contextlib

import jax
import pytest

from imgbench import errors
from imgbench import timing
from imgbench.bench import time_to_accuracy
from tests import raising

REQUEST = {
  "config": "configs/tiny.py",
  "metric": "val/top1_accuracy",
  "seed": 3,
  "overrides": ["evaluation.every=4 steps", "logging.tensorboard=False"],
}


def test_a_run_ends_at_its_target():
  found = time_to_accuracy.train({**REQUEST, "target": 1e-6})["process"]
  assert found["seed"] == 3
  assert 0 < found["seconds_to_target"] < 600
  assert found["final_accuracy"] >= 1e-6


def test_a_target_out_of_reach():
  found = time_to_accuracy.train({**REQUEST, "target": 1.0})["process"]
  assert found["seconds_to_target"] is None
  assert 0 <= found["final_accuracy"] < 1


def test_no_evaluation_compiles_on_the_clock(monkeypatch):
  sections, compiled_in = [], set()
  section = timing.Stopwatch.section

  @contextlib.contextmanager
  def noted(watch, name):
    with section(watch, name):
      sections.append(name)
      yield
      sections.pop()

  monkeypatch.setattr(timing.Stopwatch, "section", noted)
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: (
      compiled_in.update(sections[-1:]) if "backend_compile" in event else None
    )
  )
  found = time_to_accuracy.train({**REQUEST, "target": 1.0})["process"]
  assert found["seconds"] > 0
  assert "compile_s" in compiled_in
  assert not compiled_in & {"train_s", "eval_s"}


def test_the_target_stops_the_run_when_it_is_logged(tmp_path):
  path = tmp_path / "metrics.jsonl"
  stop = time_to_accuracy.TargetStop(path, "val/top1_accuracy", 0.5)
  assert not stop.requested()
  path.write_text('{"step": 1, "val/top1_accuracy": 0.4}\n')
  assert not stop.requested()
  with path.open("a") as file:
    file.write('{"step": 2, "train/loss": 1.0}\n')
    file.write('{"step": 3, "val/top1_accuracy": 0.5}\n')
  assert stop.requested()


@pytest.mark.parametrize(
  "change, setting, given",
  [
    ({"config": "configs/nowhere.py"}, "config", "configs/nowhere.py"),
    ({"metric": "test/top1_accuracy"}, "metric", "'test/top1_accuracy'"),
    ({"metric": "val/top2_accuracy"}, "metric", "'val/top2_accuracy'"),
  ],
)
def test_bad_input_is_refused(change, setting, given):
  check = raising.about(f"time_to_accuracy.{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    time_to_accuracy.train({**REQUEST, "target": 0.5, **change})


@pytest.mark.parametrize("override", ["optim.weight=1", "optim.weight_decay=a"])
def test_bad_overrides_are_refused(override):
  with pytest.raises(errors.InputError) as caught:
    time_to_accuracy.load_config("configs/tiny.py", 0, [override])
  assert caught.value.setting.startswith("time_to_accuracy.overrides: ")
  assert override.partition("=")[0] in str(caught.value)
