"""Peak FLOP/s and memory bandwidth by JAX's device kind.

Published dense numbers, without sparsity, for one JAX device. Peaks are given
per arithmetic: "bfloat16", "tensorfloat32" or "float32" products summed in
float32. Other devices have no MFU of the datasheet peak, only that of the
measured matrix product.
"""

import dataclasses

BFLOAT16, TF32, FLOAT32 = "bfloat16", "tensorfloat32", "float32"
DATASHEET, MEASURED = "datasheet", "measured"


@dataclasses.dataclass(frozen=True)
class Peak:
  """Peak numbers of one device.

  Attributes:
    flops_per_s: by arithmetic; a multiply-add counts as two.
    memory_bytes_per_s: between memory and compute units.
    source: of the numbers.
  """

  flops_per_s: dict[str, float]
  memory_bytes_per_s: float
  source: str


def _gpu(bfloat16: float, tf32: float, float32: float, gb_per_s, source: str):
  """Returns a Peak from 1e12 FLOP/s and 1e9 bytes/s; 0: not available."""
  found = {BFLOAT16: bfloat16, TF32: tf32, FLOAT32: float32}
  flops = {name: 1e12 * value for name, value in found.items() if value}
  return Peak(flops, 1e9 * gb_per_s, f"NVIDIA, {source}")


def _tpu(bfloat16: float, gb_per_s: float, source: str) -> Peak:
  """Returns a Peak from 1e12 FLOP/s and 1e9 bytes/s; bfloat16 only."""
  return Peak({BFLOAT16: 1e12 * bfloat16}, 1e9 * gb_per_s, source)


def _cloud(page: str) -> str:
  return f"Google, TPU {page}, docs.cloud.google.com/tpu/docs/{page}"


_PAGE = "nvidia.com/en-us/data-center"
_H200 = f"H200 GPU, {_PAGE}/h200"
_H100 = f"H100 GPU, {_PAGE}/h100"
_H100_PCIE = (
  "H100 Tensor Core GPU Architecture (whitepaper),"
  " resources.nvidia.com/en-us-tensor-core/gtc22-whitepaper-hopper;"
  " memory: H100 PCIe GPU product brief PB-11133-001"
)
_A100_40GB = "A100 Tensor Core GPU Architecture (whitepaper)"
_A100_80GB = "A100 datasheet nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf"
_L4 = f"L4 Tensor Core GPU, {_PAGE}/l4"
_V100 = f"V100 Tensor Core GPU, {_PAGE}/v100"
_T4 = f"T4, {_PAGE}/tesla-t4; memory: T4 product brief, table 2"
_TPU_V2 = "JAX 0.10.2, jax/_src/pallas/mosaic/tpu_info.py, half a chip"

# NVIDIA: kinds are the CUDA driver's names, matched whole: H100 NVL, H200 NVL,
# MIG slices and other cards with the same prefix have no peak here. The pages
# give numbers with sparsity for H200, H100 and L4; here they are halved, e.g.
# 989 of H100 in TF32. 989 is 1,979 halved and rounded down; the whitepaper has
# 989.4 (and 494.7 in TF32). The pages were not available: the numbers are from
# documents that quote them, except for the memory of T4 and H100 PCIe (copies
# of the product briefs); the FLOP/s agree with units times clocks.
#
# TPU: numbers per chip from Google's pages; kinds as in JAX's tpu_info.py. For
# v2 and v3 a device is one of a chip's two cores. Google's page on v2 has no
# numbers. Versions of the page on v5e have 819 GB/s and 800 GiB/s of memory.
PEAKS = {
  "NVIDIA H200": _gpu(989, 494.5, 67, 4800, _H200),
  "NVIDIA H100 80GB HBM3": _gpu(989, 494.5, 67, 3350, _H100),
  "NVIDIA H100 PCIe": _gpu(756, 378, 51, 2000, _H100_PCIE),
  "NVIDIA A100-SXM4-40GB": _gpu(312, 156, 19.5, 1555, _A100_40GB),
  "NVIDIA A100-SXM4-80GB": _gpu(312, 156, 19.5, 2039, _A100_80GB),
  "NVIDIA A100 80GB PCIe": _gpu(312, 156, 19.5, 1935, _A100_80GB),
  "NVIDIA L4": _gpu(121, 60, 30.3, 300, _L4),
  "Tesla V100-SXM2-16GB": _gpu(0, 0, 15.7, 900, _V100),
  "Tesla V100-SXM2-32GB": _gpu(0, 0, 15.7, 900, _V100),
  "Tesla T4": _gpu(0, 0, 8.1, 320, _T4),
  "TPU v2": _tpu(46 / 2, 716 / 2, _TPU_V2),
  "TPU v3": _tpu(123 / 2, 900 / 2, _cloud("v3")),
  "TPU v4": _tpu(275, 1200, _cloud("v4")),
  "TPU v5 lite": _tpu(197, 819, _cloud("v5e")),
  "TPU v5": _tpu(459, 2765, _cloud("v5p")),
  "TPU v5p": _tpu(459, 2765, _cloud("v5p")),
  "TPU v6 lite": _tpu(918, 1638, _cloud("v6e")),
}


def arithmetic(
  dtype: str, precision: str, platform: str, device_kind: str = ""
) -> str | None:
  """Returns the arithmetic of a matrix product.

  Args:
    dtype: of its operands, "float32" or "bfloat16".
    precision: as jax_default_matmul_precision, or "default".
    platform: "cpu", "gpu" or "tpu".
    device_kind: as in PEAKS; GPUs without TF32 compute in float32.

  Returns:
    BFLOAT16, TF32 or FLOAT32; None if it takes several passes, for which no
    datasheet has a peak.
  """
  if dtype == "bfloat16":
    return BFLOAT16
  if platform == "cpu":
    return FLOAT32
  if platform == "tpu":
    # One pass of bfloat16, three or six of them.
    return BFLOAT16 if precision in ("default", "bfloat16") else None
  # "bfloat16" is JAX's default precision, which is TF32 on GPUs that have it.
  exact = precision in ("highest", "float32")
  known = PEAKS.get(device_kind)
  has_tf32 = known is None or TF32 in known.flops_per_s
  return TF32 if has_tf32 and not exact else FLOAT32


def datasheet(
  device_kind: str, platform: str, dtype: str, precision: str
) -> float | None:
  """Returns the published FLOP/s of one device, or None."""
  found = PEAKS.get(device_kind)
  kind = arithmetic(dtype, precision, platform, device_kind)
  return found.flops_per_s.get(kind) if found else None
