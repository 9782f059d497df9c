"""Memory, links and peak rates of chips that steps are compiled for."""

import dataclasses

from imgbench import errors
from imgbench import peaks


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """One chip and its peak numbers.

  Attributes:
    name: as in topologies, e.g. "v5e".
    device_kind: JAX's name, the key in `peaks`, which gives the source.
    memory_bytes: memory capacity.
    link_bytes_per_s: most it can send to other chips over all links at once.
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
    """Peak of bfloat16 matrix products; a multiply-add counts as two."""
    return peaks.PEAKS[self.device_kind].flops_per_s[peaks.BFLOAT16]

  @property
  def memory_bytes_per_s(self) -> float:
    """Peak bandwidth between memory and compute units."""
    return peaks.PEAKS[self.device_kind].memory_bytes_per_s


# Google, TPU v5e and TPU v6e, docs.cloud.google.com/tpu/docs/v5e and .../v6e:
# "HBM capacity per chip", 16 and 32 GB, and "Bidirectional inter-chip
# interconnect (ICI) bandwidth (per chip)", 400 and 800 GBps, half of it in each
# direction; other versions of the pages say 1600 Gbps, and 3200 or 3584 Gbps.
# Capacities are read as decimal; JAX's tpu_info.py has 17.2e9 and 34.4e9 bytes.
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
    expected = f"a topology of {', '.join(ACCELERATORS)}, e.g. v5e:4x4"
    raise errors.InputError("--topology", expected, repr(topology))
  return ACCELERATORS[name]
