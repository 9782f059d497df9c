"""Times tools that make images in turn, each while the others are idle."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import multiprocessing
import os
import pathlib
import time
from typing import Any

from imgbench import timing
from imgbench.bench import quantities

Rows = dict[str, quantities.Samples]


def read_cpu_seconds() -> float:
  """Returns CPU seconds of this process and its workers."""
  total = time.process_time()
  tick = os.sysconf("SC_CLK_TCK")
  for worker in multiprocessing.active_children():
    try:
      text = pathlib.Path(f"/proc/{worker.pid}/stat").read_text(
        encoding="utf-8"
      )
    except OSError:  # It has just ended.
      continue
    # After the name, which may contain anything: state is field 3, utime 14.
    fields = text.rpartition(")")[2].split()
    total += (int(fields[11]) + int(fields[12])) / tick
  return total


def settle(most_s: float = 5.0) -> None:
  """Waits until this process and its workers are idle."""
  step = 0.05
  for _ in range(int(most_s / step)):
    before = read_cpu_seconds()
    time.sleep(step)
    if read_cpu_seconds() - before < step / 5:
      return


@dataclasses.dataclass(frozen=True)
class Tool:
  """A timed tool.

  Attributes:
    call: the timed function.
    warm: called before, to warm caches and to empty buffers that filled up.
    images: made per call.
  """

  call: Callable[[], Any]
  warm: Callable[[], Any]
  images: int

  def measure(self) -> tuple[float, float]:
    """Returns images per second, and CPU seconds per image."""
    settle()
    self.warm()
    before = read_cpu_seconds()
    with timing.timed() as whole:
      self.call()
    busy = read_cpu_seconds() - before
    return self.images / whole.seconds, busy / self.images


def measure(prefix: str, tools: Mapping[str, Tool], rounds: int) -> Rows:
  """Returns rows of all tools, interleaved, and ratios of the first one."""
  calls = {name: tool.measure for name, tool in tools.items()}
  measured = quantities.interleave(calls, rounds, prefix)
  speed = {name: [s for s, _ in pairs] for name, pairs in measured.items()}
  busy = {name: [1e3 * b for _, b in pairs] for name, pairs in measured.items()}
  rows = {}
  for name in tools:
    rows[f"{prefix}_{name}_images_per_s"] = quantities.Samples(
      "images/s", speed[name]
    )
    rows[f"{prefix}_{name}_cpu_ms"] = quantities.Samples("ms", busy[name])
  first, *others = tools
  for name in others:
    rows[f"{prefix}_{first}_over_{name}"] = quantities.ratio(
      "relative speed", speed[first], speed[name]
    )
    rows[f"{prefix}_{name}_cpu_over_{first}"] = quantities.ratio(
      "relative speed", busy[name], busy[first]
    )
  return rows
