"""Which peak a step is read against."""

import pytest

from imgbench import peaks
from imgbench.bench import accelerators


@pytest.mark.parametrize(
  "kind, platform, dtype, precision, expected",
  [
    ("NVIDIA H200", "gpu", "bfloat16", "default", 989e12),
    ("NVIDIA H200", "gpu", "float32", "default", 494.5e12),
    ("NVIDIA H200", "gpu", "float32", "highest", 67e12),
    # Not an arithmetic on GPUs, but another name of the default.
    ("NVIDIA H200", "gpu", "float32", "bfloat16", 494.5e12),
    # Before Ampere there was no TF32.
    ("Tesla T4", "gpu", "float32", "default", 8.1e12),
    ("Tesla T4", "gpu", "bfloat16", "default", None),
    ("TPU v4", "tpu", "bfloat16", "default", 275e12),
    ("TPU v4", "tpu", "float32", "default", 275e12),
    ("TPU v4", "tpu", "float32", "highest", None),
    ("cpu", "cpu", "float32", "default", None),
    ("NVIDIA H9000", "gpu", "float32", "default", None),
    # Two cards of one name, and what is near one in name but slower.
    ("NVIDIA H100 80GB HBM3", "gpu", "bfloat16", "default", 989e12),
    ("NVIDIA H100 PCIe", "gpu", "bfloat16", "default", 756e12),
    ("NVIDIA H100", "gpu", "bfloat16", "default", None),
    ("NVIDIA H100 NVL", "gpu", "bfloat16", "default", None),
    ("NVIDIA H200 NVL", "gpu", "bfloat16", "default", None),
    ("NVIDIA H200 MIG 1g.18gb", "gpu", "bfloat16", "default", None),
    # A device is half a chip.
    ("TPU v2", "tpu", "bfloat16", "default", 23e12),
    ("TPU v3", "tpu", "bfloat16", "default", 61.5e12),
  ],
)
def test_the_peak_of_an_arithmetic(kind, platform, dtype, precision, expected):
  assert peaks.datasheet(kind, platform, dtype, precision) == expected


def test_every_peak_has_a_source_and_sane_numbers():
  for kind, peak in peaks.PEAKS.items():
    assert peak.source, kind
    assert 1e11 < peak.memory_bytes_per_s < 1e13, kind
    assert all(1e12 < f < 1e16 for f in peak.flops_per_s.values()), kind


def test_the_tables_of_the_project_agree():
  for kind, chip in (
    ("TPU v5 lite", accelerators.V5E),
    ("TPU v6 lite", accelerators.V6E),
  ):
    peak = peaks.PEAKS[kind]
    assert peak.flops_per_s["bfloat16"] == chip.flops_per_s
    assert peak.memory_bytes_per_s == chip.memory_bytes_per_s
