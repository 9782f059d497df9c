"""Microbenchmarks: the ceilings that steps of models are read against.

All of them run in one process, one after the other, and a row has one round of
throughput per process as any other. What a call's work is:
- matmul: 2 n^3 FLOPs of a product of n x n matrices of normal numbers (zeros
  draw less power and run faster);
- memory_copy: bytes read and written by adding 1 to a float32 array;
- host_to_device, device_to_host: bytes of a pageable array that is copied;
- all_reduce: 2 (D - 1) / D bytes of a float32 array for each byte of it, which
  is what a ring sends over each device's link;
- dispatch: a call of a compiled program that adds two numbers.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imgbench.bench import exchange
from imgbench.bench import measure
from imgbench.bench import rows

FLOPS, BYTES, CALLS = "FLOP/s", "bytes/s", "calls/s"
MATMUL, MEMORY_COPY = "matmul", "memory_copy"
TO_DEVICE, TO_HOST = "host_to_device", "device_to_host"
ALL_REDUCE, DISPATCH = "all_reduce", "dispatch"
NAMES = (MATMUL, MEMORY_COPY, TO_DEVICE, TO_HOST, ALL_REDUCE, DISPATCH)
# Where section `micro` says 0: matrices that fill the device, and arrays that
# no cache holds.
_MATMUL_SIZES = {"cpu": 1024, "gpu": 8192, "tpu": 8192}
_COPY_MIB = {"cpu": 256, "gpu": 2048, "tpu": 1024}
_TRANSFER_MIB = {"cpu": 128, "gpu": 256, "tpu": 256}
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Ready:
  """A microbenchmark that can be measured.

  Attributes:
    start: starts a call and returns what to wait for.
    work: of a call, in the unit of `rate_unit`.
    rate_unit: FLOPS, BYTES or CALLS.
    before: what has to be done before each call and does not count; None:
      calls may be started behind one another.
  """

  start: Callable[[], Any]
  work: float
  rate_unit: str
  before: Callable[[], Any] | None = None


def list_keys(
  section: Mapping[str, Any],
  platform: str,
  num_devices: int,
  dtypes: Iterable[str],
  precisions: Iterable[str],
) -> list[rows.PointKey]:
  """Returns the points of section `micro`.

  Args:
    section: names, matmul_size, copy_mib and transfer_mib, 0 to choose.
    platform: "cpu", "gpu" or "tpu".
    num_devices: of the all-reduce, which one device has none of.
    dtypes: of the matrix product.
    precisions: of the matrix product, as jax_default_matmul_precision.
  """
  chosen = lambda name, sizes: section[name] or sizes.get(platform, 0)
  n = chosen("matmul_size", _MATMUL_SIZES) or 4096
  copied = (chosen("copy_mib", _COPY_MIB) or 256) * _MIB
  moved = (chosen("transfer_mib", _TRANSFER_MIB) or 128) * _MIB
  build = lambda name, **more: rows.PointKey(task=rows.MICRO, name=name, **more)
  whole = lambda size: {"size": f"{size} bytes", "dtype": "float32"}
  found = {
    MATMUL: [
      build(MATMUL, size=f"{n}x{n}x{n}", dtype=d, matmul_precision=p)
      for d in dict.fromkeys(dtypes)
      for p in dict.fromkeys(precisions)
    ],
    MEMORY_COPY: [build(MEMORY_COPY, **whole(copied))],
    TO_DEVICE: [build(TO_DEVICE, **whole(moved))],
    TO_HOST: [build(TO_HOST, **whole(moved))],
    ALL_REDUCE: [build(ALL_REDUCE, devices=num_devices, **whole(moved))],
    DISPATCH: [build(DISPATCH)],
  }
  if num_devices == 1:
    found[ALL_REDUCE] = []
  return [key for name in section["names"] for key in found[name]]


def prepare(key: rows.PointKey) -> Ready:
  """Returns a microbenchmark, compiled and with its arrays made."""
  builders = {
    MATMUL: _matmul,
    MEMORY_COPY: _memory_copy,
    TO_DEVICE: _to_device,
    TO_HOST: _to_host,
    ALL_REDUCE: _all_reduce,
    DISPATCH: _dispatch,
  }
  return builders[key.name](key)


def measure_one(
  key: rows.PointKey, plan: measure.TimingPlan, clock: Callable[[], float]
) -> dict[str, Any]:
  """Returns fields of `rows.Process`, and "work" and "rate_unit"."""
  ready = prepare(key)
  start, wait = ready.start, jax.block_until_ready
  if ready.before is None:
    times = measure.measure(start, wait, plan, clock)
  else:
    first_s, *latencies = measure.measure_latency(
      start, wait, plan, clock, ready.before
    )
    # They cannot overlap here.
    times = measure.Times(first_s, latencies, latencies)
  about = {"work": ready.work, "rate_unit": ready.rate_unit}
  return times.as_process() | about


def measure_all(
  wanted: Iterable[rows.PointKey],
  plan: measure.TimingPlan,
  clock: Callable[[], float],
) -> list[dict[str, Any]]:
  """Returns a result, see `exchange`, for each microbenchmark.

  One that fails leaves the others alone.
  """
  handlers = {"micro": lambda request: measure_one(request["key"], plan, clock)}
  return [
    exchange.answer(handlers, {"kind": "micro", "key": key}) for key in wanted
  ]


def _size_bytes(key: rows.PointKey) -> int:
  return int(key.size.split()[0])


def _matmul(key: rows.PointKey) -> Ready:
  n = int(key.size.split("x")[0])
  numbers = [
    jax.random.normal(k, (n, n), key.dtype)
    for k in jax.random.split(jax.random.key(0))
  ]
  precision = key.matmul_precision
  precision = None if precision == "default" else precision
  with jax.default_matmul_precision(precision):
    product = jax.jit(jnp.matmul).lower(*numbers).compile()
  return Ready(lambda: product(*numbers), 2.0 * n**3, FLOPS)


def _memory_copy(key: rows.PointKey) -> Ready:
  array = jnp.zeros(_size_bytes(key) // 4, jnp.float32)
  add = jax.jit(lambda x: x + 1).lower(array).compile()
  return Ready(lambda: add(array), 2.0 * array.nbytes, BYTES)


def _host_array(key: rows.PointKey) -> np.ndarray:
  return np.random.default_rng(0).random(_size_bytes(key) // 4, np.float32)


def _to_device(key: rows.PointKey) -> Ready:
  array, to = _host_array(key), jax.devices()[0]
  if jax.default_backend() == "cpu":
    # An aligned array would be lent and not copied, whatever `may_alias` says.
    array = np.concatenate([array[:1], array])[1:]
  start = lambda: jax.device_put(array, to, may_alias=False)
  return Ready(start, float(array.nbytes), BYTES, before=lambda: None)


def _to_host(key: rows.PointKey) -> Ready:
  array = jax.device_put(_host_array(key), may_alias=False)
  change = jax.jit(lambda x: x + 1).lower(array).compile()
  held = []
  on_cpu = jax.default_backend() == "cpu"

  def before():
    # An array remembers that it was fetched.
    held[:] = [jax.block_until_ready(change(array))]

  def start():
    fetched = np.asarray(held[0])
    return fetched.copy() if on_cpu else fetched  # There it is lent, too.

  return Ready(start, float(array.nbytes), BYTES, before)


def _all_reduce(key: rows.PointKey) -> Ready:
  devices = jax.devices()[: key.devices]
  count = len(devices)
  auto = jax.sharding.AxisType.Auto
  mesh = jax.sharding.Mesh(np.array(devices), ("data",), axis_types=(auto,))
  spec = jax.sharding.PartitionSpec
  own = jax.sharding.NamedSharding(mesh, spec("data"))
  numbers = jax.jit(
    lambda: jnp.ones((count, _size_bytes(key) // 4), jnp.float32),
    out_shardings=own,
  )()
  total = jax.shard_map(
    lambda x: jax.lax.psum(x, "data"),
    mesh=mesh,
    in_specs=spec("data"),
    out_specs=spec(),
  )
  compiled = jax.jit(total).lower(numbers).compile()
  work = 2.0 * (count - 1) / count * _size_bytes(key)
  return Ready(lambda: compiled(numbers), work, BYTES)


def _dispatch(key: rows.PointKey) -> Ready:
  del key
  number = jnp.float32(0)
  # jit and not a compiled program: what a loop calls.
  add = jax.jit(lambda x: x + 1)
  return Ready(lambda: add(number), 1.0, CALLS)
