"""Microbenchmarks: the ceilings of model steps.

They run one after the other in one process. The work of a call:
- matmul: 2 n^3 FLOPs of a product of n x n matrices of normal numbers (zeros
  draw less power and run faster);
- memory_copy: bytes read and written by adding 1 to a float32 array;
- host_to_device, device_to_host: bytes of a pageable array that is copied;
- all_reduce: 2 (D - 1) / D bytes per byte of a float32 array, which is what a
  ring sends over each device's link;
- dispatch: one call of a compiled program that adds two numbers.
Of several processes each measures a device of its own; all-reduce is over the
devices of all.
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
# For 0 in section `micro`: matrices that fill the device, and arrays that do
# not fit in a cache.
_MATMUL_SIZES = {"cpu": 1024, "gpu": 8192, "tpu": 8192}
_COPY_MIB = {"cpu": 256, "gpu": 2048, "tpu": 1024}
_TRANSFER_MIB = {"cpu": 128, "gpu": 256, "tpu": 256}
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Ready:
  """A compiled microbenchmark.

  Attributes:
    start: starts a call and returns what to wait for.
    work: of a call, in the unit of `rate_unit`.
    rate_unit: FLOPS, BYTES or CALLS.
    before: runs uncounted before each call; None: calls may overlap.
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
) -> list[rows.Key]:
  """Returns the points of section `micro`.

  Args:
    section: names, matmul_size, copy_mib and transfer_mib, 0 to choose.
    platform: "cpu", "gpu" or "tpu".
    num_devices: of the all-reduce, which is left out for one device.
    dtypes: of the matrix product.
    precisions: of the matrix product, as jax_default_matmul_precision.
  """
  chosen = lambda name, sizes: section[name] or sizes.get(platform, 0)
  n = chosen("matmul_size", _MATMUL_SIZES) or 4096
  copied = (chosen("copy_mib", _COPY_MIB) or 256) * _MIB
  moved = (chosen("transfer_mib", _TRANSFER_MIB) or 128) * _MIB
  build = lambda name, **more: rows.Key(task=rows.MICRO, name=name, **more)
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


def prepare(key: rows.Key) -> Ready:
  """Returns a compiled microbenchmark with its arrays."""
  builders = {
    MATMUL: _build_matmul,
    MEMORY_COPY: _build_memory_copy,
    TO_DEVICE: _build_to_device,
    TO_HOST: _build_to_host,
    ALL_REDUCE: _build_all_reduce,
    DISPATCH: _build_dispatch,
  }
  return builders[key.name](key)


def measure_one(
  key: rows.Key,
  plan: measure.TimingPlan,
  clock: Callable[[], float],
  agree: measure.Agree = measure.agree_alone,
) -> dict[str, Any]:
  """Returns fields of `rows.Process`, and "work" and "rate_unit"."""
  ready = prepare(key)
  start, wait = ready.start, jax.block_until_ready
  if ready.before is None:
    agree = agree if key.name == ALL_REDUCE else measure.agree_alone
    times = measure.measure(start, wait, plan, clock, agree)
  else:
    first_s, *latencies = measure.measure_latency(
      start, wait, plan, clock, ready.before
    )
    # Calls do not overlap here.
    times = measure.Times(first_s, latencies, latencies)
  about = {"work": ready.work, "rate_unit": ready.rate_unit}
  return times.to_process() | about


def measure_all(
  wanted: Iterable[rows.Key],
  plan: measure.TimingPlan,
  clock: Callable[[], float],
  agree: measure.Agree = measure.agree_alone,
) -> list[dict[str, Any]]:
  """Returns a result, see `exchange`, for each microbenchmark.

  A failure does not stop the others.
  """
  handlers = {
    "micro": lambda request: measure_one(request["key"], plan, clock, agree)
  }
  return [
    exchange.answer(handlers, {"kind": "micro", "key": key}) for key in wanted
  ]


def _parse_bytes(key: rows.Key) -> int:
  return int(key.size.split()[0])


def _build_matmul(key: rows.Key) -> Ready:
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


def _build_memory_copy(key: rows.Key) -> Ready:
  array = jnp.zeros(_parse_bytes(key) // 4, jnp.float32)
  add = jax.jit(lambda x: x + 1).lower(array).compile()
  return Ready(lambda: add(array), 2.0 * array.nbytes, BYTES)


def _make_host_array(key: rows.Key) -> np.ndarray:
  return np.random.default_rng(0).random(_parse_bytes(key) // 4, np.float32)


def _build_to_device(key: rows.Key) -> Ready:
  array, to = _make_host_array(key), jax.local_devices()[0]
  if jax.default_backend() == "cpu":
    # JAX would alias an aligned array, whatever `may_alias` says.
    array = np.concatenate([array[:1], array])[1:]
  start = lambda: jax.device_put(array, to, may_alias=False)
  return Ready(start, float(array.nbytes), BYTES, before=lambda: None)


def _build_to_host(key: rows.Key) -> Ready:
  array = jax.device_put(_make_host_array(key), may_alias=False)
  change = jax.jit(lambda x: x + 1).lower(array).compile()
  held = []
  on_cpu = jax.default_backend() == "cpu"

  def before():
    # JAX caches the fetched value of an array.
    held[:] = [jax.block_until_ready(change(array))]

  def start():
    fetched = np.asarray(held[0])
    return fetched.copy() if on_cpu else fetched  # It is aliased on CPUs.

  return Ready(start, float(array.nbytes), BYTES, before)


def _build_all_reduce(key: rows.Key) -> Ready:
  devices = jax.devices()[: key.devices]
  count = len(devices)
  auto = jax.sharding.AxisType.Auto
  mesh = jax.sharding.Mesh(np.array(devices), ("data",), axis_types=(auto,))
  spec = jax.sharding.PartitionSpec
  own = jax.sharding.NamedSharding(mesh, spec("data"))
  numbers = jax.jit(
    lambda: jnp.ones((count, _parse_bytes(key) // 4), jnp.float32),
    out_shardings=own,
  )()
  total = jax.shard_map(
    lambda x: jax.lax.psum(x, "data"),
    mesh=mesh,
    in_specs=spec("data"),
    out_specs=spec(),
  )
  compiled = jax.jit(total).lower(numbers).compile()
  work = 2.0 * (count - 1) / count * _parse_bytes(key)
  return Ready(lambda: compiled(numbers), work, BYTES)


def _build_dispatch(key: rows.Key) -> Ready:
  del key
  number = jnp.float32(0)
  # Not compiled ahead: training loops call jitted functions.
  add = jax.jit(lambda x: x + 1)
  return Ready(lambda: add(number), 1.0, CALLS)
