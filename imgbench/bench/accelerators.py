"""Chips that are compiled for where they are not: memory, links and peaks."""

import dataclasses

from imgbench import errors
from imgbench import peaks


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """One chip, with numbers that no program reaches.

  Attributes:
    name: as in topologies, e.g. "v5e".
    device_kind: as JAX calls it, for `peaks`, which names the source.
    memory_bytes: of its memory.
    link_bytes_per_s: that it can send to others over all its links at once.
  """

  name: str
  device_kind: str
  memory_bytes: float
  link_bytes_per_s: float

  @property
  def is_gpu(self) -> bool:
    return not self.device_kind.startswith("TPU")

  @property
  def flops_per_s(self) -> float:
    """Of bfloat16 matrix products; a multiply-add is two."""
    return peaks.PEAKS[self.device_kind].flops_per_s[peaks.BFLOAT16]

  @property
  def memory_bytes_per_s(self) -> float:
    """Between memory and compute units."""
    return peaks.PEAKS[self.device_kind].memory_bytes_per_s


# Google, TPU v5e and TPU v6e, docs.cloud.google.com/tpu/docs/v5e and .../v6e:
# "HBM capacity per chip", 16 and 32 GB, and "Bidirectional inter-chip
# interconnect (ICI) bandwidth (per chip)", 400 and 800 GBps. Half of that can
# be sent; other editions have 1600 Gbps, and 3200 or 3584 Gbps, of a chip. The
# capacities are taken as decimal, and JAX's tpu_info.py has 17.2 and 34.4e9
# bytes.
V5E = Accelerator("v5e", "TPU v5 lite", 16e9, 200e9)
V6E = Accelerator("v6e", "TPU v6 lite", 32e9, 400e9)
# NVIDIA, H200 GPU, nvidia.com/en-us/data-center/h200: 141 GB, and NVLink of 900
# GB/s in both directions together.
H200 = Accelerator("h200", "NVIDIA H200", 141e9, 450e9)
ACCELERATORS = {one.name: one for one in (V5E, V6E, H200)}


def find_accelerator(topology: str) -> Accelerator:
  """Returns the chip of a topology, e.g. "v5e:4x4". Raises InputError."""
  name = topology.partition(":")[0]
  if name not in ACCELERATORS:
    raise errors.InputError(
      f"--topology: expected one of {', '.join(ACCELERATORS)} before any colon"
      f" (chips whose peak numbers are known), got {topology!r}"
    )
  return ACCELERATORS[name]
