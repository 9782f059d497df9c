"""Settings of a benchmark: how points are measured, processes per row."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import ml_collections

from imgbench import config_utils
from imgbench.bench import medians


@dataclasses.dataclass(frozen=True)
class Sampling:
  """Section `sampling` of the config: how many processes a row has."""

  processes: int
  most_processes: int
  relative_width: float
  row_s: float
  process_s: float
  memory_bytes: int = 0
  stopped_processes: int = 0

  def has_enough(
    self, values: Sequence[Sequence[float]], spent_s: float
  ) -> bool:
    """Returns whether the rows need no more processes.

    Args:
      values: one number per process, for each row that is measured together.
      spent_s: seconds spent on them so far.
    """
    count = min(map(len, values), default=0)
    if count < self.processes:
      return False
    if count >= self.most_processes or spent_s >= self.row_s:
      return True
    widest = max(map(medians.relative_width, values))
    return widest <= self.relative_width


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of a measurement; the same for all rows of a folder.

  Attributes:
    recipe, timing: sections of the config, plain values.
    sampling: see `Sampling`.
    platform: "cpu", "gpu" or "tpu".
    device_kind: JAX's name.
    num_processes: that measure a point together.
    compile_cache: whether the processes of a point share compiled programs.
    fit_batch: whether a batch that does not fit is halved.
    profile: whether to keep a trace and the program of each of our points.
    runs: section `time_to_accuracy`.
  """

  recipe: Mapping[str, Any]
  timing: Mapping[str, Any]
  sampling: Sampling
  platform: str
  device_kind: str
  num_processes: int = 1
  compile_cache: bool = True
  fit_batch: bool = False
  profile: bool = False
  runs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def build(
    cls,
    config: ml_collections.ConfigDict,
    environment: Mapping[str, Any],
    profile: bool = False,
  ) -> "Settings":
    """Returns the settings of a config on the machine of environment.json."""
    plain = config_utils.to_dict(config)
    return cls(
      recipe=plain["recipe"],
      timing=plain["timing"],
      sampling=Sampling(**plain["sampling"]),
      platform=environment["platform"],
      device_kind=environment["device_kind"],
      num_processes=environment["num_processes"],
      compile_cache=plain["compile_cache"],
      fit_batch=plain["fit_batch"],
      profile=profile,
      runs=plain["time_to_accuracy"],
    )
