"""Two ways to run a step on several devices, jit and pmap, as one interface.

Step functions are written against a view (`views`). Their arguments have a
kind: "state" and "replicated" ones are passed as they are, a "batch" has rows
on its first axis, "batches" have an axis of steps before the rows.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from imgbench import errors
from imgbench.parallel import arrays
from imgbench.parallel import placement
from imgbench.parallel import processes
from imgbench.parallel import views

P = jax.sharding.PartitionSpec
STATE, REPLICATED, BATCH, BATCHES = "state", "replicated", "batch", "batches"
_AXES = (placement.DATA_AXIS, placement.FSDP_AXIS)


@dataclasses.dataclass(frozen=True)
class _Strategy:
  """Base of both strategies.

  Attributes:
    mesh: the devices whose arrays this program sees.
    num_devices: of all processes.
  """

  mesh: jax.sharding.Mesh
  num_devices: int

  @property
  def platform(self) -> str:
    return self.mesh.devices.flat[0].platform

  @property
  def replicated(self) -> jax.sharding.NamedSharding:
    """Sharding of replicated arrays, outside of step functions."""
    return self._sharding()

  @property
  def batch(self) -> jax.sharding.NamedSharding:
    """Sharding of a global batch, outside of step functions."""
    return self._sharding(self.mesh.axis_names)

  def _sharding(self, *spec) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(self.mesh, P(*spec))

  def check_batch_size(self, size: int, key: str) -> None:
    """Raises InputError unless devices divide a global batch size evenly."""
    if size < 1 or size % self.num_devices:
      expected = f"a positive multiple of the {self.num_devices} devices"
      nearest = max(1, round(size / self.num_devices)) * self.num_devices
      raise errors.InputError(key, expected, size, f"the nearest is {nearest}")

  def round_up(self, size: int) -> int:
    """Returns the smallest multiple of the device count that is >= `size`."""
    return -(-size // self.num_devices) * self.num_devices

  def own_rows(self, size: int) -> slice:
    """Returns the rows that this process feeds of a batch of that size."""
    return processes.share(size, jax.process_index(), jax.process_count())

  def jit(
    self, function: Callable, *, out: Any = None, donate: tuple[int, ...] = ()
  ) -> Callable:
    """Compiles a function of global arrays; inputs carry their shardings.

    Args:
      function: positional arguments only.
      out: sharding (prefix) of its result; replicated if None.
      donate: positions of arguments whose memory may be reused.
    """
    return jax.jit(
      function,
      out_shardings=self.replicated if out is None else out,
      donate_argnums=donate,
    )


@dataclasses.dataclass(frozen=True)
class JitStrategy(_Strategy):
  """jit over one mesh; one device is a mesh of one.

  The program sees global arrays, and the compiler inserts the collectives.
  Parameters and optimizer state are sharded over the axis "fsdp", the batch
  over both axes.

  Attributes:
    mesh: axes "data" and "fsdp".
    num_devices: see `_Strategy`.
  """

  @property
  def view(self) -> views.View:
    """View for step functions."""
    several = self.num_devices > 1
    return views.WholeView(self.num_devices, self.mesh if several else None)

  def state_sharding(self, tree: Any) -> Any:
    """Returns the shardings of a state; `tree` holds its arrays or shapes."""
    return placement.state_shardings(self.mesh, tree)

  def replicate(self, tree: Any) -> Any:
    """Puts host arrays, the same in all processes, on every device."""
    return arrays.put_whole(tree, self.replicated)

  def shard_batch(self, tree: Any) -> Any:
    """Puts this process's rows [B / processes, ...] on its devices."""
    return arrays.put_rows(tree, self.batch)

  def shard_batches(self, tree: Any) -> Any:
    """Puts arrays [S, B / processes, ...] of S steps on its devices."""
    return arrays.put_rows(tree, self._batches)

  @property
  def _batches(self) -> jax.sharding.NamedSharding:
    return self._sharding(None, self.mesh.axis_names)

  def as_batch(self, tree: Any) -> Any:
    """Converts arrays [B, ...] to the form of a batch; traced."""
    return tree

  def fetch_rows(self, tree: Any) -> Any:
    """Returns computed batches of all processes as NumPy arrays [B, ...]."""
    return arrays.fetch_rows(tree)

  def to_global(self, state: Any) -> Any:
    """Returns a state in the form that checkpoints hold."""
    return state

  def from_global(self, state: Any) -> Any:
    """Inverse of `to_global`."""
    return state

  def spread(
    self,
    function: Callable,
    kinds: Sequence[str],
    out_kinds: Sequence[str],
    *,
    state: Any = None,
    donate: tuple[int, ...] = (),
  ) -> Callable:
    """Compiles a step function that is written against `view`.

    Args:
      function: positional arguments only; returns a tuple.
      kinds: kinds of its arguments: STATE, REPLICATED, BATCH or BATCHES.
      out_kinds: kinds of its results.
      state: arrays or shapes of the state, if it returns one.
      donate: see `jit`.
    """
    del kinds  # Arrays carry their shardings.
    shardings = {
      STATE: self.state_sharding(state),
      REPLICATED: self.replicated,
      BATCH: self.batch,
      BATCHES: self._batches,
    }
    out = tuple(shardings[kind] for kind in out_kinds)
    return self.jit(self._with_mesh(function), out=out, donate=donate)

  def _with_mesh(self, function):
    """Returns the function, traced with the mesh visible to layers."""
    if self.num_devices == 1:
      return function

    # A partial has no name of its own.
    @functools.wraps(getattr(function, "func", function))
    def traced(*arguments):
      with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):
        return function(*arguments)

    return traced


