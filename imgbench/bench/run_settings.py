"""How points are measured, and how many processes a row is of."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import ml_collections

from imgbench import config_utils
from imgbench.bench import medians


@dataclasses.dataclass(frozen=True)
class Sampling:
  """Section `sampling` of the config: how many processes a row is of."""

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
    """Whether no more processes are needed.

    Args:
      values: of each row that is measured together, one number per process.
      spent_s: on them so far.
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
  """How points are measured; the same for all rows of a folder.

  Attributes:
    recipe, timing: sections of the config, plain values.
    sampling: see `Sampling`.
    platform: "cpu", "gpu" or "tpu".
    device_kind: as JAX names it.
    compile_cache: whether the processes of a point share compiled programs.
    fit_batch: whether a batch that does not fit is halved.
    profile: whether each point of ours leaves a trace and its program.
    runs: section `time_to_accuracy`.
  """

  recipe: Mapping[str, Any]
  timing: Mapping[str, Any]
  sampling: Sampling
  platform: str
  device_kind: str
  compile_cache: bool = True
  fit_batch: bool = False
  profile: bool = False
  runs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def from_config(
    cls,
    config: ml_collections.ConfigDict,
    environment: Mapping[str, Any],
    profile: bool = False,
  ) -> "Settings":
    """Returns those of a config, on the machine of an environment.json."""
    plain = config_utils.to_dict(config)
    return cls(
      recipe=plain["recipe"],
      timing=plain["timing"],
      sampling=Sampling(**plain["sampling"]),
      platform=environment["platform"],
      device_kind=environment["device_kind"],
      compile_cache=plain["compile_cache"],
      fit_batch=plain["fit_batch"],
      profile=profile,
      runs=plain["time_to_accuracy"],
    )
