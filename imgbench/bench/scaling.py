"""Measures how a training step scales over the local devices.

imgbench bench scaling --config=configs/scenes.py \\
    [--devices=1,2,4,8] [--strategies=jit,fsdp,pmap] [--per_device_batch=32] \\
    [--rounds=7] [--steps=10] [--out=DIR]

With XLA_FLAGS=--xla_force_host_platform_device_count=8 a CPU has 8 devices.
Runs the training step of the config on one batch that is on the devices already
(no input path): data parallel under jit, with the state sharded over all
devices (fsdp), and under pmap.
- weak: --per_device_batch images on each device; efficiency is the time of one
  device over the time of all.
- strong: one batch, that of the most devices; efficiency is the time of one
  device over the time of all and their number.
Cases take turns, round by round; each is compared with one device in the same
round. The table also has the bytes that the compiled program sends and those
it needs to send (imgbench.bench.hlo.need), and its memory.

collectives_ms is the time of the same collectives alone, one after the other
(imgbench.bench.hlo.replay), an upper bound of what they add to a step: the
compiler may overlap them with other work.

CPU devices share the cores of the machine: with more devices than cores weak
efficiency is cores / devices at best. There `share_of_one_device`, the time of
one device over that of all for the same batch, shows the cost of parallelism: 1
means none.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
import statistics
from typing import Any

from absl import flags
from absl import logging
import jax
import ml_collections
import numpy as np

from imgbench import cli
from imgbench import commands
from imgbench import config_utils
from imgbench import environment
from imgbench import errors
from imgbench import host_memory
from imgbench import startup
from imgbench import timing
from imgbench.bench import compile_only
from imgbench.bench import quantities
from imgbench.bench.hlo import collectives
from imgbench.bench.hlo import programs
from imgbench.bench.hlo import replay
from imgbench.tables import formats
from imgbench.tables import table

STRATEGIES = ("jit", "fsdp", "pmap")
WEAK, STRONG = "weak", "strong"


@dataclasses.dataclass(frozen=True)
class Case:
  """One measured case.

  Attributes:
    mode: WEAK or STRONG.
    strategy: one of STRATEGIES.
    devices: number of devices.
    global_batch_size: B.
  """

  mode: str
  strategy: str
  devices: int
  global_batch_size: int

  @property
  def name(self) -> str:
    return f"{self.mode}/{self.strategy}/{self.devices}"

  @property
  def program(self) -> tuple[str, int, int]:
    """Equal for cases that share a program; one device uses jit."""
    strategy = self.strategy if self.devices > 1 else "jit"
    return strategy, self.devices, self.global_batch_size


REQUIRED = ("config",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --config (of imgbench.main) and what is measured."""
  cli.define_config_flag(flag_values)
  flags.DEFINE_list(
    "devices",
    [],
    "Numbers of devices; empty: 1, 2, 4, ... up to all.",
    flag_values=flag_values,
  )
  flags.DEFINE_list(
    "strategies",
    list(STRATEGIES),
    "Some of jit, fsdp, pmap.",
    flag_values=flag_values,
  )
  quantities.define_flags(
    flag_values,
    per_device_batch=(32, 1, "Images per device."),
    rounds=(7, 1, "Counted rounds."),
    steps=(10, 1, "Steps per round."),
  )


class Stepping:
  """A compiled training step that is repeated on one batch.

  Attributes:
    facts: of the program, for JSON.
    collectives_alone: the same collectives alone, or None.
  """

  def __init__(self, config: ml_collections.ConfigDict, case: Case):
    steps = programs.build(_set_case(config, case), fed=True)
    strategy = steps.strategy
    fed = strategy.shard_batch(_draw_batch(steps))
    self._fed = fed
    self._state = steps.compute.init_state()
    with timing.timed() as compiling:
      self._step = steps.compute.lower(self._state, None, fed).compile()
    found = collectives.find(self._step.as_text())
    self.collectives_alone = None
    if found:
      self.collectives_alone = Replay(found, strategy.mesh)
    needed = steps.training_need()
    self.facts = {
      "global_batch_size": case.global_batch_size,
      "compile_s": compiling.seconds,
      "memory_bytes": compile_only.count_memory(self._step),
      "peak_memory_bytes": None,
      "collectives": compile_only.group_alike(found),
      "needed": compile_only.group_alike(needed),
      "sent_bytes": collectives.sum_sent(found),
      "needed_sent_bytes": collectives.sum_sent(needed),
    }

  def __call__(self, unused: int) -> jax.Array:
    self._state, loss = self._step(self._state, None, self._fed)
    return loss


