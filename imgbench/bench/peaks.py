"""What devices can do at most, by the kind that JAX calls them.

Dense numbers of the vendors' datasheets, without sparsity, for one JAX device.
A peak is of an arithmetic: "bfloat16", "tensorfloat32" or "float32" products
that are summed in float32. What is not here has no datasheet share; the share
of the measured matrix product is there on every device.
"""

import dataclasses

BFLOAT16, TF32, FLOAT32 = "bfloat16", "tensorfloat32", "float32"
DATASHEET, MEASURED = "datasheet", "measured"


@dataclasses.dataclass(frozen=True)
class Peak:
  """Of one device.

  Attributes:
    flops_per_s: by arithmetic; a multiplication and an addition are two.
    memory_bytes_per_s: between memory and compute units.
    source: of the numbers.
  """

  flops_per_s: dict[str, float]
  memory_bytes_per_s: float
  source: str


def _gpu(bfloat16: float, tf32: float, float32: float, gb_per_s, source: str):
  """In units of 1e12 and 1e9; 0 where a chip has no such arithmetic."""
  found = {BFLOAT16: bfloat16, TF32: tf32, FLOAT32: float32}
  flops = {name: 1e12 * value for name, value in found.items() if value}
  return Peak(flops, 1e9 * gb_per_s, f"NVIDIA, {source} datasheet")


def _tpu(bfloat16: float, gb_per_s: float, page: str) -> Peak:
  """Published for bfloat16 alone, in units of 1e12 and 1e9."""
  source = f"docs.cloud.google.com/tpu/docs/{page}"
  return Peak({BFLOAT16: 1e12 * bfloat16}, 1e9 * gb_per_s, source)


# Where a datasheet gives numbers with sparsity, half of them stands here. Of
# TPU v2 and v3 a device is one of a chip's two cores.
PEAKS = {
  "NVIDIA H200": _gpu(989, 494.5, 67, 4800, "H200 Tensor Core GPU"),
  "NVIDIA H100 80GB HBM3": _gpu(989, 494.5, 67, 3350, "H100 SXM"),
  "NVIDIA H100 PCIe": _gpu(756, 378, 51, 2000, "H100 PCIe"),
  "NVIDIA A100-SXM4-40GB": _gpu(312, 156, 19.5, 1555, "A100"),
  "NVIDIA A100-SXM4-80GB": _gpu(312, 156, 19.5, 2039, "A100 80GB SXM"),
  "NVIDIA A100 80GB PCIe": _gpu(312, 156, 19.5, 1935, "A100 80GB PCIe"),
  "NVIDIA L4": _gpu(121, 60, 30.3, 300, "L4"),
  "Tesla V100-SXM2-16GB": _gpu(0, 0, 15.7, 900, "V100"),
  "Tesla V100-SXM2-32GB": _gpu(0, 0, 15.7, 900, "V100"),
  "Tesla T4": _gpu(0, 0, 8.1, 320, "T4"),
  "TPU v2": _tpu(22.5, 350, "v2"),
  "TPU v3": _tpu(61.5, 450, "v3"),
  "TPU v4": _tpu(275, 1228, "v4"),
  "TPU v5 lite": _tpu(197, 819, "v5e"),
  "TPU v5": _tpu(459, 2765, "v5p"),
  "TPU v5p": _tpu(459, 2765, "v5p"),
  "TPU v6 lite": _tpu(918, 1638, "v6e"),
}


def arithmetic(
  dtype: str, precision: str, platform: str, device_kind: str = ""
) -> str | None:
  """Returns what a matrix product of the dtype is computed in.

  Args:
    dtype: of its operands, "float32" or "bfloat16".
    precision: as jax_default_matmul_precision, or "default".
    platform: "cpu", "gpu" or "tpu".
    device_kind: as in PEAKS; GPUs without TF32 compute in float32.

  Returns:
    BFLOAT16, TF32 or FLOAT32; None where it takes several passes of another
    arithmetic, which no datasheet has a peak for.
  """
  if dtype == "bfloat16":
    return BFLOAT16
  if platform == "cpu":
    return FLOAT32
  if platform == "tpu":
    # One pass of bfloat16, three or six of them.
    return BFLOAT16 if precision in ("default", "bfloat16") else None
  if precision == "bfloat16":
    return BFLOAT16
  exact = precision in ("highest", "float32")
  known = PEAKS.get(device_kind)
  has_tf32 = known is None or TF32 in known.flops_per_s
  return TF32 if has_tf32 and not exact else FLOAT32


def datasheet(
  device_kind: str, platform: str, dtype: str, precision: str
) -> float | None:
  """Returns FLOP/s of one device; None where none is published."""
  found = PEAKS.get(device_kind)
  kind = arithmetic(dtype, precision, platform, device_kind)
  return found.flops_per_s.get(kind) if found else None
