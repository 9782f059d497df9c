"""Devices, meshes and shardings; no other package uses them directly."""

from imgbench.parallel.strategies import BATCH
from imgbench.parallel.strategies import BATCHES
from imgbench.parallel.strategies import REPLICATED
from imgbench.parallel.strategies import STATE
from imgbench.parallel.strategies import Strategy
from imgbench.parallel.strategies import create_strategy
from imgbench.parallel.strategies import jit_strategy
from imgbench.parallel.views import WHOLE
from imgbench.parallel.views import View

__all__ = [
  "BATCH",
  "BATCHES",
  "REPLICATED",
  "STATE",
  "WHOLE",
  "Strategy",
  "View",
  "create_strategy",
  "jit_strategy",
]