class Replay:
  """The collectives of a program alone."""

  def __init__(self, found, mesh: jax.sharding.Mesh):
    self._program, self._inputs = replay.build(found, mesh)

  def __call__(self, unused: int) -> jax.Array:
    return self._program(*self._inputs)


def _set_case(config, case: Case) -> ml_collections.ConfigDict:
  changed = config.copy_and_resolve_references()
  with changed.unlocked():
    changed.global_batch_size = case.global_batch_size
    cut = case.strategy == "fsdp"
    changed.parallel.update(
      strategy="pmap" if case.program[0] == "pmap" else "jit",
      devices=case.devices,
      fsdp=case.devices if cut else 1,
    )
  return changed


def _draw_batch(steps: programs.Steps) -> dict[str, np.ndarray]:
  """Returns random images and labels, the same for every case."""
  size = steps.settings.recipe.global_batch_size
  rng = np.random.default_rng(0)
  number = np.arange(size, dtype=np.int32)
  return {
    "image": rng.integers(0, 256, (size, *steps.image_shape), np.uint8),
    "label": rng.integers(0, steps.info.num_classes, size, np.int32),
    "index": number,
    "epoch": np.zeros_like(number),
  }


def list_cases(
  counts: Sequence[int], strategies: Sequence[str], per_device_batch: int
) -> list[Case]:
  """Returns the cases, one device first.

  Args:
    counts: numbers of devices.
    strategies: of STRATEGIES.
    per_device_batch: images per device in weak scaling; in strong scaling, per
      device of the largest count.

  Raises:
    InputError: unknown strategies.
  """
  unknown = set(strategies) - set(STRATEGIES)
  if unknown or not strategies:
    expected = f"some of {', '.join(STRATEGIES)}"
    given = ", ".join(sorted(unknown)) or "none"
    raise errors.InputError("--strategies", expected, given)
  counts = sorted({1, *counts})
  batch = {
    WEAK: lambda count: per_device_batch * count,
    STRONG: lambda count: per_device_batch * counts[-1],
  }
  one = [Case(mode, "jit", 1, size(1)) for mode, size in batch.items()]
  # Batches of weak scaling on one device, for `share_of_one_device`.
  one += [Case(f"{WEAK} x{n}", "jit", 1, batch[WEAK](n)) for n in counts[1:-1]]
  return one + [
    Case(mode, strategy, count, size(count))
    for mode, size in batch.items()
    for strategy in strategies
    for count in counts[1:]
  ]


def measure(
  config: ml_collections.ConfigDict,
  wanted: Sequence[Case],
  rounds: int,
  steps: int,
) -> tuple[dict[str, quantities.Samples], dict[str, Any]]:
  """Returns the rows and facts of cases, both by name.

  A program shared by several cases is measured once.
  """
  stepping = {}
  for case in wanted:
    if case.program not in stepping:
      logging.info("compiling %s", case)
      stepping[case.program] = Stepping(config, case)

  def time(step: Stepping) -> tuple[float, float]:
    taken = timing.measure_round(step, steps)
    if step.collectives_alone is None:
      return taken, 0.0
    return taken, timing.measure_round(step.collectives_alone, steps)

  calls = {p: functools.partial(time, step) for p, step in stepping.items()}
  measured = quantities.interleave(calls, rounds, "scaling")
  seconds = {p: [taken for taken, _ in found] for p, found in measured.items()}
  alone = {p: [alone for _, alone in found] for p, found in measured.items()}
  _note_peaks(stepping)
  rows = {}
  for case in wanted:
    rows |= _build_rows(case, wanted, seconds, alone)
  return rows, {case.name: stepping[case.program].facts for case in wanted}


