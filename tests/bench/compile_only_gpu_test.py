"""Tests of steps compiled for an H200 that is not attached.

They need XLA's compiler for GPUs (`make compile-only-venv`; its interpreter in
IMGBENCH_COMPILE_ONLY_PYTHON) and XLA's description of the GPU, a file named by
IMGBENCH_TARGET_CONFIG (docs/gpu_programs.md).
"""

import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from imgbench import config as config_lib
from imgbench import errors
from imgbench import models
from imgbench.bench import compile_only
from imgbench.bench.hlo import kernels
from imgbench.experiments import compile_only_h200
from imgbench.experiments import compile_only_v5e
from imgbench.parallel import determinism
from tests.train import processes

DOC = processes.ROOT / "docs/gpu_programs.md"
MUON_KERNELS = 200
ROWS = processes.ROOT / "experiments/results/compile_only_h200.json"


@functools.cache
def python_with_compiler() -> str:
  """Returns an interpreter that can compile for GPUs; skips without one."""
  if importlib.util.find_spec("jax_cuda13_plugin"):
    return sys.executable
  if other := os.environ.get("IMGBENCH_COMPILE_ONLY_PYTHON"):
    return other
  pytest.skip(
    "no compiler for GPUs: run make compile-only-venv, or set"
    " IMGBENCH_COMPILE_ONLY_PYTHON to a Python that has it"
  )


def target_config() -> str:
  """Returns the file that describes an H200; skips without one."""
  if path := os.environ.get("IMGBENCH_TARGET_CONFIG"):
    return str(pathlib.Path(path).absolute())
  pytest.skip(
    "IMGBENCH_TARGET_CONFIG names no description of an H200"
    " (docs/gpu_programs.md)"
  )


def run(python, config, *arguments, **variables):
  return subprocess.run(
    [
      *(python, "-m", "imgbench.bench.compile_only", "--topology=h200"),
      f"--config={processes.ROOT / 'configs' / config}.py",
      *arguments,
    ],
    env=processes.environment() | variables,
    cwd=processes.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


def compiled(tmp_path, config, *arguments, **variables):
  """Returns the rows of a config's steps."""
  out = tmp_path / "rows.json"
  target = f"--target_config={target_config()}"
  result = run(
    python_with_compiler(),
    config,
    target,
    f"--out={out}",
    *arguments,
    **variables,
  )
  assert result.returncode == 0, result.stderr
  return json.loads(out.read_text())["rows"]


def counts(row):
  """Returns kind -> number of bfloat16 convolutions and products."""
  found = {}
  for op in row["kernels"]["matrix_ops"]:
    if op["dtypes"] == "bf16xbf16->bf16":
      found[op["kind"]] = found.get(op["kind"], 0) + op["count"]
  return found


def test_equal_steps_have_equal_counts(tmp_path):
  programs = [f"--program={name}" for name in compile_only.PROGRAMS]
  rows = compiled(tmp_path, "tiny", *programs)
  assert [row["program"] for row in rows] == list(compile_only.PROGRAMS)
  for row in rows:
    assert row["kernels"]["count"] > 0 and row["sent_bytes"] == 0
  (again,) = compiled(tmp_path, "tiny", programs[0])
  for name in ("kernels", "memory_bytes"):
    assert again[name] == rows[0][name]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), determinism.XLA_FLAGS], ids=len)
def test_training_step_of_a_resnet(tmp_path, flags):
  """The step of a run: uint8 images, flip, normalization, update.

  XLA:CPU's forms, kernels' gradients in parts among them, are not used, and the
  gradient of the max-pool is no scatter.
  """
  (row,) = compiled(
    tmp_path,
    "imagenet_resnet50",
    "--config.global_batch_size=256",
    "--program=train",
    XLA_FLAGS=" ".join(flags),
  )
  # 16 of 3x3 and the stem; the images have no gradient. The other 36 are
  # products, with two gradients each.
  assert counts(row) == {
    "__cudnn$convForward": 17,
    "__cudnn$convBackwardFilter": 17,
    "__cudnn$convBackwardInput": 16,
    "__cublas$lt$matmul": 3 * 36,
  }
  found = row["kernels"]
  labels = {op["dim_labels"] for op in found["matrix_ops"]}
  assert labels == {"", "b01f_o01i->b01f"}  # NHWC
  # Those of the classifier.
  assert found["float32_matrix_ops"] <= 3
  assert found["sorts"] == found["whiles"] == found["host_callbacks"] == 0
  assert found["scatters"] == 0
  assert found["bytes"] <= 96.5e9


