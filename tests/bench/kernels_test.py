"""Tests of the counts of kernels, bytes and FLOPs, by hand."""

import pathlib

import pytest

from imgbench.bench.hlo import kernels
from imgbench.bench.hlo import parser

# Written by hand in the forms of XLA:GPU: fusions that slice, update in place
# and scatter, library calls with workspace, a loop of three rounds.
TEXT = (pathlib.Path(__file__).parent / "kernels_gpu.txt").read_text()
# name -> (bytes, FLOPs, launches).
EXPECTED = {
  "loop_transpose_fusion": (128 * 4 + 128 * 2, 0, 1),
  # 32 positions, 8 channels in and 16 out; 4096 bytes of workspace.
  "cudnn-conv": (2 * (256 + 128 + 512), 2 * 32 * 8 * 16, 1),
  "cudnn-conv-bw-filter": (2 * (256 + 512 + 128), 2 * 32 * 8 * 16, 1),
  "cudnn-conv-bw-input": (2 * (512 + 128 + 256), 2 * 32 * 8 * 16, 1),
  # Both operands are one array.
  "product": (4 * (512 * 1024 + 512 * 512), 2 * 512 * 512 * 1024, 1),
  # One row of the table, not all of it.
  "loop_add_fusion": (4 * (100 + 1 + 100 + 100), 0, 1),
  # In place: reads the new row and the index, writes the row.
  "written": (4 * (50 + 1 + 50), 0, 3),
  "copied": (2 * 4 * 512 * 512, 0, 1),
  "input_scatter_fusion": (4 * (10 + 5 + 5 + 10), 0, 1),
  "ordered": (4 * (10 + 10), 0, 1),
  "told": (4 * (100 + 1), 0, 1),
  "dot": (4 * (100 + 1), 2 * 100, 1),
}


def test_every_kernel_is_counted_with_its_bytes_and_flops():
  found = kernels.find(parser.parse(TEXT))
  counted = {one.name: (one.num_bytes, one.flops, one.times) for one in found}
  assert len(found) == len(counted)
  assert counted == EXPECTED


def test_summary():
  summary = kernels.summarize(TEXT)
  total = lambda i: sum(row[i] * row[2] for row in EXPECTED.values())
  ops = summary.pop("matrix_ops")
  seconds = sum(
    times * max(size / kernels.BYTES_PER_S, flops / kernels.FLOPS_PER_S)
    for size, flops, times in EXPECTED.values()
  )
  assert summary.pop("roofline_ms") == pytest.approx(1e3 * seconds)
  assert summary == {
    "count": 14,
    "small_count": 12,  # All but the product and the copy.
    "bytes": total(0),
    "flops": total(1),
    "layout_count": 2,
    "layout_bytes": 768 + 2 * 4 * 512 * 512,
    "float32_matrix_ops": 1,
    "float32_operand_bytes": 2 * 4 * 512 * 1024,
    "scatters": 1,
    "sorts": 1,
    "whiles": 1,
    "host_callbacks": 1,
  }
  assert [(op["kind"], op["dtypes"], op["dim_labels"]) for op in ops] == [
    ("__cublas$lt$matmul", "f32xf32->f32", ""),
    ("__cudnn$convBackwardFilter", "bf16xbf16->bf16", "b01f_o01i->b01f"),
    ("__cudnn$convBackwardInput", "bf16xbf16->bf16", "b01f_o01i->b01f"),
    ("__cudnn$convForward", "bf16xbf16->bf16", "b01f_o01i->b01f"),
    ("dot", "f32xf32->f32", ""),
  ]
  assert [op["count"] for op in ops] == [1] * 5


def test_summary_as_text():
  text = kernels.format_summary(kernels.summarize(TEXT))
  for words in ("14 (12", "scatters 1", "sorts 1", "host_callbacks 1"):
    assert words in text


def test_other_text_is_refused():
  with pytest.raises(ValueError, match="module @jit_step"):
    kernels.summarize("module @jit_step {}")