@dataclasses.dataclass(frozen=True)
class PmapStrategy(_Strategy):
  """pmap: every device runs the same program on its own rows.

  Outside of step functions a process holds only the arrays of its own devices,
  and a batch has the shape [local devices, rows, ...].

  Attributes:
    mesh: axis "data", the devices of this process.
    num_devices: see `_Strategy`.
  """

  @property
  def view(self) -> views.View:
    """See `JitStrategy`."""
    return views.DeviceView(self.num_devices, placement.DATA_AXIS)

  def state_sharding(self, tree: Any) -> Any:
    """See `JitStrategy`."""
    return jax.tree.map(lambda _: self.replicated, tree)

  def replicate(self, tree: Any) -> Any:
    """See `JitStrategy`."""
    return jax.device_put(tree, self.replicated)

  def shard_batch(self, tree: Any) -> Any:
    """See `JitStrategy`."""
    return jax.device_put(jax.tree.map(self._by_device, tree), self.batch)

  def shard_batches(self, tree: Any) -> Any:
    """See `JitStrategy`."""

    def by_device(x):
      shape = (x.shape[0], self.mesh.size, -1, *x.shape[2:])
      return np.moveaxis(x.reshape(shape), 1, 0)

    return jax.device_put(jax.tree.map(by_device, tree), self.batch)

  def _by_device(self, array):
    return array.reshape(self.mesh.size, -1, *array.shape[1:])

  def as_batch(self, tree: Any) -> Any:
    """See `JitStrategy`."""
    own = lambda x: self._by_device(x[self.own_rows(x.shape[0])])
    return jax.tree.map(own, tree)

  def fetch_rows(self, tree: Any) -> Any:
    """See `JitStrategy`."""
    flat = jax.tree.map(
      lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), jax.device_get(tree)
    )
    return arrays.gather_rows(flat)

  def to_global(self, state: Any) -> Any:
    """See `JitStrategy`."""
    if jax.process_count() == 1:
      return state
    from jax.experimental import multihost_utils

    return multihost_utils.host_local_array_to_global_array(
      state, _mesh(np.array(jax.devices()), (placement.DATA_AXIS,)), P()
    )

  def from_global(self, state: Any) -> Any:
    """See `JitStrategy`."""
    if jax.process_count() == 1:
      return state
    return jax.tree.map(
      lambda x: jax.make_array_from_single_device_arrays(
        x.shape, self.replicated, [s.data for s in x.addressable_shards]
      ),
      state,
    )

  def spread(
    self,
    function: Callable,
    kinds: Sequence[str],
    out_kinds: Sequence[str],
    *,
    state: Any = None,
    donate: tuple[int, ...] = (),
  ) -> Callable:
    """See `JitStrategy`."""
    del state  # It is replicated.
    axis = lambda kind: 0 if kind in (BATCH, BATCHES) else None
    mapped = jax.pmap(
      function,
      axis_name=placement.DATA_AXIS,
      in_axes=tuple(map(axis, kinds)),
      out_axes=tuple(map(axis, out_kinds)),
      devices=self._devices(),
      donate_argnums=donate,
    )
    return mapped if jax.process_count() == 1 else _CompiledWhenCalled(mapped)

  def _devices(self):
    """Returns pmap's devices; with several processes None, which is all."""
    return None if jax.process_count() > 1 else list(self.mesh.devices.flat)


@dataclasses.dataclass(frozen=True)
class _CompiledWhenCalled:
  """pmap over several processes, with the methods of jit.

  Ahead-of-time compiled, pmap would take global arrays instead of the local
  ones (a note in its source says so), so its first call compiles it.
  """

  mapped: Callable

  def __call__(self, *arguments):
    return self.mapped(*arguments)

  def lower(self, *arguments) -> "_CompiledWhenCalled":
    """Returns itself."""
    del arguments
    return self

  def compile(self) -> Callable:
    """Returns the function that its first call compiles."""
    return self.mapped


Strategy = JitStrategy | PmapStrategy


def create_strategy(strategy: str, devices: int = 0, fsdp: int = 1) -> Strategy:
  """Returns a strategy by name.

  Args:
    strategy: "jit" or "pmap".
    devices: number of devices to use; 0: all.
    fsdp: devices that share one copy of the state; 1: replicated.

  Raises:
    InputError: an unknown name, too many devices, or numbers that do not fit.
  """
  if strategy not in ("jit", "pmap"):
    names = "one of jit, pmap"
    raise errors.InputError("parallel.strategy", names, repr(strategy))
  chosen = _devices(devices)
  if fsdp < 1 or len(chosen) % fsdp:
    expected = f"a divisor of the {len(chosen)} devices"
    raise errors.InputError("parallel.fsdp", expected, fsdp)
  if strategy == "jit":
    return jit_strategy(chosen, fsdp)
  if fsdp > 1:
    expected = "1 under pmap, which replicates the state"
    fix = "set parallel.strategy=jit to shard it"
    raise errors.InputError("parallel.fsdp", expected, fsdp, fix)
  local = [d for d in chosen if d.process_index == jax.process_index()]
  mesh = _mesh(np.array(local), (placement.DATA_AXIS,))
  return PmapStrategy(mesh, len(chosen))


def jit_strategy(devices: Sequence[Any], fsdp: int = 1) -> JitStrategy:
  """Returns the strategy over devices, which may be only described."""
  mesh = _mesh(np.array(devices).reshape(-1, fsdp), _AXES)
  return JitStrategy(mesh, len(devices))


def _devices(count: int) -> list:
  # In this order a process feeds the rows of its own devices.
  devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
  if not 0 <= count <= len(devices):
    expected = f"0 (all) to {len(devices)}"
    raise errors.InputError("parallel.devices", expected, count)
  if count and jax.process_count() > 1:
    expected = f"0 (all) with {jax.process_count()} processes"
    raise errors.InputError("parallel.devices", expected, count)
  return devices[: count or len(devices)]


def _mesh(devices: np.ndarray, names) -> jax.sharding.Mesh:
  # JAX refuses a segment_sum over a sharded batch under explicit axes.
  auto = jax.sharding.AxisType.Auto
  return jax.sharding.Mesh(devices, names, axis_types=(auto,) * devices.ndim)
