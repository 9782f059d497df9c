"""Moves arrays from hosts to the devices of all processes, and back."""

from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np


def put_whole(tree: Any, sharding: jax.sharding.Sharding) -> Any:
  """Puts host arrays, the same in all processes, on the devices of all."""
  if jax.process_count() == 1:
    return jax.device_put(tree, sharding)

  # device_put would send the arrays around to compare them.
  def put(x):
    x = np.asarray(x)
    return jax.make_array_from_callback(
      x.shape, sharding, lambda index: x[index]
    )

  return jax.tree.map(put, tree)


def put_rows(tree: Any, sharding: jax.sharding.Sharding) -> Any:
  """Puts this process's rows of a batch on its devices."""
  if jax.process_count() == 1:
    return jax.device_put(tree, sharding)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
    tree,
  )


def fetch_rows(tree: Any) -> Any:
  """Returns batches on the devices of all processes as whole NumPy arrays."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  return multihost_utils.process_allgather(tree, tiled=True)


def gather_rows(tree: Any) -> Any:
  """Returns whole NumPy arrays from the NumPy rows of each process."""
  if jax.process_count() == 1:
    return tree
  return multihost_utils.process_allgather(tree, tiled=True)
