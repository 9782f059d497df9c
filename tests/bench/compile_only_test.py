"""Tests of rows of compiled programs, and of bad input."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

from imgbench import errors
from imgbench.bench import accelerators
from imgbench.bench import compile_only
from imgbench.bench.hlo import collectives
from imgbench.bench.hlo import parser
from imgbench.bench.hlo import programs
from imgbench.configs import tiny
from tests import forked
from tests import raising
from tests.train import processes

pytestmark = pytest.mark.optimized
CONFIG = processes.ROOT / "configs/tiny.py"
COMMAND = ("imgbench.bench.compile_only", f"--config={CONFIG}")


def tiny_steps(**settings):
  config = tiny.get_config()
  config.parallel.devices = 8
  config.parallel.update(settings)
  return programs.build(config)


def test_rows_of_both_programs():
  """For the local devices; TPUs are tested if libtpu is installed."""
  steps = tiny_steps()
  for program, batch, passes in (("train", 24, 3), ("eval", 32, 1)):
    row = compile_only.compile_row(steps, program, accelerators.V5E)
    assert json.loads(json.dumps(row)) == row
    assert row["num_devices"] == 8 and row["global_batch_size"] == batch
    macs = steps.cost.macs
    assert row["flops_per_device"] == passes * 2 * macs * batch / 8
    memory = row["memory_bytes"]
    assert memory["total"] == sum(memory.values()) - memory["total"] > 0
    assert row["sent_bytes"] >= row["needed_sent_bytes"] * 0.99 > 0
    text = compile_only.format_row(row, accelerators.V5E)
    assert "all-reduce" in text


def test_inference_needs_no_collectives():
  row = compile_only.compile_row(tiny_steps(), "infer", accelerators.V5E)
  assert row["sent_bytes"] == row["needed_sent_bytes"] == 0
  assert row["flops_per_device"] > 0


def test_bounds_by_hand():
  row = dict(
    flops_per_device=197e12, accessed_bytes_per_device=819e6, sent_bytes=2e9
  )
  bounds = compile_only.compute_bounds(row, accelerators.V5E)
  assert bounds == {"compute": 1000.0, "memory": 1.0, "links": 10.0}


def test_collectives_alike_are_one_row():
  one = lambda kind, size, source: collectives.Collective(
    kind, (parser.Array("f32", (size,)),), 8, 1, False, source
  )
  rows = compile_only.group_alike(
    [
      one("all-gather", 8, "jit(step)/block1/mlp"),
      one("all-gather", 16, "jit(step)/block12/mlp"),
      one("all-reduce", 800, "jit(step)/loss"),
    ]
  )
  assert [row["kind"] for row in rows] == ["all-reduce", "all-gather"]
  assert rows[1]["count"] == 2 and rows[1]["bytes"] == 96
  assert rows[1]["source"] == "block#/mlp"


def test_imagenet_needs_no_files():
  config = tiny.get_config()
  config.data.name = "imagenet2012"
  with pytest.raises(errors.InputError, check=raising.about("input.size")):
    programs.build(config)
  config.input.size = 32
  steps = programs.build(config)
  assert steps.info.num_examples == 1_281_167 and steps.info.streamed
  assert steps.image_shape == (32, 32, 3) and steps.info.num_classes == 1000


def test_bad_input_and_missing_compilers_end_in_one_line(tmp_path):
  cases = {
    ("--topology=v4:2x2",): "--topology: expected",
    ("--topology=v5e:3x5",): "got v5e:3x5",
    ("--topology=h200",): "--target_config: expected",
    ("--topology=h200:2x4", "--target_config=x"): "'h200:2x4'",
    ("--topology=h200", "--target_config=nowhere"): "'nowhere'",
    (): "--topology",
  }
  if importlib.util.find_spec("libtpu") is None:
    cases["--topology=v5e:2x4",] = "no libtpu"
  if importlib.util.find_spec("jax_plugins") is None:
    target = f"--target_config={__file__}"
    cases["--topology=h200", target] = "make compile-only-venv"
  lines = [[*COMMAND, *arguments] for arguments in cases]
  results = forked.run_all(lines, tmp_path)
  for words, result in zip(cases.values(), results, strict=True):
    assert result.code == errors.EXIT_USAGE, result.stderr
    assert words in result.stderr.splitlines()[-1]


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="libtpu is not installed: no compiler for TPUs",
)
def test_compiles_for_tpus(tmp_path: pathlib.Path):
  out = tmp_path / "rows.json"
  result = run("--topology=v5e:2x4", f"--out={out}")
  if "another process" in result.stderr:
    pytest.skip("another process has libtpu loaded")
  assert result.returncode == 0, result.stderr
  written = json.loads(out.read_text())
  assert [row["program"] for row in written["rows"]] == ["train", "eval"]
  assert all(row["num_devices"] == 8 for row in written["rows"])


def run(*arguments):
  return subprocess.run(
    [sys.executable, "-m", *COMMAND, *arguments],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )
