"""Views by which one step body works on whole batches and on device shards.

Under jit arrays are global and the compiler partitions them; under pmap each
device runs the body on its own rows. A body written against a view computes
the same under both.
"""

from collections.abc import Callable
import dataclasses
from typing import Any
from typing import Protocol

import jax
import jax.numpy as jnp

from imgbench.parallel import placement


class View(Protocol):
  """Reductions over the global batch, for code that is traced."""

  @property
  def num_shards(self) -> int:
    """D, how many devices share a global batch."""

  @property
  def statistics_groups(self) -> int:
    """Parts of the batch that BatchNorm normalises if it works per device."""

  @property
  def axis_name(self) -> str | None:
    """Name of the device axis for collectives; None where arrays are whole."""

  def mean(self, tree: Any) -> Any:
    """Returns the global mean from means over the rows seen here."""

  def sum(self, tree: Any) -> Any:
    """Returns the global sum from sums over the rows seen here."""

  def max(self, tree: Any) -> Any:
    """Returns the largest of the values that devices have computed."""

  def rows(self, array: jax.Array) -> jax.Array:
    """Returns the rows seen here of an array [B, ...] of the global batch."""

  def global_size(self, size: int) -> int:
    """Returns the global batch size B, where `size` rows are seen here."""

  def shift(self, array: jax.Array) -> jax.Array:
    """Rotates the global batch: row i is the old row i - 1, row 0 the last."""

  def own_key(self, key: jax.Array) -> jax.Array:
    """Returns the key for random draws for the rows seen here."""

  def whole(self, tree: Any) -> Any:
    """Returns the arrays of a state unsharded, as the model needs them."""

  def by_rows(self, function: Callable) -> Callable:
    """Returns a function that treats each row of [B, ...] by itself, sharded.

    The compiler otherwise gathers what it cannot partition, e.g. the input of
    a top-k.
    """

  def split(self, tree: Any, parts: int) -> Any:
    """Reshapes arrays [B, ...] to [parts, B / parts, ...].

    Each part has an equal share of every device's rows; no data moves.
    """


@dataclasses.dataclass(frozen=True)
class WholeView:
  """View under jit: all rows; the compiler inserts the reductions.

  Attributes:
    num_shards: D.
    mesh: of the devices; None for one device.
  """

  num_shards: int = 1
  mesh: jax.sharding.Mesh | None = None
  axis_name: None = None

  @property
  def statistics_groups(self) -> int:
    return self.num_shards

  def mean(self, tree: Any) -> Any:
    """See `View`."""
    return tree

  def sum(self, tree: Any) -> Any:
    """See `View`."""
    return tree

  def max(self, tree: Any) -> Any:
    """See `View`."""
    return tree

  def rows(self, array: jax.Array) -> jax.Array:
    """See `View`."""
    return array

  def global_size(self, size: int) -> int:
    """See `View`."""
    return size

  def shift(self, array: jax.Array) -> jax.Array:
    """See `View`."""
    if self.mesh is None:
      return jnp.roll(array, 1, axis=0)
    # jnp.roll compiles to several transfers if the result is reshaped.
    axes = self.mesh.axis_names
    rows = jax.sharding.PartitionSpec(axes)
    return jax.shard_map(
      lambda own: _shift(own, axes, self.num_shards),
      mesh=self.mesh,
      in_specs=rows,
      out_specs=rows,
    )(array)

  def own_key(self, key: jax.Array) -> jax.Array:
    """See `View`."""
    return key

  def whole(self, tree: Any) -> Any:
    """See `View`."""
    return tree if self.mesh is None else placement.gather(self.mesh, tree)

  def by_rows(self, function: Callable) -> Callable:
    """See `View`."""
    if self.mesh is None:
      return function
    rows = jax.sharding.PartitionSpec(self.mesh.axis_names)
    return jax.shard_map(
      function, mesh=self.mesh, in_specs=rows, out_specs=rows, check_vma=False
    )

  def split(self, tree: Any, parts: int) -> Any:
    """See `View`."""

    def split_one(x):
      size = x.shape[0] // (self.num_shards * parts)
      x = x.reshape(self.num_shards, parts, size, *x.shape[1:])
      return jnp.moveaxis(x, 1, 0).reshape(parts, -1, *x.shape[3:])

    return jax.tree.map(split_one, tree)


WHOLE = WholeView()


@dataclasses.dataclass(frozen=True)
class DeviceView:
  """View under pmap: the rows of one device; reductions are collectives.

  Attributes:
    num_shards: D, of all processes.
    axis_name: see `View`.
  """

  num_shards: int
  axis_name: str

  statistics_groups = 1

  def mean(self, tree: Any) -> Any:
    """See `View`."""
    return jax.lax.pmean(tree, self.axis_name)

  def sum(self, tree: Any) -> Any:
    """See `View`."""
    return jax.lax.psum(tree, self.axis_name)

  def max(self, tree: Any) -> Any:
    """See `View`."""
    return jax.lax.pmax(tree, self.axis_name)

  def rows(self, array: jax.Array) -> jax.Array:
    """See `View`."""
    size = array.shape[0] // self.num_shards
    start = jax.lax.axis_index(self.axis_name) * size
    return jax.lax.dynamic_slice_in_dim(array, start, size)

  def global_size(self, size: int) -> int:
    """See `View`."""
    return size * self.num_shards

  def shift(self, array: jax.Array) -> jax.Array:
    """See `View`."""
    return _shift(array, self.axis_name, self.num_shards)

  def own_key(self, key: jax.Array) -> jax.Array:
    """See `View`."""
    return jax.random.fold_in(key, jax.lax.axis_index(self.axis_name))

  def whole(self, tree: Any) -> Any:
    """See `View`."""
    return tree

  def by_rows(self, function: Callable) -> Callable:
    """See `View`."""
    return function

  def split(self, tree: Any, parts: int) -> Any:
    """See `View`."""
    return jax.tree.map(
      lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), tree
    )


def _shift(own: jax.Array, axis_name, num_shards: int) -> jax.Array:
  """Rotates the global batch by one row; `own` holds one device's rows."""
  right = [(i, (i + 1) % num_shards) for i in range(num_shards)]
  first = jax.lax.ppermute(own[-1:], axis_name, right)
  return jnp.concatenate([first, own[:-1]])