def _note_peaks(stepping) -> None:
  """Stores the devices' peak memory of all programs, if it is known."""
  stats = jax.local_devices()[0].memory_stats() or {}
  for step in stepping.values():
    step.facts["peak_memory_bytes"] = stats.get("peak_bytes_in_use")


def _build_rows(
  case: Case, wanted, seconds, alone
) -> dict[str, quantities.Samples]:
  taken = seconds[case.program]
  size = case.global_batch_size
  samples = quantities.Samples
  rows = {
    "step_ms": samples("ms", [1e3 * s for s in taken]),
    "images_per_s": samples("images/s", [size / s for s in taken]),
  }
  if case.devices > 1:
    first = next(c for c in wanted if c.mode == case.mode and c.devices == 1)
    speed = quantities.ratio("relative speed", seconds[first.program], taken)
    # In strong scaling the devices share the work of one.
    share = 1 if case.mode == WEAK else case.devices
    rows["efficiency"] = speed._replace(
      values=[r / share for r in speed.values]
    )
    rows["collectives_ms"] = samples(
      "ms", [1e3 * s for s in alone[case.program]]
    )
    same = seconds.get(("jit", 1, size))
    if same is not None:
      rows["share_of_one_device"] = quantities.ratio(
        "relative speed", same, taken
      )
  return {f"{case.name}/{name}": values for name, values in rows.items()}


def format_table(wanted: Sequence[Case], rows, facts) -> str:
  """Returns a table for a terminal."""

  def median(name: str, digits: int) -> Callable[[Case], str]:
    def cell(case: Case) -> str:
      found = rows.get(f"{case.name}/{name}")
      if not found:
        return "-"
      return formats.decimal(statistics.median(found.values), digits)

    return cell

  def moved(case: Case) -> str:
    known = facts[case.name]
    sent, need = (known[n] / 2**20 for n in ("sent_bytes", "needed_sent_bytes"))
    return f"{formats.decimal(sent, 2)} ({formats.decimal(need, 2)})"

  total = lambda case: facts[case.name]["memory_bytes"]["total"] / 2**20
  columns = (
    table.Column("name", "case"),
    table.number("global_batch_size", "batch"),
    table.number(median("step_ms", 2), "step ms"),
    table.number(median("images_per_s", 0), "images/s"),
    table.number(median("efficiency", 3), "efficiency"),
    table.number(median("share_of_one_device", 3), "of one"),
    table.number(median("collectives_ms", 3), "collectives ms"),
    table.number(moved, "sent MiB (need)"),
    table.number(total, "memory MiB", lambda x: formats.decimal(x, 1)),
  )
  return "\n".join(table.Table("", columns, wanted).lines())


def choose_device_counts(given: Sequence[str]) -> list[int]:
  """Returns the numbers of devices to measure. Raises InputError."""
  there = len(jax.devices())
  if not given:
    return [2**n for n in range(there.bit_length()) if 2**n <= there]
  if any(not text.isdigit() or not 1 <= int(text) <= there for text in given):
    expected = f"numbers from 1 to {there}"
    fix = (
      "for 8 on a CPU set XLA_FLAGS=--xla_force_host_platform_device_count=8"
    )
    raise errors.InputError("--devices", expected, ",".join(given), fix)
  return [int(text) for text in given]


def main(argv: list[str]) -> None:
  """Measures, prints and writes the rows."""
  del argv
  values = flags.FLAGS
  kept = host_memory.keep()
  cli.show_log()
  config = values.config
  quantities.check_out(values.out, "scaling")
  startup.log_start(config, values["config"].config_filename)
  counts = choose_device_counts(values.devices)
  wanted = list_cases(counts, values.strategies, values.per_device_batch)
  rows, facts = measure(config, wanted, values.rounds, values.steps)
  print(format_table(wanted, rows, facts))
  if values.out:
    about = {
      "keeps_memory": kept,
      "config": values["config"].config_filename,
      "config_hash": config_utils.config_hash(config),
      "model": config.model.name,
      "per_device_batch": values.per_device_batch,
      "steps_per_round": values.steps,
      "cases": facts,
    }
    folder, machine = pathlib.Path(values.out), environment.collect()
    quantities.write(folder, "scaling", rows, about, machine)


if __name__ == "__main__":
  commands.start("bench scaling")
