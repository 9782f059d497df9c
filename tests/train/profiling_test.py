"""Tests of --profile_steps: what is traced, and that numbers stay."""

import gzip
import json
import logging

import pytest

from imgbench import errors
from imgbench import paths
from imgbench.configs import tiny
from imgbench.train import loop
from imgbench.train import profiling
from tests.train import processes


def quick_config(total: int):
  config = tiny.get_config()
  config.steps.update(total=f"{total} steps", per_dispatch=2)
  config.evaluation.sets = {}
  config.checkpoint.update(best="", every=f"{total} steps")
  config.logging.update(report=False, tensorboard=False, every="3 steps")
  return config


def digests(workdir, step: int) -> dict[str, int]:
  """Digests of the arrays of a checkpoint."""
  path = workdir / f"checkpoints/{step}/meta/metadata"
  return json.loads(json.loads(path.read_text())["text"])["digests"]


def traced_steps(workdir) -> list[int]:
  """First steps of the dispatches in the trace."""
  (path,) = (workdir / "profile").rglob("*.trace.json.gz")
  events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
  return sorted(
    int(event["args"]["step_num"])
    for event in events
    if event.get("name") == "train" and "step_num" in event.get("args", {})
  )


@pytest.mark.parametrize(
  "text", ["a", "5", "5:3", "4:4", "-1:4", "1:2:3", "1:b", " 1:2", ":4"]
)
def test_bad_steps_are_refused(text):
  with pytest.raises(errors.InputError, match="--profile_steps"):
    profiling.parse(text)


def test_steps_are_rounded_outward_to_dispatches():
  assert profiling.parse("") is None
  steps = profiling.parse("10:15")
  assert steps == profiling.ProfiledSteps(10, 15)
  assert steps.round_to_dispatches(1, total=15) == steps
  assert steps.round_to_dispatches(4, total=100) == profiling.ProfiledSteps(
    8, 16
  )
  # The last steps of a run may be fewer than a dispatch has.
  assert steps.round_to_dispatches(4, total=15) == profiling.ProfiledSteps(
    8, 15
  )
  with pytest.raises(errors.InputError, match="14 steps"):
    steps.check_within(14)


def test_a_bucket_is_refused():
  folder = paths.as_path("gs://bucket/run")
  profiling.check_folder(None, folder)
  with pytest.raises(errors.InputError, match="--profile_steps"):
    profiling.check_folder(profiling.ProfiledSteps(1, 2), folder)


def test_the_trace_has_the_steps_and_numbers_stay(tmp_path, caplog):
  caplog.set_level(logging.INFO, logger="absl")
  config = quick_config(8)
  loop.train_and_evaluate(config, str(tmp_path / "without"))
  profile = profiling.ProfiledSteps(3, 5)
  loop.train_and_evaluate(config, str(tmp_path / "with"), profile=profile)
  # Whole dispatches: 2:6. Step 3 is logged, so 2 and 3 are dispatches of one.
  assert traced_steps(tmp_path / "with") == [2, 3, 4]
  assert "profiler trace of steps 2:6: " in caplog.text
  assert not (tmp_path / "without/profile").exists()
  assert processes.read_metrics(tmp_path / "with") == processes.read_metrics(
    tmp_path / "without"
  )
  assert digests(tmp_path / "with", 8) == digests(tmp_path / "without", 8)
  loop.train_and_evaluate(config, str(tmp_path / "with"), profile=profile)
  assert "no trace is written, the run is done" in caplog.messages[-1]


def test_a_run_that_has_passed_the_steps_says_so(tmp_path, caplog):
  loop.train_and_evaluate(quick_config(4), str(tmp_path))
  loop.train_and_evaluate(
    quick_config(6), str(tmp_path), profile=profiling.ProfiledSteps(1, 3)
  )
  (line,) = [line for line in caplog.messages if "--profile_steps" in line]
  assert "no trace of steps 0:4 is written: the run resumes at step 4" in line
  assert not (tmp_path / "profile").exists()