@pytest.mark.slow
def test_norms_of_a_resnet_are_folded_for_inference(tmp_path):
  """In evaluations too, which add outcomes and counts."""
  infer, evaluation = compiled(
    tmp_path,
    "imagenet_resnet50",
    "--config.evaluation.batch_size=256",
    "--program=infer",
    "--program=eval",
  )
  assert infer["kernels"]["bytes"] <= 15.1e9
  assert infer["kernels"]["count"] <= 80
  assert evaluation["kernels"]["bytes"] <= 15.4e9


@pytest.mark.slow
def test_bounds_of_a_vit(tmp_path):
  """Kernels and bytes of ViT-S/16's step: uint8 images, mixup, average."""
  (row,) = compiled(
    tmp_path,
    "imagenet_vit_s16",
    "--config.global_batch_size=256",
    "--program=train",
  )
  found = row["kernels"]
  # 1,131 and 87.8 GB with JAX 0.11.2.
  assert found["count"] <= 1140 and found["bytes"] <= 93e9
  assert found["scatters"] == found["sorts"] == found["whiles"] == 0
  assert found["host_callbacks"] == 0
  # The classifier with its two gradients; all others are in bfloat16.
  operands = lambda op: op["dtypes"].partition("->")[0]
  wide = [op for op in found["matrix_ops"] if "f32" in operands(op)]
  assert sum(op["count"] for op in wide) == 3
  assert sum(op["flops"] for op in wide) == 3 * 2 * 256 * 384 * 1000


@pytest.mark.slow
def test_depthwise_convolutions_are_convolutions(tmp_path):
  """Not sums of shifted images, as on CPUs."""
  (row,) = compiled(
    tmp_path,
    "imagenet_resnet50",
    "--config.model.name=efficientnet_b0",
    "--config.evaluation.batch_size=256",
    "--program=infer",
  )
  found = counts(row)
  convolutions = sum(n for kind, n in found.items() if "conv" in kind)
  assert convolutions == 17  # 16 depthwise and the stem


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), determinism.XLA_FLAGS], ids=len)
def test_a_step_of_muon_is_a_few_kernels(tmp_path, flags):
  """Its schedule has no loop, its iterations are products of one batch."""
  (row,) = compiled(
    tmp_path,
    "cifar10_fast",
    "--config.global_batch_size=2000",
    "--config.model.widths=(64, 256, 256)",
    "--program=train",
    XLA_FLAGS=" ".join(flags),
  )
  found = row["kernels"]
  assert found["count"] <= MUON_KERNELS
  assert found["scatters"] == found["sorts"] == found["whiles"] == 0
  # Five iterations of three products, and three of the convolution of images
  # of one pixel; those of the head are in float32.
  assert counts(row)["__cublas$lt$matmul"] == 15 + 3
  assert found["float32_matrix_ops"] <= 3


@pytest.mark.parametrize(
  "text, words", [("hello", "GpuTargetConfigProto"), ("", "got ''")]
)
def test_files_that_describe_no_gpu_are_refused(tmp_path, text, words):
  path = tmp_path / "target.txtpb"
  path.write_text(text)
  result = run(python_with_compiler(), "tiny", f"--target_config={path}")
  assert result.returncode == errors.EXIT_USAGE
  line = result.stderr.splitlines()[-1]
  assert "--target_config" in line and words in line


def test_cases_are_distinct_and_their_configs_complete():
  cases = compile_only_h200.list_cases()
  assert len({case.model for case in cases}) == len(cases)
  for case in cases:
    config = case.config()
    config_lib.parse(config)
    assert config.model.name in models.BUILDERS
    assert config.evaluation.batch_size == case.global_batch_size


def test_the_document_shows_the_rows_that_are_kept():
  rows = compile_only_v5e.read(ROWS)
  cases = compile_only_h200.list_cases()
  assert [(row["model"], row["program"]) for row in rows] == [
    (case.model, name) for case in cases for name in compile_only.PROGRAMS
  ]
  shown = DOC.read_text().partition(compile_only_h200.BEGIN)[2]
  table = shown.partition(compile_only_v5e.END)[0]
  assert table == compile_only_h200.format_table(rows)
  for row in rows:
    found = row["kernels"]
    assert found["count"] > found["small_count"] > 0
    assert found["host_callbacks"] == 0
    # Padding counts as data; borders of few positions are most of it.
    assert found["flops"] <= 1.05 * row["flops_per_device"]
    slowest = max(
      found["bytes"] / kernels.BYTES_PER_S,
      found["flops"] / kernels.FLOPS_PER_S,
    )
    assert found["roofline_ms"] >= 1e3 * slowest * (1 - 1e-9)
