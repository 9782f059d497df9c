"""Tests of the bookkeeping of the scaling benchmark; never of speed."""

import json

import pytest

from imgbench import errors
from imgbench.bench import quantities
from imgbench.bench import scaling
from imgbench.configs import tiny
from tests import raising

pytestmark = pytest.mark.optimized


def test_cases():
  wanted = scaling.list_cases([1, 2, 4], ["jit", "fsdp"], 8)
  batch = {case.name: case.global_batch_size for case in wanted}
  assert batch["weak/jit/1"] == 8 and batch["strong/jit/1"] == 32
  assert batch["weak/fsdp/4"] == 32 and batch["strong/jit/2"] == 32
  assert batch["weak x2/jit/1"] == 16  # the work of weak/*/2 on one device
  assert len(wanted) == 1 + 1 + 1 + 2 * 2 * 2
  assert len({case.program for case in wanted}) == len(wanted) - 2
  with pytest.raises(
    errors.InputError, check=raising.about("--strategies", given="ddp")
  ):
    scaling.list_cases([1], ["ddp"], 8)


def test_numbers_of_devices():
  assert scaling.choose_device_counts([]) == [1, 2, 4, 8]
  assert scaling.choose_device_counts(["2", "3"]) == [2, 3]
  with pytest.raises(
    errors.InputError, check=raising.about("--devices", given="16")
  ):
    scaling.choose_device_counts(["16"])


def test_ratios_by_hand():
  wanted = scaling.list_cases([1, 4], ["jit"], 8)
  seconds = {
    ("jit", 1, 8): [1.0, 2.0],
    ("jit", 1, 32): [4.0, 8.0],
    ("jit", 4, 32): [2.0, 2.0],
  }
  alone = {("jit", 4, 32): [0.5, 0.25]}
  by_name = {case.name: case for case in wanted}
  values = lambda name: {
    key.rpartition("/")[2]: row.values
    for key, row in scaling._build_rows(
      by_name[name], wanted, seconds, alone
    ).items()
  }
  weak, strong = values("weak/jit/4"), values("strong/jit/4")
  assert weak["step_ms"] == [2000.0, 2000.0]
  assert weak["images_per_s"] == [16.0, 16.0]
  assert weak["efficiency"] == [0.5, 1.0]
  assert strong["efficiency"] == [0.5, 1.0]
  assert strong["share_of_one_device"] == [2.0, 4.0]
  assert strong["collectives_ms"] == [500.0, 250.0]
  assert set(values("weak/jit/1")) == {"step_ms", "images_per_s"}


def test_measures_every_case():
  config = tiny.get_config()
  wanted = scaling.list_cases([1, 2], ["fsdp"], 4)
  rows, facts = scaling.measure(config, wanted, rounds=2, steps=1)
  assert all(isinstance(row, quantities.Samples) for row in rows.values())
  assert all(min(row.values) > 0 for row in rows.values())
  assert facts["weak/fsdp/2"] is facts["strong/fsdp/2"]  # one program
  known = facts["weak/fsdp/2"]
  assert json.loads(json.dumps(known)) == known
  assert known["sent_bytes"] >= known["needed_sent_bytes"] * 0.99 > 0
  assert facts["weak/jit/1"]["sent_bytes"] == 0
  lines = scaling.format_table(wanted, rows, facts).splitlines()
  assert len(lines) == 1 + len(wanted)
